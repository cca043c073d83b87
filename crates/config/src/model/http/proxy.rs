//! What is passed on to other servers: which, and how.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CacheKind, Regex, Value};
use crate::model::tls::{ByVariable, CertificateCache, Der, KeyForm, Secret};

/// Index into [`Http::upstreams`](super::Http::upstreams).
pub type UpstreamId = u32;

/// `upstream`, or the servers behind the one address of a `proxy_pass`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name, as it was written; of the address of a `proxy_pass`, host and port.
    pub name: String,
    /// No block of the configuration: the address of a `proxy_pass`.
    pub implicit: bool,
    /// In the order of the file.
    pub servers: Vec<UpstreamServer>,
    /// Who is next.
    pub balance: Balance,
    /// `keepalive`; `None`: connections are closed after each request.
    pub keepalive: Option<Keepalive>,
    /// `sticky`
    pub sticky: Option<Sticky>,
    /// `queue`: requests that wait until a server may be asked.
    pub queue: Option<UpstreamQueue>,
    /// `zone`: its name.
    pub zone: Option<String>,
    /// `resolver`, of the group or of `http`: asked for the names of servers with `resolve`.
    pub resolver: Option<Resolver>,
    /// `resolver_timeout`
    pub resolver_timeout: Duration,
}

impl Upstream {
    /// A group of these servers, with nginx's defaults.
    pub fn new(name: String, servers: Vec<UpstreamServer>) -> Self {
        Self {
            name,
            implicit: false,
            servers,
            balance: Balance::RoundRobin,
            keepalive: None,
            sticky: None,
            queue: None,
            zone: None,
            resolver: None,
            resolver_timeout: Duration::from_secs(30),
        }
    }
}

/// See [`Upstream::queue`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamQueue {
    /// So many at most; at least one.
    pub requests: u32,
    /// None longer than that.
    pub timeout: Duration,
}

/// `server` of an `upstream`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamServer {
    /// As it was written.
    pub name: String,
    /// What that came to when the configuration was read. Empty with `resolve`.
    pub addresses: Vec<UpstreamAddress>,
    /// `resolve`: what is asked for while serving.
    pub resolve: Option<Resolve>,
    /// `weight`
    pub weight: u32,
    /// `max_conns`; 0 is no limit.
    pub max_conns: u32,
    /// `max_fails`; 0: it is never thought to be down.
    pub max_fails: u32,
    /// `fail_timeout`
    pub fail_timeout: Duration,
    /// `backup`
    pub backup: bool,
    /// `down`
    pub down: bool,
    /// `drain`: only those are led to it whom `sticky` does.
    pub drain: bool,
    /// `slow_start`; zero: all of its weight at once.
    pub slow_start: Duration,
    /// `route`, for `sticky`; empty: a digest of its address.
    pub route: String,
}

impl UpstreamServer {
    /// One with nginx's defaults.
    pub fn new(name: String, addresses: Vec<UpstreamAddress>) -> Self {
        Self {
            name,
            addresses,
            resolve: None,
            weight: 1,
            max_conns: 0,
            max_fails: 1,
            fail_timeout: Duration::from_secs(10),
            backup: false,
            down: false,
            drain: false,
            slow_start: Duration::ZERO,
            route: String::new(),
        }
    }
}

/// `resolve` of a `server`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolve {
    /// The name that is asked for.
    pub host: String,
    /// The port of its addresses; with `service` records of DNS say it.
    pub port: u16,
    /// `service`, as it was written.
    pub service: Option<String>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UpstreamAddress {
    /// TCP.
    Ip(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Who of a group is next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balance {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// `least_conn`
    LeastConn,
    /// `ip_hash`
    IpHash,
    /// `hash`
    Hash {
        /// What decides.
        key: Value,
        /// `consistent`: ketama.
        consistent: bool,
    },
    /// `random`
    Random {
        /// `two`: of two the one with fewer connections.
        two: bool,
        /// `two least_time=…`: the one that answers sooner.
        time: Option<LeastTime>,
    },
    /// `least_time`
    LeastTime(LeastTime),
}

/// Which time counts of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeastTime {
    /// Until the last byte of its answers, else until their heads.
    pub last_byte: bool,
    /// `inflight`: also that of answers that are still awaited.
    pub inflight: bool,
}

/// `sticky`: clients come back to their servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sticky {
    /// `cookie`: the server tells the client which it is.
    Cookie(StickyCookie),
    /// `route`: the first of these that is not empty names the server.
    Route(Vec<Value>),
    /// `learn`: sessions are remembered.
    Learn(StickyLearn),
}

/// `sticky cookie`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StickyCookie {
    /// The cookie's name.
    pub name: Vec<u8>,
    /// `domain=`
    pub domain: Option<Value>,
    /// `path=`
    pub path: Option<Vec<u8>>,
    /// `expires=`
    pub expires: Option<StickyExpires>,
    /// `httponly`
    pub httponly: bool,
    /// `secure`
    pub secure: bool,
    /// `samesite=`
    pub samesite: Option<Value>,
}

/// How long a cookie holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StickyExpires {
    /// `max`: to the end of 2037.
    Max,
    /// So long.
    After(Duration),
}

/// `sticky learn`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StickyLearn {
    /// `create=`: what begins a session; the first that is not empty.
    pub create: Vec<Value>,
    /// `lookup=`: what names the session of a request.
    pub lookup: Vec<Value>,
    /// The name of `zone=`.
    pub zone: String,
    /// Its bytes.
    pub size: u64,
    /// `timeout=`: a session that nobody asks for so long is forgotten.
    pub timeout: Duration,
    /// `header`: sessions begin with the head of an answer and not with its end.
    pub header: bool,
}

/// `health_check`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Whose servers are looked at.
    pub upstream: UpstreamId,
    /// By TLS.
    pub https: bool,
    /// `$proxy_host` of the location.
    pub host: Vec<u8>,
    /// The location's settings: time-outs, fields, TLS.
    pub settings: super::SettingsId,
    /// `interval=`
    pub interval: Duration,
    /// `jitter=`: so much later at most.
    pub jitter: Duration,
    /// `fails=`: after so many failures in a row a server is not asked any more.
    pub fails: u32,
    /// `passes=`: after so many successes in a row it is again.
    pub passes: u32,
    /// `uri=`
    pub uri: Vec<u8>,
    /// `match=`: an index into [`Http::matches`](super::Http::matches).
    pub matches: Option<u32>,
    /// `mandatory`: who was not looked at yet is not asked.
    pub mandatory: bool,
    /// `persistent`: what was known before a reload holds on.
    pub persistent: bool,
    /// `port=`: in place of the server's.
    pub port: Option<u16>,
    /// `keepalive_time=`: connections are used again for so long.
    pub keepalive_time: Option<Duration>,
}

/// `match`: what an answer to a health check must be; all of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthMatch {
    /// Its name.
    pub name: String,
    /// `status`: ranges, first and last; `true`: none of them.
    pub status: Option<(bool, Vec<(u16, u16)>)>,
    /// `header`
    pub headers: Vec<HeaderMatch>,
    /// `body ~`; `true`: it must not match.
    pub body: Option<(bool, Regex)>,
    /// `require`: none of these may be empty or `0`.
    pub require: Vec<Value>,
}

/// `header` in a `match`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// The field.
    pub name: Vec<u8>,
    /// What is said of it must not be so.
    pub not: bool,
    /// What is said of it.
    pub is: HeaderIs,
}

/// See [`HeaderMatch::is`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum HeaderIs {
    /// It is there.
    There,
    /// Its value is this.
    Equal(Vec<u8>),
    /// Its value matches.
    Regex(Regex),
}

/// `keepalive` and its company.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepalive {
    /// Idle connections that each event loop keeps.
    pub connections: u32,
    /// Requests on one connection.
    pub requests: u64,
    /// A connection that is older is closed after the request.
    pub time: Duration,
    /// How long one may be idle.
    pub timeout: Duration,
}

/// What kind of servers requests are passed on to: by which protocol, and with which words in the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Family {
    /// HTTP/1: `proxy_pass`
    #[default]
    Proxy,
    /// FastCGI: `fastcgi_pass`
    FastCgi,
    /// uwsgi: `uwsgi_pass`
    Uwsgi,
    /// SCGI: `scgi_pass`
    Scgi,
    /// gRPC, which is HTTP/2: `grpc_pass`
    Grpc,
}

/// How many there are.
pub const FAMILIES: usize = 5;

impl Family {
    /// All of them, each at its number.
    pub const ALL: [Self; FAMILIES] = [Self::Proxy, Self::FastCgi, Self::Uwsgi, Self::Scgi, Self::Grpc];

    /// What the names of its directives begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::FastCgi => "fastcgi",
            Self::Uwsgi => "uwsgi",
            Self::Scgi => "scgi",
            Self::Grpc => "grpc",
        }
    }

    /// What a URL begins with.
    pub const fn scheme(self, tls: bool) -> &'static str {
        match (self, tls) {
            (Self::Proxy, false) => "http://",
            (Self::Proxy, true) => "https://",
            (Self::FastCgi, _) => "fastcgi://",
            (Self::Uwsgi, false) => "uwsgi://",
            (Self::Uwsgi, true) => "suwsgi://",
            (Self::Scgi, _) => "scgi://",
            (Self::Grpc, false) => "grpc://",
            (Self::Grpc, true) => "grpcs://",
        }
    }

    /// The port where none is named; `None`: one has to be.
    pub const fn port(self, tls: bool) -> Option<u16> {
        match (self, tls) {
            (Self::Proxy, false) => Some(80),
            (Self::Proxy, true) => Some(443),
            _ => None,
        }
    }

    /// Whose answers are kept, if they are.
    pub const fn cache(self) -> Option<CacheKind> {
        Some(match self {
            Self::Proxy => CacheKind::Proxy,
            Self::FastCgi => CacheKind::FastCgi,
            Self::Uwsgi => CacheKind::Uwsgi,
            Self::Scgi => CacheKind::Scgi,
            Self::Grpc => return None,
        })
    }

    /// The scheme of a URL, and what comes behind it. `None`: it has none, and has to have one.
    pub fn split_scheme(self, url: &[u8]) -> Option<(bool, &[u8])> {
        let behind = |tls| {
            let scheme = self.scheme(tls).as_bytes();
            let (start, rest) = url.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some((tls, rest))
        };
        match self {
            Self::Proxy => behind(false).or_else(|| behind(true)),
            Self::Uwsgi | Self::Grpc => behind(false).or_else(|| behind(true)).or(Some((false, url))),
            Self::FastCgi | Self::Scgi => Some((false, url)),
        }
    }
}

/// `proxy_pass`, `fastcgi_pass` and so on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyPass {
    /// How it is asked.
    pub family: Family,
    /// Whom to ask.
    pub target: ProxyTarget,
    /// The location's path, which that of the target replaces; empty where there is none to replace.
    pub location: Vec<u8>,
    /// The application that is asked at this address: requests go straight into its queue.
    pub app: Option<u32>,
}

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ProxyTarget {
    /// Known beforehand.
    Fixed {
        /// As it was written.
        url: Vec<u8>,
        /// `https://`
        https: bool,
        /// The servers.
        upstream: UpstreamId,
        /// `$proxy_host`
        host: Vec<u8>,
        /// `$proxy_port`
        port: Vec<u8>,
        /// What replaces the location's path; empty: the request's target is passed on as it came.
        uri: Vec<u8>,
    },
    /// A text with variables, that is a URL once they are known.
    Variable(Value),
}

/// A version of HTTP that servers are asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServerVersion {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2, begun without asking, or by ALPN within TLS.
    Http2,
}

/// What holds for requests that are passed on, all of it merged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProxySettings {
    /// `proxy_store`
    pub store: Option<Store>,
    /// `proxy_method`
    pub method: Option<Value>,
    /// `proxy_http_version`
    pub version: ServerVersion,
    /// `proxy_set_header`, without those that nginx sets by itself.
    pub set_headers: Vec<(Vec<u8>, Value)>,
    /// `proxy_set_body`
    pub set_body: Option<Value>,
    /// `proxy_pass_request_headers`
    pub pass_headers: bool,
    /// `proxy_pass_request_body`
    pub pass_body: bool,
    /// Fields of the response that are not passed on, by `proxy_hide_header`.
    pub hide: Vec<Vec<u8>>,
    /// Fields that are, although nginx hides them by itself: `proxy_pass_header`.
    pub pass: Vec<Vec<u8>>,
    /// `proxy_ignore_headers`
    pub ignore: IgnoreHeaders,
    /// `proxy_redirect`, in order.
    pub redirects: Vec<ProxyRedirect>,
    /// `proxy_cookie_domain`
    pub cookie_domains: Vec<(CookieMatch, Value)>,
    /// `proxy_cookie_path`
    pub cookie_paths: Vec<(CookieMatch, Value)>,
    /// `proxy_cookie_flags`
    pub cookie_flags: Vec<(CookieMatch, Vec<Value>)>,
    /// `proxy_connect_timeout`
    pub connect_timeout: Duration,
    /// `proxy_send_timeout`
    pub send_timeout: Duration,
    /// `proxy_read_timeout`
    pub read_timeout: Duration,
    /// `proxy_buffering`
    pub buffering: bool,
    /// `proxy_buffer_size`: bytes of a response's head.
    pub head_size: u64,
    /// `proxy_buffers`: bytes of a response in memory.
    pub memory: u64,
    /// `proxy_max_temp_file_size`
    pub temp_file: u64,
    /// `proxy_request_buffering`
    pub request_buffering: bool,
    /// `proxy_ignore_client_abort`
    pub ignore_client_abort: bool,
    /// `proxy_intercept_errors`
    pub intercept_errors: bool,
    /// `proxy_limit_rate`, bytes a second.
    pub limit_rate: Option<Value>,
    /// `proxy_bind`; the address, with its port if it has one.
    pub bind: Option<Value>,
    /// `proxy_bind … transparent`: it need not be an address of this machine.
    pub bind_transparent: bool,
    /// `proxy_socket_keepalive`
    pub socket_keepalive: bool,
    /// `proxy_pass_trailers`
    pub pass_trailers: bool,
    /// `proxy_force_ranges`
    pub force_ranges: bool,
    /// `proxy_ssl_…`, for `https://`.
    pub tls: ProxyTls,
    /// `resolver`
    pub resolver: Option<Resolver>,
    /// `resolver_timeout`
    pub resolver_timeout: Duration,
    /// `proxy_next_upstream`
    pub next: NextUpstream,
    /// `proxy_next_upstream_tries`; 0 is no limit.
    pub next_tries: u32,
    /// `proxy_next_upstream_timeout`; zero is no limit.
    pub next_timeout: Duration,
    /// What only those have that are no servers of HTTP.
    pub gateway: Gateway,
}

/// What servers are told that speak FastCGI, uwsgi or SCGI.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gateway {
    /// `fastcgi_param`
    pub params: Vec<GatewayParam>,
    /// `fastcgi_index`
    pub index: Vec<u8>,
    /// `fastcgi_split_path_info`
    pub split: Option<Regex>,
    /// `fastcgi_catch_stderr`
    pub catch_stderr: Vec<Vec<u8>>,
    /// `fastcgi_keep_conn`
    pub keep_conn: bool,
    /// `uwsgi_modifier1` and `uwsgi_modifier2`
    pub modifiers: (u8, u8),
    /// `uwsgi_string`
    pub string: Vec<u8>,
}

/// `fastcgi_param`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GatewayParam {
    /// Its name.
    pub name: Vec<u8>,
    /// What it says.
    pub value: Value,
    /// `if_not_empty`
    pub if_not_empty: bool,
}

/// `proxy_ignore_headers`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields' names")]
pub struct IgnoreHeaders {
    pub accel_redirect: bool,
    pub accel_limit_rate: bool,
    pub accel_buffering: bool,
    pub accel_charset: bool,
    pub accel_expires: bool,
    pub expires: bool,
    pub cache_control: bool,
    pub set_cookie: bool,
    pub vary: bool,
}

/// What of a redirect's or refresh's URL is replaced by what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProxyRedirect {
    /// The URL of the `proxy_pass` by the location's path.
    Default,
    /// A beginning.
    Prefix(Value, Value),
    /// What a pattern matches.
    Regex(Regex, Value),
}

/// Which value of a cookie's attribute, or which cookie.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CookieMatch {
    /// This; of a path, what begins with it.
    Text(Value),
    /// What a pattern matches.
    Regex(Regex),
}

/// `proxy_next_upstream`: after what another server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "nginx's names for them")]
pub struct NextUpstream {
    pub error: bool,
    pub timeout: bool,
    pub invalid_header: bool,
    pub http_500: bool,
    pub http_502: bool,
    pub http_503: bool,
    pub http_504: bool,
    pub http_403: bool,
    pub http_404: bool,
    pub http_429: bool,
    pub non_idempotent: bool,
}

/// `resolver`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resolver {
    /// Servers of DNS.
    pub servers: Vec<SocketAddr>,
    /// `valid=`: how long an answer holds, whatever it says itself.
    pub valid: Option<Duration>,
    /// Addresses of IPv4 are asked for.
    pub ipv4: bool,
    /// Addresses of IPv6 are asked for.
    pub ipv6: bool,
}

/// TLS to other servers. What files hold is in it: those who speak it may not be allowed to read them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProxyTls {
    /// `proxy_ssl_server_name`: the name is told in the handshake.
    pub server_name: bool,
    /// `proxy_ssl_name`; `None` is `$proxy_host`.
    pub name: Option<Value>,
    /// `proxy_ssl_verify`
    pub verify: bool,
    /// `proxy_ssl_trusted_certificate`
    pub trusted: Vec<Der>,
    /// `proxy_ssl_crl`: with it each certificate of a chain must be in the scope of a list.
    pub revocations: Option<Vec<Der>>,
    /// `proxy_ssl_certificate` and what belongs to it.
    pub identity: Option<Identity>,
    /// `proxy_ssl_certificate_cache`
    pub kept: Option<CertificateCache>,
    /// `proxy_ssl_protocols`: TLS 1.2 may be spoken.
    pub tls12: bool,
    /// TLS 1.3 may be spoken.
    pub tls13: bool,
    /// `proxy_ssl_session_reuse`
    pub session_reuse: bool,
}

/// Who we are to servers that ask for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Identity {
    /// Always the same; checked.
    Fixed {
        /// The certificate, then those that lead to the root.
        chain: Vec<Der>,
        /// Its key.
        key: Secret,
        /// How the key is written.
        form: KeyForm,
    },
    /// Variables say where it is; an empty name: nobody.
    Named(ByVariable),
}

/// `proxy_store`: answers become files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Store {
    /// Their paths; `None`: where `root` and `alias` have them.
    pub path: Option<Value>,
    /// `proxy_store_access`, as the system's modes have it.
    pub access: u32,
}
