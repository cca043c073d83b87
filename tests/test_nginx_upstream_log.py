"""What the error log says of servers and their answers, in nginx's words."""

import re
import socket
import threading
import time

import pytest
from support import wait_until
from support.gateway import record
from support.upstream import Upstream, response

CONF = r"""
    error_log %DIR%/error.log warn;
    client_max_body_size 0;
    server {
        listen 127.0.0.1:%PORT%;
        location / { proxy_pass http://127.0.0.1:UP; proxy_read_timeout 10s; }
        location /direct/ { proxy_pass http://127.0.0.1:UP; proxy_read_timeout 10s; proxy_buffering off; }
        location /spill/ {
            proxy_pass http://127.0.0.1:UP; proxy_buffers 2 4k; proxy_buffer_size 4k; proxy_busy_buffers_size 4k;
        }
        location /memory/ { proxy_pass http://127.0.0.1:UP; client_body_buffer_size 1m; }
        location /body/ { proxy_pass http://127.0.0.1:UP; client_body_buffer_size 1k; }
        location /file/ {
            proxy_pass http://127.0.0.1:UP; client_body_in_file_only clean; error_log %DIR%/notice.log notice;
        }
        location /slow/ { proxy_pass http://both; proxy_read_timeout 1s; }
        location /alone/ { proxy_pass http://127.0.0.1:UP; proxy_read_timeout 1s; }
    }
    upstream both { server 127.0.0.1:UP; server 127.0.0.1:OTHER; }
"""
OK = b"HTTP/1.1 200 OK\r\n"
HEADING = "while reading response header from upstream"


@pytest.fixture(scope="module")
def place(serve_nginx_module):
    answers = {}

    def answer(seen, connection):
        said = answers.get(seen.target.split("?")[0], response(b"fine"))
        return said(connection) if callable(said) else said

    with Upstream(answer) as up, Upstream(name="other") as other:
        site = serve_nginx_module(CONF.replace("UP", str(up.port)).replace("OTHER", str(other.port)))
        site.answers = answers
        yield site


def said(place, name="error.log"):
    return (place.directory / name).read_text()


@pytest.mark.parametrize("lines, words", [
    (b"X Y: a", r'invalid header: "X\x20..."'),
    (b"X: a\0b", r'invalid header: "X: a\x00..."'),
    (b"X: a\x1b[31m", r'invalid header: "X: a\x1b..."'),
    (b"X: a\r\n b", r'invalid header: "\x20..."'),
    (b"Content-Length: 3\r\nContent-Length: 4",
     'duplicate header line: "Content-Length: 4", previous value: "Content-Length: 3"'),
    (b"Content-Length: 3x", 'invalid "Content-Length" header: "Content-Length: 3x"'),
    (b"Transfer-Encoding: gzip", 'unknown "Transfer-Encoding": "gzip"'),
])
def test_the_line_that_is_wrong(place, lines, words):
    place.answers["/line"] = OK + lines + b"\r\n\r\nabc"
    before = len(said(place))
    assert place.get("/line").status == 502
    wait_until(lambda: f"upstream sent {words} {HEADING}, client: " in said(place)[before:], "the error log")
    assert not re.search(r"[\0-\x09\x0b-\x1f]", said(place))


@pytest.mark.parametrize("target", ["/more", "/direct/more"])
@pytest.mark.parametrize("answer, words", [
    (OK + b"Content-Length: 2\r\n\r\nhi there", 'sent more data than specified in "Content-Length" header'),
    (b"HTTP/1.1 304 Not Modified\r\n\r\nhi", 'sent more data than specified in "Content-Length" header'),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nmore", "sent data after final chunk"),
])
def test_what_comes_behind_the_end(place, target, answer, words):
    place.answers[target] = answer
    before = len(said(place))
    assert place.get(target).body in (b"hi", b"")
    pattern = rf"\[warn\] .* upstream {words} while reading upstream, client: .*, upstream: \"http://127.0.0.1:\d+"
    wait_until(lambda: re.search(pattern, said(place)[before:]), "the error log")


def test_an_answer_that_ends_where_it_says(place):
    before = len(said(place))
    assert place.get("/fine").text == "fine"
    assert said(place)[before:] == ""


def test_an_answer_that_waits_in_a_file(place):
    place.answers["/spill/"] = response(b"x" * 8_000_000)
    before = len(said(place))
    with place.connect(receive_buffer=4096) as client:
        client.send(b"GET /spill/ HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.5)  # the client takes nothing
        assert len(client.response().body) == 8_000_000
    pattern = (r"\[warn\] .* an upstream response is buffered to a temporary file in /\S+"
               r" while reading upstream, client: ")
    wait_until(lambda: re.search(pattern, said(place)[before:]), "the error log")


def test_a_body_that_waits_in_a_file(place):
    before = len(said(place))
    assert place.request("POST", "/memory/", body=b"x" * 5000).status == 200
    assert said(place)[before:] == ""
    assert place.request("POST", "/body/", body=b"x" * 5000).status == 200
    pattern = r"\[warn\] .* a client request body is buffered to a temporary file in /\S+, client: "
    wait_until(lambda: re.search(pattern, said(place)[before:]), "the error log")
    assert place.request("POST", "/file/", body=b"x" * 5000).status == 200
    pattern = r"\[notice\] .* a client request body is buffered to a temporary file /\S+/\d+, client: "
    wait_until(lambda: re.search(pattern, said(place, "notice.log")), "the error log")


def drip(head, stop):
    """Answers byte by byte, and would go on for a minute."""
    def answer(connection):
        for byte in head:
            if stop.wait(0.2):
                break
            connection.sendall(bytes([byte]))
        connection.settimeout(10)
        return None
    return answer


def test_a_head_that_comes_byte_by_byte(place):
    stop = threading.Event()
    slow = drip(OK + b"X: " + b"y" * 300, stop)
    place.answers["/slow/"] = place.answers["/alone/"] = slow
    begun = time.monotonic()
    assert place.get("/alone/").status == 504
    assert 0.9 < time.monotonic() - begun < 4
    begun = time.monotonic()
    assert {place.get("/slow/").text for _ in range(2)} == {"other /slow/"}
    assert time.monotonic() - begun < 4
    stop.set()


def test_a_head_that_takes_its_time_behind_interim_responses(place):
    def answer(connection):
        for _ in range(4):
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
            time.sleep(0.6)
        head = response(b"at last")
        connection.sendall(head[:20])
        time.sleep(0.6)
        connection.sendall(head[20:])
        return None

    place.answers["/alone/"] = answer
    assert place.get("/alone/").text == "at last"


def test_a_fastcgi_application_that_only_complains_is_alive(serve_nginx):
    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            for number in range(4):
                connection.sendall(record(7, b"PHP message: %d" % number))
                time.sleep(0.6)
            connection.sendall(record(6, b"Status: 200 OK\r\n\r\nat last") + record(6, b"") + record(3, bytes(8)))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        site = serve_nginx("server { listen 127.0.0.1:%%PORT%%; location / { fastcgi_pass 127.0.0.1:%d; "
                           "fastcgi_read_timeout 1s; } }" % listener.getsockname()[1])
        assert site.get("/").text == "at last"
