//! Reading: idle wait, request head, and the watch over a client while its request is served.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use exchange::{Method, Name, Request};
use http1::{
    FieldLine, Flaw, HeadError, Limits, Policy, RequestHead, RequestTarget, Salvage, parse_request_head,
};

use super::{Connection, PIPELINE_LIMIT, READ_SIZE};
use crate::deadline::FRESH;
use crate::{ClientEvent, Refusal, path};

/// How the wait for a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Bytes are there.
    Readable,
    /// The client closed: nothing is owed.
    Over,
    /// The client was idle too long, or the server ends: nothing is owed either.
    Late,
}

/// Reads a head that is there as a whole, as one that has come on a connection.
pub fn read_head(
    bytes: &[u8],
    limits: &Limits,
    policy: &Policy,
    merge_slashes: bool,
) -> Result<Request, Refusal> {
    let (mut head, mut request) = (RequestHead::default(), Request::default());
    match parse_request_head(bytes, limits, policy, &mut head).map_err(Refusal::Head)? {
        Some(length) if length == bytes.len() => take_head(&head, bytes, length, &mut request),
        _ => return Err(Refusal::Gone),
    }
    take_path(&mut request, merge_slashes)?;
    Ok(request)
}

/// Makes the request that a head of this length says; its path is not cleaned up yet.
fn take_head(head: &RequestHead, buf: &[u8], length: usize, request: &mut Request) {
    request.clear();
    request.head_length = length;
    request.method = Method::of(head.method.of(buf));
    request.version = head.version.into();
    request.target.extend_from_slice(head.target.of(buf));
    request.raw_path.extend_from_slice(head.path(buf));
    request.query.extend_from_slice(head.query(buf).unwrap_or_default());
    if let Some(authority) = head.authority {
        request.authority.extend_from_slice(authority.of(buf));
    }
    let (section, lines) = head.places(length);
    request.fields.push_block(&buf[section], lines);
    // RFC 9112 §3.2.2: the authority of an absolute-form target goes before Host, for everybody behind us too.
    if matches!(head.form, Some(RequestTarget::Absolute { .. })) {
        request.fields.set(Name::Host, &request.authority);
    }
    request.content_length = match head.framing {
        http1::BodyFraming::None => Some(0),
        http1::BodyFraming::Length(length) => Some(length),
        http1::BodyFraming::Chunked => None,
    };
}

fn take_path(request: &mut Request, merge_slashes: bool) -> Result<(), Refusal> {
    if request.raw_path == b"*" || request.raw_path.is_empty() {
        request.path.extend_from_slice(&request.raw_path);
        return Ok(());
    }
    path::normalize(&request.raw_path, merge_slashes, &mut request.path).map_err(|why| {
        request.path.clear();
        Refusal::Path(why)
    })
}

/// So much of a line that is too long is shown.
const SHOWN: usize = 64;

/// What is wrong with a head, as nginx shows it: the line up to the byte in question, or two that exclude each other.
fn describe(error: HeadError, salvage: &Salvage, buf: &[u8], out: &mut Vec<u8>) {
    let line = |field: &FieldLine| [field.name.of(buf), b": ", field.value.of(buf)].concat();
    match (error, salvage.flaw) {
        (
            HeadError::HostRepeated | HeadError::ContentLengthRepeated | HeadError::TransferEncodingRepeated,
            Flaw::Repeated(before, again),
        ) => {
            for part in [b"\"", &line(&again)[..], b"\", previous value: \"", &line(&before), b"\""] {
                out.extend_from_slice(part);
            }
        }
        (HeadError::FieldName | HeadError::FieldValue | HeadError::ObsFold, Flaw::Line(from, at)) => {
            out.push(b'"');
            out.extend_from_slice(&buf[from..at]);
            out.extend_from_slice(format!("\\x{:02x}...\"", buf[at]).as_bytes());
        }
        (HeadError::TransferEncoding | HeadError::TransferCoding, _) => {
            let value = salvage.encoding.map_or(&b""[..], |line| line.value.of(buf));
            for part in [b"\"", value, b"\""] {
                out.extend_from_slice(part);
            }
        }
        (HeadError::FieldTooLong | HeadError::HeadTooLong, _) => {
            let rest = &buf[salvage.end..];
            let end = rest.iter().take(SHOWN).position(|byte| *byte == b'\r' || *byte == b'\n');
            out.push(b'"');
            out.extend_from_slice(&rest[..end.unwrap_or(rest.len().min(SHOWN))]);
            out.extend_from_slice(b"...\"");
        }
        _ => {}
    }
}

impl Connection {
    /// Waits for the first byte of the next request.
    pub async fn idle(&mut self) -> Idle {
        self.release();
        if self.buffers.is_some() {
            return Idle::Readable;
        }
        if self.half_closed || (self.requests > 0 && self.deadline.is_ending()) {
            return Idle::Late;
        }
        // A fresh connection owes its first head within header_timeout, as with nginx.
        let limit =
            if self.requests == 0 { self.settings.header_timeout } else { self.settings.keepalive_timeout };
        let limit = if self.deadline.is_ending() { limit.min(FRESH) } else { limit };
        self.deadline.set(limit);
        self.deadline.set_fresh(self.requests == 0);
        self.deadline.set_idle(Some(self.settings.keepalive_min_timeout.min(limit)));
        let idle = poll_fn(|cx| match self.stream.poll_read_ready(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Idle::Readable),
            Poll::Ready(Err(_)) => Poll::Ready(Idle::Over),
            Poll::Pending if self.deadline.is_past(cx) => Poll::Ready(Idle::Late),
            Poll::Pending => Poll::Pending,
        })
        .await;
        self.deadline.set_idle(None);
        idle
    }

    /// The next head is to be read.
    pub fn begin_head(&mut self) {
        self.response_begun = false;
        self.wrote = 0;
        self.expects_continue = false;
        self.is_head = false;
        self.is_http10 = false;
        self.pipelined = self.requests > 0 && self.buffers.as_ref().is_some_and(|b| !b.input.is_empty());
        self.deadline.set(self.settings.header_timeout);
    }

    /// Reads the next head into `request`, once [`Connection::begin_head`] was called. `Ok(false)`: the connection
    /// ended cleanly before its first byte.
    pub fn poll_head(&mut self, cx: &mut Context<'_>, request: &mut Request) -> Poll<Result<bool, Refusal>> {
        loop {
            if !self.buffers().input.is_empty() {
                match self.parse(request) {
                    Ok(true) => return Poll::Ready(Ok(true)),
                    Ok(false) => {}
                    Err(refusal) => {
                        self.keep_alive = false;
                        if let Refusal::Head(error) = refusal {
                            self.salvage(request, Some(error));
                        }
                        return Poll::Ready(Err(refusal));
                    }
                }
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) if self.buffers().input.is_empty() => {
                    return Poll::Ready(Ok(false));
                }
                Poll::Ready(ended @ (Ok(0) | Err(_))) => {
                    self.salvage(request, None);
                    let is_reset = ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
                    return Poll::Ready(Err(if is_reset { Refusal::Reset } else { Refusal::Gone }));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending if self.deadline.is_past(cx) => {
                    self.keep_alive = false;
                    self.salvage(request, None);
                    return Poll::Ready(Err(Refusal::Timeout));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Of a head that is no good or not whole, the request line, or what stands in its place, the fields before what
    /// is wrong with it, and that; for the logs, and to know which server it is for. What the object held is another
    /// client's.
    fn salvage(&mut self, request: &mut Request, error: Option<HeadError>) {
        // It counts as any other.
        self.requests += 1;
        request.clear();
        let Some(buffers) = &mut self.buffers else { return };
        if !buffers.head.has_request_line() {
            let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
            let begin = buffers.input.iter().take_while(|byte| is_end(byte)).count();
            let line = &buffers.input[begin..];
            let end = line.iter().position(is_end).unwrap_or(line.len());
            request.line.extend_from_slice(&line[..end.min(self.settings.limits.request_line)]);
            return;
        }
        let buf: &[u8] = &buffers.input;
        let salvage = buffers.head.salvage(buf, &self.settings.limits, &self.settings.policy);
        let head = &buffers.head;
        request.method = Method::of(head.method.of(buf));
        request.version = head.version.into();
        request.target.extend_from_slice(head.target.of(buf));
        request.raw_path.extend_from_slice(head.path(buf));
        request.query.extend_from_slice(head.query(buf).unwrap_or_default());
        // Rules about paths hold for it, too; without a path it gets no further than a page.
        let _ = take_path(request, self.settings.merge_slashes);
        request.head_length = salvage.end;
        let (section, lines) = head.places(salvage.end);
        request.fields.push_block(&buf[section], lines);
        if let Some(RequestTarget::Absolute { authority, .. }) = head.form {
            request.authority.extend_from_slice(authority.of(buf));
        } else if let Some(host) = request.fields.first(Name::Host) {
            request.authority.extend_from_slice(host);
        }
        if let Some(error) = error {
            describe(error, &salvage, buf, &mut request.flaw);
        }
    }

    fn parse(&mut self, request: &mut Request) -> Result<bool, Refusal> {
        let Some(buffers) = &mut self.buffers else { return Ok(false) };
        let parsed = parse_request_head(
            &buffers.input,
            &self.settings.limits,
            &self.settings.policy,
            &mut buffers.head,
        );
        let Some(consumed) = parsed.map_err(Refusal::Head)? else { return Ok(false) };
        let head = &buffers.head;
        let buf: &[u8] = &buffers.input;
        self.requests += 1;
        self.keep_alive = head.keep_alive;
        self.worn =
            self.settings.keepalive_timeout.is_zero() || self.requests >= self.settings.keepalive_requests;
        self.expects_continue = head.expect_continue;
        self.is_http10 = head.version == http1::Version::Http10;
        take_head(head, buf, consumed, request);
        self.is_head = request.method == Method::Head;
        if head.leaves_out {
            let flaw = &mut request.flaw;
            head.left_out(buf, consumed, &self.settings.policy, |line| {
                flaw.extend_from_slice(line);
                flaw.push(b'\n');
            });
        }
        let framing = head.framing;
        bytes::Buf::advance(&mut buffers.input, consumed);
        self.begin_body(framing);
        take_path(request, self.settings.merge_slashes)?;
        if let (Some(length), Some(limit)) = (request.content_length, self.settings.max_body)
            && length > limit
        {
            return Err(Refusal::TooLarge);
        }
        Ok(true)
    }

    /// Whether the client begins with these bytes; reads no more than it takes to know. Without them, or if the client
    /// leaves or is too slow, the connection goes on as if nobody had asked.
    pub async fn begins_with(&mut self, preface: &[u8]) -> bool {
        self.deadline.set(self.settings.header_timeout);
        poll_fn(|cx| {
            loop {
                let input = &self.buffers().input;
                if input.starts_with(preface) {
                    return Poll::Ready(true);
                }
                if !preface.starts_with(input) {
                    return Poll::Ready(false);
                }
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending if self.deadline.is_past(cx) => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Waits for the end of the TLS handshake.
    pub(crate) async fn settle(&mut self) -> Result<(), Refusal> {
        self.deadline.set(self.settings.header_timeout);
        poll_fn(|cx| match self.stream.poll_settled(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(Refusal::Gone)),
            Poll::Pending if self.deadline.is_past(cx) => Poll::Ready(Err(Refusal::TooEarly)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Reads what stands before the first request, as long as `parse` asks for more: it says how many bytes it takes.
    /// `None`: the client left, or did not send it within the time for a head.
    pub async fn read_preamble<E>(
        &mut self,
        mut parse: impl FnMut(&[u8]) -> Result<Option<usize>, E>,
    ) -> Option<Result<(), E>> {
        self.deadline.set(self.settings.header_timeout);
        poll_fn(|cx| {
            loop {
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending if self.deadline.is_past(cx) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                }
                match parse(&self.buffers().input) {
                    Ok(None) => {}
                    Ok(Some(taken)) => {
                        bytes::Buf::advance(&mut self.buffers().input, taken);
                        return Poll::Ready(Some(Ok(())));
                    }
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
        })
        .await
    }

    /// Reads some bytes behind those that are there. 0 is the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.half_closed {
            return Poll::Ready(Ok(0));
        }
        let buffers = self.buffers.get_or_insert_with(|| self.pool.take());
        buffers.input.reserve(READ_SIZE);
        let read = ready!(self.stream.poll_read(cx, &mut buffers.input))?;
        self.half_closed = read == 0;
        Poll::Ready(Ok(read))
    }

    /// Watches the client while its request is served. Each event is told once; pipelined requests that
    /// arrive meanwhile are kept, up to a limit.
    pub fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<ClientEvent> {
        if self.half_closed {
            return if self.is_reset() { Poll::Ready(ClientEvent::Gone) } else { self.poll_later(cx) };
        }
        loop {
            if self.buffers.as_ref().is_some_and(|b| b.input.len() >= PIPELINE_LIMIT) {
                return Poll::Pending;
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) if self.stream.is_truncated() => return Poll::Ready(ClientEvent::Gone),
                Ok(0) => return Poll::Ready(ClientEvent::HalfClosed),
                Ok(_) => {}
                Err(_) => return Poll::Ready(ClientEvent::Gone),
            }
        }
    }

    /// Asks the other side's kernel whether anybody is still there. A closed socket and one that is shut
    /// down for writing look alike from here until something is sent: the first answers with a reset. An
    /// interim response is what may be sent before the response (RFC 9110 §15.2).
    pub fn probe(&mut self) {
        if !self.is_http10 && !self.response_begun {
            self.stream.write_now(b"HTTP/1.1 102 Processing\r\n\r\n");
        }
    }

    fn is_reset(&self) -> bool {
        !matches!(self.stream.take_error(), Ok(None))
    }

    /// Comes back at the next tick: nothing tells of a reset after a half-close.
    fn poll_later(&self, cx: &Context<'_>) -> Poll<ClientEvent> {
        self.deadline.set(std::time::Duration::from_millis(1));
        let _ = self.deadline.is_past(cx);
        Poll::Pending
    }
}
