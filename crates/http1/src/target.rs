//! The forms of a request target (RFC 9112 §3.2) and the authority (RFC 3986 §3.2).

use std::net::Ipv6Addr;

use memchr::{memchr, memchr2};

use crate::error::HeadError;
use crate::span::Span;
use crate::syntax::is_host_byte;

/// Scheme of a target in absolute-form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// A request target, cut into its parts but not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestTarget {
    /// `/path?query`
    Origin {
        /// From its first slash to the `?`.
        path: Span,
        /// What follows the first `?`; `None` without one.
        query: Option<Span>,
    },
    /// `http://host:port/path?query`
    Absolute {
        /// The scheme.
        scheme: Scheme,
        /// `host[:port]`, well-formed.
        authority: Span,
        /// May be empty, which means `/` ([`crate::RequestHead::path`] says so).
        path: Span,
        /// What follows the first `?`; `None` without one.
        query: Option<Span>,
    },
    /// `host:port`, of CONNECT and of no other method.
    Authority {
        /// `host:port`, well-formed.
        authority: Span,
    },
    /// `*`, of OPTIONS and of no other method.
    Asterisk,
}

impl RequestTarget {
    /// Parses `buf[target]`, whose bytes are known to be allowed in a target.
    pub(crate) fn parse(buf: &[u8], method: &[u8], target: Span) -> Result<Self, HeadError> {
        let bytes = target.of(buf);
        let start = target.start as usize;
        if method == b"CONNECT" {
            // RFC 9110 §9.3.6: there is no default port.
            return match parse_authority(bytes) {
                Some(Authority { port: Some(_), .. }) => Ok(Self::Authority { authority: target }),
                _ => Err(HeadError::Target),
            };
        }
        if bytes.first() == Some(&b'/') {
            let (path, query) = split_query(bytes, start);
            return Ok(Self::Origin { path, query });
        }
        if bytes == b"*" && method == b"OPTIONS" {
            return Ok(Self::Asterisk);
        }
        let (scheme, skip) = if starts_with_ignore_case(bytes, b"http://") {
            (Scheme::Http, 7)
        } else if starts_with_ignore_case(bytes, b"https://") {
            (Scheme::Https, 8)
        } else {
            return Err(HeadError::Target);
        };
        let rest = &bytes[skip..];
        let length = memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        if parse_authority(&rest[..length]).is_none() {
            return Err(HeadError::Target);
        }
        let (path, query) = split_query(&rest[length..], start + skip + length);
        let authority = Span::new(start + skip, start + skip + length);
        Ok(Self::Absolute { scheme, authority, path, query })
    }
}

fn split_query(bytes: &[u8], start: usize) -> (Span, Option<Span>) {
    let end = start + bytes.len();
    match memchr(b'?', bytes) {
        Some(at) => (Span::new(start, start + at), Some(Span::new(start + at + 1, end))),
        None => (Span::new(start, end), None),
    }
}

fn starts_with_ignore_case(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// `uri-host [":" port]`, the value of Host and the authority of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Name or address as sent; an IPv6 address keeps its brackets.
    pub host: &'a [u8],
    /// The port; `None` also for a colon with nothing behind it, which RFC 3986 §3.2.3 allows.
    pub port: Option<u16>,
}

/// Parses a host with an optional port. `None` for what is malformed: an empty host (nginx refuses it
/// too, and no `http` URI has one), user information, a port above 65535, an IPv6 address without
/// brackets or with a zone, bytes above ASCII.
pub fn parse_authority(bytes: &[u8]) -> Option<Authority<'_>> {
    let host_len = if bytes.first() == Some(&b'[') {
        let close = memchr(b']', bytes)?;
        let literal = std::str::from_utf8(&bytes[1..close]).ok()?;
        if literal.parse::<Ipv6Addr>().is_err() && !is_ip_future(literal) {
            return None;
        }
        close + 1
    } else {
        reg_name_len(bytes)?
    };
    let (host, rest) = bytes.split_at(host_len);
    let port = match rest {
        [] | [b':'] => None,
        [b':', digits @ ..] => Some(parse_port(digits)?),
        _ => return None,
    };
    Some(Authority { host, port })
}

/// `v1.fe80::a+en1`: an address of a version that nobody has defined yet (RFC 3986 §3.2.2).
fn is_ip_future(literal: &str) -> bool {
    let Some((version, address)) = literal.strip_prefix(['v', 'V']).and_then(|rest| rest.split_once('.'))
    else {
        return false;
    };
    let is_version = !version.is_empty() && version.bytes().all(|b| b.is_ascii_hexdigit());
    is_version && !address.is_empty() && address.bytes().all(|b| b == b':' || is_host_byte(b))
}

/// Length of the name or IPv4 address at the beginning, which a colon or the end follows.
fn reg_name_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        match b {
            b if is_host_byte(b) => at += 1,
            b':' => break,
            b'%' => match bytes.get(at + 1..at + 3) {
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => at += 3,
                _ => return None,
            },
            _ => return None,
        }
    }
    (at > 0).then_some(at)
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |port, b| {
        let digit = b.is_ascii_digit().then(|| u16::from(b - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    })
}
