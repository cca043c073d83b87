//! `proxy_pass` and its company: what is passed on to other servers, and what becomes of their answers.

use std::rc::Rc;
use std::time::Duration;

use conf_syntax::{Directive, Word};

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};
use super::upstream::{HostError, Url};
use crate::model::http::{
    Content, CookieMatch, Matcher, NextUpstream, ProxyPass, ProxyRedirect, ProxySettings, ProxyTarget, Value,
};

const ALL: Context = Context::ALL;
/// The page that nginx's sizes of buffers are counted in.
const PAGE: u64 = 4096;

pub(super) const ROWS: &[Row] = &[
    Row::one(
        "proxy_pass",
        Context::LOCATION.or(Context::LOCATION_IF).or(Context::LIMIT_EXCEPT),
        Apply::Custom(|r, l, d| r.proxy_pass(l, d)),
        "",
        "Passes requests on to a server or a group: `http://host:port`, `http://unix:/path:/uri`; a path replaces \
         the location's. `https://` speaks TLS.",
    ),
    Row::one(
        "proxy_http_version",
        ALL,
        Apply::Custom(|r, l, d| l.proxy_http11 = r.word(d, &[("1.0", false), ("1.1", true)])),
        "1.0",
        "The version of HTTP that servers are asked with.",
    ),
    Row::one("proxy_method", ALL, Apply::Value(|l| &mut l.proxy_method), "", "The method to ask with."),
    Row::new(
        "proxy_set_header",
        ALL,
        Count::exactly(2),
        Apply::Custom(|r, l, d| r.proxy_set_header(l, d)),
        "Host $proxy_host; Connection close",
        "A field of the request that is passed on; an empty value removes it.",
    )
    .repeats(),
    Row::one("proxy_set_body", ALL, Apply::Value(|l| &mut l.proxy_set_body), "", "The body to ask with."),
    Row::flag(
        "proxy_pass_request_headers",
        ALL,
        |l| &mut l.proxy_pass_headers,
        "on",
        "The client's fields are passed on.",
    ),
    Row::flag("proxy_pass_request_body", ALL, |l| &mut l.proxy_pass_body, "on", "The client's body is passed on."),
    Row::one(
        "proxy_hide_header",
        ALL,
        Apply::Custom(|_, l, d| {
            let hide = Rc::make_mut(l.proxy_hide.get_or_insert_default());
            hide.extend(d.args.first().map(|w| w.value.to_vec()));
        }),
        "Date, Server, X-Pad, X-Accel-…",
        "A field of answers that is not passed on.",
    )
    .repeats(),
    Row::one(
        "proxy_pass_header",
        ALL,
        Apply::Custom(|_, l, d| {
            let pass = Rc::make_mut(l.proxy_pass.get_or_insert_default());
            pass.extend(d.args.first().map(|w| w.value.to_vec()));
        }),
        "",
        "A field of answers that is passed on although it is hidden otherwise.",
    )
    .repeats(),
    Row::new(
        "proxy_ignore_headers",
        ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.proxy_ignore_headers(l, d)),
        "",
        "Fields of answers that have no effect here: `X-Accel-Redirect`, `X-Accel-Limit-Rate`, \
         `X-Accel-Buffering`, `X-Accel-Charset`, and those of the cache.",
    )
    .repeats(),
    Row::new(
        "proxy_redirect",
        ALL,
        Count::between(1, 2),
        Apply::Custom(|r, l, d| r.proxy_redirect(l, d)),
        "default",
        "What of `Location` and `Refresh` of answers is replaced by what.",
    )
    .repeats(),
    Row::new(
        "proxy_cookie_domain",
        ALL,
        Count::between(1, 2),
        Apply::Custom(|r, l, d| {
            if let Some(pairs) = r.cookie_pair(d, "proxy_cookie_domain", l.proxy_cookie_domains.take()) {
                l.proxy_cookie_domains = Some(pairs);
            }
        }),
        "off",
        "What of the `domain` of cookies is replaced by what.",
    )
    .repeats(),
    Row::new(
        "proxy_cookie_path",
        ALL,
        Count::between(1, 2),
        Apply::Custom(|r, l, d| {
            if let Some(pairs) = r.cookie_pair(d, "proxy_cookie_path", l.proxy_cookie_paths.take()) {
                l.proxy_cookie_paths = Some(pairs);
            }
        }),
        "off",
        "What of the `path` of cookies is replaced by what.",
    )
    .repeats(),
    Row::new(
        "proxy_cookie_flags",
        ALL,
        Count::between(1, 4),
        Apply::Custom(|r, l, d| r.proxy_cookie_flags(l, d)),
        "off",
        "Flags that cookies get: `secure`, `httponly`, `samesite=strict`, `=lax`, `=none`; with `no` in front they \
         lose them.",
    )
    .repeats(),
    Row::one(
        "proxy_connect_timeout",
        ALL,
        Apply::Millis(|l| &mut l.proxy_connect_timeout),
        "60s",
        "How long connecting may take.",
    ),
    Row::one(
        "proxy_send_timeout",
        ALL,
        Apply::Millis(|l| &mut l.proxy_send_timeout),
        "60s",
        "How long a server may take nothing of a request.",
    ),
    Row::one(
        "proxy_read_timeout",
        ALL,
        Apply::Millis(|l| &mut l.proxy_read_timeout),
        "60s",
        "How long a server may send nothing of its answer.",
    ),
    Row::flag(
        "proxy_buffering",
        ALL,
        |l| &mut l.proxy_buffering,
        "on",
        "Answers are taken as fast as they come, whatever the client's pace.",
    ),
    Row::one(
        "proxy_buffer_size",
        ALL,
        Apply::Size(|l| &mut l.proxy_buffer_size),
        "4k",
        "Bytes of an answer's head at most.",
    ),
    Row::new(
        "proxy_buffers",
        ALL,
        Count::exactly(2),
        Apply::Custom(|r, l, d| r.proxy_buffers(l, d)),
        "8 4k",
        "How many, and bytes of each: their product is what is held of an answer in memory.",
    ),
    Row::one(
        "proxy_max_temp_file_size",
        ALL,
        Apply::Size(|l| &mut l.proxy_max_temp_file_size),
        "1024m",
        "Bytes of an answer in a temporary file.",
    ),
    Row::flag(
        "proxy_request_buffering",
        ALL,
        |l| &mut l.proxy_request_buffering,
        "on",
        "A server is asked when the client's body is there.",
    ),
    Row::flag(
        "proxy_ignore_client_abort",
        ALL,
        |l| &mut l.proxy_ignore_client_abort,
        "off",
        "The answer is awaited although the client has left.",
    ),
    Row::flag(
        "proxy_intercept_errors",
        ALL,
        |l| &mut l.proxy_intercept_errors,
        "off",
        "`error_page` also replaces what servers answer.",
    ),
    Row::one(
        "proxy_limit_rate",
        ALL,
        Apply::Value(|l| &mut l.proxy_limit_rate),
        "0",
        "Bytes a second that are taken of an answer.",
    ),
    Row::new(
        "proxy_bind",
        ALL,
        Count::between(1, 2),
        Apply::Custom(|r, l, d| r.proxy_bind(l, d)),
        "",
        "The address from which servers are connected to; `off`.",
    ),
    Row::flag(
        "proxy_socket_keepalive",
        ALL,
        |l| &mut l.proxy_socket_keepalive,
        "off",
        "TCP looks after idle connections to servers.",
    ),
    Row::flag(
        "proxy_pass_trailers",
        ALL,
        |l| &mut l.proxy_pass_trailers,
        "off",
        "Fields behind the body of an answer are passed on.",
    ),
    Row::flag("proxy_force_ranges", ALL, |l| &mut l.proxy_force_ranges, "off", "Takes ranges of answers."),
    Row::one(
        "slice",
        ALL,
        Apply::Size(|l| &mut l.slice),
        "0",
        "Asks for an answer in parts of so many bytes, where `$slice_range` is passed on as `Range`: `slice 1m; \
         proxy_set_header Range $slice_range;`, with `$slice_range` in the cache's key.",
    )
    .differs("A request with a body is passed on as a whole."),
    Row::new(
        "proxy_next_upstream",
        ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.proxy_next_upstream(l, d)),
        "error timeout",
        "After what another server of the group is asked.",
    ),
    Row::one(
        "proxy_next_upstream_tries",
        ALL,
        Apply::Number(|l| &mut l.proxy_next_tries),
        "0",
        "How many servers are asked at most; 0 is all.",
    ),
    Row::one(
        "proxy_next_upstream_timeout",
        ALL,
        Apply::Millis(|l| &mut l.proxy_next_timeout),
        "0",
        "How long after the first another is still asked; 0 is for ever.",
    ),
    Row::new(
        "proxy_busy_buffers_size",
        ALL,
        Count::exactly(1),
        Apply::Quiet(Argument::Size, "what has come leaves as soon as the client takes it"),
        "8k|16k",
        "Bytes that may be on the way to the client.",
    ),
    Row::one(
        "proxy_temp_file_write_size",
        ALL,
        Apply::Quiet(Argument::Size, "each piece is written as it comes"),
        "8k|16k",
        "Bytes that are written to a temporary file at once.",
    ),
    Row::new(
        "proxy_temp_path",
        ALL,
        Count::between(1, 4),
        Apply::Quiet(Argument::Any, "`client_body_temp_path` says where all temporary files lie"),
        "proxy_temp",
        "Where temporary files lie.",
    ),
    Row::one(
        "proxy_headers_hash_max_size",
        ALL,
        Apply::Quiet(Argument::Number, "tables are as large as they need to be"),
        "512",
        "How large a table may be.",
    ),
    Row::one(
        "proxy_headers_hash_bucket_size",
        ALL,
        Apply::Quiet(Argument::Number, "tables are as large as they need to be"),
        "64",
        "How large a part of a table may be.",
    ),
    Row::one(
        "proxy_send_lowat",
        ALL,
        Apply::Quiet(Argument::Size, "Linux has no such limit, and nginx ignores it there too"),
        "0",
        "Bytes that a socket takes at least.",
    ),
    Row::one(
        "proxy_socket_rcvbuf",
        ALL,
        Apply::Quiet(Argument::Size, "the kernel finds the right size of each socket's buffer"),
        "0",
        "Bytes of a socket's receive buffer.",
    ),
    Row::one(
        "proxy_socket_sndbuf",
        ALL,
        Apply::Quiet(Argument::Size, "the kernel finds the right size of each socket's buffer"),
        "0",
        "Bytes of a socket's send buffer.",
    ),
];

impl<'a> Reader<'a> {
    fn proxy_pass(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        if level.content.is_some() {
            self.error(directive.name.span, "\"proxy_pass\" directive is duplicate")
                .help("something else answers here already");
            return;
        }
        let value = self.value(word);
        let target = match value.as_text() {
            Some(text) => self.fixed_target(word, text),
            None => Some(ProxyTarget::Variable(value)),
        };
        let Some(target) = target else { return };
        // A regex or named location has no path that could be replaced.
        let location = match self.location.as_ref().map(|current| &current.matcher) {
            Some(Matcher::Exact(path) | Matcher::Prefix { uri: path, .. }) => path.clone(),
            _ => Vec::new(),
        };
        let has_uri = matches!(&target, ProxyTarget::Fixed { uri, .. } if !uri.is_empty());
        if has_uri
            && (location.is_empty()
                || self.context == Context::LOCATION_IF
                || self.context == Context::LIMIT_EXCEPT)
        {
            self.error(
                word.span,
                "\"proxy_pass\" cannot have URI part in location given by regular expression, or inside named \
                 location, or inside \"if\" statement, or inside \"limit_except\" block",
            );
            return;
        }
        level.content = Some(Content::Proxy(self.proxies.len() as u32));
        level.proxied = Some(true);
        self.proxies.push(ProxyPass { target, location });
    }

    /// A URL without variables.
    fn fixed_target(&mut self, word: Word<'a>, text: &[u8]) -> Option<ProxyTarget> {
        let scheme = |prefix: &[u8]| text.get(..prefix.len()).is_some_and(|t| t.eq_ignore_ascii_case(prefix));
        let (https, rest) = if scheme(b"http://") {
            (false, &text[7..])
        } else if scheme(b"https://") {
            (true, &text[8..])
        } else {
            self.error(word.span, "invalid URL prefix").help("it begins with `http://`");
            return None;
        };
        let default_port = if https { 443 } else { 80 };
        let parsed =
            std::str::from_utf8(rest).map_err(|_| "invalid host").and_then(|rest| Url::parse(rest, true));
        let url = match parsed {
            Ok(url) => url,
            Err(why) => {
                let shown = String::from_utf8_lossy(rest).into_owned();
                self.error(word.span, format!("{why} in upstream \"{shown}\""));
                return None;
            }
        };
        let (host, port) = url.shown(default_port);
        let uri = url.uri.as_bytes().to_vec();
        let upstream = match self.upstream_for(&url, default_port) {
            Ok(id) => id,
            Err(error) => {
                let message = match error {
                    HostError::NotFound => format!("host not found in upstream \"{}\"", url.text),
                    HostError::Port(port) => format!("upstream \"{}\" may not have port {port}", url.host),
                };
                self.error(word.span, message);
                return None;
            }
        };
        Some(ProxyTarget::Fixed { url: text.to_vec(), https, upstream, host, port, uri })
    }

    fn proxy_set_header(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some([name, value]) = directive.args.array() else { return };
        let is_token = !name.value.is_empty()
            && name.value.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b));
        if !is_token {
            let text = name.text().into_owned();
            self.error(name.span, format!("invalid header name \"{text}\""));
            return;
        }
        let value = self.value(value);
        Rc::make_mut(level.proxy_set_headers.get_or_insert_default()).push((name.value.to_vec(), value));
    }

    fn proxy_ignore_headers(&mut self, level: &mut Level, directive: Directive<'a>) {
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
        let mut ignore = level.proxy_ignore.unwrap_or_default();
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
        level.proxy_ignore = Some(ignore);
    }

    fn proxy_redirect(&mut self, level: &mut Level, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let (Some(first), second) = (words.next(), words.next()) else { return };
        let Some(second) = second else {
            match first.value {
                b"off" => {
                    if level.proxy_redirects.is_some() {
                        self.error(directive.name.span, "\"proxy_redirect\" directive is duplicate");
                    }
                    level.proxy_redirects = Some(Rc::default());
                }
                b"default" => self.proxy_redirect_default(level, directive),
                _ => {
                    self.invalid_parameter(first).help("write `default`, `off`, or what is replaced by what");
                }
            }
            return;
        };
        let redirect = if let Some(pattern) = first.value.strip_prefix(b"~") {
            let (caseless, pattern) = match pattern.strip_prefix(b"*") {
                Some(pattern) => (true, pattern),
                None => (false, pattern),
            };
            let offset = first.value.len() - pattern.len();
            ProxyRedirect::Regex(self.regex(pattern, caseless, first, offset), self.value(second))
        } else {
            ProxyRedirect::Prefix(self.value(first), self.value(second))
        };
        Rc::make_mut(level.proxy_redirects.get_or_insert_default()).push(redirect);
    }

    fn proxy_redirect_default(&mut self, level: &mut Level, directive: Directive<'a>) {
        let content = match &level.content {
            Some(Content::Proxy(index)) => self.proxies.get(*index as usize),
            _ => None,
        };
        if let Some(ProxyPass { target: ProxyTarget::Variable(_), .. }) = content {
            self.error(
                directive.name.span,
                "\"proxy_redirect default\" cannot be used with \"proxy_pass\" directive with variables",
            );
            return;
        }
        Rc::make_mut(level.proxy_redirects.get_or_insert_default()).push(ProxyRedirect::Default);
    }

    /// `off`, or a text or pattern and what replaces it.
    fn cookie_pair(
        &mut self,
        directive: Directive<'a>,
        name: &str,
        known: Option<Rc<Vec<(CookieMatch, Value)>>>,
    ) -> Option<Rc<Vec<(CookieMatch, Value)>>> {
        let mut words = directive.args.iter();
        let (first, second) = (words.next()?, words.next());
        let Some(second) = second else {
            if first.value != b"off" {
                self.invalid_parameter(first).help("write `off`, or what is replaced by what");
            } else if known.is_some() {
                self.error(directive.name.span, format!("\"{name}\" directive is duplicate"));
            }
            return Some(Rc::default());
        };
        // A dot in front of a domain means nothing.
        let is_domain = name == "proxy_cookie_domain";
        let mut pair = (self.cookie_match(first, is_domain), self.value(second));
        let from = if let CookieMatch::Text(value) = &mut pair.0 { Some(value) } else { None };
        for value in from.into_iter().chain([&mut pair.1]).filter(|_| is_domain) {
            if let Some(crate::model::http::Part::Text(text)) = value.0.first_mut()
                && text.first() == Some(&b'.')
            {
                text.remove(0);
            }
        }
        let mut pairs = known.unwrap_or_default();
        Rc::make_mut(&mut pairs).push(pair);
        Some(pairs)
    }

    /// A text or a pattern. `caseless`: letters of a pattern match in either case without the star too.
    fn cookie_match(&mut self, word: Word<'a>, caseless: bool) -> CookieMatch {
        match word.value.strip_prefix(b"~") {
            Some(pattern) => {
                let (caseless, pattern) = match pattern.strip_prefix(b"*") {
                    Some(pattern) => (true, pattern),
                    None => (caseless, pattern),
                };
                let offset = word.value.len() - pattern.len();
                CookieMatch::Regex(self.regex(pattern, caseless, word, offset))
            }
            None => CookieMatch::Text(self.value(word)),
        }
    }

    fn proxy_cookie_flags(&mut self, level: &mut Level, directive: Directive<'a>) {
        const FLAGS: [&str; 8] = [
            "secure",
            "nosecure",
            "httponly",
            "nohttponly",
            "samesite=strict",
            "samesite=lax",
            "samesite=none",
            "nosamesite",
        ];
        let mut words = directive.args.iter();
        let Some(first) = words.next() else { return };
        let flags: Vec<_> = words.collect();
        if flags.is_empty() {
            if first.value != b"off" {
                self.invalid_parameter(first).help("write `off`, or a cookie and its flags");
            } else if level.proxy_cookie_flags.is_some() {
                self.error(directive.name.span, "\"proxy_cookie_flags\" directive is duplicate");
            }
            level.proxy_cookie_flags = Some(Rc::default());
            return;
        }
        let cookie = self.cookie_match(first, true);
        let mut values = Vec::new();
        for word in flags {
            let value = self.value(word);
            if let Some(text) = value.as_text()
                && !FLAGS.iter().any(|flag| text.eq_ignore_ascii_case(flag.as_bytes()))
            {
                self.not_one_of(word, &FLAGS);
                return;
            }
            values.push(value);
        }
        Rc::make_mut(level.proxy_cookie_flags.get_or_insert_default()).push((cookie, values));
    }

    fn proxy_buffers(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some([number, size]) = directive.args.array() else { return };
        let (Some(count), Some(bytes)) =
            (self.number(number, "proxy_buffers"), self.size(size, "proxy_buffers"))
        else {
            return;
        };
        if count < 2 {
            self.error(number.span, "there must be at least 2 \"proxy_buffers\"");
            return;
        }
        level.proxy_buffers = Some(count.saturating_mul(bytes));
    }

    fn proxy_bind(&mut self, level: &mut Level, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let Some(address) = words.next() else { return };
        if let Some(second) = words.next() {
            if second.value == b"transparent" {
                self.error(second.span, "`transparent` is not there yet (it comes later)");
            } else {
                self.invalid_parameter(second);
            }
            return;
        }
        let value = self.value(address);
        let Some(text) = value.as_text() else {
            level.proxy_bind = Some(Some(value));
            return;
        };
        if text == b"off" {
            level.proxy_bind = Some(None);
        } else if bind_address(text) {
            level.proxy_bind = Some(Some(value));
        } else {
            let text = String::from_utf8_lossy(text).into_owned();
            self.error(address.span, format!("invalid address \"{text}\""))
                .help("write an IP address, with or without a port, or `off`");
        }
    }

    fn proxy_next_upstream(&mut self, level: &mut Level, directive: Directive<'a>) {
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
        let mut next = NONE;
        let mut is_off = false;
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
        level.proxy_next = Some(if is_off { NONE } else { next });
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
pub(super) fn settle(l: &Level) -> Option<ProxySettings> {
    l.proxied?;
    let minute = Duration::from_secs(60);
    let of = |list: &Option<Rc<Vec<Vec<u8>>>>| list.as_ref().map_or_else(Vec::new, |list| list.to_vec());
    let (resolver, resolver_timeout) = super::resolver::settle(l);
    let tls = super::proxy_tls::settle(l);
    let not_zero = |value: &Option<Value>| value.clone().filter(|v| v.as_text() != Some(b"0"));
    Some(ProxySettings {
        method: l.proxy_method.clone(),
        http11: l.proxy_http11.unwrap_or(false),
        set_headers: l.proxy_set_headers.as_ref().map_or_else(Vec::new, |list| list.to_vec()),
        set_body: l.proxy_set_body.clone(),
        pass_headers: l.proxy_pass_headers.unwrap_or(true),
        pass_body: l.proxy_pass_body.unwrap_or(true),
        hide: of(&l.proxy_hide),
        pass: of(&l.proxy_pass),
        ignore: l.proxy_ignore.unwrap_or_default(),
        redirects: l
            .proxy_redirects
            .as_ref()
            .map_or_else(|| vec![ProxyRedirect::Default], |list| list.to_vec()),
        cookie_domains: l.proxy_cookie_domains.as_ref().map_or_else(Vec::new, |list| list.to_vec()),
        cookie_paths: l.proxy_cookie_paths.as_ref().map_or_else(Vec::new, |list| list.to_vec()),
        cookie_flags: l.proxy_cookie_flags.as_ref().map_or_else(Vec::new, |list| list.to_vec()),
        connect_timeout: l.proxy_connect_timeout.unwrap_or(minute),
        send_timeout: l.proxy_send_timeout.unwrap_or(minute),
        read_timeout: l.proxy_read_timeout.unwrap_or(minute),
        buffering: l.proxy_buffering.unwrap_or(true),
        head_size: l.proxy_buffer_size.unwrap_or(PAGE),
        memory: l.proxy_buffers.unwrap_or(8 * PAGE),
        temp_file: l.proxy_max_temp_file_size.unwrap_or(1 << 30),
        request_buffering: l.proxy_request_buffering.unwrap_or(true),
        ignore_client_abort: l.proxy_ignore_client_abort.unwrap_or(false),
        intercept_errors: l.proxy_intercept_errors.unwrap_or(false),
        limit_rate: not_zero(&l.proxy_limit_rate),
        bind: l.proxy_bind.clone().flatten(),
        socket_keepalive: l.proxy_socket_keepalive.unwrap_or(false),
        pass_trailers: l.proxy_pass_trailers.unwrap_or(false),
        force_ranges: l.proxy_force_ranges.unwrap_or(false),
        tls,
        resolver,
        resolver_timeout,
        next: l.proxy_next.unwrap_or(NextUpstream { error: true, timeout: true, ..NONE }),
        next_tries: l.proxy_next_tries.unwrap_or(0).min(u64::from(u32::MAX)) as u32,
        next_timeout: l.proxy_next_timeout.unwrap_or_default(),
    })
}
