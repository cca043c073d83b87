//! Client streams: what a listener accepted, as bytes that come and go, in the clear or by TLS.
#![forbid(unsafe_code)]

mod socket;
mod stream;
pub mod tls;

pub use socket::Socket;
pub use stream::Stream;
