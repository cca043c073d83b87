//! The end of a connection.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::{Connection, Lingering, READ_SIZE};

impl Connection {
    /// Ends the connection so that the last response is not lost: says that nothing follows, and takes what
    /// the client still sends for a while, because closing with unread bytes makes a reset that may
    /// overtake the response (RFC 9112 §9.6).
    pub async fn close(mut self) {
        let lingers = match self.settings.lingering {
            Lingering::Off => false,
            Lingering::On => self.is_still_sent_to(),
            Lingering::Always => true,
        };
        self.deadline.set(self.settings.lingering_timeout);
        poll_fn(|cx| match self.stream.poll_farewell(cx) {
            Poll::Pending if self.deadline.is_past(cx) => Poll::Ready(()),
            polled => polled,
        })
        .await;
        // What the client is to see broken must not have an orderly end.
        if !self.response_begun || self.half_closed || self.resets || !lingers {
            return;
        }
        self.stream.shutdown_write();
        let mut scratch = BytesMut::with_capacity(READ_SIZE);
        let end = Instant::now() + self.settings.lingering_time;
        self.deadline.set(self.settings.lingering_timeout.min(self.settings.lingering_time));
        poll_fn(|cx| {
            loop {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() || self.deadline.is_past(cx) {
                    return Poll::Ready(());
                }
                let room = scratch.len();
                scratch.advance(room);
                scratch.reserve(READ_SIZE);
                match self.stream.poll_read(cx, &mut scratch) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(_)) => self.deadline.set(self.settings.lingering_timeout.min(left)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }

    /// The client has sent more than was read, or is about to.
    fn is_still_sent_to(&self) -> bool {
        !self.body_is_done()
            || self.buffers.as_ref().is_some_and(|b| !b.input.is_empty())
            || self.forgot
            // The end of the handshake is still on its way here.
            || self.stream.is_in_early_data()
            || self.stream.has_unread()
    }
}
