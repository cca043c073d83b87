//! `Range`, as nginx reads it.
//!
//! It differs from RFC 9110 in that a malformed set is refused with 416 and HEAD has ranges too.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use exchange::{
    Body, Chunk, ChunkStream, Fields, FileBody, Method, Name, Piece, Request, Response, StreamError,
    parse_http_date,
};

use super::Verdict;

/// First byte and the one behind the last.
type Span = (u64, u64);

/// Takes ranges of bodies.
#[derive(Debug)]
pub struct Ranges {
    /// `max_ranges`; `None` is no limit.
    max: Option<u64>,
    boundaries: RandomState,
    boundary: Cell<u64>,
}

/// What a `Range` field leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Set {
    Whole,
    Spans(Vec<Span>),
    Unsatisfiable,
}

impl Ranges {
    pub fn new(max: Option<u64>) -> Self {
        Self { max, boundaries: RandomState::new(), boundary: Cell::new(0) }
    }

    /// Takes of a 200 what the request asks for. `before` are the fields that a refusal is made of.
    pub fn apply(&self, request: &Request, response: &mut Response, asked: bool, before: Fields) -> Verdict {
        let size = match &response.body {
            Body::Full(bytes) => bytes.len() as u64,
            Body::File(FileBody { pieces, suffix, .. }) => match &pieces[..] {
                [Piece { prefix, len, .. }] if prefix.is_empty() && suffix.is_empty() => *len,
                _ => return Verdict::Send,
            },
            // Of what comes as it comes, one range. HEAD has but the length, if another server said it.
            Body::Empty if request.method != Method::Head || response.of_file.is_some() => 0,
            Body::Stream(_) | Body::Empty => match response.fields.only(Name::ContentLength).and_then(number)
            {
                Some(length) => length,
                None => return Verdict::Send,
            },
        };
        let is_whole = matches!(response.body, Body::Full(_) | Body::File(_));
        if self.max == Some(0) {
            response.fields.remove(Name::AcceptRanges);
            return Verdict::Send;
        }
        let max = if is_whole { self.max } else { Some(1) };
        let set = if asked { set(request, response, size, max) } else { Set::Whole };
        match set {
            Set::Whole => {
                if !response.fields.has(Name::AcceptRanges) {
                    response.fields.push_known(Name::AcceptRanges, b"bytes");
                }
                Verdict::Send
            }
            Set::Unsatisfiable => {
                refuse(response, before, size);
                Verdict::Refuse(416)
            }
            Set::Spans(spans) => {
                self.take(response, &spans, size);
                Verdict::Send
            }
        }
    }

    fn take(&self, response: &mut Response, spans: &[Span], size: u64) {
        response.status = 206;
        response.of_file = None;
        response.reason = None;
        for name in [Name::AcceptRanges, Name::ContentLength, Name::ContentRange] {
            response.fields.remove(name);
        }
        let body = std::mem::take(&mut response.body);
        if let [span] = spans {
            let range = format!("bytes {}", content_range(*span, size));
            response.fields.push_known(Name::ContentRange, range.as_bytes());
            if matches!(body, Body::Stream(_) | Body::Empty) {
                let length = (span.1 - span.0).to_string();
                response.fields.push_known(Name::ContentLength, length.as_bytes());
            }
            response.body = slice(body, *span);
            return;
        }
        let boundary = self.next_boundary();
        let media_type = response.fields.first(Name::ContentType).unwrap_or_default();
        response.body = multipart(body, spans, size, &boundary, media_type);
        let media_type = format!("multipart/byteranges; boundary={boundary}");
        response.fields.set(Name::ContentType, media_type.as_bytes());
    }

    /// A delimiter that the content cannot be made to contain: nobody outside knows the key.
    fn next_boundary(&self) -> String {
        let n = self.boundary.get();
        self.boundary.set(n.wrapping_add(1));
        format!("{:016x}{:016x}", self.boundaries.hash_one((n, 0)), self.boundaries.hash_one((n, 1)))
    }
}

fn set(request: &Request, response: &Response, size: u64, max: Option<u64>) -> Set {
    let Some(field) = request.fields.first(Name::Range) else { return Set::Whole };
    let Some((unit, set)) = field.split_at_checked(6) else { return Set::Whole };
    if set.is_empty() || !unit.eq_ignore_ascii_case(b"bytes=") {
        return Set::Whole;
    }
    if let Some(condition) = request.fields.first(Name::IfRange)
        && !is_same(condition, &response.fields)
    {
        return Set::Whole;
    }
    parse(set, size, max)
}

/// Whether `If-Range` names this very representation: its tag, or its date to the second.
fn is_same(condition: &[u8], fields: &Fields) -> bool {
    if condition.len() >= 2 && condition.ends_with(b"\"") {
        return fields.first(Name::ETag) == Some(condition);
    }
    let modified = fields.first(Name::LastModified).and_then(parse_http_date);
    modified.is_some() && parse_http_date(condition) == modified
}

/// Reads what follows `bytes=`.
fn parse(set: &[u8], size: u64, max: Option<u64>) -> Set {
    let mut spans = Vec::new();
    let mut total = 0u64;
    for spec in set.split(|&b| b == b',') {
        let Some((start, end)) = span(spec, size) else { return Set::Unsatisfiable };
        if start < end {
            if max.is_some_and(|max| spans.len() as u64 >= max) {
                return Set::Whole;
            }
            total = total.saturating_add(end - start);
            spans.push((start, end));
        } else if start == 0 {
            // Of nothing, all.
            return Set::Whole;
        }
    }
    // Many small or overlapping parts cost more than the whole (CVE-2011-3192, CVE-2017-7529).
    let heads = if max.is_none() { spans.len() as u64 * 256 } else { 0 };
    let slack = if max.is_none() { 4096 } else { 0 };
    match spans.len() {
        0 => Set::Unsatisfiable,
        1 => Set::Spans(spans),
        _ if total > size || total + heads > size + slack => Set::Whole,
        _ => Set::Spans(spans),
    }
}

/// One range; empty when it is outside of the body, `None` when it is malformed.
fn span(spec: &[u8], size: u64) -> Option<Span> {
    let spec = trim_spaces(spec);
    let dash = spec.iter().position(|&b| b == b'-')?;
    let (first, last) = (&spec[..dash], trim_spaces(&spec[dash + 1..]));
    if first.is_empty() {
        // No space between the dash and the digits.
        let suffix = number(trim_end(&spec[dash + 1..]))?;
        return Some((size.saturating_sub(suffix), size));
    }
    let first = number(trim_end(first))?;
    if last.is_empty() {
        return Some((first, size));
    }
    let last = number(last)?;
    Some((first, last.saturating_add(1).min(size)))
}

/// Digits only, and not more than a signed 64-bit number holds.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    i64::try_from(number).is_ok().then_some(number)
}

fn trim_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = text {
        text = rest;
    }
    trim_end(text)
}

fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

/// `0-499/1234`
fn content_range((start, end): Span, size: u64) -> String {
    format!("{start}-{}/{size}", end - 1)
}

fn refuse(response: &mut Response, before: Fields, size: u64) {
    *response = Response { status: 416, fields: before, close: response.close, ..Response::default() };
    for name in [
        Name::ContentType,
        Name::ContentLength,
        Name::ContentEncoding,
        Name::AcceptRanges,
        Name::LastModified,
        Name::ETag,
    ] {
        response.fields.remove(name);
    }
    response.fields.set(Name::ContentRange, format!("bytes */{size}").as_bytes());
}

/// Part of a body that is one piece.
fn slice(body: Body, (start, end): Span) -> Body {
    match body {
        Body::Full(bytes) => Body::Full(bytes.slice(start as usize..end as usize)),
        Body::File(mut file) => {
            for piece in &mut file.pieces {
                piece.start += start;
                piece.len = end - start;
            }
            Body::File(file)
        }
        Body::Stream(mut stream) => {
            let at = stream.narrow(start, end);
            if at == start && at > 0 {
                return Body::Stream(stream);
            }
            Body::Stream(Box::new(Cut { stream, at, start, end }))
        }
        Body::Empty => Body::Empty,
    }
}

/// What is wanted of a stream.
struct Cut {
    stream: Box<dyn ChunkStream>,
    /// The next byte of it.
    at: u64,
    start: u64,
    end: u64,
}

impl ChunkStream for Cut {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        while self.at < self.end {
            let chunk = match ready!(self.stream.poll_chunk(cx)) {
                Some(Ok(chunk)) => chunk,
                other => return Poll::Ready(other),
            };
            let length = match &chunk {
                Chunk::Data(data) => data.len() as u64,
                Chunk::File { len, .. } => *len,
                Chunk::Flush => return Poll::Ready(Some(Ok(Chunk::Flush))),
            };
            let from = self.start.max(self.at);
            let (skipped, taken) = (from - self.at, (self.at + length).min(self.end).saturating_sub(from));
            self.at += length;
            if taken == 0 {
                continue;
            }
            return Poll::Ready(Some(Ok(match chunk {
                Chunk::Data(data) => Chunk::Data(data.slice(skipped as usize..(skipped + taken) as usize)),
                Chunk::File { file, start, .. } => Chunk::File { file, start: start + skipped, len: taken },
                Chunk::Flush => Chunk::Flush,
            })));
        }
        Poll::Ready(None)
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        self.stream.poll_ahead(cx);
    }
}

/// `multipart/byteranges` (RFC 9110 §14.6).
fn multipart(body: Body, spans: &[Span], size: u64, boundary: &str, media_type: &[u8]) -> Body {
    let head = |span| {
        let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
        if !media_type.is_empty() {
            head.extend_from_slice(b"Content-Type: ");
            head.extend_from_slice(media_type);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(
            format!("Content-Range: bytes {}\r\n\r\n", content_range(span, size)).as_bytes(),
        );
        head
    };
    let end = format!("\r\n--{boundary}--\r\n");
    match body {
        Body::Full(bytes) => {
            let mut whole = Vec::new();
            for &(start, end) in spans {
                whole.append(&mut head((start, end)));
                whole.extend_from_slice(&bytes[start as usize..end as usize]);
            }
            whole.extend_from_slice(end.as_bytes());
            Body::Full(whole.into())
        }
        Body::File(file) => {
            let base = file.pieces.first().map_or(0, |piece| piece.start);
            let piece = |&(start, end): &Span| Piece {
                prefix: Bytes::from(head((start, end))),
                start: base + start,
                len: end - start,
            };
            Body::File(FileBody {
                file: Arc::clone(&file.file),
                pieces: spans.iter().map(piece).collect(),
                suffix: end.into(),
            })
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_of_ten_bytes() {
        use Set::{Spans, Unsatisfiable, Whole};
        for (set, max, expected) in [
            ("0-0", None, Spans(vec![(0, 1)])),
            ("2-5", None, Spans(vec![(2, 6)])),
            (" 2 - 5 ", None, Spans(vec![(2, 6)])),
            ("2-", None, Spans(vec![(2, 10)])),
            ("-3", None, Spans(vec![(7, 10)])),
            ("-30", None, Spans(vec![(0, 10)])),
            ("0-99", None, Spans(vec![(0, 10)])),
            ("0-1,4-5", None, Spans(vec![(0, 2), (4, 6)])),
            ("20-30,1-1", None, Spans(vec![(1, 2)])),
            ("0-1,4-5", Some(2), Spans(vec![(0, 2), (4, 6)])),
            ("0-1,4-5", Some(1), Whole),
            ("0-1,99-", Some(1), Spans(vec![(0, 2)])),
            ("0-7,0-7", None, Whole),
            ("0-7,0-7", Some(9), Whole),
            ("10-", None, Unsatisfiable),
            ("-0", None, Unsatisfiable),
            ("5-2", None, Unsatisfiable),
            ("99999999999999999999999-", None, Unsatisfiable),
            ("0-99999999999999999999999", None, Unsatisfiable),
            ("-", None, Unsatisfiable),
            ("- 3", None, Unsatisfiable),
            ("a-b", None, Unsatisfiable),
            ("1-2-3", None, Unsatisfiable),
            ("0-1,,2-3", None, Unsatisfiable),
            ("0-1,", None, Unsatisfiable),
        ] {
            assert_eq!(parse(set.as_bytes(), 10, max), expected, "{set} {max:?}");
        }
        assert_eq!(parse(b"0-", 0, None), Whole);
        assert_eq!(parse(b"1-", 0, None), Unsatisfiable);
    }

    #[test]
    fn parts_whose_heads_outweigh_the_whole_are_not_sent() {
        let many = vec!["0-0"; 20].join(",");
        assert_eq!(parse(many.as_bytes(), 100, None), Set::Whole);
        assert!(matches!(parse(many.as_bytes(), 100, Some(20)), Set::Spans(_)));
    }

    proptest! {
        #[test]
        fn never_reaches_outside(set in "[0-9,\\- a]{0,60}", size in 0u64..2000, max in proptest::option::of(1u64..9)) {
            if let Set::Spans(spans) = parse(set.as_bytes(), size, max) {
                prop_assert!(!spans.is_empty());
                for (start, end) in spans {
                    prop_assert!(start < end && end <= size);
                }
            }
        }

        #[test]
        fn multipart_can_be_taken_apart(
            body in proptest::collection::vec(any::<u8>(), 1..200),
            spans in proptest::collection::vec((0usize..200, 1usize..50), 2..6),
        ) {
            let size = body.len();
            let spans: Vec<Span> = spans
                .into_iter()
                .map(|(start, len)| (start % size, (start % size + len).min(size)))
                .map(|(start, end)| (start as u64, end as u64))
                .collect();
            let boundary = "0123456789abcdef";
            let made = multipart(Body::Full(body.clone().into()), &spans, size as u64, boundary, b"a/b");
            let Body::Full(made) = made else { panic!("in memory") };
            let mut rest = &made[..];
            for (start, end) in spans {
                let range = format!("{start}-{}/{size}", end - 1);
                let head = format!("\r\n--{boundary}\r\nContent-Type: a/b\r\nContent-Range: bytes {range}\r\n\r\n");
                rest = rest.strip_prefix(head.as_bytes()).unwrap();
                let (part, behind) = rest.split_at((end - start) as usize);
                prop_assert_eq!(part, &body[start as usize..end as usize]);
                rest = behind;
            }
            let end = format!("\r\n--{boundary}--\r\n");
            prop_assert_eq!(rest, end.as_bytes());
        }
    }
}
