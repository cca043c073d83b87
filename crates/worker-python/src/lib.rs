//! The extension module of a Python worker: claims requests from the bridge and runs a WSGI application on them.
//!
//! It is loaded in the mold, where it only holds types and looks after the end of a check, and used in the workers that
//! the mold forks. `python/monoceros/worker.py` and `mold.py` are its only users.

mod environ;
mod file;
mod head;
mod input;
mod link;
mod parent;
mod runner;
mod start;
mod text;

use pyo3::prelude::*;

/// What `import monoceros_worker` gives.
#[pymodule]
fn monoceros_worker(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(link::connect, module)?)?;
    module.add_function(wrap_pyfunction!(parent::end_with, module)?)?;
    module.add_function(wrap_pyfunction!(parent::tell_senders, module)?)?;
    module.add("SIGNAL_BYTES", sys::SIGNAL_BYTES)?;
    module.add_class::<link::Link>()?;
    module.add_class::<runner::Runner>()?;
    module.add_class::<file::FileWrapper>()?;
    module.add_class::<input::Input>()?;
    module.add_class::<start::StartResponse>()
}
