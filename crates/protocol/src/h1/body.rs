//! The body of a request.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use exchange::{BodyError, BodySource};
use http1::ChunkedEvent;

use super::{BodyState, Connection};

/// Bytes of an unread body that are thrown away to keep a connection; for more it is closed.
const DISCARD_LIMIT: u64 = 256 * 1024;

impl Connection {
    /// The body of the current request.
    pub fn body(&mut self) -> &mut dyn BodySource {
        self.deadline.set(self.settings.body_timeout);
        self
    }

    /// Whether all of the current request has been read.
    pub(super) fn body_is_done(&self) -> bool {
        matches!(self.body, BodyState::Done)
    }

    /// Reads and forgets what is left of the body, if that is little; else the connection is to be closed.
    pub(super) async fn discard_body(&mut self) {
        // Without the 100 nobody knows whether the client will send the body (RFC 9110 §10.1.1).
        if self.expects_continue && !self.body_is_done() {
            self.keep_alive = false;
            return;
        }
        let limit = self.body_received + DISCARD_LIMIT;
        while !self.body_is_done() {
            if self.body_received > limit || matches!(self.body, BodyState::Length(n) if n > DISCARD_LIMIT) {
                self.keep_alive = false;
                return;
            }
            self.deadline.set(self.settings.body_timeout);
            if !matches!(poll_fn(|cx| self.poll_data(cx)).await, Some(Ok(_)) | None) {
                self.keep_alive = false;
                return;
            }
        }
    }

    /// Takes what is in the input; pending when more has to be read.
    fn take_data(&mut self) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(buffers) = self.buffers.as_mut() else { return Poll::Pending };
        match &mut self.body {
            BodyState::Done => Poll::Ready(None),
            BodyState::Failed(error) => Poll::Ready(Some(Err(*error))),
            BodyState::Length(left) => {
                if buffers.input.is_empty() {
                    return Poll::Pending;
                }
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(buffers.input.len());
                let data = buffers.input.split_to(count).freeze();
                *left -= count as u64;
                if *left == 0 {
                    self.body = BodyState::Done;
                }
                Poll::Ready(Some(Ok(data)))
            }
            BodyState::Chunked(decoder) => match decoder.decode(&buffers.input) {
                Ok(ChunkedEvent::Data(range)) => {
                    buffers.input.advance(range.start);
                    Poll::Ready(Some(Ok(buffers.input.split_to(range.len()).freeze())))
                }
                Ok(ChunkedEvent::End { consumed }) => {
                    buffers.input.advance(consumed);
                    self.body = BodyState::Done;
                    Poll::Ready(None)
                }
                Ok(ChunkedEvent::NeedMore) => {
                    buffers.input.clear();
                    Poll::Pending
                }
                Err(_) => {
                    Poll::Ready(Some(Err(BodyError::Malformed("a chunked body that breaks RFC 9112 §7.1"))))
                }
            },
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.body = BodyState::Failed(error);
        self.keep_alive = false;
        Poll::Ready(Some(Err(error)))
    }
}

impl BodySource for Connection {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if self.body_is_done() {
                return Poll::Ready(None);
            }
            match self.take_data() {
                Poll::Ready(Some(Ok(data))) => {
                    self.body_received += data.len() as u64;
                    if self.settings.max_body.is_some_and(|limit| self.body_received > limit) {
                        return self.fail(BodyError::TooLarge);
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Poll::Ready(Some(Err(error))) => return self.fail(error),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            if std::mem::take(&mut self.expects_continue) {
                // Small enough for every socket buffer; if it is lost, the client sends after a second anyway.
                self.stream.write_now(http1::CONTINUE);
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return self.fail(BodyError::Gone),
                Poll::Ready(Ok(_)) => self.deadline.set(self.settings.body_timeout),
                Poll::Pending if self.deadline.is_past(cx) => return self.fail(BodyError::Timeout),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
