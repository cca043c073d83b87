//! The error log, in one of two forms.
//!
//! Gunicorn's, `[2026-11-23 09:43:00 +0000] [PID] [LEVEL] message`: a message is one write(2) to descriptor 2, which
//! the master has pointed at the error log; whole lines of several processes therefore never mix. Nothing is buffered
//! and no error is reported: there is nowhere to.
//!
//! nginx's, `2026/11/23 09:43:00 [error] PID#TID: *7 message, client: 192.0.2.1, …`, to the logs that
//! [`init_nginx`] opened.
//!
//! ```
//! use telemetry::error_log::{self, Level};
//! error_log::init(Level::Info);
//! telemetry::info!("Listening at: http://{}", "127.0.0.1:8000");
//! telemetry::warning_limited!("a client sent {} fields", 1000);
//! ```

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock;
use crate::file::OpenError;

mod destination;
mod level;
mod limit;
mod line;
mod macros;
mod memory;

pub use destination::{Destination, Logs};
pub use level::{Level, UnknownLevel};
pub use limit::Limit;
pub use line::Context;

static LEAST: AtomicU8 = AtomicU8::new(Level::Info as u8);
/// nginx's form, if that was chosen.
static NGINX: RwLock<Option<Arc<destination::Open>>> = RwLock::new(None);

/// Chooses gunicorn's form, and the least level that is written; [`Level::Info`] before the first call. May be called
/// again.
pub fn init(least: Level) {
    replace(None, least);
}

/// Chooses nginx's form and opens the logs. May be called again: a file that stays is not opened anew.
///
/// # Errors
/// The first log that cannot be opened; then nothing has changed.
pub fn init_nginx(logs: &Logs) -> Result<(), OpenError> {
    let open = destination::Open::new(logs)?;
    let least = open.least();
    replace(Some(Arc::new(open)), least);
    Ok(())
}

fn replace(nginx: Option<Arc<destination::Open>>, least: Level) {
    *NGINX.write().unwrap_or_else(PoisonError::into_inner) = nginx;
    LEAST.store(least as u8, Ordering::Relaxed);
}

/// Whether messages of this level are written to any log.
pub fn enabled(level: Level) -> bool {
    level as u8 >= LEAST.load(Ordering::Relaxed)
}

/// Writes one line. Control characters of the message, line ends too, are escaped.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    if enabled(level) {
        emit(level, None, message, None);
    }
}

/// Writes one line that says whose connection and request it is about, to the log that holds there.
pub fn write_with(level: Level, context: &Context<'_>, message: fmt::Arguments<'_>) {
    if enabled(level) {
        emit(level, Some(context), message, None);
    }
}

/// Writes one line and under it `block` as it stands (a traceback): its line ends stay, other control
/// characters are escaped. One write for all of it.
pub fn write_block(level: Level, message: fmt::Arguments<'_>, block: &str) {
    if enabled(level) {
        emit(level, None, message, Some(block));
    }
}

/// As [`write`], as often as the limit allows; what was held back is told with the next message that passes.
pub fn write_limited(limit: &Limit, level: Level, message: fmt::Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    match limit.pass(clock::now()) {
        None => {}
        Some(0) => emit(level, None, message, None),
        Some(held) => {
            emit(
                level,
                None,
                format_args!("{message} ({held} more messages like this were held back)"),
                None,
            );
        }
    }
}

/// As [`write_with`], as often as the limit allows.
pub fn write_limited_with(limit: &Limit, level: Level, context: &Context<'_>, message: fmt::Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    match limit.pass(clock::now()) {
        None => {}
        Some(0) => emit(level, Some(context), message, None),
        Some(held) => {
            let message = format_args!("{message} ({held} more messages like this were held back)");
            emit(level, Some(context), message, None);
        }
    }
}

fn emit(level: Level, context: Option<&Context<'_>>, message: fmt::Arguments<'_>, block: Option<&str>) {
    // Not under the lock: a syslog server that cannot be reached is told here too.
    let nginx = NGINX.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(open) = nginx {
        open.write(level, context, message, block);
    } else {
        let line = line::gunicorn(clock::now(), std::process::id(), level, context, message, block);
        destination::stderr(&line);
    }
}
