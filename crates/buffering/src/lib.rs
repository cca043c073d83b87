//! Memory first, then an unlinked temporary file, under one cap for all temporary files.
//!
//! [`BodyBuffer`] collects a request's body until it is whole. [`ResponseBuffer`] stands between a worker
//! that wants to be done and a client that reads slowly. Neither waits: what does not fit is an error to
//! answer with (a request) or back pressure (a response).
//!
//! Writing a temporary file goes to the page cache from the thread that calls, as in nginx.
#![forbid(unsafe_code)]

mod request;
mod response;
mod temp;

pub use request::{BodyBuffer, BufferedBody, SpilledBody};
pub use response::{ResponseBuffer, ResponseLimits};
pub use temp::{Named, SpillError, TempFile, TempSpace};
