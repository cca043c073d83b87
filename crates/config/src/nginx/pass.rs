//! What the servers that requests are passed on to have in common: the same words stand for each kind of them, with
//! another beginning.

use std::rc::Rc;
use std::time::Duration;

use conf_syntax::{Directive, Span};

use super::level::{Level, SetHeaders};
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};
use super::tls::NamedFile;
use crate::model::http::{
    CookieMatch, Family, Gateway, GatewayParam, Identity, IgnoreHeaders, NextUpstream, ProxyRedirect,
    ProxySettings, Regex, ServerVersion, Value,
};
use crate::model::tls::{CertificateCache, Der};

const ALL: Context = Context::ALL;
/// The page that nginx's sizes of buffers are counted in.
const PAGE: u64 = 4096;

/// The rows that all kinds of servers have.
macro_rules! common {
    ($prefix:literal, $family:expr, $hidden:literal) => {
        &[
            Row::one(
                concat!($prefix, "_connect_timeout"),
                ALL,
                Apply::Millis(|l| &mut pass(l, $family).connect_timeout),
                "60s",
                "How long connecting may take.",
            ),
            Row::one(
                concat!($prefix, "_send_timeout"),
                ALL,
                Apply::Millis(|l| &mut pass(l, $family).send_timeout),
                "60s",
                "How long a server may take nothing of a request.",
            ),
            Row::one(
                concat!($prefix, "_read_timeout"),
                ALL,
                Apply::Millis(|l| &mut pass(l, $family).read_timeout),
                "60s",
                "How long a server may send nothing of its answer.",
            ),
            Row::one(
                concat!($prefix, "_buffer_size"),
                ALL,
                Apply::Size(|l| &mut pass(l, $family).buffer_size),
                "4k",
                "Bytes of an answer's head at most.",
            ),
            Row::flag(
                concat!($prefix, "_intercept_errors"),
                ALL,
                |l| &mut pass(l, $family).intercept_errors,
                "off",
                "`error_page` also replaces what servers answer.",
            ),
            Row::new(
                concat!($prefix, "_bind"),
                ALL,
                Count::between(1, 2),
                Apply::Custom(|r, l, d| r.pass_bind(pass(l, $family), d)),
                "",
                "The address from which servers are connected to; `off`. With `transparent` it may be anybody's, a \
                 client's above all, if the system's routes lead the answers back; the edge then keeps the right \
                 `CAP_NET_RAW`, as nginx's workers do.",
            ),
            Row::flag(
                concat!($prefix, "_socket_keepalive"),
                ALL,
                |l| &mut pass(l, $family).socket_keepalive,
                "off",
                "TCP looks after idle connections to servers.",
            ),
            Row::new(
                concat!($prefix, "_next_upstream"),
                ALL,
                Count::at_least(1),
                Apply::Custom(|r, l, d| r.pass_next_upstream(pass(l, $family), d)),
                "error timeout",
                "After what another server of the group is asked. `error` and `timeout` mean an answer that breaks off or stops, too (with buffering, without a rate, and no event stream). As long as nothing of it has gone to the client it is asked for anew: while another server could be asked, one that says that it has no more than 64 KiB is passed on when it is there as a whole, any other when a fiftieth of a second is over. Where a part of it has gone, another server goes on with it, if the request has no body and that server answers with the same status and fields, and the same bytes up to there; else the client sees that it broke off, as in nginx.",
            )
.repeats(),
            Row::one(
                concat!($prefix, "_next_upstream_tries"),
                ALL,
                Apply::Number(|l| &mut pass(l, $family).next_tries),
                "0",
                "How many servers are asked at most; 0 is all.",
            ),
            Row::one(
                concat!($prefix, "_next_upstream_timeout"),
                ALL,
                Apply::Millis(|l| &mut pass(l, $family).next_timeout),
                "0",
                "How long after the first another is still asked; 0 is for ever.",
            ),
            Row::one(
                concat!($prefix, "_hide_header"),
                ALL,
                Apply::Custom(|_, l, d| {
                    let hide = Rc::make_mut(pass(l, $family).hide.get_or_insert_default());
                    hide.extend(d.args.first().map(|w| w.value.to_vec()));
                }),
                $hidden,
                "A field of answers that is not passed on.",
            )
            .repeats(),
            Row::one(
                concat!($prefix, "_pass_header"),
                ALL,
                Apply::Custom(|_, l, d| {
                    let pass = Rc::make_mut(pass(l, $family).pass.get_or_insert_default());
                    pass.extend(d.args.first().map(|w| w.value.to_vec()));
                }),
                "",
                "A field of answers that is passed on although it is hidden otherwise.",
            )
            .repeats(),
            Row::new(
                concat!($prefix, "_ignore_headers"),
                ALL,
                Count::at_least(1),
                Apply::Custom(|r, l, d| r.pass_ignore_headers(pass(l, $family), d)),
                "",
                "Fields of answers that have no effect here: `X-Accel-Redirect`, `X-Accel-Limit-Rate`, \
                 `X-Accel-Buffering`, `X-Accel-Charset`, and those of the cache.",
            )
            .repeats(),
            Row::one(
                concat!($prefix, "_socket_rcvbuf"),
                ALL,
                Apply::Quiet(Argument::Size, "the kernel finds the right size of each socket's buffer"),
                "0",
                "Bytes of a socket's receive buffer.",
            ),
            Row::one(
                concat!($prefix, "_socket_sndbuf"),
                ALL,
                Apply::Quiet(Argument::Size, "the kernel finds the right size of each socket's buffer"),
                "0",
                "Bytes of a socket's send buffer.",
            ),
        ]
    };
}

/// The rows of those whose bodies may wait.
macro_rules! bodies {
    ($prefix:literal, $family:expr) => {
        &[
            Row::flag(
                concat!($prefix, "_pass_request_headers"),
                ALL,
                |l| &mut pass(l, $family).pass_headers,
                "on",
                "The client's fields are passed on.",
            ),
            Row::flag(
                concat!($prefix, "_pass_request_body"),
                ALL,
                |l| &mut pass(l, $family).pass_body,
                "on",
                "The client's body is passed on.",
            ),
            Row::flag(
                concat!($prefix, "_buffering"),
                ALL,
                |l| &mut pass(l, $family).buffering,
                "on",
                "Answers are taken as fast as they come, whatever the client's pace.",
            ),
            Row::new(
                concat!($prefix, "_buffers"),
                ALL,
                Count::exactly(2),
                Apply::Custom(|r, l, d| r.pass_buffers(pass(l, $family), d)),
                "8 4k",
                "How many, and bytes of each: their product is what is held of an answer in memory.",
            ),
            Row::new(
                concat!($prefix, "_busy_buffers_size"),
                ALL,
                Count::exactly(1),
                Apply::Quiet(Argument::Size, "what has come leaves as soon as the client takes it"),
                "8k|16k",
                "Bytes that may be on the way to the client.",
            ),
            Row::one(
                concat!($prefix, "_max_temp_file_size"),
                ALL,
                Apply::Size(|l| &mut pass(l, $family).max_temp_file_size),
                "1024m",
                "Bytes of an answer in a temporary file.",
            ),
            Row::one(
                concat!($prefix, "_temp_file_write_size"),
                ALL,
                Apply::Quiet(Argument::Size, "each piece is written as it comes"),
                "8k|16k",
                "Bytes that are written to a temporary file at once.",
            ),
            Row::new(
                concat!($prefix, "_temp_path"),
                ALL,
                Count::between(1, 4),
                Apply::Quiet(Argument::Any, "`client_body_temp_path` says where all temporary files lie"),
                concat!($prefix, "_temp"),
                "Where temporary files lie.",
            ),
            Row::flag(
                concat!($prefix, "_request_buffering"),
                ALL,
                |l| &mut pass(l, $family).request_buffering,
                "on",
                "A server is asked when the client's body is there.",
            )
            .differs(
                concat!(
                    "With `off`: once a server has begun to answer, `client_body_timeout` no longer counts for the body, \
                     but `",
                    $prefix,
                    "_read_timeout` for both ways: it begins anew with what goes to the server, too.",
                ),
            ),
            Row::flag(
                concat!($prefix, "_ignore_client_abort"),
                ALL,
                |l| &mut pass(l, $family).ignore_client_abort,
                "off",
                "The answer is awaited although the client has left.",
            ),
            Row::one(
                concat!($prefix, "_limit_rate"),
                ALL,
                Apply::Custom(|r, l, d| r.rate(&mut pass(l, $family).limit_rate, d)),
                "0",
                "Bytes a second that are taken of an answer.",
            ),
            Row::flag(
                concat!($prefix, "_force_ranges"),
                ALL,
                |l| &mut pass(l, $family).force_ranges,
                "off",
                "Takes ranges of answers.",
            ),
        ]
    };
}

pub(super) const PROXY: &[Row] = common!("proxy", Family::Proxy, "Date, Server, X-Pad, X-Accel-…");
pub(super) const PROXY_BODIES: &[Row] = bodies!("proxy", Family::Proxy);
pub(super) const FASTCGI: &[Row] = common!("fastcgi", Family::FastCgi, "Status, X-Accel-…");
pub(super) const FASTCGI_BODIES: &[Row] = bodies!("fastcgi", Family::FastCgi);
pub(super) const UWSGI: &[Row] = common!("uwsgi", Family::Uwsgi, "X-Accel-…");
pub(super) const UWSGI_BODIES: &[Row] = bodies!("uwsgi", Family::Uwsgi);
pub(super) const SCGI: &[Row] = common!("scgi", Family::Scgi, "Status, X-Accel-…");
pub(super) const GRPC: &[Row] = common!("grpc", Family::Grpc, "Date, Server, X-Accel-…");
pub(super) const SCGI_BODIES: &[Row] = bodies!("scgi", Family::Scgi);

macro_rules! level {
    ($($field:ident: $type:ty,)*) => {
        /// What one block says of servers of one kind.
        #[derive(Debug, Clone, Default)]
        pub(super) struct PassLevel {
            $(pub $field: Option<$type>,)*
        }

        impl PassLevel {
            /// Takes from the block around what this one does not say.
            pub(super) fn inherit(&mut self, parent: &Self) {
                $(if self.$field.is_none() {
                    self.$field.clone_from(&parent.$field);
                })*
            }
        }
    };
}

level! {
    // Requests are passed on here, or in a block around.
    used: bool,
    // TLS is, or may be, spoken to them.
    tls: bool,
    method: Value,
    version: ServerVersion,
    set_headers: SetHeaders,
    set_body: Value,
    pass_headers: bool,
    pass_body: bool,
    hide: Rc<Vec<Vec<u8>>>,
    pass: Rc<Vec<Vec<u8>>>,
    ignore: IgnoreHeaders,
    redirects: Rc<Vec<ProxyRedirect>>,
    cookie_domains: Rc<Vec<(CookieMatch, Value)>>,
    cookie_paths: Rc<Vec<(CookieMatch, Value)>>,
    cookie_flags: Rc<Vec<(CookieMatch, Vec<Value>)>>,
    connect_timeout: Duration,
    send_timeout: Duration,
    read_timeout: Duration,
    buffering: bool,
    buffer_size: u64,
    buffers: u64,
    max_temp_file_size: u64,
    request_buffering: bool,
    ignore_client_abort: bool,
    intercept_errors: bool,
    limit_rate: Value,
    bind: Option<Value>,
    bind_transparent: bool,
    socket_keepalive: bool,
    pass_trailers: bool,
    force_ranges: bool,
    // With `off` on any of the lines nothing else counts.
    next: (NextUpstream, bool),
    next_tries: u64,
    next_timeout: Duration,
    // `None` in the option is `off`, and without a path it is `on`.
    store: Option<Option<Value>>,
    store_access: u32,
    ssl_server_name: bool,
    ssl_name: Value,
    // Where it is said, and where nginx would say that it is; `None` in the option is `off`.
    ssl_verify: Option<(Span, Span)>,
    ssl_trusted: Rc<Vec<Der>>,
    // A file is named, whether or not it can be read.
    ssl_trusts: bool,
    ssl_crl: Rc<Vec<Der>>,
    // Their files, where they cannot be read.
    ssl_trusted_unread: Option<NamedFile>,
    ssl_crl_unread: Option<NamedFile>,
    ssl_certificate: NamedFile,
    ssl_key: NamedFile,
    ssl_passwords: NamedFile,
    ssl_kept: Option<CertificateCache>,
    // What those of the files come to.
    identity: Option<Identity>,
    ssl_protocols: (bool, bool),
    ssl_session_reuse: bool,
    params: Rc<Vec<GatewayParam>>,
    index: Vec<u8>,
    split: Regex,
    catch_stderr: Rc<Vec<Vec<u8>>>,
    keep_conn: bool,
    modifier1: u8,
    modifier2: u8,
    string: Vec<u8>,
}

/// Where a block keeps what it says of one kind of servers.
pub(super) fn pass(level: &mut Level, family: Family) -> &mut PassLevel {
    Rc::make_mut(level.passes[family as usize].get_or_insert_default())
}

impl<'a> Reader<'a> {
    fn pass_ignore_headers(&mut self, level: &mut PassLevel, directive: Directive<'a>) {
        const NAMES: [&str; 9] = [
            "X-Accel-Redirect",
            "X-Accel-Expires",
            "X-Accel-Limit-Rate",
            "X-Accel-Buffering",
            "X-Accel-Charset",
            "Expires",
            "Cache-Control",
            "Set-Cookie",
            "Vary",
        ];
        let mut ignore = level.ignore.unwrap_or_default();
        for word in directive.args {
            match NAMES.iter().find(|name| word.value.eq_ignore_ascii_case(name.as_bytes())) {
                Some(&"X-Accel-Redirect") => ignore.accel_redirect = true,
                Some(&"X-Accel-Limit-Rate") => ignore.accel_limit_rate = true,
                Some(&"X-Accel-Buffering") => ignore.accel_buffering = true,
                Some(&"X-Accel-Charset") => ignore.accel_charset = true,
                Some(&"X-Accel-Expires") => ignore.accel_expires = true,
                Some(&"Expires") => ignore.expires = true,
                Some(&"Cache-Control") => ignore.cache_control = true,
                Some(&"Set-Cookie") => ignore.set_cookie = true,
                Some(_) => ignore.vary = true,
                None => self.not_one_of(word, &NAMES),
            }
        }
        level.ignore = Some(ignore);
    }

    fn pass_buffers(&mut self, level: &mut PassLevel, directive: Directive<'a>) {
        let name = directive.name.text().into_owned();
        let Some([number, size]) = directive.args.array() else { return };
        let (Some(count), Some(bytes)) = (self.number(number, &name), self.size(size, &name)) else {
            return;
        };
        if count < 2 {
            self.error(number.span, format!("there must be at least 2 \"{name}\""));
            return;
        }
        level.buffers = Some(count.saturating_mul(bytes));
    }

    fn pass_bind(&mut self, level: &mut PassLevel, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let Some(address) = words.next() else { return };
        let second = words.next();
        if let Some(second) = second.filter(|second| second.value != b"transparent") {
            self.invalid_parameter(second).help("write `transparent`, or nothing");
            return;
        }
        level.bind_transparent = Some(second.is_some());
        let value = self.value(address);
        let Some(text) = value.as_text() else {
            level.bind = Some(Some(value));
            return;
        };
        if text == b"off" {
            level.bind = Some(None);
        } else if bind_address(text) {
            level.bind = Some(Some(value));
        } else {
            let text = String::from_utf8_lossy(text).into_owned();
            self.error(address.span, format!("invalid address \"{text}\""))
                .help("write an IP address, with or without a port, or `off`");
        }
    }

    fn pass_next_upstream(&mut self, level: &mut PassLevel, directive: Directive<'a>) {
        const NAMES: [&str; 12] = [
            "error",
            "timeout",
            "invalid_header",
            "http_500",
            "http_502",
            "http_503",
            "http_504",
            "http_403",
            "http_404",
            "http_429",
            "non_idempotent",
            "off",
        ];
        let (mut next, mut is_off) = level.next.unwrap_or((NONE, false));
        for word in directive.args {
            let Some(name) = NAMES.iter().find(|name| word.value == name.as_bytes()) else {
                self.not_one_of(word, &NAMES);
                continue;
            };
            match *name {
                "off" => is_off = true,
                name => add_next(&mut next, name),
            }
        }
        level.next = Some((next, is_off));
    }
}

/// One more reason; the name is one of nginx's.
pub(super) fn add_next(next: &mut NextUpstream, name: &str) {
    match name {
        "error" => next.error = true,
        "timeout" => next.timeout = true,
        "invalid_header" => next.invalid_header = true,
        "http_500" => next.http_500 = true,
        "http_502" => next.http_502 = true,
        "http_503" => next.http_503 = true,
        "http_504" => next.http_504 = true,
        "http_403" => next.http_403 = true,
        "http_404" => next.http_404 = true,
        "http_429" => next.http_429 = true,
        "non_idempotent" => next.non_idempotent = true,
        _ => {}
    }
}

pub(super) const NONE: NextUpstream = NextUpstream {
    error: false,
    timeout: false,
    invalid_header: false,
    http_500: false,
    http_502: false,
    http_503: false,
    http_504: false,
    http_403: false,
    http_404: false,
    http_429: false,
    non_idempotent: false,
};

/// An IP address, with or without a port.
fn bind_address(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<std::net::IpAddr>().is_ok() || text.parse::<std::net::SocketAddr>().is_ok()
}

/// How requests are passed on, where they are.
pub(super) fn settle(l: &Level, family: Family) -> Option<ProxySettings> {
    let p = l.passes[family as usize].as_deref()?;
    // Variables ask how a path is split, whoever answers.
    if p.used.is_none() && p.split.is_none() && p.index.is_none() {
        return None;
    }
    // Both ways may go on at once: nothing of it waits.
    let is_grpc = family == Family::Grpc;
    let default_redirects = if family == Family::Proxy { vec![ProxyRedirect::Default] } else { Vec::new() };
    let minute = Duration::from_secs(60);
    let of = |list: &Option<Rc<Vec<Vec<u8>>>>| list.as_ref().map_or_else(Vec::new, |list| list.to_vec());
    let (resolver, resolver_timeout) = super::resolver::settle(l);
    let tls = super::proxy_tls::settle(p);
    let not_zero = |value: &Option<Value>| value.clone().filter(|v| v.as_text() != Some(b"0"));
    Some(ProxySettings {
        store: super::store::settle(p),
        method: p.method.clone(),
        version: p.version.unwrap_or(ServerVersion::Http10),
        set_headers: p.set_headers.as_ref().map_or_else(Vec::new, |list| list.to_vec()),
        set_body: p.set_body.clone(),
        pass_headers: p.pass_headers.unwrap_or(true),
        pass_body: p.pass_body.unwrap_or(true),
        hide: of(&p.hide),
        pass: of(&p.pass),
        ignore: p.ignore.unwrap_or_default(),
        redirects: p.redirects.as_ref().map_or(default_redirects, |list| list.to_vec()),
        cookie_domains: p.cookie_domains.as_ref().map_or_else(Vec::new, |list| list.to_vec()),
        cookie_paths: p.cookie_paths.as_ref().map_or_else(Vec::new, |list| list.to_vec()),
        cookie_flags: p.cookie_flags.as_ref().map_or_else(Vec::new, |list| list.to_vec()),
        connect_timeout: p.connect_timeout.unwrap_or(minute),
        send_timeout: p.send_timeout.unwrap_or(minute),
        read_timeout: p.read_timeout.unwrap_or(minute),
        buffering: p.buffering.unwrap_or(!is_grpc),
        head_size: p.buffer_size.unwrap_or(PAGE),
        memory: p.buffers.unwrap_or(8 * PAGE),
        temp_file: p.max_temp_file_size.unwrap_or(1 << 30),
        request_buffering: p.request_buffering.unwrap_or(!is_grpc),
        ignore_client_abort: p.ignore_client_abort.unwrap_or(false),
        intercept_errors: p.intercept_errors.unwrap_or(false),
        limit_rate: not_zero(&p.limit_rate),
        bind: p.bind.clone().flatten(),
        bind_transparent: p.bind.as_ref().is_some_and(Option::is_some) && p.bind_transparent.unwrap_or(false),
        socket_keepalive: p.socket_keepalive.unwrap_or(false),
        pass_trailers: p.pass_trailers.unwrap_or(is_grpc),
        force_ranges: p.force_ranges.unwrap_or(false),
        tls,
        resolver,
        resolver_timeout,
        next: match p.next {
            None => NextUpstream { error: true, timeout: true, ..NONE },
            Some((_, true)) => NONE,
            Some((next, false)) => next,
        },
        next_tries: p.next_tries.unwrap_or(0).min(u64::from(u32::MAX)) as u32,
        next_timeout: p.next_timeout.unwrap_or_default(),
        gateway: Gateway {
            params: p.params.as_ref().map_or_else(Vec::new, |list| list.to_vec()),
            index: p.index.clone().unwrap_or_default(),
            split: p.split.clone(),
            catch_stderr: of(&p.catch_stderr),
            keep_conn: p.keep_conn.unwrap_or(false),
            modifiers: (p.modifier1.unwrap_or(0), p.modifier2.unwrap_or(0)),
            string: p.string.clone().unwrap_or_default(),
        },
    })
}
