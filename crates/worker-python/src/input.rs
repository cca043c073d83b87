//! `wsgi.input`: the whole body of a request, in memory or in a file.

use std::os::fd::OwnedFd;

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// What one read of a spilled body asks the kernel for.
const BLOCK: usize = 64 * 1024;

/// The body of a request as a file-like object. It has arrived whole, so nothing here waits for a client.
#[pyclass(module = "monoceros")]
pub(crate) struct Input {
    source: Source,
    position: u64,
    length: u64,
}

enum Source {
    Memory(Vec<u8>),
    File {
        file: OwnedFd,
        /// A part of the file, for reading by lines.
        block: Vec<u8>,
        /// Where the block begins.
        at: u64,
    },
}

impl Input {
    pub(crate) const fn empty() -> Self {
        Self { source: Source::Memory(Vec::new()), position: 0, length: 0 }
    }

    pub(crate) fn memory(body: Vec<u8>) -> Self {
        let length = body.len() as u64;
        Self { source: Source::Memory(body), position: 0, length }
    }

    /// The first `length` bytes of a file.
    pub(crate) fn file(file: OwnedFd, length: u64) -> Self {
        Self { source: Source::File { file, block: Vec::new(), at: 0 }, position: 0, length }
    }

    /// At most `most` bytes from the position on.
    fn take<'py>(&mut self, py: Python<'py>, most: u64) -> PyResult<Bound<'py, PyBytes>> {
        let count = most.min(self.length - self.position);
        let start = self.position;
        let bytes = match &self.source {
            Source::Memory(body) => PyBytes::new(py, &body[start as usize..(start + count) as usize]),
            Source::File { file, .. } => PyBytes::new_with(py, count as usize, |into| {
                py.detach(|| read_exactly(file, into, start)).map_err(PyErr::from)
            })?,
        };
        self.position += count;
        Ok(bytes)
    }

    /// How many bytes the next line has, at most `most`.
    fn line_length(&mut self, py: Python<'_>, most: u64) -> PyResult<u64> {
        let most = most.min(self.length - self.position);
        match &mut self.source {
            Source::Memory(body) => {
                let rest = &body[self.position as usize..(self.position + most) as usize];
                Ok(rest.iter().position(|b| *b == b'\n').map_or(most, |i| i as u64 + 1))
            }
            Source::File { file, block, at } => {
                let mut seen = 0;
                while seen < most {
                    let from = self.position + seen;
                    if from < *at || from >= *at + block.len() as u64 {
                        let size = BLOCK.min((self.length - from) as usize);
                        block.resize(size, 0);
                        *at = from;
                        let read = py.detach(|| read_exactly(file, block, from));
                        if let Err(error) = read {
                            block.clear();
                            return Err(error.into());
                        }
                    }
                    let rest = &block[(from - *at) as usize..];
                    let rest = &rest[..rest.len().min((most - seen) as usize)];
                    match rest.iter().position(|b| *b == b'\n') {
                        Some(i) => return Ok(seen + i as u64 + 1),
                        None => seen += rest.len() as u64,
                    }
                }
                Ok(most)
            }
        }
    }

    fn line<'py>(&mut self, py: Python<'py>, most: u64) -> PyResult<Bound<'py, PyBytes>> {
        let count = self.line_length(py, most)?;
        let start = self.position;
        if let Source::File { block, at, .. } = &self.source
            && start >= *at
            && start + count <= *at + block.len() as u64
        {
            let from = (start - *at) as usize;
            self.position += count;
            return Ok(PyBytes::new(py, &block[from..from + count as usize]));
        }
        self.take(py, count)
    }
}

#[pymethods]
impl Input {
    #[pyo3(signature = (size=None))]
    fn read<'py>(
        &mut self,
        py: Python<'py>,
        size: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let most = amount(size)?;
        self.take(py, most)
    }

    #[pyo3(signature = (size=None))]
    fn readline<'py>(
        &mut self,
        py: Python<'py>,
        size: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let most = amount(size)?;
        self.line(py, most)
    }

    /// The rest by lines; with a size, no more lines once they have that many bytes.
    #[pyo3(signature = (size=None))]
    fn readlines<'py>(
        &mut self,
        py: Python<'py>,
        size: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let enough = match amount(size)? {
            0 => u64::MAX,
            size => size,
        };
        let lines = PyList::empty(py);
        let start = self.position;
        while self.position < self.length && self.position - start < enough {
            lines.append(self.line(py, u64::MAX)?)?;
        }
        Ok(lines)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if self.position >= self.length {
            return Ok(None);
        }
        self.line(py, u64::MAX).map(Some)
    }

    /// Nothing: the body belongs to the request.
    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn close(&self) {}
}

/// A size argument as Python's files take it: none or a negative one is everything.
fn amount(size: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    let Some(size) = size else { return Ok(u64::MAX) };
    if size.is_none() {
        return Ok(u64::MAX);
    }
    match size.extract::<i64>() {
        Ok(size) => Ok(u64::try_from(size).unwrap_or(u64::MAX)),
        // Beyond 64 bits is beyond any body as well.
        Err(error) if error.is_instance_of::<PyOverflowError>(size.py()) => Ok(u64::MAX),
        Err(_) => Err(PyTypeError::new_err(format!(
            "the size must be an integer or None, not {}",
            size.get_type().name()?
        ))),
    }
}

fn read_exactly(file: &OwnedFd, mut into: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !into.is_empty() {
        match rustix::io::pread(file, &mut *into, at) {
            Ok(0) => {
                return Err(std::io::Error::other("the buffered request body is shorter than announced"));
            }
            Ok(n) => {
                into = &mut into[n..];
                at += n as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
