//! `wsgi.file_wrapper`: a file that the edge may send by itself.

use std::os::fd::{BorrowedFd, OwnedFd};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustix::fs::FileType;

/// Wraps a file-like object as an iterable of blocks; a real file is handed to the edge as a descriptor.
#[pyclass(module = "monoceros", frozen)]
pub(crate) struct FileWrapper {
    #[pyo3(get)]
    filelike: Py<PyAny>,
    #[pyo3(get)]
    blksize: usize,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize=8192))]
    fn new(filelike: Py<PyAny>, blksize: usize) -> PyResult<Self> {
        if blksize == 0 {
            return Err(PyValueError::new_err("the block size must not be 0"));
        }
        Ok(Self { filelike, blksize })
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self.filelike.bind(py).call_method1("read", (self.blksize,))?;
        Ok(block.is_truthy()?.then_some(block))
    }

    /// Closes the file, if it can be closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.filelike.bind(py).getattr_opt("close")? {
            Some(close) => close.call0().map(drop),
            None => Ok(()),
        }
    }
}

/// What of a file is to be sent.
pub(crate) struct Extent {
    pub(crate) file: OwnedFd,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Files whose descriptor holds something else than `read` returns.
const DECODERS: [&str; 5] = ["gzip", "bz2", "lzma", "zipfile", "compression"];

impl FileWrapper {
    /// The file behind the wrapper from its position to its end; `None` when reading is the only way.
    pub(crate) fn extent(&self, py: Python<'_>) -> Option<Extent> {
        let filelike = self.filelike.bind(py);
        let module = filelike.get_type().module().ok()?;
        let module = module.to_string();
        if DECODERS.contains(&module.split('.').next()?) || filelike.hasattr("encoding").ok()? {
            return None;
        }
        let number: i32 = filelike.call_method0("fileno").ok()?.extract().ok()?;
        // The object's own position: a buffered file has read ahead of it.
        let offset: u64 = filelike.call_method0("tell").ok()?.extract().ok()?;
        if number < 0 {
            return None;
        }
        // SAFETY: the file object is alive and says that this is its descriptor; it is used before anything can close it.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        let status = rustix::fs::fstat(borrowed).ok()?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return None;
        }
        let size = u64::try_from(status.st_size).ok()?;
        let file = rustix::io::fcntl_dupfd_cloexec(borrowed, 3).ok()?;
        Some(Extent { file, offset, length: size.saturating_sub(offset) })
    }
}
