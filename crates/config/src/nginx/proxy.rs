//! `proxy_pass` and its company: what is passed on to other servers by HTTP, and what becomes of their answers.

use std::rc::Rc;

use conf_syntax::{Directive, Word};

use super::level::{Level, SetHeaders};
use super::pass::pass;
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};
use crate::model::http::{
    Content, CookieMatch, Family, ProxyPass, ProxyRedirect, ProxyTarget, ServerVersion, Value,
};

const ALL: Context = Context::ALL;
const HTTP: Family = Family::Proxy;

pub(super) const ROWS: &[Row] = &[
    Row::one(
        "proxy_pass",
        Context::LOCATION.or(Context::LOCATION_IF).or(Context::LIMIT_EXCEPT),
        Apply::Custom(|r, l, d| r.pass_on(l, HTTP, d)),
        "",
        "Passes requests on to a server or a group: `http://host:port`, `http://unix:/path:/uri`; a path replaces \
         the location's. `https://` speaks TLS. To an address of an `app`'s `bind` there is no connection: requests go \
         straight into its queue. Then `proxy_connect_timeout`, `proxy_send_timeout`, `proxy_socket_keepalive`, \
         `proxy_next_upstream` and `keepalive` have nothing to act on, and a body is passed on when it is there.",
    ),
    Row::one(
        "proxy_http_version",
        ALL,
        Apply::Custom(|r, l, d| {
            let versions = [("1.0", ServerVersion::Http10), ("1.1", ServerVersion::Http11), ("2", ServerVersion::Http2)];
            pass(l, HTTP).version = r.word(d, &versions);
        }),
        "1.0",
        "The version of HTTP that servers are asked with: `1.0`, `1.1` or `2`.",
    )
    .differs("With `2` a connection has one request at a time."),
    Row::one("proxy_method", ALL, Apply::Value(|l| &mut pass(l, HTTP).method), "", "The method to ask with."),
    Row::new(
        "proxy_set_header",
        ALL,
        Count::exactly(2),
        Apply::Custom(|r, l, d| r.set_header(&mut pass(l, HTTP).set_headers, d)),
        "Host $proxy_host; Connection close",
        "A field of the request that is passed on; an empty value removes it.",
    )
    .repeats(),
    Row::one("proxy_set_body", ALL, Apply::Value(|l| &mut pass(l, HTTP).set_body), "", "The body to ask with."),
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
            if let Some(pairs) = r.cookie_pair(d, "proxy_cookie_domain", pass(l, HTTP).cookie_domains.take()) {
                pass(l, HTTP).cookie_domains = Some(pairs);
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
            if let Some(pairs) = r.cookie_pair(d, "proxy_cookie_path", pass(l, HTTP).cookie_paths.take()) {
                pass(l, HTTP).cookie_paths = Some(pairs);
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
    Row::flag(
        "proxy_pass_trailers",
        ALL,
        |l| &mut pass(l, HTTP).pass_trailers,
        "off",
        "Fields behind the body of an answer are passed on.",
    ),
    Row::one(
        "slice",
        ALL,
        Apply::Size(|l| &mut l.slice),
        "0",
        "Asks for an answer in parts of so many bytes, where `$slice_range` is passed on as `Range`: `slice 1m; \
         proxy_set_header Range $slice_range;`, with `$slice_range` in the cache's key.",
    )
    .differs("A request with a body is passed on as a whole."),
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
];

pub(super) const GRPC: &[Row] = &[
    Row::one(
        "grpc_pass",
        Context::LOCATION.or(Context::LOCATION_IF),
        Apply::Custom(|r, l, d| r.pass_on(l, Family::Grpc, d)),
        "",
        "Passes requests on to a server of gRPC: `host:port`, `unix:/path`, or a group; `grpc://` may stand in front, \
         and with `grpcs://` TLS is spoken.",
    ),
    Row::new(
        "grpc_set_header",
        ALL,
        Count::exactly(2),
        Apply::Custom(|r, l, d| r.set_header(&mut pass(l, Family::Grpc).set_headers, d)),
        "",
        "A field of the request that is passed on; an empty value removes it.",
    )
    .repeats(),
];

impl<'a> Reader<'a> {
    pub(super) fn set_header(&mut self, fields: &mut Option<SetHeaders>, directive: Directive<'a>) {
        let Some([name, value]) = directive.args.array() else { return };
        let is_token = !name.value.is_empty()
            && name.value.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b));
        if !is_token {
            let text = name.text().into_owned();
            self.error(name.span, format!("invalid header name \"{text}\""));
            return;
        }
        let value = self.value(value);
        Rc::make_mut(fields.get_or_insert_default()).push((name.value.to_vec(), value));
    }

    fn proxy_redirect(&mut self, level: &mut Level, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let (Some(first), second) = (words.next(), words.next()) else { return };
        let Some(second) = second else {
            match first.value {
                b"off" => {
                    if pass(level, HTTP).redirects.is_some() {
                        self.error(directive.name.span, "\"proxy_redirect\" directive is duplicate");
                    }
                    pass(level, HTTP).redirects = Some(Rc::default());
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
        Rc::make_mut(pass(level, HTTP).redirects.get_or_insert_default()).push(redirect);
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
        Rc::make_mut(pass(level, HTTP).redirects.get_or_insert_default()).push(ProxyRedirect::Default);
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
            } else if pass(level, HTTP).cookie_flags.is_some() {
                self.error(directive.name.span, "\"proxy_cookie_flags\" directive is duplicate");
            }
            pass(level, HTTP).cookie_flags = Some(Rc::default());
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
        Rc::make_mut(pass(level, HTTP).cookie_flags.get_or_insert_default()).push((cookie, values));
    }
}
