//! Processes as the kernel shows them: how they ended, what they hold, and signals that reach no other.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use crate::state::Status;

/// A worker's process. Its parent is the mold, so that its number may be given to another process before we hear of
/// its end; the descriptor means this process for ever.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) generation: u64,
    pub(crate) pid: Option<Pid>,
    handle: Option<OwnedFd>,
}

impl Child {
    /// One that is ordered and not forked yet.
    pub(crate) fn ordered(generation: u64) -> Self {
        Self { generation, pid: None, handle: None }
    }

    /// It was forked. Without a pidfd (an old kernel, a sandbox) the mold passes signals on.
    pub(crate) fn spawned(&mut self, pid: Pid) {
        self.pid = Some(pid);
        self.handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok();
    }

    /// Sends a signal; false when it has to go another way.
    pub(crate) fn signal(&self, number: i32) -> bool {
        let (Some(handle), Some(signal)) = (&self.handle, Signal::from_named_raw(number)) else {
            return false;
        };
        // An error says that it has ended.
        let _ = rustix::process::pidfd_send_signal(handle, signal);
        true
    }

    /// Whether it has ended, as far as the kernel can tell us.
    pub(crate) fn has_ended(&self) -> bool {
        match (&self.handle, self.pid) {
            (Some(handle), _) => {
                let mut fds = [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)];
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0)
            }
            (None, Some(pid)) => rustix::process::test_kill_process(pid).is_err(),
            (None, None) => true,
        }
    }
}

/// The next child of ours, or orphan among our descendants, that has ended.
pub(crate) fn reap() -> Option<(Pid, Status)> {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => Some((pid, translate(status))),
        Ok(None) | Err(_) => None,
    }
}

fn translate(status: WaitStatus) -> Status {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Status::Code(code),
        (None, Some(signal)) => Status::Signal(signal),
        (None, None) => Status::Unknown,
    }
}

/// How a mold puts it.
pub(crate) fn status(code: Option<i32>, signal: Option<i32>) -> Status {
    match (code, signal) {
        (_, Some(signal)) => Status::Signal(signal),
        (Some(code), None) => Status::Code(code),
        (None, None) => Status::Unknown,
    }
}

/// Has a child of ours write its stacks and end.
pub(crate) fn abort(pid: Pid) {
    let _ = rustix::process::kill_process(pid, Signal::ABORT);
}

/// Ends a child of ours; its number is its own until we have waited for it.
pub(crate) fn kill(pid: Pid) {
    let _ = rustix::process::kill_process(pid, Signal::KILL);
}

/// Resident memory in bytes.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_signal_reaches_the_process_and_its_end_shows() {
        let mut process = Command::new("sleep").arg("60").spawn().unwrap();
        let mut child = Child::ordered(1);
        assert!(child.has_ended(), "not there yet");
        child.spawned(Pid::from_raw(process.id() as i32).unwrap());
        assert!(!child.has_ended());
        assert!(resident(process.id()).unwrap() > 0);
        assert!(child.signal(9));
        process.wait().unwrap();
        assert!(child.has_ended());
        assert!(child.signal(9), "and nobody else gets it");
        assert_eq!(resident(u32::MAX), None);
    }
}
