//! The body of a request.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use exchange::{BodyError, BodySource};
use http1::ChunkedEvent;

use super::handed::{HandedBody, Handover};
use super::{BodyState, Connection};

/// Bytes of an unread body that are thrown away to keep a connection; for more it is closed.
const DISCARD_LIMIT: u64 = 256 * 1024;
/// Bytes of it that are thrown away before others on the loop get their turn.
const DISCARD_TURN: usize = 256 * 1024;

/// Reads more of the client; an error is why no more comes.
type Fill<'a> = &'a mut dyn FnMut(&mut Connection, &mut Context<'_>) -> Poll<Result<usize, BodyError>>;

impl Connection {
    /// The body of the current request.
    pub fn body(&mut self) -> &mut dyn BodySource {
        self.deadline.set(self.settings.body_timeout);
        self
    }

    /// The body for somebody who reads it while the response is written. From then on `client_body_timeout` does not
    /// count: both ways go on together, and whoever answers says how long.
    pub fn hand_over_body(&mut self) -> HandedBody {
        let handover = Rc::new(Handover::default());
        if self.body_is_done() {
            handover.end(Ok(()));
        }
        self.handed.insert(handover).taker()
    }

    /// Who reads the body, if somebody still does.
    fn reader(&self) -> Option<&Rc<Handover>> {
        self.handed.as_ref().filter(|handover| handover.is_wanted())
    }

    /// Whether all of the current request has been read.
    pub(super) fn body_is_done(&self) -> bool {
        matches!(self.body, BodyState::Done)
    }

    /// What an unread body has to say about a connection that would stay, before the head of the response leaves. The
    /// response does not wait for it: nobody should wait for his 401 until he has sent all that it is about, and who
    /// waits for the response before he sends more would wait for ever.
    pub(super) fn settle_body(&mut self) {
        // Without the 100 nobody knows whether the client will send the body (RFC 9110 §10.1.1).
        let is_unknown = self.expects_continue && !self.body_is_done();
        let is_too_much = matches!(self.body, BodyState::Length(left) if left > DISCARD_LIMIT);
        if is_unknown || (is_too_much && self.reader().is_none()) {
            self.keep_alive = false;
        }
    }

    /// Gives what the client sends of its body to who reads it meanwhile, or throws it away, while its response is
    /// waited for, or waits for the client: one that reads nothing before all is sent would wait for us as we for it.
    /// Nothing behind the body is read. Tells whether the client is gone.
    pub(super) fn pass_body(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.body_is_done() && self.reader().is_none() {
            self.forgot = true;
        }
        let mut is_gone = false;
        let mut fill = |connection: &mut Self, cx: &mut Context<'_>| {
            if connection.half_closed {
                return Poll::Ready(Err(BodyError::Gone));
            }
            connection.poll_fill(cx).map(|read| match read {
                Ok(count @ 1..) => Ok(count),
                Ok(_) => {
                    is_gone = connection.stream.is_truncated();
                    Err(BodyError::Gone)
                }
                Err(_) => {
                    is_gone = true;
                    Err(BodyError::Gone)
                }
            })
        };
        while let Poll::Ready(Err(error)) = self.poll_rest(cx, &mut fill) {
            let _ = self.fail(error);
            if error == BodyError::Gone {
                break;
            }
        }
        is_gone
    }

    /// Takes what comes of the body, for who reads it or for nobody, as long as `fill` reads more of the client. Ready at
    /// its end.
    fn poll_rest(&mut self, cx: &mut Context<'_>, fill: Fill<'_>) -> Poll<Result<(), BodyError>> {
        let mut taken = 0;
        while !self.body_is_done() {
            if let Some(reader) = self.reader() {
                ready!(reader.poll_room(cx));
            }
            let of_input = if let BodyState::Failed(_) = self.body {
                // Nothing is a request any more: the connection ends behind the response.
                self.buffers().input.clear();
                Poll::Pending
            } else {
                self.take_data()
            };
            match of_input {
                Poll::Ready(Some(Ok(data))) => {
                    self.body_received += data.len() as u64;
                    // What is thrown away may be as long as it likes. The response may have promised that the connection
                    // stays, and, as in nginx, only time breaks that.
                    if let Some(reader) = self.reader() {
                        if self.settings.max_body.is_some_and(|limit| self.body_received > limit) {
                            return Poll::Ready(Err(BodyError::TooLarge));
                        }
                        reader.give(&data);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => break,
                Poll::Pending if taken >= DISCARD_TURN => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => match ready!(fill(self, cx)) {
                    Ok(count) => taken += count,
                    Err(error) => return Poll::Ready(Err(error)),
                },
            }
        }
        if let Some(reader) = self.reader() {
            reader.end(Ok(()));
        }
        Poll::Ready(Ok(()))
    }

    /// Whether [`Connection::discard_body`] has something to do.
    pub fn has_body_left(&self) -> bool {
        self.keep_alive && !self.body_is_done()
    }

    /// Reads and forgets what is left of the body once the response has left; what comes too slowly, or for too long, ends
    /// the connection. Time counts for what frames a body as for the body: of it alone there may be much.
    pub async fn discard_body(&mut self) {
        if !self.has_body_left() {
            return;
        }
        self.handed = None;
        let end = Instant::now() + self.settings.lingering_time;
        self.deadline.set(self.settings.lingering_timeout.min(self.settings.lingering_time));
        let mut fill = |connection: &mut Self, cx: &mut Context<'_>| {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Poll::Ready(Err(BodyError::Timeout));
            }
            match connection.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(BodyError::Gone)),
                Poll::Ready(Ok(count)) => {
                    connection.deadline.set(connection.settings.lingering_timeout.min(left));
                    Poll::Ready(Ok(count))
                }
                Poll::Pending if connection.deadline.is_past(cx) => Poll::Ready(Err(BodyError::Timeout)),
                Poll::Pending => Poll::Pending,
            }
        };
        if let Err(error) = poll_fn(|cx| self.poll_rest(cx, &mut fill)).await {
            let _ = self.fail(error);
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
                Err(_) => Poll::Ready(Some(Err(BodyError::Malformed("client sent invalid chunked body")))),
            },
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.body = BodyState::Failed(error);
        self.keep_alive = false;
        if let Some(reader) = self.reader() {
            reader.end(Err(error));
        }
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

    fn is_over(&self) -> bool {
        self.body_is_done()
    }
}
