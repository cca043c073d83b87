//! A byte stream to a server.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::BytesMut;

/// A byte stream to a server.
pub enum Stream {
    /// A socket.
    Plain(listen::Socket),
}

impl Stream {
    /// Reads behind what `buf` holds, into its spare capacity. 0 is the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_read(cx, buf),
        }
    }

    /// Writes some of the bytes; pending when none can be written now.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => loop {
                match stream.try_write_vectored(bufs) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        std::task::ready!(stream.poll_write_ready(cx))?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    done => return Poll::Ready(done),
                }
            },
        }
    }

    /// Says that nothing more will be written.
    pub fn shutdown_write(&mut self) {
        match self {
            Self::Plain(stream) => stream.shutdown_write(),
        }
    }
}
