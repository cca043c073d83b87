"""`proxy_pass` for clients that speak HTTP/2."""

import threading

import pytest
from support import http2
from support.server import wait_until
from support.upstream import Upstream, response

CONF = r"""
    server {
        listen 127.0.0.1:%PORT%;
        http2 on;
        client_max_body_size 0;
        access_log %DIR%/access.log;
        proxy_http_version 1.1;
        proxy_read_timeout 20s;
        proxy_pass_trailers on;
        location / { proxy_pass http://127.0.0.1:UP; proxy_set_header Connection ''; proxy_set_header TE "trailers"; }
        location /stream/ { proxy_pass http://127.0.0.1:UP; proxy_buffering off; proxy_request_buffering off; }
        location /stays/ { proxy_pass http://127.0.0.1:UP; proxy_ignore_client_abort on; }
    }
"""


@pytest.fixture
def site(serve_nginx):
    """Starts one in front of a server that answers so."""
    ups = []

    def start(answer=None):
        up = Upstream(answer, name="up")
        ups.append(up)
        place = serve_nginx(CONF.replace("UP", str(up.port)))
        place.up = up
        return place

    yield start
    for up in ups:
        up.close()


def connect(site, **options):
    return http2.Http2(site.address, timeout=20, **options)


def test_gets_at_once(site):
    go = threading.Event()

    def answer(seen, _):
        if seen.target == "/slow":
            assert go.wait(20)
        return response(seen.target.encode(), fields=[("X-A", "b")])

    place = site(answer)
    with connect(place) as client:
        client.request(1, "/slow")
        for stream in range(3, 23, 2):
            got = client.get(stream, f"/{stream}")
            assert (got.status, got["x-a"], got.body) == (200, "b", f"/{stream}".encode())
        go.set()
        assert client.answer(1).body == b"/slow"
    assert {seen.version for seen in place.up.seen} == {"HTTP/1.1"}
    assert all(seen.get("Host") for seen in place.up.seen)


@pytest.mark.parametrize("size", [0, 10, 60_000])
@pytest.mark.parametrize("target", ["/post", "/stream/post"])
@pytest.mark.parametrize("said", [True, False])
def test_bodies(site, size, target, said):
    place = site(lambda seen, _: response(b"%d %s" % (len(seen.body), seen.method.encode())))
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with connect(place) as client:
        more = [("content-length", str(size))] if said else []
        client.request(1, target, "POST", *more, end=False)
        for at in range(0, size, 16_000):
            client.data(1, body[at:at + 16_000])
        client.data(1, b"", end=True)
        got = client.answer(1)
        assert (got.status, got.body) == (200, b"%d POST" % size)
    assert place.up.seen[-1].body == body


def test_trailers(site):
    whole = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
             b"5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n")
    place = site(lambda *_: whole)
    with connect(place) as client:
        got = client.get(1, "/")
        assert (got.body, dict(got.trailers).get("x-sum")) == (b"hello", "42")


@pytest.mark.parametrize("target", ["/get", "/stream/get"])
def test_a_stream_that_is_reset_ends_the_request_behind(site, target):
    entered, left = threading.Event(), threading.Event()

    def answer(seen, connection):
        if seen.target != target:
            return response(b"other")
        entered.set()
        connection.settimeout(15)
        try:
            if connection.recv(1) == b"":
                left.set()
        except OSError:
            pass

    place = site(answer)
    with connect(place) as client:
        client.request(1, target)
        assert entered.wait(10)
        client.reset(1)
        assert left.wait(10), "the server is still waited for"
        # The connection is as good as before.
        assert client.get(3, "/other").body == b"other"
    wait_until(lambda: " 499 " in (place.directory / "access.log").read_text(), "a line with 499")


def test_a_stream_that_is_reset_in_the_middle_of_its_answer(site):
    left = threading.Event()

    def answer(seen, connection):
        if seen.target == "/other":
            return response(b"other")
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            while True:
                connection.sendall(b"x" * 65536)
        except OSError:
            left.set()

    place = site(answer)
    with connect(place) as client:
        client.request(1, "/stream/large")
        wait_until(lambda: place.up.seen, "the request")
        client.reset(1)
        # For what came of it before.
        client.window(0, 10_000_000)
        assert left.wait(15), "the server still sends"
        assert client.get(3, "/other").body == b"other"


def test_a_request_that_is_to_be_finished_is(site):
    done = threading.Event()
    go = threading.Event()

    def answer(seen, connection):
        assert go.wait(10)
        done.set()
        return response(b"late")

    place = site(answer)
    with connect(place) as client:
        client.request(1, "/stays/x")
        wait_until(lambda: place.up.seen, "the request")
        client.reset(1)
        client.ping()
        go.set()
    assert done.wait(10)
    wait_until(lambda: '"GET /stays/x HTTP/2.0" 200' in (place.directory / "access.log").read_text(), "its line")


def test_an_answer_that_breaks_off_resets_its_stream(site):
    def answer(seen, connection):
        if seen.target == "/other":
            return response(b"other")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        return None

    place = site(answer)
    with connect(place) as client:
        client.request(1, "/")
        client.reset_of(1)
        assert client.get(3, "/other").body == b"other"
