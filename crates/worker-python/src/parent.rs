//! The end of the process that started this one.

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
