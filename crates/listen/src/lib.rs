//! Client streams: what a listener accepted, as bytes that come and go.
#![forbid(unsafe_code)]

mod stream;

pub use stream::Stream;
