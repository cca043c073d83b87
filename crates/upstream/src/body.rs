//! The body of an answer.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use exchange::Fields;
use http1::{ChunkedDecoder, ChunkedEvent, ResponseFraming, ResponseHead};
use protocol::Deadline;
use tokio::time::{Sleep, sleep};

use crate::connection::has_body;
use crate::http2;
use crate::incoming::{Incoming, Records};
use crate::sender::Rest;
use crate::successor::{Following, Successor};
use crate::{Attempt, Connection, Lease, Limits, Pool, Stream};

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

/// Why an answer that has begun did not end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Broken {
    /// What nginx writes of it.
    pub words: &'static str,
    /// Nothing came for too long.
    pub is_timeout: bool,
}

impl Broken {
    const TIMEOUT: Self = Self {
        words: "upstream timed out (110: Connection timed out) while reading upstream",
        is_timeout: true,
    };

    const fn new(words: &'static str) -> Self {
        Self { words, is_timeout: false }
    }
}

/// What came of waiting for the end of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Held {
    /// It is there, or has to be passed on as it comes.
    Ready,
    /// It broke off.
    Broken(Broken),
    /// Nobody waits for it any more.
    Gone,
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

/// What says where an answer ends.
#[derive(Clone, Copy)]
enum End {
    /// Its head.
    Length,
    /// The last chunk.
    Chunk,
    /// The connection, or another protocol than HTTP/1.
    Connection,
}

/// The body of an answer, read from its connection. When it has ended, the connection is free for the next request;
/// dropped before, it closes the connection.
pub struct AnswerBody {
    connection: Option<Box<Connection>>,
    /// What is left of the request.
    pub(crate) rest: Option<Box<Rest>>,
    state: State,
    /// What was read while nobody was to see it yet.
    pub(crate) held: VecDeque<Bytes>,
    /// Who is asked for the rest, should it break off.
    pub(crate) following: Option<Box<Following>>,
    /// The rest, while it is asked for.
    taking_up: Option<Pin<Box<dyn Future<Output = Option<Self>>>>>,
    read_timeout: Duration,
    /// The deadline runs.
    waiting: bool,
    reusable: bool,
    rate: Option<Box<Rate>>,
    /// What said where it ends.
    end: End,
    attempt: Rc<Attempt>,
    lease: Option<Lease>,
    pool: Rc<Pool>,
}

/// More came than was announced.
const EXCESS: &str = "upstream sent more data than specified in \"Content-Length\" header";

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
            rest: None,
            state,
            held: VecDeque::new(),
            following: None,
            taking_up: None,
            read_timeout: limits.read_timeout,
            waiting: false,
            reusable,
            rate: None,
            end: match head.framing {
                ResponseFraming::None | ResponseFraming::Length(_) => End::Length,
                ResponseFraming::Chunked => End::Chunk,
                ResponseFraming::Close => End::Connection,
            },
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
            rest: None,
            state: if incoming.is_over() { State::Done } else { State::Http2(incoming) },
            held: VecDeque::new(),
            following: None,
            taking_up: None,
            read_timeout: limits.read_timeout,
            waiting: false,
            reusable,
            rate: None,
            end: End::Connection,
            attempt,
            lease: Some(lease),
            pool,
        }
    }

    /// Some of it waits for the client in a temporary file.
    pub(crate) fn has_spilled(&self) {
        self.attempt.spilled.set(true);
    }

    /// Lets the request go on, where it has not left as a whole, though nobody takes the answer.
    pub(crate) fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        self.poll_rest(cx);
        if let (State::Http2(incoming), Some(connection)) = (&mut self.state, &mut self.connection) {
            incoming.poll_ahead(&mut connection.stream, cx);
        }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) {
        if let (Some(rest), Some(connection)) = (&mut self.rest, &mut self.connection)
            && rest.poll(&mut connection.stream, &self.attempt, cx)
        {
            // The time for what comes back begins anew, as while the head was waited for.
            self.waiting = false;
        }
    }

    fn poll_http2(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
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
                Poll::Ready(Some(Ok(data)))
            }
            Poll::Ready(Some(Err(words))) => Poll::Ready(Some(Err(Broken::new(words)))),
            Poll::Ready(None) => {
                self.reusable = self.pool.keeps() && incoming.is_sent();
                self.state = State::Done;
                Poll::Ready(None)
            }
            Poll::Pending if connection.deadline.is_past(cx) => Poll::Ready(Some(Err(Broken::TIMEOUT))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// `proxy_limit_rate`
    pub fn set_rate(&mut self, rate: u64) {
        debug_assert!(self.following.is_none(), "what takes its place would have no limit");
        let read = self.connection.as_ref().map_or(0, |connection| connection.input.len() as u64);
        self.rate = Some(Box::new(Rate { read, ..Rate::new(rate) }));
    }

    /// From now on, should it break off, another server is asked for the rest. Not for one that is there already.
    pub fn follow(&mut self, head: &ResponseHead, bytes: &[u8], successor: impl FnOnce() -> Successor) {
        let has_come = match (&self.state, &self.connection) {
            (State::Length(left), Some(connection)) => connection.input.len() as u64 >= *left,
            // Of one that ends with its connection nobody knows that it broke off.
            (state, _) => matches!(state, State::Done | State::Close),
        };
        if !has_come {
            self.following = Some(successor().follow(head, bytes));
        }
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

    /// Before any of it was taken: whether it is so much that it is handed on as it comes, or nobody knows how much.
    fn is_open(&self) -> bool {
        let left = match &self.state {
            State::Length(left) => Some(*left),
            State::Records(records) => records.left,
            State::Http2(incoming) => incoming.length,
            State::Done | State::Close | State::Chunked(_) => None,
        };
        left.is_none_or(|left| left > WHOLE as u64)
    }

    /// Waits for the rest of what has come in part, up to so much as is handed on in one piece; where it is not known
    /// to be so little, only for so long, and in any case for no more than twice the time between two reads. `gone` is
    /// ready when nobody waits for it.
    pub async fn hold(
        &mut self,
        patience: Duration,
        mut gone: impl FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Held {
        if matches!(self.state, State::Done | State::Close) || self.rate.is_some() {
            return Held::Ready;
        }
        // What most answers are, at no cost.
        if let (State::Length(left), Some(connection)) = (&self.state, &self.connection)
            && connection.input.len() as u64 >= *left
        {
            return Held::Ready;
        }
        if let Some(whole) = self.gather() {
            self.state = State::Done;
            self.held.push_back(whole);
            return Held::Ready;
        }
        // One that is silent has timed out before; what drips is passed on all the same.
        let patience = if self.is_open() { patience } else { self.read_timeout.saturating_mul(2) };
        let mut sleep: Option<Pin<Box<Sleep>>> = None;
        let mut length = 0;
        poll_fn(|cx| {
            while length < WHOLE {
                match self.poll_piece(cx) {
                    Poll::Ready(Some(Ok(data))) => {
                        length += data.len();
                        self.held.push_back(data);
                    }
                    Poll::Ready(Some(Err(broken))) => return Poll::Ready(Held::Broken(broken)),
                    Poll::Ready(None) => break,
                    Poll::Pending if gone(cx).is_ready() => return Poll::Ready(Held::Gone),
                    Poll::Pending => {
                        let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                        return sleep.as_mut().poll(cx).map(|()| Held::Ready);
                    }
                }
            }
            Poll::Ready(Held::Ready)
        })
        .await
    }

    /// All of it, if it has come with the head and has no trailer section. The connection is free then.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        if self.rate.is_some() {
            return None;
        }
        let body = self.gather()?;
        Attempt::add(&self.attempt.length, body.len());
        self.finish();
        Some(body)
    }

    /// The same, but nothing is said of the connection yet.
    fn gather(&mut self) -> Option<Bytes> {
        let connection = self.connection.as_mut()?;
        let body = match &mut self.state {
            State::Done if self.attempt.trailers.borrow().is_some() => return None,
            State::Done if self.held.len() > 1 => {
                std::mem::take(&mut self.held).make_contiguous().concat().into()
            }
            State::Done => self.held.pop_front().unwrap_or_default(),
            _ if !self.held.is_empty() => return None,
            State::Close | State::Http2(_) => return None,
            State::Records(records) => {
                let (body, after) = records.whole(&connection.input, WHOLE)?;
                connection.input.advance(after.taken);
                for (text, begins) in after.complaints {
                    self.attempt.complaints.borrow_mut().add(&text, begins);
                }
                self.reusable &= after.exact;
                if !after.exact {
                    self.attempt.excess.set(Some(EXCESS));
                }
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
        Some(body)
    }

    /// The next bytes; `None` after the last. An error is told in nginx's words.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, &'static str>>> {
        if let Some(taking_up) = &mut self.taking_up {
            let rest = ready!(taking_up.as_mut().poll(cx));
            self.taking_up = None;
            match rest {
                Some(rest) => *self = rest,
                None => return Poll::Ready(Some(Err("no other upstream could go on with the response"))),
            }
        }
        let next = match self.held.pop_front() {
            Some(data) => Some(Ok(data)),
            None => ready!(self.poll_piece(cx)),
        };
        match next {
            Some(Ok(data)) => {
                Attempt::add(&self.attempt.length, data.len());
                if let Some(following) = &mut self.following {
                    following.passes(&data);
                }
                Poll::Ready(Some(Ok(data)))
            }
            Some(Err(broken)) => {
                self.fail();
                match self.following.take().filter(|following| following.may_follow(broken)) {
                    None => Poll::Ready(Some(Err(broken.words))),
                    Some(following) => {
                        *self.attempt.gave_up.borrow_mut() = Some(broken.words.to_owned());
                        self.taking_up = Some(Box::pin(following.take_up(Rc::clone(&self.attempt))));
                        self.poll_next(cx)
                    }
                }
            }
            None => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }

    /// The next bytes from the connection; `None` where the answer ends. Neither has consequences yet.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let broken = |words| Poll::Ready(Some(Err(Broken::new(words))));
        self.poll_rest(cx);
        loop {
            match self.take_data() {
                Poll::Ready(Some(Err(words))) => return broken(words),
                Poll::Ready(Some(Ok(data))) => return Poll::Ready(Some(Ok(data))),
                Poll::Ready(None) => return Poll::Ready(None),
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
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => {
                    return broken("upstream prematurely closed connection while reading upstream");
                }
                Poll::Ready(Ok(read)) => {
                    self.waiting = false;
                    Attempt::add(&self.attempt.received, read);
                    if let Some(rate) = &mut self.rate {
                        rate.read += read as u64;
                    }
                }
                Poll::Ready(Err(error)) => {
                    return broken(match error.kind() {
                        io::ErrorKind::ConnectionReset => {
                            "recv() failed (104: Connection reset by peer) while reading upstream"
                        }
                        _ => "recv() failed while reading upstream",
                    });
                }
                Poll::Pending if connection.deadline.is_past(cx) => {
                    return Poll::Ready(Some(Err(Broken::TIMEOUT)));
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
                    if !records.exact {
                        self.attempt.excess.set(Some(EXCESS));
                    }
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
                Err(_) => {
                    Poll::Ready(Some(Err("upstream sent invalid chunked response while reading upstream")))
                }
            },
        }
    }

    /// Nobody would know that it broke off: there is nothing but its connection to say where it ends.
    pub(crate) fn ends_unseen(&self) -> bool {
        matches!(self.state, State::Close)
    }

    /// The end of the connection is the end of the answer, and no accident.
    fn ends_with_the_connection(&self) -> bool {
        match &self.state {
            State::Close => true,
            State::Records(records) => records.may_close(),
            _ => false,
        }
    }

    /// As in nginx, that is no reason to think of the server as down: what breaks off may be this answer everywhere, and
    /// one bad page would take all servers out. One that is gone fails the next that want to connect.
    fn fail(&mut self) {
        self.state = State::Done;
        self.connection = None;
        self.attempt.end();
        self.lease = None;
    }

    /// The answer has ended where it said.
    fn finish(&mut self) {
        self.state = State::Done;
        self.attempt.end();
        let (Some(connection), Some(lease)) = (self.connection.take(), self.lease.take()) else { return };
        lease.answered();
        // What comes behind an answer belongs to no request.
        if !connection.input.is_empty() {
            self.attempt.excess.set(match self.end {
                End::Length => Some(EXCESS),
                End::Chunk => Some("upstream sent data after final chunk"),
                End::Connection => None,
            });
        } else if self.reusable && self.rest.as_ref().is_none_or(|rest| rest.is_sent) {
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
