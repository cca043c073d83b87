//! `sticky`: clients come back to their servers.

use std::time::Duration;

use conf_syntax::{Directive, Word};

use super::reader::Reader;
use super::units;
use crate::model::http::{Part, Sticky, StickyCookie, StickyExpires, StickyLearn, Value, Variable};

/// What nginx wants at least: eight pages.
const SMALLEST: u64 = 8 * 4096;
/// What `samesite` may be.
const SAME_SITE: [&[u8]; 3] = [b"strict", b"lax", b"none"];

impl<'a> Reader<'a> {
    pub(super) fn upstream_sticky(&mut self, directive: Directive<'a>) {
        let Some(kind) = directive.args.first() else { return };
        let words: Vec<Word<'a>> = directive.args.iter().skip(1).collect();
        let sticky = match kind.value {
            b"cookie" => self.sticky_cookie(&words).map(Sticky::Cookie),
            b"route" => {
                let mut values = Vec::new();
                for word in words {
                    if word.value.starts_with(b"$") {
                        values.push(self.value(word));
                    } else {
                        let text = word.text().into_owned();
                        self.error(word.span, format!("invalid variable name \"{text}\""));
                    }
                }
                Some(Sticky::Route(values))
            }
            b"learn" => self.sticky_learn(directive, &words).map(Sticky::Learn),
            _ => {
                self.unknown_parameter(kind, "it is `cookie`, `route` or `learn`");
                None
            }
        };
        if let Some(sticky) = sticky {
            self.set_sticky(sticky);
        }
    }

    fn unknown_parameter(&mut self, word: Word<'a>, help: &str) {
        let text = word.text().into_owned();
        self.error(word.span, format!("unknown parameter \"{text}\"")).help(help.to_owned());
    }

    fn sticky_cookie(&mut self, words: &[Word<'a>]) -> Option<StickyCookie> {
        let (name, rest) = words.split_first()?;
        if name.value.is_empty() {
            self.error(name.span, "empty cookie name");
            return None;
        }
        let is_name = |byte: &u8| byte.is_ascii_graphic() && !b"=;,\"\\".contains(byte);
        if !name.value.iter().all(is_name) {
            self.error(name.span, "what is no name of a cookie").help("letters, digits, `-` and `_` are one");
            return None;
        }
        let mut cookie = StickyCookie { name: name.value.to_vec(), ..StickyCookie::default() };
        for word in rest.iter().copied() {
            let (key, value) = split(word.value);
            let offset = word.value.len() - value.map_or(0, <[u8]>::len);
            let is_again = match (key, value) {
                (b"domain" | b"path", Some(b"")) => {
                    let key = String::from_utf8_lossy(key).into_owned();
                    self.error(word.span, format!("no value for \"{key}\""));
                    return None;
                }
                (b"domain", Some(value)) => {
                    let value = self.value_of(value, word, offset);
                    cookie.domain.replace(value).is_some()
                }
                (b"path", Some(value)) if value.iter().all(|b| (b' '..0x7f).contains(b) && *b != b';') => {
                    cookie.path.replace(value.to_vec()).is_some()
                }
                (b"path", Some(_)) => {
                    self.error(word.span, "invalid \"path\" parameter value");
                    return None;
                }
                (b"expires", Some(b"max")) => cookie.expires.replace(StickyExpires::Max).is_some(),
                (b"expires", Some(value)) => {
                    let Some(time) = units::seconds(value) else {
                        self.error(word.span, "invalid \"expires\" parameter value");
                        return None;
                    };
                    cookie.expires.replace(StickyExpires::After(time)).is_some()
                }
                (b"httponly", None) => std::mem::replace(&mut cookie.httponly, true),
                (b"secure", None) => std::mem::replace(&mut cookie.secure, true),
                (b"samesite", Some(text)) => {
                    let value = self.value_of(text, word, offset);
                    let is_known =
                        |text: &[u8]| SAME_SITE.iter().any(|known| known.eq_ignore_ascii_case(text));
                    if value.as_text().is_some_and(|text| !is_known(text)) {
                        self.error(word.span, "invalid \"samesite\" parameter value")
                            .help("it is `strict`, `lax` or `none`");
                        return None;
                    }
                    cookie.samesite.replace(value).is_some()
                }
                _ => {
                    self.unknown_parameter(
                        word,
                        "it takes `expires=`, `domain=`, `path=`, `httponly`, `secure`, `samesite=`",
                    );
                    return None;
                }
            };
            if is_again {
                let key = String::from_utf8_lossy(key).into_owned();
                self.error(word.span, format!("parameter \"{key}\" is duplicate"));
                return None;
            }
        }
        Some(cookie)
    }

    fn sticky_learn(&mut self, directive: Directive<'a>, words: &[Word<'a>]) -> Option<StickyLearn> {
        let mut learn = StickyLearn {
            create: Vec::new(),
            lookup: Vec::new(),
            zone: String::new(),
            size: 0,
            timeout: Duration::from_secs(600),
            header: false,
        };
        for word in words.iter().copied() {
            let (key, value) = split(word.value);
            match (key, value) {
                (b"create" | b"lookup", Some(value)) => {
                    if !value.starts_with(b"$") {
                        let key = String::from_utf8_lossy(key).into_owned();
                        self.error(word.span, format!("missing variable in the \"{key}\" parameter"));
                        return None;
                    }
                    let parsed = self.value_of(value, word, key.len() + 1);
                    let into = if key == b"create" { &mut learn.create } else { &mut learn.lookup };
                    into.push(parsed);
                }
                (b"zone", Some(value)) => {
                    let Some(at) = value.iter().position(|b| *b == b':') else {
                        self.error(word.span, "zone size is not specified").help("write `zone=name:1m`");
                        return None;
                    };
                    learn.zone = String::from_utf8_lossy(&value[..at]).into_owned();
                    let size = units::size(&value[at + 1..]);
                    let wrong = match size {
                        _ if learn.zone.is_empty() => Some("zone name is not specified"),
                        None => Some("invalid zone size"),
                        Some(size) if size < SMALLEST => Some("zone is too small"),
                        Some(_) => None,
                    };
                    if let Some(wrong) = wrong {
                        self.error(word.span, wrong).help("write `zone=name:1m`");
                        return None;
                    }
                    learn.size = size.unwrap_or(SMALLEST);
                    if let Some(other) = self.learns_in(&learn.zone).map(str::to_owned) {
                        let zone = &learn.zone;
                        let message =
                            format!("sticky zone \"{zone}\" is already used in upstream \"{other}\"");
                        self.error(word.span, message);
                        return None;
                    }
                }
                (b"timeout", Some(value)) => {
                    let Some(time) = units::millis(value).filter(|time| !time.is_zero()) else {
                        self.error(word.span, "invalid timeout");
                        return None;
                    };
                    learn.timeout = time;
                }
                (b"header", None) => learn.header = true,
                // nginx's paid edition has it for clusters: alone there is nobody to tell.
                (b"sync", None) => {
                    self.note(word.span, "`sync` changes nothing: there is no cluster");
                }
                _ => {
                    self.unknown_parameter(
                        word,
                        "it takes `create=`, `lookup=`, `zone=`, `timeout=` and `header`",
                    );
                    return None;
                }
            }
        }
        let missing = match &learn {
            learn if learn.lookup.is_empty() => "lookup",
            learn if learn.create.is_empty() => "create",
            learn if learn.size == 0 => "zone",
            _ => return Some(learn),
        };
        self.error(directive.head(), format!("\"{missing}\" parameter is not specified"));
        None
    }
}

/// The cookie that names the server.
pub fn cookie_value(cookie: &StickyCookie) -> Value {
    Value(vec![Part::Variable(Variable::Cookie(cookie.name.clone()))])
}

fn split(word: &[u8]) -> (&[u8], Option<&[u8]>) {
    match word.iter().position(|b| *b == b'=') {
        Some(at) => (&word[..at], Some(&word[at + 1..])),
        None => (word, None),
    }
}
