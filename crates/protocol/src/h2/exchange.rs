//! One stream: a request, its body, and the watch over its client.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::h2::server::SendResponse;
use ::h2::{Reason, RecvStream, SendStream};
use bytes::{Buf, Bytes};
use exchange::{Body, BodyError, BodySource, Fields, Request, Response};

use super::head::Head;
use super::turns::Priority;
use super::wire::Wire;
use crate::pace::{Pace, Paced};
use crate::{ClientEvent, Deadline, Refusal, h1};

/// Between an early response and the reset behind it.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// One request of a connection, and the way back to its client.
pub struct Exchange {
    pub(super) head: Option<Head>,
    /// `None`: somebody else has it.
    pub(super) stream: Option<RecvStream>,
    /// The stream's number.
    pub(super) id: u32,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) wire: Rc<Wire>,
    pub(super) settings: Rc<h1::Settings>,
    pub(super) deadline: Deadline,
    pub(super) pace: Option<Box<Paced>>,
    /// The pace held the response back.
    pub(super) is_paced: bool,
    pub(super) priority: Priority,
    /// The round of the last turn that it had.
    pub(super) round: u64,
    pub(super) is_head: bool,
    /// A response has begun.
    pub(super) is_answered: bool,
    /// A WebSocket is to begin.
    is_web_socket: bool,
    /// The way to the client, where bytes follow the response that are no body.
    pub(super) tunnel: Option<SendStream<Bytes>>,
    /// They do.
    pub(super) is_tunnel: bool,
    /// Its number among the requests of the connection.
    number: u64,
    is_known: bool,
    /// Bytes of the last piece, which the client may send again when somebody asks for the next.
    unread: usize,
    /// Body bytes so far, for `max_body`.
    received: u64,
    expects_continue: bool,
    failed: Option<BodyError>,
}

impl Exchange {
    pub(super) fn new(
        (head, stream): (Head, RecvStream),
        respond: SendResponse<Bytes>,
        wire: Rc<Wire>,
        settings: Rc<h1::Settings>,
        deadline: Deadline,
    ) -> Self {
        wire.begin_exchange();
        Self {
            number: wire.requests.get(),
            is_known: wire.served.get() >= wire.exchanges() as u64,
            priority: head.priority(),
            head: Some(head),
            id: stream.stream_id().as_u32(),
            stream: Some(stream),
            respond,
            wire,
            settings,
            deadline,
            pace: None,
            is_paced: false,
            round: 0,
            is_head: false,
            is_answered: false,
            is_web_socket: false,
            tunnel: None,
            is_tunnel: false,
            unread: 0,
            received: 0,
            expects_continue: false,
            failed: None,
        }
    }

    /// Moves the head into `request`; once.
    pub fn read_head(&mut self, request: &mut Request) -> Result<(), Refusal> {
        let Some(head) = self.head.take() else { return Err(Refusal::Gone) };
        self.is_web_socket = head.is_web_socket();
        let read = head.read(&self.settings, self.is_received(), request);
        self.is_head = request.method == exchange::Method::Head;
        self.expects_continue = request
            .fields
            .only(exchange::Name::Expect)
            .is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue"));
        read
    }

    /// Requests begun on the connection when this one was, itself among them.
    pub fn requests(&self) -> u64 {
        self.number
    }

    /// See [`Exchange::is_known`](crate::Exchange::is_known).
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether the connection's TLS handshake is not over.
    pub(crate) fn is_in_early_data(&self) -> bool {
        self.wire.stream().is_in_early_data()
    }

    /// Waits for the end of the TLS handshake; the connection goes on with it.
    pub(crate) async fn settle(&mut self) -> Result<(), Refusal> {
        self.deadline.set(self.settings.header_timeout);
        poll_fn(|cx| {
            if self.wire.is_settled(cx) {
                return Poll::Ready(Ok(()));
            }
            if self.respond.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Refusal::Gone));
            }
            if self.deadline.is_past(cx) {
                return Poll::Ready(Err(Refusal::TooEarly));
            }
            Poll::Pending
        })
        .await
    }

    /// The connection's descriptor, for what the kernel knows of it. It outlives the exchange.
    pub fn socket(&self) -> std::os::fd::RawFd {
        use std::os::fd::{AsFd, AsRawFd};
        self.wire.stream().as_fd().as_raw_fd()
    }

    /// What holds from now on: a location's time-outs and limits.
    pub fn set_settings(&mut self, settings: Rc<h1::Settings>) {
        self.settings = settings;
    }

    /// The body of the request.
    pub fn body(&mut self) -> &mut dyn BodySource {
        self.deadline.set(self.settings.body_timeout);
        self
    }

    /// How fast the response may leave.
    pub fn set_pace(&mut self, pace: Box<dyn Pace>) {
        self.pace = Some(Box::new(Paced::new(pace)));
    }

    /// Ready when the client has cancelled the request, or is gone altogether.
    pub fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<ClientEvent> {
        self.respond.poll_reset(cx).map(|_| ClientEvent::Gone)
    }

    /// Waits a little after a response that came before the request's end. What then tells the client to send no more is
    /// a reset, and clients that find it together with the response take it for the response's failure.
    pub async fn linger(&mut self) {
        self.deadline.set(LAST_WORDS);
        let Some(stream) = &mut self.stream else { return };
        poll_fn(|cx| {
            loop {
                match stream.poll_data(cx) {
                    // The client's window stays shut: this is not more than it may send anyway.
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending if self.deadline.is_past(cx) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }

    /// Makes of a response what the client takes it for. One whose client wants to begin a WebSocket takes any success
    /// for the beginning (RFC 8441 §5): it is 200 where HTTP/1 says 101, and otherwise nobody has begun one.
    pub fn adapt(&mut self, response: &mut Response) {
        if !self.is_web_socket {
            return;
        }
        if response.status == 101 {
            response.status = 200;
            response.body = Body::Empty;
            response.fields.remove_named(b"sec-websocket-accept");
            self.is_tunnel = true;
        } else if (200..300).contains(&response.status) {
            *response = Response::new(501);
        }
    }

    /// Whether the response has left before the request's end.
    pub fn is_early(&self) -> bool {
        self.is_answered && !self.is_received()
    }

    fn is_received(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    /// The body by itself, for who reads it while the response is written. From then on `client_body_timeout` does not
    /// count: both ways go on together, and whoever answers says how long.
    pub fn detach_body(&mut self) -> Option<DetachedBody> {
        if std::mem::take(&mut self.expects_continue) {
            self.send_continue();
        }
        let (unread, received) = (std::mem::take(&mut self.unread), self.received);
        let (max_body, failed) = (self.settings.max_body, self.failed);
        Some(DetachedBody { stream: self.stream.take()?, max_body, unread, received, failed })
    }

    fn send_continue(&mut self) {
        let mut interim = http::Response::new(());
        *interim.status_mut() = http::StatusCode::CONTINUE;
        // If it cannot be sent, the stream is over.
        let _ = self.respond.send_informational(interim);
    }

    /// See [`Exchange::early_hints`](crate::Exchange::early_hints).
    pub fn early_hints(&mut self, fields: &Fields) {
        if self.is_answered {
            return;
        }
        let mut interim = http::Response::new(());
        *interim.status_mut() = http::StatusCode::EARLY_HINTS;
        *interim.headers_mut() = super::response::section(fields);
        // If it cannot be sent, the stream is over.
        let _ = self.respond.send_informational(interim);
    }

    /// There will be no response, which the client is told.
    pub fn abandon(&mut self) {
        if !self.is_answered {
            self.is_answered = true;
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.failed = Some(error);
        Poll::Ready(Some(Err(error)))
    }
}

impl BodySource for Exchange {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(error) = self.failed {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
            if self.unread > 0 {
                // An error means that the stream is over, which is told below.
                let _ = stream.flow_control().release_capacity(std::mem::take(&mut self.unread));
            }
            let polled = stream.poll_data(cx);
            if polled.is_pending() {
                if std::mem::take(&mut self.expects_continue) {
                    self.send_continue();
                }
                if self.deadline.is_past(cx) {
                    return self.fail(BodyError::Timeout);
                }
            }
            let data = match ready!(polled) {
                None => return Poll::Ready(None),
                Some(Ok(data)) => data,
                // The stream has been reset for it already.
                Some(Err(error)) if error.is_library() && error.reason() == Some(Reason::PROTOCOL_ERROR) => {
                    return self
                        .fail(BodyError::Malformed("a body that is not as long as its content-length"));
                }
                Some(Err(_)) => return self.fail(BodyError::Gone),
            };
            self.unread = data.len();
            self.deadline.set(self.settings.body_timeout);
            if !data.has_remaining() {
                continue;
            }
            self.received += data.len() as u64;
            if self.settings.max_body.is_some_and(|limit| self.received > limit) {
                return self.fail(BodyError::TooLarge);
            }
            return Poll::Ready(Some(Ok(data)));
        }
    }

    fn is_over(&self) -> bool {
        self.failed.is_none() && self.is_received()
    }
}

/// See [`Exchange::detach_body`].
pub struct DetachedBody {
    stream: RecvStream,
    max_body: Option<u64>,
    /// Bytes of the last piece, which the client may send again when somebody asks for the next.
    unread: usize,
    received: u64,
    failed: Option<BodyError>,
}

impl BodySource for DetachedBody {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(error) = self.failed {
            return Poll::Ready(Some(Err(error)));
        }
        let error = loop {
            if self.unread > 0 {
                // An error means that the stream is over, which is told below.
                let _ = self.stream.flow_control().release_capacity(std::mem::take(&mut self.unread));
            }
            let data = match ready!(self.stream.poll_data(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(data)) => data,
                Some(Err(_)) => break BodyError::Gone,
            };
            self.unread = data.len();
            self.received += data.len() as u64;
            if self.max_body.is_some_and(|limit| self.received > limit) {
                break BodyError::TooLarge;
            }
            if data.has_remaining() {
                return Poll::Ready(Some(Ok(data)));
            }
        };
        self.failed = Some(error);
        Poll::Ready(Some(Err(error)))
    }

    fn is_over(&self) -> bool {
        self.failed.is_none() && self.stream.is_end_stream()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.abandon();
        self.wire.end_exchange();
    }
}
