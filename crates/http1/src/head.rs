//! The head of a request (RFC 9112 §2.2, §3, §5): request line and field lines.

use std::ops::Range;

use memchr::memchr;

use crate::connection::ConnectionOptions;
use crate::error::HeadError;
use crate::essential::Essential;
use crate::field::{FieldError, FieldLine, parse_field_lines, whole_section};
use crate::framing::BodyFraming;
use crate::limits::Limits;
use crate::lines::{Line, LineError, LineScanner};
use crate::name::Name;
use crate::span::Span;
use crate::syntax::{is_method_byte, is_target, is_token_byte};
use crate::target::RequestTarget;

/// Empty lines that are skipped before a request line (RFC 9112 §2.2 asks for at least one).
const LEADING_EMPTY_LINES: u8 = 4;
/// Longest method. The longest registered one has 17 letters.
const METHOD_MAX: usize = 32;

/// The HTTP versions that this codec speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

impl Version {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// What is done with a field whose name has an underscore. In a CGI-like environment `X_A` and `X-A` are
/// one name, so that a client could forge what a proxy sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnderscoreFields {
    /// Leave it out, as nginx (`underscores_in_headers off`) and gunicorn (`header_map = drop`) do.
    /// [`RequestHead::dropped`] counts them.
    #[default]
    Drop,
    /// Refuse the request with 400 (gunicorn's `header_map = refuse`).
    Refuse,
    /// Keep it: whoever asks for this sorts it out.
    Keep,
}

/// What is a matter of taste in a request head. Nothing here concerns the framing of bodies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Allow every token as method (gunicorn's `permit_unconventional_http_method`). Without it small
    /// letters and `#` are refused, as gunicorn and nginx do.
    pub unconventional_methods: bool,
    /// Fields with an underscore in their name.
    pub underscore_fields: UnderscoreFields,
    /// Leave out fields whose names have something else in them than letters, digits, dashes and underscores, as
    /// nginx does (`ignore_invalid_headers`). [`RequestHead::dropped`] does not count them.
    pub plain_names_only: bool,
    /// Take a bare LF for the end of a line, as RFC 9112 §2.2 lets a recipient and as nginx does: of the request
    /// line, of field lines and of the empty line. Such a head means what it would mean with CRLF in these places,
    /// byte for byte, and nothing else; a CR without its LF stays an error. Chunks and trailers are not concerned.
    pub bare_lf: bool,
}

/// A parsed request head: positions in the buffer it was parsed from, and what follows from it.
///
/// Meant to be used again for the next request of a connection; it keeps its memory then. All of it is
/// only meaningful after [`parse_request_head`] has returned `Ok(Some(_))`.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method, a token of at most 32 bytes. Case matters.
    pub method: Span,
    /// The whole target as sent.
    pub target: Span,
    /// The target cut into its parts; `None` only before a head has been parsed.
    pub form: Option<RequestTarget>,
    /// The version.
    pub version: Version,
    /// Host and port that the request is for: the authority of a target in absolute-form or
    /// authority-form, else Host (RFC 9112 §3.2.2, §3.3). `None` on HTTP/1.0 without Host.
    pub authority: Option<Span>,
    /// The host in it; an IPv6 address keeps its brackets.
    pub host: Option<Span>,
    /// The port in it, when one is given.
    pub port: Option<u16>,
    /// The field lines in order, without dropped ones.
    pub fields: Vec<FieldLine>,
    /// How many fields were left out under [`UnderscoreFields::Drop`].
    pub dropped: u32,
    /// Fields were left out, for whatever reason: [`RequestHead::left_out`] tells them.
    pub leaves_out: bool,
    /// How the body is delimited.
    pub framing: BodyFraming,
    /// Whether the client wants the connection to stay open after the response. That the framing allows it
    /// is for sure; whether the response does is the server's matter.
    pub keep_alive: bool,
    /// `100-continue` is expected before the client sends the body (RFC 9110 §10.1.1): HTTP/1.1 and a body
    /// is announced.
    pub expect_continue: bool,
    /// HTTP/1.1 with an Upgrade field and the option `upgrade` in Connection (RFC 9110 §7.8).
    pub upgrade: bool,

    progress: Progress,
}

/// How far an incomplete head has been looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    lines: LineScanner,
    /// Where the request line begins.
    begin: usize,
    /// Where the field lines begin; 0 as long as the request line is not complete.
    fields: usize,
    /// Complete field lines.
    count: usize,
    /// Empty lines skipped.
    skipped: u8,
    /// The last call gave a head or an error: the next begins anew.
    done: bool,
}

/// Parses the head of a request at the beginning of `buf`.
///
/// `Ok(None)` asks for more bytes: call again with the same bytes and more behind them, and the same
/// `head`, which remembers how far they were looked at. `Ok(Some(n))` says that the head, with empty lines
/// before it, took the first `n` bytes. After that and after an error the next call begins a new head; to
/// give up an incomplete one, [`RequestHead::clear`] it.
///
/// The outcome does not depend on how the bytes were split over the calls.
#[inline]
pub fn parse_request_head(
    buf: &[u8],
    limits: &Limits,
    policy: &Policy,
    head: &mut RequestHead,
) -> Result<Option<usize>, HeadError> {
    if head.progress.done || buf.len() < head.progress.lines.scanned() {
        head.clear();
    }
    let outcome = advance(buf, limits, policy, head);
    head.progress.done = !matches!(outcome, Ok(None));
    outcome
}

impl RequestHead {
    /// Forgets everything but keeps the memory.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Whether the request line was read and good, whatever became of the rest.
    pub fn has_request_line(&self) -> bool {
        self.progress.fields > 0
    }

    /// Where the request line begins.
    pub(crate) const fn begin_of_line(&self) -> usize {
        self.progress.begin
    }

    /// Where the field lines begin; 0 as long as the request line is not complete.
    pub(crate) const fn begin_of_fields(&self) -> usize {
        self.progress.fields
    }

    /// The path as sent, not decoded: `/` for an absolute-form without one, `*` for asterisk-form, empty
    /// for authority-form.
    pub fn path<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        match self.form {
            // An origin-form has a path, by its definition.
            Some(RequestTarget::Origin { path, .. } | RequestTarget::Absolute { path, .. }) => {
                match path.of(buf) {
                    b"" => b"/",
                    path => path,
                }
            }
            Some(RequestTarget::Asterisk) => b"*",
            Some(RequestTarget::Authority { .. }) | None => b"",
        }
    }

    /// What follows the first `?` of the target; `None` without one.
    pub fn query<'a>(&self, buf: &'a [u8]) -> Option<&'a [u8]> {
        match self.form {
            Some(RequestTarget::Origin { query, .. } | RequestTarget::Absolute { query, .. }) => {
                query.map(|query| query.of(buf))
            }
            _ => None,
        }
    }

    /// The first field line of this kind.
    pub fn field(&self, known: Name) -> Option<&FieldLine> {
        self.fields.iter().find(|line| line.known == known)
    }

    /// The value of the first field line of this kind.
    pub fn value<'a>(&self, buf: &'a [u8], known: Name) -> Option<&'a [u8]> {
        self.field(known).map(|line| line.value.of(buf))
    }

    /// Names and values in order.
    pub fn lines<'a>(&'a self, buf: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.fields.iter().map(|line| (line.name.of(buf), line.value.of(buf)))
    }

    /// Where the field lines stand in a head of `length` bytes, and which fields they are, with names and values as
    /// places within that, in order.
    pub fn places(
        &self,
        length: usize,
    ) -> (Range<usize>, impl Iterator<Item = (Name, Range<usize>, Range<usize>)> + '_) {
        let start = self.progress.fields;
        let within = move |span: Span| {
            if span.is_empty() { 0..0 } else { span.start as usize - start..span.end as usize - start }
        };
        let lines = self.fields.iter();
        (start..length, lines.map(move |line| (line.known, within(line.name), within(line.value))))
    }

    /// The options that Connection names; a proxy removes the fields of these names.
    pub fn connection_options<'a>(&'a self, buf: &'a [u8]) -> ConnectionOptions<'a> {
        ConnectionOptions::new(buf, &self.fields)
    }
}

fn advance(
    buf: &[u8],
    limits: &Limits,
    policy: &Policy,
    head: &mut RequestHead,
) -> Result<Option<usize>, HeadError> {
    if head.progress.fields == 0 && !request_line(buf, limits, policy, head)? {
        return Ok(None);
    }
    let window = window(buf, limits, &head.progress);
    // Once only: a head that comes byte by byte would be read again with each.
    if head.progress.lines.scanned() == head.progress.fields
        && let Some(end) = whole(window, limits, policy, head)?
    {
        return Ok(Some(end));
    }
    let progress = &mut head.progress;
    let end = loop {
        match progress.lines.next(window, limits.field_size, policy.bare_lf) {
            Ok(Some(line)) if line.is_empty() => break line.next,
            Ok(Some(_)) => {
                progress.count += 1;
                if progress.count > limits.fields {
                    return Err(HeadError::TooManyFields);
                }
            }
            Ok(None) if buf.len() > window.len() => return Err(HeadError::HeadTooLong),
            Ok(None) => return Ok(None),
            Err(LineError::TooLong) => return Err(HeadError::FieldTooLong),
            Err(LineError::BareLf) => return Err(HeadError::BareLf),
        }
    };
    finish(buf, end, policy, head)?;
    Ok(Some(end))
}

/// What of the buffer a head may fill.
fn window<'a>(buf: &'a [u8], limits: &Limits, progress: &Progress) -> &'a [u8] {
    &buf[..buf.len().min(progress.begin + limits.head_effective())]
}

/// Looks for the request line; `false` when more bytes are needed.
fn request_line(
    buf: &[u8],
    limits: &Limits,
    policy: &Policy,
    head: &mut RequestHead,
) -> Result<bool, HeadError> {
    loop {
        let window = window(buf, limits, &head.progress);
        let begin = head.progress.begin;
        // Before the line is complete, so that what is no HTTP at all is told so at once and does not wait
        // for a line feed that may never come.
        let seen = &window[begin.min(window.len())..];
        let method = method_len(&seen[..seen.len().min(limits.request_line.saturating_add(2))], policy)?;
        match head.progress.lines.next(window, limits.request_line, policy.bare_lf) {
            Ok(Some(line)) if line.is_empty() => {
                head.progress.skipped += 1;
                if head.progress.skipped > LEADING_EMPTY_LINES {
                    return Err(HeadError::LeadingEmptyLines);
                }
                head.progress.begin = line.next;
            }
            Ok(Some(Line { start, end, next })) => {
                let method = method.ok_or(HeadError::RequestLine)?;
                parse_request_line(buf, start, start + method, end, head)?;
                head.progress.fields = next;
                return Ok(true);
            }
            Ok(None) if buf.len() > window.len() => return Err(HeadError::HeadTooLong),
            Ok(None) => return Ok(false),
            Err(LineError::TooLong) => return Err(HeadError::RequestLineTooLong),
            Err(LineError::BareLf) => return Err(HeadError::BareLf),
        }
    }
}

/// Length of the method that `seen` begins with, once the space behind it is there. An error as soon as
/// what is there cannot become one.
fn method_len(seen: &[u8], policy: &Policy) -> Result<Option<usize>, HeadError> {
    let allowed = |b: u8| {
        if policy.unconventional_methods { is_token_byte(b) } else { is_method_byte(b) }
    };
    let prefix = &seen[..seen.len().min(METHOD_MAX + 1)];
    let Some(length) = prefix.iter().position(|&b| !allowed(b)) else {
        return if prefix.len() > METHOD_MAX { Err(HeadError::Method) } else { Ok(None) };
    };
    match (length, prefix[length]) {
        (1.., b' ') => Ok(Some(length)),
        (_, b'\n') if !policy.bare_lf => Err(HeadError::BareLf),
        // An empty line, or the beginning of one.
        (0, b'\n') => Ok(None),
        (0, b'\r') if matches!(seen.get(1), None | Some(b'\n')) => Ok(None),
        (1.., b'\r' | b'\n') => Err(HeadError::RequestLine),
        _ => Err(HeadError::Method),
    }
}

/// `method SP request-target SP HTTP-version`, with exactly these spaces.
fn parse_request_line(
    buf: &[u8],
    start: usize,
    method_end: usize,
    end: usize,
    head: &mut RequestHead,
) -> Result<(), HeadError> {
    let target_start = method_end + 1;
    let rest = &buf[target_start..end];
    let target_len = memchr(b' ', rest).unwrap_or(rest.len());
    let target = &rest[..target_len];
    if target.is_empty() {
        return Err(HeadError::RequestLine);
    }
    if !is_target(target) {
        return Err(HeadError::TargetByte);
    }
    head.version = match rest.get(target_len + 1..) {
        Some(b"HTTP/1.0") => Version::Http10,
        // A higher minor version is read as the highest that is known (RFC 9110 §2.5).
        Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9']) => Version::Http11,
        // RFC 9112 §2.3: two single digits.
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(HeadError::Version);
        }
        _ => return Err(HeadError::MalformedVersion),
    };
    head.method = Span::new(start, method_end);
    head.target = Span::new(target_start, target_start + target_len);
    head.form = Some(RequestTarget::parse(buf, head.method.of(buf), head.target)?);
    Ok(())
}

/// Whether a field of this name, which is none of those that the program looks at, is left out.
pub(crate) fn is_left_out(policy: &Policy, name: &[u8]) -> bool {
    (policy.underscore_fields != UnderscoreFields::Keep && memchr(b'_', name).is_some())
        || (policy.plain_names_only && !name.iter().all(|&b| is_plain(b)))
}

/// Of these the names of fields are made that everybody understands.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// All that is behind the request line, if it is there and as it should be.
fn whole(
    window: &[u8],
    limits: &Limits,
    policy: &Policy,
    head: &mut RequestHead,
) -> Result<Option<usize>, HeadError> {
    let mut essential = Essential::default();
    let start = head.progress.fields;
    let (fields, dropped) = (&mut head.fields, &mut head.dropped);
    let note =
        |line: FieldLine, name: &[u8]| note(policy, window, line, name, fields, &mut essential, dropped);
    if let Some(end) = whole_section(window, start, limits.field_size, limits.fields, note) {
        return settle(window, policy, &essential, head).map(|()| Some(end));
    }
    head.fields.clear();
    head.dropped = 0;
    Ok(None)
}

/// The field lines up to `end`, and all that follows from them.
fn finish(buf: &[u8], end: usize, policy: &Policy, head: &mut RequestHead) -> Result<(), HeadError> {
    let Progress { fields: start, count, .. } = head.progress;
    let mut essential = Essential::default();
    let (fields, dropped) = (&mut head.fields, &mut head.dropped);
    fields.reserve(count);
    parse_field_lines(buf, start, end, |line, name| {
        note(policy, buf, line, name, fields, &mut essential, dropped);
    })
    .map_err(|error| match error {
        FieldError::Name => HeadError::FieldName,
        FieldError::Value => HeadError::FieldValue,
        FieldError::ObsFold => HeadError::ObsFold,
    })?;
    settle(buf, policy, &essential, head)
}

#[inline]
fn note(
    policy: &Policy,
    buf: &[u8],
    line: FieldLine,
    name: &[u8],
    fields: &mut Vec<FieldLine>,
    essential: &mut Essential,
    dropped: &mut u32,
) {
    if line.known != Name::Other {
        essential.note(&line, buf);
    } else if policy.underscore_fields != UnderscoreFields::Keep && memchr(b'_', name).is_some() {
        *dropped += 1;
        essential.leaves_out = true;
        return;
    } else if policy.plain_names_only && !name.iter().all(|&b| is_plain(b)) {
        essential.leaves_out = true;
        return;
    }
    fields.push(line);
}

fn settle(
    buf: &[u8],
    policy: &Policy,
    essential: &Essential,
    head: &mut RequestHead,
) -> Result<(), HeadError> {
    head.leaves_out = essential.leaves_out;
    if head.dropped > 0 && policy.underscore_fields == UnderscoreFields::Refuse {
        return Err(HeadError::Underscore);
    }
    essential.settle(buf, head)
}
