"""Servers behind the one that is tested: what they get is kept, what they answer is said by the test."""

import re
import socket
import time

from .listening import Listening


class Seen:
    """A request as a server got it."""

    def __init__(self, head, body, connection):
        first, *lines = head.decode("latin-1").split("\r\n")
        self.line = first
        self.method, self.target, self.version = first.split(" ", 2)
        self.fields = [tuple(line.split(": ", 1)) if ": " in line else (line.rstrip(":"), "") for line in lines if line]
        self.body = body
        # The number of the connection that it came on.
        self.connection = connection

    def all(self, name):
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def get(self, name, default=None):
        return next(iter(self.all(name)), default)


class Upstream(Listening):
    """A server whose `answer(seen, connection)` returns bytes, or writes itself and returns None (then the connection
    is closed). Without one it answers with its name and the target."""

    def __init__(self, answer=None, name="", address=None, context=None):
        self.answer = answer or self.hello
        self.name = name
        self.seen = []
        super().__init__(address, context)

    def hello(self, seen, _):
        body = f"{self.name} {seen.target}".encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def wait_open(self, count, timeout=10):
        """Until so many connections are open."""
        deadline = time.monotonic() + timeout
        while len(self.open) != count:
            assert time.monotonic() < deadline, f"{len(self.open)} connections are open, not {count}"
            time.sleep(0.01)

    def serve(self, connection, number):
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = connection.recv(65536)
                if not more:
                    return
                data += more
            head, data = data.split(b"\r\n\r\n", 1)
            body, data = self._body(connection, head, data)
            seen = Seen(head, body, number)
            self.seen.append(seen)
            said = self.answer(seen, connection)
            if said is None:
                return
            connection.sendall(said)
            close = re.search(rb"(?i)\r\nconnection: *close", b"\r\n" + head) or seen.version == "HTTP/1.0"
            if close or re.search(rb"(?i)\r\nconnection: *close", said.split(b"\r\n\r\n")[0]):
                return

    def _body(self, connection, head, data):
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if length:
            count = int(length[1])
            while len(data) < count:
                more = connection.recv(65536)
                if not more:
                    break
                data += more
            return data[:count], data[count:]
        if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
            body = b""
            while True:
                while b"\r\n" not in data:
                    data += connection.recv(65536)
                size, data = data.split(b"\r\n", 1)
                count = int(size, 16)
                while len(data) < count + 2:
                    data += connection.recv(65536)
                body, data = body + data[:count], data[count + 2:]
                if count == 0:
                    return body, data
        return b"", data


def reset(connection):
    """Ends a connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def response(body=b"", status="200 OK", fields=(), version="1.1"):
    """A response with its length."""
    lines = [f"HTTP/{version} {status}", *(f"{name}: {value}" for name, value in fields), f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
