//! One request and its response, whatever version of HTTP the connection speaks.
//!
//! The phases of a request see its client through an [`Exchange`] only, so that all versions go the same way.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use exchange::{BodyError, BodySource, Fields, Name, NoBody, Response};
use http1::HeadError;

use crate::pace::Pace;
use crate::path::InvalidPath;
use crate::{h1, h2};

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client closed the connection; nobody is left to answer.
    Gone,
    /// The same by a reset.
    Reset,
    /// The head did not arrive in time: 408.
    Timeout,
    /// The head is refused.
    Head(HeadError),
    /// The path is refused: 400.
    Path(InvalidPath),
    /// The body is announced larger than allowed: 413.
    TooLarge,
    /// It came in early data, and the handshake does not come to its end: 425.
    TooEarly,
}

impl Refusal {
    /// The status to answer with; `None` when nobody is left to answer.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Gone | Self::Reset => None,
            Self::Timeout => Some(408),
            Self::Head(error) => Some(error.status()),
            Self::Path(_) => Some(400),
            Self::TooLarge => Some(413),
            Self::TooEarly => Some(425),
        }
    }
}

/// What a client does while it waits for its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// It sends nothing more, and may or may not still listen.
    HalfClosed,
    /// It is gone.
    Gone,
}

/// Why a response did not reach the client whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The client closed or reset the connection.
    Gone,
    /// The same, seen while there was nothing to send to it.
    Left,
    /// The client took nothing for `send_timeout`.
    Timeout,
    /// The response itself broke off; the client can tell, because the connection was cut.
    Broken(&'static str),
}

/// What was written.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Bytes of the body, without framing.
    pub body: u64,
    /// Bytes of the head.
    pub head: u64,
    /// How it ended.
    pub outcome: Result<(), WriteError>,
}

/// The client's side of the request that is being served.
///
/// An enum and not a trait: the phases are compiled once, and what HTTP/1 pays is one branch a call.
pub enum Exchange<'a> {
    /// The current request of an HTTP/1 connection.
    Http1(&'a mut h1::Connection),
    /// A stream of an HTTP/2 connection.
    Http2(&'a mut h2::Exchange),
    /// Nobody: what is asked for is part of a response that is being sent already.
    Nobody(&'a mut Nobody),
}

/// In the place of a client that somebody else talks to.
#[derive(Clone, Copy, Debug)]
pub struct Nobody {
    /// See [`Exchange::requests`].
    pub requests: u64,
    /// See [`Exchange::socket`].
    pub socket: RawFd,
    body: NoBody,
}

impl Nobody {
    /// In the place of this client.
    pub const fn for_client(requests: u64, socket: RawFd) -> Self {
        Self { requests, socket, body: NoBody }
    }
}

impl Exchange<'_> {
    /// The same for somebody who is done with it before its owner goes on.
    pub fn reborrow(&mut self) -> Exchange<'_> {
        match self {
            Self::Http1(connection) => Exchange::Http1(connection),
            Self::Http2(exchange) => Exchange::Http2(exchange),
            Self::Nobody(nobody) => Exchange::Nobody(nobody),
        }
    }

    /// Requests begun on the connection, this one among them: `$connection_requests`.
    pub fn requests(&self) -> u64 {
        match self {
            Self::Http1(connection) => connection.requests(),
            Self::Http2(exchange) => exchange.requests(),
            Self::Nobody(nobody) => nobody.requests,
        }
    }

    /// Whether its client was served before. Of what one asks at once on HTTP/2 that is only said of as many requests
    /// as it has had responses, or a new client would be known from its second stream on.
    pub fn is_known(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.requests() > 1,
            Self::Http2(exchange) => exchange.is_known(),
            Self::Nobody(nobody) => nobody.requests > 1,
        }
    }

    /// Whether the request was there before the last response had left: `$pipe`.
    pub fn is_pipelined(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_pipelined(),
            Self::Http2(_) | Self::Nobody(_) => false,
        }
    }

    /// Whether the request is there before the end of the TLS handshake, and may be a copy of another client's.
    pub fn is_in_early_data(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.stream().is_in_early_data(),
            Self::Http2(exchange) => exchange.is_in_early_data(),
            Self::Nobody(_) => false,
        }
    }

    /// Waits for the end of the TLS handshake, as long as a head may take.
    pub async fn settle(&mut self) -> Result<(), Refusal> {
        match self {
            Self::Http1(connection) => connection.settle().await,
            Self::Http2(exchange) => exchange.settle().await,
            Self::Nobody(_) => Ok(()),
        }
    }

    /// The connection's descriptor, for what the kernel knows of it. It outlives the request.
    pub fn socket(&self) -> RawFd {
        match self {
            Self::Http1(connection) => connection.stream().as_fd().as_raw_fd(),
            Self::Http2(exchange) => exchange.socket(),
            Self::Nobody(nobody) => nobody.socket,
        }
    }

    /// What holds from now on: a location's time-outs and limits in the place of the listener's.
    pub fn set_settings(&mut self, settings: Rc<h1::Settings>) {
        match self {
            Self::Http1(connection) => connection.set_settings(settings),
            Self::Http2(exchange) => exchange.set_settings(settings),
            Self::Nobody(_) => {}
        }
    }

    /// The body of the request. The time for its next piece begins.
    pub fn body(&mut self) -> &mut dyn BodySource {
        match self {
            Self::Http1(connection) => connection.body(),
            Self::Http2(exchange) => exchange.body(),
            Self::Nobody(nobody) => &mut nobody.body,
        }
    }

    /// The next piece of the body, for which the time began with [`Exchange::body`] or the piece before.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Http1(connection) => connection.poll_data(cx),
            Self::Http2(exchange) => exchange.poll_data(cx),
            Self::Nobody(_) => Poll::Ready(None),
        }
    }

    /// Whether it is known that no piece of the body follows.
    pub fn is_body_over(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_over(),
            Self::Http2(exchange) => exchange.is_over(),
            Self::Nobody(_) => true,
        }
    }

    /// What is left of the body by itself, once there is a response to be written meanwhile. Before that, only HTTP/2
    /// has it: see [`Exchange::detach_body`].
    pub fn hand_over_body(&mut self) -> Option<Box<dyn BodySource>> {
        match self {
            Self::Http1(connection) => Some(Box::new(connection.hand_over_body())),
            Self::Http2(_) | Self::Nobody(_) => self.detach_body(),
        }
    }

    /// The body by itself, where it can be read while the response is waited for as well as while it is written.
    pub fn detach_body(&mut self) -> Option<Box<dyn BodySource>> {
        match self {
            Self::Http1(_) | Self::Nobody(_) => None,
            Self::Http2(exchange) => exchange.detach_body().map(|body| Box::new(body) as Box<dyn BodySource>),
        }
    }

    /// Watches the client while its request is served. Each event is told once.
    pub fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<ClientEvent> {
        match self {
            Self::Http1(connection) => connection.poll_client(cx),
            Self::Http2(exchange) => exchange.poll_client(cx),
            Self::Nobody(_) => Poll::Pending,
        }
    }

    /// Asks whether a client that sends nothing more is still there; what it says is told by
    /// [`Exchange::poll_client`].
    pub fn probe(&mut self) {
        match self {
            Self::Http1(connection) => connection.probe(),
            // Each stream says by itself when it is cancelled.
            Self::Http2(_) | Self::Nobody(_) => {}
        }
    }

    /// Tells the client of what the response will want (103), if its protocol knows that and it does not have to be
    /// waited for.
    pub fn early_hints(&mut self, fields: &Fields) {
        if fields.is_empty() {
            return;
        }
        match self {
            Self::Http1(connection) => connection.early_hints(fields),
            Self::Http2(exchange) => exchange.early_hints(fields),
            Self::Nobody(_) => {}
        }
    }

    /// How fast the response may leave.
    pub fn set_pace(&mut self, pace: Box<dyn Pace>) {
        match self {
            Self::Http1(connection) => connection.set_pace(pace),
            Self::Http2(exchange) => exchange.set_pace(pace),
            Self::Nobody(_) => {}
        }
    }

    /// What the client sends after this request is not to be relied on: where requests follow each other on one
    /// stream of bytes, there will be no next one.
    pub fn close_after(&mut self) {
        match self {
            Self::Http1(connection) => connection.close_after(),
            Self::Http2(_) | Self::Nobody(_) => {}
        }
    }

    /// There will be no response: nginx's 444. `reset`: the client is to see that from the close itself.
    pub fn abandon(&mut self, reset: bool) {
        match self {
            Self::Http1(connection) => {
                if reset {
                    connection.reset_on_close();
                }
                connection.close_after();
            }
            Self::Http2(exchange) => exchange.abandon(),
            Self::Nobody(_) => {}
        }
    }

    /// Makes of a response what this client takes it for; before it is logged.
    pub fn adapt(&mut self, response: &mut Response) {
        match self {
            Self::Http1(_) | Self::Nobody(_) => {}
            Self::Http2(exchange) => exchange.adapt(response),
        }
    }

    /// Makes of a response's fields, kept for the logs, those that its head will have of its length and the connection.
    pub fn tell_framing(&self, response: &Response, fields: &mut Fields) {
        match self {
            Self::Http1(connection) => connection.tell_framing(response, fields),
            Self::Http2(_) | Self::Nobody(_) => {
                if let Some(length) = response.body.len().filter(|_| !fields.has(Name::ContentLength)) {
                    fields.push_known(Name::ContentLength, length.to_string().as_bytes());
                }
            }
        }
    }

    /// Carries bytes between the client and another end, after a response 101. Returns how many the client got.
    pub async fn tunnel(&mut self, other: &mut dyn h1::OtherEnd) -> u64 {
        match self {
            Self::Http1(connection) => connection.tunnel(other).await,
            // In a box, so that what HTTP/1 waits with is not larger.
            Self::Http2(exchange) => Box::pin(exchange.tunnel(other)).await,
            Self::Nobody(_) => 0,
        }
    }

    /// Writes the response and uses its body up. `date` is the value of `Date`. What is small may only be ready to
    /// leave then: [`Exchange::depart`].
    pub async fn respond(&mut self, response: &mut Response, date: &[u8]) -> Sent {
        match self.try_respond(response, date) {
            Ok(sent) => sent,
            Err(left) => Box::pin(self.respond_rest(response, date, left)).await,
        }
    }

    /// The same as far as nothing has to be waited for.
    pub fn try_respond(&mut self, response: &mut Response, date: &[u8]) -> Result<Sent, h1::Left> {
        match self {
            Self::Http1(connection) => connection.try_respond(response, date),
            Self::Http2(_) => Err(h1::Left::WHOLE),
            Self::Nobody(_) => Ok(Sent { body: 0, head: 0, outcome: Err(WriteError::Gone) }),
        }
    }

    /// Lets the response go that is ready to leave. Otherwise the connection's owner does, before the next request.
    pub async fn depart(&mut self) {
        if let Self::Http1(connection) = self {
            // Its owner finds it closed.
            let _ = connection.depart().await;
        }
    }

    /// What [`Exchange::try_respond`] has left.
    pub async fn respond_rest(&mut self, response: &mut Response, date: &[u8], left: h1::Left) -> Sent {
        match self {
            Self::Http1(connection) => connection.respond_rest(response, date, left).await,
            Self::Http2(exchange) => exchange.respond(response, date).await,
            Self::Nobody(_) => Sent { body: 0, head: 0, outcome: Err(WriteError::Gone) },
        }
    }
}
