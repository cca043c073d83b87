//! A client's byte stream, encrypted or not.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use bytes::BytesMut;
use sys::Foreign;

use crate::socket::Socket;
use crate::tls::{Encrypted, Session};

/// What bytes come from and go to.
pub enum Stream {
    /// As they are.
    Plain(Socket),
    /// By TLS.
    Tls(Encrypted),
}

impl Stream {
    /// The socket, no longer watched by this event loop, and the session that is spoken on it.
    pub fn into_parts(self) -> io::Result<(OwnedFd, Option<Box<Session>>)> {
        Ok(match self {
            Self::Plain(socket) => (socket.into_fd()?, None),
            Self::Tls(encrypted) => {
                let (socket, session) = encrypted.into_parts();
                (socket.into_fd()?, Some(session))
            }
        })
    }

    /// Whether it is encrypted: the kernel cannot send files on it.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether what is read comes from before the end of the handshake, and may be a copy of what another client sent.
    pub fn is_in_early_data(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(encrypted) => encrypted.is_in_early_data(),
        }
    }

    /// Ready at the end of the handshake; what the client sends until then is kept for reads.
    pub fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(encrypted) => encrypted.poll_settled(cx),
        }
    }

    /// Ready when a read would bring something, or the end.
    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_read_ready(cx),
            Self::Tls(encrypted) => encrypted.poll_readable(cx),
        }
    }

    /// Ready when a write would not block.
    pub fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_write_ready(cx),
            Self::Tls(encrypted) => encrypted.poll_writable(cx),
        }
    }

    /// Reads behind what `buf` holds, into its spare capacity. 0 is the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => socket.poll_read(cx, buf),
            Self::Tls(encrypted) => encrypted.poll_read(cx, buf),
        }
    }

    /// Whether the end that a read told of came without the farewell that TLS asks for: the client is gone, and what
    /// it sent may not be all.
    pub fn is_truncated(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(encrypted) => encrypted.is_truncated(),
        }
    }

    /// Writes some of the bytes.
    ///
    /// Whoever is told that it would block has to come back with the same bytes, or to give the stream up: TLS may
    /// have encrypted them already. What it says to have written, the kernel has.
    pub fn try_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(buf),
            Self::Tls(encrypted) => encrypted.try_write(&[IoSlice::new(buf)]),
        }
    }

    /// Writes some of the bytes of all slices; see [`Stream::try_write`].
    pub fn try_write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_vectored(bufs),
            Self::Tls(encrypted) => encrypted.try_write(bufs),
        }
    }

    /// Writes some of `head`, and of what lies in another process's reach behind it. Not to an encrypted stream.
    pub fn try_write_foreign(&mut self, head: &[u8], pieces: &[Foreign<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_foreign(head, pieces),
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Writes some of the bytes and tells the kernel that more follow at once, so that they share a segment.
    pub fn try_write_more(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_more(buf),
            Self::Tls(encrypted) => encrypted.try_write(&[IoSlice::new(buf)]),
        }
    }

    /// Writes a few bytes that nothing depends on, between two writes; what there is no room for now is lost.
    pub fn write_now(&mut self, buf: &[u8]) {
        match self {
            Self::Plain(socket) => {
                let _ = socket.try_write(buf);
            }
            Self::Tls(encrypted) => encrypted.write_now(buf),
        }
    }

    /// Sends some bytes of a file from `offset`, which moves with them. 0 is the end of the file. Not of an encrypted
    /// stream.
    pub fn try_send_file(&self, file: &File, offset: &mut u64, count: usize) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_send_file(file, offset, count),
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// An error that the kernel holds for this socket: after a reset there is one.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.socket().take_error()
    }

    /// Says farewell, where the protocol has one: what follows is a close. Ready when it has left.
    pub fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(_) => Poll::Ready(()),
            Self::Tls(encrypted) => encrypted.poll_farewell(cx),
        }
    }

    /// Says that nothing more will be written.
    pub fn shutdown_write(&mut self) {
        if let Self::Tls(encrypted) = self {
            encrypted.farewell();
        }
        self.socket().shutdown_write();
    }

    /// Whether small packets leave at once, where there are packets.
    pub fn set_nodelay(&self, nodelay: bool) {
        self.socket().set_nodelay(nodelay);
    }

    /// Bytes that were written and have not reached the other side's kernel, as far as the system says; of an encrypted
    /// stream, encrypted.
    pub fn unacknowledged(&self) -> Option<u64> {
        self.socket().unacknowledged()
    }

    /// Whether something has arrived that nobody has read: a close would be a reset.
    pub fn has_unread(&self) -> bool {
        self.socket().has_unread()
    }

    /// The close that follows is to come without a farewell, where the protocol has one: something is missing.
    pub fn say_no_farewell(&mut self) {
        if let Self::Tls(encrypted) = self {
            encrypted.no_farewell();
        }
    }

    /// Makes the close that follows a reset, so that the client can tell that what it got is not the whole.
    pub fn reset_on_close(&mut self) {
        self.say_no_farewell();
        self.socket().reset_on_close();
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(encrypted) => encrypted.socket(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}
