//! `limit_req`, `limit_conn` and their zones.

use conf_syntax::{Directive, Span, Word};

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use super::units;
use crate::model::http::{LimitConn, LimitReq, LogLevel, Value, Zone};

const ALL: Context = Context::ALL;
const LEVELS: [(&str, LogLevel); 4] = [
    ("info", LogLevel::Info),
    ("notice", LogLevel::Notice),
    ("warn", LogLevel::Warn),
    ("error", LogLevel::Error),
];

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "limit_req_zone",
        Context::HTTP,
        Count::exactly(3),
        Apply::Custom(|r, _, d| r.zone(d)),
        "",
        "What requests are counted by, and how many may come: `$binary_remote_addr zone=one:10m rate=1r/s`.",
    )
    .repeats(),
    Row::new(
        "limit_req",
        ALL,
        Count::between(1, 3),
        Apply::Custom(|r, l, d| r.limit_req(l, d)),
        "",
        "Delays, then refuses requests above the rate: `zone=one burst=5 nodelay`.",
    )
    .repeats(),
    Row::one(
        "limit_req_status",
        ALL,
        Apply::Custom(|r, l, d| l.limit_req_status = r.refusal(d)),
        "503",
        "The status of what is refused.",
    ),
    Row::one(
        "limit_req_log_level",
        ALL,
        Apply::Custom(|r, l, d| l.limit_req_log_level = r.word(d, &LEVELS)),
        "error",
        "The level at which refusals are logged; delays one below.",
    ),
    Row::flag("limit_req_dry_run", ALL, |l| &mut l.limit_req_dry_run, "off", "Only counts and logs."),
    Row::new(
        "limit_conn_zone",
        Context::HTTP,
        Count::exactly(2),
        Apply::Custom(|r, _, d| r.zone(d)),
        "",
        "What connections are counted by: `$binary_remote_addr zone=addr:10m`.",
    )
    .repeats(),
    Row::new(
        "limit_conn",
        ALL,
        Count::exactly(2),
        Apply::Custom(|r, l, d| r.limit_conn(l, d)),
        "",
        "Requests at a time of one key at most: `limit_conn addr 1`.",
    )
    .repeats(),
    Row::one(
        "limit_conn_status",
        ALL,
        Apply::Custom(|r, l, d| l.limit_conn_status = r.refusal(d)),
        "503",
        "The status of what is refused.",
    ),
    Row::one(
        "limit_conn_log_level",
        ALL,
        Apply::Custom(|r, l, d| l.limit_conn_log_level = r.word(d, &LEVELS)),
        "error",
        "The level at which refusals are logged.",
    ),
    Row::flag("limit_conn_dry_run", ALL, |l| &mut l.limit_conn_dry_run, "off", "Only counts and logs."),
];

/// Less is no zone to nginx: eight pages.
const SMALLEST: u64 = 8 * 4096;

/// A zone by name, from when it is first spoken of.
#[derive(Debug)]
pub(super) struct ZoneUse {
    pub index: u32,
    pub is_defined: bool,
    /// Counts requests, not connections.
    pub counts_requests: bool,
    pub first: Span,
}

impl<'a> Reader<'a> {
    /// Both kinds of zone.
    fn zone(&mut self, directive: Directive<'a>) {
        let Some(key) = directive.args.first() else { return };
        let counts_requests = directive.name.value == b"limit_req_zone";
        let key_text = key.text().into_owned();
        let key = self.value(key);
        let (mut named, mut rate) = (None, 1000);
        for word in directive.args.skip(1) {
            let text = word.text().into_owned();
            if let Some(rest) = text.strip_prefix("zone=") {
                let Some((name, size)) = rest.split_once(':') else {
                    self.error(word.span, format!("invalid zone size \"{text}\""))
                        .help("write `zone=name:10m`");
                    return;
                };
                match units::size(size.as_bytes()) {
                    None => {
                        self.error(word.span, format!("invalid zone size \"{text}\""))
                            .help("write `zone=name:10m`");
                        return;
                    }
                    Some(size) if size < SMALLEST => {
                        self.error(word.span, format!("zone \"{text}\" is too small"))
                            .help("32k is the least");
                        return;
                    }
                    Some(_) if name.is_empty() => break,
                    Some(size) => named = Some((name.to_owned(), size, word)),
                }
            } else if let (Some(text), true) = (text.strip_prefix("rate="), counts_requests) {
                let Some(found) = thousandths(text) else {
                    self.error(word.span, format!("invalid rate \"rate={text}\""))
                        .help("write `rate=10r/s` or `rate=30r/m`");
                    return;
                };
                rate = found;
            } else {
                self.invalid_parameter(word);
                return;
            }
        }
        let kind = directive.name.text().into_owned();
        let Some((name, size, word)) = named else {
            self.error(directive.head(), format!("\"{kind}\" must have \"zone\" parameter"));
            return;
        };
        let Some(index) = self.zone_index(&name, counts_requests, word) else { return };
        let was_defined =
            self.zone_uses.get_mut(&name).is_some_and(|z| std::mem::replace(&mut z.is_defined, true));
        if was_defined {
            self.error(word.span, format!("{kind} \"{name}\" is already bound to key \"{key_text}\""));
            return;
        }
        self.zones[index as usize] = Zone { name, key, size, rate: counts_requests.then_some(rate) };
    }

    /// A zone may be used before it is defined.
    fn zone_index(&mut self, name: &str, counts_requests: bool, word: Word<'a>) -> Option<u32> {
        if let Some(zone) = self.zone_uses.get(name) {
            if zone.counts_requests == counts_requests {
                return Some(zone.index);
            }
            let (other, this) = if counts_requests { ("conn", "req") } else { ("req", "conn") };
            self.error(
                word.span,
                format!("zone \"{name}\" is a limit_{other}_zone, and `limit_{this}` cannot use it"),
            );
            return None;
        }
        let index = self.zones.len() as u32;
        self.zones.push(Zone { name: name.to_owned(), key: Value::default(), size: 0, rate: None });
        let zone = ZoneUse { index, is_defined: false, counts_requests, first: word.span };
        self.zone_uses.insert(name.to_owned(), zone);
        Some(index)
    }

    /// To be called at the end.
    pub(super) fn check_zones(&mut self) {
        let unsized_zones = self.upstream_zones.iter().filter(|(_, (_, is_sized))| !is_sized);
        let mut unsized_zones: Vec<_> = unsized_zones.map(|(name, (at, _))| (*at, name.clone())).collect();
        unsized_zones.sort_by_key(|(at, _)| (at.file, at.start));
        for (at, name) in unsized_zones {
            self.error(at, format!("zero size shared memory zone \"{name}\""))
                .help(format!("write `zone {name} 64k;`, or remove it: it changes nothing here"));
        }
        let undefined: Vec<_> = self.zone_uses.iter().filter(|(_, z)| !z.is_defined).collect();
        let undefined: Vec<_> =
            undefined.into_iter().map(|(n, z)| (n.clone(), z.first, z.counts_requests)).collect();
        for (name, at, counts_requests) in undefined {
            let example = if counts_requests {
                format!("limit_req_zone $binary_remote_addr zone={name}:10m rate=10r/s;")
            } else {
                format!("limit_conn_zone $binary_remote_addr zone={name}:10m;")
            };
            self.error(at, format!("zero size shared memory zone \"{name}\""))
                .help(format!("no such zone is defined; write in `http`: `{example}`"));
        }
    }

    fn limit_req(&mut self, level: &mut Level, directive: Directive<'a>) {
        let mut limit = LimitReq { zone: 0, burst: 0, delay: 0 };
        let mut has_zone = false;
        for word in directive.args {
            let text = word.text().into_owned();
            let positive = |text: &str| units::number(text.as_bytes()).filter(|n| *n > 0);
            if let Some(name) = text.strip_prefix("zone=") {
                let Some(zone) = self.zone_index(name, true, word) else { return };
                (limit.zone, has_zone) = (zone, true);
            } else if let Some(n) = text.strip_prefix("burst=") {
                let Some(n) = positive(n) else {
                    self.error(word.span, format!("invalid burst value \"{text}\"")).help("write `burst=10`");
                    return;
                };
                limit.burst = n;
            } else if let Some(n) = text.strip_prefix("delay=") {
                let Some(n) = positive(n) else {
                    self.error(word.span, format!("invalid delay value \"{text}\"")).help("write `delay=5`");
                    return;
                };
                limit.delay = n;
            } else if text == "nodelay" {
                limit.delay = u64::MAX;
            } else {
                self.invalid_parameter(word)
                    .help("write `zone=name`, and perhaps `burst=10`, `nodelay` or `delay=5`");
                return;
            }
        }
        if !has_zone {
            self.error(directive.head(), "\"limit_req\" must have \"zone\" parameter");
            return;
        }
        let limits = level.limit_req.get_or_insert_default();
        if limits.iter().any(|l| l.zone == limit.zone) {
            self.error(directive.head(), "\"limit_req\" directive is duplicate");
        } else {
            limits.push(limit);
        }
    }

    fn limit_conn(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some([name, number]) = directive.args.array() else { return };
        let Some(zone) = self.zone_index(&name.text(), false, name) else { return };
        let limits = level.limit_conn.get_or_insert_default();
        if limits.iter().any(|l| l.zone == zone) {
            self.error(directive.head(), "\"limit_conn\" directive is duplicate");
            return;
        }
        match units::number(number.value) {
            Some(n @ 1..=65535) => limits.push(LimitConn { zone, limit: n as u32 }),
            Some(n) if n > 65535 => {
                self.error(number.span, "connection limit must be less 65536");
            }
            _ => {
                let text = number.text().into_owned();
                self.error(number.span, format!("invalid number of connections \"{text}\""));
            }
        }
    }

    fn refusal(&mut self, directive: Directive<'a>) -> Option<u64> {
        self.within(directive, 400, 599)
    }
}

/// Thousandths of a request each second.
fn thousandths(text: &str) -> Option<u64> {
    let (number, scale) = match (text.strip_suffix("r/s"), text.strip_suffix("r/m")) {
        (Some(n), _) => (n, 1),
        (_, Some(n)) => (n, 60),
        _ => (text, 1),
    };
    units::number(number.as_bytes()).filter(|n| *n > 0)?.checked_mul(1000).map(|n| n / scale)
}
