//! Local time as the logs write it, formatted once per second and thread.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The two ways in which one second is written.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    second: i64,
    /// `[23/Nov/2026:09:43:00 +0000]`
    pub(crate) access: [u8; 28],
    /// `[2026-11-23 09:43:00 +0000]`
    pub(crate) error: [u8; 27],
}

/// How `second` (since 1970) is written in the system's time zone (`TZ`, else /etc/localtime).
pub(crate) fn written(second: i64) -> Written {
    thread_local! {
        static LAST: RefCell<Option<Written>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some(last) if last.second == second => *last,
        _ => *last.insert(write(second, zone())),
    })
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn zone() -> &'static TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(|| TimeZone::try_system().unwrap_or(TimeZone::UTC))
}

fn write(second: i64, zone: &TimeZone) -> Written {
    let zoned = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone());
    let minutes = zoned.offset().seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    let (zone_hour, zone_minute) = (minutes.abs() / 60, minutes.abs() % 60);
    let (year, month, day) = (zoned.year().clamp(0, 9999), zoned.month(), zoned.day());
    let time = format!(
        "{:02}:{:02}:{:02} {sign}{zone_hour:02}{zone_minute:02}",
        zoned.hour(),
        zoned.minute(),
        zoned.second()
    );
    let month_name = MONTHS[month as usize - 1];
    let mut written = Written { second, access: [b' '; 28], error: [b' '; 27] };
    fill(&mut written.access, &format!("[{day:02}/{month_name}/{year:04}:{time}]"));
    fill(&mut written.error, &format!("[{year:04}-{month:02}-{day:02} {time}]"));
    written
}

fn fill(place: &mut [u8], text: &str) {
    let len = text.len().min(place.len());
    place[..len].copy_from_slice(&text.as_bytes()[..len]);
}

#[cfg(test)]
mod tests {
    use jiff::tz::Offset;

    use super::*;

    #[test]
    fn writes_both_forms_with_the_offset_of_the_zone() {
        let utc = write(1_795_427_022, &TimeZone::UTC);
        assert_eq!(utc.access.as_slice(), b"[23/Nov/2026:09:43:42 +0000]");
        assert_eq!(utc.error.as_slice(), b"[2026-11-23 09:43:42 +0000]");
        let newfoundland = write(1_795_427_022, &Offset::from_seconds(-12_600).unwrap().to_time_zone());
        assert_eq!(newfoundland.access.as_slice(), b"[23/Nov/2026:06:13:42 -0330]");
        let nepal = write(1_795_427_022, &Offset::from_seconds(20_700).unwrap().to_time_zone());
        assert_eq!(nepal.error.as_slice(), b"[2026-11-23 15:28:42 +0545]");
    }
}
