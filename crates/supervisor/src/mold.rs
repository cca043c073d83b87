//! Starting a mold, and what its settings lead to.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use bridge::control::{ControlSocket, MoldSettings, ToMold};
use config::{CommandLine, ConfigFile, Merged, SettingsFile};
use rustix::process::Pid;
use serde_json::{Value, json};

use crate::channel::Channel;
use crate::listen::Bound;
use crate::logs::ErrorLog;
use crate::payload::Payload;
use crate::state::{Plan, State};
use crate::{CONTROL_FD, daemon};

/// Variables that are for the master alone.
const OWN: [&str; 5] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", daemon::VARIABLE];

/// A mold's process.
#[derive(Debug)]
pub(crate) struct Mold {
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
    pub(crate) command_line: CommandLine,
    pub(crate) python: PathBuf,
    pub(crate) payload: Payload,
}

/// What the settings of a generation came to.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) merged: Merged,
    pub(crate) listeners: Vec<Arc<Bound>>,
    pub(crate) error_log: ErrorLog,
    /// The interpreter's version.
    pub(crate) python: String,
}

impl Prepared {
    /// What the state decides by.
    pub(crate) fn plan(&self) -> Plan {
        let app = &self.merged.model.apps[0];
        Plan {
            workers: app.workers,
            threads: app.threads,
            graceful_timeout: app.graceful_timeout,
            boot_timeout: app.boot_timeout,
            max_rss: app.max_rss,
        }
    }

    /// The body of the mold's `configure`. `check`: only load the application.
    pub(crate) fn body(&self, check: bool) -> Value {
        let mut settings = self.merged.to_mold_settings();
        if check {
            settings.insert("preload_app".to_owned(), Value::Bool(true));
        }
        json!({ "settings": settings, "check": check })
    }
}

impl Launch {
    /// Starts a mold; it evaluates the settings file at once.
    pub(crate) fn mold(&self) -> io::Result<Mold> {
        let (ours, theirs) = ControlSocket::pair()?;
        let mut command = Command::new(&self.python);
        command
            .arg("-c")
            .arg(self.payload.loader)
            .args(&self.arguments)
            .env("MONOCEROS_PY_FD", self.payload.package.as_raw_fd().to_string())
            .env("MONOCEROS_EXT_FD", self.payload.extension.as_raw_fd().to_string())
            .env(CONTROL_FD, theirs.as_raw_fd().to_string())
            .env("MONOCEROS_VERSION", env!("CARGO_PKG_VERSION"))
            .env_remove("MONOCEROS_SETTINGS");
        // One that is not there is an error of the settings, which shows the flag.
        let directory = self.command_line.chdir();
        if directory.is_dir() {
            command.current_dir(directory);
        }
        match self.command_line.config_file() {
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
        without_own(&mut command);
        let keep = [self.payload.package.as_fd(), self.payload.extension.as_fd(), theirs.as_fd()];
        let child = sys::spawn(command, &sys::SpawnOptions { keep: &keep, ..Default::default() })?;
        Ok(Mold { pid: pid(&child)?, channel: Channel::new(ours)?, closed: false })
    }

    /// Starts an edge. It has a process group of its own: a terminal's signals are the master's to answer.
    pub(crate) fn edge() -> io::Result<(Pid, ControlSocket)> {
        let (ours, theirs) = ControlSocket::pair()?;
        let mut command = Command::new(daemon::program());
        command.arg("edge").env(CONTROL_FD, theirs.as_raw_fd().to_string());
        without_own(&mut command);
        let options =
            sys::SpawnOptions { keep: &[theirs.as_fd()], new_process_group: true, ..Default::default() };
        let child = sys::spawn(command, &options)?;
        Ok((pid(&child)?, ours))
    }

    /// Merges the settings file with everything else.
    pub(crate) fn merge(&self, settings: MoldSettings) -> Result<(Merged, String), config::Report> {
        let MoldSettings { path, values, hooks, lines, python } = settings;
        let lines = lines
            .into_iter()
            .filter_map(|(name, line)| Some((name, u32::try_from(line.as_u64()?).ok()?)))
            .collect();
        let file = path.map(|path| SettingsFile { path, values, hooks, lines });
        Ok((self.command_line.merge(file.as_ref())?, python))
    }
}

/// The message that goes with [`Prepared::body`].
pub(crate) fn configure(generation: u64) -> ToMold {
    // Any number but 1 stands for "not the first".
    ToMold::Configure { generation: if State::is_first(generation) { 1 } else { generation.max(2) } }
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
