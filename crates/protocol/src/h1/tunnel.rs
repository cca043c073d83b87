//! What comes behind a response 101: bytes of another protocol.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};

use super::{Connection, READ_SIZE};

/// Bytes that are on their way in each direction at most.
const ON_THE_WAY: usize = 64 * 1024;

/// Who speaks with the client from now on.
pub trait OtherEnd {
    /// Reads behind what `buf` holds; 0 is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>>;

    /// Writes some of the bytes.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Something moved.
    fn touch(&mut self);

    /// Nothing has moved for too long; if not so yet, the task is woken when it is.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool;
}

impl Connection {
    /// Carries bytes back and forth until one side has ended and all that it said has been passed on. Returns how many
    /// the client got.
    pub async fn tunnel(&mut self, other: &mut dyn OtherEnd) -> u64 {
        self.keep_alive = false;
        self.set_nodelay(true);
        // What the client has sent already is the other protocol's.
        let mut up = self.buffers.as_mut().map(|buffers| buffers.input.split()).unwrap_or_default();
        let (mut down, mut sent) = (BytesMut::new(), 0);
        let (mut client_ended, mut other_ended) = (self.half_closed, false);
        other.touch();
        poll_fn(|cx| {
            loop {
                let mut moved = false;
                // To the other end.
                if !client_ended && up.len() < ON_THE_WAY {
                    up.reserve(READ_SIZE);
                    match self.stream.poll_read(cx, &mut up) {
                        Poll::Ready(Ok(0) | Err(_)) => client_ended = true,
                        Poll::Ready(Ok(_)) => moved = true,
                        Poll::Pending => {}
                    }
                }
                if !up.is_empty() {
                    match other.poll_write(cx, &up) {
                        Poll::Ready(Ok(written)) => {
                            up.advance(written);
                            moved |= written > 0;
                        }
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => {}
                    }
                }
                // To the client.
                if !other_ended && down.len() < ON_THE_WAY {
                    down.reserve(READ_SIZE);
                    match other.poll_read(cx, &mut down) {
                        Poll::Ready(Ok(0) | Err(_)) => other_ended = true,
                        Poll::Ready(Ok(_)) => moved = true,
                        Poll::Pending => {}
                    }
                }
                if !down.is_empty() {
                    match self.stream.try_write(&down) {
                        Ok(written) => {
                            down.advance(written);
                            sent += written as u64;
                            moved |= written > 0;
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            match self.stream.poll_write_ready(cx) {
                                Poll::Ready(Ok(())) => moved = true,
                                Poll::Ready(Err(_)) => return Poll::Ready(()),
                                Poll::Pending => {}
                            }
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => moved = true,
                        Err(_) => return Poll::Ready(()),
                    }
                }
                if (client_ended && up.is_empty()) || (other_ended && down.is_empty()) {
                    return Poll::Ready(());
                }
                if moved {
                    other.touch();
                } else if other.is_late(cx) {
                    return Poll::Ready(());
                } else {
                    return Poll::Pending;
                }
            }
        })
        .await;
        self.half_closed |= client_ended;
        sent
    }
}
