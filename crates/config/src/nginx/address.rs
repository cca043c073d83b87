//! The words of a `listen`: addresses, and options that are more than a number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::units;
use crate::host::Host;
use crate::model::KeepAlive;

/// `sun_path` without its NUL byte.
const LONGEST_UNIX_PATH: usize = 107;

/// `on`, `off`, or idle time, interval and count between colons, each of which may be left out.
pub(super) fn so_keepalive(value: &[u8]) -> Option<KeepAlive> {
    match value {
        b"on" => return Some(KeepAlive::On),
        b"off" => return Some(KeepAlive::Off),
        _ => {}
    }
    let parts: Vec<_> = value.splitn(3, |b| *b == b':').collect();
    let time = |i: usize| match parts.get(i) {
        None | Some([]) => Some(None),
        Some(text) => units::seconds(text).map(Some),
    };
    let (idle, interval) = (time(0)?, time(1)?);
    let count = match parts.get(2) {
        None | Some([]) => None,
        Some(text) => Some(units::number(text)?.try_into().ok()?),
    };
    (idle.is_some() || interval.is_some() || count.is_some()).then_some(KeepAlive::Every {
        idle,
        interval,
        count,
    })
}

/// The path behind `unix:`.
pub(super) fn unix(path: &str) -> Result<PathBuf, &'static str> {
    match path {
        "" => Err("no path in the unix domain socket"),
        _ if path.len() > LONGEST_UNIX_PATH => Err("too long path"),
        _ if path.contains('\0') => Err("invalid path"),
        // nginx takes a relative one as it is; here the processes do not all have the same directory.
        _ if !path.starts_with('/') => Err("not an absolute path"),
        _ => Ok(PathBuf::from(path)),
    }
}

/// `port`, `address`, `address:port`, `[address]:port`, `*:port`, `name:port`; the port may be a range.
pub(super) fn tcp(text: &str, machine: &dyn Host) -> Result<Vec<SocketAddr>, &'static str> {
    const DEFAULT_PORT: u16 = 80;
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("invalid host")?;
        let address: Ipv6Addr = address.parse().map_err(|_| "invalid IPv6 address")?;
        let (first, last) = match rest.strip_prefix(':') {
            Some(ports) => self::ports(ports)?,
            None if rest.is_empty() => (DEFAULT_PORT, DEFAULT_PORT),
            None => return Err("invalid host"),
        };
        return Ok((first..=last).map(|port| SocketAddr::new(IpAddr::V6(address), port)).collect());
    }
    if text.contains(['/', '?']) {
        return Err("invalid host");
    }
    let (host, (first, last)) = match text.split_once(':') {
        Some((host, ports)) => (host, self::ports(ports)?),
        None if is_ports(text) => ("*", ports(text)?),
        None => (text, (DEFAULT_PORT, DEFAULT_PORT)),
    };
    let addresses: Vec<IpAddr> = match host {
        "" => return Err("no host"),
        "*" => vec![Ipv4Addr::UNSPECIFIED.into()],
        _ => {
            if let Ok(address) = host.parse::<Ipv4Addr>() {
                vec![address.into()]
            } else {
                let found = machine.resolve(host, first).map_err(|_| "host not found")?;
                found.iter().map(SocketAddr::ip).collect()
            }
        }
    };
    let with_ports = |ip: IpAddr| (first..=last).map(move |port| SocketAddr::new(ip, port));
    let mut list: Vec<SocketAddr> = Vec::new();
    for address in addresses.into_iter().flat_map(with_ports) {
        if !list.contains(&address) {
            list.push(address);
        }
    }
    if list.is_empty() { Err("host not found") } else { Ok(list) }
}

fn is_ports(text: &str) -> bool {
    let first = text.split('-').next().unwrap_or_default();
    !first.is_empty()
        && first.bytes().all(|b| b.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

fn ports(text: &str) -> Result<(u16, u16), &'static str> {
    let port = |text: &str| {
        units::number(text.as_bytes())
            .and_then(|n| u16::try_from(n).ok())
            .filter(|n| *n > 0)
            .ok_or("invalid port")
    };
    match text.split_once('-') {
        None => port(text).map(|p| (p, p)),
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            if first <= last { Ok((first, last)) } else { Err("invalid port range") }
        }
    }
}
