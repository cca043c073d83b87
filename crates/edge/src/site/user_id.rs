//! `userid`: identifiers of clients, as nginx makes them.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use config::model::http::{UserId, UserIdMode, Value};
use exchange::{Name, Request, Response};
use telemetry::error_log::Level;

use super::facts::Facts;
use super::visit::Visit;

/// Four numbers: service, time, process and a running number.
type Identifier = [u8; 16];

/// Letters that 16 bytes take, without the padding behind them.
const LETTERS: usize = 22;

/// What is known of a request's client.
#[derive(Debug, Default)]
pub struct Identifiers {
    /// The cookie as it came.
    cookie: Vec<u8>,
    got: Option<Identifier>,
    set: Option<Identifier>,
    /// `$uid_reset` has replaced the one that came.
    reset: bool,
}

impl Visit<'_, '_> {
    /// Gives the client its identifier, where it gets one.
    pub(super) fn identify(&mut self, request: &Request, response: &mut Response) {
        let Some(settings) = self.settings().user_id.as_deref() else { return };
        if self.is_inner() || settings.mode == UserIdMode::Log {
            return;
        }
        let reset = self.site.uid_reset.as_ref().map(|value| self.value(value, request)).unwrap_or_default();
        self.facts.create_uid(settings, request, &reset);
        let rare = self.facts.rare();
        let Some(known) = &rare.user_id else { return };
        let Some(set) = known.set else { return };
        let mut value = [&settings.name[..], b"="].concat();
        if known.got.is_none() || known.reset {
            let mut text = base64::engine::general_purpose::STANDARD.encode(set).into_bytes();
            if let Some(mark) = settings.mark {
                text[LETTERS] = mark;
            }
            value.extend(text);
        } else {
            value.extend_from_slice(&known.cookie[..LETTERS]);
            value.extend([settings.mark.unwrap_or(b'='), b'=']);
        }
        if let Some(time) = settings.expires {
            value.extend_from_slice(b"; expires=");
            value.extend(cookie_date(time));
        }
        value.extend_from_slice(&settings.attributes);
        response.fields.push_known(Name::SetCookie, &value);
        if !settings.p3p.is_empty() {
            response.fields.push(b"P3P", &settings.p3p);
        }
    }
}

impl Facts<'_> {
    /// `$uid_got`
    pub(super) fn uid_got(&self, request: &Request, out: &mut Vec<u8>) -> bool {
        let Some(settings) = self.user_id_settings() else { return false };
        self.read_uid(settings, request);
        let got = self.rare().user_id.as_ref().and_then(|known| known.got);
        got.is_some_and(|got| show(&settings.name, got, out))
    }

    /// `$uid_set`
    pub(super) fn uid_set(
        &self,
        request: &Request,
        text: &mut dyn FnMut(&Value) -> Vec<u8>,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(settings) = self.user_id_settings().filter(|s| s.mode != UserIdMode::Log) else {
            return false;
        };
        let reset = self.site.uid_reset.as_ref().map(text).unwrap_or_default();
        self.create_uid(settings, request, &reset);
        let set = self.rare().user_id.as_ref().and_then(|known| known.set);
        set.is_some_and(|set| show(&settings.name, set, out))
    }

    fn user_id_settings(&self) -> Option<&UserId> {
        self.site.http().settings[self.settings.get() as usize].user_id.as_deref()
    }

    /// Reads the client's cookie.
    fn read_uid(&self, settings: &UserId, request: &Request) {
        let mut rare = self.rare();
        if rare.user_id.is_some() {
            return;
        }
        let known = rare.user_id.insert(Identifiers::default());
        let lines = request.fields.all(Name::Cookie);
        let mut found = lines.filter_map(|line| Some((routing::cookie(line, &settings.name)?, line)));
        let Some((cookie, line)) = found.next() else { return };
        known.cookie = cookie.to_vec();
        let line = String::from_utf8_lossy(line);
        let Some(letters) = cookie.get(..LETTERS) else {
            let what = format_args!("client sent too short userid cookie \"{line}\"");
            return self.log(Level::Error, Some(request), what);
        };
        let decoded = decode(letters);
        if decoded.is_none() {
            let what = format_args!("client sent invalid userid cookie \"{line}\"");
            self.log(Level::Error, Some(request), what);
        }
        // A running number is never zero.
        known.got = decoded.filter(|got| got[12..] != [0; 4]);
    }

    /// Makes an identifier for a client that has none, or whose own does not count.
    fn create_uid(&self, settings: &UserId, request: &Request, reset: &[u8]) {
        self.read_uid(settings, request);
        let mut rare = self.rare();
        let Some(known) = rare.user_id.as_mut().filter(|known| known.set.is_none()) else { return };
        if let Some(got) = known.got {
            if matches!(reset, b"" | b"0") {
                let is_marked = |mark| known.cookie.get(LETTERS..LETTERS + 2) == Some(&[mark, b'=']);
                // Another mark is written into the same identifier.
                if settings.mark.is_some_and(|mark| !is_marked(mark)) {
                    known.set = Some(got);
                }
                return;
            }
            known.reset = true;
            if reset == b"log" {
                let mut text = Vec::new();
                show(&settings.name, got, &mut text);
                let text = String::from_utf8_lossy(&text);
                let what = format_args!("userid cookie \"{text}\" was reset");
                self.log(Level::Notice, Some(request), what);
            }
        }
        known.set = Some(fresh(settings, self.ends.local.map(|local| local.ip())));
    }
}

/// An identifier that nobody has.
fn fresh(settings: &UserId, local: Option<IpAddr>) -> Identifier {
    /// Where nginx begins, and goes on to after all numbers.
    const FIRST: u32 = 0x0303_0302;
    static RUNNING: [AtomicU32; 2] = [AtomicU32::new(1), AtomicU32::new(FIRST)];
    let is_v1 = settings.mode == UserIdMode::V1;
    let running = &RUNNING[usize::from(!is_v1)];
    let mut number = running.fetch_add(0x100, Ordering::Relaxed);
    while !is_v1 && number < FIRST {
        let _ =
            running.compare_exchange(number.wrapping_add(0x100), FIRST, Ordering::Relaxed, Ordering::Relaxed);
        number = running.fetch_add(0x100, Ordering::Relaxed);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as u32;
    let address = match local.map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) if !is_v1 => u32::from(ip),
        Some(IpAddr::V6(ip)) if !is_v1 => ip.to_bits() as u32,
        _ => 0,
    };
    let numbers = [settings.service.unwrap_or(address), now, process(), number];
    let mut identifier = Identifier::default();
    for (bytes, number) in identifier.chunks_exact_mut(4).zip(numbers) {
        bytes.copy_from_slice(&if is_v1 { number.to_le_bytes() } else { number.to_be_bytes() });
    }
    identifier
}

/// What tells processes apart: a part of the time at which this one first asked, and its number.
fn process() -> u32 {
    static PROCESS: OnceLock<u32> = OnceLock::new();
    *PROCESS.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        ((since.subsec_micros() / 20) << 16) | std::process::id()
    })
}

/// `uid=` and the four numbers in hexadecimal, as a machine reads them whose least byte is the first.
fn show(name: &[u8], identifier: Identifier, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(name);
    out.push(b'=');
    for bytes in identifier.chunks_exact(4) {
        let number = bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
        out.extend(format!("{number:08X}").into_bytes());
    }
    true
}

/// 22 letters of base64; what remains of the last one is not looked at.
fn decode(letters: &[u8]) -> Option<Identifier> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireNone),
    );
    LENIENT.decode(letters).ok()?.try_into().ok()
}

/// The date so long from now, with dashes and two digits of the year, as the first browsers wanted it.
fn cookie_date(time: Duration) -> Vec<u8> {
    if time == Duration::MAX {
        return b"Thu, 31-Dec-37 23:55:55 GMT".to_vec();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    with_dashes(&exchange::http_date(now.saturating_add(time).as_secs()))
}

/// `Thu, 01 Jan 1970 …` as `Thu, 01-Jan-70 …`; two digits are too few for a year after 2037.
fn with_dashes(date: &[u8; 29]) -> Vec<u8> {
    let year = if date[12..16] > b"2037"[..] { &date[12..16] } else { &date[14..16] };
    [&date[..7], b"-", &date[8..11], b"-", year, &date[16..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(mode: UserIdMode, service: Option<u32>) -> UserId {
        UserId {
            mode,
            service,
            name: b"uid".to_vec(),
            expires: None,
            attributes: vec![],
            p3p: vec![],
            mark: None,
        }
    }

    #[test]
    fn identifiers_differ_and_say_who_made_them() {
        let local = Some("127.0.0.1".parse().unwrap());
        let [one, two] = [0; 2].map(|_| fresh(&settings(UserIdMode::On, None), local));
        assert_ne!(one, two);
        assert_eq!(one[..4], [127, 0, 0, 1]);
        assert_eq!(fresh(&settings(UserIdMode::On, None), Some("::1".parse().unwrap()))[..4], [0, 0, 0, 1]);
        assert_eq!(fresh(&settings(UserIdMode::On, None), None)[..4], [0; 4]);
        assert_eq!(fresh(&settings(UserIdMode::On, Some(0xFFFE)), local)[..4], [0, 0, 0xFF, 0xFE]);
        assert_eq!(fresh(&settings(UserIdMode::V1, Some(0xFFFE)), local)[..4], [0xFE, 0xFF, 0, 0]);
        assert_eq!(fresh(&settings(UserIdMode::V1, None), local)[..4], [0; 4]);
    }

    #[test]
    fn what_is_written_is_read() {
        let id = fresh(&settings(UserIdMode::On, None), None);
        let text = base64::engine::general_purpose::STANDARD.encode(id);
        assert_eq!(decode(&text.as_bytes()[..LETTERS]), Some(id));
        assert_eq!(decode(b"AAAAAAAAAAAAAAAAAAAAA/"), decode(b"AAAAAAAAAAAAAAAAAAAAAw"));
        assert_eq!(decode(b"AAAAAAAAAAAAAAAAAAAA=="), None);
        let mut shown = Vec::new();
        show(b"n", *b"\x01\0\0\x7F\0\0\0\0\0\0\0\0\x02\x03\x03\x03", &mut shown);
        assert_eq!(shown, b"n=7F000001000000000000000003030302");
    }

    #[test]
    fn dates_of_cookies_have_dashes() {
        assert_eq!(with_dashes(b"Sun, 06 Nov 1994 08:49:37 GMT"), b"Sun, 06-Nov-94 08:49:37 GMT");
        assert_eq!(with_dashes(b"Fri, 06 Nov 2043 08:49:37 GMT"), b"Fri, 06-Nov-2043 08:49:37 GMT");
    }
}
