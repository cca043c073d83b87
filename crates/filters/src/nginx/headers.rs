//! `expires`, `add_header`, `add_trailer`.

use config::model::http::{AddHeader, Expires, Value};
use exchange::{Name, Request, Response, http_date, parse_http_date};

use super::{FilterContext, How, evaluated};

/// What is added to the fields.
#[derive(Debug)]
pub struct Headers {
    expires: Option<Expires>,
    fields: Vec<Added>,
}

#[derive(Debug)]
struct Added {
    name: Vec<u8>,
    known: Name,
    value: Value,
    always: bool,
}

impl Headers {
    /// `expires` and `add_header`; `None` where nothing is added.
    pub fn of(expires: Option<Expires>, add: &[AddHeader]) -> Option<Self> {
        let added = |add: &AddHeader| Added {
            known: Name::of(&add.name),
            name: add.name.clone(),
            value: add.value.clone(),
            always: add.always,
        };
        let headers = Self { expires, fields: add.iter().map(added).collect() };
        (headers.expires.is_some() || !headers.fields.is_empty()).then_some(headers)
    }

    /// Adds what the response's status lets be added.
    pub fn apply(
        &self,
        request: &Request,
        response: &mut Response,
        how: How,
        context: &mut dyn FilterContext,
    ) {
        let usual = is_usual(response.status);
        if usual && let Some(expires) = &self.expires {
            set_expires(expires, request, response, how, context);
        }
        for added in &self.fields {
            if usual || added.always {
                let text = evaluated(&added.value, request, response, context);
                added.add(response, &text);
            }
        }
    }
}

impl Added {
    fn add(&self, response: &mut Response, value: &[u8]) {
        // There is one of each of these; an empty value takes it away.
        if matches!(self.known, Name::LastModified | Name::ETag) {
            response.fields.remove(self.known);
        }
        if value.is_empty() {
            return;
        }
        if value.iter().all(|byte| can_stand_in_a_field(*byte)) {
            response.fields.push(&self.name, value);
        } else {
            // Such as the line end in a value that is written over several lines. RFC 9110 §5.5 has a space.
            let on_one_line: Vec<u8> =
                value.iter().map(|byte| if can_stand_in_a_field(*byte) { *byte } else { b' ' }).collect();
            response.fields.push(&self.name, on_one_line.trim_ascii());
        }
    }
}

const fn can_stand_in_a_field(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// The statuses that `expires` and an `add_header` without `always` are for.
pub fn is_usual(status: u16) -> bool {
    matches!(status, 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308)
}

fn set_expires(
    expires: &Expires,
    request: &Request,
    response: &mut Response,
    how: How,
    context: &mut dyn FilterContext,
) {
    let parsed;
    let expires = match expires {
        Expires::Variable(value) | Expires::ModifiedVariable(value) => {
            let text = evaluated(value, request, response, context);
            let is_modified = matches!(expires, Expires::ModifiedVariable(_));
            // What is none of the words changes nothing, and so does `off`.
            let Some(expires) = (if is_modified { parse_modified(&text) } else { parse(&text) }) else {
                return;
            };
            parsed = expires;
            &parsed
        }
        expires => expires,
    };
    let modified = response.fields.first(Name::LastModified).and_then(parse_http_date);
    let (date, control) = times(expires, modified, how);
    response.fields.set(Name::Expires, &http_date(date));
    response.fields.set(Name::CacheControl, control.as_bytes());
}

/// `Expires`, in seconds since 1970, and `Cache-Control`.
fn times(expires: &Expires, modified: Option<u64>, how: How) -> (u64, String) {
    /// 31 December 2037, 23:55:55: within what 32 bits can count.
    const END: u64 = 2_145_916_555;
    let (now, utc_offset) = (how.clock)();
    let now = now as i64;
    let (date, age) = match (expires, modified) {
        (Expires::Epoch | Expires::Variable(_) | Expires::ModifiedVariable(_), _) => {
            return (1, "no-cache".into());
        }
        (Expires::Max, _) => return (END, "max-age=315360000".into()),
        (Expires::Access(0) | Expires::Modified(0), _) => return (now as u64, "max-age=0".into()),
        (Expires::Daily(of_day), _) => {
            let date = next_time(i64::from(*of_day), now, i64::from(utc_offset));
            (date, date - now)
        }
        (Expires::Modified(seconds), Some(modified)) => {
            let date = (modified as i64).saturating_add(*seconds);
            (date, date.saturating_sub(now))
        }
        (Expires::Access(seconds) | Expires::Modified(seconds), _) => {
            (now.saturating_add(*seconds), *seconds)
        }
    };
    let negative = matches!(expires, Expires::Access(seconds) | Expires::Modified(seconds) if *seconds < 0);
    let control = if negative || age < 0 { "no-cache".into() } else { format!("max-age={age}") };
    (date.max(0) as u64, control)
}

/// The next moment at which the local clock shows so many seconds after midnight.
fn next_time(of_day: i64, now: i64, offset: i64) -> i64 {
    const DAY: i64 = 86_400;
    let midnight = (now + offset).div_euclid(DAY) * DAY - offset;
    let today = midnight + of_day;
    if today > now { today } else { today + DAY }
}

/// What a variable says of `expires`; `None` is `off`, or nothing that is understood.
fn parse(text: &[u8]) -> Option<Expires> {
    match text {
        b"epoch" => Some(Expires::Epoch),
        b"max" => Some(Expires::Max),
        [b'@', of_day @ ..] => {
            let of_day = u32::try_from(seconds(of_day)?).ok()?;
            (of_day <= 86_400).then_some(Expires::Daily(of_day))
        }
        [b'-', time @ ..] => Some(Expires::Access(-seconds(time)?)),
        [b'+', time @ ..] | time => Some(Expires::Access(seconds(time)?)),
    }
}

/// What a variable says of `expires modified`: a time only.
fn parse_modified(text: &[u8]) -> Option<Expires> {
    match parse(text)? {
        Expires::Access(seconds) => Some(Expires::Modified(seconds)),
        _ => None,
    }
}

/// The seconds of `1h30m`, `10d`, `600`: units from large to small, each at most once, the last may be left out.
fn seconds(text: &[u8]) -> Option<i64> {
    const UNITS: [(u8, i64); 7] = [
        (b'y', 31_536_000),
        (b'M', 2_592_000),
        (b'w', 604_800),
        (b'd', 86_400),
        (b'h', 3600),
        (b'm', 60),
        (b's', 1),
    ];
    let mut rest = text;
    let mut next_unit = 0;
    let mut total = 0i64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let number: i64 = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        rest = &rest[digits..];
        let factor = match rest.first() {
            None => 1,
            Some(b' ') if rest.trim_ascii_start().is_empty() => return None,
            Some(unit) => {
                let place = next_unit + UNITS[next_unit..].iter().position(|(letter, _)| letter == unit)?;
                next_unit = place + 1;
                rest = &rest[1..];
                UNITS[place].1
            }
        };
        total = total.checked_add(number.checked_mul(factor)?)?;
        while let [b' ', behind @ ..] = rest {
            rest = behind;
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 784_111_777;

    fn how(clock: fn() -> (u64, i32)) -> How {
        How { clock, ranges: false, conditions: true }
    }

    #[test]
    fn expires_in_every_form() {
        for (expires, modified, date, control) in [
            (Expires::Epoch, None, 1, "no-cache"),
            (Expires::Max, None, 2_145_916_555, "max-age=315360000"),
            (Expires::Access(0), None, NOW, "max-age=0"),
            (Expires::Access(3600), Some(5), NOW + 3600, "max-age=3600"),
            (Expires::Access(-1), None, NOW - 1, "no-cache"),
            (Expires::Modified(3600), Some(NOW - 600), NOW + 3000, "max-age=3000"),
            (Expires::Modified(3600), Some(NOW - 4000), NOW - 400, "no-cache"),
            (Expires::Modified(3600), None, NOW + 3600, "max-age=3600"),
        ] {
            assert_eq!(
                times(&expires, modified, how(|| (NOW, 0))),
                (date, control.into()),
                "{expires:?} {modified:?}"
            );
        }
    }

    #[test]
    fn a_time_of_the_day_is_local_and_ahead() {
        // It is 08:49:37 UTC.
        let at = |of_day, clock| times(&Expires::Daily(of_day), None, how(clock)).1;
        assert_eq!(at(9 * 3600, || (NOW, 0)), "max-age=623");
        assert_eq!(at(8 * 3600, || (NOW, 0)), "max-age=83423");
        assert_eq!(at(9 * 3600, || (NOW, 3600)), "max-age=83423", "it is 09:49:37 there");
        assert_eq!(at(0, || (NOW, -32_400)), "max-age=623", "it is 23:49:37 there");
        assert_eq!(at(8 * 3600 + 49 * 60 + 37, || (NOW, 0)), "max-age=86400");
    }

    #[test]
    fn what_a_variable_may_say() {
        for (text, expected) in [
            ("epoch", Some(Expires::Epoch)),
            ("max", Some(Expires::Max)),
            ("off", None),
            ("", None),
            ("24h", Some(Expires::Access(86_400))),
            ("+1h 30m", Some(Expires::Access(5400))),
            ("-1", Some(Expires::Access(-1))),
            ("600", Some(Expires::Access(600))),
            ("1d12", Some(Expires::Access(86_412))),
            ("1m1h", None),
            ("1h1h", None),
            ("h", None),
            ("1x", None),
            ("99999999999999999999", None),
            ("9999999999999999y", None),
            ("@15h30m", Some(Expires::Daily(55_800))),
            ("@25h", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_variable_with_modified_is_a_time_only() {
        assert_eq!(parse_modified(b"2048"), Some(Expires::Modified(2048)));
        assert_eq!(parse_modified(b"-1h"), Some(Expires::Modified(-3600)));
        for text in ["epoch", "max", "off", "", "@1h", "bad"] {
            assert_eq!(parse_modified(text.as_bytes()), None, "{text}");
        }
    }
}
