//! A client's socket.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{SendFlags, Shutdown};
use sys::Foreign;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// What a listener accepted.
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// The socket, no longer watched by this event loop.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(match self {
            Self::Tcp(s) => s.into_std()?.into(),
            Self::Unix(s) => s.into_std()?.into(),
        })
    }

    /// Ready when a read would not block.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(s) => s.poll_read_ready(cx),
            Self::Unix(s) => s.poll_read_ready(cx),
        }
    }

    /// Ready when a write would not block.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(s) => s.poll_write_ready(cx),
            Self::Unix(s) => s.poll_write_ready(cx),
        }
    }

    /// Reads behind what `buf` holds, into its spare capacity. 0 is the end.
    ///
    /// A read that fills less than the capacity leaves nothing to read, which the runtime remembers: the next
    /// poll waits without asking the kernel once more.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        let room = buf.capacity() - buf.len();
        debug_assert!(room > 0, "a read into no room looks like the end");
        loop {
            ready!(self.poll_read_ready(cx))?;
            let mut short = None;
            let read = self.try_io(Interest::READABLE, || {
                let read = sys::recv_behind(self.as_fd(), buf)?;
                if read > 0 && read < room {
                    short = Some(read);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(read)
            });
            match (short, read) {
                (Some(read), _) => return Poll::Ready(Ok(read)),
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                (None, read) => return Poll::Ready(read),
            }
        }
    }

    /// As [`Socket::poll_read`], to the beginning of a slice.
    pub(crate) fn poll_read_slice(
        &mut self,
        cx: &mut Context<'_>,
        slice: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(slice);
        match self {
            Self::Tcp(s) => ready!(Pin::new(s).poll_read(cx, &mut buf))?,
            Self::Unix(s) => ready!(Pin::new(s).poll_read(cx, &mut buf))?,
        }
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Writes some of the bytes.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.try_send(buf, SendFlags::NOSIGNAL)
    }

    /// Writes some of the bytes of all slices.
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        self.try_fill(all, || Ok(rustix::io::writev(self.as_fd(), bufs)?))
    }

    /// Writes some of `head`, and of what lies in another process's reach behind it.
    pub fn try_write_foreign(&self, head: &[u8], pieces: &[Foreign<'_>]) -> io::Result<usize> {
        let all = head.len() + pieces.iter().map(Foreign::len).sum::<usize>();
        self.try_fill(all, || sys::send_foreign(self.as_fd(), head, pieces))
    }

    /// Writes some of the bytes and tells the kernel that more follow at once, so that they share a segment.
    pub fn try_write_more(&self, buf: &[u8]) -> io::Result<usize> {
        self.try_send(buf, SendFlags::MORE | SendFlags::NOSIGNAL)
    }

    /// Not by the runtime: the C library's call would first look whether its thread is to be cancelled.
    fn try_send(&self, buf: &[u8], flags: SendFlags) -> io::Result<usize> {
        self.try_fill(buf.len(), || Ok(rustix::net::send(self.as_fd(), buf, flags)?))
    }

    /// Sends some bytes of a file from `offset`, which moves with them. 0 is the end of the file.
    pub fn try_send_file(&self, file: &File, offset: &mut u64, count: usize) -> io::Result<usize> {
        let sent = self.try_io(Interest::WRITABLE, || {
            Ok(rustix::fs::sendfile(self.as_fd(), file, Some(offset), count)?)
        })?;
        // Other than a send, sendfile may stop for no reason at all, and then nothing would say when to go on.
        if sent > 0 && sent < count {
            let _ = self.try_io(Interest::WRITABLE, || {
                if self.has_room()? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
            });
        }
        Ok(sent)
    }

    /// Whether the kernel would wake who waits to write: a third of its buffer is free.
    fn has_room(&self) -> io::Result<bool> {
        let fd = self.as_fd();
        let mut polled = [PollFd::new(&fd, PollFlags::OUT)];
        Ok(rustix::event::poll(&mut polled, Some(&Timespec::default()))? > 0)
    }

    /// Writes some of `all` bytes by `call`.
    ///
    /// A write that takes less than all has filled the kernel's buffer, which the runtime remembers: the next one waits
    /// until there is room worth a call. Tried at once, it would go on with each segment that a client on the same
    /// machine takes, for ten times the calls.
    fn try_fill(&self, all: usize, call: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        let mut short = None;
        let outcome = self.try_io(Interest::WRITABLE, || {
            let written = call()?;
            if written > 0 && written < all {
                short = Some(written);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(written)
        });
        short.map_or(outcome, Ok)
    }

    fn try_io<T>(&self, interest: Interest, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self {
            Self::Tcp(s) => s.try_io(interest, call),
            Self::Unix(s) => s.try_io(interest, call),
        }
    }

    /// An error that the kernel holds for this socket: after a reset there is one.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Tcp(s) => s.take_error(),
            Self::Unix(s) => s.take_error(),
        }
    }

    /// Says that nothing more will be written.
    pub fn shutdown_write(&self) {
        // An error means that the connection is gone already.
        let _ = rustix::net::shutdown(self.as_fd(), Shutdown::Write);
    }

    /// Whether small packets leave at once, where there are packets.
    pub fn set_nodelay(&self, nodelay: bool) {
        if let Self::Tcp(s) = self {
            // An error means that the connection is gone already.
            let _ = s.set_nodelay(nodelay);
        }
    }

    /// Bytes that were written and have not reached the other side's kernel, as far as the system says.
    pub fn unacknowledged(&self) -> Option<u64> {
        match self {
            Self::Tcp(s) => sys::unacknowledged(s.as_fd()),
            // There is no reset that could overtake them.
            Self::Unix(_) => None,
        }
    }

    /// Whether something has arrived that nobody has read: a close would be a reset.
    pub fn has_unread(&self) -> bool {
        rustix::io::ioctl_fionread(self.as_fd()).is_ok_and(|bytes| bytes > 0)
    }

    /// Makes the close that follows a reset, so that the client can tell that what it got is not the whole.
    pub fn reset_on_close(&self) {
        let _ = rustix::net::sockopt::set_socket_linger(self.as_fd(), Some(std::time::Duration::ZERO));
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(s) => s.as_fd(),
            Self::Unix(s) => s.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    const BLOCK: usize = 1024 * 1024;

    /// Both ends of a connection, the second one of the test's own.
    async fn connected() -> (Socket, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Socket::Tcp(listener.accept().await.unwrap().0), client)
    }

    async fn writable(socket: &Socket) -> bool {
        let ready = std::future::poll_fn(|cx| socket.poll_write_ready(cx));
        tokio::time::timeout(Duration::from_secs(20), ready).await.is_ok_and(|r| r.is_ok())
    }

    /// Writes by `write`, with what was written before, until the client has it all. After each short write the client
    /// takes a little, which is no reason to write again, then all there is, which is one.
    async fn deliver(mut write: impl FnMut(&Socket, usize) -> io::Result<usize>) {
        let (socket, mut client) = connected().await;
        let (mut sent, mut taken, mut stops) = (0, 0, 0);
        let mut block = vec![0; 2 * BLOCK];
        while sent < 32 * BLOCK {
            let written = write(&socket, sent).unwrap();
            sent += written;
            if written < BLOCK {
                stops += 1;
                taken += client.read(&mut block[..128 * 1024]).unwrap();
                assert_eq!(write(&socket, sent).unwrap_err().kind(), io::ErrorKind::WouldBlock);
                while taken < sent {
                    taken += client.read(&mut block).unwrap();
                }
                assert!(writable(&socket).await, "room was not noticed");
            }
        }
        assert!(stops > 1, "no write was short");
    }

    #[tokio::test]
    async fn a_short_write_waits_for_room_worth_a_call() {
        let bytes = vec![7; BLOCK];
        deliver(|socket, _| socket.try_write(&bytes)).await;
        let (head, tail) = bytes.split_at(100);
        deliver(|socket, _| socket.try_write_vectored(&[IoSlice::new(head), IoSlice::new(tail)])).await;
    }

    #[tokio::test]
    async fn a_file_is_sent_whole_though_sends_are_short() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 64 * BLOCK]).unwrap();
        deliver(|socket, sent| {
            let mut offset = sent as u64;
            let written = socket.try_send_file(&file, &mut offset, BLOCK)?;
            assert_eq!(offset, (sent + written) as u64);
            Ok(written)
        })
        .await;
    }
}
