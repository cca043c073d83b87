//! Python's `str` from bytes and back, without more checks than WSGI asks for.
//!
//! A "native string" of PEP 3333 holds the bytes of the wire as code points 0 to 255.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{Borrowed, ffi};

/// Bytes as a native string.
pub(crate) fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the pointer and length are of one live slice; the result is a new reference or null with an error set.
    unsafe {
        let object = ffi::PyUnicode_DecodeLatin1(
            bytes.as_ptr().cast(),
            bytes.len() as ffi::Py_ssize_t,
            std::ptr::null(),
        );
        Bound::from_owned_ptr_or_err(py, object)
    }
}

unsafe extern "C" {
    /// In the stable ABI since 3.10, and so not in pyo3's definitions for 3.9. CPython 3.9 has and exports it all the
    /// same, and without it every header would be encoded into a new object.
    fn PyUnicode_AsUTF8AndSize(
        unicode: *mut ffi::PyObject,
        size: *mut ffi::Py_ssize_t,
    ) -> *const std::ffi::c_char;
}

/// Calls `with` on the bytes of a native string; a `ValueError` for characters beyond Latin-1.
pub(crate) fn with_latin1<R>(text: &Bound<'_, PyString>, with: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    let mut length: ffi::Py_ssize_t = 0;
    // SAFETY: `text` is a live str, which keeps its UTF-8 form for as long as it lives and never changes.
    let utf8 = unsafe {
        let start = PyUnicode_AsUTF8AndSize(text.as_ptr(), &raw mut length);
        if start.is_null() {
            None
        } else {
            Some(std::slice::from_raw_parts(start.cast::<u8>(), length as usize))
        }
    };
    match utf8 {
        // What is ASCII is Latin-1 too.
        Some(utf8) if utf8.is_ascii() => return Ok(with(utf8)),
        Some(_) => {}
        // A lone surrogate; the error of the encoding below says it better.
        None => drop(PyErr::take(text.py())),
    }
    // SAFETY: `text` is a str; the result is a new bytes object or null with an error set.
    let encoded =
        unsafe { Bound::from_owned_ptr_or_err(text.py(), ffi::PyUnicode_AsLatin1String(text.as_ptr())) };
    let encoded = encoded.map_err(|_| {
        PyValueError::new_err(format!("{text:?} has characters that a header cannot hold (not Latin-1)"))
    })?;
    // SAFETY: PyUnicode_AsLatin1String makes bytes.
    Ok(with(unsafe { bytes_of(encoded.as_borrowed()) }))
}

/// The contents of a `bytes` object.
///
/// # Safety
/// `object` must be a `bytes` object. They are immutable, so the slice lives as long as the borrow.
pub(crate) unsafe fn bytes_of<'a>(object: Borrowed<'a, '_, PyAny>) -> &'a [u8] {
    // SAFETY: it is a bytes object (the caller's promise), so that neither call fails.
    unsafe {
        let start = ffi::PyBytes_AsString(object.as_ptr());
        let length = ffi::PyBytes_Size(object.as_ptr());
        std::slice::from_raw_parts(start.cast(), length as usize)
    }
}

/// A native string of bytes that are often the same from one request to the next.
pub(crate) struct Memo {
    bytes: Vec<u8>,
    text: Option<Py<PyAny>>,
}

/// Longer values are rarely repeated, and comparing them costs as much as making them.
const LONGEST: usize = 512;

impl Memo {
    pub(crate) const fn new() -> Self {
        Self { bytes: Vec::new(), text: None }
    }

    /// The native string of `bytes`.
    pub(crate) fn text<'py>(&mut self, py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        if let Some(text) = &self.text
            && self.bytes == bytes
        {
            return Ok(text.bind(py).clone());
        }
        let text = latin1(py, bytes)?;
        if bytes.len() <= LONGEST {
            self.text = Some(text.clone().unbind());
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes);
        }
        Ok(text)
    }
}
