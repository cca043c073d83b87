"""A client of HTTP/2 that sends exact frames, right or wrong, and tells what comes back."""

import socket
import struct
from dataclasses import dataclass, field

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 0x1, 0x1, 0x4, 0x8, 0x20

(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
 REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM) = range(12)

MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 3, 4, 5, 6


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(**values):
    """A SETTINGS frame: `settings(x4=100)` sets parameter 4."""
    return frame(SETTINGS, payload=b"".join(
        struct.pack(">HI", int(name[1:]), value) for name, value in values.items()))


@dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes
    fields: list = field(default_factory=list)

    @property
    def code(self):
        """The error code of RST_STREAM and GOAWAY."""
        return struct.unpack(">I", self.payload[:4] if self.kind == RST_STREAM else self.payload[4:8])[0]

    @property
    def last_stream(self):
        return struct.unpack(">I", self.payload[:4])[0] & 0x7FFFFFFF


class Closed(Exception):
    """The server closed the connection."""


@dataclass
class Answer:
    """A response as it came."""

    fields: list = field(default_factory=list)
    body: bytes = b""
    trailers: list = field(default_factory=list)
    interim: list = field(default_factory=list)
    # The fields of each of them.
    hints: list = field(default_factory=list)

    @property
    def status(self):
        return int(dict(self.fields)[":status"])

    def __getitem__(self, name):
        return dict(self.fields).get(name)


class Http2:
    """One connection. What arrives for a stream that nobody asks about yet is kept."""

    def __init__(self, address, timeout=10.0, preface=True, ack=True, receive_buffer=None, wrap=None, **values):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        if wrap:
            self.socket = wrap(self.socket)
        self.buffer = b""
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.kept = []
        self.windows = True
        self.settings = {}
        if preface:
            self.send(PREFACE + settings(**values))
            first = self.next()
            assert (first.kind, first.flags & ACK) == (SETTINGS, 0)
            for at in range(0, len(first.payload), 6):
                name, value = struct.unpack(">HI", first.payload[at:at + 6])
                self.settings[name] = value
            if ack:
                self.send(frame(SETTINGS, ACK))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    # Sending

    def send(self, data):
        self.socket.sendall(data)

    def block(self, fields):
        """A header block, compressed; the names are sent as they are."""
        return self.encoder.encode(fields)

    def fields(self, path="/", method="GET", *more, scheme="http", authority="test.example"):
        return [(":method", method), (":scheme", scheme), (":path", path), (":authority", authority), *more]

    def request(self, stream, path="/", method="GET", *more, end=True):
        block = self.block(self.fields(path, method, *more))
        parts = [block[at:at + 16_384] for at in range(0, len(block), 16_384)]
        frames = [frame(HEADERS if at == 0 else CONTINUATION, 0, stream, part) for at, part in enumerate(parts)]
        flags = [END_STREAM if end else 0] + [0] * (len(parts) - 1)
        flags[-1] |= END_HEADERS
        self.send(b"".join(one[:4] + bytes([flag]) + one[5:] for one, flag in zip(frames, flags)))

    def data(self, stream, data, end=False):
        self.send(frame(DATA, END_STREAM if end else 0, stream, data))

    def window(self, stream, bytes):
        self.send(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", bytes)))

    def reset(self, stream, code=CANCEL):
        self.send(frame(RST_STREAM, 0, stream, struct.pack(">I", code)))

    def ping(self):
        """A PING and its answer: all before it has been read."""
        self.send(frame(PING, 0, 0, b"12345678"))
        answer = self.until(lambda f: f.kind == PING and f.flags & ACK)
        assert answer.payload == b"12345678"

    # Receiving

    def _exactly(self, count):
        while len(self.buffer) < count:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                raise Closed from None
            if not data:
                raise Closed
            self.buffer += data
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def next(self):
        """The next frame, whatever it is."""
        head = self._exactly(9)
        length = struct.unpack(">I", b"\0" + head[:3])[0]
        stream = struct.unpack(">I", head[5:])[0]
        frame = Frame(head[3], head[4], stream, self._exactly(length))
        if frame.kind == HEADERS:
            # At once: the table depends on the order.
            frame.fields = self.decoder.decode(self._whole(frame), raw=False)
        return frame

    def until(self, wanted):
        """The next frame that is wanted; others are kept."""
        for at, frame in enumerate(self.kept):
            if wanted(frame):
                return self.kept.pop(at)
        while True:
            frame = self.next()
            if wanted(frame):
                return frame
            self.kept.append(frame)

    def answer(self, stream):
        """The response on a stream. Windows are opened for what arrives."""
        answer = Answer()
        while True:
            frame_ = self.until(lambda f: f.stream == stream and f.kind in (HEADERS, DATA, RST_STREAM))
            assert frame_.kind != RST_STREAM, f"reset with {frame_.code}"
            if frame_.kind == HEADERS:
                fields = frame_.fields
                if answer.fields:
                    answer.trailers = fields
                elif dict(fields)[":status"].startswith("1"):
                    answer.interim.append(int(dict(fields)[":status"]))
                    answer.hints.append(fields[1:])
                else:
                    answer.fields = fields
            else:
                answer.body += frame_.payload
                if frame_.payload and self.windows:
                    self.window(0, len(frame_.payload))
                    if not frame_.flags & END_STREAM:
                        self.window(stream, len(frame_.payload))
            if frame_.flags & END_STREAM:
                return answer

    def _whole(self, frame_):
        block = frame_.payload
        while not frame_.flags & END_HEADERS:
            frame_ = self.next()
            assert frame_.kind == CONTINUATION
            block += frame_.payload
        return block

    def get(self, stream, path="/", *more):
        self.request(stream, path, "GET", *more)
        return self.answer(stream)

    # How it ends

    def reset_of(self, stream):
        """The code that a stream is reset with."""
        return self.until(lambda f: f.kind == RST_STREAM and f.stream == stream).code

    def goaway(self):
        """The code that the connection is ended with; and that it is."""
        code = self.until(lambda f: f.kind == GOAWAY).code
        self.closed()
        return code

    def closed(self):
        """All that comes until the server closes."""
        frames = []
        try:
            while True:
                frames.append(self.next())
        except Closed:
            return frames
