//! HTTP drivers: a connection becomes exchanges. One module a protocol version; all of them turn bytes into
//! [`exchange::Request`] and [`exchange::BodySource`] and write an [`exchange::Response`].
#![forbid(unsafe_code)]

mod deadline;
pub mod h1;
mod path;

pub use deadline::{Deadline, Deadlines};
pub use path::{InvalidPath, decode, encode, normalize, resolve};
