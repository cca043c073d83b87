//! Settings, their table, merge, checks and diagnostics; the typed model.
//!
//! Three forms, never mixed: what the user wrote (a command line, a settings file), the typed and checked
//! [`model::Model`], and what each process compiles from it. A front end lowers its own language to the model;
//! [`model`] knows none of them. This crate opens no socket, starts no process and runs no Python.
#![forbid(unsafe_code)]

pub mod model;

pub use model::Model;
