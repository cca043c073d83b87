"""Bodies that nobody reads: the answer does not wait for them, and what follows them is found."""

import time

import pytest
from support import build

CONF = """
    lingering_timeout 1s;
    server {
        listen 127.0.0.1:%PORT%;
        client_max_body_size 10m;
        location / { return 200 "$request_uri"; }
        location /file { alias %DIR%/big; }
        location /private { auth_basic x; auth_basic_user_file %DIR%/nobody; }
    }
"""
FILES = {"big": "x" * 500_000, "nobody": ""}


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(CONF, files=FILES)


@pytest.mark.parametrize(("path", "status"), [("/one", 200), ("/private", 401), ("/file", 405)])
def test_an_answer_does_not_wait_for_a_body_that_nobody_reads(server, path, status):
    with server.connect(timeout=20) as client:
        client.send(build("POST", path, {"Content-Length": "10"}) + b"123")
        assert client.response().status == status
        client.send(b"4567890" + build("GET", "/two"))
        assert client.response().text == "/two"


def test_a_body_in_chunks_too(server):
    with server.connect(timeout=20) as client:
        client.send(build("POST", "/one", {"Transfer-Encoding": "chunked"}) + b"3\r\n123\r\n")
        assert client.response().text == "/one"
        client.send(b"4\r\n4567\r\n0\r\nX: y\r\n\r\n" + build("GET", "/two"))
        assert client.response().text == "/two"


def test_a_long_body_in_chunks_is_thrown_away_and_the_connection_stays_as_promised(server):
    """Its length is not known when the answer leaves: what nginx keeps the connection for is kept here too."""
    with server.connect(timeout=20) as client:
        client.send(build("POST", "/one", {"Transfer-Encoding": "chunked"}) + b"3\r\n123\r\n")
        answer = client.response()
        assert answer.text == "/one" and answer.get("Connection") != "close"
        for _ in range(60):
            client.send(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        client.send(b"0\r\n\r\n" + build("GET", "/two"))
        assert client.response().text == "/two"
    # Beyond what any body may have nobody reads on.
    with server.connect(timeout=20) as client:
        client.send(build("POST", "/one", {"Transfer-Encoding": "chunked"}) + b"3\r\n123\r\n")
        assert client.response().text == "/one"
        for _ in range(400):
            client.send(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        client.send(b"0\r\n\r\n" + build("GET", "/two"))
        assert client.end() == "eof"


def test_what_never_comes_ends_the_connection(server):
    with server.connect(timeout=20) as client:
        begun = time.monotonic()
        client.send(build("POST", "/one", {"Content-Length": "10"}) + b"123")
        assert client.response().text == "/one"
        assert client.end() == "eof"
        assert 0.5 < time.monotonic() - begun < 10


def test_the_rest_of_a_broken_body_is_no_request(server):
    with server.connect(timeout=20) as client:
        client.send(build("POST", "/one", {"Transfer-Encoding": "chunked"}) + b"3\r\n123")
        assert client.response().text == "/one"
        client.send(b"xx" + build("GET", "/two"))
        assert client.end() == "eof"


def test_a_body_that_is_too_large_to_throw_away_is_told_so(server):
    with server.connect(timeout=20) as client:
        client.send(build("POST", "/one", {"Content-Length": "1000000"}) + b"123")
        answer = client.response()
        assert (answer.status, answer.all("Connection")) == (200, ["close"])
        client.send(b"4" * 100_000)
        assert client.end() == "eof"


def test_a_client_that_reads_nothing_before_all_is_sent_gets_a_large_answer(server):
    # Both sides have more to send than fits into what lies between them: the body is taken first.
    body = b"b" * 250_000
    with server.connect(timeout=20) as client:
        for _ in range(3):
            client.send(build("GET", "/file", {"Content-Length": str(len(body))}) + body)
            assert client.response().body == b"x" * 500_000


EARLY = """
    map $http_x_early $early { default $http_x_early; }
    server {
        listen 127.0.0.1:%PORT%;
        client_max_body_size 1m;
        client_body_early_read $early;
        location / { return 200 "$request_body|$content_length"; }
        location /small { client_max_body_size 10; return 200 "ok"; }
    }
"""


@pytest.fixture(scope="module")
def early(serve_nginx_module):
    return serve_nginx_module(EARLY)


@pytest.mark.parametrize(("fields", "seen"), [([("X-Early", "1")], "the body|8"), ([("X-Early", "0")], "|8"), ([], "|8")])
def test_a_body_is_read_early_where_the_configuration_says_so(early, fields, seen):
    assert early.request("POST", "/", fields, body=b"the body").text == seen


def test_a_body_that_is_read_early_is_waited_for(early):
    with early.connect(timeout=20) as client:
        client.send(build("POST", "/", {"Content-Length": "6", "X-Early": "yes"}) + b"abc")
        time.sleep(0.2)
        assert not client.buffer
        client.send(b"def" + build("GET", "/two"))
        assert client.response().text == "abcdef|6"
        assert client.response().status == 200


def test_what_is_too_large_to_be_read_early_is_refused_before_it_comes(early):
    with early.connect(timeout=20) as client:
        client.send(build("POST", "/", {"Content-Length": "2000000", "X-Early": "1"}))
        assert client.response().status == 413


def test_a_location_has_its_own_word_on_what_was_read_early(early):
    assert early.request("POST", "/small", [("X-Early", "1")], body=b"x" * 20).status == 413
    assert early.request("POST", "/small", [("X-Early", "1")], body=b"x" * 10).text == "ok"
