//! The error log, in gunicorn's format: `[2026-11-23 09:43:00 +0000] [PID] [LEVEL] message`.
//!
//! A message is one write(2) to descriptor 2, which the master has pointed at the error log; whole lines of
//! several processes therefore never mix. Nothing is buffered and no error is reported: there is nowhere to.
//!
//! ```
//! use telemetry::error_log::{self, Level};
//! error_log::init(Level::Info);
//! telemetry::info!("Listening at: http://{}", "127.0.0.1:8000");
//! telemetry::warning_limited!("a client sent {} fields", 1000);
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, Ordering};

use crate::{clock, escape};

/// How grave a message is; the names are gunicorn's `loglevel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// For whoever looks for a defect.
    Debug,
    /// The ordinary life of the processes.
    Info,
    /// Something is wrong and service goes on as before.
    Warning,
    /// A request or a worker is lost.
    Error,
    /// The program cannot go on.
    Critical,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// A `loglevel` that gunicorn does not know either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no log level: debug, info, warning, error or critical")]
pub struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;

    /// Ignores case, as gunicorn does.
    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warning" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            "critical" => Ok(Self::Critical),
            _ => Err(UnknownLevel(text.to_owned())),
        }
    }
}

static LEAST: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Sets the least level that is written; [`Level::Info`] before the first call. May be called again.
pub fn init(least: Level) {
    LEAST.store(least as u8, Ordering::Relaxed);
}

/// Whether messages of this level are written.
pub fn enabled(level: Level) -> bool {
    level as u8 >= LEAST.load(Ordering::Relaxed)
}

/// Writes one line. Control characters of the message, line ends too, are escaped.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    if enabled(level) {
        emit(level, message, None);
    }
}

/// Writes one line and under it `block` as it stands (a traceback): its line ends stay, other control
/// characters are escaped. One write for all of it.
pub fn write_block(level: Level, message: fmt::Arguments<'_>, block: &str) {
    if enabled(level) {
        emit(level, message, Some(block));
    }
}

fn emit(level: Level, message: fmt::Arguments<'_>, block: Option<&str>) {
    let mut rest = &*line(clock::now(), std::process::id(), level, message, block);
    while !rest.is_empty() {
        match rustix::io::write(std::io::stderr(), rest) {
            Ok(0) => return,
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            // A full disk or a reader that is gone or asleep: no reason to stop or to stumble.
            Err(_) => return,
        }
    }
}

fn line(second: i64, pid: u32, level: Level, message: fmt::Arguments<'_>, block: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(160 + block.map_or(0, str::len));
    out.extend_from_slice(&clock::written(second).error);
    out.extend_from_slice(format!(" [{pid}] [{}] ", level.as_str()).as_bytes());
    match message.as_str() {
        Some(text) => escape::message(&mut out, text, false),
        None => escape::message(&mut out, &message.to_string(), false),
    }
    if let Some(block) = block {
        out.push(b'\n');
        escape::message(&mut out, block.trim_end_matches(['\n', '\r']), true);
    }
    out.push(b'\n');
    out
}

/// How often one place in the code may write: [`Limit::BURST`] messages in [`Limit::SECONDS`] seconds, for a
/// place that a client or a fault can make write without end. One per place, so its memory is bounded.
#[derive(Debug)]
pub struct Limit {
    window: AtomicI64,
    count: AtomicU32,
}

impl Limit {
    /// Messages per window.
    pub const BURST: u32 = 10;
    /// Length of a window.
    pub const SECONDS: i64 = 10;

    /// A limit that has let nothing through yet.
    #[allow(clippy::new_without_default, reason = "only ever a static")]
    pub const fn new() -> Self {
        Self { window: AtomicI64::new(i64::MIN), count: AtomicU32::new(0) }
    }

    /// `None`: hold the message back. `Some(n)`: write it, and say that n were held back before it.
    fn pass(&self, now: i64) -> Option<u32> {
        let window = now.div_euclid(Self::SECONDS);
        let mut held = 0;
        let before = self.window.load(Ordering::Relaxed);
        // Whoever wins the exchange opens the window; the others count in it.
        if before != window
            && self.window.compare_exchange(before, window, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            held = self.count.swap(0, Ordering::Relaxed).saturating_sub(Self::BURST);
        }
        (self.count.fetch_add(1, Ordering::Relaxed) < Self::BURST).then_some(held)
    }
}

/// As [`write`], as often as the limit allows; what was held back is told with the next message that passes.
pub fn write_limited(limit: &Limit, level: Level, message: fmt::Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    match limit.pass(clock::now()) {
        None => {}
        Some(0) => emit(level, message, None),
        Some(held) => {
            emit(level, format_args!("{message} ({held} more messages like this were held back)"), None);
        }
    }
}

/// Writes at a level that is a value.
#[macro_export]
macro_rules! log {
    ($level:expr, $($message:tt)+) => {
        if $crate::error_log::enabled($level) {
            $crate::error_log::write($level, format_args!($($message)+));
        }
    };
}

/// Writes at level `critical`.
#[macro_export]
macro_rules! critical {
    ($($message:tt)+) => { $crate::log!($crate::error_log::Level::Critical, $($message)+) };
}

/// Writes at level `error`.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => { $crate::log!($crate::error_log::Level::Error, $($message)+) };
}

/// Writes at level `warning`.
#[macro_export]
macro_rules! warning {
    ($($message:tt)+) => { $crate::log!($crate::error_log::Level::Warning, $($message)+) };
}

/// Writes at level `info`.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => { $crate::log!($crate::error_log::Level::Info, $($message)+) };
}

/// Writes at level `debug`.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => { $crate::log!($crate::error_log::Level::Debug, $($message)+) };
}

/// Writes at a level that is a value, from a place that may want to write often (see [`error_log::Limit`]).
#[macro_export]
macro_rules! log_limited {
    ($level:expr, $($message:tt)+) => {{
        static LIMIT: $crate::error_log::Limit = $crate::error_log::Limit::new();
        $crate::error_log::write_limited(&LIMIT, $level, format_args!($($message)+));
    }};
}

/// Writes at level `error` from a place that may want to write often.
#[macro_export]
macro_rules! error_limited {
    ($($message:tt)+) => { $crate::log_limited!($crate::error_log::Level::Error, $($message)+) };
}

/// Writes at level `warning` from a place that may want to write often.
#[macro_export]
macro_rules! warning_limited {
    ($($message:tt)+) => { $crate::log_limited!($crate::error_log::Level::Warning, $($message)+) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_gunicorns() {
        let line =
            String::from_utf8(line(0, 42, Level::Info, format_args!("Booting {}", "a\nb"), None)).unwrap();
        let (time, rest) = line.split_at(27);
        assert!(time.starts_with('[') && time.ends_with(']'), "{time}");
        assert_eq!(rest, " [42] [INFO] Booting a\\nb\n");
    }

    #[test]
    fn a_block_keeps_its_lines() {
        let text =
            line(0, 1, Level::Error, format_args!("boot failed"), Some("Traceback\n  File \"x\"\x1b\n\n"));
        assert!(text.ends_with(b"[ERROR] boot failed\nTraceback\n  File \"x\"\\x1B\n"));
    }

    #[test]
    fn levels_have_gunicorns_names_and_order() {
        assert_eq!("WARNING".parse(), Ok(Level::Warning));
        assert!("warn".parse::<Level>().unwrap_err().to_string().contains("`warn`"));
        assert!(Level::Debug < Level::Info && Level::Error < Level::Critical);
    }

    #[test]
    fn a_flood_is_held_back_and_counted() {
        let limit = Limit::new();
        let passed = (0..100).filter(|_| limit.pass(1000).is_some()).count();
        assert_eq!(passed, Limit::BURST as usize);
        assert_eq!(limit.pass(1000 + Limit::SECONDS), Some(90));
        assert_eq!(limit.pass(1000 + Limit::SECONDS), Some(0));
    }
}
