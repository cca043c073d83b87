//! A binary upgrade as nginx does it: the program is started anew with the sockets, named in the variable `NGINX`, and
//! both run side by side until one of them is told to end.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use ::listen::tls::Ratchet;
use rustix::process::Pid;

use crate::daemon;
use crate::listen::{INHERITED, errno};
use crate::logs::notice;
use crate::master::Master;
use crate::state::Event;

/// More than a secret has.
const SECRET_SIZE: u64 = 4096;

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

    fn start_successor(&mut self) -> io::Result<Pid> {
        let tickets = self.tickets.as_mut().and_then(Ratchet::advance).map(hand_over).transpose();
        let tickets = tickets.unwrap_or_else(|error| {
            telemetry::warning!(
                "the new binary will not know the TLS tickets of this one ({})",
                errno(&error)
            );
            None
        });
        let listeners = self.bound();
        let mut fds: Vec<BorrowedFd<'_>> = listeners.iter().map(|l| l.as_fd()).collect();
        let numbers = fds.iter().fold(String::new(), |all, fd| all + &fd.as_raw_fd().to_string() + ";");
        let mut command = Command::new(program(&self.launch.arguments));
        command
            .arg0(self.launch.arguments.first().cloned().unwrap_or_default())
            .args(self.launch.arguments.iter().skip(1))
            .env(INHERITED, numbers)
            .env_remove(daemon::VARIABLE)
            .env_remove(TICKETS);
        if let Some(tickets) = &tickets {
            command.env(TICKETS, tickets.as_raw_fd().to_string());
            fds.push(tickets.as_fd());
        }
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

    /// The edge has its own copies, which it closes as it is told to stop. Who comes from now on is refused, as by nginx
    /// and gunicorn, and goes elsewhere, where the kernel would have taken it in for nobody.
    pub(crate) fn close_sockets(&mut self) {
        self.leave_sockets();
        for prepared in self.configurations.values_mut().filter_map(|c| c.prepared.as_mut()) {
            prepared.listeners.clear();
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

/// Names the descriptor of what the keys of tickets are made of. nginx does not know it, and needs not.
pub(crate) const TICKETS: &str = "MONOCEROS_TICKETS_FD";

/// A file in memory, for nobody but who has the descriptor.
fn hand_over(ratchet: &Ratchet) -> io::Result<OwnedFd> {
    sys::sealed_memfd("monoceros-tickets", &ratchet.to_bytes().0)
}

/// What the program before this one has left. It is read here and closed, before there is a child that could have it.
pub(crate) fn tickets(environment: &[(OsString, OsString)]) -> Option<Ratchet> {
    let (_, value) = environment.iter().find(|(name, _)| name == TICKETS)?;
    let number = value.to_str().and_then(|number| number.parse().ok());
    let found = number.and_then(|number| sys::inherited_fd(number).ok());
    let secret = found.and_then(|fd| sys::read_sealed_memfd(fd, SECRET_SIZE).ok());
    let ratchet = secret.and_then(|secret| Ratchet::of_bytes(&secret));
    if ratchet.is_none() {
        telemetry::warning!("{} names nothing that TLS tickets could go on with", TICKETS);
    }
    ratchet
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
