//! Decoder of the chunked transfer coding (RFC 9112 §7.1).

use std::ops::Range;

use memchr::memchr;

use crate::error::ChunkedError;
use crate::field::{FieldLine, parse_field_lines};
use crate::limits::Limits;
use crate::lines::{LineError, LineScanner};
use crate::syntax::is_token_byte;

/// Most hexadecimal digits of a chunk size, leading zeros among them.
const SIZE_DIGITS: u8 = 16;

/// What [`ChunkedDecoder::decode`] found at the beginning of its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkedEvent {
    /// The whole input is used up and the body goes on.
    NeedMore,
    /// This range of the input is data, at least one byte; what is before it is used up. Go on with the
    /// input behind it.
    Data(Range<usize>),
    /// The body and its trailer section have ended; so many bytes of the input belong to them.
    End {
        /// Bytes of the input that are used up.
        consumed: usize,
    },
}

/// Takes a chunked body apart without copying its data. Input may be split anywhere.
///
/// ```
/// use http1::{ChunkedDecoder, ChunkedEvent, Limits};
///
/// let mut decoder = ChunkedDecoder::new(&Limits::default());
/// let mut input = &b"5\r\nhello\r\n0\r\n\r\nGET /"[..];
/// let mut body = Vec::new();
/// loop {
///     match decoder.decode(input)? {
///         ChunkedEvent::Data(range) => {
///             body.extend_from_slice(&input[range.clone()]);
///             input = &input[range.end..];
///         }
///         ChunkedEvent::End { consumed } => break input = &input[consumed..],
///         ChunkedEvent::NeedMore => unreachable!("read more here"),
///     }
/// }
/// assert_eq!((&body[..], input), (&b"hello"[..], &b"GET /"[..]));
/// # Ok::<(), http1::ChunkedError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
    limits: Limits,
    /// Bytes of extensions of this chunk.
    extension: usize,
    /// Bytes of extensions of all chunks.
    extensions: usize,
    lines: LineScanner,
    trailer_lines: usize,
    trailers: TrailerSection,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In a chunk size with so many digits yet.
    Size { digits: u8, size: u64 },
    /// In the extensions of a chunk of this size.
    Extension { part: Extension, size: u64 },
    /// Before the LF that ends the line of a chunk size.
    SizeLf { size: u64 },
    /// In data with so many bytes to come, at least one.
    Data { left: u64 },
    /// Before the CRLF behind data.
    DataCr,
    /// Before its LF.
    DataLf,
    /// In the trailer section.
    Trailers,
    /// Behind the body.
    Done,
    /// Refused for good.
    Failed(ChunkedError),
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 §7.1.1). White
/// space is refused right behind the size, where others take it for a part of the size.
#[derive(Clone, Copy, Debug)]
enum Extension {
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    QuotedPair,
    AfterValue,
}

impl ChunkedDecoder {
    /// A decoder at the beginning of a body.
    pub fn new(limits: &Limits) -> Self {
        Self {
            state: State::Size { digits: 0, size: 0 },
            limits: limits.clone(),
            extension: 0,
            extensions: 0,
            lines: LineScanner::default(),
            trailer_lines: 0,
            trailers: TrailerSection::default(),
        }
    }

    /// Takes the next bytes of the body. Behind the end it keeps returning `End { consumed: 0 }`, and after
    /// an error the same error.
    pub fn decode(&mut self, input: &[u8]) -> Result<ChunkedEvent, ChunkedError> {
        let mut at = 0;
        loop {
            match self.state {
                State::Data { left } => {
                    let available = input.len() - at;
                    if available == 0 {
                        return Ok(ChunkedEvent::NeedMore);
                    }
                    let take = usize::try_from(left).map_or(available, |left| left.min(available));
                    self.state = match left - take as u64 {
                        0 => State::DataCr,
                        left => State::Data { left },
                    };
                    return Ok(ChunkedEvent::Data(at..at + take));
                }
                State::Trailers => return self.trailer_section(input, at).map_err(|error| self.fail(error)),
                State::Done => return Ok(ChunkedEvent::End { consumed: at }),
                State::Failed(error) => return Err(error),
                state => {
                    let Some(&b) = input.get(at) else {
                        return Ok(ChunkedEvent::NeedMore);
                    };
                    at += 1;
                    self.state = self.step(state, b).map_err(|error| self.fail(error))?;
                }
            }
        }
    }

    /// The trailer section: empty before the end and when there is none.
    pub fn trailers(&self) -> &TrailerSection {
        &self.trailers
    }

    /// The same, taken out of the decoder.
    pub fn into_trailers(self) -> TrailerSection {
        self.trailers
    }

    /// Whether the end has been reached.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn fail(&mut self, error: ChunkedError) -> ChunkedError {
        self.state = State::Failed(error);
        error
    }

    /// One byte of what is between the data.
    fn step(&mut self, state: State, b: u8) -> Result<State, ChunkedError> {
        match state {
            State::Size { digits, size } => match (b, hex_digit(b)) {
                (_, Some(_)) if digits == SIZE_DIGITS => Err(ChunkedError::SizeOverflow),
                // Sixteen digits fit; what has the highest bit would not fit a signed file offset.
                (_, Some(digit)) => match size << 4 | u64::from(digit) {
                    size if i64::try_from(size).is_err() => Err(ChunkedError::SizeOverflow),
                    size => Ok(State::Size { digits: digits + 1, size }),
                },
                (b'\r', None) if digits > 0 => Ok(State::SizeLf { size }),
                (b';', None) if digits > 0 => {
                    self.extension = 0;
                    self.count_extension()?;
                    Ok(State::Extension { part: Extension::BeforeName, size })
                }
                _ => Err(ChunkedError::Size),
            },
            State::Extension { part, size } => match part.step(b)? {
                Some(part) => {
                    self.count_extension()?;
                    Ok(State::Extension { part, size })
                }
                None => Ok(State::SizeLf { size }),
            },
            State::SizeLf { size } if b == b'\n' => match size {
                0 => Ok(State::Trailers),
                left => Ok(State::Data { left }),
            },
            State::SizeLf { .. } => Err(ChunkedError::Size),
            State::DataCr if b == b'\r' => Ok(State::DataLf),
            State::DataLf if b == b'\n' => Ok(State::Size { digits: 0, size: 0 }),
            State::DataCr | State::DataLf => Err(ChunkedError::DataEnd),
            // These take no single bytes.
            State::Data { .. } | State::Trailers | State::Done | State::Failed(_) => Ok(state),
        }
    }

    fn count_extension(&mut self) -> Result<(), ChunkedError> {
        self.extension += 1;
        self.extensions += 1;
        if self.extension > self.limits.chunk_extension
            || self.extensions > self.limits.chunk_extensions_total
        {
            return Err(ChunkedError::ExtensionsTooLong);
        }
        Ok(())
    }

    /// Collects the trailer section line by line, so that nothing of what follows it is taken.
    fn trailer_section(&mut self, input: &[u8], mut at: usize) -> Result<ChunkedEvent, ChunkedError> {
        // Nearly always there is none, and nothing to keep.
        if self.trailers.buf.is_empty() && input[at..].starts_with(b"\r\n") {
            self.state = State::Done;
            return Ok(ChunkedEvent::End { consumed: at + 2 });
        }
        // The empty line at its end does not count.
        let limit = self.limits.trailers_effective() + 2;
        while at < input.len() {
            let rest = &input[at..];
            let take = memchr(b'\n', rest).map_or(rest.len(), |lf| lf + 1);
            let fits = take.min(limit - self.trailers.buf.len());
            self.trailers.buf.extend_from_slice(&rest[..fits]);
            match self.lines.next(&self.trailers.buf, self.limits.field_size, false) {
                Ok(Some(line)) if line.is_empty() => {
                    self.trailers.parse()?;
                    self.state = State::Done;
                    return Ok(ChunkedEvent::End { consumed: at + take });
                }
                Ok(Some(_)) => self.trailer_lines += 1,
                Ok(None) => {}
                Err(LineError::TooLong) => return Err(ChunkedError::TrailersTooLong),
                Err(LineError::BareLf) => return Err(ChunkedError::TrailerBareLf),
            }
            if fits < take || self.trailer_lines > self.limits.fields {
                return Err(ChunkedError::TrailersTooLong);
            }
            at += take;
        }
        Ok(ChunkedEvent::NeedMore)
    }
}

impl Extension {
    /// `None` at the CR that ends the line.
    fn step(self, b: u8) -> Result<Option<Self>, ChunkedError> {
        let space = matches!(b, b' ' | b'\t');
        let next = match self {
            Self::BeforeName | Self::BeforeValue if space => self,
            Self::BeforeName | Self::Name if is_token_byte(b) => Self::Name,
            Self::Name | Self::AfterName if b == b'=' => Self::BeforeValue,
            Self::Name | Self::AfterName | Self::Token | Self::AfterValue if b == b';' => Self::BeforeName,
            Self::Name | Self::Token | Self::AfterValue if b == b'\r' => return Ok(None),
            Self::Name | Self::AfterName if space => Self::AfterName,
            Self::BeforeValue if b == b'"' => Self::Quoted,
            Self::BeforeValue | Self::Token if is_token_byte(b) => Self::Token,
            Self::Token | Self::AfterValue if space => Self::AfterValue,
            Self::Quoted if b == b'"' => Self::AfterValue,
            Self::Quoted if b == b'\\' => Self::QuotedPair,
            Self::Quoted | Self::QuotedPair if (b >= 0x20 && b != 0x7f) || b == b'\t' => Self::Quoted,
            _ => return Err(ChunkedError::Extension),
        };
        Ok(Some(next))
    }
}

fn hex_digit(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// The fields behind a chunked body (RFC 9112 §7.1.2), without those that may not come there.
#[derive(Clone, Debug, Default)]
pub struct TrailerSection {
    buf: Vec<u8>,
    fields: Vec<FieldLine>,
}

impl TrailerSection {
    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|line| (line.name.of(&self.buf), line.value.of(&self.buf)))
    }

    fn parse(&mut self) -> Result<(), ChunkedError> {
        let fields = &mut self.fields;
        parse_field_lines(&self.buf, 0, self.buf.len(), |line, name| {
            if trailer_allowed(name) {
                fields.push(line);
            }
        })
        .map_err(|_| ChunkedError::Trailer)
    }
}

/// Whether a field may stand in the trailer section of a message of HTTP/1: one of [`may_trail`] without an underscore in
/// its name.
pub fn trailer_allowed(name: &[u8]) -> bool {
    may_trail(name) && !name.contains(&b'_')
}

/// Whether a field may stand behind the body: not what frames, routes, authenticates or conditions the message or says how
/// its content is to be read (RFC 9110 §6.5.1), nor what a proxy vouches for.
pub fn may_trail(name: &[u8]) -> bool {
    const FORBIDDEN: &[&str] = &[
        "age",
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-location",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "forwarded",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "location",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "retry-after",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "via",
        "warning",
        "www-authenticate",
    ];
    !FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
        && !name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"))
}
