//! A byte stream to a server.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::connection::READ_SIZE;
use crate::http2::Http2;
use crate::tls::Encrypted;

/// A byte stream to a server.
pub enum Stream {
    /// A socket.
    Plain(listen::Socket),
    /// TLS.
    Encrypted(Box<Encrypted>),
    /// The codec of HTTP/2 has it: nothing is read of it but that it ends, and nothing can be written.
    Http2(Box<Http2>),
    /// It was given away.
    Gone,
}

impl Stream {
    /// Reads behind what `buf` holds, into its spare capacity. 0 is the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_read(cx, buf),
            Self::Encrypted(stream) => stream.poll_read(cx, buf),
            Self::Http2(http2) => {
                // An end that comes behind something else is heard of at the second time.
                let is_over = http2.poll(cx).is_ready() || http2.poll(cx).is_ready();
                if is_over { Poll::Ready(Ok(0)) } else { Poll::Pending }
            }
            Self::Gone => Poll::Ready(Ok(0)),
        }
    }

    /// The same, at most so many bytes, and never more than [`READ_SIZE`] or a little more.
    pub(crate) fn poll_read_most(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut BytesMut,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if most >= READ_SIZE {
            buf.reserve(READ_SIZE);
            return self.poll_read(cx, buf);
        }
        // A buffer no larger than what may be read.
        let mut part = BytesMut::with_capacity(most);
        let read = self.poll_read(cx, &mut part);
        buf.extend_from_slice(&part);
        read
    }

    /// Whether nothing has come since the last answer: neither an end nor an answer to nothing.
    pub(crate) fn is_quiet(&mut self) -> bool {
        match self {
            // The event loop may not have heard of it yet: the system is asked.
            Self::Plain(socket) => {
                let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
                matches!(recv(&*socket, &mut [0_u8; 1], flags), Err(Errno::WOULDBLOCK))
            }
            _ => self.seems_quiet(),
        }
    }

    /// The same as far as the event loop has heard, which costs no call of the system.
    pub(crate) fn seems_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        if let Self::Plain(socket) = self
            && socket.poll_read_ready(&mut cx).is_pending()
        {
            return true;
        }
        let mut byte = BytesMut::with_capacity(1);
        self.poll_read(&mut cx, &mut byte).is_pending()
    }

    /// Writes some of the bytes; pending when none can be written now, and then they are to be offered again. What is told
    /// as written has left.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => loop {
                // One piece costs the kernel less than a list of one.
                let written = match bufs {
                    [one, rest @ ..] if rest.iter().all(|buf| buf.is_empty()) => stream.try_write(one),
                    bufs => stream.try_write_vectored(bufs),
                };
                match written {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        std::task::ready!(stream.poll_write_ready(cx))?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    done => return Poll::Ready(done),
                }
            },
            Self::Encrypted(stream) => stream.poll_write(cx, bufs),
            Self::Http2(_) | Self::Gone => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Says that nothing more will be written.
    pub fn shutdown_write(&mut self) {
        match self {
            Self::Plain(stream) => stream.shutdown_write(),
            Self::Encrypted(stream) => stream.shutdown_write(),
            Self::Http2(_) | Self::Gone => {}
        }
    }
}
