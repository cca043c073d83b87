"""A server that answers before the request is whole, and goes on reading: both ways go on at once."""

import re
import socket
import ssl
import struct
import threading
import time
from pathlib import Path

import pytest
from support import build
from support.client import Broken
from support.gateway import STDOUT, end, record
from support.grpc import GrpcServer
from support.http2 import DATA, Http2
from support.listening import Listening
from support.server import wait_until
from support.tls import Authority


class Echo(Listening):
    """Answers at the end of the head, then with each piece of the body as it comes."""

    def __init__(self, family="proxy", last=None):
        self.family = family
        # What the body is to contain for the answer to end there.
        self.last = last
        self.ends = []
        super().__init__()

    def serve(self, connection, number):
        with connection.makefile("rb") as stream:
            try:
                while getattr(self, f"_one_of_{self.family}")(stream, connection):
                    pass
            except OSError:
                # While it wrote.
                self.ends.append("cut")

    def _one_of_proxy(self, stream, connection):
        head = b"".join(iter(lambda: stream.readline().strip(b"\r\n") + b"\n", b"\n"))
        if not head:
            return False
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        left = int(length[1]) if length else None
        while left != 0:
            if length:
                data = stream.read1(min(left, 65536))
                left -= len(data)
            else:
                size = stream.readline()
                data = stream.read(int(size or b"0", 16))
                if len(stream.read(2)) < 2:
                    self.ends.append("cut")
                    return False
                if not data:
                    break
            if not data:
                self.ends.append("cut")
                return False
            connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))
            if self.last and self.last in data:
                connection.sendall(b"0\r\n\r\n")
                self.ends.append("enough" if stream.read(1) == b"" else "more")
                return False
        connection.sendall(b"0\r\n\r\n")
        self.ends.append("whole")
        return True

    def _one_of_fastcgi(self, stream, connection):
        answered = False
        while head := stream.read(8):
            _, kind, _, length, padding = struct.unpack(">BBHHBx", head)
            data = stream.read(length + padding)[:length]
            if kind == 4 and not length and not answered:
                answered = True
                connection.sendall(record(STDOUT, b"Content-Type: text/plain\r\n\r\nhello"))
            if kind == 5 and length:
                connection.sendall(record(STDOUT, data))
            if kind == 5 and not length:
                connection.sendall(record(STDOUT) + end())
                self.ends.append("whole")
                return False
        self.ends.append("cut")
        return False


CONF = """
    lingering_timeout 2s;
    log_format l '$request_uri $status $upstream_status';
    upstream up {{ server 127.0.0.1:{up}; keepalive 1; }}
    server {{
        listen 127.0.0.1:%PORT%;
        http2 on;
        client_max_body_size 20m;
        access_log %DIR%/access.log l;
        error_log %DIR%/error.log info;
        location / {{ return 200 "$request_uri"; }}
        location /up {{ {place} }}
    }}
"""
STREAMED = "proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_request_buffering off;"
FASTCGI = "fastcgi_pass up; fastcgi_request_buffering off; fastcgi_param REQUEST_METHOD $request_method;"
PLACES = {
    "buffered": ("proxy", STREAMED),
    "unbuffered": ("proxy", f"{STREAMED} proxy_buffering off;"),
    "paced": ("proxy", f"{STREAMED} limit_rate 10m;"),
    "fastcgi": ("fastcgi", FASTCGI),
}


@pytest.fixture
def site(serve_nginx):
    def start(up, place):
        return serve_nginx(CONF.format(up=up.port, place=place))
    return start


@pytest.fixture(params=PLACES)
def echoing(request, site):
    family, place = PLACES[request.param]
    with Echo(family) as up:
        one = site(up, place)
        one.up, one.family = up, family
        yield one


def take(client, count):
    """So many bytes of a chunked body."""
    data = b""
    while len(data) < count:
        data += client.chunk()
    return data


@pytest.mark.parametrize("known", [True, False])
def test_each_piece_is_answered_before_the_next_is_sent(echoing, known):
    """The server got no more of the body once it had answered."""
    pieces = [b"one", b"two" * 10_000, b"three"]
    length = sum(map(len, pieces))
    fields = {"Content-Length": str(length)} if known else {"Transfer-Encoding": "chunked"}
    with echoing.connect(timeout=10) as client:
        for turn in range(2):
            client.send(build("POST", "/up", fields))
            for at, piece in enumerate(pieces):
                client.send(piece if known else b"%x\r\n%s\r\n" % (len(piece), piece))
                if at == 0:
                    head = client.head()
                    assert (head.status, take(client, 5)) == (200, b"hello")
                assert take(client, len(piece)) == piece
            if not known:
                client.send(b"0\r\n\r\n")
            assert (client.chunk(), client._line()) == (b"", b"")
            wait_until(lambda: len(echoing.up.ends) > turn, "the server's end")
            assert echoing.up.ends == ["whole"] * (turn + 1)
        assert client.request(target="/behind").text == "/behind"
    assert echoing.up.connections == (1 if echoing.family == "proxy" else 2), "what was answered whole was not reused"


@pytest.mark.parametrize("known", [True, False])
def test_what_follows_the_body_at_once_is_the_next_request(echoing, known):
    hidden = build("GET", "/hidden")
    body = hidden if known else b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
    fields = {"Content-Length": str(len(hidden) + 1)} if known else {"Transfer-Encoding": "chunked"}
    with echoing.connect(timeout=10) as client:
        client.send(build("POST", "/up", fields) + (b"x" if known else b"1\r\nx\r\n"))
        assert client.head().status == 200
        client.send(body + build("GET", "/behind"))
        got = take(client, 5 + 1 + len(hidden))
        assert (got, client.chunk(), client._line()) == (b"hellox" + hidden, b"", b"")
        assert client.response().text == "/behind"
    wait_until((echoing.directory / "access.log").exists, "the log")
    assert "/hidden" not in (echoing.directory / "access.log").read_text()


def test_a_client_of_http2_has_the_same(echoing):
    with Http2(("127.0.0.1", echoing.port)) as client:
        def until(wanted):
            while not got.endswith(wanted):
                got.extend(client.until(lambda one: one.kind == DATA).payload)

        got = bytearray()
        client.request(1, "/up", "POST", end=False)
        client.data(1, b"one")
        until(b"helloone")
        client.data(1, b"two", end=True)
        until(b"two")
        assert (bytes(got), client.answer(1).body) == (b"helloonetwo", b"")


def test_more_than_lies_between_goes_both_ways(echoing):
    body = bytes(n * n % 251 for n in range(3_000_000))
    with echoing.connect(timeout=20) as client:
        client.send(build("POST", "/up", {"Content-Length": str(len(body))}) + body[:1])
        assert client.head().status == 200
        sending = threading.Thread(target=client.send, args=(body[1:],))
        sending.start()
        assert take(client, 5 + len(body)) == b"hello" + body
        sending.join()
        assert (client.chunk(), client._line()) == (b"", b"")
        assert client.request(target="/behind").text == "/behind"


def test_a_client_that_sends_all_before_it_reads_is_read(site):
    """With buffering, the answer waits in a file: nobody waits for anybody."""
    body = b"b" * 10_000_000
    with Echo() as up:
        one = site(up, STREAMED)
        with one.connect(timeout=20) as client:
            client.send(build("POST", "/up", {"Content-Length": str(len(body))}) + body)
            assert client.response().body == b"hello" + body


@pytest.mark.parametrize("how", ["close", "reset", "malformed", "short"])
def test_half_a_request_is_none(echoing, how):
    with echoing.connect(timeout=10) as client:
        client.send(build("POST", "/up", {"Transfer-Encoding": "chunked"}) + b"1\r\nx\r\n")
        head = client.head()
        assert take(client, 6) == b"hellox"
        client.send(b"5\r\nab" if how != "malformed" else b"zz\r\n")
        if how in ("close", "reset"):
            getattr(client, how)()
        else:
            if how == "short":
                client.half_close()
            with pytest.raises((Broken, ConnectionError)):
                client.body(head)
    wait_until(lambda: echoing.up.ends, "the server's end")
    assert echoing.up.ends == ["cut"]


def test_what_the_server_wants_no_more_of_is_thrown_away(site):
    with Echo(last=b"stop") as up:
        one = site(up, STREAMED)
        with one.connect(timeout=10) as client:
            client.send(build("POST", "/up", {"Content-Length": "200004"}) + b"x")
            assert client.head().status == 200
            assert take(client, 6) == b"hellox"
            client.send(b"stop")
            assert take(client, 4) == b"stop"
            assert (client.chunk(), client._line()) == (b"", b"")
            wait_until(lambda: up.ends, "the server's end")
            client.send(build("GET", "/hidden") + b"y" * (199_999 - len(build("GET", "/hidden"))))
            client.send(build("GET", "/behind"))
            assert client.response().text == "/behind"
            assert client.request("POST", "/up", {"Content-Length": "4"}, body=b"stop").body == b"hellostop"
        assert up.connections == 2, "on the first the request has no end"


@pytest.mark.parametrize("place", [
    "grpc_pass up;",
    "proxy_pass http://up; proxy_http_version 2; proxy_request_buffering off;",
])
def test_a_server_of_http2_answers_a_client_of_http1_piece_by_piece(site, place):
    """Its answer was held back until it was whole, or a time-out had passed."""
    def echo(call, event):
        if event == "head":
            call.answer(200, [("content-type", "text/plain")])
            call.data(b"hello")
        elif event == "data":
            call.data(call.body[-call.pieces[-1]:])
        else:
            call.data(b"bye", end=True)

    with GrpcServer(echo) as up:
        one = site(up, place)
        with one.connect(timeout=10) as client:
            for _ in range(2):
                client.send(build("POST", "/up", {"Transfer-Encoding": "chunked"}) + b"1\r\nx\r\n")
                assert client.head().status == 200
                assert take(client, 6) == b"hellox"
                client.send(b"3\r\ntwo\r\n")
                assert take(client, 3) == b"two"
                client.send(b"0\r\n\r\n")
                assert take(client, 3) == b"bye"
                assert (client.chunk(), client._line()) == (b"", b"")
            assert client.request(target="/behind").text == "/behind"
        assert up.connections == 1


class Late(Listening):
    """Reads of a request no more than its head until it is told to, and perhaps answers before."""

    def __init__(self, context, answer):
        self.answer = answer
        self.may_read = threading.Event()
        self.taken = 0
        self.has_ended = False
        super().__init__(context=context)

    def serve(self, connection, number):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        connection.sendall(self.answer)
        # What came in one record with the head is no longer the system's.
        while connection.pending():
            self.taken += len(connection.recv(connection.pending()))
        self.may_read.wait(20)
        while data := connection.recv(65536):
            self.taken += len(data)
        self.has_ended = True

    def on_the_way(self):
        """Bytes that the systems of both sides hold."""
        port, held = f":{self.port:04X}", 0
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, state, queues = line.split()[:5]
            if state == "01" and port in (local[8:], remote[8:]):
                sent, received = queues.split(":")
                held += int(received if local.endswith(port) else sent, 16)
        return held

    def fill(self, send):
        """Calls `send(piece)` until the system does not take a whole one any more. Returns how many bytes that were."""
        # Each is a record, which adds 22 bytes.
        count, piece, before = 0, b"x" * 16_000, self.taken + self.on_the_way()
        while True:
            send(piece)
            count += len(piece)
            for _ in range(100):
                time.sleep(0.01)
                if self.taken + self.on_the_way() >= before + count // len(piece) * (len(piece) + 22):
                    break
            else:
                return count


@pytest.fixture
def secured(tmp_path):
    own = Authority().issue("up.example")
    (tmp_path / "up.pem").write_bytes(own.chain + own.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "up.pem")
    return context


TLS = "proxy_pass https://up; proxy_http_version 1.1; proxy_request_buffering off; "
EARLY = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


@pytest.mark.parametrize("answer", [EARLY, b""], ids=["answered", "unanswered"])
def test_what_the_client_has_sent_leaves_in_tls_though_it_sends_nothing_more(site, secured, answer):
    """What was encrypted and not taken by the socket at once waited for the next piece."""
    with Late(secured, answer) as up:
        one = site(up, TLS + "proxy_set_header Connection '';")
        with one.connect(timeout=20) as client:
            client.send(build("POST", "/up", {"Content-Length": "20000000"}) + b"x")
            if answer:
                assert client.head().status == 200
            wait_until(lambda: up.taken + up.on_the_way() >= 1, "the first byte")
            time.sleep(0.1)
            sent = 1 + up.fill(client.send)
            up.may_read.set()
            wait_until(lambda: up.taken >= sent, "all to arrive")
            assert up.taken == sent


def test_what_the_client_of_a_tunnel_has_sent_leaves_in_tls_before_it_ends(site, secured):
    """What was encrypted and not taken by the socket at once was thrown away."""
    with Late(secured, b"HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n") as up:
        one = site(up, TLS + "proxy_set_header Connection upgrade; proxy_set_header Upgrade x;")
        with one.connect(timeout=20) as client:
            client.send(build("GET", "/up", {"Connection": "upgrade", "Upgrade": "x"}))
            assert client.head().status == 101
            sent = up.fill(client.send)
            client.half_close()
            # Longer than it takes to hear of that.
            time.sleep(0.5)
            up.may_read.set()
            wait_until(lambda: up.has_ended or up.taken == sent, "all to arrive")
        assert up.taken == sent


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("known", [True, False])
def test_a_page_of_error_page_is_asked_for_without_the_body_that_was_passed_on(serve_nginx, known, method):
    site = serve_nginx("""
        proxy_http_version 1.1;
        server {
            listen 127.0.0.1:%PORT%;
            proxy_intercept_errors on;
            location / { proxy_request_buffering off; proxy_pass http://127.0.0.1:%PORT1%/; error_page 502 = /page; }
            location /named { proxy_request_buffering off; proxy_pass http://127.0.0.1:%PORT1%/; error_page 502 = @page; }
            location /page { proxy_pass http://127.0.0.1:%PORT1%; }
            location @page { proxy_pass http://127.0.0.1:%PORT1%; }
        }
        server {
            listen 127.0.0.1:%PORT1%;
            location / { return 502; }
            location /page { return 200 "$request_method $content_length"; }
        }
    """)
    framing = ("Content-Length", "8") if known else ("Transfer-Encoding", "chunked")
    pieces = (b"SEE-", b"THIS") if known else (b"4\r\nSEE-\r\n", b"4\r\nTHIS\r\n0\r\n\r\n")
    with site.connect() as client:
        client.send(build(method, "/x", [framing]) + pieces[0])
        answer = client.response(method)
        assert (answer.status, answer.text) == (200, "GET 0")
        client.send(pieces[1] + build("GET", "/page"))
        assert client.response("GET").text == "GET "
    with site.connect() as client:
        client.send(build(method, "/named", [framing]) + pieces[0])
        assert client.response(method).status == 500, "what keeps the method needs the body"
