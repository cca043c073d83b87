//! Starting molds and the edge.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;

use bridge::control::{ControlSocket, ToMold};
use config::ConfigFile;
use rustix::process::{Pid, Signal};

use crate::channel::Channel;
use crate::configuration::Application;
use crate::payload::Payload;
use crate::{CONTROL_FD, Embedded, daemon};

/// Variables that are for the master alone.
const OWN: [&str; 7] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    daemon::VARIABLE,
    crate::listen::INHERITED,
    crate::upgrade::TICKETS,
];

/// A mold's process.
#[derive(Debug)]
pub(crate) struct Mold {
    /// The cycle whose application it runs.
    pub(crate) cycle: u64,
    /// Which application of the cycle.
    pub(crate) application: usize,
    pub(crate) pid: Pid,
    pub(crate) channel: Channel<ToMold>,
    /// The other side has closed.
    pub(crate) closed: bool,
}

/// What all molds are started with.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Only a check: molds hang in the user's code no longer than this process is there.
    pub(crate) only_checks: bool,
    embedded: Embedded,
    /// The standard error that the program was started with.
    pub(crate) stderr: Option<OwnedFd>,
    /// Once there is an application.
    payload: OnceCell<Payload>,
}

impl Launch {
    pub(crate) fn new(
        arguments: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
        embedded: Embedded,
    ) -> Self {
        // A daemon lets go of it: somebody may wait for the pipe to be closed.
        let keeps = !daemon::is_detached(&environment);
        let stderr = keeps.then(|| io::stderr().as_fd().try_clone_to_owned().ok()).flatten();
        Self { arguments, environment, only_checks: false, embedded, stderr, payload: OnceCell::new() }
    }

    /// Starts the mold of an application; it evaluates the settings file at once.
    pub(crate) fn mold(&self, cycle: u64, number: usize, application: &Application) -> io::Result<Mold> {
        let Application { command_line, python, .. } = application;
        let payload = self.payload()?;
        let (ours, theirs) = ControlSocket::pair()?;
        let mut command = Command::new(python);
        command
            .arg("-c")
            .arg(payload.loader)
            .args(&self.arguments)
            .env("MONOCEROS_PY_FD", payload.package.as_raw_fd().to_string())
            .env("MONOCEROS_EXT_FD", payload.extension.as_raw_fd().to_string())
            .env(CONTROL_FD, theirs.as_raw_fd().to_string())
            .env("MONOCEROS_VERSION", env!("CARGO_PKG_VERSION"))
            .env_remove("MONOCEROS_SETTINGS");
        // One that is not there is an error of the settings, which shows the flag.
        let directory = command_line.chdir();
        if directory.is_dir() {
            command.current_dir(directory);
        }
        match command_line.config_file() {
            Some(ConfigFile::Path(path)) => {
                let mut spec = OsString::from("file:");
                spec.push(path);
                command.env("MONOCEROS_SETTINGS", spec);
            }
            Some(ConfigFile::Module(module)) => {
                command.env("MONOCEROS_SETTINGS", format!("python:{module}"));
            }
            None => {}
        }
        // gunicorn's applications find modules beside `chdir`, and where the program was started.
        if !command_line.is_block() {
            command.env("MONOCEROS_DIRECTORY", command_line.current_dir());
        }
        without_own(&mut command);
        let keep = [payload.package.as_fd(), payload.extension.as_fd(), theirs.as_fd()];
        let death_signal = self.only_checks.then_some(Signal::KILL.as_raw());
        let options =
            sys::SpawnOptions { keep: &keep, death_signal, holds_orders: true, ..Default::default() };
        let child = sys::spawn(command, &options)?;
        Ok(Mold {
            cycle,
            application: number,
            pid: pid(&child)?,
            channel: Channel::new(ours)?,
            closed: false,
        })
    }

    fn payload(&self) -> io::Result<&Payload> {
        if let Some(payload) = self.payload.get() {
            return Ok(payload);
        }
        let payload = Payload::new(&self.embedded)
            .map_err(|error| io::Error::other(format!("the Python files cannot be handed to it: {error}")))?;
        Ok(self.payload.get_or_init(|| payload))
    }

    /// Starts an edge. It has a process group of its own: a terminal's signals are the master's to answer.
    pub(crate) fn edge() -> io::Result<(Pid, ControlSocket)> {
        own_program("edge")
    }

    /// Starts the process that orders certificates.
    pub(crate) fn acme() -> io::Result<(Pid, ControlSocket)> {
        own_program("acme")
    }
}

fn own_program(role: &str) -> io::Result<(Pid, ControlSocket)> {
    let (ours, theirs) = ControlSocket::pair()?;
    let mut command = Command::new(daemon::program());
    command.arg(role).env(CONTROL_FD, theirs.as_raw_fd().to_string());
    without_own(&mut command);
    let options =
        sys::SpawnOptions { keep: &[theirs.as_fd()], new_process_group: true, ..Default::default() };
    let child = sys::spawn(command, &options)?;
    Ok((pid(&child)?, ours))
}

/// The message that goes with [`Settled::body`](crate::configuration::Settled::body).
pub(crate) fn configure(cycle: u64) -> ToMold {
    // Of the first cycle the hook is `on_starting`, of any other `on_reload`.
    ToMold::Configure { generation: cycle }
}

fn without_own(command: &mut Command) {
    for name in OWN {
        command.env_remove(name);
    }
}

fn pid(child: &std::process::Child) -> io::Result<Pid> {
    // The handle is let go of: every child is waited for in one place, by number.
    let raw = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    raw.ok_or_else(|| io::Error::other("a process without a number"))
}
