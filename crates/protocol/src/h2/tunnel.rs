//! What comes behind the response to Extended CONNECT: bytes of another protocol (RFC 8441).

use std::future::poll_fn;
use std::task::Poll;

use ::h2::Reason;
use bytes::{Buf, Bytes, BytesMut};

use super::Exchange;
use crate::h1::OtherEnd;

/// Bytes that one read of the other end takes.
const READ_SIZE: usize = 16 * 1024;

impl Exchange {
    /// Carries bytes back and forth until one side has ended and all that it said has been passed on. Returns how many
    /// the client got.
    pub async fn tunnel(&mut self, other: &mut dyn OtherEnd) -> u64 {
        let Some(mut stream) = self.tunnel.take() else { return 0 };
        let (mut up, mut down) = (Bytes::new(), BytesMut::new());
        let (mut client_ended, mut other_ended, mut sent) = (false, false, 0);
        other.touch();
        let outcome = poll_fn(|cx| {
            loop {
                let mut moved = false;
                // To the other end.
                if !client_ended && up.is_empty() {
                    let Some(stream) = &mut self.stream else {
                        return Poll::Ready(Err(Reason::INTERNAL_ERROR));
                    };
                    match stream.poll_data(cx) {
                        Poll::Ready(Some(Ok(data))) => {
                            up = data;
                            moved = true;
                        }
                        Poll::Ready(None) => client_ended = true,
                        // It has left, and the other end is to know.
                        Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Reason::CANCEL)),
                        Poll::Pending => {}
                    }
                }
                while !up.is_empty() {
                    match other.poll_write(cx, &up) {
                        Poll::Ready(Ok(written)) => {
                            up.advance(written);
                            // An error means that the stream is over, which is found out above.
                            if let Some(stream) = &mut self.stream {
                                let _ = stream.flow_control().release_capacity(written);
                            }
                            moved |= written > 0;
                            if written == 0 {
                                break;
                            }
                        }
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(Reason::CONNECT_ERROR)),
                        Poll::Pending => break,
                    }
                }
                // To the client.
                if !other_ended && down.is_empty() {
                    down.reserve(READ_SIZE);
                    match other.poll_read(cx, &mut down) {
                        Poll::Ready(Ok(0)) => other_ended = true,
                        Poll::Ready(Ok(_)) => moved = true,
                        // A connection that broke off is a stream that does (RFC 8441 §5).
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(Reason::CONNECT_ERROR)),
                        Poll::Pending => {}
                    }
                }
                if down.is_empty() {
                    // Nobody is waited for.
                    self.deadline.set(self.settings.send_timeout);
                } else {
                    match self.poll_room(cx, &mut stream, down.len()) {
                        Poll::Ready(Ok(room)) => {
                            let piece = down.split_to(room.min(down.len())).freeze();
                            let count = piece.len();
                            if stream.send_data(piece, false).is_err() {
                                return Poll::Ready(Err(Reason::CANCEL));
                            }
                            self.round = self.wire.turns.give(count);
                            self.deadline.set(self.settings.send_timeout);
                            sent += count as u64;
                            moved = true;
                        }
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(Reason::CANCEL)),
                        Poll::Pending => {}
                    }
                }
                if (client_ended && up.is_empty()) || (other_ended && down.is_empty()) {
                    return Poll::Ready(Ok(()));
                }
                if moved {
                    other.touch();
                } else if other.is_late(cx) {
                    return Poll::Ready(Ok(()));
                } else {
                    return Poll::Pending;
                }
            }
        })
        .await;
        match outcome {
            // If it cannot be sent, the client is gone.
            Ok(()) => drop(stream.send_data(Bytes::new(), true)),
            Err(reason) => stream.send_reset(reason),
        }
        sent
    }
}
