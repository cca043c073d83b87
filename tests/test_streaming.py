"""Streaming passes at once: text/event-stream and X-Accel-Buffering: no."""

import socket
import threading
import zlib

import brotli
import pytest
import zstandard
from support import Client, build
from support.upstream import Upstream

APP = """
import os, time

# The next event comes when the client has had the last one, and says so by a file.
def wait_for(name):
    deadline = time.monotonic() + 20
    while not os.path.exists(name) and time.monotonic() < deadline:
        time.sleep(0.01)

def application(environ, start_response):
    fields = [("Content-Type", "text/plain")]
    if environ["PATH_INFO"] == "/sse":
        fields = [("Content-Type", "text/event-stream")]
    elif environ["PATH_INFO"] == "/unbuffered":
        fields.append(("X-Accel-Buffering", "no"))
    start_response("200 OK", fields)

    def events():
        for number in range(3):
            yield b"data: %d\\n\\n" % number
            wait_for(environ["QUERY_STRING"] + str(number))
    return events()
"""


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(APP, "--threads", "4")


def arrive(server, client, name):
    """Each event, before the next one is made; the response's head."""
    head = client.head()
    assert head.get("Transfer-Encoding") == "chunked"
    for number in range(3):
        assert client.chunk() == b"data: %d\n\n" % number
        server.write(f"{name}{number}", "")
    assert client.chunk() == b""
    return head


@pytest.mark.parametrize("path", ["/sse", "/unbuffered"])
def test_each_piece_comes_when_it_is_made(server, path):
    with server.connect() as client:
        client.send(build("GET", f"{path}?{path[1:]}"))
        arrive(server, client, path[1:])


DECODERS = {
    "gzip": lambda: zlib.decompressobj(31).decompress,
    "br": lambda: brotli.Decompressor().process,
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj().decompress,
}


@pytest.mark.parametrize("place", ["/direct/", "/says/", "/app/"])
@pytest.mark.parametrize("coding", DECODERS)
def test_each_piece_of_a_compressed_stream_can_be_read_at_once(serve_nginx, coding, place):
    """The next one comes when the client has decoded the last: of another server, and of an application."""
    goes_on = threading.Semaphore(0)

    def answer(seen, connection):
        says = b"X-Accel-Buffering: no\r\n" if "says" in seen.target else b""
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n%sConnection: close\r\n\r\n" % says)
        for number in range(3):
            connection.sendall(b"piece %d\n" % number)
            assert goes_on.acquire(timeout=20)

    app = APP.replace("data: %d\\n\\n", "piece %d\\n")
    with Upstream(answer) as up:
        server = serve_nginx(f"""
            gzip on; gzip_min_length 1; brotli on; brotli_min_length 1; zstd on; zstd_min_length 1;
            app streams {{ wsgi streams:application; directory .; }}
            server {{
                listen 127.0.0.1:%PORT%;
                location / {{ proxy_pass http://127.0.0.1:{up.port}; gzip_types *; brotli_types *; zstd_types *; }}
                location /direct/ {{ proxy_pass http://127.0.0.1:{up.port}; proxy_buffering off; gzip_types *; brotli_types *; zstd_types *; }}
                location /app/ {{ app_pass streams; gzip_types *; brotli_types *; zstd_types *; }}
            }}""", files={"streams.py": app}, python=True)
        decode = DECODERS[coding]()
        with server.connect() as client:
            client.send(build("GET", f"{place}?x", {"Accept-Encoding": coding}))
            assert client.head().get("Content-Encoding") == coding
            for number in range(3):
                wanted, text = b"piece %d\n" % number, b""
                while len(text) < len(wanted):
                    text += decode(client.chunk())
                assert text == wanted
                goes_on.release()
                server.write(f"x{number}", "")


def test_events_pass_for_an_accepting_client_too(server):
    with server.connect() as client:
        client.send(build("GET", "/sse?accepting", {"Accept-Encoding": "gzip, br, zstd"}))
        assert arrive(server, client, "accepting").get("Content-Encoding") is None


def test_http_1_0_is_streamed_until_close(server):
    with server.connect() as client:
        client.send(build("GET", "/sse?old", version="1.0"))
        client.head()
        for number in range(3):
            while b"data: %d" % number not in client.buffer:
                assert client._more()
            server.write(f"old{number}", "")
        while client._more():
            pass
        assert client.buffer == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_stream_ends_when_the_client_leaves(serve):
    app = """
    import time
    closed = []

    class Events:
        def __iter__(self):
            return self
        def __next__(self):
            time.sleep(0.05)
            return b"data: x\\n\\n"
        def close(self):
            closed.append("closed")

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/closed":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [" ".join(closed).encode()]
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return Events()
    """
    from support import wait_until
    server = serve(app, "--threads", "2", "--timeout", "0")
    client = Client(server.address)
    client.send(build("GET", "/sse"))
    client.head()
    client.chunk()
    client.reset()
    wait_until(lambda: server.get("/closed").text == "closed", "close() of the iterable")


BROKEN = """
import time

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Accel-Buffering", "no")])

    def pieces():
        yield b"half a page"
        time.sleep(0.3)
        raise ValueError
    return pieces()
"""


@pytest.mark.parametrize("more", [b"", b"\r\n", b"GET /next HTTP/1.0\r\n\r\n"], ids=["nothing", "crlf", "request"])
def test_half_a_page_never_ends_in_order(serve, more):
    """Its end is the connection's: whatever the client has sent behind its request, that end is a reset."""
    server = serve(BROKEN)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"POST / HTTP/1.0\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc" + more)
        seen = b""
        with pytest.raises(ConnectionResetError):
            while data := client.recv(65536):
                seen += data
            pytest.fail(f"an orderly end of {seen!r}")
