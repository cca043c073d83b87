//! What may stand in `Host`.

use std::borrow::Cow;

/// A host that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<'a> {
    /// Lower case, without port and without the dot at its end.
    pub name: Cow<'a, [u8]>,
    /// The port, 0 if there is none.
    pub port: u16,
}

/// The host is none; the client's fault, answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid host")]
pub struct InvalidHost;

/// Kinds of bytes, each a bit.
const IN_NAME: u8 = 1;
const IN_LITERAL: u8 = 2;
const UPPER: u8 = 4;
const DOT: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let is_of_both = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
            );
        classes[byte] = if is_of_both { IN_NAME | IN_LITERAL } else { 0 }
            | if b == b'%' { IN_NAME } else { 0 }
            | if b == b':' { IN_LITERAL } else { 0 }
            | if b.is_ascii_uppercase() { UPPER } else { 0 }
            | if b == b'.' { DOT } else { 0 };
        byte += 1;
    }
    classes
};

/// Checks and normalises the host of a request line or a `Host` field. As nginx does it, every byte that RFC 3986
/// §3.2.2 allows in a host is taken, percent signs included, and nothing is decoded; two dots in a row are refused.
pub fn validate_host(host: &[u8]) -> Result<Host<'_>, InvalidHost> {
    let (name, port) = split(host)?;
    let inner = name.strip_prefix(b"[").map_or(name, |literal| &literal[..literal.len() - 1]);
    let wanted = if inner.len() == name.len() { IN_NAME } else { IN_LITERAL };
    let (mut all, mut any, mut twice, mut before) = (wanted, 0, 0, 0);
    for &byte in inner {
        let class = CLASSES[usize::from(byte)];
        all &= class;
        any |= class;
        twice |= class & before;
        before = class & DOT;
    }
    if all == 0 || twice != 0 {
        return Err(InvalidHost);
    }
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() {
        return Err(InvalidHost);
    }
    let port = port_number(port)?;
    let name = if any & UPPER != 0 { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) };
    Ok(Host { name, port })
}

/// The name, with the brackets of an address of IPv6, and the digits of the port.
fn split(host: &[u8]) -> Result<(&[u8], &[u8]), InvalidHost> {
    if host.first() == Some(&b'[') {
        let end = memchr::memchr(b']', host).ok_or(InvalidHost)? + 1;
        return match &host[end..] {
            [] => Ok((host, b"")),
            [b':', port @ ..] => Ok((&host[..end], port)),
            _ => Err(InvalidHost),
        };
    }
    Ok(match memchr::memchr(b':', host) {
        Some(colon) => (&host[..colon], &host[colon + 1..]),
        None => (host, b""),
    })
}

fn port_number(digits: &[u8]) -> Result<u16, InvalidHost> {
    digits
        .iter()
        .try_fold(0_u16, |port, digit| {
            let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
            port.checked_mul(10)?.checked_add(digit)
        })
        .ok_or(InvalidHost)
}
