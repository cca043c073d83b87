"""Clients that leave while a server, or an application, is silent in the middle of its answer."""

import signal
import threading

import pytest
from support import build, http2, wait_until
from support.upstream import Upstream, response

CONF = r"""
    log_format l '$request_uri $status $body_bytes_sent';
    error_log %DIR%/error.log info;
    proxy_cache_path %DIR%/cache keys_zone=c:1m;
    server {
        listen 127.0.0.1:%PORT%;
        http2 on;
        access_log %DIR%/access.log l;
        proxy_read_timeout 60s;
        gzip on; gzip_types text/plain; gzip_min_length 1;
        location / { proxy_pass http://127.0.0.1:UP; }
        location /direct/ { proxy_pass http://127.0.0.1:UP; proxy_buffering off; }
        location /stays/ { proxy_pass http://127.0.0.1:UP; proxy_buffering off; proxy_ignore_client_abort on; }
        location /kept/ { proxy_pass http://127.0.0.1:UP; proxy_cache c; proxy_cache_valid 1h; }
        location = /status { stub_status; }
        location /stored/ { proxy_pass http://127.0.0.1:UP; proxy_store on; root %DIR%; }
    }
"""
LEFT = "epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n"


class Silent:
    """Says what the target asks for of its answer, then nothing until its client leaves or it is to say the rest."""

    def __init__(self):
        self.entered, self.left, self.go = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, seen, connection):
        if seen.target.endswith("other"):
            return response(b"other")
        begun = {"none": b"", "head": HEAD, "some": HEAD + b"hello"}[seen.target.rsplit("/")[-1]]
        connection.sendall(begun)
        self.entered.set()
        connection.settimeout(0.05)
        for _ in range(400):
            try:
                if connection.recv(1) == b"":
                    self.left.set()
                    return None
            except TimeoutError:
                if self.go.is_set():
                    connection.sendall((HEAD + b"helloworld")[len(begun):])
                    return None
        return None


@pytest.fixture
def place(serve_nginx):
    silent = Silent()
    with Upstream(silent) as up:
        site = serve_nginx(CONF.replace("UP", str(up.port)))
        site.up, site.silent = up, silent
        yield site


def line(place, target):
    path = place.directory / "access.log"
    wait_until(lambda: any(line.split()[0] == target for line in path.read_text().splitlines()), "the access log")
    return next(line for line in path.read_text().splitlines() if line.split()[0] == target)


def begin(place, target, behind=b"", fields=b""):
    """The request, when the server has said what it says, and the client has it."""
    client = place.connect()
    client.send(b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n%s" % (target.encode(), fields, behind))
    assert place.silent.entered.wait(10)
    if not target.endswith("none"):
        assert client.head().status == 200
    if target.endswith("some") and not fields:
        assert client._exactly(5) == b"hello"
    return client


def leave_http2(place, client, target, how):
    """The same by HTTP/2, and then the client leaves."""
    client.request(1, target)
    assert place.silent.entered.wait(10)
    if not target.endswith("none"):
        client.until(lambda frame: frame.kind == (http2.DATA if "some" in target else http2.HEADERS))
    if how == "close":
        client.socket.close()
    else:
        client.reset(1)


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
@pytest.mark.parametrize("target", ["/none", "/head", "/some", "/direct/none", "/direct/head", "/direct/some"])
def test_the_server_of_a_client_that_leaves_is_let_go_at_once(place, target, how):
    client = begin(place, target)
    getattr(client, how)()
    assert place.silent.left.wait(5), "the server is still waited for"
    status, body = line(place, target).split()[1:]
    # What was sent before was a response.
    assert (status, body) == ("499" if "none" in target else "200", "5" if "some" in target else "0")
    action = "reading response header from upstream" if "none" in target else "reading upstream"
    wait_until(lambda: f"{LEFT} while {action}, client: 127.0.0.1" in (place.directory / "error.log").read_text(),
               "the error log")
    if how == "half_close":
        assert client.end() in ("eof", "reset")


def test_what_is_behind_the_request_of_a_client_that_leaves(place):
    client = begin(place, "/some", b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
    client.close()
    assert place.silent.left.wait(5)
    assert line(place, "/some").split()[1] == "200"
    assert [seen.target for seen in place.up.seen] == ["/some"]


def test_compressed(place):
    client = begin(place, "/some", fields=b"Accept-Encoding: gzip\r\n")
    client.close()
    assert place.silent.left.wait(5)


def test_pipelined_requests_of_a_client_that_stays_are_answered(place):
    with begin(place, "/direct/some", b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n" * 3) as client:
        client.send(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        place.silent.go.set()
        assert client._exactly(5) == b"world"
        for _ in range(5):
            assert client.response().text == "other"


def test_more_than_is_read_ahead(place):
    """A client that sends and sends while its answer comes is not read without end, and loses nothing."""
    one = b"GET /other HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"x" * 2000)
    with begin(place, "/direct/some") as client:
        sender = threading.Thread(target=client.send, args=(one * 300,))
        sender.start()
        place.silent.go.set()
        assert client._exactly(5) == b"world"
        for _ in range(300):
            assert client.response().text == "other"
        sender.join()


@pytest.mark.parametrize("target", ["/stays/head", "/stays/some", "/kept/head", "/kept/some"])
@pytest.mark.parametrize("how", ["close", "half_close"])
def test_one_that_is_not_waited_for(place, target, how):
    """`proxy_ignore_client_abort`, and what is to be kept for others."""
    client = begin(place, target)
    getattr(client, how)()
    assert not place.silent.left.wait(0.5)
    place.silent.go.set()
    if how == "half_close":
        assert client._exactly(5 if "some" in target else 10).endswith(b"world")
    if "kept" in target:
        wait_until(lambda: list((place.directory / "cache").glob("*")), "the file")


def is_whole(file):
    return file.exists() and file.read_bytes().endswith(b"helloworld")


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("target", ["/stays/none", "/stays/head", "/stays/some", "/kept/none", "/kept/head",
                                    "/kept/some", "/stored/head", "/stored/some"])
@pytest.mark.parametrize("version", [1, 2])
def test_one_that_is_not_waited_for_by_either_version(place, target, how, version):
    if version == 1:
        client = begin(place, target)
        getattr(client, how)()
    else:
        client = http2.Http2(place.address, timeout=20)
        leave_http2(place, client, target, how)
    assert not place.silent.left.wait(0.5), "the server is let go"
    place.silent.go.set()
    if "kept" in target:
        files = (place.directory / "cache").glob
        wait_until(lambda: any(is_whole(file) for file in files("*")), "the file")
    elif "stored" in target:
        wait_until(lambda: is_whole(place.directory / target[1:]), "the file")
    else:
        status, body = line(place, target).split()[1:]
        assert status in ("200", "499")
        assert body in ("0", "5", "10")
    if version == 2 and how == "reset":
        assert client.get(3, "/other").body == b"other"
    assert LEFT not in (place.directory / "error.log").read_text()


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("target", ["/none", "/head", "/some", "/direct/none", "/direct/head", "/direct/some"])
def test_a_stream_of_http_2(place, target, how):
    with http2.Http2(place.address, timeout=20) as client:
        leave_http2(place, client, target, how)
        assert place.silent.left.wait(5), "the server is still waited for"
        status, body = line(place, target).split()[1:]
        assert (status, body) == ("499" if "none" in target else "200", "5" if "some" in target else "0")
        if how == "reset":
            assert client.get(3, "/other").body == b"other"
    assert "[error]" not in (place.directory / "error.log").read_text()


APP = """
import os, time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Type", "text/event-stream" if path == "/sse" else "text/plain"),
                              ("X-Accel-Buffering", "no")])

    def pieces():
        yield b"first"
        while not os.path.exists("go"):
            time.sleep(0.01)
        yield b"second"
    return pieces()
"""
APP_CONF = r"""
    log_format l '$request_uri $status';
    app one { wsgi app:application; directory %DIR%; threads 4; }
    server {
        listen 127.0.0.1:%PORT%;
        http2 on;
        access_log %DIR%/access.log l;
        location / { app_pass one; }
    }
"""


@pytest.mark.parametrize("target, how, leaves", [
    ("/sse", "close", True),
    ("/sse", "half_close", True),
    ("/sse", "reset", True),
    ("/text", "reset", True),
    ("/text", "half_close", False),
])
@pytest.mark.parametrize("language", ["nginx", "gunicorn"])
def test_a_stream_of_an_application(serve, serve_nginx, target, how, leaves, language):
    if language == "nginx":
        site = serve_nginx(APP_CONF, files={"app.py": APP})
    else:
        site = serve(APP, "--threads", "4", "--access-logfile", "access.log")
    log = site.directory / "access.log"
    client = site.connect(timeout=20)
    client.send(build("GET", target))
    client.head()
    assert client.chunk() == b"first"
    getattr(client, how)()
    if leaves:
        wait_until(lambda: target in log.read_text(), "the access log", 5)
        site.write("go", "")
    else:
        # It still listens.
        wait_until(lambda: site.descriptors(), "the edge")
        assert target not in log.read_text()
        site.write("go", "")
        assert client.chunk() == b"second"
        assert client.chunk() == b""
    assert site.connect().request("GET", "/after").status == 200


@pytest.mark.parametrize("target", ["/sse", "/text"])
@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_stream_of_an_application_by_http_2(serve_nginx, target, how):
    """What is cancelled is as good as broken."""
    site = serve_nginx(APP_CONF, files={"app.py": APP})
    with http2.Http2(site.address, timeout=20) as client:
        client.request(1, target)
        client.until(lambda frame: frame.kind == http2.DATA)
        if how == "close":
            client.socket.close()
        else:
            client.reset(1)
        log = site.directory / "access.log"
        wait_until(lambda: target in log.read_text(), "the access log", 5)
        site.write("go", "")
        if how == "reset":
            assert client.get(3, "/after").status == 200
    assert site.connect().request("GET", "/after").status == 200


@pytest.mark.parametrize("target, status", [("/none", "000"), ("/direct/some", "200")])
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2.0"])
def test_what_is_cut_at_the_end_is_in_the_logs(place, target, status, version):
    if version == "HTTP/1.1":
        client = begin(place, target)
    else:
        client = http2.Http2(place.address, timeout=20)
        client.request(1, target)
        assert place.silent.entered.wait(10)
        if status == "200":
            client.until(lambda frame: frame.kind == http2.DATA)
    # INT: nothing is waited for.
    place.signal(signal.SIGINT)
    assert place.exit_code() == 0
    assert line(place, target).split()[1] == status
    errors = (place.directory / "error.log").read_text()
    assert "the request was cut at the end, after " in errors
    assert f'request: "GET {target} {version}"' in errors


@pytest.mark.parametrize("target", ["/stays/none", "/stays/head", "/stays/some"])
def test_a_graceful_end_waits_for_what_outlives_its_http_2_connection(place, target):
    leave_http2(place, http2.Http2(place.address, timeout=20), target, "close")
    # The connection counts as long as its requests do, as in nginx.
    wait_until(lambda: place.request("GET", "/status").text.split()[2] == "2", "the connection to be gone or kept")
    assert "Writing: 2" in place.request("GET", "/status").text
    place.signal(signal.SIGQUIT)
    assert not place.silent.left.wait(0.5), "the server is let go"
    place.silent.go.set()
    assert place.exit_code() == 0
    assert line(place, target).split()[1] == "200"
    assert "cut at the end" not in (place.directory / "error.log").read_text()


def test_what_outlives_its_http_2_connection_is_cut_at_the_end(place):
    leave_http2(place, http2.Http2(place.address, timeout=20), "/stays/none", "close")
    assert not place.silent.left.wait(0.5), "the server is let go"
    place.signal(signal.SIGINT)
    assert place.exit_code() == 0
    assert line(place, "/stays/none").split()[1] == "000"
    assert "the request was cut at the end, after " in (place.directory / "error.log").read_text()
