//! Settings, their table, merge, checks and diagnostics; the typed model.
//!
//! Three forms, never mixed: what the user wrote (a command line, a settings file), the typed and checked
//! [`model::Model`], and what each process compiles from it. A front end lowers its own language to the model;
//! [`model`] knows none of them. The front ends are [`gunicorn`] and [`nginx`].
//! This crate opens no socket, starts no process and runs no Python; what its checks ask the machine goes through
//! [`host::Host`].
#![forbid(unsafe_code)]

pub mod gunicorn;
pub mod host;
pub mod invocation;
pub mod model;
pub mod nginx;
pub mod pattern;
mod report;
mod site;
pub mod tls;

pub use gunicorn::{CONFIGURATIONS, CommandLine, ConfigFile, Merged, SettingsFile, parse_command_line};
pub use model::Model;
pub use model::tls::Vault;
pub use report::{Diagnostic, Notes, Place, Report, Severity};
pub use site::{Application, Site};
