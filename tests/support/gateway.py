"""Servers behind the one that is tested that speak FastCGI, uwsgi or SCGI. What they are asked is kept, what they answer
is said by the test as CGI has it, and told in whichever protocol: a test can be run for all of them."""

import contextlib
import socket
import struct
import time

from .listening import Listening

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR = range(1, 8)


class Raw(bytes):
    """Bytes that are sent as they are; then the connection is closed."""


class Asked:
    """A request as a server got it."""

    def __init__(self, pairs, body, connection, keep=False, modifiers=None):
        self.pairs = pairs
        self.variables = dict(pairs)
        self.body = body
        # The number of the connection that it came on.
        self.connection = connection
        # FastCGI: the connection is to be kept.
        self.keep = keep
        self.modifiers = modifiers

    def get(self, name, default=None):
        return self.variables.get(name, default)


def record(kind, content=b"", request=1, version=1, padding=0):
    """One record of FastCGI."""
    return struct.pack(">BBHHBB", version, kind, request, len(content), padding, 0) + content + b"\xaa" * padding


def output(data, size=1000, padding=0):
    """Records with this output, and the one that ends it."""
    parts = [data[at:at + size] for at in range(0, len(data), size)]
    return b"".join(record(STDOUT, part, padding=padding) for part in [*parts, b""])


def end(status=0):
    return record(END, struct.pack(">IB3x", status, 0))


class Gateway(Listening):
    """A server whose `answer(asked)` returns what CGI would print, or `Raw`, or a list of those with pauses between
    (FastCGI: each a record of its own)."""

    def __init__(self, family, answer=None, name="", address=None, context=None):
        self.family = family
        self.answer = answer or self.hello
        self.name = name
        self.seen = []
        super().__init__(address, context)

    def hello(self, asked):
        body = f"{self.name} {asked.get('REQUEST_URI')}".encode()
        return b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def serve(self, connection, number):
        stream = connection.makefile("rb")
        while True:
            asked = getattr(self, "_read_" + self.family)(stream, number)
            if asked is None:
                return
            self.seen.append(asked)
            said = self.answer(asked)
            if said is None:
                return
            raw = False
            for part in said if isinstance(said, list) else [said]:
                if isinstance(part, float):
                    time.sleep(part)
                    continue
                raw |= isinstance(part, Raw)
                if self.family == "fastcgi" and not isinstance(part, Raw):
                    part = b"".join(record(STDOUT, part[at:at + 1000]) for at in range(0, len(part), 1000))
                elif self.family == "proxy" and not isinstance(part, Raw):
                    part = self._http(part)
                connection.sendall(part)
            if self.family == "fastcgi" and not raw:
                connection.sendall(record(STDOUT) + end())
            if raw or not asked.keep:
                return

    def end(self, connection):
        # What the client still sends must not become a reset.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(1)
            while connection.recv(65536):
                pass

    @staticmethod
    def _http(said):
        head, body = said.split(b"\r\n\r\n", 1)
        status = b"200 OK"
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"status: "):
                status = line[8:]
        return b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\nConnection: close\r\n\r\n" + body

    @staticmethod
    def _exactly(stream, count):
        data = stream.read(count)
        if len(data) < count:
            raise OSError("the request broke off")
        return data

    def _read_fastcgi(self, stream, number):
        params, body, keep = b"", b"", False
        while True:
            head = stream.read(8)
            if not head:
                return None
            version, kind, request, length, padding, _ = struct.unpack(">BBHHBB", head)
            assert (version, request) == (1, 1), head
            content = self._exactly(stream, length + padding)[:length]
            if kind == BEGIN:
                role, flags = struct.unpack(">HB5x", content)
                assert role == 1
                keep = bool(flags & 1)
            elif kind == PARAMS:
                params += content
            elif kind == STDIN:
                body += content
                if not content:
                    break
        return Asked(list(self._pairs(params)), body, number, keep)

    @staticmethod
    def _pairs(data):
        at = 0
        while at < len(data):
            lengths = []
            for _ in range(2):
                if data[at] & 0x80:
                    lengths.append(struct.unpack(">I", data[at:at + 4])[0] & 0x7FFFFFFF)
                    at += 4
                else:
                    lengths.append(data[at])
                    at += 1
            name, value = data[at:at + lengths[0]], data[at + lengths[0]:at + sum(lengths)]
            at += sum(lengths)
            yield name.decode("latin-1"), value.decode("latin-1")

    def _read_uwsgi(self, stream, number):
        head = stream.read(4)
        if not head:
            return None
        first, length, second = struct.unpack("<BHB", head)
        data = self._exactly(stream, length)
        pairs, at, words = [], 0, []
        while at < len(data):
            count = struct.unpack("<H", data[at:at + 2])[0]
            words.append(data[at + 2:at + 2 + count].decode("latin-1"))
            at += 2 + count
        pairs = list(zip(words[::2], words[1::2], strict=True))
        body = self._exactly(stream, int(dict(pairs).get("CONTENT_LENGTH") or 0))
        return Asked(pairs, body, number, modifiers=(first, second))

    def _read_scgi(self, stream, number):
        digits = b""
        while not digits.endswith(b":"):
            one = stream.read(1)
            if not one:
                return None
            digits += one
        words = self._exactly(stream, int(digits[:-1])).decode("latin-1").split("\0")[:-1]
        assert self._exactly(stream, 1) == b"," and words[0] == "CONTENT_LENGTH"
        pairs = list(zip(words[::2], words[1::2], strict=True))
        return Asked(pairs, self._exactly(stream, int(words[1])), number)

    def _read_proxy(self, stream, number):
        first = stream.readline().decode("latin-1")
        if not first:
            return None
        method, target, _ = first.split()
        pairs = [("REQUEST_METHOD", method), ("REQUEST_URI", target), ("QUERY_STRING", target.partition("?")[2])]
        length = 0
        while (line := stream.readline().decode("latin-1").rstrip("\r\n")):
            name, value = line.split(": ", 1)
            if name.lower() == "content-length":
                length = int(value)
            pairs.append(("HTTP_" + name.upper().replace("-", "_"), value))
        pairs.append(("CONTENT_LENGTH", str(length or "")))
        return Asked(pairs, self._exactly(stream, length), number)
