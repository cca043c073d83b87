//! The master: children, signals, reload, privileges.
//!
//! [`run`] reads the command line, lets a mold evaluate the settings file, binds the sockets, starts the edge and then
//! loops: what happens becomes an event for the pure [`state`], whose actions the loop performs. No Python, no
//! async runtime, one thread.
#![forbid(unsafe_code)]

mod announce;
mod channel;
mod children;
mod configuration;
mod daemon;
mod listen;
mod logs;
mod master;
mod mold;
mod notify;
mod origin;
mod payload;
mod perform;
mod pidfile;
mod python;
mod signals;
mod start;
mod state;

use std::ffi::OsString;
use std::process::ExitCode;

/// What the binary carries for Python.
#[derive(Debug, Clone, Copy)]
pub struct Embedded {
    /// What the interpreter is started with (`python -c`): `python/monoceros/loader.py`.
    pub loader: &'static str,
    /// The package `monoceros` as a zip archive.
    pub package: &'static [u8],
    /// The extension module `monoceros_worker`.
    pub extension: &'static [u8],
}

/// The descriptor of the master's socket in its children.
pub const CONTROL_FD: &str = "MONOCEROS_CONTROL_FD";

/// Runs a master until it is told to end, and returns its exit code. `arguments` begins with the program's name.
///
/// Codes are gunicorn's: 0 after a stop, 1 for settings and sockets, 2 for the command line, 3 when the first workers
/// did not boot, 4 when the application did not load.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    embedded: Embedded,
) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let environment: Vec<(OsString, OsString)> = environment.into_iter().collect();
    match start::start(arguments, environment, embedded) {
        Ok(master) => ExitCode::from(master.run()),
        Err(code) => ExitCode::from(code),
    }
}
