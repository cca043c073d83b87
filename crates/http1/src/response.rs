//! The head of a response (RFC 9112 §4, §5, §6.3), as who has asked reads it.

use crate::connection::{ConnectionOptions, Persistence};
use crate::field::{FieldError, FieldLine, parse_field_lines, whole_section};
use crate::framing::parse_length;
use crate::head::Version;
use crate::limits::Limits;
use crate::lines::{LineError, LineScanner};
use crate::name::Name;
use crate::span::Span;
use crate::syntax::is_value;

/// How the body of a response is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is none, whatever the fields say: to HEAD, and with 1xx, 204 and 304.
    #[default]
    None,
    /// So many bytes; may be 0. Below 2^63.
    Length(u64),
    /// Chunks, until the last: [`crate::ChunkedDecoder`].
    Chunked,
    /// All until the connection ends.
    Close,
}

/// What the response is an answer to, as far as its head is read differently for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerTo {
    /// The request's method was HEAD.
    pub head: bool,
    /// The request asked for another protocol: 101 ends HTTP on this connection.
    pub upgrade: bool,
}

/// Why a response is refused. The connection cannot be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The first line is no `HTTP/1.x NNN …`.
    #[error("no valid HTTP/1.0 header")]
    StatusLine,
    /// A major version other than 1.
    #[error("unsupported HTTP version")]
    Version,
    /// Head longer than [`Limits::head`], a line longer than [`Limits::field_size`], or more lines than
    /// [`Limits::fields`].
    #[error("too big header")]
    TooLarge,
    /// A line feed without its carriage return, without `bare_lf`.
    #[error("line feed without carriage return in header")]
    BareLf,
    /// What is no field line.
    #[error("invalid header")]
    Field,
    /// A line that continues the one before it (RFC 9112 §5.2).
    #[error("folded header line")]
    ObsFold,
    /// `Content-Length` that is no plain decimal number below 2^63.
    #[error("invalid \"Content-Length\" header")]
    ContentLength,
    /// More than one `Content-Length` line, alike or not.
    #[error("duplicate header line: \"Content-Length\"")]
    ContentLengthRepeated,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("\"Content-Length\" and \"Transfer-Encoding\" headers at the same time")]
    LengthAndEncoding,
    /// More than one `Transfer-Encoding` line.
    #[error("duplicate header line: \"Transfer-Encoding\"")]
    TransferEncodingRepeated,
    /// A `Transfer-Encoding` other than `chunked` alone.
    #[error("unknown \"Transfer-Encoding\"")]
    TransferEncoding,
    /// 101 that nobody asked for.
    #[error("unexpected 101 response")]
    Upgrade,
}

/// A parsed response head: positions in the buffer it was parsed from, and what follows from it. Meant to be used
/// again; it keeps its memory then. Only meaningful after [`parse_response_head`] has returned `Ok(Some(_))`.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The version.
    pub version: Version,
    /// 100 to 999.
    pub status: u16,
    /// The reason phrase; may be empty.
    pub reason: Span,
    /// The field lines in order.
    pub fields: Vec<FieldLine>,
    /// How the body is delimited.
    pub framing: ResponseFraming,
    /// `Content-Length`, whether or not a body follows.
    pub content_length: Option<u64>,
    /// Whether the connection can be used again once the body has ended.
    pub keep_alive: bool,

    lines: LineScanner,
    /// Where the field lines begin; 0 as long as the status line is not complete.
    begin: usize,
    count: usize,
    done: bool,
}

impl ResponseHead {
    /// Forgets everything but keeps the memory.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Names and values in order.
    pub fn lines<'a>(&'a self, buf: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.fields.iter().map(|line| (line.name.of(buf), line.value.of(buf)))
    }

    /// Whether another head follows: 1xx but 101.
    pub const fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }
}

/// So many field lines most heads have at most.
const MOST_HAVE: usize = 16;

/// Parses the head of a response at the beginning of `buf`, as [`crate::parse_request_head`] does one of a request:
/// `Ok(None)` asks for more bytes behind the same ones, `Ok(Some(n))` says how many the head took. The outcome does not
/// depend on how the bytes were split over the calls.
///
/// Of [`Limits`], `head`, `field_size` (for the status line too) and `fields` count. With `bare_lf` an LF alone ends a
/// line too.
pub fn parse_response_head(
    buf: &[u8],
    limits: &Limits,
    bare_lf: bool,
    to: AnswerTo,
    head: &mut ResponseHead,
) -> Result<Option<usize>, ResponseError> {
    if head.done || buf.len() < head.lines.scanned() {
        head.clear();
    }
    let outcome = advance(buf, limits, bare_lf, to, head);
    head.done = !matches!(outcome, Ok(None));
    outcome
}

fn advance(
    buf: &[u8],
    limits: &Limits,
    bare_lf: bool,
    to: AnswerTo,
    head: &mut ResponseHead,
) -> Result<Option<usize>, ResponseError> {
    let window = &buf[..buf.len().min(limits.head_effective())];
    if head.begin == 0 {
        // What does not begin as a response need not become a line before it is refused.
        match head.lines.next(window, limits.field_size, bare_lf) {
            Ok(Some(line)) => {
                status_line(window, line.start, line.end, head)?;
                head.begin = line.next;
            }
            Ok(None) | Err(_) if !begins_well(window) => return Err(ResponseError::StatusLine),
            Ok(None) if buf.len() > window.len() => return Err(ResponseError::TooLarge),
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    // Once only: a head that comes byte by byte would be read again with each.
    if head.lines.scanned() == head.begin {
        let mut framing = Essential::default();
        let fields = &mut head.fields;
        fields.reserve(MOST_HAVE);
        let note = |line: FieldLine, _: &[u8]| framing.note(line, fields);
        if let Some(end) = whole_section(window, head.begin, limits.field_size, limits.fields, note) {
            settle(window, to, &framing, head)?;
            return Ok(Some(end));
        }
        head.fields.clear();
    }
    let end = loop {
        match head.lines.next(window, limits.field_size, bare_lf) {
            Ok(Some(line)) if line.is_empty() => break line.next,
            Ok(Some(_)) => {
                head.count += 1;
                if head.count > limits.fields {
                    return Err(ResponseError::TooLarge);
                }
            }
            Ok(None) if buf.len() > window.len() => return Err(ResponseError::TooLarge),
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    };
    finish(buf, end, to, head)?;
    Ok(Some(end))
}

fn begins_well(window: &[u8]) -> bool {
    const START: &[u8] = b"HTTP/";
    let length = window.len().min(START.len());
    window[..length] == START[..length]
}

/// `HTTP/1.1 200 OK`; the reason and the space before it may be missing (RFC 9112 §4 wants the space, many leave it
/// out).
fn status_line(buf: &[u8], start: usize, end: usize, head: &mut ResponseHead) -> Result<(), ResponseError> {
    let line = &buf[start..end];
    let [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b' ', rest @ ..] = line else {
        return Err(ResponseError::StatusLine);
    };
    if !major.is_ascii_digit() || !minor.is_ascii_digit() {
        return Err(ResponseError::StatusLine);
    }
    head.version = match (major, minor) {
        (b'1', b'0') => Version::Http10,
        // A minor version above the own is read as the own (RFC 9110 §2.5).
        (b'1', _) => Version::Http11,
        _ => return Err(ResponseError::Version),
    };
    let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] = rest else {
        return Err(ResponseError::StatusLine);
    };
    let digit = |byte: &u8| u16::from(byte - b'0');
    head.status = digit(a) * 100 + digit(b) * 10 + digit(c);
    head.reason = match rest {
        [] => Span::default(),
        [b' ', reason @ ..] if is_value(reason) => Span::new(end - reason.len(), end),
        _ => return Err(ResponseError::StatusLine),
    };
    Ok(())
}

impl From<LineError> for ResponseError {
    fn from(error: LineError) -> Self {
        match error {
            LineError::TooLong => Self::TooLarge,
            LineError::BareLf => Self::BareLf,
        }
    }
}

/// What of the field lines says how the message ends.
#[derive(Default)]
struct Essential {
    length: Option<Span>,
    encoding: Option<Span>,
    has_connection: bool,
    repeated: Option<ResponseError>,
}

impl Essential {
    #[inline]
    fn note(&mut self, line: FieldLine, fields: &mut Vec<FieldLine>) {
        match line.known {
            Name::ContentLength if self.length.replace(line.value).is_some() => {
                self.repeated = Some(ResponseError::ContentLengthRepeated);
            }
            Name::TransferEncoding if self.encoding.replace(line.value).is_some() => {
                self.repeated = Some(ResponseError::TransferEncodingRepeated);
            }
            Name::Connection => self.has_connection = true,
            _ => {}
        }
        fields.push(line);
    }
}

/// The field lines up to `end`, and how the message ends.
fn finish(buf: &[u8], end: usize, to: AnswerTo, head: &mut ResponseHead) -> Result<(), ResponseError> {
    let mut framing = Essential::default();
    let fields = &mut head.fields;
    fields.reserve(head.count);
    parse_field_lines(buf, head.begin, end, |line, _| framing.note(line, fields)).map_err(
        |error| match error {
            FieldError::Name | FieldError::Value => ResponseError::Field,
            FieldError::ObsFold => ResponseError::ObsFold,
        },
    )?;
    settle(buf, to, &framing, head)
}

/// How the message ends.
fn settle(
    buf: &[u8],
    to: AnswerTo,
    essential: &Essential,
    head: &mut ResponseHead,
) -> Result<(), ResponseError> {
    let &Essential { length, encoding, has_connection, repeated } = essential;
    if let Some(error) = repeated {
        return Err(error);
    }
    if let Some(length) = length {
        head.content_length = Some(parse_length(length.of(buf)).ok_or(ResponseError::ContentLength)?);
    }
    let chunked = encoding.map(|encoding| encoding.of(buf).eq_ignore_ascii_case(b"chunked"));
    let framing = match (head.content_length, chunked) {
        (Some(_), Some(_)) => return Err(ResponseError::LengthAndEncoding),
        (None, Some(false)) => return Err(ResponseError::TransferEncoding),
        (None, Some(true)) => ResponseFraming::Chunked,
        (Some(length), None) => ResponseFraming::Length(length),
        (None, None) => ResponseFraming::Close,
    };
    if head.status == 101 && !to.upgrade {
        return Err(ResponseError::Upgrade);
    }
    let has_none = to.head || !crate::framing::response_body_allowed(head.status);
    head.framing = if has_none { ResponseFraming::None } else { framing };
    head.keep_alive = head.version == Version::Http11;
    if has_connection {
        let options = ConnectionOptions::new(buf, &head.fields);
        head.keep_alive = Persistence::of(head.version, options).keep_alive;
    }
    // RFC 9112 §6.1: chunks in a message of HTTP/1.0 are faulty framing; nothing behind them can be relied on.
    let faulty = chunked.is_some() && head.version == Version::Http10;
    head.keep_alive &= head.framing != ResponseFraming::Close && head.status != 101 && !faulty;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, to: AnswerTo) -> Result<ResponseHead, ResponseError> {
        let mut head = ResponseHead::default();
        let taken = parse_response_head(text.as_bytes(), &Limits::default(), false, to, &mut head)?;
        assert_eq!(taken, Some(text.len()), "{text:?}");
        Ok(head)
    }

    fn get(text: &str) -> Result<ResponseHead, ResponseError> {
        parse(text, AnswerTo::default())
    }

    #[test]
    fn status_lines() {
        for (line, status, reason) in [
            ("HTTP/1.1 200 OK", 200, "OK"),
            ("HTTP/1.0 404 Not Found", 404, "Not Found"),
            ("HTTP/1.1 204", 204, ""),
            ("HTTP/1.1 200 ", 200, ""),
            ("HTTP/1.2 799 \u{e9}", 799, "\u{e9}"),
        ] {
            let text = format!("{line}\r\n\r\n");
            let head = get(&text).unwrap();
            assert_eq!((head.status, head.reason.of(text.as_bytes())), (status, reason.as_bytes()), "{line}");
        }
        for line in [
            "",
            "SEE-THIS",
            "HTTP/1.1",
            "HTTP/1.1 ",
            "HTTP/1.1 20",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 099 Low",
            "HTTP/1.1  200 OK",
            "HTTP/1.1 200\tOK",
            "http/1.1 200 OK",
            "HTTP/11 200 OK",
            "HTTP/1.1 200 O\u{1}",
            " HTTP/1.1 200 OK",
            "HTTP/1.1 -20 OK",
        ] {
            let text = format!("{line}\r\nA: b\r\n\r\n");
            assert_eq!(get(&text).unwrap_err(), ResponseError::StatusLine, "{line}");
        }
        assert_eq!(get("HTTP/2.0 200 OK\r\n\r\n").unwrap_err(), ResponseError::Version);
        let mut head = ResponseHead::default();
        let early = parse_response_head(b"SSH-2", &Limits::default(), false, AnswerTo::default(), &mut head);
        assert_eq!(early, Err(ResponseError::StatusLine), "not only when the line has ended");
    }

    #[test]
    fn framing() {
        use ResponseFraming::{Chunked, Close, Length, None};
        let (plain, head) = (AnswerTo::default(), AnswerTo { head: true, upgrade: false });
        for (first, fields, to, framing, keep_alive) in [
            ("HTTP/1.1 200 OK", "Content-Length: 5", plain, Length(5), true),
            ("HTTP/1.1 200 OK", "Content-Length: 0\r\nConnection: close", plain, Length(0), false),
            ("HTTP/1.0 200 OK", "Content-Length: 5", plain, Length(5), false),
            ("HTTP/1.0 200 OK", "Content-Length: 5\r\nConnection: keep-alive", plain, Length(5), true),
            ("HTTP/1.1 200 OK", "Transfer-Encoding: Chunked", plain, Chunked, true),
            (
                "HTTP/1.0 200 OK",
                "Transfer-Encoding: chunked\r\nConnection: keep-alive",
                plain,
                Chunked,
                false,
            ),
            ("HTTP/1.1 200 OK", "A: b", plain, Close, false),
            ("HTTP/1.1 200 OK", "Content-Length: 5", head, None, true),
            ("HTTP/1.1 200 OK", "A: b", head, None, true),
            ("HTTP/1.1 304 Not Modified", "Content-Length: 5", plain, None, true),
            ("HTTP/1.1 204 No Content", "A: b", plain, None, true),
            ("HTTP/1.1 100 Continue", "A: b", plain, None, true),
        ] {
            let parsed = parse(&format!("{first}\r\n{fields}\r\n\r\n"), to).unwrap();
            assert_eq!((parsed.framing, parsed.keep_alive), (framing, keep_alive), "{first} {fields}");
        }
        let upgrade = AnswerTo { head: false, upgrade: true };
        let switched = parse("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", upgrade).unwrap();
        assert!(!switched.keep_alive && !switched.is_interim());
    }

    #[test]
    fn what_two_parties_could_read_differently_is_refused() {
        use ResponseError as E;
        for (fields, error) in [
            ("Content-Length: 5\r\nContent-Length: 5", E::ContentLengthRepeated),
            ("Content-Length: 5\r\nContent-Length: 6", E::ContentLengthRepeated),
            ("Content-Length: 5, 5", E::ContentLength),
            ("Content-Length: +5", E::ContentLength),
            ("Content-Length: -5", E::ContentLength),
            ("Content-Length: 0x5", E::ContentLength),
            ("Content-Length:", E::ContentLength),
            ("Content-Length: 9223372036854775808", E::ContentLength),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", E::LengthAndEncoding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", E::TransferEncodingRepeated),
            ("Transfer-Encoding: gzip, chunked", E::TransferEncoding),
            ("Transfer-Encoding: chunked, identity", E::TransferEncoding),
            ("Transfer-Encoding: identity", E::TransferEncoding),
            ("Transfer-Encoding: xchunked", E::TransferEncoding),
            ("Content-Length : 5", E::Field),
            ("A\r\nB: c", E::Field),
            (": c", E::Field),
            ("A: b\r\n folded", E::ObsFold),
            ("A: b\u{0}c", E::Field),
            ("A: b\nB: c", E::BareLf),
        ] {
            assert_eq!(get(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n")).unwrap_err(), error, "{fields}");
        }
        assert_eq!(get("HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap_err(), E::Upgrade);
    }

    #[test]
    fn a_head_is_not_longer_than_allowed() {
        let limits = Limits { head: 40, fields: 2, ..Limits::default() };
        let mut head = ResponseHead::default();
        let mut parse =
            |text: &str| parse_response_head(text.as_bytes(), &limits, true, AnswerTo::default(), &mut head);
        assert_eq!(parse("HTTP/1.1 200 OK\nA: bbbbbbbbbbbbbbbbbbb\n\n"), Ok(Some(40)));
        assert_eq!(parse("HTTP/1.1 200 OK\nA: bbbbbbbbbbbbbbbbbbbb\n\n"), Err(ResponseError::TooLarge));
        assert_eq!(parse("HTTP/1.1 200 OK\nA: bbbbbbbbbbbbbbbbbbbbbbbbb"), Err(ResponseError::TooLarge));
        assert_eq!(parse("HTTP/1.1 200 OK\nA: b\nA: b\nA: b\n"), Err(ResponseError::TooLarge));
    }
}
