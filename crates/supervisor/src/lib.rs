//! The master: children, signals, reload, privileges.
#![forbid(unsafe_code)]

mod state;
