//! Field lines (RFC 9112 §5), of heads and of trailer sections.

use crate::span::Span;
use crate::syntax::{is_token_byte, is_value};

/// One field line: where its name and its value stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldLine {
    /// The name as it was sent; never empty.
    pub name: Span,
    /// The value without optional white space around it; may be empty, may hold bytes above ASCII.
    pub value: Span,
    /// Which of the well-known fields it is.
    pub known: KnownField,
}

macro_rules! known_fields {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Fields that a server or what stands behind it looks at, told apart once, while parsing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum KnownField {
            /// Any other.
            Other,
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl KnownField {
            /// Tells by name, whatever its case.
            #[inline]
            pub fn of(name: &[u8]) -> Self {
                // The length rules nearly all of them out; the comparison is of constant length then.
                $(
                    if name.len() == $name.len() && name.eq_ignore_ascii_case($name.as_bytes()) {
                        return Self::$variant;
                    }
                )*
                Self::Other
            }
        }
    };
}

known_fields! {
    Host = "host",
    Connection = "connection",
    ContentLength = "content-length",
    TransferEncoding = "transfer-encoding",
    ContentType = "content-type",
    Expect = "expect",
    Upgrade = "upgrade",
    Te = "te",
    Trailer = "trailer",
    KeepAlive = "keep-alive",
    ProxyConnection = "proxy-connection",
    AcceptEncoding = "accept-encoding",
    Range = "range",
    IfRange = "if-range",
    IfMatch = "if-match",
    IfNoneMatch = "if-none-match",
    IfModifiedSince = "if-modified-since",
    IfUnmodifiedSince = "if-unmodified-since",
    Forwarded = "forwarded",
    XForwardedFor = "x-forwarded-for",
    XForwardedProto = "x-forwarded-proto",
    XForwardedHost = "x-forwarded-host",
    Authorization = "authorization",
    Cookie = "cookie",
    Referer = "referer",
    UserAgent = "user-agent",
}

impl KnownField {
    /// Whether the field concerns one connection only, so that nobody passes it on (RFC 9110 §7.6.1).
    /// Fields that Connection names are so as well: [`crate::RequestHead::connection_options`].
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Te
                | Self::Trailer
                | Self::KeepAlive
                | Self::ProxyConnection
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldError {
    Name,
    Value,
    ObsFold,
}

/// Parses the `count` field lines of `buf[start..end]`, where `end` is past the empty line. The lines are
/// known to end in CRLF, each, or in LF where that is allowed. What [`httparse`] calls an error is looked at again to say which it is.
#[inline]
pub(crate) fn parse_field_lines(
    buf: &[u8],
    start: usize,
    end: usize,
    count: usize,
    each: impl FnMut(FieldLine, &[u8]),
) -> Result<(), FieldError> {
    // The scratch space is cleared on each call, so it is only as large as the head needs.
    match count {
        0 => Ok(()),
        1..=16 => parse_into(&mut [httparse::EMPTY_HEADER; 16], buf, start, end, each),
        17..=48 => parse_into(&mut [httparse::EMPTY_HEADER; 48], buf, start, end, each),
        49..=128 => parse_into(&mut [httparse::EMPTY_HEADER; 128], buf, start, end, each),
        _ => parse_into(&mut vec![httparse::EMPTY_HEADER; count], buf, start, end, each),
    }
}

#[inline]
fn parse_into<'b>(
    scratch: &mut [httparse::Header<'b>],
    buf: &'b [u8],
    start: usize,
    end: usize,
    mut each: impl FnMut(FieldLine, &[u8]),
) -> Result<(), FieldError> {
    let section = &buf[start..end];
    let Ok(httparse::Status::Complete((consumed, lines))) = httparse::parse_headers(section, scratch) else {
        return Err(diagnose(section));
    };
    if consumed != section.len() {
        return Err(diagnose(section));
    }
    let base = buf.as_ptr() as usize;
    let span = |part: &[u8]| {
        let from = (part.as_ptr() as usize).wrapping_sub(base);
        Span::new(from, from + part.len())
    };
    for line in lines {
        let name = line.name.as_bytes();
        // An empty value need not point into the buffer.
        let value = if line.value.is_empty() { Span::default() } else { span(line.value) };
        each(FieldLine { name: span(name), value, known: KnownField::of(name) }, name);
    }
    Ok(())
}

/// Which of its lines is wrong, and how.
#[cold]
fn diagnose(section: &[u8]) -> FieldError {
    for line in section.split(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        if matches!(line[0], b' ' | b'\t') {
            return FieldError::ObsFold;
        }
        let name = line.iter().position(|&b| !is_token_byte(b)).unwrap_or(line.len());
        if name == 0 || line.get(name) != Some(&b':') {
            return FieldError::Name;
        }
        if !is_value(&line[name + 1..]) {
            return FieldError::Value;
        }
    }
    // Not reached as long as httparse and this agree on what a field line is; the refusal stands.
    FieldError::Value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_whatever_the_case() {
        assert_eq!(KnownField::of(b"TRANSFER-encoding"), KnownField::TransferEncoding);
        assert_eq!(KnownField::of(b"te"), KnownField::Te);
        assert_eq!(KnownField::of(b"transfer_encoding"), KnownField::Other);
        assert_eq!(KnownField::of(b""), KnownField::Other);
    }

    /// Each size of the scratch space, and one above the largest.
    #[test]
    fn any_number_of_lines() {
        for count in [0, 1, 16, 17, 48, 49, 128, 129, 500] {
            let mut section: Vec<u8> =
                (0..count).flat_map(|n| format!("A{n}: {n}\r\n").into_bytes()).collect();
            section.extend_from_slice(b"\r\n");
            let mut seen = 0;
            parse_field_lines(&section, 0, section.len(), count, |line, name| {
                assert_eq!(name, format!("A{seen}").as_bytes());
                assert_eq!(line.value.of(&section), format!("{seen}").as_bytes());
                seen += 1;
            })
            .unwrap();
            assert_eq!(seen, count);
        }
    }
}
