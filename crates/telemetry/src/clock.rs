//! Local time as the logs write it, formatted once per second and thread.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The ways in which one second is written.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    second: i64,
    /// `[23/Nov/2026:09:43:00 +0000]`
    pub(crate) access: [u8; 28],
    /// `[2026-11-23 09:43:00 +0000]`
    pub(crate) error: [u8; 27],
    /// `2026/11/23 09:43:00`
    pub(crate) nginx_error: [u8; 19],
    /// `Nov 23 09:43:00`; the day of one digit has a space before it.
    pub(crate) syslog: [u8; 15],
    /// `2026-11-23T09:43:00+00:00`
    pub(crate) iso8601: [u8; 25],
}

/// Appends what nginx's `$time_local` is: `23/Nov/2026:09:43:00 +0000`. `second` counts from 1970.
pub fn time_local(second: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&written(second).access[1..27]);
}

/// Appends what nginx's `$time_iso8601` is: `2026-11-23T09:43:00+00:00`. `second` counts from 1970.
pub fn time_iso8601(second: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&written(second).iso8601);
}

/// Appends what nginx's `$date_local` and, with `gmt`, `$date_gmt` are: `Monday, 23-Nov-2026 09:43:00 CET`, or what a
/// page's `timefmt` asks for in the letters of strftime. `false`, and nothing appended, if it asks for what there is
/// not.
pub fn date(second: i64, format: Option<&[u8]>, gmt: bool, out: &mut Vec<u8>) -> bool {
    let format = format.map_or("%A, %d-%b-%Y %H:%M:%S %Z".into(), String::from_utf8_lossy);
    let zone = if gmt { TimeZone::UTC } else { zone().clone() };
    // The zone is called GMT in what is sent to browsers; the seconds since 1970 are `%s`, as everywhere.
    let format = if gmt { format.replace("%Z", "GMT") } else { format.into_owned() };
    let zoned = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
    let text = jiff::fmt::strtime::format(&format, &zoned);
    text.is_ok_and(|text| {
        out.extend_from_slice(text.as_bytes());
        true
    })
}

/// Seconds that the system's time zone is ahead of UTC now.
pub fn utc_offset() -> i32 {
    thread_local! {
        static LAST: std::cell::Cell<(i64, i32)> = const { std::cell::Cell::new((0, 0)) };
    }
    let hour = now() / 3600;
    if LAST.get().0 != hour {
        let at = Timestamp::from_second(hour * 3600).unwrap_or(Timestamp::UNIX_EPOCH);
        LAST.set((hour, zone().to_offset(at).seconds()));
    }
    LAST.get().1
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
    let time = format!("{:02}:{:02}:{:02}", zoned.hour(), zoned.minute(), zoned.second());
    let month_name = MONTHS[month as usize - 1];
    let mut written = Written {
        second,
        access: [b' '; 28],
        error: [b' '; 27],
        nginx_error: [b' '; 19],
        syslog: [b' '; 15],
        iso8601: [b' '; 25],
    };
    let offset = format!("{sign}{zone_hour:02}{zone_minute:02}");
    fill(&mut written.access, &format!("[{day:02}/{month_name}/{year:04}:{time} {offset}]"));
    fill(&mut written.error, &format!("[{year:04}-{month:02}-{day:02} {time} {offset}]"));
    fill(&mut written.nginx_error, &format!("{year:04}/{month:02}/{day:02} {time}"));
    fill(&mut written.syslog, &format!("{month_name} {day:2} {time}"));
    let offset = format!("{sign}{zone_hour:02}:{zone_minute:02}");
    fill(&mut written.iso8601, &format!("{year:04}-{month:02}-{day:02}T{time}{offset}"));
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
    fn dates_have_the_name_of_their_zone() {
        let shown = |format: Option<&str>| {
            let mut out = Vec::new();
            let is_known = date(1_795_427_022, format.map(str::as_bytes), true, &mut out);
            is_known.then(|| String::from_utf8(out).unwrap())
        };
        assert_eq!(shown(None).as_deref(), Some("Monday, 23-Nov-2026 09:43:42 GMT"));
        assert_eq!(shown(Some("%s")).as_deref(), Some("1795427022"));
        assert_eq!(shown(Some("%Y-%m-%d %H:%M %Z")).as_deref(), Some("2026-11-23 09:43 GMT"));
        assert_eq!(shown(Some("%")), None);
    }

    #[test]
    fn writes_all_forms_with_the_offset_of_the_zone() {
        let utc = write(1_795_427_022, &TimeZone::UTC);
        assert_eq!(utc.access.as_slice(), b"[23/Nov/2026:09:43:42 +0000]");
        assert_eq!(utc.error.as_slice(), b"[2026-11-23 09:43:42 +0000]");
        assert_eq!(utc.nginx_error.as_slice(), b"2026/11/23 09:43:42");
        assert_eq!(utc.iso8601.as_slice(), b"2026-11-23T09:43:42+00:00");
        assert_eq!(utc.syslog.as_slice(), b"Nov 23 09:43:42");
        assert_eq!(write(0, &TimeZone::UTC).syslog.as_slice(), b"Jan  1 00:00:00");
        let newfoundland = write(1_795_427_022, &Offset::from_seconds(-12_600).unwrap().to_time_zone());
        assert_eq!(newfoundland.access.as_slice(), b"[23/Nov/2026:06:13:42 -0330]");
        assert_eq!(newfoundland.iso8601.as_slice(), b"2026-11-23T06:13:42-03:30");
        let nepal = write(1_795_427_022, &Offset::from_seconds(20_700).unwrap().to_time_zone());
        assert_eq!(nepal.error.as_slice(), b"[2026-11-23 15:28:42 +0545]");
    }
}
