//! HTTP dates (RFC 9110 §5.6.7).

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// An IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`, of seconds since 1970 (0 to the year 9999).
pub fn http_date(seconds: u64) -> [u8; 29] {
    let seconds = seconds.min(253_402_300_799);
    let days = seconds / 86_400;
    let (year, month, day) = civil(days as i64);
    let of_day = seconds % 86_400;
    let mut out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    out[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    two(&mut out[5..7], day);
    out[8..11].copy_from_slice(MONTHS[month as usize - 1]);
    two(&mut out[12..14], year / 100);
    two(&mut out[14..16], year % 100);
    two(&mut out[17..19], (of_day / 3600) as u32);
    two(&mut out[20..22], (of_day / 60 % 60) as u32);
    two(&mut out[23..25], (of_day % 60) as u32);
    out
}

/// Seconds since 1970 of an IMF-fixdate, an RFC 850 date or an asctime date; `None` for anything else.
pub fn parse_http_date(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    let (day, month, year, time) = if text.len() == 29 && text[3] == b',' {
        (number(&text[5..7])?, &text[8..11], number(&text[12..16])?, &text[17..25])
    } else if text.len() == 24 && text[3] == b' ' {
        let day = number(text[8..10].trim_ascii_start())?;
        (day, &text[4..7], number(&text[20..24])?, &text[11..19])
    } else {
        let comma = text.iter().position(|&b| b == b',')?;
        let rest = text.get(comma + 2..)?;
        if rest.len() != 22 {
            return None;
        }
        // Two digits of a year: RFC 9110 lets what seems over 50 years ahead be in the past.
        let year = number(&rest[7..9])?;
        (number(&rest[..2])?, &rest[3..6], if year < 70 { 2000 + year } else { 1900 + year }, &rest[10..18])
    };
    let month = MONTHS.iter().position(|m| m.as_slice() == month)? as u32 + 1;
    let (hour, minute, second) = (number(&time[..2])?, number(&time[3..5])?, number(&time[6..8])?);
    if !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 || year < 1970 {
        return None;
    }
    let days = days_from_civil(i64::from(year), month, day);
    u64::try_from(days * 86_400 + i64::from(hour * 3600 + minute * 60 + second)).ok()
}

fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 4 {
        return None;
    }
    text.iter().try_fold(0u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
}

fn two(out: &mut [u8], n: u32) {
    out[0] = b'0' + (n / 10) as u8;
    out[1] = b'0' + (n % 10) as u8;
}

/// Year, month, day of days since 1970 (proleptic Gregorian; the era arithmetic counts years from March).
fn civil(days: i64) -> (u32, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year as u32, month as u32, (doy - (153 * mp + 2) / 5 + 1) as u32)
}

fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let m = i64::from(month);
    let doy = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_of_rfc_9110() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse_http_date(text.as_bytes()), Some(784_111_777), "{text}");
        }
        assert_eq!(&http_date(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&http_date(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn round_trips_over_leap_years() {
        for seconds in (0..4_102_444_800).step_by(86_400 * 13 + 12_345) {
            assert_eq!(parse_http_date(&http_date(seconds)), Some(seconds));
        }
    }

    #[test]
    fn refuses_what_is_no_date() {
        for text in [
            "",
            "0",
            "Sun, 06 Nov 1994",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "x, ",
        ] {
            assert_eq!(parse_http_date(text.as_bytes()), None, "{text}");
        }
    }
}
