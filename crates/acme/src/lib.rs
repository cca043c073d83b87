//! Certificates that come by themselves (RFC 8555): orders, challenges, renewal.
//!
//! [`program`] is the process; it runs one [`keeper`] for each certificate, which decides by [`schedule`] when there is
//! something to do, has [`order`] do it, and keeps what came of it in a [`store`]. Every word of an authority comes
//! through [`transport`], and a certificate is used only if [`chain`] finds it to be what was asked for.
#![forbid(unsafe_code)]

pub mod ask;
pub mod chain;
pub mod clock;
mod demand;
mod failure;
pub mod hook;
pub mod issuer;
pub mod keeper;
pub mod key;
pub mod local;
pub mod order;
pub mod program;

pub mod schedule;
pub mod store;
pub mod transport;

pub use failure::Failure;
