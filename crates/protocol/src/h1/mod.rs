//! HTTP/1.0 and HTTP/1.1 on one connection.
//!
//! The connection's owner calls, for each request: [`Connection::idle`], [`Connection::begin_head`] and [`Connection::poll_head`], reads the
//! body through [`Connection::body`], and [`Connection::respond`]. Buffers are borrowed from a pool of the
//! event loop only while a request is on its way, so that an idle connection holds nearly nothing.

mod body;
mod close;
mod handed;
mod read;
mod tunnel;
mod write;

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http1::{BodyFraming, ChunkedDecoder, RequestHead};
use listen::Stream;
use listen::tls::Session;

use crate::pace::{Pace, Paced};
use crate::{Deadline, Deadlines};

pub use read::{Idle, read_head};
pub use tunnel::OtherEnd;
pub use write::Left;

/// Bytes that one read takes at most.
const READ_SIZE: usize = 16 * 1024;
/// Pipelined bytes that are taken while a request is served; more stay in the kernel.
const PIPELINE_LIMIT: usize = 64 * 1024;
/// Buffer sets that an event loop keeps for the next request.
const POOL_SIZE: usize = 256;

/// What holds for all connections of an event loop.
pub struct Settings {
    /// Limits of heads, chunks and trailers.
    pub limits: http1::Limits,
    /// What is a matter of taste in a head.
    pub policy: http1::Policy,
    /// Bytes of a body; `None` is no limit.
    pub max_body: Option<u64>,
    /// From the first byte of a head to its end.
    pub header_timeout: Duration,
    /// Between two reads of a body.
    pub body_timeout: Duration,
    /// Between two writes that the client takes.
    pub send_timeout: Duration,
    /// Between two requests; zero closes after every response.
    pub keepalive_timeout: Duration,
    /// What is told to the client of it (`Keep-Alive: timeout=`); `None` tells nothing.
    pub keepalive_header: Option<Duration>,
    /// A connection that is older is closed after the response.
    pub keepalive_time: Duration,
    /// An idle connection is not closed before that because the server ends or needs room.
    pub keepalive_min_timeout: Duration,
    /// When a close is preceded by taking what the client still sends.
    pub lingering: Lingering,
    /// How long unread bytes are thrown away before the close.
    pub lingering_time: Duration,
    /// How long the client may send nothing meanwhile.
    pub lingering_timeout: Duration,
    /// A connection whose client takes nothing is ended with a reset, however the response is framed.
    pub reset_timedout: bool,
    /// Bodies of unknown length are sent in chunks; else the connection's end is theirs.
    pub chunked: bool,
    /// Small packets leave at once.
    pub nodelay: bool,
    /// Slashes that follow each other are one.
    pub merge_slashes: bool,
    /// Requests on one connection.
    pub keepalive_requests: u64,
    /// Whether files are sent with sendfile.
    pub sendfile: bool,
    /// By HTTP/2: bytes of a response that leave before another response of the connection has its turn.
    pub http2_chunk: usize,
    /// Value of `Server`; `None` sends none of our own.
    pub server: Option<Rc<str>>,
}

/// See [`Settings::lingering`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lingering {
    /// Never.
    Off,
    /// When the client has sent what was not read.
    On,
    /// After every response.
    Always,
}

/// What a connection needs only while a request is on its way.
#[derive(Default)]
struct Buffers {
    input: BytesMut,
    output: Vec<u8>,
    head: RequestHead,
}

/// Buffers that wait for the next request of any connection of the event loop.
#[derive(Default)]
#[expect(
    clippy::vec_box,
    reason = "a connection holds one by its address; by value every connection would be larger"
)]
pub struct Pool(RefCell<Vec<Box<Buffers>>>);

impl Pool {
    fn take(&self) -> Box<Buffers> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    fn give(&self, mut buffers: Box<Buffers>) {
        let mut pool = self.0.borrow_mut();
        if pool.len() < POOL_SIZE && buffers.output.capacity() <= 4 * READ_SIZE {
            buffers.input.clear();
            buffers.output.clear();
            buffers.head.clear();
            pool.push(buffers);
        }
    }
}

/// How much of the current request's body is still to come.
enum BodyState {
    Done,
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    Failed(exchange::BodyError),
}

/// One client connection.
pub struct Connection {
    stream: Stream,
    settings: Rc<Settings>,
    pool: Rc<Pool>,
    deadline: Deadline,
    buffers: Option<Box<Buffers>>,
    body: BodyState,
    /// Body bytes of this request so far, for `max_body`.
    body_received: u64,
    /// Some of it was thrown away, and more may be behind it.
    forgot: bool,
    /// Somebody has it while the response is written.
    handed: Option<Rc<handed::Handover>>,
    /// The client waits for 100 before it sends the body.
    expects_continue: bool,
    /// The client has said that it sends nothing more.
    half_closed: bool,
    /// Neither side wants it to end.
    keep_alive: bool,
    /// It has had as many requests or as much time as the settings allow.
    worn: bool,
    is_http10: bool,
    is_head: bool,
    /// Requests begun on this connection.
    requests: u64,
    /// When it was accepted.
    opened: Instant,
    /// The current request was there before the last response had left.
    pipelined: bool,
    /// Small packets leave at once: what the socket is told now.
    nodelay: bool,
    /// How fast the current response may leave.
    pace: Option<Box<Paced>>,
    /// Bytes of the current response's head.
    head_length: u64,
    /// The end of the current response's body is the connection's.
    ends_with_close: bool,
    /// Something of the current response has been written.
    response_begun: bool,
    /// Bytes of the current response that the kernel, or a TLS session, was given.
    wrote: u64,
    /// The current response is whole, in the output, and is to leave.
    departing: bool,
    /// The close is to be a reset.
    resets: bool,
}

impl Connection {
    /// Takes over a stream that was accepted at `opened`, and on which so many requests were served elsewhere.
    pub fn new(
        stream: Stream,
        settings: Rc<Settings>,
        pool: Rc<Pool>,
        deadlines: &Rc<Deadlines>,
        requests: u64,
        opened: Instant,
    ) -> Self {
        Self {
            stream,
            settings,
            pool,
            deadline: deadlines.register(),
            buffers: None,
            body: BodyState::Done,
            body_received: 0,
            forgot: false,
            handed: None,
            expects_continue: false,
            half_closed: false,
            keep_alive: true,
            worn: false,
            is_http10: false,
            is_head: false,
            requests,
            opened,
            pipelined: false,
            nodelay: true,
            pace: None,
            head_length: 0,
            ends_with_close: false,
            response_begun: false,
            wrote: 0,
            departing: false,
            resets: false,
        }
    }

    /// Requests begun on this connection.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether the server lets its connections end.
    pub fn is_ending(&self) -> bool {
        self.deadline.is_ending()
    }

    /// What holds from now on: a location's time-outs and limits in the place of the listener's.
    pub fn set_settings(&mut self, settings: Rc<Settings>) {
        self.settings = settings;
        self.worn = self.is_worn()
            || exchange::now().saturating_duration_since(self.opened) > self.settings.keepalive_time;
    }

    fn is_worn(&self) -> bool {
        self.settings.keepalive_timeout.is_zero() || self.requests >= self.settings.keepalive_requests
    }

    /// What the next head is read with. It is for another location than the one that the last request led to.
    pub fn begin_with(&mut self, settings: Rc<Settings>) {
        self.settings = settings;
    }

    /// Whether the current request was there before the last response had left.
    pub fn is_pipelined(&self) -> bool {
        self.pipelined
    }

    /// How fast the response of the current request may leave; it holds for that one only.
    pub fn set_pace(&mut self, pace: Box<dyn Pace>) {
        self.pace = Some(Box::new(Paced::new(pace)));
    }

    /// Whether it is between two requests, so that [`Connection::into_parts`] loses nothing.
    pub fn is_movable(&self) -> bool {
        let is_quiet = self.buffers.as_ref().is_none_or(|b| b.input.is_empty() && b.output.is_empty());
        self.requests > 0
            && is_quiet
            && self.body_is_done()
            && !self.half_closed
            && !self.deadline.is_ending()
    }

    /// The stream and what has been read of it, for somebody else to go on with.
    pub fn into_stream(mut self) -> (Stream, BytesMut) {
        let input = self.buffers.take().map_or_else(BytesMut::new, |buffers| buffers.input);
        (self.stream, input)
    }

    /// The socket, and the session that is spoken on it, for somebody else to go on with.
    pub fn into_parts(mut self) -> io::Result<(OwnedFd, Option<Box<Session>>)> {
        self.release();
        // Whoever goes on takes it to be so.
        self.set_nodelay(true);
        self.stream.into_parts()
    }

    /// What has been read of the stream by somebody else, before anything is read here.
    pub fn set_input(&mut self, input: BytesMut) {
        self.buffers().input = input;
    }

    /// The connection is not to be used after the current response.
    pub fn close_after(&mut self) {
        self.keep_alive = false;
    }

    /// The stream, for its addresses and options.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether something of earlier responses may not have reached the client's kernel: a reset would throw it away.
    /// What encrypting adds may make it say so wrongly.
    fn owes_earlier_responses(&self) -> bool {
        self.requests > 1 && self.stream.unacknowledged().is_some_and(|bytes| bytes > self.wrote)
    }

    /// Makes the close that follows a reset.
    pub(crate) fn reset_on_close(&mut self) {
        self.resets = true;
        self.stream.reset_on_close();
    }

    fn set_nodelay(&mut self, nodelay: bool) {
        if self.nodelay != nodelay {
            self.nodelay = nodelay;
            self.stream.set_nodelay(nodelay);
        }
    }

    fn buffers(&mut self) -> &mut Buffers {
        self.buffers.get_or_insert_with(|| self.pool.take())
    }

    /// Gives the buffers back if they hold nothing.
    fn release(&mut self) {
        if self.buffers.as_ref().is_some_and(|b| b.input.is_empty() && b.output.is_empty())
            && let Some(buffers) = self.buffers.take()
        {
            self.pool.give(buffers);
        }
    }

    fn begin_body(&mut self, framing: BodyFraming) {
        self.body_received = 0;
        self.forgot = false;
        self.handed = None;
        self.body = match framing {
            BodyFraming::None | BodyFraming::Length(0) => BodyState::Done,
            BodyFraming::Length(length) => BodyState::Length(length),
            BodyFraming::Chunked => BodyState::Chunked(Box::new(ChunkedDecoder::new(&self.settings.limits))),
        };
    }
}
