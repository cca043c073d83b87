//! `upstream`: groups of servers, and the one server of a `proxy_pass`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use conf_syntax::{Directive, Span, Word};

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use super::{address, units};
use crate::model::http::{
    Balance, Keepalive, LeastTime, Resolve, Sticky, Upstream, UpstreamAddress, UpstreamId, UpstreamQueue,
    UpstreamServer,
};

const UPSTREAM: Context = Context::UPSTREAM;
/// What nginx wants at least: eight pages.
const SMALLEST_ZONE: u64 = 8 * 4096;
/// Of a `route`, in bytes.
const LONGEST_ROUTE: usize = 32;

pub(super) const ROWS: &[Row] = &[
    Row::one(
        "upstream",
        Context::HTTP,
        Apply::Custom(|r, _, d| r.upstream_block(d)),
        "",
        "A group of servers that `proxy_pass` can name.",
    )
    .block()
    .repeats(),
    Row::new(
        "server",
        UPSTREAM,
        Count::at_least(1),
        Apply::Custom(|r, _, d| r.upstream_server(d)),
        "",
        "A server of the group, with `weight=`, `max_conns=`, `max_fails=`, `fail_timeout=`, `backup`, `down`, `drain`, \
         `route=`, `slow_start=`, `resolve`, `service=`.",
    )
    .repeats(),
    Row::new(
        "zone",
        UPSTREAM,
        Count::between(1, 2),
        Apply::Custom(|r, _, d| r.upstream_zone(d)),
        "",
        "Shared memory for the group.",
    )
    .differs("All event loops always share what is known of the servers; nothing else needs it."),
    Row::one(
        "keepalive",
        UPSTREAM,
        Apply::Custom(|r, _, d| r.upstream_keepalive(d)),
        "",
        "Idle connections to the group that each event loop keeps.",
    ),
    Row::one(
        "keepalive_requests",
        UPSTREAM,
        Apply::Custom(|r, _, d| {
            let number = d.args.first().and_then(|w| r.number(w, "keepalive_requests"));
            r.group(|group| group.keepalive_requests = number);
        }),
        "1000",
        "Requests on one connection.",
    ),
    Row::one(
        "keepalive_time",
        UPSTREAM,
        Apply::Custom(|r, _, d| {
            let time = d.args.first().and_then(|w| r.millis(w, "keepalive_time"));
            r.group(|group| group.keepalive_time = time);
        }),
        "1h",
        "How old a connection may become.",
    ),
    Row::one(
        "keepalive_timeout",
        UPSTREAM,
        Apply::Custom(|r, _, d| {
            let time = d.args.first().and_then(|w| r.millis(w, "keepalive_timeout"));
            r.group(|group| group.keepalive_timeout = time);
        }),
        "60s",
        "How long a connection may be idle.",
    ),
    Row::new(
        "least_conn",
        UPSTREAM,
        Count::exactly(0),
        Apply::Custom(|r, _, d| r.balance(d, Balance::LeastConn)),
        "",
        "The server with the fewest connections, by weight, is next.",
    ),
    Row::new(
        "ip_hash",
        UPSTREAM,
        Count::exactly(0),
        Apply::Custom(|r, _, d| r.balance(d, Balance::IpHash)),
        "",
        "The client's address decides.",
    ),
    Row::new(
        "hash",
        UPSTREAM,
        Count::between(1, 2),
        Apply::Custom(|r, _, d| {
            let mut words = d.args.iter();
            let Some(key) = words.next() else { return };
            let key = r.value(key);
            let consistent = match words.next() {
                None => false,
                Some(word) if word.value == b"consistent" => true,
                Some(word) => {
                    r.invalid_parameter(word);
                    return;
                }
            };
            r.balance(d, Balance::Hash { key, consistent });
        }),
        "",
        "A text decides; `consistent`: few are moved when servers come and go.",
    ),
    Row::new(
        "random",
        UPSTREAM,
        Count::between(0, 2),
        Apply::Custom(|r, _, d| r.upstream_random(d)),
        "",
        "Chance decides, by weight; `two`: of two the one with fewer connections.",
    ),
    Row::new(
        "least_time",
        UPSTREAM,
        Count::between(1, 2),
        Apply::Custom(|r, _, d| r.upstream_least_time(d)),
        "",
        "The server that answers soonest, by weight and connections, is next: `header` or `last_byte`; `inflight`: \
         answers that are awaited count as well.",
    ),
    Row::new(
        "sticky",
        UPSTREAM,
        Count::at_least(2),
        Apply::Custom(|r, _, d| r.upstream_sticky(d)),
        "",
        "Clients come back to their servers: `cookie name` with `expires=`, `domain=`, `path=`, `httponly`, `secure`, \
         `samesite=`; `route $variable …`; `learn create=$variable lookup=$variable zone=name:size` with `timeout=`, \
         `header`.",
    )
    .differs("The zone holds 8,000 sessions for each megabyte, in one process, and lives on over reloads."),
    Row::new(
        "queue",
        UPSTREAM,
        Count::between(1, 2),
        Apply::Custom(|r, _, d| r.upstream_queue(d)),
        "",
        "So many requests wait, in their order, when no server can be asked but one could be later: all are at their \
         `max_conns`, or thought to be down. `timeout=60s`: how long. What is too much, or waited too long, is 502.",
    ),
    Row::one(
        "state",
        UPSTREAM,
        Apply::NotYet(
            "nobody changes a group while it serves; such a file holds lines of `server`: write `include FILE;`",
        ),
        "",
        "A file that keeps the group's servers.",
    ),
    Row::new(
        "resolver",
        UPSTREAM,
        Count::at_least(1),
        Apply::Custom(|r, _, d| {
            let resolver = r.resolver(d);
            r.group(|group| group.upstream.resolver = Some(resolver));
        }),
        "",
        "Servers of DNS that are asked for the names of servers with `resolve`; without it those of `http`.",
    ),
    Row::one(
        "resolver_timeout",
        UPSTREAM,
        Apply::Custom(|r, _, d| {
            let time = d.args.first().and_then(|w| r.millis(w, "resolver_timeout"));
            r.group(|group| group.resolver_timeout = time);
        }),
        "30s",
        "How long a name may take.",
    ),
];

/// A group that is being read.
#[derive(Debug)]
pub(super) struct Group {
    upstream: Upstream,
    connections: Option<u32>,
    keepalive_requests: Option<u64>,
    keepalive_time: Option<Duration>,
    keepalive_timeout: Option<Duration>,
    has_balance: bool,
    /// The first backup server.
    backup: Option<Span>,
    /// The first with `slow_start`.
    slow_start: Option<Span>,
    /// The first with `resolve`.
    resolve: Option<Span>,
    resolver_timeout: Option<Duration>,
}

/// A server's URL behind the scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url<'t> {
    /// Host and port as they were written.
    pub text: &'t str,
    /// The host, of a Unix socket its path.
    pub host: &'t str,
    /// It is a Unix socket.
    pub is_unix: bool,
    /// The port, if one is given.
    pub port: Option<u16>,
    /// What follows, with its slash or question mark.
    pub uri: &'t str,
}

/// Why there is no server of that name.
#[derive(Debug, Clone, Copy)]
pub(super) enum HostError {
    NotFound,
    /// A group is asked for with a port.
    Port(u16),
    /// None is named, and there is no usual one.
    NoPort,
}

impl<'t> Url<'t> {
    /// `host`, `host:port`, `[::1]:port`, `unix:/path`; with `uri`, a path may follow (of a Unix socket behind a colon).
    pub fn parse(text: &'t str, uri: bool) -> Result<Self, &'static str> {
        let unix = text.get(..5).filter(|t| t.eq_ignore_ascii_case("unix:")).map(|_| &text[5..]);
        if let Some(path) = unix {
            let (path, rest) = match path.split_once(':') {
                Some((path, rest)) if uri => (path, rest),
                _ => (path, ""),
            };
            address::unix(path)?;
            let text = &text[..5 + path.len()];
            return Ok(Self { text, host: path, is_unix: true, port: None, uri: rest });
        }
        let end = if uri { text.find(['/', '?', '#']).unwrap_or(text.len()) } else { text.len() };
        let (authority, rest) = text.split_at(end);
        let (host, port) = if authority.starts_with('[') {
            let close = authority.find(']').ok_or("invalid host")?;
            let (host, rest) = authority.split_at(close + 1);
            host[1..close].parse::<Ipv6Addr>().map_err(|_| "invalid IPv6 address")?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err("invalid host"),
            }
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        if host.is_empty() {
            return Err("no host");
        }
        let port = match port {
            None => None,
            Some(port) => Some(
                units::number(port.as_bytes())
                    .and_then(|n| u16::try_from(n).ok())
                    .filter(|n| *n > 0)
                    .ok_or("invalid port")?,
            ),
        };
        if !uri && host.contains('/') {
            return Err("invalid host");
        }
        Ok(Self { text: authority, host, is_unix: false, port, uri: rest })
    }

    /// `$proxy_host` and `$proxy_port`: a usual port is not mentioned in the first.
    pub fn shown(&self, default_port: u16) -> (Vec<u8>, Vec<u8>) {
        if self.is_unix {
            return (b"localhost".to_vec(), Vec::new());
        }
        let host = match self.port {
            Some(port) if port != default_port => format!("{}:{port}", self.host),
            _ => self.host.to_owned(),
        };
        (host.into_bytes(), self.port.unwrap_or(default_port).to_string().into_bytes())
    }
}

impl<'a> Reader<'a> {
    fn upstream_block(&mut self, directive: Directive<'a>) {
        let (Some(name), Some(block)) = (directive.args.first(), directive.block) else { return };
        let text = name.text().into_owned();
        if self.upstreams.iter().any(|known| known.name.eq_ignore_ascii_case(&text)) {
            self.error(name.span, format!("duplicate upstream \"{text}\""));
            return;
        }
        self.upstream = Some(Group {
            upstream: Upstream::new(text, Vec::new()),
            connections: None,
            keepalive_requests: None,
            keepalive_time: None,
            keepalive_timeout: None,
            has_balance: false,
            backup: None,
            slow_start: None,
            resolve: None,
            resolver_timeout: None,
        });
        self.block(block.directives.iter(), UPSTREAM, &mut Level::default());
        self.begin(&directive);
        let Some(mut group) = self.upstream.take() else { return };
        if group.upstream.servers.is_empty() {
            // After an error it may be among what could not be read.
            if !self.problems.has_errors() {
                self.error(directive.head(), "no servers are inside upstream");
            }
        } else if group.upstream.servers.iter().all(|server| server.backup) && !self.problems.has_errors() {
            self.error(directive.head(), format!("no servers in upstream \"{}\"", group.upstream.name));
        }
        if let Some(span) = group.backup
            && !has_turns(&group.upstream.balance)
        {
            self.error(span, "balancing method does not support parameter \"backup\"");
        }
        if let Some(span) = group.slow_start
            && !has_turns(&group.upstream.balance)
        {
            self.error(span, "balancing method does not support parameter \"slow_start\"");
        }
        if let Some(span) = group.resolve {
            if group.upstream.zone.is_none() {
                let name = &group.upstream.name;
                let message = format!(
                    "resolving names at run time requires upstream \"{name}\" to be in shared memory"
                );
                self.error(span, message).help("write `zone name 64k;` in the group");
            }
            self.resolving.push((span, self.upstreams.len(), group.resolver_timeout));
        }
        if let Some(connections) = group.connections {
            group.upstream.keepalive = Some(Keepalive {
                connections,
                requests: group.keepalive_requests.unwrap_or(1000),
                time: group.keepalive_time.unwrap_or(Duration::from_secs(3600)),
                timeout: group.keepalive_timeout.unwrap_or(Duration::from_secs(60)),
            });
        }
        self.upstreams.push(group.upstream);
    }

    /// What groups have of `http`, once that is read.
    pub(super) fn settle_groups(&mut self, level: &Level) {
        for (span, at, timeout) in std::mem::take(&mut self.resolving) {
            let Some(upstream) = self.upstreams.get_mut(at) else { continue };
            if let Some(timeout) = timeout.or(level.resolver_timeout) {
                upstream.resolver_timeout = timeout;
            }
            if upstream.resolver.is_none() {
                upstream.resolver.clone_from(&level.resolver);
            }
            if upstream.resolver.is_none() {
                let message = format!(
                    "no resolver defined to resolve names at run time in upstream \"{}\"",
                    upstream.name
                );
                self.error(span, message).help("write `resolver 127.0.0.53;` in the group or in `http`");
            }
        }
    }

    fn upstream_queue(&mut self, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let Some(word) = words.next() else { return };
        let Some(requests) = units::number(word.value).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0)
        else {
            let text = word.text().into_owned();
            self.error(word.span, format!("invalid value \"{text}\" in \"queue\" directive"))
                .help("for example `queue 100 timeout=10s;`");
            return;
        };
        let mut timeout = Duration::from_secs(60);
        for word in words {
            let Some(time) = word.value.strip_prefix(b"timeout=").and_then(units::millis) else {
                self.invalid_parameter(word).help("for example `timeout=10s`");
                return;
            };
            timeout = time;
        }
        self.group(|group| group.upstream.queue = Some(UpstreamQueue { requests, timeout }));
    }

    /// Does something with the group that is being read.
    fn group(&mut self, change: impl FnOnce(&mut Group)) {
        if let Some(group) = &mut self.upstream {
            change(group);
        }
    }

    fn upstream_server(&mut self, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let Some(word) = words.next() else { return };
        let name = word.text().into_owned();
        let mut server = UpstreamServer::new(name.clone(), Vec::new());
        for word in words {
            self.server_parameter(&mut server, word);
        }
        let url = match Url::parse(&name, false) {
            Ok(url) => url,
            Err(why) => {
                self.error(word.span, format!("{why} in upstream \"{name}\""));
                return;
            }
        };
        if let Some(resolve) = &mut server.resolve {
            let is_asked = directive.args.iter().any(|word| word.value == b"resolve");
            let is_address = url.is_unix || url.host.starts_with('[') || url.host.parse::<IpAddr>().is_ok();
            let wrong = match resolve.service {
                Some(_) if !is_asked => "requires \"resolve\" parameter",
                Some(_) if url.port.is_some() => "may not have port",
                Some(_) if is_address => "requires domain name",
                _ => "",
            };
            if !wrong.is_empty() {
                self.error(word.span, format!("service upstream \"{}\" {wrong}", url.text));
                return;
            }
            if is_address {
                server.resolve = None;
            } else {
                resolve.host = url.host.to_ascii_lowercase();
                resolve.port = url.port.unwrap_or(80);
                self.group(|group| group.upstream.servers.push(server));
                return;
            }
        }
        let Some(addresses) = self.upstream_addresses(&url, 80) else {
            self.error(word.span, format!("host not found in upstream \"{}\"", url.text));
            return;
        };
        server.addresses = addresses;
        self.group(|group| group.upstream.servers.push(server));
    }

    pub(super) fn set_sticky(&mut self, sticky: Sticky) {
        self.group(|group| group.upstream.sticky = Some(sticky));
    }

    /// Another group that remembers sessions in this zone.
    pub(super) fn learns_in(&self, zone: &str) -> Option<&str> {
        let is_it = |upstream: &&Upstream| matches!(&upstream.sticky, Some(Sticky::Learn(learn)) if learn.zone == zone);
        self.upstreams.iter().find(is_it).map(|upstream| upstream.name.as_str())
    }

    fn server_parameter(&mut self, server: &mut UpstreamServer, word: Word<'a>) {
        let (name, value) = match word.value.iter().position(|b| *b == b'=') {
            Some(at) => (&word.value[..at], &word.value[at + 1..]),
            None => (word.value, &b""[..]),
        };
        let number = || units::number(value).and_then(|n| u32::try_from(n).ok());
        let is_set = match name {
            b"weight" => {
                number().filter(|n| (1..=1_000_000).contains(n)).map(|n| server.weight = n).is_some()
            }
            b"max_conns" => number().map(|n| server.max_conns = n).is_some(),
            b"max_fails" => number().map(|n| server.max_fails = n).is_some(),
            b"fail_timeout" => units::seconds(value).map(|time| server.fail_timeout = time).is_some(),
            b"backup" if value.is_empty() => {
                server.backup = true;
                self.group(|group| {
                    group.backup.get_or_insert(word.span);
                });
                true
            }
            b"down" if value.is_empty() => {
                server.down = true;
                true
            }
            b"drain" if value.is_empty() => {
                server.drain = true;
                true
            }
            b"slow_start" => {
                self.group(|group| {
                    group.slow_start.get_or_insert(word.span);
                });
                units::seconds(value).map(|time| server.slow_start = time).is_some()
            }
            b"route" => {
                if value.is_empty() {
                    self.error(word.span, "route is empty");
                    return;
                }
                if value.len() > LONGEST_ROUTE {
                    self.error(word.span, format!("route is longer than {LONGEST_ROUTE}"));
                    return;
                }
                String::from_utf8(value.to_vec()).map(|route| server.route = route).is_ok()
            }
            b"resolve" if value.is_empty() => {
                server.resolve.get_or_insert_with(unnamed);
                self.group(|group| {
                    group.resolve.get_or_insert(word.span);
                });
                true
            }
            b"service" => {
                if value.is_empty() {
                    self.error(word.span, "service is empty");
                    return;
                }
                let text = String::from_utf8(value.to_vec()).ok();
                server.resolve.get_or_insert_with(unnamed).service = text;
                true
            }
            _ => false,
        };
        if !is_set {
            self.invalid_parameter(word).help(
                "it takes `weight=5`, `max_conns=100`, `max_fails=3`, `fail_timeout=30s`, `slow_start=30s`, \
                 `route=a`, `backup`, `down`, `drain`, `resolve`, \
                 `service=http`",
            );
        }
    }

    fn upstream_zone(&mut self, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let Some(name) = words.next() else { return };
        if let Some(word) = words.next() {
            let Some(size) = units::size(word.value) else {
                let text = word.text().into_owned();
                self.error(word.span, format!("invalid zone size \"{text}\""));
                return;
            };
            if size < SMALLEST_ZONE {
                let text = name.text().into_owned();
                self.error(word.span, format!("zone \"{text}\" is too small"));
                return;
            }
        }
        let text = name.text().into_owned();
        let (_, is_sized) = self.upstream_zones.entry(text.clone()).or_insert((name.span, false));
        *is_sized |= directive.args.len() > 1;
        self.group(|group| group.upstream.zone = Some(text));
        self.note(
            directive.name.span,
            "`zone` changes nothing here: all event loops always share what is known of the servers",
        );
    }

    fn upstream_keepalive(&mut self, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let count = self.number(word, "keepalive");
        if count == Some(0) {
            let text = word.text().into_owned();
            self.error(word.span, format!("invalid value \"{text}\" in \"keepalive\" directive"));
            return;
        }
        self.group(|group| group.connections = count.map(|n| n.min(u64::from(u32::MAX)) as u32));
    }

    fn upstream_random(&mut self, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let two = match words.next() {
            None => false,
            Some(word) if word.value == b"two" => true,
            Some(word) => {
                self.invalid_parameter(word).help("write `two`, or nothing");
                return;
            }
        };
        let mut time = None;
        match words.next() {
            None => {}
            Some(word) if word.value == b"least_conn" => {}
            Some(word) if word.value.starts_with(b"least_time=") => {
                let last_byte = match &word.value[11..] {
                    b"header" => false,
                    b"last_byte" => true,
                    _ => {
                        self.invalid_parameter(word)
                            .help("write `least_time=header` or `least_time=last_byte`");
                        return;
                    }
                };
                time = Some(LeastTime { last_byte, inflight: false });
            }
            Some(word) => {
                self.invalid_parameter(word).help("write `least_conn`, `least_time=header`, or nothing");
            }
        }
        self.balance(directive, Balance::Random { two, time });
    }

    fn upstream_least_time(&mut self, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let Some(word) = words.next() else { return };
        let last_byte = match word.value {
            b"header" => false,
            b"last_byte" => true,
            _ => {
                self.invalid_parameter(word).help("write `header` or `last_byte`");
                return;
            }
        };
        let inflight = match words.next() {
            None => false,
            Some(word) if word.value == b"inflight" => true,
            Some(word) => {
                self.invalid_parameter(word).help("write `inflight`, or nothing");
                return;
            }
        };
        self.balance(directive, Balance::LeastTime(LeastTime { last_byte, inflight }));
    }

    fn balance(&mut self, directive: Directive<'a>, balance: Balance) {
        if self.upstream.as_ref().is_some_and(|group| group.has_balance) {
            self.warning(directive.name.span, "load balancing method redefined");
        }
        self.group(|group| {
            group.has_balance = true;
            group.upstream.balance = balance;
        });
    }

    /// The group that a `proxy_pass` means; one of its own for a server.
    pub(super) fn upstream_for(
        &mut self,
        url: &Url<'_>,
        default_port: Option<u16>,
    ) -> Result<UpstreamId, HostError> {
        if !url.is_unix
            && let Some(at) =
                self.upstreams.iter().position(|u| !u.implicit && u.name.eq_ignore_ascii_case(url.host))
        {
            return match url.port {
                Some(port) => Err(HostError::Port(port)),
                None => Ok(at as UpstreamId),
            };
        }
        let port = match url.port.or(default_port) {
            Some(port) => port,
            None if url.is_unix => 0,
            None => return Err(HostError::NoPort),
        };
        let name = if url.is_unix { format!("unix:{}", url.host) } else { format!("{}:{port}", url.host) };
        if let Some(at) = self.upstreams.iter().position(|u| u.implicit && u.name == name) {
            return Ok(at as UpstreamId);
        }
        let addresses = self.upstream_addresses(url, port).ok_or(HostError::NotFound)?;
        let server = UpstreamServer::new(name.clone(), addresses);
        self.upstreams.push(Upstream { implicit: true, ..Upstream::new(name, vec![server]) });
        Ok(self.upstreams.len() as UpstreamId - 1)
    }

    /// What a server's name comes to now.
    fn upstream_addresses(&mut self, url: &Url<'_>, default_port: u16) -> Option<Vec<UpstreamAddress>> {
        if url.is_unix {
            return Some(vec![UpstreamAddress::Unix(url.host.into())]);
        }
        let found = self.socket_addresses(url, default_port)?;
        Some(found.into_iter().map(UpstreamAddress::Ip).collect())
    }

    /// The same for a name that is no Unix socket's; at least one.
    pub(super) fn socket_addresses(&mut self, url: &Url<'_>, default_port: u16) -> Option<Vec<SocketAddr>> {
        let port = url.port.unwrap_or(default_port);
        let bare = url.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(url.host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Some(vec![(ip, port).into()]);
        }
        let mut addresses = Vec::new();
        for address in self.machine.resolve(url.host, port).ok()? {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        (!addresses.is_empty()).then_some(addresses)
    }
}

/// `resolve`, before the name is known.
const fn unnamed() -> Resolve {
    Resolve { host: String::new(), port: 80, service: None }
}

/// Whether who is next does not follow from the request or from chance.
const fn has_turns(balance: &Balance) -> bool {
    matches!(balance, Balance::RoundRobin | Balance::LeastConn | Balance::LeastTime(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |text, uri| Url::parse(text, uri).map(|u| (u.text, u.host, u.port, u.uri));
        for (text, parsed) in [
            ("a", ("a", "a", None, "")),
            ("a/", ("a", "a", None, "/")),
            ("a:81/b/?c", ("a:81", "a", Some(81), "/b/?c")),
            ("a?b", ("a", "a", None, "?b")),
            ("[::1]:81/x", ("[::1]:81", "[::1]", Some(81), "/x")),
            ("unix:/tmp/s", ("unix:/tmp/s", "/tmp/s", None, "")),
            ("unix:/tmp/s:", ("unix:/tmp/s", "/tmp/s", None, "")),
            ("unix:/tmp/s:/a:b", ("unix:/tmp/s", "/tmp/s", None, "/a:b")),
        ] {
            assert_eq!(url(text, true), Ok(parsed), "{text}");
        }
        assert_eq!(url("unix:/tmp/s:t", false), Ok(("unix:/tmp/s:t", "/tmp/s:t", None, "")));
        for text in
            ["", ":80", "/a", "a:", "a:0", "a:65536", "a:b", "[::1", "[x]:1", "[::1]x", "unix:", "unix:s"]
        {
            assert!(url(text, true).is_err(), "{text}");
        }
    }

    #[test]
    fn a_usual_port_is_not_shown() {
        let shown = |text| {
            let (host, port) = Url::parse(text, true).unwrap().shown(80);
            (String::from_utf8(host).unwrap(), String::from_utf8(port).unwrap())
        };
        for (text, host, port) in [
            ("a/", "a", "80"),
            ("a:80", "a", "80"),
            ("a:81", "a:81", "81"),
            ("[::1]:81", "[::1]:81", "81"),
            ("unix:/s", "localhost", ""),
        ] {
            assert_eq!(shown(text), (host.to_owned(), port.to_owned()), "{text}");
        }
    }
}
