"""A client on a bare socket: it sends the bytes it is given and reads responses strictly.

What RFC 9112 does not allow in a response is an error here, so that every test checks the framing too.
"""

import re
import socket
import struct
import time

STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
FIELD_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*"
    rb"((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*")


class Broken(AssertionError):
    """The server's bytes are no HTTP/1.1, or the response was cut off."""


class Response:
    def __init__(self, version, status, reason):
        self.version = version
        self.status = status
        self.reason = reason
        self.fields = []
        self.body = b""
        self.trailers = []
        self.interim = []
        self.framing = "none"
        # When each piece of the body arrived: (seconds since the request for it was read, bytes).
        self.pieces = []

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name, default=None):
        """The value of the only field of that name."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} appears {len(values)} times: {values}"
        return values[0] if values else default

    @property
    def text(self):
        return self.body.decode()

    def __repr__(self):
        return f"<{self.status} {self.fields} {self.body[:200]!r}>"


class Client:
    """One connection. `address` is (host, port) or the path of a Unix socket."""

    def __init__(self, address, timeout=10.0, receive_buffer=None):
        family = socket.AF_UNIX if isinstance(address, str) else (
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        )
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def send(self, data):
        self.socket.sendall(data)

    def request(self, method="GET", target="/", fields=(), body=None, **options):
        self.send(build(method, target, fields, body, **options))
        return self.response(method)

    # Reading

    def _more(self):
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def _line(self):
        while b"\r\n" not in self.buffer:
            if b"\n" in self.buffer and b"\r\n" not in self.buffer:
                raise Broken(f"bare LF: {self.buffer[:100]!r}")
            if len(self.buffer) > 1 << 20:
                raise Broken("endless line")
            if not self._more():
                raise Broken(f"end of stream in a line: {self.buffer[:100]!r}")
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        if b"\n" in line or b"\r" in line:
            raise Broken(f"bare CR or LF: {line!r}")
        return line

    def _exactly(self, count, response=None):
        parts = []
        while count:
            if not self.buffer and not self._more():
                raise Broken(f"body cut off, {count} bytes before its end")
            part, self.buffer = self.buffer[:count], self.buffer[count:]
            parts.append(part)
            count -= len(part)
            if response is not None:
                response.pieces.append((time.monotonic(), part))
        return b"".join(parts)

    def _fields(self):
        fields = []
        while True:
            line = self._line()
            if not line:
                return fields
            match = FIELD_LINE.fullmatch(line)
            if not match:
                raise Broken(f"malformed field line: {line!r}")
            fields.append((match[1].decode(), match[2].decode("latin-1")))

    def head(self):
        """Status line and fields of the next response, interim or final."""
        line = self._line()
        match = STATUS_LINE.fullmatch(line)
        if not match:
            raise Broken(f"malformed status line: {line!r}")
        response = Response("1." + match[1].decode(), int(match[2]), match[3].decode("latin-1"))
        response.fields = self._fields()
        return response

    def response(self, method="GET"):
        """The next final response, whole."""
        interim = []
        while True:
            response = self.head()
            if response.status == 101 or response.status >= 200:
                break
            interim.append(response)
        response.interim = interim
        self.body(response, method)
        return response

    def body(self, response, method="GET"):
        encodings, lengths = response.all("Transfer-Encoding"), response.all("Content-Length")
        if encodings and lengths:
            raise Broken("both Content-Length and Transfer-Encoding")
        if response.status in (204, 304) or response.status < 200:
            if encodings or (lengths and response.status != 304):
                raise Broken(f"{response.status} with framing")
            return
        if len(lengths) > 1 or len(encodings) > 1:
            raise Broken("framing field twice")
        if method == "HEAD":
            return
        if encodings:
            if encodings[0].lower() != "chunked":
                raise Broken(f"Transfer-Encoding {encodings[0]}")
            response.framing = "chunked"
            self._chunks(response)
        elif lengths:
            if not re.fullmatch("[0-9]+", lengths[0]):
                raise Broken(f"Content-Length {lengths[0]}")
            response.framing = "length"
            response.body = self._exactly(int(lengths[0]), response)
        else:
            response.framing = "close"
            while self._more():
                pass
            response.body, self.buffer = self.buffer, b""

    def chunk(self):
        """The next chunk's data; b"" for the last chunk (its trailers are still to be read)."""
        line = self._line()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line):
            raise Broken(f"malformed chunk size: {line!r}")
        data = self._exactly(int(line, 16))
        if data and self._line() != b"":
            raise Broken("chunk longer than its size")
        return data

    def _chunks(self, response):
        parts = []
        while True:
            data = self.chunk()
            if not data:
                break
            response.pieces.append((time.monotonic(), data))
            parts.append(data)
        response.trailers = self._fields()
        response.body = b"".join(parts)

    def end(self, timeout=10.0):
        """Waits for the end of the stream: "eof" or "reset". Bytes before it are an error."""
        self.socket.settimeout(timeout)
        try:
            if self.buffer or self._more():
                raise Broken(f"bytes where the end was expected: {self.buffer[:200]!r}")
        except ConnectionResetError:
            return "reset"
        return "eof"

    def is_open(self, seconds=0.3):
        """Whether the server keeps the connection open, and silent, for that long."""
        before = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            return not self.buffer and self._more() and False
        except ConnectionResetError:
            return False
        except (socket.timeout, TimeoutError):
            return not self.buffer
        finally:
            self.socket.settimeout(before)


def build(method="GET", target="/", fields=(), body=None, version="1.1", host="test.example", chunked=False):
    """The bytes of a request. `fields` is a dict or a list of pairs."""
    pairs = list(fields.items() if isinstance(fields, dict) else fields)
    names = {name.lower() for name, _ in pairs}
    lines = [f"{method} {target} HTTP/{version}"]
    if host is not None and "host" not in names:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in pairs]
    if body is not None:
        if chunked:
            lines.append("Transfer-Encoding: chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        elif "content-length" not in names:
            lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")
