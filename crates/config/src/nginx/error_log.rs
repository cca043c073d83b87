//! `error_log`: where messages go, outside of all blocks and within them.

use std::rc::Rc;

use conf_syntax::{Directive, Word};

use super::level::Level;
use super::reader::Reader;
use super::table::Context;
use super::units;
use crate::gunicorn::nearest::nearest;
use crate::model::http::LogLevel;
pub use crate::model::{ErrorLog, ErrorTarget};

/// Bytes of a log in memory, at most.
const MEMORY: u64 = 1 << 30;

impl<'a> Reader<'a> {
    pub(super) fn error_log(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(log) = self.error_log_of(directive) else { return };
        if self.context == Context::MAIN {
            self.main.error_logs.push(log);
        } else {
            Rc::make_mut(level.error_logs.get_or_insert_default()).push(log);
        }
    }

    fn error_log_of(&mut self, directive: Directive<'a>) -> Option<ErrorLog> {
        let word = directive.args.first()?;
        let level = match directive.args.get(1) {
            None => LogLevel::Error,
            Some(word) => self.log_level(word)?,
        };
        let target = match word.value {
            b"stderr" => ErrorTarget::Stderr,
            text if text.starts_with(b"syslog:") => ErrorTarget::Syslog(self.syslog(word)?),
            text if text.starts_with(b"memory:") => {
                let size = units::size(&text[7..]).filter(|size| (1..=MEMORY).contains(size));
                if size.is_none() {
                    let text = word.text().into_owned();
                    self.error(word.span, format!("invalid buffer size \"{text}\""))
                        .help("write `memory:32m`");
                }
                ErrorTarget::Memory(size?)
            }
            text => ErrorTarget::File(self.full_path(text)),
        };
        Some(ErrorLog { target, level })
    }

    fn log_level(&mut self, word: Word<'a>) -> Option<LogLevel> {
        const LEVELS: [(&str, LogLevel); 8] = [
            ("debug", LogLevel::Debug),
            ("info", LogLevel::Info),
            ("notice", LogLevel::Notice),
            ("warn", LogLevel::Warn),
            ("error", LogLevel::Error),
            ("crit", LogLevel::Crit),
            ("alert", LogLevel::Alert),
            ("emerg", LogLevel::Emerg),
        ];
        let found = LEVELS.iter().find(|(name, _)| name.as_bytes() == word.value).map(|(_, level)| *level);
        if found.is_none() {
            let text = word.text().into_owned();
            let near = match &*text {
                "warning" => Some("warn"),
                "critical" | "fatal" => Some("crit"),
                "emergency" => Some("emerg"),
                "trace" | "all" => Some("debug"),
                other => nearest(other, LEVELS.iter().map(|(name, _)| *name)),
            };
            let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            let what = if near.is_empty() { "it" } else { "It" };
            self.error(word.span, format!("invalid log level \"{text}\""))
                .help(format!("{near}{what} is one of `debug`, `info`, `notice`, `warn`, `error`, `crit`, `alert` and `emerg`"));
        }
        found
    }
}
