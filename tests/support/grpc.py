"""A server of HTTP/2 behind the one that is tested, as gRPC has them: what it gets is kept, and what it does is said by
the test, while the request is still coming."""

import contextlib

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from .listening import Listening


class Call:
    """A request as the server got it. `do` is called once the head is there, and again with each piece."""

    def __init__(self, server, connection, socket, number, stream, fields):
        self.server, self.connection, self.number, self.stream = server, connection, number, stream
        self.socket = socket
        self.fields = [(name.decode(), value.decode("latin-1")) for name, value in fields]
        self.body = b""
        # Bytes of each DATA frame.
        self.pieces = []
        self.trailers = []
        self.ended = False
        self.was_reset = None

    def get(self, name, default=None):
        return dict(self.fields).get(name, default)

    def answer(self, status=200, fields=(), end=False):
        head = [(":status", str(status)), *fields]
        self.connection.send_headers(self.stream, head, end_stream=end)

    def data(self, data, end=False):
        self.server.data(self.connection, self.stream, data, end)

    def end(self, *trailers):
        self.connection.send_headers(self.stream, trailers, end_stream=True)

    def flush(self):
        """Sends what is there, without waiting for the end of `do`."""
        self.socket.sendall(self.connection.data_to_send())

    def reset(self, code):
        self.connection.reset_stream(self.stream, code)


class GrpcServer(Listening):
    """`do(call, event)` is called with `event` "head", "data" or "end"."""

    def __init__(self, do, address=None, context=None):
        self.do = do
        self.calls = []
        # What waits for a window, by connection and stream.
        self.pending = {}
        super().__init__(address, context)

    def data(self, connection, stream, data, end):
        """As far as the other side takes it; a test sends no more than it takes."""
        at = 0
        while True:
            room = min(connection.local_flow_control_window(stream), connection.max_outbound_frame_size)
            part = data[at:at + room]
            at += len(part)
            last = at == len(data)
            if part or last:
                connection.send_data(stream, part, end_stream=end and last)
            if last:
                return
            if not part:
                self.pending[(connection, stream)] = (data[at:], end)
                return

    def serve(self, one, number):
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self.speak(one, number)

    def speak(self, one, number):
        calls = {}
        if self.context:
            assert one.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(client_side=False, header_encoding=None)
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        one.sendall(connection.data_to_send())
        while True:
            data = one.recv(65536)
            if not data:
                return
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    call = calls[event.stream_id] = Call(self, connection, one, number, event.stream_id, event.headers)
                    self.calls.append(call)
                    self.do(call, "head")
                elif isinstance(event, h2.events.DataReceived):
                    call = calls[event.stream_id]
                    call.body += event.data
                    call.pieces.append(len(event.data))
                    if event.flow_controlled_length:
                        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    if event.data:
                        self.do(call, "data")
                elif isinstance(event, h2.events.StreamEnded):
                    calls[event.stream_id].ended = True
                    self.do(calls[event.stream_id], "end")
                elif isinstance(event, h2.events.StreamReset):
                    calls[event.stream_id].was_reset = event.error_code
                elif isinstance(event, h2.events.WindowUpdated):
                    for key in [key for key in list(self.pending) if key[0] is connection]:
                        rest, end = self.pending.pop(key)
                        self.data(*key, rest, end)
            one.sendall(connection.data_to_send())
