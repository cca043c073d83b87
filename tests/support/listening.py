"""What servers behind the one that is tested have in common: they listen, each connection has a thread, and at the end
all is closed."""

import contextlib
import socket
import threading


class Listening:
    """`serve(connection, number)` is called in a thread for each connection, and closes it; with a `context` it speaks
    TLS."""

    def __init__(self, address=None, context=None):
        self.context = context
        self.connections = 0
        self.closing = False
        self.open = set()
        self.lock = threading.Lock()
        if address is None:
            self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
            self.port = self.listener.getsockname()[1]
        else:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(address))
            self.listener.listen(64)
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.closing = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for connection in self.open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)

    def serve(self, connection, number):
        raise NotImplementedError

    def _accept(self):
        while not self.closing:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(20)
            with self.lock:
                self.connections += 1
                number = self.connections
                self.open.add(connection)
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, plain, number):
        connection = plain
        try:
            if self.context:
                connection = self.context.wrap_socket(plain, server_side=True)
            self.serve(connection, number)
        except (OSError, ValueError, AssertionError):
            # A client that goes away, or is none, is part of a test.
            pass
        finally:
            with self.lock:
                self.open.discard(plain)
            self.end(connection)
            connection.close()

    def end(self, connection):
        """Before a connection is closed."""
