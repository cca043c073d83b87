//! Response heads and chunks, written into a buffer.

use crate::chunked::trailer_allowed;
use crate::head::Version;
use crate::name::Name;
use crate::reason::{reason_phrase, status_line};
use crate::syntax::{is_token_byte, is_value};

/// The interim response that `Expect: 100-continue` waits for, whole.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// What follows the data of each chunk.
pub const CRLF: &[u8] = b"\r\n";
/// The end of a chunked body without trailer fields.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Why something cannot be written: it would not be read as what it is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Not three digits, the first not 0.
    #[error("status code outside 100 to 999")]
    Status,
    /// A control byte in the reason phrase.
    #[error("invalid character in reason phrase")]
    Reason,
    /// A field name that is no token.
    #[error("invalid field name")]
    FieldName,
    /// A control byte (CR, LF and NUL among them) in a field value.
    #[error("invalid character in field value")]
    FieldValue,
    /// A field that may not stand in a trailer section (RFC 9110 §6.5.1).
    #[error("field not allowed in trailer section")]
    ForbiddenTrailer,
}

/// Whether these bytes are a token (RFC 9110 §5.6.2): a field name, a method.
#[inline]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_token_byte(b))
}

/// Whether these bytes can be a field value: no control byte but HTAB.
#[inline]
pub fn is_field_value(bytes: &[u8]) -> bool {
    is_value(bytes)
}

/// Writes one response head, piece by piece. One that is dropped unfinished leaves the buffer as it was.
///
/// ```
/// use http1::{ResponseEncoder, Version};
///
/// let mut out = Vec::new();
/// let mut head = ResponseEncoder::new(&mut out, Version::Http11, 200, None)?;
/// head.field(b"Content-Type", b"text/plain")?;
/// head.content_length(5);
/// head.finish();
/// assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n");
/// # Ok::<(), http1::EncodeError>(())
/// ```
#[derive(Debug)]
pub struct ResponseEncoder<'a> {
    out: &'a mut Vec<u8>,
    /// Length to go back to; the current one when finished.
    start: usize,
}

impl<'a> ResponseEncoder<'a> {
    /// Writes the status line behind what `out` holds. Without a reason the registered one is taken, or an
    /// empty one.
    #[inline]
    pub fn new(
        out: &'a mut Vec<u8>,
        version: Version,
        status: u16,
        reason: Option<&[u8]>,
    ) -> Result<Self, EncodeError> {
        let start = out.len();
        let registered = reason_phrase(status);
        if let (Version::Http11, Some(line)) = (version, status_line(status))
            && (reason.is_none() || reason == registered.map(str::as_bytes))
        {
            out.extend_from_slice(line.as_bytes());
            return Ok(Self { out, start });
        }
        if !(100..=999).contains(&status) {
            return Err(EncodeError::Status);
        }
        let reason = reason.or(registered.map(str::as_bytes)).unwrap_or_default();
        if !is_value(reason) {
            return Err(EncodeError::Reason);
        }
        let digit = |n: u16| b'0' + (n % 10) as u8;
        out.extend_from_slice(version.as_str().as_bytes());
        out.extend_from_slice(&[b' ', digit(status / 100), digit(status / 10), digit(status), b' ']);
        out.extend_from_slice(reason);
        out.extend_from_slice(CRLF);
        Ok(Self { out, start })
    }

    /// Writes a field line; after an error nothing of it is there.
    #[inline]
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), EncodeError> {
        encode_field(self.out, name, value)
    }

    /// The same, where it is known which field it is: a name that has a number is right, however it is spelled.
    #[inline]
    pub fn field_of(&mut self, known: Name, name: &[u8], value: &[u8]) -> Result<(), EncodeError> {
        if known == Name::Other {
            return self.field(name, value);
        }
        debug_assert!(known == Name::of(name));
        if !is_value(value) {
            return Err(EncodeError::FieldValue);
        }
        push_field(self.out, name, value);
        Ok(())
    }

    /// Writes `Content-Length`.
    #[inline]
    pub fn content_length(&mut self, length: u64) {
        self.out.extend_from_slice(b"Content-Length: ");
        push_decimal(self.out, length);
        self.out.extend_from_slice(CRLF);
    }

    /// Writes a field line of a name and a value that are known to be right: no control byte, a token.
    #[inline]
    pub fn known_field(&mut self, name: &[u8], value: &[u8]) {
        debug_assert!(is_token(name) && is_value(value));
        push_field(self.out, name, value);
    }

    /// Writes complete field lines, each with its CRLF, that the program has made itself: nothing is
    /// checked.
    #[inline]
    pub fn ready_made(&mut self, lines: &[u8]) {
        debug_assert!(lines.is_empty() || lines.ends_with(CRLF));
        self.out.extend_from_slice(lines);
    }

    /// Writes the empty line. Returns the length of the head in bytes.
    #[inline]
    pub fn finish(mut self) -> usize {
        self.out.extend_from_slice(CRLF);
        let length = self.out.len() - self.start;
        self.start = self.out.len();
        length
    }
}

impl Drop for ResponseEncoder<'_> {
    #[inline]
    fn drop(&mut self) {
        self.out.truncate(self.start);
    }
}

/// Writes a whole response head; after an error nothing of it is there. Returns its length in bytes.
pub fn encode_response_head<'f>(
    out: &mut Vec<u8>,
    version: Version,
    status: u16,
    reason: Option<&[u8]>,
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<usize, EncodeError> {
    let mut head = ResponseEncoder::new(out, version, status, reason)?;
    for (name, value) in fields {
        head.field(name, value)?;
    }
    Ok(head.finish())
}

#[inline]
fn encode_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), EncodeError> {
    if !is_token(name) {
        return Err(EncodeError::FieldName);
    }
    if !is_value(value) {
        return Err(EncodeError::FieldValue);
    }
    push_field(out, name, value);
    Ok(())
}

#[inline]
fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(CRLF);
}

fn push_decimal(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break out.extend_from_slice(&digits[at..]);
        }
    }
}

/// The line before the data of a chunk, on the stack: for writing header, data and [`CRLF`] in one
/// vectored write.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHeader {
    bytes: [u8; 18],
    start: u8,
}

impl ChunkHeader {
    /// For data of this length in bytes. For none it is empty, because a chunk without data would end the
    /// body; write no [`CRLF`] then either.
    pub fn new(mut length: u64) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0u8; 18];
        let mut start = bytes.len();
        if length > 0 {
            start -= 2;
            bytes[start..].copy_from_slice(CRLF);
        }
        while length > 0 {
            start -= 1;
            bytes[start] = HEX[(length & 15) as usize];
            length >>= 4;
        }
        Self { bytes, start: start as u8 }
    }
}

impl AsRef<[u8]> for ChunkHeader {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

/// Writes the line before the data of a chunk; nothing for a length of 0, which would end the body.
#[inline]
pub fn encode_chunk_size(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(ChunkHeader::new(length).as_ref());
}

/// Writes a chunk with its data; nothing when there is none.
#[inline]
pub fn encode_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        out.reserve(data.len() + 20);
        encode_chunk_size(out, data.len() as u64);
        out.extend_from_slice(data);
        out.extend_from_slice(CRLF);
    }
}

/// Writes the last chunk and the trailer section; after an error nothing of it is there. Without fields
/// this is [`LAST_CHUNK`].
pub fn encode_last_chunk<'f>(
    out: &mut Vec<u8>,
    trailers: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        let written = if trailer_allowed(name) {
            encode_field(out, name, value)
        } else {
            Err(EncodeError::ForbiddenTrailer)
        };
        if let Err(error) = written {
            out.truncate(start);
            return Err(error);
        }
    }
    out.extend_from_slice(CRLF);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields<'a> = &'a [(&'a [u8], &'a [u8])];

    fn head(version: Version, status: u16, reason: Option<&[u8]>, fields: Fields<'_>) -> String {
        let mut out = Vec::new();
        encode_response_head(&mut out, version, status, reason, fields.iter().copied()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn status_lines() {
        assert_eq!(head(Version::Http11, 204, None, &[]), "HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(head(Version::Http11, 200, Some(b"OK"), &[]), "HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(head(Version::Http11, 200, Some(b"Fine"), &[]), "HTTP/1.1 200 Fine\r\n\r\n");
        assert_eq!(head(Version::Http11, 200, Some(b""), &[]), "HTTP/1.1 200 \r\n\r\n");
        assert_eq!(head(Version::Http10, 404, None, &[]), "HTTP/1.0 404 Not Found\r\n\r\n");
        assert_eq!(head(Version::Http11, 799, None, &[]), "HTTP/1.1 799 \r\n\r\n");
    }

    #[test]
    fn content_lengths() {
        for length in [0, 9, 10, 4096, u64::MAX] {
            let mut out = Vec::new();
            let mut head = ResponseEncoder::new(&mut out, Version::Http11, 200, None).unwrap();
            head.content_length(length);
            head.finish();
            let expected = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn an_unfinished_head_leaves_nothing() {
        let mut out = b"body of the response before".to_vec();
        let before = out.clone();
        let mut head = ResponseEncoder::new(&mut out, Version::Http11, 200, None).unwrap();
        head.field(b"A", b"b").unwrap();
        assert_eq!(head.field(b"Set-Cookie", b"a\r\nX: y"), Err(EncodeError::FieldValue));
        drop(head);
        assert_eq!(out, before);
    }

    #[test]
    fn what_would_split_a_response_is_refused() {
        let mut out = Vec::new();
        let mut head = ResponseEncoder::new(&mut out, Version::Http11, 200, None).unwrap();
        for value in [&b"a\rb"[..], b"a\nb", b"a\0b", b"\x7f", b"a\x0b"] {
            assert_eq!(head.field(b"A", value), Err(EncodeError::FieldValue));
        }
        for name in [&b""[..], b"A ", b"A:", b"A\r\nB", b"\xc3\xa9"] {
            assert_eq!(head.field(name, b"v"), Err(EncodeError::FieldName));
        }
        head.field(b"A", b"\tcaf\xe9").unwrap();
        head.finish();
        assert_eq!(out, b"HTTP/1.1 200 OK\r\nA: \tcaf\xe9\r\n\r\n");
        let refused = ResponseEncoder::new(&mut out, Version::Http11, 200, Some(b"O\nK")).map(|_| ());
        assert_eq!(refused, Err(EncodeError::Reason));
    }

    #[test]
    fn an_empty_chunk_does_not_end_the_body() {
        let mut out = Vec::new();
        encode_chunk(&mut out, b"");
        encode_chunk_size(&mut out, 0);
        assert!(out.is_empty());
        assert!(ChunkHeader::new(0).as_ref().is_empty());
    }

    #[test]
    fn forbidden_trailers_are_not_written() {
        let mut out = Vec::new();
        let fields: Fields<'_> = &[(b"Digest", b"x"), (b"content-length", b"5")];
        assert_eq!(encode_last_chunk(&mut out, fields.iter().copied()), Err(EncodeError::ForbiddenTrailer));
        assert!(out.is_empty());
        encode_last_chunk(&mut out, []).unwrap();
        assert_eq!(out, LAST_CHUNK);
    }
}
