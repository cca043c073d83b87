//! Listening sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::Lowering;
use crate::host::{Entry, Host};
use crate::model::{Address, Listener, SocketOptions};
use crate::report::Severity;

/// `sun_path` without its NUL byte.
const LONGEST_UNIX_PATH: usize = 107;

impl Lowering<'_> {
    pub(super) fn listeners(&mut self) -> Vec<Listener> {
        let (backlog, reuse_port) = (self.int("backlog") as u32, self.flag("reuse_port"));
        let texts = self.binds();
        let mut listeners: Vec<Listener> = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            match address(text, &self.base, self.input.host) {
                Ok(address) => {
                    if let Some(other) = listeners.iter().find(|l| clash(&l.address, &address, reuse_port)) {
                        let message = if other.address == address {
                            format!("`{text}` is listed twice")
                        } else {
                            format!("`{text}` is taken by `{}`, which is every address", other.text)
                        };
                        self.error("bind", i, message, None);
                    } else {
                        let mut options = SocketOptions::default();
                        if text.starts_with("https://[::]") || text.starts_with("http://[::]") {
                            // Ours, for all addresses of both kinds.
                            options.ipv6_only = Some(false);
                        }
                        listeners.push(Listener {
                            address,
                            text: text.clone(),
                            backlog,
                            reuse_port,
                            options,
                            place: None,
                        });
                    }
                }
                Err((message, help)) => self.error("bind", i, format!("bind: {message}"), help.as_deref()),
            }
        }
        if texts.is_empty() {
            self.error("bind", 0, "bind: there is nowhere to listen", "write an address as `127.0.0.1:8000`");
        }
        self.note_open_forwarding(&listeners);
        listeners
    }

    /// Where to listen: what is said, else for names of the internet what the internet expects.
    pub(super) fn binds(&self) -> Vec<String> {
        if self.is_given("bind") || !self.orders() {
            return self.list("bind").to_vec();
        }
        let host = if self.input.host.has_ipv6() { "[::]" } else { "0.0.0.0" };
        vec![format!("http://{host}:80"), format!("https://{host}:443")]
    }

    /// `*` believes every client's word about its own address, once clients come by TCP.
    fn note_open_forwarding(&mut self, listeners: &[Listener]) {
        let open = listeners.iter().any(|l| matches!(l.address, Address::Tcp(a) if !a.ip().is_loopback()));
        if open && self.list("forwarded_allow_ips").iter().any(|a| a == "*") {
            let message = "forwarded_allow_ips is `*` while clients can connect directly: any of them can claim any \
                           address and https";
            let help = "name the proxies' addresses or networks";
            self.tell(Severity::Warning, "forwarded_allow_ips", message, Some(help.to_owned()));
        }
    }
}

/// What stands behind `bind`: the address, or what is wrong with it and what to write. A relative path of a Unix socket
/// starts at `base`.
pub(crate) fn address(text: &str, base: &Path, host: &dyn Host) -> Result<Address, (String, Option<String>)> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return unix(text, path, base, host);
    }
    if let Some(number) = text.strip_prefix("fd://") {
        return match number.parse::<i32>() {
            Ok(n) if n >= 0 && number.bytes().all(|b| b.is_ascii_digit()) => Ok(Address::Fd(n)),
            _ => fail(format!("`{number}` is not the number of a descriptor"), "write it as `fd://3`"),
        };
    }
    let schemes = ["tcp://", "http://", "https://"];
    let address = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    tcp(text, address, host)
}

fn unix(text: &str, path: &str, base: &Path, host: &dyn Host) -> Result<Address, (String, Option<String>)> {
    if path.is_empty() || path.contains('\0') {
        return fail(format!("`{text}` names no file"), "write it as `unix:/run/shop.sock`");
    }
    let path = super::join(base, path);
    if path.as_os_str().len() > LONGEST_UNIX_PATH {
        return fail(
            format!("the path of the socket is longer than {LONGEST_UNIX_PATH} bytes"),
            "a Unix socket's path is that short everywhere; choose another",
        );
    }
    let parent = path.parent().map_or(Entry::Missing, |p| host.entry(p));
    if parent != Entry::Directory {
        return fail(format!("the directory of `{}` does not exist", path.display()), None);
    }
    if host.entry(&path) == Entry::Directory {
        return fail(format!("`{}` is a directory", path.display()), None);
    }
    Ok(Address::Unix(path))
}

fn fail<'h, T>(message: String, help: impl Into<Option<&'h str>>) -> Result<T, (String, Option<String>)> {
    Err((message, help.into().map(str::to_owned)))
}

fn tcp(text: &str, address: &str, host: &dyn Host) -> Result<Address, (String, Option<String>)> {
    const DEFAULT_PORT: u16 = 8000;
    if let Some(rest) = address.strip_prefix('[') {
        let Some((ip, port)) = rest.split_once(']') else {
            return fail(format!("`{text}` lacks a `]`"), "write it as `[::]:8000`");
        };
        let Ok(ip) = ip.parse::<Ipv6Addr>() else {
            return fail(format!("`{ip}` is not an IPv6 address"), "write it as `[::]:8000`");
        };
        let port = match port.strip_prefix(':') {
            Some(port) => self::port(port)?,
            None if port.is_empty() => DEFAULT_PORT,
            None => return fail(format!("`{text}` is not an address"), "write it as `[::]:8000`"),
        };
        return Ok(Address::Tcp(SocketAddr::new(ip.into(), port)));
    }
    if let Ok(ip @ IpAddr::V6(_)) = address.parse::<IpAddr>()
        && address.contains("::")
    {
        return fail(
            format!("`{text}` is an IPv6 address without brackets"),
            format!("write it as `[{ip}]:{DEFAULT_PORT}`").as_str(),
        );
    }
    let (name, port) = match address.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            return fail(format!("`{text}` is not an address"), "write it as `HOST:PORT` or `[IPV6]:PORT`");
        }
        Some((name, port)) => (name, self::port(port)?),
        None if !address.is_empty() && address.bytes().all(|b| b.is_ascii_digit()) => {
            let example = port(address).unwrap_or(DEFAULT_PORT);
            let range = if port(address).is_err() { "; a port is at most 65535" } else { "" };
            return fail(
                format!("`{text}` is a port without a host"),
                format!("write `:{example}` to listen on every address, or `127.0.0.1:{example}`{range}")
                    .as_str(),
            );
        }
        None => (address, DEFAULT_PORT),
    };
    let name = if name == "*" { "" } else { name };
    if name.is_empty() {
        return Ok(Address::Tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)));
    }
    if let Ok(ip) = name.parse::<Ipv4Addr>() {
        return Ok(Address::Tcp(SocketAddr::new(ip.into(), port)));
    }
    if name.contains('/') {
        return fail(
            format!("`{text}` is not an address"),
            format!("write `unix:{text}` if it is the path of a socket").as_str(),
        );
    }
    match host.resolve(name, port) {
        // gunicorn listens at a name's IPv4 address; one that has none gets its first.
        Ok(found) => match found.iter().find(|a| a.is_ipv4()).or(found.first()) {
            Some(address) => Ok(Address::Tcp(*address)),
            None => fail(format!("the host name `{name}` has no address"), None),
        },
        Err(e) => fail(format!("the host name `{name}` has no address: {e}"), None),
    }
}

fn port(text: &str) -> Result<u16, (String, Option<String>)> {
    match text.parse() {
        Ok(port) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => fail(format!("`{text}` is not a port"), "a port is a number from 0 (any free one) to 65535"),
    }
}

/// Whether the kernel would refuse the second address after the first.
fn clash(a: &Address, b: &Address, reuse_port: bool) -> bool {
    match (a, b) {
        (Address::Tcp(x), Address::Tcp(y)) if x.port() == 0 && y.port() == 0 => false,
        (Address::Tcp(x), Address::Tcp(y))
            if x.port() == y.port() && x.is_ipv4() == y.is_ipv4() && !reuse_port =>
        {
            x == y || x.ip().is_unspecified() || y.ip().is_unspecified()
        }
        _ => a == b,
    }
}
