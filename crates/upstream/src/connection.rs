//! One connection, and what is asked on it: the same way whatever the protocol.

use std::fs::File;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use config::model::http::{Family, UpstreamAddress};
use exchange::{BodyError, BodySource, OthersFirst};
use http1::{AnswerTo, ResponseFraming, ResponseHead};
use protocol::{Deadline, Deadlines};

use crate::body::AnswerBody;
use crate::connect::{Bind, Route, Via, connect};
use crate::incoming::Incoming;
use crate::sender::Sender;
use crate::{Attempt, Failure, Fault, Lease, Pool, Stream};

/// Bytes that one read takes at most.
pub(crate) const READ_SIZE: usize = 64 * 1024;
/// Whose request is passed on.
pub trait Client {
    /// Ready when there is nobody to answer any more.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// The next of a body that is passed on as it comes.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>;

    /// Whether it is known that nothing of it follows.
    fn is_body_over(&self) -> bool;

    /// That body by itself, if it can be read while the answer is waited for and while it is written.
    fn take_body(&mut self) -> Option<Box<dyn BodySource>>;

    /// What is left of that body by itself, if it can be read while the answer is written. Nothing is asked of the client
    /// any more behind it.
    fn hand_over_body(&mut self) -> Option<Box<dyn BodySource>>;

    /// Something came before the answer (1xx): the client may want to know.
    fn interim(&mut self, head: &ResponseHead, bytes: &[u8]);
}

/// In the client's place where there is none: who only wants to know how a server is, or has gone with what it waits for.
pub struct Nobody;

impl Client for Nobody {
    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn poll_body(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        Poll::Ready(None)
    }

    fn is_body_over(&self) -> bool {
        true
    }

    fn take_body(&mut self) -> Option<Box<dyn BodySource>> {
        None
    }

    fn hand_over_body(&mut self) -> Option<Box<dyn BodySource>> {
        None
    }

    fn interim(&mut self, _: &ResponseHead, _: &[u8]) {}
}

/// What holds for one request.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `proxy_connect_timeout`
    pub connect_timeout: Duration,
    /// `proxy_send_timeout`
    pub send_timeout: Duration,
    /// `proxy_read_timeout`: between two reads, and for a head from its first byte to its last.
    pub read_timeout: Duration,
    /// Of an answer's head.
    pub head: http1::Limits,
    /// Bytes that are read at once while the head is awaited: no more than this comes unpaced.
    pub first_read: usize,
    /// How it is connected.
    pub route: Route,
    /// `fastcgi_catch_stderr`
    pub catch: Rc<[Vec<u8>]>,
}

/// A request as it leaves.
pub struct Outgoing<'a> {
    /// What comes before the body; of HTTP request line and fields, with the empty line.
    pub head: &'a [u8],
    /// What follows.
    pub body: OutgoingBody<'a>,
    /// What the answer is to.
    pub to: AnswerTo,
    /// The connection may be asked again as far as it is for who asks to say: by HTTP, the request has no
    /// `Connection: close` (RFC 9112 §9.6); by the others, the server was asked to keep it.
    pub keep: bool,
}

/// The body of a request as it leaves.
pub enum OutgoingBody<'a> {
    /// In memory; may be empty.
    Bytes(&'a [u8]),
    /// So many bytes of a file.
    File(&'a File, u64),
    /// As the client sends it.
    Stream {
        /// In chunks, because its length is not known.
        chunked: bool,
    },
}

/// The head of an answer, and where its body comes from.
pub struct Answer {
    /// The head; positions in `bytes`.
    pub head: ResponseHead,
    /// The head as it came; of another protocol, what it is in HTTP/1.
    pub bytes: Bytes,
    /// The body.
    pub body: AnswerBody,
    /// The connection was a kept one.
    pub reused: bool,
}

/// A connection to a server.
pub struct Connection {
    pub(crate) stream: Stream,
    pub(crate) address: UpstreamAddress,
    pub(crate) input: BytesMut,
    pub(crate) deadline: Deadline,
    /// Requests begun on it.
    pub(crate) requests: u64,
    pub(crate) opened: Instant,
    /// Where it comes from, if somebody has said.
    pub(crate) bind: Option<Bind>,
    /// How TLS is spoken on it.
    pub(crate) via: Option<Via>,
    /// What is spoken on it.
    pub(crate) family: Family,
}

impl Connection {
    /// One to this address: a kept one, or a new one. Tells whether it was kept.
    pub async fn to(
        address: &UpstreamAddress,
        pool: &Pool,
        limits: &Limits,
        deadlines: &Rc<Deadlines>,
        client: &mut dyn Client,
    ) -> Result<(Box<Self>, bool), Failure> {
        if let Some(kept) = pool.take(address, &limits.route, true) {
            return Ok((kept, true));
        }
        // In a box: a request that finds a kept connection does not pay for the size of a handshake.
        Box::pin(Self::connect(address, limits, deadlines, client)).await.map(|new| (new, false))
    }

    /// A new one to this address.
    pub async fn connect(
        address: &UpstreamAddress,
        limits: &Limits,
        deadlines: &Rc<Deadlines>,
        client: &mut dyn Client,
    ) -> Result<Box<Self>, Failure> {
        let failure = |fault| Failure {
            fault,
            action: "connecting to upstream",
            sent: false,
            reused: false,
            again: None,
        };
        let deadline = deadlines.register();
        deadline.set(limits.connect_timeout);
        let socket = {
            let mut connecting = pin!(connect(address, &limits.route));
            poll_fn(|cx| {
                if let Poll::Ready(done) = connecting.as_mut().poll(cx) {
                    return Poll::Ready(done.map_err(|error| {
                        let to = match address {
                            UpstreamAddress::Unix(path) => format!("unix:{}", path.display()),
                            UpstreamAddress::Ip(_) => String::new(),
                        };
                        Fault::Connect(error, to)
                    }));
                }
                if deadline.is_past(cx) {
                    return Poll::Ready(Err(Fault::Timeout));
                }
                client.poll_gone(cx).map(|()| Err(Fault::Gone))
            })
            .await
            .map_err(failure)?
        };
        let stream = match &limits.route.via {
            None => Stream::Plain(socket),
            Some(via) => {
                deadline.set(limits.connect_timeout);
                let mut shaking = pin!(via.tls.connect(socket, &via.name));
                let shaken = poll_fn(|cx| {
                    if let Poll::Ready(done) = shaking.as_mut().poll(cx) {
                        return Poll::Ready(done.map_err(Fault::Tls));
                    }
                    if deadline.is_past(cx) {
                        return Poll::Ready(Err(Fault::Timeout));
                    }
                    client.poll_gone(cx).map(|()| Err(Fault::Gone))
                });
                let action = "SSL handshaking to upstream";
                let encrypted = shaken.await.map_err(|fault| Failure { action, ..failure(fault) })?;
                Stream::Encrypted(Box::new(encrypted))
            }
        };
        Ok(Box::new(Self {
            stream,
            address: address.clone(),
            input: BytesMut::new(),
            deadline,
            requests: 0,
            opened: exchange::now(),
            bind: limits.route.bind,
            via: limits.route.via.clone(),
            family: limits.route.family,
        }))
    }

    /// Sends a request and waits for the head of its answer.
    #[expect(clippy::too_many_arguments, reason = "all that one request has")]
    pub fn ask<'a>(
        mut self: Box<Self>,
        reused: bool,
        outgoing: Outgoing<'a>,
        limits: &'a Limits,
        client: &'a mut dyn Client,
        attempt: &'a Rc<Attempt>,
        lease: Lease,
        pool: &'a Rc<Pool>,
    ) -> Asking<'a> {
        if self.family == Family::Grpc {
            return Asking::Http2(Box::pin(
                self.ask_http2(reused, outgoing, limits, client, attempt, lease, pool),
            ));
        }
        self.requests += 1;
        self.deadline.set(limits.send_timeout);
        Asking::Http1(AskingHttp1 {
            turn: exchange::others_first(),
            to: outgoing.to,
            keep: outgoing.keep,
            sender: Sender::new(outgoing, self.family),
            head: ResponseHead::default(),
            incoming: Incoming::new(self.family),
            parts: Some((self, lease)),
            reused,
            limits,
            client,
            attempt,
            pool,
        })
    }

    /// Ready with the head.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
        to: AnswerTo,
        attempt: &Attempt,
        (incoming, head): (&mut Incoming, &mut ResponseHead),
        client: &mut dyn Client,
    ) -> Poll<Result<Bytes, Fault>> {
        loop {
            let interim = &mut |head: &ResponseHead, bytes: &[u8]| client.interim(head, bytes);
            if let Some(bytes) = incoming.head(&mut self.input, limits, to, attempt, head, interim)? {
                return Poll::Ready(Ok(bytes));
            }
            // What a head that has begun says byte by byte is no sign of life, or it could go on for ever.
            let has_begun = incoming.has_begun(&self.input);
            let read = self.stream.poll_read_most(cx, &mut self.input, limits.first_read);
            match read {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Fault::Closed)),
                Poll::Ready(Ok(read)) => {
                    Attempt::add(&attempt.received, read);
                    if !has_begun {
                        self.deadline.set(limits.read_timeout);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Io("recv", error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The stream and what was read of it beyond the answer, for another protocol than HTTP.
    pub(crate) fn into_parts(self) -> (Stream, BytesMut, Deadline) {
        (self.stream, self.input, self.deadline)
    }
}

/// What has become of a request: its answer, or why there is none.
pub type Asked = Result<Answer, (Failure, Lease)>;

/// A request that is sent, and the head of its answer that is waited for. No async function: what waits in those is
/// copied from one into the next, and this is the wait of every request that is passed on.
#[expect(clippy::large_enum_variant, reason = "the large one is the one that nearly all are")]
pub enum Asking<'a> {
    /// By HTTP/1, or one of the protocols for gateways.
    Http1(AskingHttp1<'a>),
    /// By HTTP/2.
    Http2(Pin<Box<dyn Future<Output = Asked> + 'a>>),
}

impl Future for Asking<'_> {
    type Output = Asked;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Http1(asking) => asking.poll(cx),
            Self::Http2(asking) => asking.as_mut().poll(cx),
        }
    }
}

/// See [`Asking`].
pub struct AskingHttp1<'a> {
    turn: OthersFirst,
    sender: Sender<'a>,
    head: ResponseHead,
    incoming: Incoming,
    /// Until it has ended.
    parts: Option<(Box<Connection>, Lease)>,
    to: AnswerTo,
    keep: bool,
    reused: bool,
    limits: &'a Limits,
    client: &'a mut dyn Client,
    attempt: &'a Rc<Attempt>,
    pool: &'a Rc<Pool>,
}

impl AskingHttp1<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Asked> {
        ready!(Pin::new(&mut self.turn).poll(cx));
        let Some((connection, _)) = &mut self.parts else { return Poll::Pending };
        let mut refused = None;
        let mut is_refused = false;
        let outcome = {
            if !self.sender.done {
                match self.sender.poll(connection, self.limits, self.client, self.attempt, cx) {
                    Poll::Ready(Ok(())) => connection.deadline.set(self.limits.read_timeout),
                    // It may have answered before it closed.
                    Poll::Ready(Err(fault)) => {
                        is_refused = true;
                        refused = Some(fault);
                    }
                    Poll::Pending => {}
                }
            }
            let into = (&mut self.incoming, &mut self.head);
            let found = connection.poll_head(cx, self.limits, self.to, self.attempt, into, self.client);
            match (found, refused) {
                (Poll::Ready(Ok(bytes)), _) => Ok(bytes),
                (Poll::Ready(Err(_)) | Poll::Pending, Some(refused)) => Err(refused),
                (Poll::Ready(Err(fault)), None) => Err(fault),
                // While all that there is has left, it is the client that is waited for, and its time that passes.
                (Poll::Pending, None) if !self.sender.is_dry && connection.deadline.is_past(cx) => {
                    Err(Fault::Timeout)
                }
                (Poll::Pending, None) if self.sender.is_reading() => return Poll::Pending,
                (Poll::Pending, None) => {
                    ready!(self.client.poll_gone(cx));
                    Err(Fault::Gone)
                }
            }
        };
        let Some((connection, lease)) = self.parts.take() else { return Poll::Pending };
        let attempt = self.attempt;
        Poll::Ready(match outcome {
            Ok(bytes) => {
                let head = std::mem::take(&mut self.head);
                attempt.header_time.set(Some(exchange::now().duration_since(attempt.begun)));
                attempt.status.set(head.status);
                lease.has_head(head.status);
                let keeps = self.keep && (connection.family != Family::Proxy || head.keep_alive);
                // What was asked early is answered early. Of another protocol that begins here nothing is a body.
                let goes_on = !is_refused && head.status != 101;
                let rest = if goes_on { self.sender.rest(self.client) } else { None };
                let reusable = keeps && self.pool.keeps() && (self.sender.done || rest.is_some());
                let parts = (Rc::clone(attempt), lease, Rc::clone(self.pool));
                let incoming = std::mem::replace(&mut self.incoming, Incoming::new(Family::Proxy));
                let mut body = AnswerBody::new(connection, &head, incoming, self.limits, reusable, parts);
                body.rest = rest;
                Ok(Answer { head, bytes, body, reused: self.reused })
            }
            Err(fault) => {
                let action = match fault {
                    _ if self.sender.done => "reading response header from upstream",
                    _ => "sending request to upstream",
                };
                let sent = attempt.sent.get() > 0;
                // What is no answer may be what came behind the answer before.
                let reused = self.reused && (attempt.received.get() == 0 || fault.is_noise());
                Err((Failure { fault, action, sent, reused, again: None }, lease))
            }
        })
    }
}

/// Whether a body may follow at all.
pub(crate) const fn has_body(framing: ResponseFraming) -> bool {
    !matches!(framing, ResponseFraming::None | ResponseFraming::Length(0))
}
