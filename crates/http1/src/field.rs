//! Field lines (RFC 9112 §5), of heads and of trailer sections.

use crate::span::Span;
use crate::syntax::{is_token_byte, value_end};

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

/// Parses the field lines of `buf[start..end]`, where `end` is past the empty line. The lines are known to end in CRLF,
/// each, or in LF where that is allowed.
#[inline]
pub(crate) fn parse_field_lines(
    buf: &[u8],
    start: usize,
    end: usize,
    mut each: impl FnMut(FieldLine, &[u8]),
) -> Result<(), FieldError> {
    let buf = &buf[..end];
    let mut at = start;
    loop {
        match buf.get(at..) {
            None | Some(b"" | b"\n" | b"\r\n") => return Ok(()),
            Some([b' ' | b'\t', ..]) => return Err(FieldError::ObsFold),
            _ => {}
        }
        let length = buf[at..].iter().position(|&b| !is_token_byte(b)).unwrap_or(end - at);
        let colon = at + length;
        if length == 0 || buf.get(colon) != Some(&b':') {
            return Err(FieldError::Name);
        }
        let mut from = colon + 1;
        while matches!(buf.get(from), Some(b' ' | b'\t')) {
            from += 1;
        }
        let mut to = value_end(buf, from);
        let next = match buf.get(to..) {
            Some([b'\n', ..]) => to + 1,
            Some([b'\r', b'\n', ..]) => to + 2,
            _ => return Err(FieldError::Value),
        };
        while to > from && matches!(buf[to - 1], b' ' | b'\t') {
            to -= 1;
        }
        let name = &buf[at..colon];
        // What is empty stands nowhere.
        let value = if from == to { Span::default() } else { Span::new(from, to) };
        each(FieldLine { name: Span::new(at, colon), value, known: KnownField::of(name) }, name);
        at = next;
    }
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

    #[test]
    fn any_number_of_lines() {
        for count in [0, 1, 16, 500] {
            let mut section: Vec<u8> =
                (0..count).flat_map(|n| format!("A{n}: {n}\r\n").into_bytes()).collect();
            section.extend_from_slice(b"\r\n");
            let mut seen = 0;
            parse_field_lines(&section, 0, section.len(), |line, name| {
                assert_eq!(name, format!("A{seen}").as_bytes());
                assert_eq!(line.value.of(&section), format!("{seen}").as_bytes());
                seen += 1;
            })
            .unwrap();
            assert_eq!(seen, count);
        }
    }

    /// What another parser takes is taken here, as the same names and values, and nothing else is.
    fn agree(lines: &[Vec<u8>]) -> bool {
        let mut section: Vec<u8> = lines.iter().flat_map(|line| [line, &b"\r\n"[..]].concat()).collect();
        section.extend_from_slice(b"\r\n");
        let mut ours = Vec::new();
        let outcome = parse_field_lines(&section, 0, section.len(), |line, _| {
            ours.push((line.name.of(&section).to_vec(), line.value.of(&section).to_vec()));
        });
        let mut scratch = [httparse::EMPTY_HEADER; 8];
        let theirs = match httparse::parse_headers(&section, &mut scratch) {
            Ok(httparse::Status::Complete((length, theirs))) if length == section.len() => Some(theirs),
            _ => None,
        };
        match (outcome, theirs) {
            (Ok(()), Some(theirs)) => theirs
                .iter()
                .map(|it| (it.name.as_bytes(), it.value))
                .eq(ours.iter().map(|(name, value)| (&name[..], &value[..]))),
            (outcome, theirs) => outcome.is_err() && theirs.is_none(),
        }
    }

    #[test]
    fn every_byte_is_judged_as_another_parser_judges_it() {
        for byte in (0..=u8::MAX).filter(|byte| *byte != b'\n') {
            for line in [
                vec![byte],
                vec![byte, b':'],
                vec![b'A', byte, b':', b'v'],
                vec![b'A', b':', byte],
                vec![b'A', b':', byte, b'v'],
                vec![b'A', b':', b'v', byte],
                vec![b'A', b':', b' ', b'v', byte, b'w', b'\t'],
            ] {
                assert!(agree(&[b"Host: a".to_vec(), line.clone()]), "{line:?}");
                assert!(agree(&[line.clone(), b"Host: a".to_vec()]), "{line:?}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn lines_are_read_as_another_parser_reads_them(
            lines in proptest::collection::vec(
                proptest::collection::vec(proptest::sample::select(&b"Aa-_:  \t\rx\x00\x7f\xe9\"("[..]), 1..12),
                0..5,
            ),
        ) {
            proptest::prop_assert!(agree(&lines), "{:?}", lines);
        }
    }
}
