//! A binary upgrade as nginx does it: the program is started anew with the sockets, named in the variable `NGINX`, and
//! both run side by side until one of them is told to end.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Pid;

use crate::daemon;
use crate::listen::{INHERITED, errno};
use crate::logs::notice;
use crate::master::Master;
use crate::state::Event;

impl Master {
    /// USR2. Nothing happens while the program that this one came from, or came from this one, still runs.
    pub(crate) fn change_binary(&mut self) {
        if self.successor.is_some()
            || self.predecessor.is_some_and(|old| rustix::process::getppid() == Some(old))
        {
            notice("changing binary: ignored, another one is under way");
            return;
        }
        notice("changing binary");
        if let Some(pidfile) = &mut self.pidfile
            && let Err(error) = pidfile.step_aside()
        {
            let path = pidfile.path().display();
            telemetry::error!("rename() {} to {}.oldbin failed ({})", path, path, errno(&error));
            return;
        }
        match self.start_successor() {
            Ok(pid) => self.successor = Some(pid),
            Err(error) => {
                telemetry::error!("the new binary cannot be started ({})", errno(&error));
                self.take_pidfile_back();
            }
        }
    }

    fn start_successor(&self) -> io::Result<Pid> {
        let listeners = self.bound();
        let fds: Vec<BorrowedFd<'_>> = listeners.iter().map(|l| l.as_fd()).collect();
        let numbers = fds.iter().fold(String::new(), |all, fd| all + &fd.as_raw_fd().to_string() + ";");
        let mut command = Command::new(program(&self.launch.arguments));
        command
            .arg0(self.launch.arguments.first().cloned().unwrap_or_default())
            .args(self.launch.arguments.iter().skip(1))
            .env(INHERITED, numbers)
            .env_remove(daemon::VARIABLE);
        let child = sys::spawn(command, &sys::SpawnOptions { keep: &fds, ..Default::default() })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| io::Error::other("a process without a number"))
    }

    /// The new program has ended: this one goes on, with the pid file that it had.
    pub(crate) fn successor_ended(&mut self) {
        telemetry::warning!("the new binary has ended; the old one goes on");
        self.successor = None;
        self.take_pidfile_back();
        self.event(Event::SuccessorGone);
    }

    fn take_pidfile_back(&mut self) {
        if let Some(pidfile) = &mut self.pidfile
            && let Err(error) = pidfile.step_back()
        {
            telemetry::error!("rename() back to {} failed ({})", pidfile.path().display(), errno(&error));
        }
    }

    /// At the end of a program whose successor serves: the files of Unix sockets are the successor's now.
    pub(crate) fn leave_sockets(&self) {
        if self.successor.is_some() {
            for listener in self.bound() {
                listener.leave_file();
            }
        }
    }
}

/// What is at the place that the program was started from, not the file that runs: that may have been replaced.
fn program(arguments: &[OsString]) -> PathBuf {
    let named = arguments.first().map(PathBuf::from).filter(|name| name.components().count() > 1);
    let own = || {
        let link = fs::read_link("/proc/self/exe").ok()?;
        let text = link.to_str()?;
        Some(PathBuf::from(text.strip_suffix(" (deleted)").unwrap_or(text)))
    };
    named.or_else(own).unwrap_or_else(daemon::program)
}
