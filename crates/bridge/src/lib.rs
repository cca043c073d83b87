//! The protocol between edge and workers: shared-memory exchanges, frames, handshake; both ends.
//!
//! `PROTOCOL.md` beside this crate's sources is the definition. [`edge`] is the edge's end, [`worker`] the worker's;
//! [`control`] are the conversations that the master has with the edge and with the molds.
#![forbid(unsafe_code)]

pub mod control;
pub mod edge;
mod frame;
mod futex;
mod layout;
mod message;
pub mod worker;

pub use frame::{Fields, RequestFrame, ResponseFrame, ResponseHead, ResponseLog};
pub use layout::{MOST_CLAIMERS, MOST_SLOTS, MOST_THREADS, REQUEST_RING, RESPONSE_RING};
