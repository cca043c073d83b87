//! `slice`: a large answer is asked for part by part, each of which the cache can keep by itself. The first comes as any
//! answer does, and becomes the beginning of the response; the others are asked for once the client has taken what is
//! before them.

use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use config::model::http::{Content, ServerId, SettingsId};
use exchange::{Body, Chunk, ChunkStream, Name, Request, Response, StreamError};
use protocol::{Exchange, Nobody};
use routing::State;
use telemetry::error_log::Level;

use super::Site;
use super::facts::Facts;
use super::visit::{self, Visit};
use crate::connection::Ends;
use crate::event_loop::EventLoop;

/// What a request has to do with slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slice {
    /// Nobody has asked for `$slice_range` yet.
    #[default]
    Unasked,
    /// It lies within another: there it has none, as in nginx.
    Within,
    /// This part is asked for.
    At(Part),
}

/// A part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its first byte.
    pub start: u64,
    /// `slice`
    pub size: u64,
}

impl Part {
    /// Its last byte, if the answer is that long.
    pub const fn last(self) -> u64 {
        self.start.saturating_add(self.size - 1)
    }

    /// The one in which this byte is.
    const fn of(byte: u64, size: u64) -> Self {
        Self { start: byte / size * size, size }
    }
}

impl Facts<'_> {
    /// The part that is asked for: the first that the client wants something of. `answered`: there is a response, so that
    /// nobody begins now.
    pub fn slice(&self, request: &Request, answered: bool) -> Option<Part> {
        match self.slice.get() {
            Slice::At(part) => Some(part),
            Slice::Within => None,
            Slice::Unasked => {
                let size = self.site.http().settings[self.settings.get() as usize].slice;
                // A body that has been passed on is not there for the parts behind.
                if size == 0 || answered || request.has_body() {
                    return None;
                }
                let part = Part::of(first_byte(request), size);
                self.slice.set(Slice::At(part));
                Some(part)
            }
        }
    }
}

/// The first byte of the one range that a request is for; of several, and of all that is read later, the very first.
fn first_byte(request: &Request) -> u64 {
    if request.fields.has(Name::IfRange) {
        return 0;
    }
    let Some(range) = request.fields.first(Name::Range) else { return 0 };
    let Some((unit, set)) = range.split_at_checked(6) else { return 0 };
    if !unit.eq_ignore_ascii_case(b"bytes=") || set.contains(&b',') {
        return 0;
    }
    let set = set.trim_ascii_start();
    let end = set.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(set.len());
    let first = std::str::from_utf8(&set[..end]).ok().and_then(|digits| digits.parse().ok());
    first.filter(|first| i64::try_from(*first).is_ok()).unwrap_or(0)
}

/// `Content-Range`: first byte, the one behind the last, and the length of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentRange {
    start: u64,
    end: u64,
    length: u64,
}

impl ContentRange {
    fn parse(field: &[u8]) -> Result<Self, &'static str> {
        const INVALID: &str = "invalid range in slice response";
        let text = field.strip_prefix(b"bytes ").and_then(|text| std::str::from_utf8(text).ok());
        let (range, length) = text.and_then(|text| text.split_once('/')).ok_or(INVALID)?;
        let (start, last) = range.split_once('-').ok_or(INVALID)?;
        let (start, last) = (number(start).ok_or(INVALID)?, number(last).ok_or(INVALID)?);
        if length.trim_matches(' ') == "*" {
            return Err("no complete length in slice response");
        }
        let length = number(length).ok_or(INVALID)?;
        Ok(Self { start, end: last + 1, length })
    }
}

/// Digits with spaces around them, and not more than a file can be long.
fn number(text: &str) -> Option<u64> {
    let digits = text.trim_matches(' ');
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| is_number && *number < i64::MAX as u64)
}

/// Whether an answer is the part that was asked for, of the same whole as the one before.
fn check(response: &Response, part: Part, etag: Option<&[u8]>) -> Result<ContentRange, String> {
    if response.status != 206 {
        return Err(format!("unexpected status code {} in slice response", response.status));
    }
    if etag.is_some() && response.fields.first(Name::ETag) != etag {
        return Err("etag mismatch in slice response".to_owned());
    }
    let field = response.fields.first(Name::ContentRange).unwrap_or_default();
    let range = ContentRange::parse(field)?;
    let end = part.start.saturating_add(part.size).min(range.length);
    if (range.start, range.end) != (part.start, end) || range.start >= range.end {
        return Err(format!(
            "unexpected range in slice response: {}-{}, expected: {}-{end}",
            range.start, range.end, part.start
        ));
    }
    Ok(range)
}

impl Visit<'_, '_> {
    /// The first part becomes the response for the whole. `None`: it is none, and the client gets nothing.
    pub(super) fn sliced(
        &mut self,
        request: &Request,
        mut response: Box<Response>,
        part: Part,
    ) -> Option<Box<Response>> {
        // An answer of another kind is one as it is.
        if response.status != 206 || self.status.is_some_and(|status| status != 206) {
            return Some(response);
        }
        let range = match check(&response, part, None) {
            Ok(range) => range,
            Err(words) => {
                self.facts.log(Level::Error, Some(request), format_args!("{words}"));
                self.facts.closed.set(true);
                self.exchange.abandon(self.settings().reset_timedout);
                return None;
            }
        };
        self.status = None;
        response.status = 200;
        response.reason = None;
        for name in [Name::ContentRange, Name::AcceptRanges] {
            response.fields.remove(name);
        }
        response.fields.set(Name::ContentLength, range.length.to_string().as_bytes());
        self.facts.ranges.set(true);
        let whose = Whose {
            event_loop: Rc::clone(self.event_loop),
            site: self.site.shared()?,
            ends: self.ends.clone(),
            connection: (self.facts.requests, self.facts.socket),
            begun: self.facts.begun,
            request: request.clone(),
            state: self.state.clone(),
            server: self.server,
            settings: self.place.id,
            content: self.content.clone(),
            way: [self.internal, self.target_changed, self.location_valid],
            names: (self.facts.host.borrow().clone(), self.facts.port.get()),
            user: self.facts.user.borrow().clone(),
        };
        let body = std::mem::take(&mut response.body);
        response.body = Body::Stream(Box::new(Slices {
            whose: Rc::new(whose),
            size: part.size,
            length: range.length,
            etag: response.fields.first(Name::ETag).map(<[u8]>::to_vec),
            at: 0,
            end: range.length,
            source: Source::Part { at: range.start, end: range.end, body: stream_of(body) },
        }));
        Some(response)
    }
}

/// The request, for those parts that are asked for when it has been answered.
struct Whose {
    event_loop: Rc<EventLoop>,
    site: Rc<Site>,
    ends: Ends,
    connection: (u64, RawFd),
    begun: Instant,
    request: Request,
    state: Box<State>,
    server: ServerId,
    settings: SettingsId,
    content: Content,
    /// `internal`, `target_changed` and `location_valid` of the visit.
    way: [bool; 3],
    names: (Vec<u8>, Option<u16>),
    user: Option<Vec<u8>>,
}

/// Asks for one part more, in the same location.
async fn ask(whose: Rc<Whose>, part: Part, etag: Option<Vec<u8>>) -> Result<(ContentRange, Body), ()> {
    let Whose { event_loop, site, ends, .. } = &*whose;
    let mut nobody = Nobody::for_client(whose.connection.0, whose.connection.1);
    let exchange = Exchange::Nobody(&mut nobody);
    let facts = super::arrival::facts(event_loop, site, &exchange, ends, whose.begun, whose.server);
    facts.host.borrow_mut().clone_from(&whose.names.0);
    facts.port.set(whose.names.1);
    facts.user.borrow_mut().clone_from(&whose.user);
    facts.slice.set(Slice::At(part));
    let mut visit = visit::visit(event_loop, site, exchange, ends, facts, whose.state.clone());
    // Whether the client is there shows when the response is written.
    (visit.alone, visit.depth) = (true, 1);
    [visit.internal, visit.target_changed, visit.location_valid] = whose.way;
    visit.enter(whose.settings, whose.content.clone());
    let mut request = whose.request.clone();
    let step = visit.content(&mut request).await;
    let Some(response) = visit.finish(&mut request, step).await else { return Err(()) };
    if visit.settings().log_subrequest {
        visit.log_inner(&request, &response);
    }
    match check(&response, part, etag.as_deref()) {
        Ok(range) => Ok((range, response.body)),
        Err(words) => {
            visit.facts.log(Level::Error, Some(&request), format_args!("{words}"));
            Err(())
        }
    }
}

type Asking = Pin<Box<dyn Future<Output = Result<(ContentRange, Body), ()>>>>;

/// Where the next bytes come from.
enum Source {
    /// A part: its body goes on at this byte of the whole.
    Part { at: u64, end: u64, body: Box<dyn ChunkStream> },
    /// One that is asked for.
    Asking(Asking),
    /// One that is still to be asked for.
    Nothing,
}

/// The body of the whole.
struct Slices {
    whose: Rc<Whose>,
    size: u64,
    length: u64,
    etag: Option<Vec<u8>>,
    /// The next byte that the client gets, and the one behind the last.
    at: u64,
    end: u64,
    source: Source,
}

impl ChunkStream for Slices {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        let broken = |words| Poll::Ready(Some(Err(StreamError(words))));
        while self.at < self.end {
            match &mut self.source {
                Source::Part { at, end, body } if (*at..*end).contains(&self.at) => {
                    let chunk = match ready!(body.poll_chunk(cx)) {
                        Some(Ok(chunk)) => chunk,
                        Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                        None => return broken("a slice was shorter than it said"),
                    };
                    let length = match &chunk {
                        Chunk::Data(data) => data.len() as u64,
                        Chunk::File { len, .. } => *len,
                        Chunk::Flush => return Poll::Ready(Some(Ok(Chunk::Flush))),
                    };
                    if length > *end - *at {
                        return broken("a slice was longer than it said");
                    }
                    let from = self.at.max(*at);
                    let (skipped, taken) = (from - *at, (*at + length).min(self.end).saturating_sub(from));
                    *at += length;
                    if taken > 0 {
                        self.at += taken;
                        return Poll::Ready(Some(Ok(cut(chunk, skipped, taken))));
                    }
                }
                Source::Part { .. } => self.source = Source::Nothing,
                Source::Asking(asking) => match ready!(asking.as_mut().poll(cx)) {
                    Ok((range, _)) if range.length != self.length => {
                        return broken("what is sliced has changed its length");
                    }
                    Ok((range, body)) => {
                        self.source = Source::Part { at: range.start, end: range.end, body: stream_of(body) };
                    }
                    Err(()) => return broken("a slice could not be had"),
                },
                Source::Nothing => {
                    let part = Part::of(self.at, self.size);
                    let asking = ask(Rc::clone(&self.whose), part, self.etag.clone());
                    self.source = Source::Asking(Box::pin(asking));
                }
            }
        }
        Poll::Ready(None)
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        if let Source::Part { body, .. } = &mut self.source {
            body.poll_ahead(cx);
        }
    }

    fn narrow(&mut self, start: u64, end: u64) -> u64 {
        (self.at, self.end) = (start, end.min(self.length));
        start
    }
}

/// Of a chunk what is wanted.
fn cut(chunk: Chunk, skipped: u64, taken: u64) -> Chunk {
    match chunk {
        // Neither is more than there is.
        Chunk::Data(data) => Chunk::Data(data.slice(skipped as usize..(skipped + taken) as usize)),
        Chunk::File { file, start, .. } => Chunk::File { file, start: start + skipped, len: taken },
        Chunk::Flush => Chunk::Flush,
    }
}

fn stream_of(body: Body) -> Box<dyn ChunkStream> {
    let mut chunks = VecDeque::new();
    let mut put = |data: Bytes| {
        if !data.is_empty() {
            chunks.push_back(Chunk::Data(data));
        }
    };
    match body {
        Body::Stream(stream) => return stream,
        Body::Empty => {}
        Body::Full(bytes) => put(bytes),
        Body::File(body) => {
            for piece in body.pieces {
                let file = std::sync::Arc::clone(&body.file);
                chunks.push_back(Chunk::File { file, start: piece.start, len: piece.len });
            }
        }
    }
    Box::new(Whole(chunks))
}

/// A body that is there.
pub(super) struct Whole(pub VecDeque<Chunk>);

impl ChunkStream for Whole {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Request {
        let mut request = Request::default();
        for (name, value) in fields {
            request.fields.push(name.as_bytes(), value.as_bytes());
        }
        request
    }

    #[test]
    fn the_first_byte_is_that_of_one_range() {
        for (range, first) in [
            ("bytes=7-", 7),
            ("Bytes= 7-9", 7),
            ("bytes=7-9,1-2", 0),
            ("bytes=-9", 0),
            ("bytes=x", 0),
            ("lines=7-", 0),
            ("bytes=99999999999999999999-", 0),
        ] {
            assert_eq!(first_byte(&request(&[("Range", range)])), first, "{range}");
        }
        assert_eq!(first_byte(&request(&[("Range", "bytes=7-"), ("If-Range", "\"a\"")])), 0);
        assert_eq!(first_byte(&request(&[])), 0);
        assert_eq!(Part::of(7, 4), Part { start: 4, size: 4 });
        assert_eq!(Part::of(7, 4).last(), 7);
    }

    #[test]
    fn an_answer_is_the_part_that_was_asked_for_or_none() {
        let answer = |status, range: &str, etag: &str| {
            let mut response = Response::new(status);
            response.fields.push(b"Content-Range", range.as_bytes());
            response.fields.push(b"ETag", etag.as_bytes());
            response
        };
        let part = Part { start: 4, size: 4 };
        let good = Ok(ContentRange { start: 4, end: 8, length: 100 });
        assert_eq!(check(&answer(206, "bytes 4-7/100", "a"), part, None), good);
        assert_eq!(check(&answer(206, "bytes 4 - 7 / 100 ", "a"), part, Some(b"a")), good);
        assert!(check(&answer(206, "bytes 4-5/6", "a"), part, None).is_ok());
        for (status, range, etag) in [
            (200, "bytes 4-7/100", "a"),
            (206, "bytes 4-7/100", "b"),
            (206, "bytes 4-7/*", "a"),
            (206, "bytes 4-6/100", "a"),
            (206, "bytes 5-8/100", "a"),
            (206, "bytes 4-8/100", "a"),
            (206, "bytes 4-3/4", "a"),
            (206, "bytes 4-7/99999999999999999999", "a"),
            (206, "bytes -7/100", "a"),
            (206, "bytes", "a"),
            (206, "", "a"),
        ] {
            assert!(
                check(&answer(status, range, etag), part, Some(b"a")).is_err(),
                "{status} {range} {etag}"
            );
        }
    }
}
