"""Early data: openssl as the client, and somebody in between who copies what it sends and holds it back."""

import contextlib
import socket
import subprocess
import threading

from .server import which

APPLICATION = 23


class Tap:
    """Passes connections on to a server. Of each one the client's first flight is kept: its hello, and early data as
    far as that is one record. `hold`: nothing behind it is passed on until `release()`; `hold_all`: not even that."""

    def __init__(self, port, hold=False, hold_all=False):
        self.target = ("127.0.0.1", port)
        self.hold, self.hold_all = hold, hold_all
        self.released = threading.Event()
        self.flights = []
        self.arrived = threading.Semaphore(0)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def release(self):
        self.released.set()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._back, args=(server, client), daemon=True).start()

    def _forward(self, client, server):
        flight, is_whole = b"", False
        with contextlib.suppress(OSError):
            while record := self._record(client):
                if is_whole:
                    if self.hold:
                        self.released.wait(30)
                    server.sendall(record)
                    continue
                flight += record
                if not self.hold_all:
                    server.sendall(record)
                if record[0] == APPLICATION:
                    is_whole = True
                    self.flights.append(flight)
                    self.arrived.release()
                    if self.hold_all:
                        self.released.wait(30)
                        server.sendall(flight)
            if self.hold:
                self.released.wait(30)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _record(self, client):
        data = b""
        while len(data) < 5 or len(data) < 5 + int.from_bytes(data[3:5]):
            more = client.recv(5 - len(data) if len(data) < 5 else 5 + int.from_bytes(data[3:5]) - len(data))
            if not more:
                return None
            data += more
        return data

    def _back(self, server, client):
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)


def replay(port, flight):
    """Sends a first flight once more; the connection stays open for whoever wants to see what comes of it."""
    copy = socket.create_connection(("127.0.0.1", port))
    copy.sendall(flight)
    return copy


class OpenSsl:
    """`openssl s_client`, one connection after another by one session."""

    def __init__(self, directory, name="a.example"):
        self.directory, self.name = directory, name
        self.session = directory / "session.pem"

    def _begin(self, port, *more):
        return subprocess.Popen(
            [which("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-servername", self.name, "-tls1_3",
             "-ign_eof", *map(str, more)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def first(self, port, request=None, *more):
        """A whole handshake, of which a session is kept. The server has to close after the request."""
        request = request or f"GET /first HTTP/1.1\r\nHost: {self.name}\r\nConnection: close\r\n\r\n".encode()
        process = self._begin(port, "-sess_out", self.session, *more)
        return process.communicate(request, timeout=30)[0].decode("latin-1")

    def begin_early(self, port, request, *more):
        """Goes on with the session and sends the request as early data."""
        path = self.directory / "early.bin"
        path.write_bytes(request)
        return self._begin(port, "-sess_in", self.session, "-early_data", path, *more)

    def early(self, port, request, *more):
        return finish(self.begin_early(port, request, *more))


def finish(process):
    return process.communicate(timeout=30)[0].decode("latin-1")
