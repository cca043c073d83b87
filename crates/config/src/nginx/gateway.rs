//! `fastcgi_pass`, `uwsgi_pass`, `scgi_pass`: requests are passed on to servers that take them as variables, as CGI has
//! them. [`super::pass`] has what they share with `proxy_pass`.

use std::rc::Rc;

use conf_syntax::Directive;

use super::level::Level;
use super::pass::{PassLevel, pass};
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};
use super::upstream::{HostError, Url};
use crate::gunicorn::nearest::nearest;
use crate::model::http::{Content, Family, GatewayParam, Matcher, ProxyPass, ProxyTarget};

const ALL: Context = Context::ALL;
/// Where requests may be passed on.
const PASS: Context = Context::LOCATION.or(Context::LOCATION_IF);

/// The row of one kind's variables.
macro_rules! param {
    ($prefix:literal, $family:expr) => {
        Row::new(
            concat!($prefix, "_param"),
            ALL,
            Count::between(2, 3),
            Apply::Custom(|r, l, d| r.gateway_param(pass(l, $family), d)),
            "",
            "A variable that the server is told, and its value; with `if_not_empty` only if that is not empty. One that \
             is called `HTTP_…` takes the place of the client's field of that name.",
        )
        .repeats()
        .differs(
            "The client's field `Proxy` is not handed on, as `HTTP_PROXY` would mean something else to libraries.",
        )
    };
}

pub(super) const FASTCGI: &[Row] = &[
    Row::one(
        "fastcgi_pass",
        PASS,
        Apply::Custom(|r, l, d| r.pass_on(l, Family::FastCgi, d)),
        "",
        "Passes requests on by FastCGI: `host:port`, `unix:/path`, or a group.",
    ),
    param!("fastcgi", Family::FastCgi),
    Row::one(
        "fastcgi_index",
        ALL,
        Apply::Text(|l| &mut pass(l, Family::FastCgi).index),
        "",
        "What `$fastcgi_script_name` has behind a path that ends with a slash.",
    ),
    Row::one(
        "fastcgi_split_path_info",
        ALL,
        Apply::Custom(|r, l, d| r.gateway_split(pass(l, Family::FastCgi), d)),
        "",
        "A pattern with two groups: what they match of the path is `$fastcgi_script_name` and `$fastcgi_path_info`.",
    )
.repeats(),
    Row::one(
        "fastcgi_catch_stderr",
        ALL,
        Apply::Custom(|_, l, d| {
            let texts = Rc::make_mut(pass(l, Family::FastCgi).catch_stderr.get_or_insert_default());
            texts.extend(d.args.first().map(|w| w.value.to_vec()));
        }),
        "",
        "If a server complains with this text before it answers, the answer counts as invalid.",
    )
    .repeats(),
    Row::flag(
        "fastcgi_keep_conn",
        ALL,
        |l| &mut pass(l, Family::FastCgi).keep_conn,
        "off",
        "Servers are asked to keep connections, for `keepalive` of the group.",
    ),
    Row::one(
        "fastcgi_send_lowat",
        ALL,
        Apply::Quiet(Argument::Size, "Linux has no such limit, and nginx ignores it there too"),
        "0",
        "Bytes that a socket takes at least.",
    ),
];

pub(super) const UWSGI: &[Row] = &[
    Row::one(
        "uwsgi_pass",
        PASS,
        Apply::Custom(|r, l, d| r.pass_on(l, Family::Uwsgi, d)),
        "",
        "Passes requests on by uwsgi: `host:port`, `unix:/path`, or a group; `uwsgi://` may stand in front, and with \
         `suwsgi://` TLS is spoken.",
    ),
    param!("uwsgi", Family::Uwsgi),
    Row::one(
        "uwsgi_modifier1",
        ALL,
        Apply::Custom(|r, l, d| pass(l, Family::Uwsgi).modifier1 = r.gateway_modifier(d)),
        "0",
        "The first modifier of requests: which plugin of the server they are for.",
    ),
    Row::one(
        "uwsgi_modifier2",
        ALL,
        Apply::Custom(|r, l, d| pass(l, Family::Uwsgi).modifier2 = r.gateway_modifier(d)),
        "0",
        "The second modifier of requests.",
    ),
    Row::one(
        "uwsgi_string",
        ALL,
        Apply::Text(|l| &mut pass(l, Family::Uwsgi).string),
        "",
        "Bytes behind the variables of a request.",
    ),
];

pub(super) const SCGI: &[Row] = &[
    Row::one(
        "scgi_pass",
        PASS,
        Apply::Custom(|r, l, d| r.pass_on(l, Family::Scgi, d)),
        "",
        "Passes requests on by SCGI: `host:port`, `unix:/path`, or a group.",
    ),
    param!("scgi", Family::Scgi),
];

impl<'a> Reader<'a> {
    /// `proxy_pass`, `fastcgi_pass` and so on.
    pub(super) fn pass_on(&mut self, level: &mut Level, family: Family, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        if level.content.is_some() {
            let name = directive.name.text().into_owned();
            self.error(directive.name.span, format!("\"{name}\" directive is duplicate"))
                .help("something else answers here already");
            return;
        }
        let value = self.value(word);
        let target = match value.as_text() {
            Some(text) => self.fixed_target(family, word, text),
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
            let without_slash = match &target {
                ProxyTarget::Fixed { uri, url, .. } if uri == b"/" => {
                    let url = String::from_utf8_lossy(url);
                    Some(format!("write it without the `/` at the end: `{}`", url.trim_end_matches('/')))
                }
                _ => None,
            };
            self.error(
                word.span,
                "\"proxy_pass\" cannot have URI part in location given by regular expression, or inside named \
                 location, or inside \"if\" statement, or inside \"limit_except\" block",
            )
            .help = without_slash;
            return;
        }
        level.content = Some(Content::Proxy(self.proxies.len() as u32));
        let own = pass(level, family);
        own.used = Some(true);
        own.tls = match &target {
            ProxyTarget::Fixed { https, .. } => https.then_some(true),
            ProxyTarget::Variable(_) => Some(true),
        };
        self.proxies.push(ProxyPass { family, target, location, app: None });
        self.passes_at.push(directive.head());
    }

    /// A URL without variables.
    fn fixed_target(
        &mut self,
        family: Family,
        word: conf_syntax::Word<'a>,
        text: &[u8],
    ) -> Option<ProxyTarget> {
        let Some((https, rest)) = family.split_scheme(text) else {
            let name = String::from_utf8_lossy(text).into_owned();
            let help = match self.app_instead(&name) {
                Some(help) => help,
                None if name.is_empty() || name.contains("://") => "it begins with `http://`".to_owned(),
                None if name.starts_with('/') => format!("write `http://unix:{name}` for a socket"),
                None => format!("it begins with `http://`: write `http://{name}`"),
            };
            self.error(word.span, "invalid URL prefix").help(help);
            return None;
        };
        let parsed = std::str::from_utf8(rest)
            .map_err(|_| "invalid host")
            .and_then(|rest| Url::parse(rest, family == Family::Proxy));
        let url = match parsed {
            Ok(url) => url,
            Err(why) => {
                let shown = String::from_utf8_lossy(rest).into_owned();
                self.error(word.span, format!("{why} in upstream \"{shown}\""));
                return None;
            }
        };
        let (host, port) = url.shown(family.port(https).unwrap_or(0));
        let uri = url.uri.as_bytes().to_vec();
        let upstream = match self.upstream_for(&url, family.port(https)) {
            Ok(id) => id,
            Err(HostError::NotFound) if self.misplaced_groups.iter().any(|g| g == url.host.as_bytes()) => {
                return None;
            }
            Err(error) => {
                let message = match error {
                    HostError::NotFound => format!("host not found in upstream \"{}\"", url.text),
                    HostError::Port(port) => format!("upstream \"{}\" may not have port {port}", url.host),
                    HostError::NoPort => format!("no port in upstream \"{}\"", url.text),
                };
                let groups = self.upstreams.iter().filter(|u| !u.implicit).map(|u| u.name.as_str());
                let near =
                    nearest(url.host, groups).map(|near| format!("did you mean the upstream `{near}`?"));
                let near = self.app_instead(url.host).or(near);
                let problem = self.error(word.span, message);
                if let (HostError::NotFound | HostError::NoPort, Some(near)) = (error, near) {
                    problem.help(near);
                }
                return None;
            }
        };
        Some(ProxyTarget::Fixed { url: text.to_vec(), https, upstream, host, port, uri })
    }

    /// What to write where an application is named in the place of a server.
    fn app_instead(&self, name: &str) -> Option<String> {
        let is_app = self.apps.iter().any(|app| app.name == name);
        is_app.then(|| format!("`{name}` is an application: write `app_pass {name};`"))
    }

    fn gateway_param(&mut self, level: &mut PassLevel, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let (Some(name), Some(value)) = (words.next(), words.next()) else { return };
        let if_not_empty = match words.next() {
            None => false,
            Some(word) if word.value == b"if_not_empty" => true,
            Some(word) => {
                self.invalid_parameter(word).help("write `if_not_empty`, or nothing");
                return;
            }
        };
        if name.value.is_empty() || name.value.contains(&0) {
            self.error(name.span, "a variable has to have a name");
            return;
        }
        let param = GatewayParam { name: name.value.to_vec(), value: self.value(value), if_not_empty };
        Rc::make_mut(level.params.get_or_insert_default()).push(param);
    }

    fn gateway_split(&mut self, level: &mut PassLevel, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let regex = self.regex(word.value, false, word, 0);
        if crate::pattern::groups(word.value).is_some_and(|groups| groups != 2) {
            let text = word.text().into_owned();
            self.error(word.span, format!("pattern \"{text}\" must have 2 captures"))
                .help(r"for example `^(.+\.php)(/.*)$`");
            return;
        }
        level.split = Some(regex);
    }

    fn gateway_modifier(&mut self, directive: Directive<'a>) -> Option<u8> {
        let word = directive.args.first()?;
        let name = directive.name.text().into_owned();
        let number = self.number(word, &name)?;
        let modifier = u8::try_from(number).ok();
        if modifier.is_none() {
            self.error(word.span, "value must be between 0 and 255");
        }
        modifier
    }
}
