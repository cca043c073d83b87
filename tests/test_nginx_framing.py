"""Heads as nginx takes them: a bare LF ends a line there, and nowhere else; gunicorn's command line takes none."""

import pytest
from support import build, wait_until

CONF = """
    app shop {
        wsgi app:application;
        directory %DIR%;
        workers 1;
    }
    server {
        listen 127.0.0.1:%PORT%;
        location / { return 200 "$request_method $request_uri [$http_x_a] [$http_x_b]"; }
        location /app/ { app_pass shop; }
        add_header X-Always "$status $server_name" always;
        server_name own;
    }
"""

APP = """
    def application(environ, start_response):
        names = ("HTTP_X_A", "HTTP_X_B", "CONTENT_LENGTH", "PATH_INFO")
        seen = "|".join(repr(environ.get(name)) for name in names) + "|" + repr(environ["wsgi.input"].read())
        body = seen.encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
"""


@pytest.fixture(scope="module")
def server(serve_nginx_module):
    return serve_nginx_module(CONF, files={"app.py": APP}, python=True)


def ask(server, data, count=1):
    with server.connect() as client:
        client.send(data)
        return [client.response() for _ in range(count)]


def test_a_bare_lf_ends_the_lines_of_a_head(server):
    [answer] = ask(server, b"GET /a HTTP/1.1\nHost: x\nX-A: 1\r\nX-B: 2\n\n")
    assert (answer.status, answer.text) == (200, "GET /a [1] [2]")


@pytest.mark.parametrize("request_bytes, status", [
    (b"\0\1\2 no request\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400),
    (b"GET /../ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
], ids=["no HTTP", "host", "field", "path", "method", "length"])
def test_what_is_refused_has_the_fields_that_are_always_added(server, request_bytes, status):
    [answer] = ask(server, request_bytes)
    assert (answer.status, answer.get("X-Always")) == (status, f"{status} own")


def test_byte_by_byte_too(server):
    with server.connect() as client:
        client.socket.setsockopt(6, 1, 1)
        for byte in b"GET /a HTTP/1.1\nHost: x\nX-A: 1\n\n":
            client.send(bytes([byte]))
        assert client.response().text == "GET /a [1] []"


def test_two_requests_in_one_packet_are_two(server):
    answers = ask(server, b"GET /a HTTP/1.1\nHost: x\n\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n", count=2)
    assert [answer.text for answer in answers] == ["GET /a [] []", "GET /b [] []"]


def test_what_a_bare_lf_hides_from_others_is_a_field_here(server):
    # Who takes the LF for a part of X-A sends a request without a body, and the smuggled one as the next.
    [answer] = ask(server, b"POST /app/ HTTP/1.1\r\nHost: x\r\nX-A: 1\nContent-Length: 5\r\n\r\nhello")
    assert answer.text == "'1'|None|'5'|'/app/'|b'hello'"
    # Both lengths are seen, so that the request is ambiguous to nobody who answers it.
    raw = b"POST /app/ HTTP/1.1\r\nHost: x\r\nX-A: 1\nContent-Length: 5\r\nContent-Length: 0\r\n\r\nhello"
    [answer] = ask(server, raw)
    assert answer.status == 400


REFUSED = {
    "a CR alone in a value": b"GET / HTTP/1.1\nHost: x\nX-A: 1\rX-B: 2\n\n",
    "a CR alone as the end of a line": b"GET / HTTP/1.1\nHost: x\rX-A: 1\n\n",
    "two CR before an LF": b"GET / HTTP/1.1\nHost: x\r\r\n\n",
    "NUL": b"GET / HTTP/1.1\nHost: x\nX-A: 1\0\n\n",
    "a folded line": b"GET / HTTP/1.1\nHost: x\nX-A: 1\n Content-Length: 5\n\n",
    "a space before the colon": b"POST / HTTP/1.1\nHost: x\nTransfer-Encoding : chunked\n\n0\r\n\r\n",
    "length and coding": b"POST / HTTP/1.1\nHost: x\nContent-Length: 3\nTransfer-Encoding: chunked\n\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_else_becomes_laxer(server, name):
    with server.connect() as client:
        client.send(REFUSED[name] + build(target="/smuggled"))
        assert client.response().status == 400
        client.end()


CHUNKS = {
    "behind a size": b"5\nhello\r\n0\r\n\r\n",
    "behind data": b"5\r\nhello\n0\r\n\r\n",
    "behind the last size": b"5\r\nhello\r\n0\n\r\n",
    "as the end of the trailers": b"5\r\nhello\r\n0\r\n\n",
    "in an extension": b"5;a=b\nhello\r\n0\r\n\r\n",
    "behind a trailer": b"5\r\nhello\r\n0\r\nX-A: 1\n\r\n",
}


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_take_no_bare_lf(server, name):
    head = b"POST /app/ HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n"
    with server.connect() as client:
        client.send(head + CHUNKS[name] + build(target="/smuggled"))
        assert client.response().status == 400
        client.end()


def test_gunicorns_command_line_takes_none(serve):
    app = """
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return []
    """
    server = serve(app)
    for raw in (b"GET / HTTP/1.1\nHost: x\n\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\nX-B: 2\r\n\r\n"):
        with server.connect() as client:
            client.send(raw)
            assert client.response().status == 400
            client.end()


def test_nothing_is_answered_behind_a_connect(server):
    with server.connect() as client:
        client.send(b"CONNECT test.example:80 HTTP/1.1\r\nHost: test.example:80\r\n\r\n" + build(target="/inside"))
        response = client.response()
        # What follows may be meant for the other end of a tunnel.
        assert (response.status, response.get("Connection")) == (405, "close")
        assert client.end() in ("eof", "reset")


def test_trace_shows_nobody_their_own_fields(server):
    response = server.request("TRACE", "/", {"X-A": "secret"})
    assert response.status == 405
    assert "secret" not in response.text


def test_a_head_that_is_refused_shows_nothing_of_another_request(serve_nginx):
    """The object that a request is read into was another client's before."""
    server = serve_nginx("""
        log_format all '[$request|$uri|$args|$http_cookie|$host|$status]';
        server {
            listen 127.0.0.1:%PORT%;
            access_log access.log all;
            client_header_timeout 1s;
            error_page 400 408 494 /refused;
            location / { return 200 "good"; }
            location = /refused { internal; return 200 "$request|$request_uri|$args|$http_cookie|$arg_token"; }
        }
    """)
    secret = build("GET", "/secret?token=hidden", {"Cookie": "session=hidden"}, host="hidden.example")
    refused = [
        (b"GET /mine?x=1 HTTP/1.1\r\nHost: a\r\nX: \x07\r\n\r\n", "GET /mine?x=1 HTTP/1.1|/mine?x=1|||"),
        (b"GET /mine HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "GET /mine HTTP/1.1|/mine|||"),
        (b"GET /mine HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", "GET /mine HTTP/1.1|/mine|||"),
        (b"get\x00 / HTTP/1.1\r\n\r\n", "get\x00 / HTTP/1.1||||"),
        (b"GET /mine HTTP/1.1\r\nHost: a\r\nX: ", "GET /mine HTTP/1.1|/mine|||"),
        (b"GE", "GE||||"),
    ]
    for data, expected in refused:
        with server.connect() as client:
            client.send(secret)
            assert client.response().text == "good"
        with server.connect(timeout=20) as client:
            client.send(data)
            answer = client.response()
            assert "hidden" not in answer.text, (data, answer.text)
            assert answer.status in (400, 408), (data, answer.status)
            assert answer.text == expected
    # And whoever leaves in the midst of a head.
    with server.connect() as client:
        client.send(secret)
        assert client.response().text == "good"
    with server.connect() as client:
        client.send(b"GET /left HTTP/1.1\r\nHost: a\r\n")
        client.half_close()
        client.end()
    log = server.directory / "access.log"
    wait_until(lambda: "[GET /left HTTP/1.1|" in log.read_text(), "the last line of the log")
    lines = log.read_text().splitlines()
    assert sum("hidden" in line for line in lines) == 7, lines
    assert sum("[GET /mine" in line for line in lines) == 4, lines
