//! `listen`, and which sockets come of it.
//!
//! The sockets are nginx's: where a port has a wildcard address, only that is bound and the specific ones are told
//! apart by the connection's own address, unless their options make them sockets of their own.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use conf_syntax::{Directive, Span, Word};

use super::address::{so_keepalive, tcp, unix};
use super::reader::Reader;
use super::server_name::ServerNames;
use super::table::{Apply, Context, Count, Row};
use super::units;
use crate::model::http::{Listen, ServerId};
use crate::model::tls::Tls;
use crate::model::{Address, Listener, SocketOptions};

pub(super) const ROWS: &[Row] = &[Row::new(
    "listen",
    Context::SERVER,
    Count::at_least(1),
    Apply::Custom(|r, _, d| r.listen(d)),
    "*:80, or *:8000 without root's rights",
    "An address, port or `unix:` path, then `default_server`, `reuseport`, `backlog=`, `deferred`, `bind`, \
     `ipv6only=`, `so_keepalive=`, `rcvbuf=`, `sndbuf=`, `fastopen=`, `proxy_protocol`, `http2`, `ssl`.",
)
.repeats()
.differs("`quic` is not there yet.")];

/// nginx's length of the kernel's queue.
const BACKLOG: u32 = 511;

/// All addresses of all servers.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    ports: Vec<Port>,
    by_address: HashMap<Address, (usize, usize)>,
    by_port: HashMap<(bool, u16), usize>,
    /// For each server where it stands.
    spans: Vec<Span>,
    /// For each server its names.
    pub names: Vec<ServerNames>,
    /// Where the server stands that is being read, and whether it has a `listen`.
    server: Option<Span>,
    has_listen: bool,
}

#[derive(Debug)]
struct Port {
    addresses: Vec<Bound>,
}

/// One address of a port.
#[derive(Debug)]
struct Bound {
    address: Address,
    /// The first `listen` that says it.
    at: Span,
    /// nginx's form: `0.0.0.0:80`.
    text: String,
    options: Options,
    servers: Vec<ServerId>,
    default: ServerId,
    has_default: bool,
    /// The last server's choice, to warn of those that differ.
    proxy_protocol_of_all: bool,
    http2_of_all: bool,
    tls_of_all: bool,
}

#[derive(Debug, Clone, Default)]
struct Options {
    default_server: bool,
    proxy_protocol: bool,
    http2: bool,
    tls: bool,
    /// Options that only one `listen` of an address may have, and that make it a socket of its own.
    is_set: bool,
    backlog: Option<u32>,
    reuse_port: bool,
    socket: SocketOptions,
}

impl Sockets {
    pub(super) fn begin_server(&mut self, at: Span) {
        self.server = Some(at);
        self.has_listen = false;
        self.spans.push(at);
        self.names.push(ServerNames::default());
    }

    pub(super) fn server_span(&self) -> Option<Span> {
        self.server
    }

    fn server_id(&self) -> ServerId {
        self.names.len().saturating_sub(1) as ServerId
    }
}

impl<'a> Reader<'a> {
    fn listen(&mut self, directive: Directive<'a>) {
        self.sockets.has_listen = true;
        let Some(word) = directive.args.first() else { return };
        let Some(options) = self.listen_options(directive) else { return };
        let Some(addresses) = self.listen_addresses(word) else { return };
        for address in addresses {
            self.add_address(address, &options, word.span);
        }
    }

    /// What a server without `listen` has. To be called at the end of every server.
    pub(super) fn listen_by_default(&mut self) {
        if let (false, Some(at)) = (self.sockets.has_listen, self.sockets.server) {
            let port = if self.machine.identity().0 == 0 { 80 } else { 8000 };
            let address = Address::Tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port));
            self.add_address(address, &Options::default(), at);
        }
    }

    /// Has the server that is being read listen at an address that no other has; else where that other stands.
    pub(super) fn listen_alone(&mut self, address: Address, backlog: u32, at: Span) -> Result<(), Span> {
        if let Some((port, index)) = self.sockets.by_address.get(&address) {
            let first = self.sockets.ports[*port].addresses[*index].servers.first();
            let first = first.and_then(|server| self.sockets.spans.get(*server as usize));
            return Err(first.copied().unwrap_or(at));
        }
        self.sockets.has_listen = true;
        self.add_address(address, &Options { backlog: Some(backlog), ..Options::default() }, at);
        Ok(())
    }

    /// Whether a server listens at exactly this address.
    pub(super) fn is_listened_at(&self, address: &Address) -> bool {
        self.sockets.by_address.contains_key(address)
    }

    fn listen_options(&mut self, directive: Directive<'a>) -> Option<Options> {
        let mut options = Options::default();
        let mut is_right = true;
        for word in directive.args.skip(1) {
            let (name, value) = match word.value.iter().position(|b| *b == b'=') {
                Some(at) => (&word.value[..at], Some(&word.value[at + 1..])),
                None => (word.value, None),
            };
            options.is_set |=
                !matches!(name, b"default_server" | b"default" | b"proxy_protocol" | b"http2" | b"ssl");
            let found = match (name, value) {
                (b"default_server" | b"default", None) => set(&mut options.default_server),
                (b"ssl", None) => set(&mut options.tls),
                (b"proxy_protocol", None) => set(&mut options.proxy_protocol),
                (b"http2", None) => {
                    let words = "the \"listen ... http2\" directive is deprecated, use the \"http2\" directive instead";
                    self.warning(word.span, words);
                    set(&mut options.http2)
                }
                (b"bind", None) => true,
                (b"reuseport", None) => set(&mut options.reuse_port),
                (b"deferred", None) => set(&mut options.socket.deferred),
                (b"backlog", Some(value)) => put(
                    &mut options.backlog,
                    units::number(value).filter(|n| (1..=i32::MAX as u64).contains(n)).map(|n| n as u32),
                ),
                (b"fastopen", Some(value)) => put(
                    &mut options.socket.fastopen,
                    units::number(value).filter(|n| i32::try_from(*n).is_ok()).map(|n| n as u32),
                ),
                (b"rcvbuf", Some(value)) => put(&mut options.socket.receive_buffer, units::size(value)),
                (b"sndbuf", Some(value)) => put(&mut options.socket.send_buffer, units::size(value)),
                (b"ipv6only", Some(b"on")) => put(&mut options.socket.ipv6_only, Some(true)),
                (b"ipv6only", Some(b"off")) => put(&mut options.socket.ipv6_only, Some(false)),
                (b"so_keepalive", Some(value)) => put(&mut options.socket.keepalive, so_keepalive(value)),
                (b"quic", None) => {
                    self.error(word.span, "`quic` is not there yet (HTTP/3 comes later)");
                    is_right = false;
                    continue;
                }
                (b"multipath" | b"setfib" | b"accept_filter", _) => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    self.error(word.span, format!("`{name}` is not supported")).help("remove it");
                    is_right = false;
                    continue;
                }
                _ => false,
            };
            if !found {
                is_right = false;
                self.wrong_option(word, name, value.is_some());
            }
        }
        is_right.then_some(options)
    }

    fn wrong_option(&mut self, word: Word<'a>, name: &[u8], has_value: bool) {
        let text = word.text().into_owned();
        let (message, help) = match (name, has_value) {
            (b"backlog", true) => (format!("invalid backlog \"{text}\""), "write a number, as `backlog=511`"),
            (b"fastopen", true) => {
                (format!("invalid fastopen \"{text}\""), "write a number, as `fastopen=256`")
            }
            (b"rcvbuf", true) => (format!("invalid rcvbuf \"{text}\""), "write bytes, as `rcvbuf=64k`"),
            (b"sndbuf", true) => (format!("invalid sndbuf \"{text}\""), "write bytes, as `sndbuf=64k`"),
            (b"ipv6only", true) => {
                (format!("invalid parameter \"{text}\""), "write `ipv6only=on` or `ipv6only=off`")
            }
            (b"so_keepalive", true) => (
                format!("invalid so_keepalive value: \"{}\"", text.trim_start_matches("so_keepalive=")),
                "write `on`, `off`, or idle:interval:count, as `30m::10`",
            ),
            _ => (
                format!("invalid parameter \"{text}\""),
                "it is one of `default_server`, `ssl`, `proxy_protocol`, `http2`, `reuseport`, `bind`, `deferred`, `backlog=`, \
                 `ipv6only=`, `so_keepalive=`, `rcvbuf=`, `sndbuf=` and `fastopen=`",
            ),
        };
        let advice = super::foreign::parameter(&text);
        let problem = self.error(word.span, message);
        if let Some(advice) = advice {
            problem.advise(advice);
        }
        problem.help(help);
    }

    fn listen_addresses(&mut self, word: Word<'a>) -> Option<Vec<Address>> {
        let text = word.text().into_owned();
        let found = match text.strip_prefix("unix:") {
            Some(path) => unix(path).map(|path| vec![Address::Unix(path)]),
            None => tcp(&text, self.machine).map(|list| list.into_iter().map(Address::Tcp).collect()),
        };
        match found {
            Ok(addresses) => Some(addresses),
            Err(wrong) => {
                self.error(word.span, format!("{wrong} in \"{text}\" of the \"listen\" directive")).help(
                    "write a port as `8080`, an address as `127.0.0.1:8080` or `[::]:8080`, or \
             `unix:/run/site.sock`",
                );
                None
            }
        }
    }

    fn add_address(&mut self, address: Address, options: &Options, at: Span) {
        let server = self.sockets.server_id();
        if let Some((port, index)) = self.sockets.by_address.get(&address).copied() {
            self.join_address(port, index, server, options, at);
            return;
        }
        let port = match &address {
            Address::Tcp(a) => {
                let key = (a.is_ipv4(), a.port());
                let next = self.sockets.ports.len();
                *self.sockets.by_port.entry(key).or_insert(next)
            }
            _ => self.sockets.ports.len(),
        };
        if port == self.sockets.ports.len() {
            self.sockets.ports.push(Port { addresses: Vec::new() });
        }
        let bound = Bound {
            text: shown(&address),
            address: address.clone(),
            at,
            options: options.clone(),
            servers: vec![server],
            default: server,
            has_default: options.default_server,
            proxy_protocol_of_all: options.proxy_protocol,
            http2_of_all: options.http2,
            tls_of_all: options.tls,
        };
        let addresses = &mut self.sockets.ports[port].addresses;
        self.sockets.by_address.insert(address, (port, addresses.len()));
        addresses.push(bound);
    }

    /// A further server at an address.
    fn join_address(&mut self, port: usize, index: usize, server: ServerId, options: &Options, at: Span) {
        let bound = &mut self.sockets.ports[port].addresses[index];
        let text = bound.text.clone();
        // The servers come one after the other, so that a second `listen` of this one follows its first.
        if bound.servers.last() == Some(&server) {
            self.error(at, format!("a duplicate listen {text}"))
                .help("this server listens there already; remove one of them");
            return;
        }
        bound.servers.push(server);
        let is_redefined = (bound.proxy_protocol_of_all, bound.http2_of_all, bound.tls_of_all)
            != (options.proxy_protocol, options.http2, options.tls);
        let tls = bound.options.tls || options.tls;
        let http2 = bound.options.http2 || options.http2;
        let proxy_protocol = bound.options.proxy_protocol || options.proxy_protocol;
        let mut errors: Vec<(String, &str)> = Vec::new();
        if options.is_set {
            if bound.options.is_set {
                errors.push((
                    format!("duplicate listen options for {text}"),
                    "options of a socket stand in one `listen` of its address only",
                ));
            } else {
                bound.options = options.clone();
            }
        }
        if options.default_server {
            if bound.has_default {
                errors.push((
                    format!("a duplicate default server for {text}"),
                    "one server of an address is its default; remove `default_server` from the other",
                ));
            } else {
                (bound.default, bound.has_default) = (server, true);
            }
        }
        (bound.options.proxy_protocol, bound.options.http2, bound.options.tls) = (proxy_protocol, http2, tls);
        for (message, help) in errors {
            self.error(at, message).help(help);
        }
        if is_redefined {
            self.warning(at, format!("protocol options redefined for {text}"));
        }
    }

    /// The sockets, and beside each who answers there.
    pub(super) fn listeners(&mut self) -> (Vec<Listener>, Vec<Listen>) {
        let ports = std::mem::take(&mut self.sockets.ports);
        let (mut listeners, mut listens) = (Vec::new(), Vec::new());
        for port in ports {
            let mut addresses = port.addresses;
            // Sockets of their own first, the wildcard last; otherwise as in the file.
            addresses.sort_by_key(|b| (b.is_wildcard(), !b.options.is_set));
            let has_wildcard = addresses.last().is_some_and(Bound::is_wildcard);
            let mut within = Vec::new();
            for bound in &addresses {
                let listen = self.who_answers(bound);
                if has_wildcard && !bound.is_wildcard() && !bound.options.is_set {
                    if let Address::Tcp(address) = bound.address {
                        within.push((address.ip(), listen));
                    }
                    continue;
                }
                listeners.push(bound.listener(self.place(bound.at)));
                listens.push(Listen { by_address: std::mem::take(&mut within), ..listen });
            }
        }
        (listeners, listens)
    }

    fn who_answers(&mut self, bound: &Bound) -> Listen {
        if bound.options.tls {
            self.check_certificates(bound);
        }
        Listen {
            default_server: bound.default,
            names: self.names_at(&bound.servers, &bound.text),
            proxy_protocol: bound.options.proxy_protocol,
            tls: bound.options.tls,
            http2: bound.options.http2,
            by_address: Vec::new(),
        }
    }
}

impl Reader<'_> {
    /// Whoever may have to shake hands needs a certificate, unless it is there to reject.
    fn check_certificates(&mut self, bound: &Bound) {
        let offers = &self.offers.model.offers;
        let tls = |server: &ServerId| self.servers.get(*server as usize)?.tls;
        let offer = |server: &ServerId| tls(server).and_then(|id| offers.get(id as usize));
        let default = offer(&bound.default);
        let has_one = |tls: &Tls| {
            !tls.certificates.is_empty() || !tls.by_variable.is_empty() || tls.on_demand.is_some()
        };
        if default.is_some_and(has_one)
            || self.problems.any_error(|at| self.is_about_certificate(at, bound.default))
        {
            return;
        }
        let without = match default {
            None => Some(&bound.default),
            Some(_) => bound.servers.iter().find(|server| tls(server).is_none()),
        };
        let at = without.and_then(|server| self.sockets.spans.get(*server as usize)).copied();
        if let Some(at) = at {
            let place = self.place(at);
            let message =
                format!("no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive in {place}");
            let problem = self.problems.push(crate::report::Severity::Error, Some(at), message);
            problem.line_at = None;
            problem.help("write `ssl_certificate` and `ssl_certificate_key`, or `ssl_reject_handshake on;`");
        }
    }
}

impl Reader<'_> {
    /// Whether an error at this place may be what keeps a server from having its certificate: it is in the line of one,
    /// or of a file that was not read, and not in another server.
    fn is_about_certificate(&self, at: Option<Span>, server: ServerId) -> bool {
        let Some(at) = at else { return true };
        let line = self.sources.line_text(at);
        let has = |word: &[u8]| line.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        let is_one = line.trim_ascii_start().starts_with(b"ssl")
            || [&b"cert"[..], b"acme", b"include", b"reject"].into_iter().any(has);
        let before = self.sockets.spans.iter().filter(|span| span.file == at.file && span.start <= at.start);
        let within = before.max_by_key(|span| span.start);
        is_one && within.is_none_or(|within| self.sockets.spans.get(server as usize) == Some(within))
    }
}

impl Bound {
    fn is_wildcard(&self) -> bool {
        matches!(self.address, Address::Tcp(a) if a.ip().is_unspecified())
    }

    fn listener(&self, place: String) -> Listener {
        Listener {
            address: self.address.clone(),
            text: self.text.clone(),
            backlog: self.options.backlog.unwrap_or(BACKLOG),
            reuse_port: self.options.reuse_port,
            options: SocketOptions {
                ipv6_only: match self.address {
                    Address::Tcp(a) if a.is_ipv6() => self.options.socket.ipv6_only.or(Some(true)),
                    _ => None,
                },
                ..self.options.socket.clone()
            },
            place: Some(place),
        }
    }
}

/// nginx's text of an address.
fn shown(address: &Address) -> String {
    match address {
        Address::Tcp(a) => a.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Fd(n) => format!("fd://{n}"),
    }
}

fn set(flag: &mut bool) -> bool {
    *flag = true;
    true
}

fn put<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    *place = value;
    place.is_some()
}
