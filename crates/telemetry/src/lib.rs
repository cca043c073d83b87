//! What the program tells about itself: the access log in gunicorn's format, and the error log.
//!
//! The crate knows nothing of requests; whoever logs fills an [`AccessEvent`] with borrowed parts.
#![forbid(unsafe_code)]

mod access;
mod buffer;
mod clock;
pub mod error_log;
mod escape;
mod file;
mod sink;

pub use access::event::{AccessEvent, FieldSource};
pub use access::format::{AccessFormat, DEFAULT_FORMAT, FormatError};
pub use access::log::{AccessLog, AccessWriter};
pub use file::{OpenError, Target, reopen};
