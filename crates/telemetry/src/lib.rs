//! What the program tells about itself: access logs and error logs, in gunicorn's form and in nginx's.
//!
//! The crate knows nothing of requests; whoever logs fills an [`AccessEvent`] with borrowed parts, or answers what
//! a variable is.
#![forbid(unsafe_code)]

mod access;
mod buffer;
mod clock;
pub mod error_log;
mod escape;
mod file;
mod nginx;
mod sink;
mod syslog;

pub use access::event::{AccessEvent, FieldSource};
pub use access::format::{AccessFormat, DEFAULT_FORMAT, FormatError};
pub use access::log::{AccessLog, AccessWriter};
pub use clock::{date, time_iso8601, time_local, utc_offset};
pub use file::{OpenError, Target, reopen};
pub use nginx::log_format::render as render_log_format;
pub use nginx::logs::{AccessLogs, access_log_files, unwritten_log_files};
pub use nginx::writer::AccessLogsWriter;
pub use nginx::{Lookup, Way};
