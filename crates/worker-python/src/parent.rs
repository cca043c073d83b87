//! Signals between this process and others.

use std::os::fd::{FromRawFd, OwnedFd};

use pyo3::prelude::*;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal};

/// Has this process killed when `parent` ends, or now if it has ended already. The kernel forgets such a wish where a
/// process becomes another user.
#[pyfunction]
#[pyo3(signature = (parent, /))]
pub(crate) fn end_with(parent: i32) -> PyResult<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from)?;
    if getppid() != Pid::from_raw(parent) {
        // It ended before the wish was there: nobody would send the signal.
        kill_process(getpid(), Signal::KILL).map_err(std::io::Error::from)?;
    }
    Ok(())
}

/// Has each of these signals written to `target`, a descriptor that is handed over: as `SIGNAL_BYTES` with the signal's
/// number, its sender's and its time. Handlers of Python's for the same signals are not called any more.
#[pyfunction]
#[pyo3(signature = (target, signals, /))]
#[expect(clippy::needless_pass_by_value, reason = "Python's tuple becomes this")]
pub(crate) fn tell_senders(target: i32, signals: Vec<i32>) -> PyResult<()> {
    // SAFETY: the caller hands the descriptor over.
    let target = unsafe { OwnedFd::from_raw_fd(target) };
    Ok(sys::tell_senders(&signals, target)?)
}
