//! The PROXY protocol, versions 1 and 2, as HAProxy's `proxy-protocol.txt` defines it: what stands before the
//! first byte of a connection that a proxy passes on.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of the longest header of version 1, with its line end (2.1).
pub const V1_LONGEST: usize = 107;
/// Bytes of the longest header of version 2 that is read; the same as nginx's. 16 bits could say more.
pub const V2_LONGEST: usize = 4096;

const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;

mod extras;

pub use extras::Extras;

/// What a header said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// `None`: the proxy speaks for itself (LOCAL: a health check) or of something else than TCP, and the
    /// connection's own addresses hold.
    pub addresses: Option<Addresses>,
    /// What else version 2 says of that connection; empty without addresses.
    pub extras: Extras,
}

/// What a header said of a connection that the proxy accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxied {
    /// Its ends.
    pub addresses: Addresses,
    /// What else is known of it.
    pub extras: Extras,
}

impl Header {
    /// What it says of a client, if it speaks of one.
    pub fn proxied(self) -> Option<Proxied> {
        let extras = self.extras;
        self.addresses.map(|addresses| Proxied { addresses, extras })
    }
}

/// The connection that the proxy accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client: `$proxy_protocol_addr` and `$proxy_protocol_port`.
    pub source: SocketAddr,
    /// Where it connected to: `$proxy_protocol_server_addr` and `$proxy_protocol_server_port`.
    pub destination: SocketAddr,
}

/// The bytes begin no header. The connection is closed: whoever sends it without one must not choose its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// They are something else, perhaps a request.
    #[error("no PROXY protocol header")]
    Missing,
    /// A header that breaks off, or with something that is no address or port.
    #[error("broken PROXY protocol header")]
    Broken,
    /// More than [`V1_LONGEST`] or [`V2_LONGEST`].
    #[error("PROXY protocol header is too large")]
    TooLarge,
    /// Version 2 with a version, command, family or transport that there is not.
    #[error("PROXY protocol header of an unknown kind")]
    Unknown,
}

/// Reads the header that `bytes` begin with, and says how many bytes it takes. `None`: it is not whole yet, and
/// at most [`V2_LONGEST`] bytes are needed to know.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Invalid> {
    let begins = |with: &[u8]| {
        let common = bytes.len().min(with.len());
        bytes[..common] == with[..common]
    };
    if begins(V2_SIGNATURE) {
        return parse_v2(bytes);
    }
    if begins(V1_PREFIX) {
        return parse_v1(bytes);
    }
    Err(Invalid::Missing)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(Header, usize)>, Invalid> {
    let window = &bytes[..bytes.len().min(V1_LONGEST)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() == V1_LONGEST { Err(Invalid::TooLarge) } else { Ok(None) };
    };
    let line = window.get(V1_PREFIX.len()..end).ok_or(Invalid::Broken)?;
    let header = Header { addresses: parse_v1_line(line)?, extras: Extras::default() };
    Ok(Some((header, end + 2)))
}

/// What follows `PROXY `: `TCP4 192.0.2.1 192.0.2.2 5000 80`.
fn parse_v1_line(line: &[u8]) -> Result<Option<Addresses>, Invalid> {
    if line.starts_with(b"UNKNOWN") {
        // A receiver ignores all up to the line end (2.1).
        return Ok(None);
    }
    let line = std::str::from_utf8(line).map_err(|_| Invalid::Broken)?;
    let mut words = line.split(' ');
    let family = words.next();
    let mut address = || -> Option<IpAddr> {
        let text = words.next()?;
        match family? {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let source = address().ok_or(Invalid::Broken)?;
    let destination = address().ok_or(Invalid::Broken)?;
    let mut port = || -> Option<u16> {
        let text = words.next()?;
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_number)
    };
    let source = SocketAddr::new(source, port().ok_or(Invalid::Broken)?);
    let destination = SocketAddr::new(destination, port().ok_or(Invalid::Broken)?);
    match words.next() {
        None => Ok(Some(Addresses { source, destination })),
        Some(_) => Err(Invalid::Broken),
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Header, usize)>, Invalid> {
    let Some(fixed) = bytes.get(V2_SIGNATURE.len()..V2_FIXED) else { return Ok(None) };
    let &[version_command, family_transport, high, low] = fixed else { return Ok(None) };
    let (family, transport) = (family_transport >> 4, family_transport & 0x0f);
    // What there is not must be refused (2.2): version 2; LOCAL and PROXY; UNSPEC, INET, INET6 and UNIX;
    // UNSPEC, STREAM and DGRAM.
    if !matches!(version_command, 0x20 | 0x21) || family > 3 || transport > 2 {
        return Err(Invalid::Unknown);
    }
    let end = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    if end > V2_LONGEST {
        return Err(Invalid::TooLarge);
    }
    let Some(content) = bytes.get(V2_FIXED..end) else { return Ok(None) };
    let is_proxy = version_command == 0x21;
    let addresses = match (is_proxy, family, transport) {
        (true, 1, 1) => Some(addresses_v2::<4>(content).ok_or(Invalid::Broken)?),
        (true, 2, 1) => Some(addresses_v2::<16>(content).ok_or(Invalid::Broken)?),
        _ => None,
    };
    let extras = match addresses {
        Some(Addresses { source: SocketAddr::V4(_), .. }) => &content[12..],
        Some(Addresses { source: SocketAddr::V6(_), .. }) => &content[36..],
        None => &[],
    };
    Ok(Some((Header { addresses, extras: Extras(extras.into()) }, end)))
}

/// Both addresses of `N` bytes each, then both ports.
fn addresses_v2<const N: usize>(content: &[u8]) -> Option<Addresses>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = content.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let destination_port = rest.first_chunk::<2>()?;
    Some(Addresses {
        source: SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes(*destination_port)),
    })
}

/// Appends a header of version 1, for an upstream. Without addresses, or with ones of two families, it is
/// `PROXY UNKNOWN`.
pub fn write_v1(out: &mut Vec<u8>, addresses: Option<Addresses>) {
    let family = match addresses {
        Some(Addresses { source: SocketAddr::V4(_), destination: SocketAddr::V4(_) }) => "TCP4",
        Some(Addresses { source: SocketAddr::V6(_), destination: SocketAddr::V6(_) }) => "TCP6",
        _ => "UNKNOWN",
    };
    let written = match addresses.filter(|_| family != "UNKNOWN") {
        None => write!(out, "PROXY UNKNOWN\r\n"),
        Some(Addresses { source, destination }) => write!(
            out,
            "PROXY {family} {} {} {} {}\r\n",
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        ),
    };
    debug_assert!(written.is_ok(), "writing to memory does not fail");
}

#[cfg(test)]
mod tests;
