"""Limits and time-outs on everything that grows: 408, 413, 414, 431, 503."""

import resource
import socket
import time
from pathlib import Path

import pytest
from support import build, wait_until

APP = """
def application(environ, start_response):
    text = str(len(environ["wsgi.input"].read(1 << 30))).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text]
"""


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(
        APP, "--limit-request-line", 200, "--limit-request-fields", 10, "--limit-request-field_size", 300,
        "--limit-request-head", "1k", "--client-max-body-size", 1000,
    )


def refused(server, raw, status):
    with server.connect() as client:
        client.send(raw)
        response = client.response()
        assert response.status == status
        assert response.get("Connection").lower() == "close"
        client.end()


def line(length):
    return build(target="/" + "a" * (length - len("GET / HTTP/1.1")))


def test_request_line(server):
    with server.connect() as client:
        client.send(line(200))
        assert client.response().status == 200
    refused(server, line(203), 414)


def test_request_line_without_end(server):
    refused(server, b"GET /" + b"a" * 5000, 414)


def test_field_count(server):
    with server.connect() as client:
        client.send(build(fields=[(f"A{n}", "b") for n in range(9)]))
        assert client.response().status == 200
    refused(server, build(fields=[(f"A{n}", "b") for n in range(10)]), 431)


def test_field_size(server):
    with server.connect() as client:
        client.send(build(fields={"A": "b" * 290}))
        assert client.response().status == 200
    refused(server, build(fields={"A": "b" * 310}), 431)


def test_field_without_end(server):
    refused(server, b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 5000, 431)


def test_head_as_a_whole(server):
    refused(server, build(fields=[(f"A{n}", "b" * 250) for n in range(6)]), 431)


def test_body_of_announced_length(server):
    with server.connect() as client:
        assert client.request("POST", "/", body=b"x" * 1000).body == b"1000"
        client.send(build("POST", "/", {"Content-Length": "1001"}))
        assert client.response().status == 413


def test_body_in_chunks(server):
    with server.connect() as client:
        assert client.request("POST", "/", body=b"x" * 1000, chunked=True).body == b"1000"
        client.send(build("POST", "/", {"Transfer-Encoding": "chunked"}) + b"3e9\r\n" + b"x" * 1001 + b"\r\n")
        assert client.response().status == 413
        client.end()


def test_body_in_endless_small_chunks(server):
    with server.connect() as client:
        client.send(build("POST", "/", {"Transfer-Encoding": "chunked"}) + b"1\r\nx\r\n" * 1001)
        assert client.response().status == 413


def test_trailers_are_limited_too(server):
    with server.connect() as client:
        client.send(build("POST", "/", {"Transfer-Encoding": "chunked"}) + b"0\r\nA: " + b"b" * 100_000)
        assert client.response().status in (400, 413, 431)


def test_chunk_extensions_are_limited(server):
    with server.connect() as client:
        client.send(build("POST", "/", {"Transfer-Encoding": "chunked"}) + b"1;" + b"x" * 100_000)
        assert client.response().status in (400, 413)


# Time-outs

@pytest.fixture(scope="module")
def hasty(serve_module):
    return serve_module(
        APP, "--client-header-timeout", "1s", "--client-body-timeout", "1s", "--send-timeout", "1s",
        "--lingering-timeout", "1s", "--keep-alive", "1s",
    )


def test_slow_head_is_408(hasty):
    with hasty.connect() as client:
        began = time.monotonic()
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        assert client.response().status == 408
        assert 0.8 < time.monotonic() - began < 4
        client.end()


def test_trickled_head_is_408_however_lively(hasty):
    # The time is for the whole head: a byte now and then does not prolong it.
    with hasty.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nA: ")
        began = time.monotonic()
        client.socket.settimeout(0.1)
        data = b""
        while not data:
            assert time.monotonic() - began < 5, "still not refused"
            client.send(b"b")
            try:
                data = client.socket.recv(4096)
            except socket.timeout:
                continue
        assert data.startswith(b"HTTP/1.1 408 ")


def test_slow_body_is_408(hasty):
    with hasty.connect() as client:
        client.send(build("POST", "/", {"Content-Length": "10"}) + b"hello")
        assert client.response().status == 408
        client.end()


def test_a_body_that_keeps_coming_is_not_408(serve):
    with serve(APP, "--client-body-timeout", "2s").connect() as client:
        client.send(build("POST", "/", {"Content-Length": "8"}))
        for _ in range(8):
            time.sleep(0.3)  # the client's pace is what is tested
            client.send(b"x")
        assert client.response().body == b"8"


def test_silent_connection_is_closed(hasty):
    with hasty.connect() as client:
        client.socket.settimeout(5)
        data = client.socket.recv(4096)
        assert data == b"" or data.startswith(b"HTTP/1.1 408 ")


def test_reader_that_does_not_read_is_cut(serve):
    app = """
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(50_000_000))])
        return (b"x" * 100_000 for _ in range(500))
    """
    server = serve(app, "--send-timeout", "1s")
    with server.connect(receive_buffer=4096) as client:
        client.send(build())

        def sockets():
            count = 0
            for entry in Path("/proc/net/tcp").read_text().splitlines()[1:]:
                local, _, state = entry.split()[1:4]
                count += int(local.split(":")[1], 16) == server.port and state == "01"
            return count

        wait_until(lambda: sockets() == 1, "the connection")
        wait_until(lambda: sockets() == 0, "the edge to give up", 10)


# Connections and descriptors

def test_connections_are_limited(serve):
    server = serve(APP, "--edge-connections", "16", "--edge-threads", "1")
    clients = []

    def begin():
        client = server.connect(timeout=3)
        client.send(build("POST", "/", {"Content-Length": "10", "Expect": "100-continue"}))
        if client.head().status == 100:
            return client
        client.close()
        return None

    try:
        # All in the middle of a request: an idle connection would give way to a new one, as in nginx. Those that looked
        # whether the server is up may be about to end.
        while len(clients) < 16:
            clients.append(wait_until(begin, "room for one more"))
        for client in clients:
            client.send(b"hello")
        with server.connect(timeout=1) as extra:
            extra.send(build())
            try:
                status = extra.response().status
            except (OSError, AssertionError):
                status = None
            assert status in (None, 503), "the next waits, is refused, or is told 503; it is not served"
        for client in clients:
            client.send(b"world")
            assert client.response().body == b"10"
    finally:
        for client in clients:
            client.close()
    server.wait_ready()
    assert server.get().status == 200


def test_descriptors_exhausted(serve):
    # The limit cannot be raised, and is reached: who is being served goes on (an idle connection may give
    # way, as in nginx), and all is well afterwards.
    server = serve(APP, "--edge-connections", "1000", limits={resource.RLIMIT_NOFILE: 100})
    busy = server.connect()
    busy.send(build("POST", "/", {"Content-Length": "10"}) + b"hello")
    clients = [busy]
    try:
        for _ in range(150):
            clients.append(server.connect(timeout=2))
        busy.send(b"world")
        assert busy.response().body == b"10"
        assert server.get().status == 200, "a new client takes the place of an idle one"
        assert server.process.poll() is None
    finally:
        for client in clients:
            client.close()
    server.wait_ready()
    for _ in range(20):
        assert server.get().status == 200
    assert len(server.log().splitlines()) < 200, "the log is not flooded"
