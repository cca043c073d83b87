//! The worker's connection to the edge.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bridge::worker::{self, Ended, LinkError};
use pyo3::exceptions::{PyConnectionError, PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use rustix::process::Signal;

use crate::runner::no_such_claimer;

/// The connection, after the handshake.
#[pyclass(module = "monoceros", frozen)]
pub(crate) struct Link {
    link: Arc<worker::Link>,
    /// Somebody takes what the edge says.
    listens: AtomicBool,
}

/// Shakes hands with the edge on descriptor `fd`, which belongs to the link from then on.
#[pyfunction]
#[pyo3(signature = (fd, claimers, /))]
pub(crate) fn connect(py: Python<'_>, fd: i32, claimers: u32) -> PyResult<Link> {
    if fd < 0 {
        return Err(PyOSError::new_err("the worker's socket is not open"));
    }
    // SAFETY: the caller hands the descriptor over; the mold received it for this worker alone.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let link = py.detach(|| worker::Link::connect(socket, std::process::id(), claimers));
    let link = link.map_err(|error| {
        let is_gone = match &error {
            LinkError::Gone => true,
            LinkError::Io(error) => is_gone(error),
            _ => false,
        };
        let text = format!("the edge did not take this worker: {error}");
        if is_gone { PyConnectionError::new_err(text) } else { PyRuntimeError::new_err(text) }
    })?;
    Ok(Link { link: Arc::new(link), listens: AtomicBool::new(false) })
}

/// How long a worker without an edge may take to notice.
const GRACE: Duration = Duration::from_secs(1);
/// How long it may take to end after that.
const PATIENCE: Duration = Duration::from_secs(5);

#[pymethods]
impl Link {
    /// Tells the edge that this worker takes requests, and listens to the edge from now on. If that has ended while the
    /// worker booted, there are no requests, which is how a worker is told to end.
    fn ready(&self) -> PyResult<()> {
        let link = Arc::clone(&self.link);
        let control = std::thread::Builder::new().name("monoceros-control".to_owned());
        control.spawn(move || control_loop(&link)).map_err(PyErr::from)?;
        self.listens.store(true, Ordering::Release);
        match self.link.ready() {
            Err(error) if is_gone(&error) => self.stop(),
            told => told.map_err(|error| PyRuntimeError::new_err(error.to_string()))?,
        }
        Ok(())
    }

    /// Removes what carries one of these tags from the caches, and returns how many answers that were.
    fn purge(&self, py: Python<'_>, tags: &[u8]) -> PyResult<u32> {
        if !self.listens.load(Ordering::Acquire) {
            let words = "the cache can be purged once the worker takes requests, not while it loads";
            return Err(PyRuntimeError::new_err(words));
        }
        py.detach(|| self.link.purge(tags)).map_err(PyErr::from)
    }

    /// Bytes of tags that one call of `purge` takes.
    #[classattr]
    const MOST_TAGS: usize = worker::Link::MOST_TAGS;

    /// Lets every thread finish its request and take no further one. Safe in a signal handler.
    fn stop(&self) {
        self.link.stop_handle().request_stop();
    }
}

impl Link {
    pub(crate) fn claimer(&self, number: usize) -> PyResult<worker::Claimer> {
        self.link.claimer(number).map_err(no_such_claimer)
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Never touches Python, so that a worker stuck there still ends.
fn control_loop(link: &worker::Link) {
    match link.run_control() {
        // The threads see the stop flag when their requests are done.
        Ended::Stopped => {}
        Ended::Gone => {
            link.stop_handle().request_stop();
            std::thread::sleep(GRACE);
            // Whoever still runs a request answers nobody: end as on QUIT, with the hooks, then without.
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::QUIT);
            std::thread::sleep(PATIENCE);
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
        }
    }
}
