//! `sticky`: clients come back to their servers.

use std::time::{SystemTime, UNIX_EPOCH};

use config::model::http::{Sticky, StickyCookie, StickyExpires, Value};
use exchange::{Fields, Name, Request};
use upstream::{Choice, Lease};

use super::super::visit::Visit;

impl Visit<'_, '_> {
    /// Leads the request to the server that its client had before.
    pub(super) fn lead(&mut self, request: &Request, sticky: Option<&Sticky>, choice: &mut Choice) {
        let id = match sticky {
            None => return,
            Some(Sticky::Cookie(cookie)) => self.first_of(request, &[config::nginx::cookie_value(cookie)]),
            Some(Sticky::Route(values)) => self.first_of(request, values),
            Some(Sticky::Learn(learn)) => self.first_of(request, &learn.lookup),
        };
        if let Some(id) = id {
            choice.lead(id);
        }
    }

    /// A server has answered: the client is told which, or the session is remembered.
    pub(super) fn stick(&mut self, request: &Request, lease: &Lease, fields: &mut Fields) {
        match lease.sticky() {
            None | Some(Sticky::Route(_)) => {}
            Some(Sticky::Cookie(cookie)) => {
                let text = self.sticky_cookie(request, cookie, lease.sid());
                if http1::is_field_value(&text) {
                    fields.push_known(Name::SetCookie, &text);
                }
            }
            Some(Sticky::Learn(learn)) => {
                if let Some(id) = self.first_of(request, &learn.create) {
                    lease.serves(id, true);
                } else if let Some(id) = self.first_of(request, &learn.lookup) {
                    lease.serves(id, false);
                }
            }
        }
    }

    /// The first that is not empty.
    fn first_of(&mut self, request: &Request, values: &[Value]) -> Option<Vec<u8>> {
        values.iter().map(|value| self.value(value, request)).find(|id| !id.is_empty())
    }

    fn sticky_cookie(&mut self, request: &Request, cookie: &StickyCookie, sid: &[u8]) -> Vec<u8> {
        let mut text = [&cookie.name[..], b"=", sid].concat();
        match cookie.expires {
            None => {}
            Some(StickyExpires::Max) => {
                text.extend_from_slice(b"; expires=Thu, 31-Dec-37 23:55:55 GMT; max-age=315360000");
            }
            Some(StickyExpires::After(time)) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
                let date = cookie_date(now.saturating_add(time.as_secs()));
                text.extend_from_slice(b"; expires=");
                text.extend_from_slice(&date);
                text.extend_from_slice(format!("; max-age={}", time.as_secs()).as_bytes());
            }
        }
        let mut add = |name: &str, value: &[u8]| {
            if !value.is_empty() && !value.contains(&b';') {
                text.extend_from_slice(name.as_bytes());
                text.extend_from_slice(value);
            }
        };
        if let Some(domain) = &cookie.domain {
            add("; domain=", &self.value(domain, request));
        }
        if cookie.httponly {
            add("; ", b"httponly");
        }
        if cookie.secure {
            add("; ", b"secure");
        }
        if let Some(samesite) = &cookie.samesite {
            let value = self.value(samesite, request);
            let is_known =
                [&b"strict"[..], b"lax", b"none"].iter().any(|known| known.eq_ignore_ascii_case(&value));
            // What is none of them is taken to be the strictest.
            add("; samesite=", if is_known || value.is_empty() { &value } else { b"strict" });
        }
        if let Some(path) = &cookie.path {
            add("; path=", path);
        }
        text
    }
}

/// A date as cookies have it: dashes, and two digits of the year where that is not ambiguous to old clients.
fn cookie_date(seconds: u64) -> Vec<u8> {
    let mut date = exchange::http_date(seconds).to_vec();
    for at in [7, 11] {
        if let Some(byte) = date.get_mut(at) {
            *byte = b'-';
        }
    }
    let year =
        date.get(12..16).and_then(|year| std::str::from_utf8(year).ok()).and_then(|year| year.parse().ok());
    if year.is_some_and(|year: u32| year < 2038) {
        date.drain(12..14);
    }
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_cookies() {
        assert_eq!(cookie_date(784_111_777), b"Sun, 06-Nov-94 08:49:37 GMT");
        assert_eq!(cookie_date(2_145_916_555), b"Thu, 31-Dec-37 23:55:55 GMT");
        assert_eq!(cookie_date(2_145_916_800), b"Fri, 01-Jan-2038 00:00:00 GMT");
    }
}
