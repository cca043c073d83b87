//! What an answer says of itself: whether it may be kept, and how long it holds. As nginx reads it; where the RFC asks
//! for more than nginx does, it says so.

use std::time::Duration;

use config::model::http::IgnoreHeaders;
use exchange::{Name, parse_http_date};

use crate::key::VARY;
use crate::purge::{self, TAGS};

/// What an answer says of its being kept. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// It must not be kept.
    pub forbidden: bool,
    /// Until when it holds, if it says so.
    pub valid: Option<u64>,
    /// For how many seconds behind that it may be sent while it is fetched anew.
    pub updating: u64,
    /// The same, if it cannot be.
    pub error: u64,
    /// `Vary`
    pub vary: Vec<u8>,
    /// `Last-Modified`
    pub last_modified: Option<u64>,
    /// `ETag`
    pub etag: Vec<u8>,
    /// What it can be purged by, from `Cache-Tag` and `Surrogate-Key`; spaces between.
    pub tags: Vec<u8>,
    /// It may be kept although the request had `Authorization` (RFC 9111 §3.5).
    pub shared: bool,
    /// `Accept-Ranges` is there.
    pub ranges: bool,
}

/// Weighs the fields of an answer in their order.
pub fn weigh<'a>(
    lines: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ignore: IgnoreHeaders,
    now: u64,
) -> Freshness {
    let mut found = Freshness::default();
    let (mut by_accel, mut no_cache, mut expired) = (false, false, false);
    for (name, value) in lines {
        match Name::of(name) {
            Name::CacheControl if !ignore.cache_control => {
                found.shared |= [&b"public"[..], b"s-maxage", b"must-revalidate"]
                    .iter()
                    .any(|word| position(value, word).is_some());
                if !(by_accel && found.valid.is_some()) {
                    let forbids = [&b"no-cache"[..], b"no-store", b"private"];
                    if forbids.iter().any(|word| position(value, word).is_some()) {
                        no_cache = true;
                        continue;
                    }
                    let age = behind(value, b"s-maxage=").or_else(|| behind(value, b"max-age="));
                    match age.map(seconds) {
                        None => {}
                        Some(None) => {
                            found.forbidden = true;
                            continue;
                        }
                        Some(Some(0)) => {
                            no_cache = true;
                            continue;
                        }
                        Some(Some(age)) => {
                            found.valid = Some(now.saturating_add(age));
                            expired = false;
                        }
                    }
                }
                if let Some(text) = behind(value, b"stale-while-revalidate=") {
                    match seconds(text) {
                        Some(time) => (found.updating, found.error) = (time, time),
                        None => found.forbidden = true,
                    }
                }
                if let Some(text) = behind(value, b"stale-if-error=") {
                    match seconds(text) {
                        Some(time) => found.error = time,
                        None => found.forbidden = true,
                    }
                }
            }
            Name::Expires if !ignore.expires && found.valid.is_none() => match parse_http_date(value) {
                Some(date) if date >= now => found.valid = Some(date),
                _ => expired = true,
            },
            Name::XAccelExpires if !ignore.accel_expires && !by_accel => {
                by_accel = true;
                let (until, digits) = match value.strip_prefix(b"@") {
                    Some(digits) => (0, digits),
                    None => (now, value),
                };
                match number(digits) {
                    Some(0) if until == now => found.forbidden = true,
                    Some(time) => {
                        found.valid = Some(until.saturating_add(time));
                        (no_cache, expired) = (false, false);
                        found.shared = true;
                    }
                    None => {}
                }
            }
            Name::SetCookie if !ignore.set_cookie => found.forbidden = true,
            Name::Vary if !ignore.vary => {
                if value == b"*" {
                    found.forbidden = true;
                } else {
                    if !found.vary.is_empty() {
                        found.vary.extend_from_slice(b", ");
                    }
                    found.vary.extend_from_slice(value);
                }
            }
            Name::LastModified if found.last_modified.is_none() => {
                found.last_modified = parse_http_date(value);
            }
            Name::ETag if found.etag.is_empty() => found.etag = value.to_vec(),
            Name::AcceptRanges => found.ranges = true,
            Name::Other
                if name.eq_ignore_ascii_case(b"cache-tag") || name.eq_ignore_ascii_case(b"surrogate-key") =>
            {
                for tag in purge::split(value) {
                    if !found.tags.is_empty() {
                        found.tags.push(b' ');
                    }
                    found.tags.extend_from_slice(tag);
                }
            }
            _ => {}
        }
    }
    // A `*` in a list is one too (RFC 9110 §12.5.5).
    found.forbidden |=
        found.vary.len() > VARY || found.vary.split(|b| *b == b',').any(|n| n.trim_ascii() == b"*");
    found.forbidden |= no_cache || expired || found.tags.len() > TAGS;
    if found.etag.len() > VARY {
        found.etag.clear();
    }
    found
}

/// `proxy_cache_valid`: how long an answer of this status holds that does not say so itself.
pub fn valid_for(rules: &[(u16, Duration)], status: u16) -> Option<u64> {
    let rule = rules.iter().find(|(of, _)| *of == status || *of == 0)?;
    Some(rule.1.as_secs()).filter(|time| *time > 0)
}

fn position(value: &[u8], word: &[u8]) -> Option<usize> {
    value.windows(word.len()).position(|part| part.eq_ignore_ascii_case(word))
}

fn behind<'v>(value: &'v [u8], word: &[u8]) -> Option<&'v [u8]> {
    position(value, word).map(|at| &value[at + word.len()..])
}

/// Seconds up to a comma, a semicolon or a space; `None` for what is no number.
fn seconds(text: &[u8]) -> Option<u64> {
    let end = text.iter().position(|b| matches!(b, b',' | b';' | b' ')).unwrap_or(text.len());
    number(&text[..end])
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // More than can be said is long enough.
    Some(digits.iter().fold(0_u64, |number, digit| {
        number.saturating_mul(10).saturating_add(u64::from(digit - b'0')).min(u64::from(u32::MAX))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn of(lines: &[(&str, &str)]) -> Freshness {
        let lines = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        weigh(lines, IgnoreHeaders::default(), NOW)
    }

    #[test]
    fn an_age_is_believed_and_what_forbids_goes_before_it() {
        assert_eq!(of(&[("cache-control", "max-age=60")]).valid, Some(NOW + 60));
        assert_eq!(of(&[("cache-control", "max-age=60, s-maxage=5")]).valid, Some(NOW + 5));
        for value in ["no-cache", "no-store", "Private, max-age=60", "max-age=0", "max-age=x", "max-age="] {
            assert!(of(&[("cache-control", value)]).forbidden, "{value}");
        }
        assert!(of(&[("cache-control", "max-age=60"), ("set-cookie", "a=b")]).forbidden);
        let far = of(&[("cache-control", "max-age=99999999999999999999")]);
        assert_eq!(far.valid, Some(NOW + u64::from(u32::MAX)));
    }

    #[test]
    fn expires_counts_when_no_age_does() {
        let past = ("expires", "Thu, 01 Jan 1970 00:00:01 GMT");
        assert!(of(&[past]).forbidden);
        assert!(of(&[("expires", "0")]).forbidden);
        assert!(!of(&[past, ("cache-control", "max-age=60")]).forbidden);
        assert!(!of(&[("cache-control", "max-age=60"), past]).forbidden);
        let future = ("expires", "Fri, 01 Jan 2038 00:00:00 GMT");
        assert_eq!(of(&[future]).valid, Some(2_145_916_800));
    }

    #[test]
    fn x_accel_expires_goes_before_all() {
        let both = of(&[("x-accel-expires", "7"), ("cache-control", "no-cache")]);
        assert_eq!((both.forbidden, both.valid), (false, Some(NOW + 7)));
        let later = of(&[("cache-control", "no-cache"), ("x-accel-expires", "@1700000009")]);
        assert_eq!((later.forbidden, later.valid), (false, Some(NOW + 9)));
        assert!(of(&[("x-accel-expires", "0")]).forbidden);
        assert!(!of(&[("x-accel-expires", "-1")]).forbidden);
    }

    #[test]
    fn stale_times_are_added_up() {
        let both = of(&[("cache-control", "max-age=1, stale-while-revalidate=2, stale-if-error=3")]);
        assert_eq!((both.updating, both.error), (2, 3));
        let one = of(&[("cache-control", "max-age=1, stale-while-revalidate=2")]);
        assert_eq!((one.updating, one.error), (2, 2));
    }

    #[test]
    fn vary_is_gathered_and_a_star_forbids() {
        assert_eq!(of(&[("vary", "a"), ("vary", "b")]).vary, b"a, b");
        assert!(of(&[("vary", "*")]).forbidden && of(&[("vary", "a, *")]).forbidden);
        assert!(of(&[("vary", &"x".repeat(129))]).forbidden);
    }

    #[test]
    fn tags_are_gathered_from_both_fields() {
        let fields = [("Cache-Tag", "a,b"), ("surrogate-key", "c  d"), ("cache-tag", "e")];
        assert_eq!(of(&fields).tags, b"a b c d e");
        let long = "x".repeat(TAGS);
        assert!(!of(&[("cache-tag", &long)]).forbidden);
        assert!(of(&[("cache-tag", &long), ("cache-tag", "y")]).forbidden);
    }

    #[test]
    fn what_is_ignored_does_not_count() {
        let ignore = IgnoreHeaders {
            cache_control: true,
            expires: true,
            accel_expires: true,
            set_cookie: true,
            vary: true,
            ..IgnoreHeaders::default()
        };
        let lines = [
            ("cache-control", "no-store"),
            ("expires", "0"),
            ("x-accel-expires", "0"),
            ("set-cookie", "a"),
            ("vary", "*"),
        ];
        let lines = lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        assert_eq!(weigh(lines, ignore, NOW), Freshness::default());
    }

    #[test]
    fn the_first_rule_for_a_status_counts() {
        let minute = Duration::from_secs(60);
        let rules = [(200, minute), (404, Duration::ZERO), (0, Duration::from_secs(1))];
        assert_eq!(valid_for(&rules, 200), Some(60));
        assert_eq!(valid_for(&rules, 404), None);
        assert_eq!(valid_for(&rules, 500), Some(1));
        assert_eq!(valid_for(&rules[..2], 500), None);
    }
}
