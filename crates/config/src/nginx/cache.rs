//! The cache: where answers are kept (`proxy_cache_path`), which, and for how long. The same words stand for each kind
//! of server that answers can come from, with another beginning: [`PROXY`],
//! [`APP`].

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use conf_syntax::{Directive, Span, Word};

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use super::units;
use crate::model::http::{
    CacheId, CacheKind, CacheName, CachePace, CacheSettings, CacheZone, Content, NextUpstream, Source, Value,
    Variable,
};
use crate::model::tls::Verify;

const ALL: Context = Context::ALL;

/// The rows of one beginning.
macro_rules! rows {
    ($prefix:literal, $kind:expr, $ours:literal) => {
        &[
            own($ours, Row::new(
                concat!($prefix, "_cache_path"),
                Context::HTTP,
                Count::at_least(2),
                Apply::Custom(|r, _, d| r.cache_path(d)),
                "",
                "A directory for answers, and its zone: `/path keys_zone=name:10m levels=1:2 inactive=10m max_size=1g \
                 min_free=100m`.",
            )
            .repeats()
            .differs("Files are always written beside where they come to lie: `use_temp_path` changes nothing.")),
            own($ours, Row::one(
                concat!($prefix, "_cache"),
                ALL,
                Apply::Custom(|r, l, d| {
                    r.cache(cache(l, $kind), d);
                    r.not_both(l, $kind, d);
                }),
                "off",
                "The zone where answers are kept; its name may have variables.",
            )
            .differs(
                "What a request with `Authorization` has brought is kept only where RFC 9111 §3.5 allows it, or where \
                 the key tells users apart.",
            )),
            own($ours, Row::one(
                concat!($prefix, "_cache_key"),
                ALL,
                Apply::Value(|l| &mut cache(l, $kind).key),
                "who is asked, and for what",
                "What makes two requests the same.",
            )
            .differs(
                "A host or scheme that `proxy_set_header` passes on is part of the default. Whatever the key, requests \
                 that differ in fields such as `X-Forwarded-Host` or `X-HTTP-Method-Override` and pass them on are not \
                 the same, a GET with a body is neither answered from the cache nor kept, and 304, 412 and 416 are not \
                 kept, nor 206 unless `$slice_range` or `$http_range` is in the key.",
            )),
            own($ours, Row::new(
                concat!($prefix, "_cache_valid"),
                ALL,
                Count::at_least(1),
                Apply::Custom(|r, l, d| r.cache_valid(cache(l, $kind), d)),
                "",
                "How long answers hold that do not say so themselves: `200 302 10m`; `any 1m`; a time alone is for 200, \
                 301 and 302.",
            )
            .repeats()),
            own($ours, Row::new(
                concat!($prefix, "_cache_methods"),
                ALL,
                Count::at_least(1),
                Apply::Custom(|r, l, d| r.cache_methods(cache(l, $kind), d)),
                "GET HEAD",
                "Requests with which methods are answered from the cache.",
            )
.repeats()),
            own($ours, Row::one(
                concat!($prefix, "_cache_min_uses"),
                ALL,
                Apply::Number(|l| &mut cache(l, $kind).min_uses),
                "1",
                "The request from which on an answer is kept.",
            )),
            own($ours, Row::new(
                concat!($prefix, "_cache_bypass"),
                ALL,
                Count::at_least(1),
                Apply::Custom(|r, l, d| r.cache_values(&mut cache(l, $kind).bypass, d)),
                "",
                "A request is not answered from the cache if one of these is neither empty nor `0`.",
            )
.repeats()),
            own($ours, Row::new(
                concat!($prefix, "_no_cache"),
                ALL,
                Count::at_least(1),
                Apply::Custom(|r, l, d| r.cache_values(&mut cache(l, $kind).no_cache, d)),
                "",
                "An answer is not kept if one of these is neither empty nor `0`.",
            )
.repeats()),
            own($ours, Row::flag(
                concat!($prefix, "_cache_lock"),
                ALL,
                |l| &mut cache(l, $kind).lock,
                if $ours { "on" } else { "off" },
                "Of simultaneous requests for what is not there one is passed on, the others wait.",
            )),
            own($ours, Row::one(
                concat!($prefix, "_cache_lock_timeout"),
                ALL,
                Apply::Millis(|l| &mut cache(l, $kind).lock_timeout),
                if $ours { "60s" } else { "5s" },
                "How long they wait; then they are passed on, and their answers not kept.",
            )),
            own($ours, Row::one(
                concat!($prefix, "_cache_lock_age"),
                ALL,
                Apply::Millis(|l| &mut cache(l, $kind).lock_age),
                if $ours { "60s" } else { "5s" },
                if $ours {
                    "After how long without an answer one more is passed on. Where the application's `timeout` is \
                     longer, give this and `app_cache_lock_timeout` at least as long."
                } else {
                    "After how long without an answer one more is passed on."
                },
            )),
            own($ours, Row::new(
                concat!($prefix, "_cache_use_stale"),
                ALL,
                Count::at_least(1),
                Apply::Custom(|r, l, d| r.cache_use_stale(cache(l, $kind), d)),
                "off",
                "When an answer is sent although it does not hold any more: `error`, `timeout`, `invalid_header`, \
                 `updating`, `http_500` and so on.",
            )
.repeats()),
            own($ours, Row::flag(
                concat!($prefix, "_cache_background_update"),
                ALL,
                |l| &mut cache(l, $kind).background_update,
                "off",
                "Who finds an answer that does not hold any more gets it, where that is allowed, and it is fetched anew \
                 afterwards.",
            )),
            own($ours, Row::flag(
                concat!($prefix, "_cache_revalidate"),
                ALL,
                |l| &mut cache(l, $kind).revalidate,
                "off",
                "What does not hold any more is asked for with `If-Modified-Since` and `If-None-Match`.",
            )),
            own($ours, Row::flag(
                concat!($prefix, "_cache_convert_head"),
                ALL,
                |l| &mut cache(l, $kind).convert_head,
                "on",
                "HEAD is passed on as GET, so that the answer can be kept.",
            )),
            own($ours, Row::one(
                concat!($prefix, "_cache_max_range_offset"),
                ALL,
                Apply::Offset(|l| &mut cache(l, $kind).max_range_offset),
                "",
                "A request for a range that begins behind this byte is passed on as it is, and its answer not kept.",
            )),
            Row::new(
                concat!($prefix, "_cache_purge"),
                ALL,
                Count::at_least(1),
                Apply::Custom(|r, l, d| {
                    r.cache_values(&mut cache(l, $kind).purge, d);
                    cache(l, $kind).purge_at = Some(d.head());
                }),
                "",
                "A request for which one of these is neither empty nor `0` removes what is kept under its key, in all \
                 its forms: 204, or 404 if there was nothing. A `*` at the end of the key stands for any end. With \
                 `Cache-Tag` or `Surrogate-Key` it removes what carries one of these tags. Whoever may send such a \
                 request may empty the cache: allow it to few.",
            )
            .ours(),
        ]
    };
}

/// A row that is one of nginx's, or is not.
const fn own(is_ours: bool, row: Row) -> Row {
    if is_ours { row.ours() } else { row }
}

pub(super) const PROXY: &[Row] = rows!("proxy", CacheKind::Proxy, false);
pub(super) const APP: &[Row] = rows!("app", CacheKind::App, true);
pub(super) const FASTCGI: &[Row] = rows!("fastcgi", CacheKind::FastCgi, false);
pub(super) const UWSGI: &[Row] = rows!("uwsgi", CacheKind::Uwsgi, false);
pub(super) const SCGI: &[Row] = rows!("scgi", CacheKind::Scgi, false);

/// `proxy_cache`
#[derive(Debug, Clone)]
enum ZoneName {
    Off,
    On(CacheName),
}

/// What one block says of the cache of one kind of servers.
#[derive(Debug, Clone, Default)]
pub(super) struct CacheLevel {
    zone: Option<ZoneName>,
    key: Option<Value>,
    valid: Option<Vec<(u16, Duration)>>,
    post: Option<bool>,
    min_uses: Option<u64>,
    bypass: Option<Vec<Value>>,
    no_cache: Option<Vec<Value>>,
    lock: Option<bool>,
    lock_timeout: Option<Duration>,
    lock_age: Option<Duration>,
    /// Also `updating`, and `off`, beside which nothing else counts.
    use_stale: Option<(NextUpstream, bool, bool)>,
    background_update: Option<bool>,
    revalidate: Option<bool>,
    convert_head: Option<bool>,
    max_range_offset: Option<u64>,
    purge: Option<Vec<Value>>,
    /// Where that stands.
    purge_at: Option<Span>,
}

impl CacheLevel {
    /// Takes from the block around what this one does not say.
    pub(super) fn inherit(&mut self, parent: &Self) {
        macro_rules! inherit {
            ($($field:ident)*) => {
                $(if self.$field.is_none() {
                    self.$field.clone_from(&parent.$field);
                })*
            };
        }
        inherit!(
            zone key valid post min_uses bypass no_cache lock lock_timeout lock_age use_stale background_update
            revalidate convert_head max_range_offset purge purge_at
        );
    }
}

/// Where a block keeps what it says.
fn cache(level: &mut Level, kind: CacheKind) -> &mut CacheLevel {
    Rc::make_mut(level.caches[kind as usize].get_or_insert_default())
}

/// Whether a block says that there is a cache.
pub(super) fn is_on(level: &Level, kind: CacheKind) -> bool {
    let own = level.caches[kind as usize].as_ref();
    own.is_some_and(|own| matches!(own.zone, Some(ZoneName::On(_))))
}

/// A zone by name, from when it is first spoken of.
#[derive(Debug)]
pub(super) struct CacheUse {
    index: CacheId,
    is_defined: bool,
    first: Span,
    directive: String,
}

/// The zones, and those that were spoken of.
#[derive(Debug, Default)]
pub(super) struct CacheZones {
    pub zones: Vec<CacheZone>,
    uses: HashMap<String, CacheUse>,
}

impl<'a> Reader<'a> {
    fn cache_path(&mut self, directive: Directive<'a>) {
        let kind = directive.name.text().into_owned();
        let mut words = directive.args.iter();
        let Some(path) = words.next() else { return };
        let millis = Duration::from_millis;
        let pace = CachePace { files: 100, sleep: millis(50), threshold: millis(200) };
        let mut zone = CacheZone {
            path: self.full_path(path.value.strip_suffix(b"/").unwrap_or(path.value)),
            inactive: Duration::from_secs(600),
            manager: pace,
            loader: pace,
            ..CacheZone::default()
        };
        let mut named = None;
        for word in words {
            let text = word.text().into_owned();
            let Some((name, value)) = text.split_once('=') else {
                self.invalid_parameter(word);
                return;
            };
            let bytes = value.as_bytes();
            let is_good = match name {
                "levels" => levels(value).map(|levels| zone.levels = levels).is_some(),
                "use_temp_path" => matches!(value, "on" | "off"),
                "keys_zone" => match value.split_once(':') {
                    Some((name, size)) if !name.is_empty() => match units::size(size.as_bytes()) {
                        Some(size) if size < 2 * 4096 => {
                            self.error(word.span, format!("zone \"{value}\" is too small"))
                                .help("8k is the least");
                            return;
                        }
                        Some(size) => {
                            zone.size = size;
                            named = Some((name.to_owned(), word));
                            true
                        }
                        None => false,
                    },
                    _ => false,
                },
                "inactive" => units::seconds(bytes).map(|time| zone.inactive = time).is_some(),
                "max_size" => units::offset(bytes).map(|size| zone.max_size = Some(size)).is_some(),
                "min_free" => units::offset(bytes).map(|size| zone.min_free = size).is_some(),
                _ => match name.split_once('_') {
                    Some(("manager", name)) => pace_of(&mut zone.manager, name, bytes),
                    Some(("loader", name)) => pace_of(&mut zone.loader, name, bytes),
                    _ => {
                        self.invalid_parameter(word);
                        return;
                    }
                },
            };
            if !is_good {
                let what = if name == "keys_zone" { "keys zone size" } else { name };
                self.error(word.span, format!("invalid {what} \"{text}\""))
                    .help("for example `levels=1:2 keys_zone=one:10m inactive=10m max_size=1g`");
                return;
            }
        }
        let Some((name, word)) = named else {
            self.error(directive.head(), format!("\"{kind}\" must have \"keys_zone\" parameter"));
            return;
        };
        if self.caches.zones.iter().any(|other| other.path == zone.path) {
            let path = zone.path.display().to_string();
            self.error(directive.head(), format!("the path name \"{path}\" is in use by another zone"));
            return;
        }
        let index = self.cache_index(&name, word, &kind);
        let was_defined =
            self.caches.uses.get_mut(&name).is_some_and(|used| std::mem::replace(&mut used.is_defined, true));
        if was_defined {
            self.error(word.span, format!("duplicate zone \"{name}\""));
            return;
        }
        self.caches.zones[index as usize] = CacheZone { name, ..zone };
    }

    /// A zone may be used before it is defined.
    fn cache_index(&mut self, name: &str, word: Word<'a>, directive: &str) -> CacheId {
        if let Some(used) = self.caches.uses.get(name) {
            return used.index;
        }
        let index = self.caches.zones.len() as CacheId;
        self.caches.zones.push(CacheZone { name: name.to_owned(), ..CacheZone::default() });
        let used = CacheUse { index, is_defined: false, first: word.span, directive: directive.to_owned() };
        self.caches.uses.insert(name.to_owned(), used);
        index
    }

    /// To be called at the end.
    pub(super) fn check_caches(&mut self) {
        let undefined: Vec<_> = self.caches.uses.iter().filter(|(_, used)| !used.is_defined).collect();
        let undefined: Vec<_> =
            undefined.into_iter().map(|(n, used)| (n.clone(), used.first, used.directive.clone())).collect();
        for (name, at, directive) in undefined {
            self.error(at, format!("\"{directive}\" zone \"{name}\" is unknown")).help(format!(
                "write in `http`: `{directive}_path /var/cache/monoceros keys_zone={name}:10m;`"
            ));
        }
    }

    fn cache(&mut self, level: &mut CacheLevel, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let value = self.value(word);
        level.zone = Some(match value.as_text() {
            Some(b"off") => ZoneName::Off,
            Some(_) => {
                let name = directive.name.text().into_owned();
                ZoneName::On(CacheName::Fixed(self.cache_index(&word.text(), word, &name)))
            }
            None => ZoneName::On(CacheName::Variable(value)),
        });
    }

    fn cache_valid(&mut self, level: &mut CacheLevel, directive: Directive<'a>) {
        let name = directive.name.text().into_owned();
        let count = directive.args.len() - 1;
        let Some(time) = directive.args.last().and_then(|word| self.seconds(word, &name)) else { return };
        let valid = level.valid.get_or_insert_default();
        if count == 0 {
            valid.extend([200, 301, 302].map(|status| (status, time)));
        }
        for word in directive.args.iter().take(count) {
            let status = match (word.value, units::number(word.value)) {
                (b"any", _) => 0,
                (_, Some(status @ 100..=599)) => status as u16,
                _ => {
                    let text = word.text().into_owned();
                    self.error(word.span, format!("invalid status \"{text}\""));
                    return;
                }
            };
            valid.push((status, time));
        }
    }

    /// A location passes requests on: warns where anybody may empty its cache.
    pub(super) fn check_purge(&mut self, level: &Level, content: &Content, is_limited: bool) {
        let kind = match content {
            Content::App(_) => Some(CacheKind::App),
            Content::Proxy(at) => self.proxies.get(*at as usize).and_then(|pass| pass.family.cache()),
            _ => None,
        };
        let is_restricted = is_limited
            || level.internal == Some(true)
            || level.access.is_some()
            || level.auth_basic.as_ref().is_some_and(|realm| realm.as_text() != Some(b"off"))
            || level.auth_request.as_ref().is_some_and(|path| !path.is_empty())
            || level.ssl_verify_client == Some(Verify::On)
            || level.secure_link.is_some()
            || level.secure_link_secret.is_some();
        let Some(kind) = kind.filter(|kind| !is_restricted && is_on(level, *kind)) else { return };
        let Some(own) = level.caches[kind as usize].as_deref() else { return };
        let (Some(values), Some(at)) = (&own.purge, own.purge_at) else { return };
        let purges = |value: &Value| !matches!(value.as_text(), Some(b"" | b"0")) && self.is_anybodys(value);
        if values.iter().any(purges) && !self.open_purges.contains(&at) {
            self.open_purges.push(at);
            self.warning(at, "whoever may send a request here may empty the cache").help(
                "allow it to few: `allow` and `deny`, `auth_basic` or `auth_request` in the location, `limit_except`, or \
                 a variable of `geo`",
            );
        }
    }

    /// Whether any client can make of it what it likes. Of a `map` that asks for more than the method this is not known.
    fn is_anybodys(&self, value: &Value) -> bool {
        let is_method = |value: &Value| value.variables().all(|v| *v == Variable::RequestMethod);
        value.variables().all(|variable| match variable {
            Variable::RequestMethod | Variable::Http(_) | Variable::Arg(_) | Variable::Cookie(_) => true,
            Variable::Defined(id) => match self.variables.list.get(*id as usize).map(|known| &known.source) {
                Some(Source::Map(map)) => is_method(&map.input),
                _ => false,
            },
            _ => false,
        })
    }

    fn cache_methods(&mut self, level: &mut CacheLevel, directive: Directive<'a>) {
        const NAMES: [&str; 3] = ["GET", "HEAD", "POST"];
        let mut post = level.post.unwrap_or(false);
        for word in directive.args {
            match NAMES.iter().find(|name| word.value.eq_ignore_ascii_case(name.as_bytes())) {
                Some(name) => post |= *name == "POST",
                None => self.not_one_of(word, &NAMES),
            }
        }
        level.post = Some(post);
    }

    fn cache_values(&mut self, slot: &mut Option<Vec<Value>>, directive: Directive<'a>) {
        slot.get_or_insert_default().extend(directive.args.iter().map(|word| self.value(word)));
    }

    fn cache_use_stale(&mut self, level: &mut CacheLevel, directive: Directive<'a>) {
        const NAMES: [&str; 12] = [
            "error",
            "timeout",
            "invalid_header",
            "updating",
            "http_500",
            "http_502",
            "http_503",
            "http_504",
            "http_403",
            "http_404",
            "http_429",
            "off",
        ];
        let (mut next, mut updating, mut is_off) =
            level.use_stale.unwrap_or((super::pass::NONE, false, false));
        for word in directive.args {
            match NAMES.iter().find(|name| word.value == name.as_bytes()) {
                Some(&"updating") => updating = true,
                Some(&"off") => is_off = true,
                Some(name) => super::pass::add_next(&mut next, name),
                None => self.not_one_of(word, &NAMES),
            }
        }
        level.use_stale = Some((next, updating, is_off));
    }
}

/// `1:2`
fn levels(text: &str) -> Option<Vec<u8>> {
    let levels: Option<Vec<u8>> =
        text.split(':').map(|level| matches!(level, "1" | "2").then(|| level.as_bytes()[0] - b'0')).collect();
    levels.filter(|levels| levels.len() <= 3)
}

fn pace_of(pace: &mut CachePace, name: &str, value: &[u8]) -> bool {
    match name {
        "files" => {
            let files =
                units::number(value).and_then(|files| u32::try_from(files).ok()).filter(|files| *files > 0);
            files.map(|files| pace.files = files).is_some()
        }
        "sleep" => units::millis(value).map(|time| pace.sleep = time).is_some(),
        "threshold" => units::millis(value).map(|time| pace.threshold = time).is_some(),
        _ => false,
    }
}

/// What holds of one kind's cache, where there is one.
pub(super) fn settle(level: &Level, kind: CacheKind) -> Option<CacheSettings> {
    let l = level.caches[kind as usize].as_deref()?;
    let Some(ZoneName::On(zone)) = l.zone.clone() else { return None };
    // A run of an application may take as long as its timeout, 30 s where nothing is said: nginx's five seconds would
    // let all who wait loose on it.
    let is_app = kind as usize == CacheKind::App as usize;
    let waits = Duration::from_secs(if is_app { 60 } else { 5 });
    let (use_stale, stale_updating) = match l.use_stale {
        Some((next, updating, false)) => (next, updating),
        _ => (super::pass::NONE, false),
    };
    Some(CacheSettings {
        zone,
        key: l.key.clone(),
        valid: l.valid.clone().unwrap_or_default(),
        post: l.post.unwrap_or(false),
        min_uses: l.min_uses.unwrap_or(1).min(u64::from(u32::MAX)) as u32,
        bypass: l.bypass.clone().unwrap_or_default(),
        no_cache: l.no_cache.clone().unwrap_or_default(),
        lock: l.lock.unwrap_or(is_app),
        lock_timeout: l.lock_timeout.unwrap_or(waits),
        lock_age: l.lock_age.unwrap_or(waits),
        use_stale,
        stale_updating,
        background_update: l.background_update.unwrap_or(false),
        revalidate: l.revalidate.unwrap_or(false),
        convert_head: l.convert_head.unwrap_or(true),
        max_range_offset: l.max_range_offset,
        purge: l.purge.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_words() {
        for (rows, prefix) in
            [(PROXY, "proxy_"), (APP, "app_"), (FASTCGI, "fastcgi_"), (UWSGI, "uwsgi_"), (SCGI, "scgi_")]
        {
            assert!(rows.iter().all(|row| row.name.starts_with(prefix)), "{prefix}");
        }
    }

    #[test]
    fn levels_are_three_at_most_of_one_letter_or_two() {
        assert_eq!(levels("1:2"), Some(vec![1, 2]));
        assert_eq!(levels("2:2:2"), Some(vec![2, 2, 2]));
        for wrong in ["", "0", "3", "1:", "1:2:2:1", "12"] {
            assert_eq!(levels(wrong), None, "{wrong}");
        }
    }
}
