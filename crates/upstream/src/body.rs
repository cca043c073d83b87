//! The body of an answer.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use exchange::Fields;
use http1::{ChunkedDecoder, ChunkedEvent, ResponseFraming, ResponseHead};
use protocol::Deadline;
use tokio::time::{Sleep, sleep};

use crate::connection::{READ_SIZE, has_body};
use crate::http2;
use crate::incoming::{Incoming, Records};
use crate::{Attempt, Connection, Fault, Lease, Limits, Pool, Stream};

/// Longest body that is handed on in one piece when it is there with its head.
const WHOLE: usize = 64 * 1024;

/// `proxy_limit_rate`
#[derive(Debug)]
pub struct Rate {
    /// Bytes a second.
    pub bytes: u64,
    begun: Instant,
    read: u64,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Rate {
    /// So many bytes a second from now on.
    pub fn new(bytes: u64) -> Self {
        Self { bytes, begun: Instant::now(), read: 0, sleep: None }
    }

    /// Ready with how many bytes may be read now.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            // As in nginx, the first second's worth may be read at once.
            let allowed = self.bytes.saturating_mul(self.begun.elapsed().as_secs() + 1);
            if allowed > self.read {
                return Poll::Ready(usize::try_from(allowed - self.read).unwrap_or(usize::MAX));
            }
            let over = self.read - allowed;
            let wait = Duration::from_millis(over * 1000 / self.bytes.max(1) + 1);
            self.sleep = Some(Box::pin(sleep(wait.max(Duration::from_millis(50)))));
        }
    }
}

/// How much is still to come.
enum State {
    Done,
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    Records(Box<Records>),
    Http2(Box<http2::Incoming>),
    Close,
}

/// The body of an answer, read from its connection. When it has ended, the connection is free for the next request;
/// dropped before, it closes the connection.
pub struct AnswerBody {
    connection: Option<Box<Connection>>,
    state: State,
    read_timeout: Duration,
    /// The deadline runs.
    waiting: bool,
    reusable: bool,
    rate: Option<Box<Rate>>,
    attempt: Rc<Attempt>,
    lease: Option<Lease>,
    pool: Rc<Pool>,
}

impl AnswerBody {
    pub(crate) fn new(
        connection: Box<Connection>,
        head: &ResponseHead,
        incoming: Incoming,
        limits: &Limits,
        reusable: bool,
        (attempt, lease, pool): (Rc<Attempt>, Lease, Rc<Pool>),
    ) -> Self {
        let state = match (incoming, head.framing) {
            (Incoming::Records(mut records), framing) => {
                records.left = match framing {
                    ResponseFraming::None => Some(0),
                    ResponseFraming::Length(length) => Some(length),
                    ResponseFraming::Chunked | ResponseFraming::Close => None,
                };
                State::Records(records)
            }
            (_, framing) if !has_body(framing) => State::Done,
            (_, ResponseFraming::Length(length)) => State::Length(length),
            (_, ResponseFraming::Chunked) => State::Chunked(Box::new(ChunkedDecoder::new(&limits.head))),
            (_, ResponseFraming::Close | ResponseFraming::None) => State::Close,
        };
        Self {
            connection: Some(connection),
            state,
            read_timeout: limits.read_timeout,
            waiting: false,
            reusable,
            rate: None,
            attempt,
            lease: Some(lease),
            pool,
        }
    }

    /// That of an answer by HTTP/2.
    pub(crate) fn of_http2(
        connection: Box<Connection>,
        incoming: Box<http2::Incoming>,
        limits: &Limits,
        (attempt, lease, pool): (Rc<Attempt>, Lease, Rc<Pool>),
    ) -> Self {
        let reusable = pool.keeps() && incoming.is_sent();
        Self {
            connection: Some(connection),
            state: if incoming.is_over() { State::Done } else { State::Http2(incoming) },
            read_timeout: limits.read_timeout,
            waiting: false,
            reusable,
            rate: None,
            attempt,
            lease: Some(lease),
            pool,
        }
    }

    /// Lets the request go on, where it has not left as a whole, though nobody takes the answer.
    pub(crate) fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        if let (State::Http2(incoming), Some(connection)) = (&mut self.state, &mut self.connection) {
            incoming.poll_ahead(&mut connection.stream, cx);
        }
    }

    fn poll_http2(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, &'static str>>> {
        let (State::Http2(incoming), Some(connection)) = (&mut self.state, &mut self.connection) else {
            return Poll::Ready(None);
        };
        if let Some(rate) = &mut self.rate {
            ready!(rate.poll_room(cx));
        }
        if !self.waiting {
            connection.deadline.set(self.read_timeout);
            self.waiting = true;
        }
        match incoming.poll_next(&mut connection.stream, &self.attempt, cx) {
            Poll::Ready(Some(Ok(data))) => {
                self.waiting = false;
                if let Some(rate) = &mut self.rate {
                    rate.read += data.len() as u64;
                }
                Attempt::add(&self.attempt.length, data.len());
                Poll::Ready(Some(Ok(data)))
            }
            Poll::Ready(Some(Err(words))) => self.fail(words),
            Poll::Ready(None) => {
                self.reusable = self.pool.keeps() && incoming.is_sent();
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending if connection.deadline.is_past(cx) => {
                self.fail("upstream timed out (110: Connection timed out) while reading upstream")
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// `proxy_limit_rate`
    pub fn set_rate(&mut self, rate: u64) {
        let read = self.connection.as_ref().map_or(0, |connection| connection.input.len() as u64);
        self.rate = Some(Box::new(Rate { read, ..Rate::new(rate) }));
    }

    /// The server that answers.
    pub const fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// The answer is not wanted, because another server is to be asked: says which one this was.
    pub fn give_up(mut self) -> Option<Lease> {
        self.attempt.end();
        self.lease.take()
    }

    /// The connection's stream and what came on it behind the head, for another protocol than HTTP.
    pub fn into_stream(mut self) -> Option<(Stream, BytesMut, Deadline)> {
        if let Some(lease) = &self.lease {
            lease.answered();
        }
        self.connection.take().map(|connection| connection.into_parts())
    }

    /// Waits for the rest of what has come in part, for so long and up to so much as is handed on in one piece. The
    /// error: it broke off.
    pub async fn hold(&mut self, patience: Duration) -> Result<(), Fault> {
        let mut sleep: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            loop {
                let Some(connection) = self.connection.as_mut() else { return Poll::Ready(Ok(())) };
                let input = &mut connection.input;
                let is_whole = match &self.state {
                    State::Done | State::Close | State::Records(_) | State::Http2(_) => true,
                    State::Length(left) => input.len() as u64 >= *left,
                    State::Chunked(decoder) => has_ended(decoder, input),
                };
                if is_whole || input.len() >= WHOLE || self.rate.is_some() {
                    return Poll::Ready(Ok(()));
                }
                input.reserve(READ_SIZE);
                match connection.stream.poll_read(cx, input) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(Fault::Closed)),
                    Poll::Ready(Ok(read)) => Attempt::add(&self.attempt.received, read),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Io("recv", error))),
                    Poll::Pending => {
                        let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                        return sleep.as_mut().poll(cx).map(Ok);
                    }
                }
            }
        })
        .await
    }

    /// All of it, if it has come with the head and has no trailer section. The connection is free then.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        if self.rate.is_some() {
            return None;
        }
        let connection = self.connection.as_mut()?;
        let body = match &mut self.state {
            State::Done => Bytes::new(),
            State::Close | State::Http2(_) => return None,
            State::Records(records) => {
                let (body, after) = records.whole(&connection.input, WHOLE)?;
                connection.input.advance(after.taken);
                for (text, begins) in after.complaints {
                    self.attempt.complaints.borrow_mut().add(&text, begins);
                }
                self.reusable &= after.exact;
                body
            }
            State::Length(left) => {
                let length =
                    usize::try_from(*left).ok().filter(|length| *length <= connection.input.len())?;
                connection.input.split_to(length).freeze()
            }
            State::Chunked(decoder) => {
                let mut trial = decoder.clone();
                let (body, taken) = whole_chunks(&mut trial, &connection.input)?;
                connection.input.advance(taken);
                body
            }
        };
        Attempt::add(&self.attempt.length, body.len());
        self.finish();
        Some(body)
    }

    /// The next bytes; `None` after the last. An error is told in nginx's words.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, &'static str>>> {
        loop {
            match self.take_data() {
                Poll::Ready(Some(Ok(data))) => {
                    Attempt::add(&self.attempt.length, data.len());
                    return Poll::Ready(Some(Ok(data)));
                }
                Poll::Ready(None) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(words))) => return self.fail(words),
                Poll::Pending => {}
            }
            if matches!(self.state, State::Http2(_)) {
                return self.poll_http2(cx);
            }
            let most = match &mut self.rate {
                Some(rate) => ready!(rate.poll_room(cx)),
                None => usize::MAX,
            };
            let may_end = self.ends_with_the_connection();
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            if !self.waiting {
                connection.deadline.set(self.read_timeout);
                self.waiting = true;
            }
            let read = connection.stream.poll_read_most(cx, &mut connection.input, most);
            match read {
                Poll::Ready(Ok(0)) if may_end => {
                    self.state = State::Done;
                    self.finish();
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => {
                    return self.fail("upstream prematurely closed connection while reading upstream");
                }
                Poll::Ready(Ok(read)) => {
                    self.waiting = false;
                    Attempt::add(&self.attempt.received, read);
                    if let Some(rate) = &mut self.rate {
                        rate.read += read as u64;
                    }
                }
                Poll::Ready(Err(_)) => return self.fail("recv() failed while reading upstream"),
                Poll::Pending if connection.deadline.is_past(cx) => {
                    return self
                        .fail("upstream timed out (110: Connection timed out) while reading upstream");
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Takes what is in the input; pending when more has to be read.
    fn take_data(&mut self) -> Poll<Option<Result<Bytes, &'static str>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        let input = &mut connection.input;
        match &mut self.state {
            State::Done => Poll::Ready(None),
            State::Http2(_) => Poll::Pending,
            State::Records(records) => {
                let taken = records.take(input, &self.attempt);
                if matches!(taken, Poll::Ready(None)) {
                    self.reusable &= records.exact;
                    self.state = State::Done;
                }
                taken
            }
            _ if input.is_empty() => Poll::Pending,
            State::Close => Poll::Ready(Some(Ok(input.split().freeze()))),
            State::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= count as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
                Poll::Ready(Some(Ok(input.split_to(count).freeze())))
            }
            State::Chunked(decoder) => match decoder.decode(input) {
                Ok(ChunkedEvent::Data(range)) => {
                    input.advance(range.start);
                    Poll::Ready(Some(Ok(input.split_to(range.len()).freeze())))
                }
                Ok(ChunkedEvent::End { consumed }) => {
                    input.advance(consumed);
                    let trailers = decoder.trailers();
                    if !trailers.is_empty() {
                        let mut fields = Fields::new();
                        for (name, value) in trailers.iter() {
                            fields.push(name, value);
                        }
                        *self.attempt.trailers.borrow_mut() = Some(fields);
                    }
                    self.state = State::Done;
                    Poll::Ready(None)
                }
                Ok(ChunkedEvent::NeedMore) => {
                    input.clear();
                    Poll::Pending
                }
                Err(_) => Poll::Ready(Some(Err("upstream sent invalid chunked response"))),
            },
        }
    }

    /// The end of the connection is the end of the answer, and no accident.
    fn ends_with_the_connection(&self) -> bool {
        match &self.state {
            State::Close => true,
            State::Records(records) => records.may_close(),
            _ => false,
        }
    }

    fn fail(&mut self, words: &'static str) -> Poll<Option<Result<Bytes, &'static str>>> {
        self.state = State::Done;
        self.connection = None;
        self.attempt.end();
        if let Some(lease) = self.lease.take() {
            lease.failed();
        }
        Poll::Ready(Some(Err(words)))
    }

    /// The answer has ended where it said.
    fn finish(&mut self) {
        self.state = State::Done;
        self.attempt.end();
        let (Some(connection), Some(lease)) = (self.connection.take(), self.lease.take()) else { return };
        lease.answered();
        // What comes behind an answer belongs to no request.
        if self.reusable && connection.input.is_empty() {
            self.pool.give(connection);
        }
    }

    /// The fields behind the body, once it has ended.
    pub(crate) fn trailers(&self) -> Option<Fields> {
        self.attempt.trailers.borrow().clone()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.attempt.end();
    }
}

/// Whether no more is needed to see the end, or what is wrong.
fn has_ended(decoder: &ChunkedDecoder, input: &[u8]) -> bool {
    let (mut decoder, mut at) = (decoder.clone(), 0);
    loop {
        match decoder.decode(&input[at..]) {
            Ok(ChunkedEvent::Data(range)) => at += range.end,
            Ok(ChunkedEvent::NeedMore) => return false,
            Ok(ChunkedEvent::End { .. }) | Err(_) => return true,
        }
    }
}

/// All data of a body that has wholly come, without trailers, and the bytes that it took.
fn whole_chunks(decoder: &mut ChunkedDecoder, input: &[u8]) -> Option<(Bytes, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    if input.len() > WHOLE {
        return None;
    }
    loop {
        match decoder.decode(&input[at..]) {
            Ok(ChunkedEvent::Data(range)) => {
                body.extend_from_slice(&input[at + range.start..at + range.end]);
                at += range.end;
            }
            Ok(ChunkedEvent::End { consumed }) if decoder.trailers().is_empty() => {
                return Some((body.into(), at + consumed));
            }
            _ => return None,
        }
    }
}
