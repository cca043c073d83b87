//! `proxy_store` and its like: answers that become files.

use conf_syntax::Directive;

use super::level::Level;
use super::pass::{PassLevel, pass};
use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use super::values::full_value;
use crate::model::http::{CacheKind, Family, Store};

const ALL: Context = Context::ALL;

/// The rows of one beginning.
macro_rules! rows {
    ($prefix:literal, $family:expr, $kind:expr) => {
        &[
            Row::one(
                concat!($prefix, "_store"),
                ALL,
                Apply::Custom(|r, l, d| {
                    r.store(pass(l, $family), d);
                    r.not_both(l, $kind, d);
                }),
                "off",
                "An answer with status 200 to a GET becomes a file: `on` puts it where `root` and `alias` have it, else \
                 this is its path.",
            ),
            Row::new(
                concat!($prefix, "_store_access"),
                ALL,
                Count::between(1, 3),
                Apply::Custom(|r, l, d| r.store_access(pass(l, $family), d)),
                "user:rw",
                "Who may read and write such files: `user:rw group:rw all:r`.",
            ),
        ]
    };
}

pub(super) const PROXY: &[Row] = rows!("proxy", Family::Proxy, CacheKind::Proxy);
pub(super) const FASTCGI: &[Row] = rows!("fastcgi", Family::FastCgi, CacheKind::FastCgi);
pub(super) const UWSGI: &[Row] = rows!("uwsgi", Family::Uwsgi, CacheKind::Uwsgi);
pub(super) const SCGI: &[Row] = rows!("scgi", Family::Scgi, CacheKind::Scgi);

impl<'a> Reader<'a> {
    fn store(&mut self, level: &mut PassLevel, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let value = self.value(word);
        level.store = Some(match value.as_text() {
            Some(b"off") => None,
            Some(b"on") => Some(None),
            _ => Some(Some(full_value(value, &self.prefix))),
        });
    }

    /// What is kept by itself is not kept in the cache.
    pub(super) fn not_both(&mut self, level: &Level, kind: CacheKind, directive: Directive<'a>) {
        let Some(family) = Family::ALL.into_iter().find(|family| family.cache() == Some(kind)) else {
            return;
        };
        let stores = level.passes[family as usize].as_ref();
        let stores = stores.is_some_and(|own| matches!(own.store, Some(Some(_))));
        if stores && super::cache::is_on(level, kind) {
            let prefix = family.prefix();
            let message = format!("\"{prefix}_store\" is incompatible with \"{prefix}_cache\"");
            self.error(directive.head(), message);
        }
    }

    fn store_access(&mut self, level: &mut PassLevel, directive: Directive<'a>) {
        let mut access = 0o600;
        for word in directive.args {
            let text = word.text().into_owned();
            let (who, what) = text.split_once(':').unwrap_or((&text, ""));
            let bits = match what {
                "r" => 0o4,
                "rw" => 0o6,
                _ => 0,
            };
            access |= match who {
                "user" if bits > 0 => bits << 6,
                "group" if bits > 0 => bits << 3,
                "all" if bits > 0 => bits,
                _ => {
                    self.error(word.span, format!("invalid value \"{text}\""))
                        .help("for example `user:rw group:rw all:r`");
                    return;
                }
            };
        }
        level.store_access = Some(access);
    }
}

/// Where answers become files, if they do.
pub(super) fn settle(p: &PassLevel) -> Option<Store> {
    let path = p.store.clone().flatten()?;
    Some(Store { path, access: p.store_access.unwrap_or(0o600) })
}
