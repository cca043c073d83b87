//! `health_check` and `match`: servers are looked at without a client; `upstream_status`: what is known of them.

use std::time::Duration;

use conf_syntax::{Directive, Word};

use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use super::units;
use crate::model::http::{
    Content, Family, HeaderIs, HeaderMatch, HealthCheck, HealthMatch, ProxyTarget, SettingsId,
};

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "health_check",
        Context::LOCATION,
        Count::at_least(0),
        Apply::Custom(|r, _, d| r.health_check(d)),
        "",
        "The servers of the location's `proxy_pass` are looked at: `interval=5s`, `jitter=`, `fails=1`, `passes=1`, \
         `uri=/`, `match=name`, `mandatory`, `persistent`, `port=`, `keepalive_time=`.",
    )
    .differs("Without `match`, statuses from 200 to 399 are healthy. Nothing but HTTP is looked at."),
    Row::new(
        "match",
        Context::HTTP,
        Count::exactly(1),
        Apply::Custom(|r, _, d| r.match_block(d)),
        "",
        "What an answer to a `health_check` must be: `status 200 301-303`, `status ! 500`, `header Name = value`, \
         `header Name ~ pattern`, `header ! Name`, `body ~ pattern`, `require $variable …` (neither empty nor `0`); all of it.",
    )
    .block()
    .repeats()
    .differs("`require` sees what is known of the answer (`$upstream_…`, `$status`), and what `map` makes of it."),
    Row::new(
        "upstream_status",
        Context::LOCATION,
        Count::exactly(0),
        Apply::Custom(|_, l, _| l.content = Some(Content::UpstreamStatus)),
        "",
        "Answers with all groups of servers, all caches, and until when certificates are good: as text, as JSON where \
         `format=json` or `Accept: application/json` asks for it, for Prometheus with `format=prometheus`.",
    )
    .ours(),
];

/// A check of the location that is being read, before it is known whom it is for.
pub(super) struct Check<'a> {
    word: Word<'a>,
    matches: Option<(String, Word<'a>)>,
    model: HealthCheck,
}

impl<'a> Reader<'a> {
    fn health_check(&mut self, directive: Directive<'a>) {
        let mut check = HealthCheck {
            upstream: 0,
            https: false,
            host: Vec::new(),
            settings: 0,
            interval: Duration::from_secs(5),
            jitter: Duration::ZERO,
            fails: 1,
            passes: 1,
            uri: b"/".to_vec(),
            matches: None,
            mandatory: false,
            persistent: false,
            port: None,
            keepalive_time: None,
        };
        let mut matches = None;
        for word in directive.args {
            let (key, value) = match word.value.iter().position(|b| *b == b'=') {
                Some(at) => (&word.value[..at], &word.value[at + 1..]),
                None => (word.value, &b""[..]),
            };
            let number = || units::number(value).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
            let is_set = match key {
                b"interval" => {
                    let time = units::millis(value).filter(|time| *time >= SHORTEST);
                    time.map(|time| check.interval = time).is_some()
                }
                b"jitter" => units::millis(value).map(|time| check.jitter = time).is_some(),
                b"fails" => number().map(|n| check.fails = n).is_some(),
                b"passes" => number().map(|n| check.passes = n).is_some(),
                b"port" => {
                    number().and_then(|n| u16::try_from(n).ok()).map(|port| check.port = Some(port)).is_some()
                }
                b"keepalive_time" => {
                    units::millis(value).map(|time| check.keepalive_time = Some(time)).is_some()
                }
                b"uri" => {
                    let is_one = value.starts_with(b"/") && value.iter().all(u8::is_ascii_graphic);
                    if is_one {
                        check.uri = value.to_vec();
                    }
                    is_one
                }
                b"match" if !value.is_empty() => {
                    matches = Some((String::from_utf8_lossy(value).into_owned(), word));
                    true
                }
                b"mandatory" if value.is_empty() => {
                    check.mandatory = true;
                    true
                }
                b"persistent" if value.is_empty() => {
                    check.persistent = true;
                    true
                }
                b"type" if value == b"http" => true,
                _ => false,
            };
            if !is_set {
                self.invalid_parameter(word).help(
                    "it takes `interval=5s`, `jitter=1s`, `fails=1`, `passes=1`, `uri=/`, `match=name`, \
                     `mandatory`, `persistent`, `port=`, `keepalive_time=`",
                );
            }
        }
        if check.persistent && !check.mandatory {
            self.error(directive.head(), "\"persistent\" makes sense with \"mandatory\" only");
        }
        self.checks.push(Check { word: directive.name, matches, model: check });
    }

    /// The location whose checks were read has this content and these settings.
    pub(super) fn place_checks(&mut self, checks: Vec<Check<'a>>, content: &Content, settings: SettingsId) {
        for Check { word, matches, model: mut check } in checks {
            let Content::Proxy(index) = content else {
                self.error(word.span, "\"health_check\" has no \"proxy_pass\" beside it");
                continue;
            };
            let pass = self.proxies.get(*index as usize);
            if pass.is_some_and(|pass| pass.family != Family::Proxy) {
                self.error(word.span, "\"health_check\" is there for \"proxy_pass\" only");
                continue;
            }
            let Some(ProxyTarget::Fixed { upstream, https, host, .. }) = pass.map(|pass| &pass.target) else {
                self.error(word.span, "\"health_check\" cannot be used with variables in \"proxy_pass\"");
                continue;
            };
            (check.upstream, check.https, check.host) = (*upstream, *https, host.clone());
            check.settings = settings;
            if let Some((name, at)) = matches {
                check.matches = self.matches.iter().position(|known| known.name == name).map(|at| at as u32);
                if check.matches.is_none() {
                    self.error(at.span, format!("match \"{name}\" is not defined"));
                }
            }
            self.health_checks.push(check);
        }
    }

    fn match_block(&mut self, directive: Directive<'a>) {
        let (Some(name), Some(block)) = (directive.args.first(), directive.block) else { return };
        let mut found = HealthMatch { name: name.text().into_owned(), ..HealthMatch::default() };
        if self.matches.iter().any(|known| known.name == found.name) {
            self.error(name.span, format!("duplicate match \"{}\"", found.name));
            return;
        }
        for test in block.directives {
            let words: Vec<Word<'a>> = test.args.iter().collect();
            let is_set = match test.name.value {
                b"status" => self.match_status(&words).map(|status| found.status = Some(status)),
                b"header" => self.match_header(&words).map(|header| found.headers.push(header)),
                b"body" => match words[..] {
                    [tilde, pattern] if matches!(tilde.value, b"~" | b"!~") => {
                        let regex = self.regex(pattern.value, false, pattern, 0);
                        found.body = Some((tilde.value == b"!~", regex));
                        Some(())
                    }
                    _ => None,
                },
                b"require" if words.iter().all(|word| word.value.starts_with(b"$")) => {
                    found.require.extend(words.iter().map(|word| self.value(*word)));
                    (!words.is_empty()).then_some(())
                }
                _ => None,
            };
            if is_set.is_none() {
                let text = test.name.text().into_owned();
                self.error(test.head(), format!("invalid \"{text}\" in match")).help(
                    "it is `status 200 300-399;`, `status ! 500;`, `header Name;`, `header ! Name;`, \
                     `header Name = value;`, `header Name ~ pattern;` (also `!=`, `!~`), `body ~ pattern;`, `body !~ \
                     pattern;` or `require $variable;`",
                );
            }
        }
        self.matches.push(found);
    }

    #[expect(clippy::unused_self, reason = "beside the others")]
    fn match_status(&mut self, words: &[Word<'a>]) -> Option<(bool, Vec<(u16, u16)>)> {
        let not = words.first().is_some_and(|word| word.value == b"!");
        let ranges = words.iter().skip(usize::from(not)).map(|word| {
            let text = std::str::from_utf8(word.value).ok()?;
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            ((100..1000).contains(&first) && first <= last).then_some((first, last))
        });
        let ranges: Option<Vec<_>> = ranges.collect();
        ranges.filter(|ranges| !ranges.is_empty()).map(|ranges| (not, ranges))
    }

    fn match_header(&mut self, words: &[Word<'a>]) -> Option<HeaderMatch> {
        let (name, not, is) = match *words {
            [not, name] if not.value == b"!" => (name, true, HeaderIs::There),
            [name] => (name, false, HeaderIs::There),
            [name, sign, value] => match sign.value {
                b"=" | b"!=" => (name, sign.value == b"!=", HeaderIs::Equal(value.value.to_vec())),
                b"~" | b"!~" => {
                    let regex = self.regex(value.value, false, value, 0);
                    (name, sign.value == b"!~", HeaderIs::Regex(regex))
                }
                _ => return None,
            },
            _ => return None,
        };
        Some(HeaderMatch { name: name.value.to_ascii_lowercase(), not, is })
    }
}

/// Between two looks.
const SHORTEST: Duration = Duration::from_millis(10);
