"""Our own clients, run as a process: one thread, epoll, loopback only.

`steady`  keep-alive GETs; counts each that fails; latencies. With --pace, one request every so many
          seconds on each connection, else the next as soon as the last is answered.
`idle`    opens connections, one GET on each, and keeps them.
`slow`    three kinds of clients that take their time: a header, a body and an answer, byte by byte.
`tls-full`, `tls-resumed`  a handshake and a request on each connection, one after the other.
`tls-idle`  as `idle`, by TLS.

Each prints one JSON line when it is set up and a report when its standard input ends.
"""

import argparse
import collections
import errno
import json
import select
import socket
import ssl
import sys
import time

HOST = "127.0.0.1"
AGAIN = (BlockingIOError, InterruptedError)


def say(**words):
    print(json.dumps(words), flush=True)


def connect(port, receive_buffer=None):
    client = socket.socket()
    try:
        if receive_buffer:
            # Before connect: the window that the handshake announces depends on it.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(10)
        client.connect((HOST, port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
    except OSError:
        client.close()
        raise
    return client


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


class Answer:
    """Reads one response with a Content-Length, as far as it has come."""

    def __init__(self):
        self.data = b""
        self.end = None
        self.close = False
        self.status = b""

    def feed(self, data):
        """True when the answer is whole. ValueError when it cannot be one."""
        self.data += data
        if self.end is None:
            head, found, _ = self.data.partition(b"\r\n\r\n")
            if not found:
                return False
            lines = head.lower().split(b"\r\n")
            self.status = lines[0].split(b" ")[1]
            fields = dict(line.split(b":", 1) for line in lines[1:])
            self.end = len(head) + 4 + int(fields[b"content-length"])
            self.close = b"close" in fields.get(b"connection", b"")
        if len(self.data) > self.end:
            raise ValueError("more bytes than announced")
        return len(self.data) == self.end


class Steady:
    """Keep-alive connections that each ask again and again."""

    def __init__(self, options):
        self.port = options.port
        self.request = get(options.path)
        self.pace = options.pace
        self.patience = options.patience
        self.failures = collections.Counter()
        self.examples = []
        self.latencies = []
        self.sent = 0
        self.epoll = select.epoll()
        self.open = {}
        self.slots = [Slot(number / options.connections * self.pace) for number in range(options.connections)]

    def run(self, watch):
        """Until `watch`, a readable descriptor, says stop."""
        self.epoll.register(watch, select.EPOLLIN)
        begin = time.perf_counter()
        for slot in self.slots:
            slot.due += begin
        stopping = False
        while True:
            now = time.perf_counter()
            for slot in self.slots:
                if slot.answer is None:
                    if not stopping and slot.due <= now:
                        self.ask(slot)
                elif now - slot.asked > self.patience:
                    self.fail(slot, "no answer in time")
            if stopping and all(slot.answer is None for slot in self.slots):
                break
            waiting = [slot.due for slot in self.slots if slot.answer is None]
            pause = 0.1 if stopping or not waiting else max(0, min(0.1, min(waiting) - time.perf_counter()))
            for descriptor, _ in self.epoll.poll(pause):
                if descriptor == watch:
                    stopping = True
                    self.epoll.unregister(watch)
                elif slot := self.open.get(descriptor):
                    self.read(slot)
        for slot in self.slots:
            self.hang_up(slot)
        self.latencies.sort()
        say(
            requests=self.sent,
            failed=sum(self.failures.values()),
            failures=dict(self.failures),
            examples=self.examples,
            seconds=time.perf_counter() - begin,
            p50=self.percentile(50),
            p99=self.percentile(99),
            worst=self.percentile(100),
        )

    def percentile(self, percent):
        """Microseconds; None when nothing was answered."""
        if not self.latencies:
            return None
        return self.latencies[min(len(self.latencies) - 1, len(self.latencies) * percent // 100)] * 1e6

    def ask(self, slot):
        """Sends the next request, on a new connection where the last was closed between requests."""
        # A request that was due while the last one was still out has waited since then. One that we
        # ourselves came late to has not: that would measure this program.
        late = slot.answered is not None and slot.due < slot.answered
        slot.asked = slot.due if self.pace and late else time.perf_counter()
        if slot.socket is not None and self.closed(slot.socket):
            self.hang_up(slot)
        self.sent += 1
        slot.answer = Answer()
        try:
            if slot.socket is None:
                slot.socket = connect(self.port)
                self.open[slot.socket.fileno()] = slot
                self.epoll.register(slot.socket, select.EPOLLIN)
            slot.socket.sendall(self.request)
        except OSError as error:
            self.fail(slot, errno.errorcode.get(error.errno, str(error)))

    @staticmethod
    def closed(client):
        try:
            return client.recv(1, socket.MSG_PEEK) == b""
        except AGAIN:
            return False
        except OSError:
            return True

    def read(self, slot):
        if slot.answer is None:
            return self.hang_up(slot)  # the end of an idle connection: nobody's request was on it
        try:
            data = slot.socket.recv(1 << 16)
        except AGAIN:
            return None
        except OSError as error:
            return self.fail(slot, errno.errorcode.get(error.errno, str(error)))
        if not data:
            return self.fail(slot, "closed before the answer" if not slot.answer.data else "closed within the answer")
        try:
            whole = slot.answer.feed(data)
        except (ValueError, KeyError, IndexError):
            return self.fail(slot, "broken answer")
        if not whole:
            return None
        if slot.answer.status != b"200":
            return self.fail(slot, slot.answer.status.decode())
        self.latencies.append(time.perf_counter() - slot.asked)
        return self.next(slot, hang_up=slot.answer.close)

    def fail(self, slot, reason):
        self.failures[reason] += 1
        if len(self.examples) < 5:
            self.examples.append([round(time.perf_counter(), 3), reason, slot.answer.data[:200].decode("latin-1")])
        self.next(slot, hang_up=True)
        # Where everything fails at once, trying as fast as one can only counts the same fault again.
        slot.due = max(slot.due, time.perf_counter() + 0.01)

    def next(self, slot, hang_up):
        slot.answer = None
        slot.answered = time.perf_counter()
        slot.due = slot.due + self.pace if self.pace else slot.answered
        if hang_up:
            self.hang_up(slot)

    def hang_up(self, slot):
        if slot.socket is not None:
            del self.open[slot.socket.fileno()]
            slot.socket.close()
            slot.socket = None


class Slot:
    """One connection of Steady, through all its sockets."""

    def __init__(self, due):
        self.due = due
        self.socket = None
        self.answer = None
        self.asked = 0.0
        self.answered = None


def idle(options, watch):
    """Opens all connections with one request on each, then only holds them."""
    request = get(options.path)
    held = []
    for _ in range(options.connections):
        client = connect(options.port)
        client.setblocking(True)
        client.sendall(request)
        answer = Answer()
        while not answer.feed(client.recv(1 << 16) or b"\r\n\r\n"):
            pass
        if answer.status != b"200" or answer.close:
            raise SystemExit(f"connection {len(held)}: {answer.data[:200]!r}")
        client.setblocking(False)
        held.append(client)
    say(open=len(held))
    select.select([watch], [], [])
    say(open=sum(not Steady.closed(client) for client in held))


def encrypting():
    """How this client speaks TLS: 1.3, with a key share of X25519, whoever the server is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def handshakes(options, watch, resume):
    """One connection after another with one request each; with `resume` by the last one's ticket."""
    context = encrypting()
    request = f"GET {options.path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
    count = errors = size = 0
    session = None
    begin = time.perf_counter()
    while not select.select([watch], [], [], 0)[0]:
        try:
            with socket.create_connection((HOST, options.port), timeout=10) as plain:
                with context.wrap_socket(plain, session=session if resume else None) as client:
                    client.sendall(request)
                    answer = b"".join(iter(lambda: client.recv(1 << 14), b""))
                    good = answer.startswith(b"HTTP/1.1 204 ") and (not session or client.session_reused == resume)
                    session = client.session if resume else None
        except OSError:
            good, answer = False, b""
        count += good
        errors += not good
        size += len(answer)
    say(requests=count, bytes=size, seconds=time.perf_counter() - begin, p50=0, p99=0, errors=errors)


def idle_by_tls(options, watch):
    """As `idle`, by TLS."""
    context = encrypting()
    held = []
    for _ in range(options.connections):
        client = context.wrap_socket(socket.create_connection((HOST, options.port), timeout=30))
        client.sendall(get(options.path))
        answer = Answer()
        while not answer.feed(client.recv(1 << 16) or b"\r\n\r\n"):
            pass
        if answer.status != b"200" or answer.close:
            raise SystemExit(f"connection {len(held)}: {answer.data[:200]!r}")
        client.setblocking(False)
        held.append(client)
    say(open=len(held))
    select.select([watch], [], [])
    say(open=sum(not closed_by_tls(client) for client in held))


def closed_by_tls(client):
    try:
        return client.recv(1) == b""
    except ssl.SSLWantReadError:
        return False
    except OSError:
        return True


class Slow:
    """Clients that send or take a little every second, spread evenly over it."""

    SLICES = 100
    BODY = 100_000

    def __init__(self, options):
        self.port = options.port
        self.path = options.path
        self.each = options.connections
        self.counts = collections.Counter()

    def run(self, watch):
        kinds = [self.header, self.body, self.reader]
        clients = [SlowClient(kinds[number % 3]) for number in range(3 * self.each)]
        for client in clients:
            self.begin(client)
        say(open=sum(client.socket is not None for client in clients))
        slices = [clients[number :: self.SLICES] for number in range(self.SLICES)]
        tick = 0
        begin = time.monotonic()
        while True:
            rest = begin + tick / self.SLICES - time.monotonic()
            if select.select([watch], [], [], max(0, rest))[0]:
                break
            for client in slices[tick % self.SLICES]:
                self.step(client)
            tick += 1
        opened = sum(client.socket is not None for client in clients)
        # How far the pace fell behind: above 1 s this program, not the server, was the slow one.
        say(open=opened, behind=max(0, time.monotonic() - begin - tick / self.SLICES), **self.counts)

    def begin(self, client):
        try:
            client.socket = connect(self.port, 4096 if client.kind == self.reader else None)
            client.kind(client, first=True)
        except OSError as error:
            self.lost(client, error)

    def step(self, client):
        if client.socket is None:
            return self.begin(client)
        try:
            client.kind(client, first=False)
        except AGAIN:
            self.counts["would_block"] += 1
        except OSError as error:
            self.lost(client, error)
        return None

    def lost(self, client, error):
        """The server closed: that is its right against such clients. Another one takes its place."""
        name = client.kind.__name__
        self.counts[f"{name}_{errno.errorcode.get(error.errno, 'closed')}"] += 1
        if client.socket is not None:
            client.socket.close()
            client.socket = None

    def header(self, client, first):
        client.socket.send(f"GET {self.path} HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: ".encode() if first else b"a")

    def body(self, client, first):
        head = f"POST /slow HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {self.BODY}\r\n\r\n"
        client.socket.send(head.encode() if first else b"b")

    def reader(self, client, first):
        if first:
            client.socket.send(get("/big"))
        elif not client.socket.recv(512):
            raise ConnectionResetError(errno.ECONNRESET, "closed")


class SlowClient:
    """One of the slow ones; `kind` is the method of Slow that takes its next step."""

    def __init__(self, kind):
        self.kind = kind
        self.socket = None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["steady", "idle", "slow", "tls-full", "tls-resumed", "tls-idle"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/")
    parser.add_argument("--connections", type=int, default=8, help="of each kind")
    parser.add_argument("--pace", type=float, default=0, help="seconds between requests of one connection")
    parser.add_argument("--patience", type=float, default=30, help="seconds after which a request has failed")
    options = parser.parse_args()
    watch = sys.stdin.fileno()
    if options.kind == "idle":
        idle(options, watch)
    elif options.kind == "tls-idle":
        idle_by_tls(options, watch)
    elif options.kind.startswith("tls-"):
        handshakes(options, watch, resume=options.kind == "tls-resumed")
    elif options.kind == "slow":
        Slow(options).run(watch)
    else:
        Steady(options).run(watch)


if __name__ == "__main__":
    main()
