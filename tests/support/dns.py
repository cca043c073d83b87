"""A server of DNS for tests."""

import socket
import struct
import threading


class Dns:
    """A server of DNS that knows some names."""

    def __init__(self, names, port=0):
        self.names = names
        self.asked = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _serve(self):
        while True:
            try:
                query, sender = self.socket.recvfrom(1500)
            except OSError:
                return
            name, kind = question(query)
            self.asked.append((name, kind))
            for reply in self.replies(query, name, kind):
                self.socket.sendto(reply, sender)

    def replies(self, query, name, kind):
        known = self.names.get(name)
        if callable(known):
            return known(query, kind)
        found = (known or []) if kind == 1 else []
        code = 0 if known is not None else 3
        return [answer(query, [(1, 60, socket.inet_aton(ip)) for ip in found], code)]


class DnsByTcp(Dns):
    """The same, whose answers by UDP are cut off: the whole ones come by TCP."""

    def __init__(self, names):
        self.by_tcp = []
        for _ in range(100):
            self.listener = socket.create_server(("127.0.0.1", 0))
            try:
                super().__init__(names, self.listener.getsockname()[1])
                break
            except OSError:
                # By UDP somebody else has it.
                self.listener.close()
        threading.Thread(target=self._serve_tcp, daemon=True).start()

    def __exit__(self, *_):
        super().__exit__()
        self.listener.close()

    def _serve_tcp(self):
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            with one, one.makefile("rb") as stream:
                query = stream.read(struct.unpack(">H", stream.read(2))[0])
                name, kind = question(query)
                self.by_tcp.append((name, kind))
                for reply in super().replies(query, name, kind):
                    one.sendall(struct.pack(">H", len(reply)) + reply)

    def replies(self, query, name, kind):
        return [answer(query, [], flags=0x8380)]


def question(query):
    """The name and the kind that are asked for."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    return ".".join(labels), struct.unpack(">H", query[at + 1:at + 3])[0]


def answer(query, records, code=0, flags=0x8180):
    body = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data for kind, ttl, data in records)
    return query[:2] + struct.pack(">HHHHH", flags | code, 1, len(records), 0, 0) + query[12:] + body
