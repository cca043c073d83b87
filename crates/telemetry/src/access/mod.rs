//! The access log: [`format`](mod@format) compiles gunicorn's format string once, [`event`] renders a
//! finished request with it, [`log`] batches the lines of each thread into few writes.

mod basic_auth;
pub(crate) mod event;
pub(crate) mod format;
pub(crate) mod log;
