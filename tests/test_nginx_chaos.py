"""Three servers of a group, each in turn killed, hung, reset, slow or cut off under load: nobody sees an error while
one is healthy, and nothing that is not idempotent runs twice. And answers made to be read in two ways."""

import collections
import socket
import threading
import time

import pytest
from support.client import Broken
from support.server import wait_until
from support.upstream import Upstream, reset, response

CONF = r"""
    error_log %DIR%/error.log info;
    upstream u {{ {servers} keepalive 16; }}
    server {{
        listen 127.0.0.1:%PORT%;
        keepalive_requests 1000000000;
        proxy_http_version 1.1;
        proxy_set_header Connection '';
        proxy_read_timeout {patience};
        proxy_connect_timeout 2s;
        location / {{ proxy_pass http://u; }}
    }}
"""


class Shaky(Upstream):
    """A server with moods."""

    def __init__(self, name, ran, shape):
        self.mood = "well"
        self.ran = ran
        self.shape = shape
        super().__init__(self.by_mood, name=name)

    def by_mood(self, seen, connection):
        mood = self.mood
        with self.lock:
            self.ran[seen.target] += 1
        whole = self.whole(seen)
        if self.shape != "short" and seen.method == "GET" and mood.startswith("half a body"):
            # The client has a part of it before anything goes wrong.
            connection.sendall(whole[:len(whole) // 2])
            time.sleep(0.1)
            whole = whole[len(whole) // 2:]
        if mood == "hung":
            time.sleep(4.5)
            return None
        if mood == "reset":
            return reset(connection)
        if mood == "slow":
            for at in range(0, len(whole), 40):
                connection.sendall(whole[at:at + 40])
                time.sleep(0.02)
            return b""
        if mood == "half a head":
            connection.sendall(whole[:20])
            return None
        if mood == "half a body":
            # The end travels with it.
            connection.sendall(whole[:-30], socket.MSG_MORE)
            return None
        if mood == "half a body, then silence":
            connection.sendall(whole[:-30])
            time.sleep(0.2)
            return None
        if mood == "hung in the body":
            connection.sendall(whole[:-30])
            time.sleep(4.5)
            return None
        return whole

    def whole(self, seen):
        if seen.method != "GET" or self.shape == "short":
            return response(seen.target.encode() * 20)
        body = page(seen.target, self.shape).encode()
        if self.shape == "long":
            return response(body)
        pieces = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:1000], body[1000:]))
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"

    def kill(self):
        """As if the process had been killed: nobody listens, and what was open is reset."""
        self.mood = "killed"
        self.closing = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        self.listener.close()
        with self.lock:
            for connection in list(self.open):
                try:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    connection.shutdown(socket.SHUT_RD)
                    connection.close()
                except OSError:
                    pass

    def revive(self):
        self.mood, self.closing = "well", False
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()


def page(target, shape):
    return target * {"short": 20, "long": 30_000, "in chunks": 1000}[shape]


MOODS = ["killed", "hung", "reset", "slow", "half a head", "half a body", "half a body, then silence",
         "hung in the body"]


@pytest.mark.parametrize("mood, shape", [
    *((mood, "short") for mood in MOODS),
    *((mood, shape) for mood in ("killed", "half a body", "half a body, then silence", "hung in the body")
      for shape in ("long", "in chunks")),
])
def test_no_client_sees_an_error_while_one_is_healthy(serve_nginx, mood, shape):
    ran, wrong, posts = collections.Counter(), [], []
    ups = [Shaky(str(n), ran, shape) for n in range(3)]
    stop, done = threading.Event(), collections.Counter()
    # Those that are well may be slow on a busy machine; only of one that hangs may nobody think so for long.
    site = serve_nginx(CONF.format(
        patience="3s" if mood.startswith("hung") else "15s", servers=" ".join(f"server 127.0.0.1:{up.port} fail_timeout=1s;" for up in ups)))

    def gets(worker):
        with site.connect(timeout=30) as client:
            n = 0
            while not stop.is_set():
                target = f"/get-{worker}-{n}"
                try:
                    answer = client.request("GET", target)
                    if answer.status != 200 or answer.text != page(target, shape):
                        wrong.append((mood, target, answer.status))
                except (Broken, OSError) as error:
                    wrong.append((mood, target, repr(error)))
                    return
                n += 1
            done["get"] += n

    def post(worker):
        n = 0
        while not stop.is_set():
            try:
                with site.connect(timeout=30) as client:
                    while not stop.is_set():
                        n += 1
                        posts.append(client.request("POST", f"/post-{worker}-{n}", body=b"x" * 50).status)
            except (Broken, OSError):
                continue

    threads = [threading.Thread(target=gets, args=(n,)) for n in range(4)] + [threading.Thread(target=post, args=(0,))]
    for thread in threads:
        thread.start()
    try:
        for up in ups:
            if mood == "killed":
                up.kill()
            else:
                up.mood = mood
            time.sleep(1.2)
            if mood == "killed":
                up.revive()
            up.mood = "well"
            # It is asked again before the next one falls ill.
            before = sum(ran.values())
            wait_until(lambda: sum(ran.values()) > before + 20, "requests go on")
            time.sleep(1.2)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
        for up in ups:
            up.close()
    assert wrong == [], (site.directory / "error.log").read_text()[-5000:]
    assert done["get"] > 50, "there was a load"
    assert posts, "and there were some that run once"
    assert max((count for target, count in ran.items() if target.startswith("/post")), default=0) == 1


# Answers that could be read in two ways


SMUGGLED = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"

# What a server says, and whether the client may get an answer with that status before the end.
ODD = {
    "too short a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab" + SMUGGLED, "ab"),
    "too long a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nab", None),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\nab" + SMUGGLED, 502),
    "two lengths in one": (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 9\r\n\r\nab" + SMUGGLED, 502),
    "length and chunks": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 502),
    "chunks twice": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, 502),
    "garbage behind": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab\0\0\0garbage", "ab"),
    "garbage behind chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n" + SMUGGLED, "ab"),
    "a chunk that is none": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabX\r\n0\r\n\r\n", None),
    "a size that is none": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nab\r\n0\r\n\r\n", None),
    "a huge size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nab", None),
    "a flood of 1xx": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 5000 + SMUGGLED, 502),
    "a bomb of a head": (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n", 502),
    "a bomb of fields": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n", 502),
    "a bomb of trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n" + b"X: y\r\n" * 100_000 + b"\r\n", None),
    "no answer": (b"\0" * 100, 502),
    "a body where there is none": (b"HTTP/1.1 204 No Content\r\n\r\n" + SMUGGLED, ""),
    "a body behind 304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n" + SMUGGLED, ""),
    "a tunnel that nobody wanted": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + SMUGGLED, 502),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("pieces", [1, 7])
def test_an_odd_answer_is_nobody_elses(serve_nginx, name, pieces):
    odd, outcome = ODD[name]
    used = {}

    def answer(seen, connection):
        if not seen.target.startswith("/odd"):
            assert used.get(seen.connection) is None, "the connection of an odd answer is used again"
            return response(f"own {seen.target}".encode())
        used[seen.connection] = True
        step = -(-len(odd) // pieces)
        for at in range(0, len(odd), step):
            connection.sendall(odd[at:at + step])
            if pieces > 1:
                time.sleep(0.01)
        if outcome is None and not name.startswith("a bomb"):
            # What is wrong must show in what came, or by the end.
            return None
        return b""

    with Upstream(answer) as up:
        site = serve_nginx(CONF.format(patience="3s", servers=f"server 127.0.0.1:{up.port};"))
        for round_ in range(3):
            with site.connect() as client:
                try:
                    got = client.request("GET", f"/odd{round_}")
                    if isinstance(outcome, int):
                        assert got.status == outcome
                    else:
                        assert outcome is not None, f"{name} was passed on as a whole answer: {got.status} {got.text!r}"
                        assert got.text == outcome
                    same = client.request("GET", f"/same{round_}")
                    # What comes late may meet the next request; it is no answer to it.
                    assert same.text == f"own /same{round_}" or (pieces > 1 and same.status == 502), same.text
                except (Broken, ConnectionResetError):
                    assert outcome is None, "the answer broke off"
            assert site.get(f"/next{round_}").text == f"own /next{round_}"


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_an_early_answer_ends_the_connection(serve_nginx, size):
    """The server answers before it has read the body; what is left of the body is no request of anybody."""

    class Early(Upstream):
        def _body(self, connection, head, data):
            if b" /early" in head.split(b"\r\n")[0]:
                return b"", b""
            return super()._body(connection, head, data)

    def answer(seen, connection):
        if seen.target == "/early":
            connection.sendall(response(b"no", "413 Content Too Large"))
            time.sleep(0.3)
            return None
        return response(f"{seen.method} {seen.target}".encode())

    with Early(answer) as up:
        site = serve_nginx("client_max_body_size 0;" + CONF.format(patience="3s", servers=f"server 127.0.0.1:{up.port};"))
        inner = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        body = inner + b"x" * (size - len(inner))
        for round_ in range(3):
            assert site.request("POST", "/early", body=body).status == 413
            assert site.get(f"/next{round_}").text == f"GET /next{round_}"
        assert not any(seen.target == "/smuggled" for seen in up.seen)
