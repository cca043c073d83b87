//! `limit_rate`: how fast a response leaves.

use std::sync::Arc;
use std::time::Duration;

use exchange::{Request, Response};
use limits::bandwidth::{Allowance, Bandwidth};
use protocol::{Pace, Room};
use telemetry::error_log::Level;

use super::visit::Visit;
use crate::event_loop::Process;

impl Visit<'_, '_> {
    /// Slows the response down where a rate is set: by `set $limit_rate` and `X-Accel-Limit-Rate`, else `limit_rate`.
    pub(super) fn pace(&mut self, request: &Request, response: &Response) {
        let settings = self.settings();
        if settings.limit_rate.is_none() && self.facts.limit_rate.borrow().is_none() {
            return;
        }
        let stored = self.facts.limit_rate.borrow().clone();
        let rate = match (stored, &settings.limit_rate) {
            (Some(rate), _) => rate,
            (None, Some(value)) => self.value_of(value, request, response),
            (None, None) => return,
        };
        let after = settings.limit_rate_after.as_ref().map(|value| self.value_of(value, request, response));
        let rate = self.bytes(request, &rate);
        let after = after.map_or(0, |after| self.bytes(request, &after));
        *self.facts.limit_rate.borrow_mut() = Some(rate.to_string().into_bytes());
        if rate > 0 {
            let process = Arc::clone(&self.event_loop.process);
            let start = process.millis();
            let limit = Bandwidth { rate, after };
            self.exchange.set_pace(Box::new(Limited { limit, start, process }));
        }
    }

    fn bytes(&self, request: &Request, text: &[u8]) -> u64 {
        size(text).unwrap_or_else(|| {
            let text = String::from_utf8_lossy(text);
            self.facts.log(Level::Error, Some(request), format_args!("invalid size \"{text}\""));
            0
        })
    }
}

/// A size as nginx.conf has it: `1024`, `8k`, `1m`. An empty text is none.
pub(super) fn size(text: &[u8]) -> Option<u64> {
    let (digits, scale) = match text.split_last() {
        None => return Some(0),
        Some((b'k' | b'K', digits)) => (digits, 1 << 10),
        Some((b'm' | b'M', digits)) => (digits, 1 << 20),
        Some(_) => (text, 1),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse::<u64>().ok()?.checked_mul(scale)
}

struct Limited {
    limit: Bandwidth,
    start: limits::Millis,
    process: Arc<Process>,
}

impl Pace for Limited {
    fn room(&mut self, sent: u64) -> Room {
        match self.limit.allowance(sent, self.start, self.process.millis()) {
            Allowance::Unlimited => Room::Bytes(u64::MAX),
            Allowance::Bytes(bytes) => Room::Bytes(bytes),
            Allowance::Wait(time) => Room::Wait(time),
        }
    }

    fn pause(&mut self, before: u64, after: u64) -> Duration {
        self.limit.pause(before, after)
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("", Some(0)),
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("8k", Some(8192)),
            ("1M", Some(1 << 20)),
            ("k", None),
            ("1g", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("99999999999999999m", None),
        ] {
            assert_eq!(size(text.as_bytes()), bytes, "{text}");
        }
    }
}
