"""What a request that ends abnormally leaves behind: nothing that another one could see. Many clients ask at once for
bodies that can be told from each other, half of them leave in the middle, and so do the servers behind; who stays gets
exactly what he asked for, and in the end nothing is held any more."""

import gzip
import inspect
import random
import re
import ssl
import threading
import time
import zlib

import brotli
import pytest
import zstandard
from support import build, wait_until
from support.client import Broken, Client
from support.tls import Authority, TlsClient, context
from support.upstream import Upstream, reset, response

TYPE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"


def text(key, length):
    """Each line names whose it is."""
    rng = random.Random(key)
    lines, size = [], 0
    while size < length:
        line = f"{key}: {' '.join(rng.choice(['some', 'few', 'words', 'old']) for _ in range(rng.randrange(12)))}\n"
        if rng.random() < 0.3:
            line = f"{key}: {rng.getrandbits(200):x}\n"
        lines.append(line)
        size += len(line)
    return "".join(lines).encode()[:length]


class Moody(Upstream):
    """`/PLACE/KEY-LENGTH-MOOD`: the body follows from the path."""

    def __init__(self):
        super().__init__(self.by_mood)

    def by_mood(self, seen, connection):
        _, place, name = seen.target.split("?")[0].split("/")
        key, length, mood = name.split("-")
        body = text(key, int(length))
        more = b""
        if place == "ssi":
            more = b'<!--# include virtual="/px/%s-%s-chunks" -->' % (key.encode(), length.encode())
        if place == "gunzip":
            body, more = gzip.compress(body, 1), b""
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", seen.get("Range", ""))
        if place == "slice" and span:
            start, end = int(span[1]), min(int(span[2]), len(body) - 1)
            head = (b"HTTP/1.1 206 Partial Content\r\nContent-Type: text/html\r\nETag: \"%s\"\r\n"
                    b"Content-Range: bytes %d-%d/%d\r\n" % (key.encode(), start, end, len(body)))
            body = body[start:end + 1]
        else:
            head = TYPE + (b"Content-Encoding: gzip\r\n" if place == "gunzip" else b"")
        body += more
        half = body[:len(body) // 2]
        if mood in ("chunks", "halfchunks"):
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for piece in filter(None, [half, body[len(half):]] if mood == "chunks" else [half]):
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                time.sleep(0.002)
            return b"0\r\n\r\n" if mood == "chunks" else None
        whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        if mood == "whole":
            return whole
        if mood == "rubbish":
            # Behind the answer, in the same piece.
            connection.sendall(whole + response(b"this is nobody's"))
            return None
        if mood == "slow":
            for at in range(0, len(whole), 20_000):
                connection.sendall(whole[at:at + 20_000])
                time.sleep(0.005)
            return b""
        if mood == "nohead":
            return None
        connection.sendall(whole[:len(whole) - len(body) + len(half)])
        return reset(connection) if mood == "reset" else None


GOOD = ["whole", "chunks", "slow", "rubbish"]
MOODS = [*GOOD, *GOOD, "cut", "halfchunks", "reset", "nohead"]
LEVELS = [f"gz{level}" for level in (1, 1, 2, 6, 9)]
PLACES = [*LEVELS, *LEVELS, "br", "zstd", "px", "two", "direct", "sub", "ssi", "around", "gunzip", "cache", "slice", "few",
          "auth", "mirror", "app", "appgz"]

APP = """
import hashlib
from bodies import text

def application(environ, start_response):
    key, length, mood = environ["PATH_INFO"].rsplit("/", 1)[1].split("-")
    body = text(key, int(length))
    read = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/html"), ("X-Sum", hashlib.sha256(read).hexdigest())])
    def pieces():
        yield body[:len(body) // 2]
        if mood not in ("whole", "chunks", "slow", "rubbish"):
            raise ValueError("half a page")
        yield body[len(body) // 2:]
    return pieces()
"""

CONF = r"""
    upstream u {{ server 127.0.0.1:{port} max_fails=0; keepalive 8; }}
    upstream two {{ server 127.0.0.1:{port} max_fails=0; server 127.0.0.1:{other} max_fails=0; keepalive 8; }}
    limit_conn_zone $server_name zone=few:1m;
    proxy_cache_path %DIR%/cache keys_zone=c:1m;
    client_body_temp_path %DIR%/of-requests;
    proxy_temp_path %DIR%/of-responses;
    proxy_http_version 1.1;
    proxy_set_header Connection '';
    proxy_buffers 4 8k;
    proxy_busy_buffers_size 16k;
    client_body_buffer_size 8k;
    gzip_min_length 1; gzip_proxied any;
    app one {{ wsgi app:application; directory %DIR%; workers 1; }}
    server {{
        listen 127.0.0.1:%PORT%;
        {levels}
        location /br/ {{ brotli on; brotli_min_length 1; proxy_pass http://u; }}
        location /zstd/ {{ zstd on; zstd_min_length 1; proxy_pass http://u; }}
        location /px/ {{ proxy_pass http://u; }}
        location /two/ {{ proxy_pass http://two; }}
        location /direct/ {{ proxy_buffering off; proxy_request_buffering off; proxy_pass http://u; }}
        location /sub/ {{ gzip on; gzip_comp_level 1; sub_filter few many; sub_filter_once off; proxy_pass http://u; }}
        location /ssi/ {{ ssi on; gzip on; gzip_comp_level 1; proxy_pass http://u; }}
        location /around/ {{ add_before_body /before; add_after_body /after; proxy_pass http://u; }}
        location /before {{ return 200 "before"; }}
        location /after {{ return 200 "after"; }}
        location /gunzip/ {{ gunzip on; proxy_pass http://u; }}
        location /cache/ {{ proxy_cache c; proxy_cache_valid 200 1s; proxy_cache_lock on; proxy_pass http://u; }}
        location /slice/ {{
            slice 8k; proxy_set_header Range $slice_range; proxy_cache c; proxy_cache_key $uri$slice_range;
            proxy_cache_valid 206 1s; proxy_cache_lock on; proxy_pass http://u;
        }}
        location /few/ {{ limit_conn few 4; proxy_pass http://u; }}
        location /auth/ {{ auth_request /ask; proxy_pass http://u; }}
        location = /ask {{ proxy_pass http://u/px/ask-10-whole; proxy_pass_request_body off; proxy_set_header Content-Length ""; }}
        location /mirror/ {{ mirror /copy; proxy_pass http://u; }}
        location = /copy {{ internal; proxy_pass http://u/px/copy-10-whole; }}
        location /app/ {{ app_pass one; }}
        location /appgz/ {{ gzip on; gzip_comp_level 1; app_pass one; }}
        location = /status {{ stub_status; }}
    }}
"""


class Ask:
    def __init__(self, rng):
        self.place = rng.choice(PLACES)
        self.key = f"k{rng.getrandbits(40):010x}"
        self.length = rng.choice([1, 500, 3000, 20_000, 60_000, 150_000])
        self.mood = rng.choice(MOODS)
        if self.place in ("cache", "slice"):
            number = rng.randrange(6)
            self.key, self.length = f"kept{number}", 3000 + 9000 * number
        self.target = f"/{self.place}/{self.key}-{self.length}-{self.mood}"
        self.coding = rng.choice(["gzip", "gzip", "br", "zstd", None])
        self.body = text(self.key, rng.choice([10, 30_000])) if rng.random() < 0.2 else None
        if self.place in ("cache", "slice"):
            self.body = None

    def build(self):
        fields = [("Accept-Encoding", self.coding)] if self.coding and self.place != "gunzip" else []
        return build("POST" if self.body else "GET", self.target, fields, self.body)

    def expected(self):
        body = text(self.key, self.length)
        if self.place == "sub":
            body = body.replace(b"few", b"many")
        if self.place == "ssi":
            body += body
        if self.place == "around":
            body = b"before" + body + b"after"
        return body

    def verdict(self, got):
        """What is wrong with a response that came as a whole."""
        if self.mood not in GOOD:
            is_whole = got.status == 200 and decoded(got) == self.expected()
            return None if got.status in (500, 502) or is_whole else f"{got.status} for what broke off"
        if self.place == "few" and got.status == 503:
            return None
        if got.status != 200:
            return f"{got.status}"
        body = decoded(got)
        if body != self.expected():
            others = set(re.findall(rb"k[0-9a-f]{10}", body)) - {self.key.encode()}
            return f"{len(body)} bytes, not {len(self.expected())}; others' lines: {others}"
        return None


def decoded(got):
    coding, body = got.get("Content-Encoding"), got.body
    if coding == "gzip":
        engine = zlib.decompressobj(31)
        body = engine.decompress(body)
        assert engine.eof and not engine.unused_data, "an end in the middle"
    elif coding == "br":
        body = brotli.decompress(body)
    elif coding == "zstd":
        body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return body


def one(address, rng, wrong):
    """A connection with some requests, of which one may be left in the middle."""
    with Client(address, timeout=20, receive_buffer=rng.choice([None, 4096])) as client:
        for _ in range(rng.randrange(1, 5)):
            ask = Ask(rng)
            leaves = rng.choice(["in the request", "at once", "in the response", "in the response", *[None] * 4])
            data = ask.build()
            if leaves == "in the request":
                client.send(data[:rng.randrange(len(data))])
            else:
                client.send(data)
            if leaves == "in the response":
                client.socket.recv(rng.choice([1, 1000, 30_000]))
            if leaves:
                if rng.random() < 0.5:
                    client.reset()
                return
            try:
                got = client.response("POST" if ask.body else "GET")
                said = ask.verdict(got)
            except (Broken, OSError) as error:
                if ask.mood in GOOD:
                    wrong.append(f"{ask.target} ({ask.coding}): {error!r}")
                return
            except (zlib.error, brotli.error, zstandard.ZstdError, AssertionError) as error:
                said = f"does not decompress: {error!r}"
            if said:
                wrong.append(f"{ask.target} ({ask.coding}, body of {len(ask.body or b'')}): {said}")
            if got.get("Connection") == "close":
                return


def crowd(address, seed, clients, connections):
    wrong = []

    def client(number):
        rng = random.Random(f"{seed} {number}")
        for _ in range(connections):
            try:
                one(address, rng, wrong)
            except OSError as error:
                wrong.append(repr(error))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def active(server):
    with server.connect() as client:
        return int(re.search(r"Active connections: (\d+)", client.request("GET", "/status").text)[1])


def test_who_leaves_in_the_middle_leaves_nothing_to_the_next(serve_nginx):
    with Moody() as upstream, Moody() as other:
        levels = "\n".join(f"location /gz{level}/ {{ gzip on; gzip_comp_level {level}; proxy_pass http://u; }}"
                           for level in (1, 2, 6, 9))
        conf = CONF.format(port=upstream.port, other=other.port, levels=levels)
        # What bodies are made of is the same code.
        bodies = "import random\n\n" + inspect.getsource(text)
        server = serve_nginx(conf, python=True, files={"app.py": APP, "bodies.py": bodies})
        wrong = crowd(("127.0.0.1", server.port), "carry", clients=8, connections=40)
        assert not wrong, "\n".join(wrong[:20])
        wait_until(lambda: active(server) == 1, "the end of all connections", 20)

        # As many as may are let in again.
        def all_are_let_in():
            clients = [server.connect() for _ in range(4)]
            for number, client in enumerate(clients):
                client.send(build("GET", f"/few/after{number}-150000-whole"))
            statuses = [client.response("GET").status for client in clients]
            for client in clients:
                client.close()
            return statuses == [200] * 4

        wait_until(all_are_let_in, "room in limit_conn", 20)
        for name in ("of-requests", "of-responses"):
            assert not [path for path in (server.directory / name).rglob("*") if path.is_file()]
        unfinished = [path for path in (server.directory / "cache").rglob("*")
                      if path.is_file() and not re.fullmatch("[0-9a-f]{32}", path.name)]
        assert not unfinished


AUTHORITY = Authority()
CERTIFICATE = AUTHORITY.issue("a.example")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_page_that_breaks_off_does_not_take_the_one_before_with_it(serve_nginx, tls):
    """A reset throws away what has not reached the client, and so it took the rest of whole pages that a client had not
    read yet when a later one of the same connection broke off. nginx ends such a connection in order."""
    page = text("page", 200_000)

    def answer(seen, connection):
        if seen.target == "/whole":
            return TYPE + b"Content-Length: %d\r\n\r\n" % len(page) + page
        connection.sendall(TYPE + b"Content-Length: 1000\r\n\r\nhalf a page")
        return None

    with Upstream(answer) as upstream:
        server = serve_nginx(f"""
            error_log stderr info;
            ssl_certificate a.pem;
            ssl_certificate_key a.key;
            server {{
                listen 127.0.0.1:%PORT%;
                listen 127.0.0.1:%PORT1% ssl;
                location / {{ proxy_pass http://127.0.0.1:{upstream.port}; }}
            }}
        """, files={"a.pem": CERTIFICATE.chain, "a.key": CERTIFICATE.key})
        port = server.ports["%PORT1%" if tls else "%PORT%"]
        if tls:
            client = TlsClient(("127.0.0.1", port), context(AUTHORITY), receive_buffer=4096)
        else:
            client = Client(("127.0.0.1", port), receive_buffer=4096)
        with client:
            # In one piece: what a client sends to a socket that is closed is answered with a reset.
            client.send(build("GET", "/whole") + build("GET", "/half"))
            server.wait_log("prematurely closed connection while reading upstream")
            wait_until(lambda: not is_open(port, client.socket.getsockname()[1]), "the close", 20)
            assert client.response("GET").body == page
            head = client.head()
            assert head.get("Content-Length") == "1000"
            # By TLS without a farewell: something is missing.
            with pytest.raises(ssl.SSLEOFError if tls else Broken):
                client.body(head)
            assert client.buffer == b""


def is_open(port, client):
    """Whether the server's side of a connection belongs to somebody still."""
    here, there = f":{port:04X}", f":{client:04X}"
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    # 01: established, 08: the other side has closed.
    return any(row[1].endswith(here) and row[2].endswith(there) and row[3] in ("01", "08") for row in rows)
