//! How requests are passed on in one place, compiled.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use config::model::http::{
    CookieMatch, Family, ProxyRedirect, ProxySettings, Regex as RegexModel, ServerVersion, Value,
};
use exchange::Name;
use routing::Regex;
use upstream::Tls;

use super::identity::Identities;

/// See the module.
pub struct ProxyPlace {
    /// Who is asked.
    pub family: Family,
    /// As the configuration has it.
    pub settings: ProxySettings,
    /// `fastcgi_catch_stderr`
    pub catch: Rc<[Vec<u8>]>,
    /// `fastcgi_split_path_info`
    pub split: Option<Regex>,
    /// Which of the fields that nginx sets by itself the configuration does not.
    pub own: Own,
    /// Fields of answers that are not passed on, of those that have a number.
    hidden: Names,
    /// And of those that have none.
    hidden_others: Vec<Vec<u8>>,
    /// `proxy_redirect`
    pub redirects: Vec<Redirect>,
    /// `proxy_cookie_domain`
    pub cookie_domains: Vec<(Match, Value)>,
    /// `proxy_cookie_path`
    pub cookie_paths: Vec<(Match, Value)>,
    /// `proxy_cookie_flags`
    pub cookie_flags: Vec<(Match, Vec<Value>)>,
    tls: OnceCell<Result<Tls, String>>,
    /// See [`Identities`].
    pub identities: RefCell<Identities>,
}

/// See [`ProxyPlace::own`].
#[derive(Clone, Copy)]
pub struct Own {
    pub host: bool,
    pub connection: bool,
    pub content_length: bool,
    pub transfer_encoding: bool,
    pub te: bool,
}

/// A rule of `proxy_redirect`.
pub enum Redirect {
    /// The URL of the `proxy_pass` by the location's path.
    Default,
    /// A beginning.
    Prefix(Value, Value),
    /// What a pattern matches.
    Regex(Regex, Value),
}

/// Which cookie, or which value of its attribute.
pub enum Match {
    /// This text.
    Text(Value),
    /// What a pattern matches.
    Regex(Regex),
}

/// What nginx does not pass on of an answer.
const HIDDEN: [&[u8]; 5] = [
    b"x-accel-expires",
    b"x-accel-redirect",
    b"x-accel-limit-rate",
    b"x-accel-buffering",
    b"x-accel-charset",
];

/// What of HTTP's own fields it does not pass on either.
const fn hidden(family: Family) -> &'static [&'static [u8]] {
    match family {
        Family::Proxy => &[b"date", b"server", b"x-pad"],
        Family::Grpc => &[b"date", b"server"],
        Family::FastCgi | Family::Scgi => &[b"status"],
        Family::Uwsgi => &[],
    }
}

impl ProxyPlace {
    /// Compiles. What cannot be compiled although it was checked is left out, with a line in the log.
    pub fn compile(family: Family, settings: &ProxySettings) -> Self {
        let sets =
            |name: &str| settings.set_headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        let passes = |name: &[u8]| settings.pass.iter().any(|n| n.eq_ignore_ascii_case(name));
        let own = HIDDEN.iter().chain(hidden(family)).filter(|name| !passes(name)).map(|name| name.to_vec());
        let hidden: Vec<_> = own.chain(settings.hide.iter().cloned()).collect();
        let match_of = |which: &CookieMatch| match which {
            CookieMatch::Text(text) => Some(Match::Text(text.clone())),
            CookieMatch::Regex(regex) => compiled(regex).map(Match::Regex),
        };
        let pairs = |pairs: &[(CookieMatch, Value)]| {
            pairs.iter().filter_map(|(which, to)| Some((match_of(which)?, to.clone()))).collect()
        };
        let is_http1 = family == Family::Proxy && settings.version != ServerVersion::Http2;
        Self {
            own: Own {
                host: !sets("host"),
                connection: !sets("connection") && is_http1,
                te: !sets("te") && family == Family::Grpc,
                content_length: !sets("content-length"),
                transfer_encoding: !sets("transfer-encoding") && is_http1,
            },
            hidden: Names::of(&hidden),
            hidden_others: hidden.into_iter().filter(|name| Name::of(name) == Name::Other).collect(),
            redirects: settings
                .redirects
                .iter()
                .filter_map(|redirect| {
                    Some(match redirect {
                        ProxyRedirect::Default => Redirect::Default,
                        ProxyRedirect::Prefix(from, to) => Redirect::Prefix(from.clone(), to.clone()),
                        ProxyRedirect::Regex(regex, to) => Redirect::Regex(compiled(regex)?, to.clone()),
                    })
                })
                .collect(),
            cookie_domains: pairs(&settings.cookie_domains),
            cookie_paths: pairs(&settings.cookie_paths),
            cookie_flags: settings
                .cookie_flags
                .iter()
                .filter_map(|(which, flags)| Some((match_of(which)?, flags.clone())))
                .collect(),
            tls: OnceCell::new(),
            identities: RefCell::default(),
            family,
            catch: settings.gateway.catch_stderr.as_slice().into(),
            split: settings.gateway.split.as_ref().and_then(compiled),
            settings: settings.clone(),
        }
    }

    /// How TLS is spoken, made when it is first needed; where variables say who we are, as nobody.
    pub fn tls(&self) -> Result<&Tls, &str> {
        self.tls
            .get_or_init(|| Tls::new(&self.settings.tls, self.is_http2()))
            .as_ref()
            .map_err(String::as_str)
    }

    /// Whether HTTP/2 is spoken.
    pub fn is_http2(&self) -> bool {
        match self.family {
            Family::Grpc => true,
            Family::Proxy => self.settings.version == ServerVersion::Http2,
            Family::FastCgi | Family::Uwsgi | Family::Scgi => false,
        }
    }

    /// Whether a body may be passed on as it comes whose length is not known.
    pub fn takes_chunks(&self) -> bool {
        match self.family {
            Family::Proxy => self.settings.version != ServerVersion::Http10,
            Family::FastCgi | Family::Grpc => true,
            // The length stands before it.
            Family::Uwsgi | Family::Scgi => false,
        }
    }

    /// Whether a field of the client's request is passed on as it came.
    pub fn passes_on(&self, known: Name, name: &[u8]) -> bool {
        let is_ours = matches!(
            known,
            Name::Host
                | Name::Connection
                | Name::ContentLength
                | Name::TransferEncoding
                | Name::Te
                | Name::KeepAlive
                | Name::Expect
                | Name::Upgrade
        );
        !is_ours && !self.sets(name)
    }

    /// Whether the configuration says what this field of requests is.
    pub fn sets(&self, name: &[u8]) -> bool {
        self.settings.set_headers.iter().any(|(set, _)| set.eq_ignore_ascii_case(name))
    }

    /// Whether a field of an answer is not passed on.
    pub fn hides(&self, known: Name, name: &[u8]) -> bool {
        match known {
            Name::Other => self.hidden_others.iter().any(|hidden| hidden.eq_ignore_ascii_case(name)),
            known => self.hidden.has(known),
        }
    }
}

/// A set of fields that have a number: a bit each.
#[derive(Clone, Copy)]
struct Names(u128);

impl Names {
    fn of(names: &[Vec<u8>]) -> Self {
        let known = names.iter().map(|name| Name::of(name)).filter(|name| *name != Name::Other);
        Self(known.fold(0, |all, name| all | 1 << name as u8))
    }

    fn has(self, name: Name) -> bool {
        self.0 >> name as u8 & 1 != 0
    }
}

fn compiled(regex: &RegexModel) -> Option<Regex> {
    super::super::place::told(Regex::compile(regex))
}
