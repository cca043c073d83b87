//! Another protocol than HTTP, once both sides have agreed on it (101): bytes go back and forth.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use protocol::{Deadline, OtherEnd};
use upstream::Stream;

/// The server's end.
pub struct Tunnel {
    pub(super) stream: Stream,
    /// What came behind the head of the answer.
    pub(super) input: BytesMut,
    pub(super) deadline: Deadline,
    pub(super) timeout: Duration,
}

impl OtherEnd for Tunnel {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        if !self.input.is_empty() {
            let length = self.input.len();
            buf.extend_from_slice(&self.input);
            self.input.clear();
            return Poll::Ready(Ok(length));
        }
        self.stream.poll_read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn touch(&mut self) {
        self.deadline.set(self.timeout);
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        self.deadline.is_past(cx)
    }
}
