//! Certificates that come by themselves, by the words of nginx's own module.

use std::net::IpAddr;

use conf_syntax::{Directive, Span, Word};

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};
use crate::model::acme::{
    Ask, Challenge, ExternalAccount, Issuer, Key, Model, ON_DEMAND_NAMES, OnDemand, Order,
};
use crate::model::http::ServerName;
use crate::model::tls::Certificate;

/// Names of one certificate: what Let's Encrypt takes.
const MOST_NAMES: usize = 100;
/// Bytes of the file of a key.
const KEY_SIZE: u64 = 64 * 1024;

/// What stands for the certificate in `ssl_certificate`.
pub(super) const CERTIFICATE: &str = "$acme_certificate";
/// What stands for its key in `ssl_certificate_key`.
pub(super) const CERTIFICATE_KEY: &str = "$acme_certificate_key";

pub(super) const ROWS: &[Row] = &[
    Row::one(
        "acme_issuer",
        Context::HTTP,
        Apply::Custom(|r, l, d| r.acme_issuer(l, d)),
        "",
        "A certification authority that speaks ACME (RFC 8555), and the account with it.",
    )
    .block()
    .repeats(),
    Row::new(
        "acme_certificate",
        Context::SERVER,
        Count::at_least(1),
        Apply::Custom(|r, _, d| r.acme_certificate(d)),
        "",
        "A certificate for this server's names, or for those given, is ordered from an issuer and renewed: `issuer \
         [name …] [key=ecdsa:256]`. `ssl_certificate $acme_certificate` uses it.",
    )
    .differs(
        "Wildcards are possible, by `dns_hook`. Until there is one, a certificate is served that nobody has signed.",
    ),
    Row::new(
        "acme_on_demand",
        Context::SERVER,
        Count::between(2, 4),
        Apply::Custom(|r, _, d| r.acme_on_demand(d)),
        "",
        "Names of this server that clients ask for, and that none of its certificates is ordered for, get certificates of \
         their own in the handshake: `issuer ask=URL|ask=PROGRAM [key=ecdsa:256] [names=1000]`. `ask` is asked first: \
         `URL?domain=NAME` has to be answered with a status of 200 to 299, `PROGRAM NAME` to end with status 0, both \
         within 10 seconds; a no holds for a minute. `names` may have certificates at once; at most 100 are ordered in \
         an hour, and clients wait for one for 30 seconds. `ssl_certificate $acme_certificate` uses them.",
    )
    .ours(),
    Row::one(
        "acme_shared_zone",
        Context::HTTP,
        Apply::Quiet(Argument::Any, "certificates need no shared memory"),
        "",
        "Memory for certificates.",
    ),
    Row::one("uri", Context::ISSUER, custom_text(Text::Uri), "", "The URL of the authority's directory."),
    Row::one(
        "account_key",
        Context::ISSUER,
        custom_text(Text::AccountKey),
        "ecdsa:256",
        "The file of the account's key; without one a key is made and kept.",
    )
    .differs("Keys for ECDSA on P-256 only."),
    Row::one(
        "challenge",
        Context::ISSUER,
        Apply::Custom(|r, _, d| r.acme_challenge(d)),
        "http-01",
        "How control over a name is shown: `http-01`, `tls-alpn-01`, or `dns-01`.",
    )
    .differs("`dns-01` is there, by `dns_hook`."),
    Row::new(
        "contact",
        Context::ISSUER,
        Count::at_least(1),
        Apply::Custom(|r, _, d| r.acme_contact(d)),
        "",
        "Addresses for the authority's messages.",
    ),
    Row::new(
        "external_account_key",
        Context::ISSUER,
        Count::exactly(2),
        Apply::Custom(|r, _, d| r.acme_external(d)),
        "",
        "An account that exists already: the key's identifier, and a file with the key, or `data:KEY`.",
    ),
    Row::one(
        "preferred_chain",
        Context::ISSUER,
        Apply::NotYet("of several chains, the authority's own choice is taken"),
        "",
        "Which of several chains is taken.",
    ),
    Row::new(
        "profile",
        Context::ISSUER,
        Count::between(1, 2),
        Apply::Custom(|r, _, d| r.acme_profile(d)),
        "",
        "The kind of certificate that is asked for.",
    )
    .differs("It is always required."),
    Row::one(
        "ssl_trusted_certificate",
        Context::ISSUER,
        custom_text(Text::Trusted),
        "",
        "Certificates by which the authority's server is verified; else the system's.",
    ),
    Row::one(
        "ssl_verify",
        Context::ISSUER,
        Apply::Custom(|r, _, d| {
            if let Some(word) = d.args.first()
                && let Some(on) = r.flag(word, "ssl_verify")
                && let Some(issuer) = &mut r.acme.current
            {
                issuer.verify = on;
            }
        }),
        "on",
        "Whether it is verified.",
    ),
    Row::one(
        "state_path",
        Context::ISSUER,
        custom_text(Text::State),
        "acme_NAME",
        "The directory for accounts, certificates and keys.",
    )
    .differs("`off` is an error: with each start, authorities would be asked for everything anew."),
    Row::new(
        "accept_terms_of_service",
        Context::ISSUER,
        Count::exactly(0),
        Apply::Custom(|r, _, _| {
            if let Some(issuer) = &mut r.acme.current {
                issuer.accepted_terms = true;
            }
        }),
        "",
        "Agrees to the authority's terms.",
    ),
    Row::new(
        "dns_hook",
        Context::ISSUER,
        Count::at_least(1),
        Apply::Custom(|r, _, d| {
            let words = d.args.iter().map(|word| word.text().into_owned()).collect();
            if let Some(issuer) = &mut r.acme.current {
                issuer.dns_hook = words;
            }
        }),
        "",
        "The program for `dns-01`, which wildcards need: it is run as `… present|cleanup RECORD VALUE`, and returns when \
         the TXT record is there.",
    )
    .ours(),
    Row::one(
        "fallback",
        Context::ISSUER,
        Apply::Custom(|r, _, d| r.acme.fallback = d.args.first().map(|w| (w.text().into_owned(), w.span))),
        "",
        "The issuer that is asked when this one fails.",
    )
    .ours(),
];

/// Texts of an issuer.
#[derive(Clone, Copy)]
enum Text {
    Uri,
    AccountKey,
    Trusted,
    State,
}

const fn custom_text(text: Text) -> Apply {
    match text {
        Text::Uri => Apply::Custom(|r, _, d| r.acme_text(Text::Uri, d)),
        Text::AccountKey => Apply::Custom(|r, _, d| r.acme_text(Text::AccountKey, d)),
        Text::Trusted => Apply::Custom(|r, _, d| r.acme_text(Text::Trusted, d)),
        Text::State => Apply::Custom(|r, _, d| r.acme_text(Text::State, d)),
    }
}

/// What is gathered of ACME.
#[derive(Debug, Default)]
pub(super) struct Acme {
    pub model: Model,
    /// Of each issuer: who is asked next, and where that stands.
    fallbacks: Vec<Option<(String, Span)>>,
    /// The issuer that is being read.
    current: Option<Issuer>,
    fallback: Option<(String, Span)>,
    /// What the server that is being read wants.
    wanted: Option<Wanted>,
    /// And for names that only clients name.
    on_demand: Option<(String, Span, OnDemand)>,
}

#[derive(Debug)]
struct Wanted {
    issuer: String,
    at: Span,
    names: Vec<(String, Span)>,
    key: Key,
}

impl<'a> Reader<'a> {
    fn acme_issuer(&mut self, level: &mut Level, directive: Directive<'a>) {
        let (Some(word), Some(block)) = (directive.args.first(), directive.block) else { return };
        let name = word.text().into_owned();
        if self.acme.model.issuers.iter().any(|issuer| issuer.name == name) {
            self.error(word.span, format!("acme_issuer \"{name}\" is defined twice"));
            return;
        }
        self.acme.current = Some(Issuer {
            directory: String::new(),
            contact: Vec::new(),
            account_key: None,
            challenge: Challenge::Http01,
            external_account: None,
            profile: None,
            trusted: None,
            verify: true,
            state: self.prefix.join(format!("acme_{name}")),
            accepted_terms: false,
            dns_hook: Vec::new(),
            name,
        });
        self.acme.fallback = None;
        self.block(block.directives.iter(), Context::ISSUER, level);
        let Some(issuer) = self.acme.current.take() else { return };
        self.begin(&directive);
        if issuer.directory.is_empty() {
            self.error(directive.head(), format!("\"uri\" is missing in acme_issuer \"{}\"", issuer.name))
                .help(format!("Let's Encrypt's is `uri {};`", crate::model::acme::LETS_ENCRYPT));
        }
        if issuer.challenge == Challenge::Dns01 && issuer.dns_hook.is_empty() {
            self.error(directive.head(), "`challenge dns-01` needs a program for records")
                .help("name it by `dns_hook /path/of/program;`");
        }
        if issuer.account_key.is_some() && (issuer.external_account.is_some() || !issuer.accepted_terms) {
            self.error(
                directive.head(),
                "`account_key` with a file needs `accept_terms_of_service`, and no `external_account_key`",
            );
        }
        self.acme.model.issuers.push(issuer);
        let fallback = self.acme.fallback.take();
        self.acme.fallbacks.push(fallback);
    }

    fn acme_text(&mut self, text: Text, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let value = word.text().into_owned();
        let path = self.prefix.join(&value);
        let conf_path = self.conf_prefix.join(&value);
        let error = match text {
            Text::Uri if !value.starts_with("https://") || value.len() < 10 => {
                Some((format!("\"{value}\" is no URL that begins with https://"), ""))
            }
            Text::AccountKey if matches!(value.split(':').next(), Some("ecdsa" | "rsa")) => {
                let is_right = matches!(&*value, "ecdsa" | "ecdsa:256");
                (!is_right).then(|| {
                    (format!("keys of kind \"{value}\" are not there for accounts"), "write `ecdsa:256`")
                })
            }
            Text::State if value == "off" => {
                Some(("`state_path off` is not supported".to_owned(), "name a directory"))
            }
            _ => None,
        };
        if let Some((message, help)) = error {
            let problem = self.error(word.span, message);
            if !help.is_empty() {
                problem.help(help);
            }
            return;
        }
        let Some(issuer) = &mut self.acme.current else { return };
        match text {
            Text::Uri => issuer.directory = value,
            Text::AccountKey if value.starts_with("ecdsa") => {}
            Text::AccountKey => issuer.account_key = Some(conf_path),
            Text::Trusted => issuer.trusted = Some(conf_path),
            Text::State => issuer.state = path,
        }
    }

    fn acme_challenge(&mut self, directive: Directive<'a>) {
        const KINDS: [(&str, Challenge); 6] = [
            ("http-01", Challenge::Http01),
            ("http", Challenge::Http01),
            ("tls-alpn-01", Challenge::TlsAlpn01),
            ("tls-alpn", Challenge::TlsAlpn01),
            ("dns-01", Challenge::Dns01),
            ("dns", Challenge::Dns01),
        ];
        let kind = self.word(directive, &KINDS);
        if let (Some(kind), Some(issuer)) = (kind, &mut self.acme.current) {
            issuer.challenge = kind;
        }
    }

    fn acme_contact(&mut self, directive: Directive<'a>) {
        let contact = directive.args.iter().map(|word| contact(&word.text())).collect();
        if let Some(issuer) = &mut self.acme.current {
            issuer.contact = contact;
        }
    }

    fn acme_external(&mut self, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let (Some(id), Some(word)) = (words.next(), words.next()) else { return };
        let text = word.text();
        let key = match text.strip_prefix("data:") {
            Some(key) => key.to_owned(),
            None => match read_key(&self.conf_prefix.join(&*text)) {
                Ok(key) => key,
                Err(why) => {
                    self.error(word.span, format!("cannot read the key \"{text}\": {why}"));
                    return;
                }
            },
        };
        let id = id.text().into_owned();
        if let Some(issuer) = &mut self.acme.current {
            issuer.external_account = Some(ExternalAccount { id, key: key.trim().to_owned() });
        }
    }

    fn acme_profile(&mut self, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let name = words.next().map(|word| word.text().into_owned());
        if let Some(word) = words.next()
            && word.value != b"require"
        {
            self.not_one_of(word, &["require"]);
        }
        if let Some(issuer) = &mut self.acme.current {
            issuer.profile = name;
        }
    }

    fn acme_certificate(&mut self, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let Some(issuer) = words.next() else { return };
        let mut wanted =
            Wanted { issuer: issuer.text().into_owned(), at: issuer.span, names: Vec::new(), key: Key::P256 };
        for word in words {
            let text = word.text().into_owned();
            match text.strip_prefix("key=") {
                Some(kind) => match Key::parse(kind) {
                    Some(key) => wanted.key = key,
                    None => {
                        self.invalid_parameter(word).help(
                            "write `key=` and one of ecdsa:256, ecdsa:384, ecdsa:521, rsa:2048, rsa:3072, rsa:4096",
                        );
                    }
                },
                None => wanted.names.push((text, word.span)),
            }
        }
        self.acme.wanted = Some(wanted);
    }

    fn acme_on_demand(&mut self, directive: Directive<'a>) {
        const NAMES: std::ops::RangeInclusive<u32> = 1..=100_000;
        let mut words = directive.args.iter();
        let Some(issuer) = words.next() else { return };
        let (mut ask, mut key, mut names) = (None, Key::P256, ON_DEMAND_NAMES);
        for word in words {
            let text = word.text().into_owned();
            let (name, value) = text.split_once('=').unwrap_or((&text, ""));
            match (name, Key::parse(value), value.parse().ok().filter(|n| NAMES.contains(n))) {
                ("key", Some(kind), _) => key = kind,
                ("names", _, Some(number)) => names = number,
                ("ask", ..) => match Ask::parse(value) {
                    Ok(Ask::Program(path)) => ask = Some(Ask::Program(self.conf_prefix.join(path))),
                    Ok(url) => ask = Some(url),
                    Err(why) => {
                        self.error(word.span, format!("\"{value}\" cannot be asked: {why}"));
                        return;
                    }
                },
                _ => {
                    self.invalid_parameter(word)
                        .help("write `ask=URL`, `ask=PROGRAM`, `key=ecdsa:256`, `names=1000`");
                    return;
                }
            }
        }
        let Some(ask) = ask else {
            self.error(directive.head(), "`acme_on_demand` needs somebody to ask").help(
                "without `ask=URL` or `ask=PROGRAM` anybody could have certificates ordered for any name",
            );
            return;
        };
        let on_demand = OnDemand { name: String::new(), ask, key, issuers: Vec::new(), names };
        self.acme.on_demand = Some((issuer.text().into_owned(), issuer.span, on_demand));
    }

    /// At a server's end: where what it wants on demand stands in the model; equal ones are one.
    pub(super) fn acme_on_demand_index(&mut self) -> Option<u32> {
        let (issuer, at, mut on_demand) = self.acme.on_demand.take()?;
        let first = self.acme_issuer_at(&issuer, at)?;
        if self.acme.model.issuers[first].challenge == Challenge::Dns01 {
            self.error(at, format!("issuer \"{issuer}\" shows control by the DNS")).help(
                "for names that anybody may ask for, only http-01 or tls-alpn-01 shows that they lead here",
            );
            return None;
        }
        on_demand.issuers = self.acme_issuers(first)?;
        on_demand.name = format!("{issuer} {} {} {}", on_demand.ask, on_demand.key.name(), on_demand.names);
        let known = self.acme.model.on_demand.iter().position(|known| *known == on_demand);
        Some(known.unwrap_or_else(|| {
            self.acme.model.on_demand.push(on_demand);
            self.acme.model.on_demand.len() - 1
        }) as u32)
    }

    fn acme_issuer_at(&mut self, name: &str, at: Span) -> Option<usize> {
        let found = self.acme.model.issuers.iter().position(|issuer| issuer.name == name);
        if found.is_none() {
            self.error(at, format!("issuer \"{name}\" is not defined"))
                .help("an `acme_issuer` block in `http` defines it");
        }
        found
    }

    /// At a server's end: what it wants becomes an order, and the order a certificate that servers know by its name.
    pub(super) fn acme_order(&mut self) -> Option<u32> {
        let wanted = self.acme.wanted.take()?;
        let first = self.acme_issuer_at(&wanted.issuer, wanted.at)?;
        let issuers = self.acme_issuers(first)?;
        let has_dns = self.acme.model.issuers[first].challenge == Challenge::Dns01
            || !self.acme.model.issuers[first].dns_hook.is_empty();
        let names =
            if wanted.names.is_empty() { self.names_for_acme(wanted.at, has_dns)? } else { wanted.names };
        let mut identifiers = Vec::new();
        for (name, at) in names {
            match identifier(&name) {
                Ok(name) if name.starts_with("*.") && !has_dns => {
                    self.error(at, format!("a certificate for \"{name}\" needs the DNS"))
                        .help("name a program for records in the issuer: `dns_hook /path/of/program;`");
                    return None;
                }
                Ok(name) if identifiers.contains(&name) => {}
                Ok(name) => identifiers.push(name),
                Err(why) => {
                    self.error(at, format!("no certificate can be ordered for \"{name}\": {why}"));
                    return None;
                }
            }
        }
        if identifiers.len() > MOST_NAMES {
            self.error(wanted.at, format!("a certificate has {MOST_NAMES} names at most"));
            return None;
        }
        let order = Order { name: String::new(), identifiers, key: wanted.key, issuers };
        Some(self.acme_index(order))
    }

    /// The certificate of an order; equal orders are one.
    fn acme_index(&mut self, mut order: Order) -> u32 {
        let certificates = &mut self.offers.model.certificates;
        let orders = &mut self.acme.model.certificates;
        let same = |known: &&Order| {
            (&known.identifiers, known.key, &known.issuers) == (&order.identifiers, order.key, &order.issuers)
        };
        if let Some(known) = orders.iter().find(same)
            && let Some(index) = certificates.iter().position(|c| c.files.is_none() && c.name == known.name)
        {
            return index as u32;
        }
        let first = &order.identifiers[0];
        let is_taken = |name: &str| orders.iter().any(|known| known.name == name);
        order.name = (1..=orders.len() + 1)
            .map(|n| if n == 1 { first.clone() } else { format!("{first} ({n})") })
            .find(|name| !is_taken(name))
            .unwrap_or_default();
        certificates.push(Certificate {
            name: order.name.clone(),
            files: None,
            contents: None,
            stapling: None,
        });
        orders.push(order);
        certificates.len() as u32 - 1
    }

    /// An issuer, and those that are asked after it.
    fn acme_issuers(&mut self, first: usize) -> Option<Vec<u32>> {
        let mut issuers = vec![first as u32];
        let mut last = first;
        while let Some((name, at)) = self.acme.fallbacks.get(last).cloned().flatten() {
            let Some(next) = self.acme.model.issuers.iter().position(|issuer| issuer.name == name) else {
                self.error(at, format!("issuer \"{name}\" is not defined"));
                return None;
            };
            if issuers.contains(&(next as u32)) {
                break;
            }
            issuers.push(next as u32);
            last = next;
        }
        Some(issuers)
    }

    /// The names of the server that is being read, as far as there can be a certificate for them.
    fn names_for_acme(&mut self, at: Span, has_dns: bool) -> Option<Vec<(String, Span)>> {
        let list_of_names = self.sockets.names.last().map(|names| names.list.clone()).unwrap_or_default();
        let mut names = Vec::new();
        for (name, at) in list_of_names {
            let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
            match &name {
                ServerName::Exact(name) if name.is_empty() || name == b"_" => {}
                ServerName::Exact(name) => names.push((text(name), at)),
                ServerName::Leading(rest) => names.push((format!("*.{}", text(rest)), at)),
                ServerName::Dotted(name) => {
                    names.push((text(name), at));
                    if has_dns {
                        names.push((format!("*.{}", text(name)), at));
                    }
                }
                ServerName::Trailing(_) | ServerName::Regex(_) => {
                    self.error(at, "no certificate can be ordered for such a name")
                        .help("name what it is for in `acme_certificate`");
                    return None;
                }
            }
        }
        if names.is_empty() {
            self.error(at, "the server has no name that a certificate could be for").help(
                "give it a `server_name`, or name what it is for: `acme_certificate ISSUER shop.example;`",
            );
            return None;
        }
        Some(names)
    }
}

/// A contact as a URL.
pub(crate) fn contact(text: &str) -> String {
    if text.contains(':') { text.to_owned() } else { format!("mailto:{text}") }
}

/// A name or an address that there may be a certificate for, as it is written in one.
pub(crate) fn identifier(text: &str) -> Result<String, &'static str> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let name = text.to_ascii_lowercase();
    let base = name.strip_prefix("*.").unwrap_or(&name);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.is_ascii() {
        return Err("write its ASCII form (`xn--…`)");
    }
    if base.contains('*') {
        return Err("an asterisk stands for the first label only");
    }
    if base.len() > 253 || !base.split('.').all(is_label) {
        return Err("it is no name of the DNS");
    }
    Ok(name)
}

/// The only line of a small file.
fn read_key(path: &std::path::Path) -> Result<String, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(KEY_SIZE).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// Whether a word stands for the certificate or the key.
pub(super) fn is_variable(word: &Word<'_>) -> bool {
    [CERTIFICATE, CERTIFICATE_KEY].iter().any(|name| name.as_bytes() == word.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_names_or_addresses() {
        for (text, wanted) in [
            ("Shop.Example", "shop.example"),
            ("*.shop.example", "*.shop.example"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(identifier(text).as_deref(), Ok(wanted));
        }
        for text in ["", "a..b", "*.*.a", "a.*.b", "-a.b", "a b", "shöp.example", "a/b", &"a".repeat(64)] {
            assert!(identifier(text).is_err(), "{text}");
        }
    }
}
