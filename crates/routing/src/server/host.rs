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

/// Checks and normalises the host of a request line or a `Host` field. As nginx does it, every byte that RFC 3986
/// §3.2.2 allows in a host is taken, percent signs included, and nothing is decoded; two dots in a row are refused.
pub fn validate_host(host: &[u8]) -> Result<Host<'_>, InvalidHost> {
    let (name, port) = split(host)?;
    let inner = name.strip_prefix(b"[").map_or(name, |literal| &literal[..literal.len() - 1]);
    let is_literal = inner.len() != name.len();
    if !inner.iter().all(|&byte| is_allowed(byte, is_literal)) || inner.windows(2).any(|pair| pair == b"..") {
        return Err(InvalidHost);
    }
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() {
        return Err(InvalidHost);
    }
    let port = port_number(port)?;
    let name = if name.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    };
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

fn is_allowed(byte: u8, in_literal: bool) -> bool {
    byte.is_ascii_alphanumeric()
        || b"-._~!$&'()*+,;=".contains(&byte)
        || byte == if in_literal { b':' } else { b'%' }
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
