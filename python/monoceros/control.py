"""The control conversation with the master: one JSON object per SEQPACKET message."""

import array
import json
import os
import socket

# The most that a message holds: what is large rides in a descriptor.
MESSAGE_SIZE = 256 * 1024
INLINE_SIZE = 16 * 1024
MOST_DESCRIPTORS = 16


class Control:
    """One end of a control channel; blocking."""

    def __init__(self, sock):
        self.sock = sock

    def fileno(self):
        return self.sock.fileno()

    def close(self):
        self.sock.close()

    def send(self, op, fds=(), body=None, **fields):
        """Sends a message. `body` is for what may be large: it rides in a memfd when it is."""
        message = {"op": op}
        message.update(fields)
        fds = list(fds)
        memfd = None
        if body is not None:
            text = json.dumps(body).encode()
            if len(text) > INLINE_SIZE:
                memfd = os.memfd_create("monoceros-message", os.MFD_CLOEXEC)
                with open(os.dup(memfd), "wb") as file:
                    file.write(text)
                fds.append(memfd)
                message["in_fd"] = True
            else:
                message["body"] = body
        try:
            ancillary = []
            if fds:
                ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds)))
            self.sock.sendmsg([json.dumps(message).encode()], ancillary)
        finally:
            if memfd is not None:
                os.close(memfd)

    def receive(self, flags=0):
        """The next message and its descriptors; `(None, [])` when the other side is gone."""
        # socket.recv_fds drops its flags: with it a receive that must not wait would.
        fds = array.array("i")
        space = socket.CMSG_SPACE(MOST_DESCRIPTORS * fds.itemsize)
        data, ancillary, _, _ = self.sock.recvmsg(MESSAGE_SIZE, space, flags | socket.MSG_CMSG_CLOEXEC)
        for level, kind, part in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(part[: len(part) - len(part) % fds.itemsize])
        fds = list(fds)
        if not data:
            return None, []
        message = json.loads(data)
        if message.pop("in_fd", False):
            with open(fds.pop(), "rb") as file:
                file.seek(0)
                message["body"] = json.load(file)
        return message, fds
