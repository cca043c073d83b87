//! The connection: accepting streams, time-outs, and its end.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::h2::Reason;
use ::h2::server::{Builder, Connection as Codec};
use bytes::{Bytes, BytesMut};
use listen::Stream;

use super::exchange::Exchange;
use super::frames::Fault;
use super::wire::{Socket, Wire};
use super::{Settings, head};
use crate::deadline::FRESH;
use crate::{Deadline, Deadlines, h1};

/// Bytes of all bodies that the client may send before somebody asks for them.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of one response that the codec takes; more than `turns` ever gives it would be idle memory.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that the client ends before anybody has seen them, in one go.
const UNSEEN_RESETS: usize = 200;
/// Streams reset by us that the codec remembers, to know what is still sent on them.
const REMEMBERED_RESETS: usize = 100;
/// Requests that come after the client was told to go elsewhere.
const LATE_REQUESTS: u64 = 100;
/// How long the last bytes may take to leave, and the client to take note of them.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it should, or the client just left.
    Quietly,
    /// The client broke the protocol, with this error code.
    Error(&'static str),
    /// The client made more work than requests.
    Flood,
}

/// One client connection.
pub struct Connection {
    codec: Codec<Socket, Bytes>,
    wire: Rc<Wire>,
    settings: Rc<h1::Settings>,
    deadlines: Rc<Deadlines>,
    deadline: Deadline,
    opened: Instant,
    /// Which of the configurations it began with.
    renewals: u32,
    phase: Phase,
    /// What the deadline was set for; `None`: it has to be set anew.
    waits: Option<Waits>,
    ended: Ended,
}

/// How far the connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client knows that no further request is wanted; it had made so many.
    Leaving(u64),
    /// The last frame has been given to the codec.
    Closing,
}

/// What the deadline is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    Nothing,
    /// For a request.
    Idle,
    /// For the rest of a head.
    Head,
    /// For the client to take what was written.
    Room,
    /// For the end.
    End,
}

impl Connection {
    /// Begins to speak HTTP/2 on a stream that was accepted at `opened`, of which `input` has been read already.
    /// `None`: the client left, sent something else, or did not send its preface in time.
    pub async fn begin(
        stream: Stream,
        input: BytesMut,
        settings: Rc<h1::Settings>,
        own: &Settings,
        deadlines: &Rc<Deadlines>,
        opened: Instant,
    ) -> Option<Self> {
        let wire = Wire::new(stream, input);
        let deadline = deadlines.register();
        deadline.set(settings.header_timeout);
        let mut handshake = pin!(builder(&settings, own).handshake(Socket(Rc::clone(&wire))));
        let codec = poll_fn(|cx| {
            let polled = handshake.as_mut().poll(cx);
            if matches!(wire.poll_flush(cx), Poll::Ready(Err(_))) {
                return Poll::Ready(None);
            }
            match polled {
                Poll::Ready(codec) => Poll::Ready(codec.ok()),
                Poll::Pending if wire.fault().is_some() || deadline.is_past(cx) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        let codec = codec.await?;
        let deadlines = Rc::clone(deadlines);
        let renewals = deadline.renewals();
        let (phase, waits) = (Phase::Open, None);
        Some(Self {
            codec,
            wire,
            settings,
            deadlines,
            deadline,
            opened,
            renewals,
            phase,
            waits,
            ended: Ended::Quietly,
        })
    }

    /// The next request; `None` when the connection has come to its end.
    pub async fn accept(&mut self) -> Option<Exchange> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Ends the connection so that the client hears our last word: closing with unread bytes makes a reset that may
    /// overtake it.
    pub async fn close(self) -> Ended {
        let Self { codec, wire, deadline, ended, .. } = self;
        // From now on exchanges find their client gone, whatever they wait for.
        drop(codec);
        wire.turns.all_has_left();
        deadline.set_idle(None);
        deadline.set(LAST_WORDS);
        let flushed = poll_fn(|cx| match wire.poll_flush(cx) {
            Poll::Pending if deadline.is_past(cx) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
            Poll::Ready(flushed) => Poll::Ready(flushed.is_ok()),
        });
        if flushed.await {
            wire.shutdown_write();
            poll_fn(|cx| match wire.poll_discard(cx) {
                Poll::Pending if deadline.is_past(cx) => Poll::Ready(()),
                other => other,
            })
            .await;
        }
        ended
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Exchange>> {
        self.wire.set_driver(cx);
        loop {
            match self.codec.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, mut respond)))) => {
                    self.wire.requests.set(self.wire.requests.get() + 1);
                    // The next wait is a new one, with a deadline of its own or without one.
                    self.waits = None;
                    // Nobody waits for it any more: it never runs.
                    if respond.poll_reset(cx).is_ready() {
                        continue;
                    }
                    let settings = Rc::clone(&self.settings);
                    let head = head::Head::of(request);
                    return Poll::Ready(Some(Exchange::new(
                        head,
                        respond,
                        Rc::clone(&self.wire),
                        settings,
                        self.deadlines.register(),
                    )));
                }
                Poll::Ready(Some(Err(error))) => {
                    if self.ended == Ended::Quietly && error.is_library() {
                        self.ended = match error.reason() {
                            Some(Reason::PROTOCOL_ERROR) if self.wire.rename_error() => {
                                ended(Reason::COMPRESSION_ERROR)
                            }
                            Some(reason) => ended(reason),
                            None => Ended::Quietly,
                        };
                    }
                    return Poll::Ready(None);
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            if let (Some(fault), false) = (self.wire.fault(), self.phase == Phase::Closing) {
                let reason = match fault {
                    Fault::Error(reason) => reason,
                    Fault::Flood => Reason::ENHANCE_YOUR_CALM,
                };
                self.ended = ended(reason);
                self.end(reason);
                continue;
            }
            match self.wire.poll_flush(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                // The codec was held up by what has just left.
                Poll::Ready(Ok(())) if self.wire.take_blocked() => continue,
                Poll::Ready(Ok(())) => self.wire.turns.all_has_left(),
                Poll::Pending => {}
            }
            if self.leave() {
                continue;
            }
            if !self.wait(cx) {
                return Poll::Pending;
            }
            if self.is_over() {
                return Poll::Ready(None);
            }
        }
    }

    /// Ends everything at once, with this error code.
    fn end(&mut self, reason: Reason) {
        self.phase = Phase::Closing;
        self.codec.abrupt_shutdown(reason);
    }

    /// Tells the client to take further requests elsewhere, if it is time to; whether the codec has something to do.
    fn leave(&mut self) -> bool {
        let requests = self.wire.requests.get();
        match self.phase {
            Phase::Open => {
                let is_worn = requests >= self.settings.keepalive_requests
                    || (requests > 0 && self.settings.keepalive_timeout.is_zero())
                    || self.opened.elapsed() > self.settings.keepalive_time
                    || (requests > 0 && self.deadline.is_ending())
                    // What was agreed on, the certificate among it, was so by the old configuration.
                    || self.deadline.renewals() != self.renewals;
                if is_worn {
                    self.phase = Phase::Leaving(requests);
                    self.waits = None;
                    self.codec.graceful_shutdown();
                }
                is_worn
            }
            Phase::Leaving(before) if requests > before + LATE_REQUESTS => {
                self.end(Reason::ENHANCE_YOUR_CALM);
                true
            }
            Phase::Leaving(_) | Phase::Closing => false,
        }
    }

    /// Sets the deadline by what is waited for; whether it has passed.
    fn wait(&mut self, cx: &Context<'_>) -> bool {
        let is_idle = self.wire.exchanges() == 0;
        let waits = if self.phase == Phase::Closing {
            Waits::End
        } else if self.wire.is_writing() {
            Waits::Room
        } else if self.wire.is_within_head() {
            Waits::Head
        } else if is_idle {
            Waits::Idle
        } else {
            Waits::Nothing
        };
        let is_new = Some(waits) != self.waits || (waits == Waits::Room && self.wire.take_moved());
        self.waits = Some(waits);
        if is_new {
            self.wire.take_moved();
            let is_fresh = self.wire.requests.get() == 0;
            let limit = match (waits, self.phase) {
                (Waits::Nothing, _) => Duration::MAX,
                (Waits::Room, _) => self.settings.send_timeout,
                (Waits::Head, _) => self.settings.header_timeout,
                (Waits::End, _) | (Waits::Idle, Phase::Leaving(_)) => LAST_WORDS,
                (Waits::Idle, _) if is_fresh => self.settings.header_timeout,
                (Waits::Idle, _) => self.settings.keepalive_timeout,
            };
            let limit = if is_fresh && self.deadline.is_ending() { limit.min(FRESH) } else { limit };
            self.deadline.set(limit);
            self.deadline.set_fresh(is_fresh);
            let idle = waits == Waits::Idle && self.phase == Phase::Open;
            self.deadline.set_idle(idle.then(|| self.settings.keepalive_min_timeout.min(limit)));
            if is_idle && !self.wire.is_writing() {
                self.wire.release();
            }
        }
        self.deadline.is_past(cx)
    }

    /// What a deadline that has passed means: whether it is the end, or the client is told first.
    fn is_over(&mut self) -> bool {
        match self.waits {
            None | Some(Waits::Nothing) => false,
            Some(Waits::Idle) => {
                self.end(Reason::NO_ERROR);
                false
            }
            Some(Waits::Head) => {
                self.end(Reason::PROTOCOL_ERROR);
                false
            }
            Some(Waits::Room) => {
                if self.settings.reset_timedout {
                    self.wire.reset_on_close();
                }
                true
            }
            Some(Waits::End) => true,
        }
    }
}

fn builder(settings: &h1::Settings, own: &Settings) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(own.max_concurrent_streams)
        .initial_window_size(own.preread)
        .initial_connection_window_size(CONNECTION_WINDOW.max(own.preread))
        .max_frame_size(own.max_frame)
        .max_header_list_size(head::list_limit(settings))
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .max_pending_accept_reset_streams(UNSEEN_RESETS);
    if own.connects {
        builder.enable_connect_protocol();
    }
    builder
}

fn ended(reason: Reason) -> Ended {
    match reason {
        Reason::NO_ERROR => Ended::Quietly,
        Reason::ENHANCE_YOUR_CALM => Ended::Flood,
        Reason::FLOW_CONTROL_ERROR => Ended::Error("FLOW_CONTROL_ERROR"),
        Reason::FRAME_SIZE_ERROR => Ended::Error("FRAME_SIZE_ERROR"),
        Reason::COMPRESSION_ERROR => Ended::Error("COMPRESSION_ERROR"),
        Reason::STREAM_CLOSED => Ended::Error("STREAM_CLOSED"),
        _ => Ended::Error("PROTOCOL_ERROR"),
    }
}
