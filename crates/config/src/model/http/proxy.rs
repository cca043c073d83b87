//! What is passed on to other servers: which, and how.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Regex, Value};

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
}

/// `server` of an `upstream`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamServer {
    /// As it was written.
    pub name: String,
    /// What that came to when the configuration was read. Empty with `resolve`.
    pub addresses: Vec<UpstreamAddress>,
    /// `resolve`: host and port to be asked for while serving.
    pub resolve: Option<(String, u16)>,
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
    },
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

/// `proxy_pass`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyPass {
    /// Whom to ask.
    pub target: ProxyTarget,
    /// The location's path, which that of the target replaces; empty where there is none to replace.
    pub location: Vec<u8>,
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

/// What holds for requests that are passed on, all of it merged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProxySettings {
    /// `proxy_method`
    pub method: Option<Value>,
    /// `proxy_http_version 1.1`, else 1.0.
    pub http11: bool,
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
    /// `proxy_ssl_trusted_certificate`, as PEM.
    pub trusted: Vec<u8>,
    /// `proxy_ssl_crl`, as PEM.
    pub crl: Option<Vec<u8>>,
    /// `proxy_ssl_certificate` and `proxy_ssl_certificate_key`, as PEM.
    pub certificate: Option<(Vec<u8>, Secret)>,
    /// `proxy_ssl_protocols`: TLS 1.2 may be spoken.
    pub tls12: bool,
    /// TLS 1.3 may be spoken.
    pub tls13: bool,
    /// `proxy_ssl_session_reuse`
    pub session_reuse: bool,
}

/// What is not shown.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}
