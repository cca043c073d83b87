//! Sessions that go on, and what clients may send before the end of a handshake.

use std::rc::Rc;

use conf_syntax::Directive;

use super::super::level::Level;
use super::super::reader::Reader;
use super::super::table::{Apply, Count, Row};
use super::super::units;
use super::HEAD;
use crate::model::tls::{Secret, SessionCache};

/// Sessions of a cache whose size nobody says.
pub(super) const BUILTIN_SESSIONS: u32 = 20_480;

pub(in crate::nginx) const ROWS: &[Row] = &[
    Row::new(
        "ssl_session_cache",
        HEAD,
        Count::between(1, 2),
        Apply::Custom(|r, l, d| r.ssl_session_cache(l, d)),
        "none",
        "Where sessions are remembered: `off`, `none`, `builtin`, `shared:NAME:SIZE`.",
    )
    .differs("One that is `shared` holds about half as many sessions as nginx's; `builtin` is shared as well."),
    Row::one(
        "ssl_session_timeout",
        HEAD,
        Apply::Seconds(|l| &mut l.ssl_session_timeout),
        "5m",
        "How long a session may go on, also by a ticket.",
    ),
    Row::flag(
        "ssl_session_tickets",
        HEAD,
        |l| &mut l.ssl_session_tickets,
        "on",
        "Clients get tickets, by which their sessions go on.",
    )
    .differs("Keys change every twelve hours and are known for 24 more, over reloads, crashes and binary upgrades."),
    Row::one(
        "ssl_session_ticket_key",
        HEAD,
        Apply::Custom(|r, l, d| r.ssl_session_ticket_key(l, d)),
        "",
        "A file of 48 or 80 random bytes: a key that tickets are encrypted with, to have the same on many machines. The \
         first of several encrypts.",
    )
    .repeats()
    .differs("Tickets are not nginx's: machines that share them all run this program."),
    Row::flag(
        "ssl_early_data",
        HEAD,
        |l| &mut l.ssl_early_data,
        "off",
        "Clients whose session goes on may send requests before the end of the handshake (TLS 1.3, RFC 8470). Pass          `Early-Data $ssl_early_data` on to servers that know it: one that answers 425 is asked again later.",
    )
    .differs(
        "Sessions of such a server are remembered and have no tickets: each is good for one connection, so what          somebody copied runs no second time, whichever event loop it comes to. Only GET, HEAD, OPTIONS and TRACE          without `Upgrade` run before the end of the handshake; others wait for it, at most `client_header_timeout`,          and are answered with 425 then.",
    ),
];

impl<'a> Reader<'a> {
    fn ssl_session_cache(&mut self, level: &mut Level, directive: Directive<'a>) {
        /// What one takes of memory, about.
        const EACH: u64 = 512;
        /// nginx's least size of shared memory.
        const LEAST: u64 = 8 * 4096;
        let (mut cache, mut is_off) = (None, false);
        for word in directive.args {
            let text = word.text().into_owned();
            let parts: Vec<&str> = text.split(':').collect();
            let sessions = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
            let found = match parts.as_slice() {
                ["off" | "none"] => {
                    is_off = true;
                    continue;
                }
                ["builtin"] => Some(SessionCache { name: "builtin".to_owned(), sessions: BUILTIN_SESSIONS }),
                ["builtin", n] => n
                    .parse()
                    .ok()
                    .filter(|n| *n > 0)
                    .map(|n| SessionCache { name: "builtin".to_owned(), sessions: sessions(n) }),
                ["shared", name, size] if !name.is_empty() => {
                    let size = units::size(size.as_bytes());
                    if size.is_some_and(|size| size < LEAST) {
                        self.error(word.span, format!("session cache \"{text}\" is too small"))
                            .help("32k is the least, 1m holds about 2000 sessions");
                        return;
                    }
                    size.map(|size| SessionCache {
                        name: format!("shared:{name}"),
                        sessions: sessions(size / EACH),
                    })
                }
                _ => None,
            };
            let Some(found) = found else {
                self.error(word.span, format!("invalid session cache \"{text}\""))
                    .help("write `off`, `none`, `builtin`, or `shared:NAME:SIZE` as `shared:SSL:10m`");
                return;
            };
            // Of `off`, `none` and `builtin` the last counts; a shared one does not bring `off` back.
            is_off &= found.name.starts_with("shared:");
            // Of both kinds the shared one has them all.
            if cache.is_none() || found.name.starts_with("shared:") {
                cache = Some(found);
            }
        }
        if let Some(cache) = &cache {
            let known = self.offers.caches.entry(cache.name.clone()).or_insert(cache.sessions);
            if *known != cache.sessions && cache.name.starts_with("shared:") {
                self.error(
                    directive.head(),
                    format!("the size of the session cache \"{}\" conflicts with an earlier one", cache.name),
                );
                return;
            }
        }
        level.ssl_session_cache = Some(cache.filter(|_| !is_off));
    }

    fn ssl_session_ticket_key(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let path = self.conf_prefix.join(&*word.text());
        let shown = path.display();
        match self.vault.file(&path) {
            Ok(key) if matches!(key.len(), 48 | 80) => {
                Rc::make_mut(level.ssl_session_ticket_keys.get_or_insert_default()).push(Secret(key));
            }
            Ok(_) => {
                let message = format!("\"{shown}\" must be 48 or 80 bytes");
                self.error(word.span, message).help("`openssl rand 80 > ticket.key` makes one");
            }
            Err(why) => {
                self.error(word.span, format!("cannot load \"{shown}\": {why}"));
            }
        }
    }
}
