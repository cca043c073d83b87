//! HTTP drivers: a connection becomes exchanges. One module a protocol version; all of them turn bytes into
//! [`exchange::Request`] and [`exchange::BodySource`] and write an [`exchange::Response`].
#![forbid(unsafe_code)]

mod deadline;
mod exchange;
pub mod h1;
pub mod h2;
mod pace;
mod path;

pub use deadline::{Deadline, Deadlines};
pub use exchange::{ClientEvent, Exchange, Nobody, Refusal, Sent, WriteError};
pub use h1::OtherEnd;
pub use pace::{Pace, Room};
pub use path::{InvalidPath, decode, encode, normalize, resolve};
