//! nginx's forms of numbers, sizes and times.

use std::time::Duration;

/// Decimal digits only.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // nginx's numbers are signed.
    std::str::from_utf8(text).ok()?.parse().ok().filter(|n| i64::try_from(*n).is_ok())
}

/// Bytes, or with `k` or `m`.
pub(super) fn size(text: &[u8]) -> Option<u64> {
    scaled(text, &[(b'k', 10), (b'm', 20)])
}

/// As [`size`], also with `g`.
pub(super) fn offset(text: &[u8]) -> Option<u64> {
    scaled(text, &[(b'k', 10), (b'm', 20), (b'g', 30)])
}

fn scaled(text: &[u8], units: &[(u8, u32)]) -> Option<u64> {
    let (last, digits) = text.split_last()?;
    match units.iter().find(|(unit, _)| *unit == last.to_ascii_lowercase()) {
        Some((_, shift)) => number(digits)?.checked_mul(1 << shift).filter(|n| i64::try_from(*n).is_ok()),
        None => number(text),
    }
}

/// A time in whole seconds: `30`, `1h 30m`, `1y`.
pub(super) fn seconds(text: &[u8]) -> Option<Duration> {
    time(text, true).map(Duration::from_secs)
}

/// A time in milliseconds: `500ms`, `30`, `1m30s`.
pub(super) fn millis(text: &[u8]) -> Option<Duration> {
    time(text, false).map(Duration::from_millis)
}

/// A larger unit stands before a smaller, each once; a number without unit is seconds and comes last.
fn time(text: &[u8], whole_seconds: bool) -> Option<u64> {
    const DAY: u64 = 86_400;
    const UNITS: [(&[u8], u64); 8] = [
        (b"y", 365 * DAY),
        (b"M", 30 * DAY),
        (b"w", 7 * DAY),
        (b"d", DAY),
        (b"h", 3600),
        (b"m", 60),
        (b"s", 1),
        (b"ms", 0),
    ];
    let to_scale = |n: u64| if whole_seconds { Some(n) } else { n.checked_mul(1000) };
    let mut rest = text;
    // Years and months are too long for a time in milliseconds.
    let mut next_unit = if whole_seconds { 0 } else { 2 };
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let value = number(&rest[..digits])?;
        rest = &rest[digits..];
        let letters = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let amount = if letters == 0 {
            if !rest.trim_ascii().is_empty() || next_unit > 6 {
                return None;
            }
            next_unit = UNITS.len();
            to_scale(value)?
        } else {
            let unit = UNITS.iter().position(|(name, _)| *name == &rest[..letters])?;
            if unit < next_unit || (whole_seconds && UNITS[unit].1 == 0) {
                return None;
            }
            next_unit = unit + 1;
            if UNITS[unit].1 == 0 { value } else { to_scale(value.checked_mul(UNITS[unit].1)?)? }
        };
        total = total.checked_add(amount)?;
        rest = rest[letters..].trim_ascii_start();
    }
    (!text.is_empty() && i64::try_from(total).is_ok()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        assert_eq!((size(b"8k"), size(b"1M"), size(b"77")), (Some(8192), Some(1 << 20), Some(77)));
        assert_eq!((size(b"1g"), offset(b"1G")), (None, Some(1 << 30)));
        assert_eq!((size(b""), size(b"k"), size(b"-1"), size(b"1kb"), size(b"99999999999999999999")), {
            (None, None, None, None, None)
        });
        assert_eq!(offset(b"9000000000g"), None);
    }

    #[test]
    fn times_go_from_large_units_to_small() {
        let shown = |text: &str| {
            (seconds(text.as_bytes()).map(|d| d.as_secs()), {
                millis(text.as_bytes()).map(|d| d.as_millis())
            })
        };
        assert_eq!(shown("30"), (Some(30), Some(30_000)));
        assert_eq!(shown("1h30m"), (Some(5400), Some(5_400_000)));
        assert_eq!(shown("1h 30m 5"), (Some(5405), Some(5_405_000)));
        assert_eq!(shown("500ms"), (None, Some(500)));
        assert_eq!(shown("1y"), (Some(31_536_000), None));
        assert_eq!(shown("1M"), (Some(2_592_000), None));
        for wrong in ["", " ", "s", "1m1h", "1s1s", "1.5s", "-1", "1x", "1s5", "99999999999999999d"] {
            assert_eq!(shown(wrong), (None, None), "{wrong}");
        }
    }
}
