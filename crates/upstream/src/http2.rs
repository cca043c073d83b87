//! HTTP/2 to a server, on top of the codec of the crate `h2`: one request at a time on each connection, whose body and
//! answer may go their ways at once.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use exchange::{BodyError, BodySource, Fields};
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http1::{AnswerTo, ResponseHead, parse_response_head};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::Connection;
use crate::incoming::INTERIM;
use crate::{
    Again, Answer, AnswerBody, Attempt, Client, Failure, Fault, Lease, Limits, Outgoing, OutgoingBody, Pool,
    Stream,
};

/// Bytes that a server may send of an answer before somebody has taken them.
const WINDOW: u32 = 256 * 1024;
/// Bytes of a request that are given to the codec at once.
const BLOCK: usize = 16 * 1024;
/// So much of a body that is passed on as it comes can be given once more.
const GIVEN: usize = 64 * 1024;
/// Bytes that one read takes at most.
const READ_SIZE: usize = 16 * 1024;

/// A connection that the codec has.
pub struct Http2 {
    send: SendRequest<Bytes>,
    codec: h2::client::Connection<Wire, Bytes>,
    moved: Rc<Moved>,
}

/// Bytes of a connection both ways.
#[derive(Default)]
struct Moved {
    read: Cell<u64>,
    written: Cell<u64>,
}

impl Http2 {
    async fn begin(stream: Stream, limits: &Limits) -> Result<Self, h2::Error> {
        let moved = Rc::new(Moved::default());
        let wire = Wire {
            stream,
            input: BytesMut::new(),
            moved: Rc::clone(&moved),
            deaf: None,
            fresh: false,
            held: None,
        };
        let (send, codec) = Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(u32::try_from(limits.head.head.saturating_mul(2)).unwrap_or(u32::MAX))
            .enable_push(false)
            .handshake(wire)
            .await?;
        Ok(Self { send, codec, moved })
    }

    /// Lets the codec read and write. Ready when the connection is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        Pin::new(&mut self.codec).poll(cx)
    }

    fn count(&self, attempt: &Attempt) {
        let add = |counter: &Cell<u64>, moved: &Cell<u64>| counter.set(counter.get() + moved.take());
        add(&attempt.received, &self.moved.read);
        add(&attempt.sent, &self.moved.written);
    }
}

/// The byte stream under the codec.
struct Wire {
    stream: Stream,
    input: BytesMut,
    moved: Rc<Moved>,
    /// It takes nothing more, but what it said before may still be there to read: why it closed, say.
    deaf: Option<io::ErrorKind>,
    /// The codec was not told to wait since it got something.
    fresh: bool,
    /// Its end, or what is wrong with it, that the codec has not heard of yet.
    held: Option<io::Result<usize>>,
}

impl Wire {
    /// Reads more; zero bytes are the end. The codec hears of that by itself, once it has been left with all that came
    /// before: where the request has no end yet, it takes a whole answer for one that broke off as soon as its
    /// connection has ended.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(end) = self.held.take() {
            return Poll::Ready(end);
        }
        self.input.reserve(READ_SIZE);
        let read = self.stream.poll_read(cx, &mut self.input);
        let was_fresh = std::mem::replace(&mut self.fresh, matches!(read, Poll::Ready(Ok(1..))));
        match read {
            Poll::Ready(end @ (Ok(0) | Err(_))) if was_fresh => {
                self.held = Some(end);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            read => read,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        if wire.input.is_empty() {
            let read = ready!(wire.poll_more(cx))?;
            if let Some(kind) = wire.deaf.filter(|_| read == 0) {
                return Poll::Ready(Err(kind.into()));
            }
            wire.moved.read.set(wire.moved.read.get() + read as u64);
        }
        let count = wire.input.len().min(buf.remaining());
        buf.put_slice(&wire.input[..count]);
        wire.input.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        if wire.deaf.is_some() {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = match ready!(wire.stream.poll_write(cx, &[IoSlice::new(buf)])) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                wire.deaf = Some(error.kind());
                return Poll::Ready(Ok(buf.len()));
            }
            written => written?,
        };
        wire.moved.written.set(wire.moved.written.get() + written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is told as written has left.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.shutdown_write();
        Poll::Ready(Ok(()))
    }
}

/// The body of a request on its way.
struct Uplink {
    stream: SendStream<Bytes>,
    source: Source,
    /// What the server has not made room for.
    pending: Bytes,
    /// All of it has been given to the codec.
    over: bool,
    /// What was taken of a source that gives it only once, until there is an answer or it is more than [`GIVEN`].
    given: Option<VecDeque<Bytes>>,
    /// Some of it was taken, or has left, since somebody looked.
    moved: bool,
}

enum Source {
    Memory(Bytes),
    File {
        file: File,
        at: u64,
        end: u64,
    },
    /// Whoever asks has it.
    Client,
    Own(Box<dyn BodySource>),
}

impl Uplink {
    /// Ready when all has left, or the server wants no more of it.
    fn poll(&mut self, cx: &mut Context<'_>, mut client: Option<&mut dyn Client>) -> Poll<Result<(), Fault>> {
        while !self.over {
            if !self.pending.is_empty() {
                let want = self.pending.len().min(BLOCK);
                self.stream.reserve_capacity(want);
                let mut room = self.stream.capacity();
                if room == 0 {
                    let Some(Ok(more)) = ready!(self.stream.poll_capacity(cx)) else {
                        // Why, the answer tells.
                        self.over = true;
                        break;
                    };
                    room = more;
                }
                let piece = self.pending.split_to(room.min(want));
                let is_last = self.pending.is_empty() && self.source.is_over(client.as_deref());
                self.over = self.stream.send_data(piece, is_last).is_err() || is_last;
                self.moved = true;
                continue;
            }
            match ready!(self.source.poll(cx, &mut client)) {
                Some(Ok(data)) => {
                    self.note(&data);
                    self.pending = data;
                    self.moved = true;
                }
                Some(Err(fault)) => return Poll::Ready(Err(fault)),
                None => {
                    self.over = true;
                    // An error means that the stream is over.
                    let _ = self.stream.send_data(Bytes::new(), true);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// It comes from whoever asks, who cannot give it any more once there is an answer.
    fn is_of_client(&self) -> bool {
        !self.over && matches!(self.source, Source::Client)
    }

    /// All that there is has left: the client is waited for.
    fn is_dry(&self) -> bool {
        self.pending.is_empty()
    }

    fn note(&mut self, data: &Bytes) {
        if let Some(given) = &mut self.given {
            given.push_back(data.clone());
            if given.iter().map(Bytes::len).sum::<usize>() > GIVEN {
                self.given = None;
            }
        }
    }

    /// The body for somebody else.
    fn again(self) -> Option<Again> {
        let rest = match self.source {
            Source::Own(source) => Some(source),
            Source::Client => None,
            Source::Memory(_) | Source::File { .. } => return None,
        };
        Some(Again { given: self.given?, rest })
    }
}

impl Source {
    /// Whether it is known that nothing follows, so that the last piece can say so itself.
    fn is_over(&self, client: Option<&dyn Client>) -> bool {
        match self {
            Self::Memory(bytes) => bytes.is_empty(),
            Self::File { at, end, .. } => at == end,
            Self::Client => client.is_none_or(Client::is_body_over),
            Self::Own(source) => source.is_over(),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Option<&mut dyn Client>,
    ) -> Poll<Option<Result<Bytes, Fault>>> {
        let told = |error: BodyError| error.status().map_or(Fault::Gone, Fault::Body);
        match self {
            Self::Memory(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Self::File { at, end, .. } if at == end => Poll::Ready(None),
            Self::File { file, at, end } => {
                let mut part = vec![0; usize::try_from(*end - *at).unwrap_or(BLOCK).min(BLOCK)];
                if let Err(error) = file.read_exact_at(&mut part, *at) {
                    return Poll::Ready(Some(Err(Fault::Io("pread", error))));
                }
                *at += part.len() as u64;
                Poll::Ready(Some(Ok(part.into())))
            }
            Self::Client => match client {
                Some(client) => client.poll_body(cx).map(|next| next.map(|data| data.map_err(told))),
                // It was to be read before the answer.
                None => Poll::Ready(None),
            },
            Self::Own(source) => source.poll_data(cx).map(|next| next.map(|data| data.map_err(told))),
        }
    }
}

/// The body of an answer on its way.
struct Downlink {
    stream: RecvStream,
    /// What was taken of the codec. It counts in the window until somebody has it.
    taken: VecDeque<Bytes>,
    /// What follows: the trailers, or that it broke off.
    end: Option<Result<Option<HeaderMap>, h2::Error>>,
}

impl Downlink {
    fn new(stream: RecvStream) -> Self {
        Self { stream, taken: VecDeque::new(), end: None }
    }

    /// Takes what the codec has. Ready when the server says nothing more.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.end.is_none() {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => self.taken.push_back(data),
                Some(Err(error)) => self.end = Some(Err(error)),
                None => self.end = Some(ready!(self.stream.poll_trailers(cx))),
            }
        }
        Poll::Ready(())
    }

    /// There is nothing to come.
    fn is_over(&self) -> bool {
        self.taken.is_empty()
            && self.end.as_ref().map_or_else(|| self.stream.is_end_stream(), |end| matches!(end, Ok(None)))
    }
}

/// The body of an answer, and what is left of the request's.
pub(crate) struct Incoming {
    downlink: Downlink,
    uplink: Option<Uplink>,
    /// Bytes of the body, if the head says how many.
    pub(crate) length: Option<u64>,
    /// The rest of the request will never leave.
    is_cut: bool,
}

impl Incoming {
    /// There is nothing to come.
    pub(crate) fn is_over(&self) -> bool {
        self.downlink.is_over()
    }

    /// The request has left as a whole.
    pub(crate) fn is_sent(&self) -> bool {
        !self.is_cut && self.uplink.as_ref().is_none_or(|uplink| uplink.over)
    }

    /// Lets the connection do what it can without taking anything of the answer.
    pub(crate) fn poll_ahead(&mut self, stream: &mut Stream, cx: &mut Context<'_>) {
        if let Some(uplink) = &mut self.uplink
            && let Poll::Ready(Err(_)) = uplink.poll(cx, None)
        {
            // Half a request is none.
            uplink.stream.send_reset(h2::Reason::CANCEL);
            uplink.over = true;
        }
        if let Stream::Http2(http2) = stream {
            // What is wrong shows in the answer.
            let _ = http2.poll(cx);
        }
    }

    /// The next bytes of the answer; `None` after the last, when its trailers are in `attempt`.
    pub(crate) fn poll_next(
        &mut self,
        stream: &mut Stream,
        attempt: &Attempt,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, &'static str>>> {
        const WORDS: &str = "upstream prematurely closed stream while reading upstream";
        self.poll_ahead(stream, cx);
        if let Stream::Http2(http2) = stream {
            http2.count(attempt);
        }
        let end = self.downlink.poll_end(cx);
        if let Some(data) = self.downlink.taken.pop_front() {
            // An error means that the stream is over, which the end tells.
            let _ = self.downlink.stream.flow_control().release_capacity(data.len());
            return Poll::Ready(Some(Ok(data)));
        }
        ready!(end);
        match &self.downlink.end {
            Some(Ok(Some(trailers))) => {
                let mut fields = Fields::new();
                for (name, value) in
                    trailers.iter().filter(|(name, _)| http1::may_trail(name.as_str().as_bytes()))
                {
                    fields.push(name.as_str().as_bytes(), value.as_bytes());
                }
                *attempt.trailers.borrow_mut() = Some(fields);
            }
            Some(Err(_)) => return Poll::Ready(Some(Err(WORDS))),
            Some(Ok(None)) | None => {}
        }
        Poll::Ready(None)
    }
}

impl Connection {
    /// Sends a request by HTTP/2 and waits for the head of its answer.
    #[expect(clippy::too_many_arguments, reason = "all that one request has")]
    pub(crate) async fn ask_http2(
        mut self: Box<Self>,
        reused: bool,
        outgoing: Outgoing<'_>,
        limits: &Limits,
        client: &mut dyn Client,
        attempt: &Rc<Attempt>,
        lease: Lease,
        pool: &Rc<Pool>,
    ) -> Result<Answer, (Failure, Lease)> {
        self.requests += 1;
        self.deadline.set(limits.send_timeout);
        let (mut is_sent, mut again) = (false, None);
        let asked = self.ask_by_codec(outgoing, limits, client, attempt, &mut is_sent, &mut again).await;
        if let Stream::Http2(http2) = &self.stream {
            http2.count(attempt);
        }
        match asked {
            Ok((head, bytes, incoming)) => {
                attempt.header_time.set(Some(exchange::now().duration_since(attempt.begun)));
                attempt.status.set(head.status);
                let body = AnswerBody::of_http2(
                    self,
                    incoming,
                    limits,
                    (Rc::clone(attempt), lease, Rc::clone(pool)),
                );
                Ok(Answer { head, bytes, body, reused })
            }
            Err(fault) => {
                let action = if is_sent {
                    "reading response header from upstream"
                } else {
                    "sending request to upstream"
                };
                let sent = attempt.sent.get() > 0;
                // That it goes away a server may have said after the last answer.
                let reused = reused && (attempt.received.get() == 0 || matches!(fault, Fault::Refused(_)));
                Err((Failure { fault, action, sent, reused, again }, lease))
            }
        }
    }

    async fn ask_by_codec(
        &mut self,
        outgoing: Outgoing<'_>,
        limits: &Limits,
        client: &mut dyn Client,
        attempt: &Attempt,
        is_sent: &mut bool,
        again: &mut Option<Again>,
    ) -> Result<(ResponseHead, Bytes, Box<Incoming>), Fault> {
        if !matches!(self.stream, Stream::Http2(_)) {
            let stream = std::mem::replace(&mut self.stream, Stream::Gone);
            let mut beginning = pin!(Http2::begin(stream, limits));
            let http2 = poll_fn(|cx| {
                if let Poll::Ready(begun) = beginning.as_mut().poll(cx) {
                    return Poll::Ready(begun.map_err(|error| fault(&error)));
                }
                if self.deadline.is_past(cx) { Poll::Ready(Err(Fault::Timeout)) } else { Poll::Pending }
            })
            .await?;
            self.stream = Stream::Http2(Box::new(http2));
        }
        let Stream::Http2(http2) = &mut self.stream else { return Err(Fault::Closed) };
        let request = request(outgoing.head, limits.route.via.is_some())?;
        let (mut answer, mut uplink) = match Self::begin_request(http2, request, &outgoing.body, client) {
            Ok(begun) => begun,
            Err(fault) => {
                *again = Some(Again { given: VecDeque::new(), rest: None });
                return Err(fault);
            }
        };
        *is_sent = uplink.is_none();
        let deadline = &self.deadline;
        // Without a body all of the request is on its way.
        deadline.set(if uplink.is_some() { limits.send_timeout } else { limits.read_timeout });
        let (mut interims, mut is_cut) = (0, false);
        let response = poll_fn(|cx| {
            let mut failed = None;
            if let Some(uplink) = &mut uplink
                && !uplink.over
            {
                let own: &mut dyn Client = &mut *client;
                match uplink.poll(cx, Some(own)) {
                    Poll::Ready(Ok(())) => {
                        *is_sent = true;
                        deadline.set(limits.read_timeout);
                    }
                    Poll::Ready(Err(fault)) => failed = Some(fault),
                    Poll::Pending if std::mem::take(&mut uplink.moved) => deadline.set(limits.send_timeout),
                    Poll::Pending => {}
                }
            }
            if let Some(fault) = failed {
                return Poll::Ready(Err(fault));
            }
            let over = http2.poll(cx);
            http2.count(attempt);
            while let Poll::Ready(Some(Ok(response))) = answer.poll_informational(cx) {
                interims += 1;
                if interims > INTERIM {
                    return Poll::Ready(Err(Fault::Flood));
                }
                let bytes = head(&response.into_parts().0);
                let mut parsed = ResponseHead::default();
                if bytes.len() <= limits.head.head
                    && let Ok(Some(_)) =
                        parse_response_head(&bytes, &limits.head, false, outgoing.to, &mut parsed)
                {
                    client.interim(&parsed, &bytes);
                }
            }
            if let Poll::Ready(response) = Pin::new(&mut answer).poll(cx) {
                let (parts, stream) = response.map_err(|error| refusal(&error))?.into_parts();
                if let Some(uplink) = uplink.as_mut().filter(|uplink| uplink.is_of_client()) {
                    match client.hand_over_body() {
                        Some(body) => uplink.source = Source::Own(body),
                        None => is_cut = true,
                    }
                }
                let mut downlink = Downlink::new(stream);
                // What is there is whole, though the connection should end before anybody asks for it.
                let _: Poll<()> = downlink.poll_end(cx);
                return Poll::Ready(Ok((parts, downlink)));
            }
            let of_client = uplink.as_ref().filter(|uplink| uplink.is_of_client());
            if let Poll::Ready(ended) = over {
                return Poll::Ready(Err(ended.map_or_else(|error| fault(&error), |()| Fault::Closed)));
            }
            if !of_client.is_some_and(Uplink::is_dry) && deadline.is_past(cx) {
                return Poll::Ready(Err(Fault::Timeout));
            }
            if of_client.is_some() {
                // Whether the client is there shows where its body is read.
                return Poll::Pending;
            }
            client.poll_gone(cx).map(|()| Err(Fault::Gone))
        })
        .await;
        let (parts, downlink) = match response {
            Ok(response) => response,
            Err(fault) => {
                if matches!(fault, Fault::Refused(_)) {
                    *again = uplink.and_then(Uplink::again);
                }
                return Err(fault);
            }
        };
        *is_sent = true;
        if let Some(uplink) = &mut uplink {
            uplink.given = None;
        }
        let bytes = head(&parts);
        let mut parsed = ResponseHead::default();
        let room = bytes.len().max(limits.head.head);
        if bytes.len() > limits.head.head.saturating_mul(2) {
            return Err(Fault::Gateway(gateway::GatewayError::TooLarge));
        }
        let head_limits = http1::Limits { head: room, field_size: room, ..limits.head };
        let to = AnswerTo { upgrade: false, ..outgoing.to };
        match parse_response_head(&bytes, &head_limits, false, to, &mut parsed)
            .map_err(|error| Fault::invalid(error, &bytes))?
        {
            Some(length) if length == bytes.len() && !parsed.is_interim() => {}
            _ => return Err(Fault::Gateway(gateway::GatewayError::Field)),
        }
        let uplink = uplink.filter(|uplink| !uplink.over && !is_cut);
        let length = parsed.content_length;
        Ok((parsed, bytes, Box::new(Incoming { downlink, uplink, length, is_cut })))
    }

    fn begin_request(
        http2: &mut Http2,
        request: http::Request<()>,
        body: &OutgoingBody<'_>,
        client: &mut dyn Client,
    ) -> Result<(ResponseFuture, Option<Uplink>), Fault> {
        let is_empty = matches!(body, OutgoingBody::Bytes([]));
        // Before the body is taken from whoever has it.
        let (answer, stream) = http2.send.send_request(request, is_empty).map_err(|error| refusal(&error))?;
        let source = match body {
            OutgoingBody::Bytes([]) => None,
            OutgoingBody::Bytes(bytes) => Some(Source::Memory(Bytes::copy_from_slice(bytes))),
            OutgoingBody::File(file, end) => {
                let file = file.try_clone().map_err(|error| Fault::Io("dup", error))?;
                Some(Source::File { file, at: 0, end: *end })
            }
            OutgoingBody::Stream { .. } => Some(client.take_body().map_or(Source::Client, Source::Own)),
        };
        let uplink = source.map(|source| Uplink {
            stream,
            given: matches!(source, Source::Client | Source::Own(_)).then(VecDeque::new),
            source,
            pending: Bytes::new(),
            over: false,
            moved: false,
        });
        Ok((answer, uplink))
    }
}

/// The request that a head of HTTP/1's form means. It was made here, so that only a path can be wrong.
fn request(head: &[u8], tls: bool) -> Result<http::Request<()>, Fault> {
    let wrong = || Fault::Http2("request has no form in HTTP/2".to_owned(), false);
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next().unwrap_or_default().splitn(3, |byte| *byte == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut authority, mut fields) = (&b""[..], HeaderMap::new());
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"host") {
            if authority.is_empty() {
                authority = value;
            }
            continue;
        }
        let name = HeaderName::from_bytes(name).map_err(|_| wrong())?;
        fields.append(name, HeaderValue::from_bytes(value).map_err(|_| wrong())?);
    }
    let uri = http::Uri::builder()
        .scheme(if tls { "https" } else { "http" })
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|_| wrong())?;
    let mut request = http::Request::builder().method(method).uri(uri).version(http::Version::HTTP_2);
    if let Some(own) = request.headers_mut() {
        *own = fields;
    }
    request.body(()).map_err(|_| wrong())
}

/// The head of an answer as HTTP/1 has it.
fn head(parts: &http::response::Parts) -> Bytes {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(format!("HTTP/1.1 {}", parts.status.as_u16()).as_bytes());
    if let Some(reason) = http1::reason_phrase(parts.status.as_u16()) {
        out.push(b' ');
        out.extend_from_slice(reason.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    for (name, value) in &parts.headers {
        // The codec knows how the message is framed; here these would say something else.
        if matches!(name.as_str(), "connection" | "transfer-encoding" | "keep-alive" | "upgrade") {
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.into()
}

/// What is wrong with a stream. One that the server has not begun on, or never will, can be begun elsewhere (RFC 9113
/// §6.8, §8.7).
fn refusal(error: &h2::Error) -> Fault {
    let is_reset = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    match error.reason() {
        Some(reason) if error.is_remote() && (error.is_go_away() || is_reset) => {
            Fault::Refused(reason.into())
        }
        _ => fault(error),
    }
}

fn fault(error: &h2::Error) -> Fault {
    if let Some(error) = error.get_io() {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => Fault::Closed,
            kind => Fault::Io("recv", kind.into()),
        };
    }
    match error.reason() {
        Some(reason) if error.is_remote() => {
            Fault::Http2(format!("rejected request with error {}", u32::from(reason)), true)
        }
        _ => Fault::Http2(format!("sent invalid HTTP/2: {error}"), true),
    }
}
