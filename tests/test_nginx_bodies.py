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


def test_what_never_comes_ends_the_connection(server):
    with server.connect(timeout=20) as client:
        client.send(build("POST", "/one", {"Content-Length": "10"}) + b"123")
        assert client.response().text == "/one"
        begun = time.monotonic()
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
