//! `proxy_pass` to an address of an application that is run here (`bind`): what would leave by the socket goes straight
//! into the application's queue. The request is made as for any server, and the answer becomes the response as any
//! server's does; only the connection in between is not there.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use buffering::{BufferedBody, ResponseBuffer, ResponseLimits};
use bytes::Bytes;
use exchange::{Body, Chunk, ChunkStream, Request, Response, SendForeign, StreamError};
use http1::{AnswerTo, ResponseFraming, ResponseHead};
use protocol::{Deadline, Refusal, h1};
use telemetry::error_log::Level;
use upstream::{Answer, AnswerBody, Attempt, Fault, Lease};

use super::super::kept::Keeping;
use super::super::visit::{Step, Visit};
use super::outgoing::{Head, Target};
use super::place::ProxyPlace;
use super::{Unanswered, head_limits};
use crate::forwarded;

const WAITING: &str = "reading response header from upstream";
const LATE: StreamError =
    StreamError("upstream timed out (110: Connection timed out) while reading upstream");
const SHORT: StreamError = StreamError("the application sent less than it announced");

/// The head of an answer, and where its body comes from.
pub(super) struct Answered {
    /// The head; positions in `bytes`.
    pub head: ResponseHead,
    /// The head, as it is in HTTP/1.
    pub bytes: Bytes,
    /// The body.
    pub body: Source,
}

/// Where the body of an answer comes from.
pub(super) enum Source {
    /// A server.
    Server(AnswerBody),
    /// An application that is run here.
    App(Box<AppBody>),
}

impl From<Answer> for Answered {
    fn from(answer: Answer) -> Self {
        Self { head: answer.head, bytes: answer.bytes, body: Source::Server(answer.body) }
    }
}

impl Source {
    /// All of it, if it is there already.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match self {
            Self::Server(body) => body.take_whole(),
            Self::App(body) => body.take_whole(),
        }
    }

    /// As fast as the client takes it.
    pub fn direct(self, trailers: bool) -> Body {
        match self {
            Self::Server(body) => upstream::direct(body, trailers),
            Self::App(body) => body.into_body(false),
        }
    }

    /// As fast as it comes, for somebody who takes all of it at once, as a cache does.
    pub fn at_once(self, trailers: bool) -> Body {
        match self {
            Self::Server(body) => upstream::direct(body, trailers),
            Self::App(body) => body.into_body(true),
        }
    }

    /// As fast as it comes, as far as there is room. An application's answer has its room already.
    pub fn buffered(self, buffer: impl FnOnce() -> ResponseBuffer, trailers: bool) -> Body {
        match self {
            Self::Server(body) => upstream::buffered(body, buffer(), trailers),
            Self::App(body) => body.into_body(true),
        }
    }
}

impl Visit<'_, '_> {
    /// Has the application answer the request with this head and body.
    pub(super) async fn ask_app(
        &mut self,
        index: u32,
        place: &ProxyPlace,
        (target, head): (&Target, &Head),
        request: &Request,
        body: &BufferedBody,
        keeping: Option<&Keeping>,
    ) -> Result<Answered, (Step, Unanswered)> {
        let site = self.site;
        let settings = &place.settings;
        let Some(app) = site.apps.get(index as usize).map(Rc::clone) else {
            return Err((Step::Page(500), Unanswered::Error));
        };
        let asking = self.request_for_app(index, place, head, request);
        let asking = asking.map_err(|status| (Step::Page(status), Unanswered::Client))?;
        // Where the configuration says that there is no body, there is none.
        let body = if asking.has_body() { body } else { &BufferedBody::Empty };
        // The group's numbers count it as any request to its server.
        let lease = target.group.choose(target.key.clone(), settings.next_tries).lease();
        let server =
            lease.as_ref().map_or_else(|| target.group.name.as_str().into(), |l| l.peer.name.clone());
        let attempt = self.begin_attempt(server, true);
        attempt.connect_time.set(Some(Duration::ZERO));
        attempt.sent.set(head.bytes.len() as u64 + body.len());
        *self.facts.app.borrow_mut() = Some(site.app_name(index));
        let limits = ResponseLimits {
            memory: usize::try_from(settings.memory).unwrap_or(usize::MAX),
            temp_file: settings.temp_file,
        };
        let alone = settings.ignore_client_abort || Keeping::is_cacheable(keeping);
        let deadline = self.event_loop.deadlines.register();
        deadline.set(settings.read_timeout);
        let called = {
            let mut call = pin!(self.run_app(&app, (request, &asking), body, alone, Some(limits)));
            poll_fn(|cx| match call.as_mut().poll(cx) {
                Poll::Ready(called) => Poll::Ready(Some(called)),
                Poll::Pending if deadline.is_past(cx) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await
        };
        let fault = match called {
            None => Fault::Timeout,
            Some(Err(status)) => {
                attempt.status.set(status);
                attempt.end();
                let why = match status {
                    499 | 431 => Unanswered::Client,
                    504 => Unanswered::Timeout,
                    _ => Unanswered::Error,
                };
                return Err((self.unanswered(&app, status), why));
            }
            Some(Ok(mut response)) => {
                self.observe(&mut response);
                attempt.header_time.set(Some(exchange::now().duration_since(attempt.begun)));
                match read(&response, &head_limits(settings), head.without_body) {
                    Ok((answer, bytes)) => {
                        attempt.status.set(answer.status);
                        attempt.received.set(bytes.len() as u64);
                        if let Some(lease) = &lease {
                            lease.has_head(answer.status);
                        }
                        let body = AppBody {
                            body: if answer.framing == ResponseFraming::None {
                                Body::Empty
                            } else {
                                response.body
                            },
                            left: match answer.framing {
                                ResponseFraming::Length(length) => Some(length),
                                _ => None,
                            },
                            read_timeout: settings.read_timeout,
                            waiting: false,
                            deadline,
                            attempt: Rc::clone(&attempt),
                            lease,
                            ahead: true,
                        };
                        return Ok(Answered { head: answer, bytes, body: Source::App(Box::new(body)) });
                    }
                    Err(error) => Fault::Invalid(error, error.to_string().into()),
                }
            }
        };
        attempt.status.set(fault.status());
        attempt.end();
        let (name, words) = (&attempt.address, format_args!("{fault}"));
        self.log_upstream(Level::Error, request, target, name, Some(WAITING), words);
        let why = if fault.is_invalid() { Unanswered::Invalid } else { Unanswered::Timeout };
        Err((Step::Page(fault.status()), why))
    }

    /// The request as it would come out of the socket, by the client that we know.
    fn request_for_app(
        &self,
        index: u32,
        place: &ProxyPlace,
        head: &Head,
        request: &Request,
    ) -> Result<Request, u16> {
        let length = head.bytes.len();
        let limits = http1::Limits {
            request_line: length,
            fields: length,
            field_size: length,
            head: length,
            ..http1::Limits::default()
        };
        // As at the application's own address; which of them count is said by its settings.
        let policy = http1::Policy {
            underscore_fields: http1::UnderscoreFields::Keep,
            plain_names_only: true,
            ..http1::Policy::default()
        };
        let refuse = |status: u16, words: &dyn std::fmt::Display| {
            self.facts.log(
                Level::Error,
                Some(request),
                format_args!("the application takes no such request: {words}"),
            );
            status
        };
        let mut asking =
            h1::read_head(&head.bytes, &limits, &policy, false).map_err(|refusal| match refusal {
                Refusal::Head(error) => refuse(error.status(), &error),
                Refusal::Path(error) => refuse(400, &error.as_str()),
                _ => refuse(400, &"its head is none"),
            })?;
        (asking.scheme, asking.peer) = (request.scheme, request.peer);
        let model = self.site.configuration.model.apps.get(index as usize);
        if let Some(settings) = model.and_then(|app| app.forwarded.as_deref()) {
            let is_set = |name: &[u8]| place.sets(name);
            forwarded::lead(settings, &mut asking, is_set).map_err(|why| refuse(400, &why))?;
        }
        Ok(asking)
    }
}

/// The application's head in HTTP/1, read as any server's.
fn read(
    response: &Response,
    limits: &http1::Limits,
    without_body: bool,
) -> Result<(ResponseHead, Bytes), http1::ResponseError> {
    let usual = http1::reason_phrase(response.status).unwrap_or_default().as_bytes();
    let reason = response.reason.as_deref().unwrap_or(usual);
    let mut bytes = format!("HTTP/1.1 {} ", response.status).into_bytes();
    bytes.extend_from_slice(reason);
    bytes.extend_from_slice(b"\r\n");
    for (known, name, value) in response.fields.iter() {
        // The body has no framing any more.
        if matches!(known, exchange::Name::TransferEncoding | exchange::Name::Connection) {
            continue;
        }
        for part in [name, b": ", value, b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    bytes.extend_from_slice(b"\r\n");
    let mut head = ResponseHead::default();
    let to = AnswerTo { head: without_body, upgrade: false };
    match http1::parse_response_head(&bytes, limits, false, to, &mut head)? {
        Some(length) if length == bytes.len() => Ok((head, bytes.into())),
        _ => Err(http1::ResponseError::Field),
    }
}

/// The body of an application's answer.
pub(super) struct AppBody {
    body: Body,
    /// Bytes that were announced and have not come yet.
    left: Option<u64>,
    read_timeout: Duration,
    /// The deadline runs.
    waiting: bool,
    deadline: Deadline,
    attempt: Rc<Attempt>,
    lease: Option<Lease>,
    /// What comes while the client takes nothing is kept for it, as far as there is room.
    ahead: bool,
}

impl AppBody {
    fn take_whole(&mut self) -> Option<Bytes> {
        let whole = match &mut self.body {
            Body::Empty => Bytes::new(),
            Body::Full(bytes) => bytes.clone(),
            Body::File(_) | Body::Stream(_) => return None,
        };
        if self.left.is_some_and(|left| left != whole.len() as u64) {
            return None;
        }
        self.body = Body::Empty;
        self.left = None;
        self.count(whole.len() as u64);
        self.finish();
        Some(whole)
    }

    fn into_body(mut self: Box<Self>, ahead: bool) -> Body {
        self.ahead = ahead;
        Body::Stream(self)
    }

    fn count(&mut self, bytes: u64) {
        self.waiting = false;
        self.left = self.left.map(|left| left.saturating_sub(bytes));
        for counter in [&self.attempt.length, &self.attempt.received] {
            counter.set(counter.get() + bytes);
        }
    }

    fn finish(&mut self) {
        self.attempt.end();
        if let Some(lease) = self.lease.take() {
            lease.answered();
        }
    }

    fn fail(&mut self, error: StreamError) -> Poll<Option<Result<Chunk, StreamError>>> {
        self.body = Body::Empty;
        self.left = None;
        self.attempt.end();
        self.lease = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl ChunkStream for AppBody {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        let polled = match &mut self.body {
            Body::Stream(stream) => stream.poll_chunk(cx),
            Body::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.body = Body::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(Chunk::Data(bytes))))
            }
            // Applications answer with none.
            Body::Empty | Body::File(_) => Poll::Ready(None),
        };
        match &polled {
            Poll::Ready(Some(Ok(chunk))) => {
                match chunk {
                    Chunk::Data(data) => self.count(data.len() as u64),
                    Chunk::File { len, .. } => self.count(*len),
                    Chunk::Flush => {}
                }
                polled
            }
            Poll::Ready(None) if self.left.is_some_and(|left| left > 0) => self.fail(SHORT),
            Poll::Ready(None) => {
                self.finish();
                polled
            }
            Poll::Ready(Some(Err(error))) => self.fail(*error),
            Poll::Pending => {
                if !std::mem::replace(&mut self.waiting, true) {
                    self.deadline.set(self.read_timeout);
                }
                if self.deadline.is_past(cx) { self.fail(LATE) } else { Poll::Pending }
            }
        }
    }

    fn send_foreign(&mut self, most: u64, send: &mut SendForeign<'_>) -> Option<io::Result<usize>> {
        let Body::Stream(stream) = &mut self.body else { return None };
        let sent = stream.send_foreign(most, send);
        if let Some(Ok(sent)) = &sent {
            self.count(*sent as u64);
        }
        sent
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        if let Body::Stream(stream) = &mut self.body
            && self.ahead
        {
            stream.poll_ahead(cx);
        }
    }
}

impl Drop for AppBody {
    fn drop(&mut self) {
        self.attempt.end();
    }
}
