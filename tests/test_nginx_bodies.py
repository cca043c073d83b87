"""Bodies that nobody reads: the answer does not wait for them, and what follows them is found."""

import threading
import time

import pytest
from support import build, wait_until
from support.upstream import Upstream

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


def test_a_body_in_chunks_that_nobody_reads_may_be_larger_than_one_that_is_read(server):
    """The connection ended behind an answer that had not said so."""
    with server.connect(timeout=20) as client:
        client.send(build("POST", "/one", {"Transfer-Encoding": "chunked"}) + b"3\r\n123\r\n")
        answer = client.response()
        assert answer.text == "/one" and answer.get("Connection") != "close"
        for _ in range(400):
            client.send(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        client.send(b"0\r\n\r\n" + build("GET", "/two"))
        assert client.response().text == "/two"


def test_what_never_comes_ends_the_connection(server):
    with server.connect(timeout=20) as client:
        begun = time.monotonic()
        client.send(build("POST", "/one", {"Content-Length": "10"}) + b"123")
        assert client.response().text == "/one"
        assert client.end() == "eof"
        assert 0.5 < time.monotonic() - begun < 10


@pytest.mark.parametrize("begin", [b"1;a=", b"0\r\nT: "], ids=["extension", "trailer"])
def test_what_only_frames_a_body_does_not_keep_the_connection(serve_nginx, begin):
    """A byte of it now and then did so for as long as the limits of its size allow, an end of the server included."""
    conf = "lingering_time 2s; lingering_timeout 1s; server { listen 127.0.0.1:%PORT%; return 200; }"
    with serve_nginx(conf).connect(timeout=20) as client:
        client.send(build("POST", "/", {"Transfer-Encoding": "chunked"}) + begin)
        assert client.response().status == 200
        begun, closed = time.monotonic(), threading.Event()

        def drip():
            while not closed.wait(0.3) and time.monotonic() < begun + 10:
                try:
                    client.send(b"a")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        client.end()
        closed.set()
        thread.join()
        # The time to throw it away, and that of the lingering close.
        assert time.monotonic() - begun < 8


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


class Early(Upstream):
    """Answers a head without a look at what follows it, and says the end when it is told to."""

    def __init__(self):
        self.go, self.left = threading.Event(), threading.Event()
        super().__init__(self.begin)

    def _body(self, connection, head, data):
        return b"", b""

    def begin(self, _, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        connection.settimeout(0.05)
        said = False
        for _ in range(400):
            if self.go.is_set() and not said:
                said = True
                connection.sendall(b"3\r\ntwo\r\n0\r\n\r\n")
            try:
                if connection.recv(65536) == b"":
                    break
            except TimeoutError:
                pass
            except OSError:
                break
        self.left.set()


PASSED = """
    log_format l '$request_uri $status';
    lingering_timeout 2s;
    server {
        listen 127.0.0.1:%PORT%;
        client_max_body_size 20m;
        access_log %DIR%/access.log l;
        location / { return 200 "$request_uri"; }
        location /file { alias %DIR%/big; }
        location /early { proxy_pass http://127.0.0.1:UP; proxy_http_version 1.1; proxy_request_buffering off; }
        location /direct {
            proxy_pass http://127.0.0.1:UP/early; proxy_http_version 1.1; proxy_request_buffering off;
            proxy_buffering off;
        }
    }
"""


@pytest.fixture
def passed(serve_nginx):
    with Early() as up:
        site = serve_nginx(PASSED.replace("UP", str(up.port)), files={"big": "x" * 8_000_000})
        site.up = up
        yield site


CHUNK = build("GET", "/smuggled")
BEGINNINGS = [
    ({"Transfer-Encoding": "chunked"}, b"1\r\nx\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(CHUNK), CHUNK)),
    ({"Content-Length": "70000"}, b"x", CHUNK * 2 + b"x" * (69_999 - 2 * len(CHUNK))),
    ({"Content-Length": "250000"}, b"x", CHUNK * 2 + b"x" * (249_999 - 2 * len(CHUNK))),
    ({"Content-Length": "900000"}, b"x", CHUNK * 2 + b"x" * (899_999 - 2 * len(CHUNK))),
]


@pytest.mark.parametrize("path", ["/early", "/direct"])
@pytest.mark.parametrize(("fields", "begin", "rest"), BEGINNINGS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_server_s_early_answer_does_not_wait_for_the_body(passed, path, fields, begin, rest, when):
    """A client that waits for its answer before it sends the rest waited for client_body_timeout."""
    with passed.connect(timeout=10) as client:
        client.send(build("POST", path, fields) + begin)
        answer = client.head()
        assert answer.status == 200
        assert client.chunk() == b"one"
        if when == "before":
            client.send(rest + build("GET", "/behind"))
        passed.up.go.set()
        assert client.chunk() == b"two"
        assert (client.chunk(), client._line()) == (b"", b"")
        if when == "after":
            client.send(rest + build("GET", "/behind"))
        # What is within the body is no request, whatever becomes of the connection.
        if answer.get("Connection") == "close":
            assert client.end() == "eof"
        else:
            assert client.response().text == "/behind"
    wait_until((passed.directory / "access.log").exists, "the log")
    assert "/smuggled" not in (passed.directory / "access.log").read_text()


@pytest.mark.parametrize("fields", [{"Transfer-Encoding": "chunked"}, {"Content-Length": "6000000"}])
def test_a_client_that_sends_much_before_it_reads_gets_a_large_answer(passed, fields):
    with passed.connect(timeout=20) as client:
        body = b"b" * 6_000_000
        if "Transfer-Encoding" in fields:
            body = b"".join(b"ea60\r\n" + body[:60_000] + b"\r\n" for _ in range(100)) + b"0\r\n\r\n"
        client.send(build("GET", "/file", fields) + body + build("GET", "/behind"))
        answer = client.response()
        assert answer.body == b"x" * 8_000_000
        if answer.get("Connection") == "close":
            assert client.end() == "eof"
        else:
            assert client.response().text == "/behind"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_the_server_of_a_client_that_leaves_within_its_body_is_let_go(passed, how):
    client = passed.connect(timeout=10)
    client.send(build("POST", "/direct", {"Transfer-Encoding": "chunked"}) + b"1\r\nx\r\n")
    assert client.head().status == 200
    client.send(b"5\r\nab")
    getattr(client, how)()
    assert passed.up.left.wait(5), "the server is still waited for"


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


LARGE = """
    server {
        listen 127.0.0.1:%PORT%;
        root %DIR%/root;
        client_max_body_size 0;
        location / { }
        location /hop/ { proxy_pass http://127.0.0.1:%PORT%/; proxy_buffering off; }
    }
"""


@pytest.mark.parametrize("more", [b"\r\n", b"GET /next HTTP/1.1\r\nHost: test.example\r\n\r\n"])
@pytest.mark.parametrize(("target", "fields", "length"), [
    ("/large", b"", 300_000),  # too much to keep the connection for
    ("/large", b"Connection: close\r\n", 300_000),
    ("/large", b"Connection: close\r\n", 0),
    ("/hop/large", b"Connection: close\r\n", 300_000),
])
def test_what_comes_late_does_not_cut_the_last_response(serve_nginx, target, fields, length, more):
    """A close with something unread is a reset, which takes along what the client has not got yet."""
    server = serve_nginx(LARGE, files={"root/large": b"x" * 4_000_000})
    with server.connect(receive_buffer=16384, timeout=30) as client:
        client.send(b"GET %s HTTP/1.1\r\nHost: test.example\r\n%sContent-Length: %d\r\n\r\n"
                    % (target.encode(), fields, length) + b"x" * length)
        time.sleep(0.3)
        client.send(more)
        time.sleep(0.3)
        response = client.response()
        assert (response.status, response.body) == (200, b"x" * 4_000_000)
