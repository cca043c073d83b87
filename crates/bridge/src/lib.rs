//! The protocol between edge and workers: shared-memory exchanges, frames, handshake; both ends.
#![forbid(unsafe_code)]
