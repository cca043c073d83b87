//! The master: children, signals, reload, privileges.
//!
//! [`run`] reads the command line, lets a mold evaluate the settings file, binds the sockets, starts the edge and then
//! loops: what happens becomes an event for the pure [`state`], whose actions the loop performs. No Python, no
//! async runtime, one thread.
#![forbid(unsafe_code)]

mod acme;
mod announce;
mod certificates;
mod channel;
mod check;
mod children;
mod configuration;
mod daemon;
mod echoes;
mod listen;
mod logs;
mod master;
mod mold;
mod nginx;
mod notify;
mod origin;
mod payload;
mod perform;
mod pidfile;
mod python;
mod signals;
mod start;
mod state;
mod upgrade;

use std::ffi::OsString;
use std::process::ExitCode;

use config::invocation::{Invocation, Refused};

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
/// Which program's command line it is, [`invocation`](config::invocation) says. With an nginx.conf, codes are nginx's: 0
/// and 1, but for its applications. Else they are gunicorn's: 0 after a stop, 1 for settings and sockets, 2 for the command
/// line, 3 when the first workers did not boot, 4 when the application did not load.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    embedded: Embedded,
) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let environment: Vec<(OsString, OsString)> = environment.into_iter().collect();
    let started = match config::invocation::invocation(arguments.clone()) {
        Ok(Invocation::Gunicorn(arguments)) => start::start(arguments, environment, embedded),
        Ok(Invocation::Nginx(options)) => nginx::start(&options, arguments, environment, embedded),
        Ok(Invocation::Site { options, check }) => {
            nginx::start_site(&options, check, arguments, environment, embedded)
        }
        Err(Refused::Nginx(why)) => Err(nginx::refuse_option(&why)),
        Err(Refused::Own(report)) => Err(start::show(&report)),
    };
    match started {
        Ok(master) => ExitCode::from(master.run()),
        Err(code) => ExitCode::from(code),
    }
}
