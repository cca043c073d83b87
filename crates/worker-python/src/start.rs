//! `start_response`, the `write` that it returns, and the response behind both.

use std::sync::Arc;

use bridge::worker::Exchange;
use pyo3::exceptions::{
    PyAssertionError, PyBrokenPipeError, PyException, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::file::Extent;
use crate::head::Head;
use crate::text::bytes_of;

/// The response of one request, from its first field to its end.
pub(crate) struct Response {
    /// `None` between requests, so that a `write` that outlives its request finds nothing to write to.
    exchange: Option<Exchange>,
    pub(crate) head: Head,
    /// `start_response` was called.
    pub(crate) started: bool,
    /// The head is on its way and cannot be taken back.
    pub(crate) head_sent: bool,
    /// The request was HEAD.
    is_head: bool,
    /// Bytes of the body that were sent.
    pub(crate) sent: u64,
    /// Bytes that went into the ring, which was empty when the request began.
    written: usize,
    /// Bytes beyond Content-Length that were not.
    pub(crate) cut: u64,
    /// The client has left or the edge is gone: nothing more can be sent.
    pub(crate) gone: bool,
    /// What of an environ the access log wants, when the head leaves and when the body has.
    logged: Option<(Arc<[String]>, Py<PyDict>)>,
    /// What it was told with the head, in the order of the names.
    told: Vec<Option<Vec<u8>>>,
}

impl Response {
    pub(crate) const fn new() -> Self {
        Self {
            exchange: None,
            head: Head::new(),
            started: false,
            head_sent: false,
            is_head: false,
            sent: 0,
            written: 0,
            cut: 0,
            gone: false,
            logged: None,
            told: Vec::new(),
        }
    }

    pub(crate) fn begin(&mut self, exchange: Exchange) {
        self.is_head = exchange.request().method() == b"HEAD";
        self.exchange = Some(exchange);
        self.head.clear();
        self.started = false;
        self.head_sent = false;
        self.sent = 0;
        self.written = 0;
        self.cut = 0;
        self.gone = false;
        self.logged = None;
    }

    /// The access log wants these variables of the environ, whose names are in lower case.
    pub(crate) fn log(&mut self, names: &Arc<[String]>, environ: &Bound<'_, PyDict>) {
        self.logged = Some((Arc::clone(names), environ.clone().unbind()));
    }

    /// Whether the body is read but not sent.
    fn discards(&self) -> bool {
        self.is_head || self.head.is_bodiless()
    }

    /// Bytes that Content-Length promises and that are missing.
    pub(crate) fn missing(&self) -> u64 {
        if self.discards() {
            return 0;
        }
        self.head.content_length.map_or(0, |length| length.saturating_sub(self.sent))
    }

    fn send_head(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.head_sent {
            return Ok(());
        }
        if !self.started {
            return Err(PyAssertionError::new_err(
                "the application returned a body without having called start_response",
            ));
        }
        if let Some((names, environ)) = &self.logged {
            self.told = variables(environ.bind(py), names)?;
            for (name, value) in names.iter().zip(&self.told) {
                let Some(value) = value else { continue };
                // No application can write a field with such a name; the edge keeps it for the log.
                self.head.add(format!(":{name}").as_bytes(), value);
            }
        }
        self.head_sent = true;
        let Some(exchange) = &mut self.exchange else { return Err(finished()) };
        let head = &self.head;
        let sent = put(py, &mut self.written, head.size(), || {
            exchange.head(head.status, head.reason(), head.fields())
        });
        self.note(&sent);
        Ok(())
    }

    /// Tells the access log what the application has changed since the head left: gunicorn writes its line behind the
    /// body.
    pub(crate) fn tell_log(&mut self, py: Python<'_>) -> PyResult<()> {
        let Some((names, environ)) = self.logged.take_if(|_| self.head_sent) else { return Ok(()) };
        if self.gone {
            return Ok(());
        }
        let now = variables(environ.bind(py), &names)?;
        let changed = names.iter().zip(now.iter().zip(&self.told)).filter(|(_, (now, told))| now != told);
        // What is not there any more is for the log what never was.
        let changed: Vec<_> =
            changed.map(|(name, (now, _))| (format!(":{name}"), now.as_deref().unwrap_or(b"-"))).collect();
        let Some(exchange) = &mut self.exchange else { return Err(finished()) };
        if !changed.is_empty() {
            let size = changed.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
            let fields = changed.iter().map(|(name, value)| (name.as_bytes(), *value));
            let sent = put(py, &mut self.written, size, || exchange.log(fields));
            self.note(&sent);
        }
        Ok(())
    }

    fn note<T, E>(&mut self, sent: &Result<T, E>) {
        self.gone |= sent.is_err();
    }

    /// Sends a piece of the body, and the head before the first that is not empty.
    pub(crate) fn send(&mut self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.send_head(py)?;
        if self.discards() || self.gone {
            return Ok(());
        }
        let data = match self.head.content_length {
            Some(length) if length - self.sent < data.len() as u64 => {
                let rest = (length - self.sent) as usize;
                self.cut += (data.len() - rest) as u64;
                &data[..rest]
            }
            _ => data,
        };
        let Some(exchange) = &mut self.exchange else { return Err(finished()) };
        let sent = put(py, &mut self.written, data.len(), || exchange.body(data));
        self.note(&sent);
        self.sent += data.len() as u64;
        Ok(())
    }

    /// Lets the edge have everything up to here, now.
    pub(crate) fn flush(&mut self) {
        if let Some(exchange) = &mut self.exchange
            && !self.gone
        {
            let flushed = exchange.flush();
            self.note(&flushed);
        }
    }

    /// Sends a file as the body.
    pub(crate) fn send_file(&mut self, py: Python<'_>, extent: Extent) -> PyResult<()> {
        self.send_head(py)?;
        let Extent { file, offset, mut length } = extent;
        if let Some(limit) = self.head.content_length {
            self.cut += length.saturating_sub(limit);
            length = length.min(limit);
        }
        if self.discards() || self.gone || length == 0 {
            return Ok(());
        }
        let Some(exchange) = &mut self.exchange else { return Err(finished()) };
        let sent = put(py, &mut self.written, 0, || exchange.file(file, offset, length));
        self.note(&sent);
        self.sent += length;
        Ok(())
    }

    /// Ends a response that the application has finished.
    pub(crate) fn end(&mut self, py: Python<'_>) -> PyResult<()> {
        self.send_head(py)?;
        let failed = self.missing() > 0;
        self.finish(py, failed);
        Ok(())
    }

    /// Ends a response that the application has not: with an error page while that is possible.
    pub(crate) fn fail(&mut self, py: Python<'_>) {
        if self.exchange.is_none() {
            return;
        }
        if self.head_sent {
            return self.finish(py, true);
        }
        let page: &[u8] =
            b"<html>\n  <head>\n    <title>Internal Server Error</title>\n  </head>\n  <body>\n    \
            <h1><p>Internal Server Error</p></h1>\n  </body>\n</html>\n";
        self.head_sent = true;
        let length = page.len().to_string();
        let fields = [("Content-Type", "text/html"), ("Content-Length", length.as_str())];
        let fields = fields.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let is_head = self.is_head;
        if let Some(exchange) = &mut self.exchange {
            let sent = put(py, &mut self.written, page.len(), || {
                exchange.head(500, b"Internal Server Error", fields)?;
                if is_head { Ok(()) } else { exchange.body(page) }
            });
            self.note(&sent);
        }
        self.finish(py, false);
    }

    fn finish(&mut self, py: Python<'_>, failed: bool) {
        self.logged = None;
        if let Some(mut exchange) = self.exchange.take() {
            let ended = put(py, &mut self.written, 0, || exchange.end(failed));
            self.note(&ended);
        }
    }
}

/// The longest text of one variable in the access log.
const LONGEST_LOGGED: usize = 4096;

/// Those of the variables that are there, as texts. As with gunicorn their case does not count, and the last one does.
/// One whose text cannot be made is not there; what is more than an `Exception` is the caller's affair: the order to end
/// that a signal gives may come in the application's code that makes it.
fn variables(environ: &Bound<'_, PyDict>, names: &[String]) -> PyResult<Vec<Option<Vec<u8>>>> {
    let mut found: Vec<Option<Bound<'_, PyAny>>> = vec![None; names.len()];
    for (key, value) in environ.iter() {
        let Ok(key) = key.cast::<PyString>().map(|key| key.to_string_lossy().to_lowercase()) else {
            continue;
        };
        if let Some(at) = names.iter().position(|name| *name == key) {
            found[at] = Some(value);
        }
    }
    // Only now, because it may be code of the application's that makes the text.
    let texts = found.into_iter().map(|value| {
        let Some(value) = value else { return Ok(None) };
        match value.str() {
            Ok(text) => {
                let mut text = text.to_string_lossy().into_owned().into_bytes();
                text.truncate(LONGEST_LOGGED);
                Ok(Some(text))
            }
            Err(error) if error.is_instance_of::<PyException>(value.py()) => Ok(None),
            Err(error) => Err(error),
        }
    });
    texts.collect()
}

/// Puts `size` bytes and their frame into the ring. Other threads run meanwhile where that may have to wait for the
/// edge to make room; not before, because letting them costs as much as the call of a small application.
fn put<T: Send>(py: Python<'_>, written: &mut usize, size: usize, call: impl FnOnce() -> T + Send) -> T {
    // Every frame's own bytes are fewer than this.
    *written = written.saturating_add(size).saturating_add(256);
    if *written < bridge::RESPONSE_RING as usize / 2 { call() } else { py.detach(call) }
}

fn finished() -> PyErr {
    PyRuntimeError::new_err("the response has ended already")
}

/// A value that is only ever reached through `&mut`.
pub(crate) struct Exclusive<T>(pub(crate) T);

// SAFETY: a shared `Exclusive` gives no access to what it holds, because the field is only used through `&mut`
// borrows, which pyo3 checks for each pyclass instance.
unsafe impl<T: Send> Sync for Exclusive<T> {}

/// The callable that an application gets with its environ.
#[pyclass(module = "monoceros")]
pub(crate) struct StartResponse {
    pub(crate) response: Exclusive<Response>,
    write: Option<Py<Write>>,
    hints: Option<Py<EarlyHints>>,
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, headers, exc_info=None))]
    fn __call__(
        slf: &Bound<'_, Self>,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Write>> {
        let mut this = slf.try_borrow_mut()?;
        let response = &mut this.response.0;
        if response.exchange.is_none() {
            return Err(finished());
        }
        match exc_info.filter(|e| !e.is_none()) {
            Some(exc_info) if response.head_sent => return Err(raised(exc_info)?),
            None if response.started => {
                return Err(PyAssertionError::new_err(
                    "start_response was called a second time without exc_info",
                ));
            }
            Some(_) | None => {}
        }
        response.started = false;
        response.head.fill(status, headers)?;
        response.started = true;
        if let Some(write) = &this.write {
            return Ok(write.clone_ref(slf.py()));
        }
        let write = Py::new(slf.py(), Write { start: slf.clone().unbind() })?;
        this.write = Some(write.clone_ref(slf.py()));
        Ok(write)
    }
}

impl StartResponse {
    pub(crate) const fn new() -> Self {
        Self { response: Exclusive(Response::new()), write: None, hints: None }
    }

    /// `wsgi.early_hints` of the environ that goes with this object.
    pub(crate) fn hints<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, EarlyHints>> {
        let py = slf.py();
        let mut this = slf.try_borrow_mut()?;
        if let Some(hints) = &this.hints {
            return Ok(hints.bind(py).clone());
        }
        let hints = Bound::new(py, EarlyHints { start: slf.clone().unbind() })?;
        this.hints = Some(hints.clone().unbind());
        Ok(hints)
    }

    /// Whether nobody but the runner has this object or one of the two that refer to it.
    pub(crate) fn is_free(slf: &Bound<'_, Self>) -> bool {
        let Ok((write, hints)) = slf
            .try_borrow()
            .map(|this| (this.write.as_ref().map(Py::as_ptr), this.hints.as_ref().map(Py::as_ptr)))
        else {
            return false;
        };
        // Each is referred to by this object alone, and this object by each of them and the runner.
        let of_own = [write, hints].into_iter().flatten();
        of_own.clone().all(|own| references(own) == 1)
            && references(slf.as_ptr()) == 1 + of_own.count() as ffi::Py_ssize_t
    }

    /// Lets go of an object that the application has kept: it and its own refer to one another.
    pub(crate) fn abandon(slf: &Bound<'_, Self>) {
        if let Ok(mut this) = slf.try_borrow_mut() {
            this.write = None;
            this.hints = None;
        }
    }
}

fn references(object: *mut ffi::PyObject) -> ffi::Py_ssize_t {
    // SAFETY: the callers hold a reference to the object, and are attached to the interpreter.
    unsafe { ffi::Py_REFCNT(object) }
}

/// The exception of an `exc_info` tuple, with its traceback.
fn raised(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let wrong = || PyTypeError::new_err("exc_info must be the tuple that sys.exc_info returns");
    let tuple = exc_info.cast::<PyTuple>().map_err(|_| wrong())?;
    if tuple.len() != 3 {
        return Err(wrong());
    }
    let (value, traceback) = (tuple.get_item(1)?, tuple.get_item(2)?);
    if !traceback.is_none() {
        value.setattr("__traceback__", traceback)?;
    }
    Ok(PyErr::from_value(value))
}

/// The `write` of PEP 3333: sends at once.
#[pyclass(module = "monoceros", frozen)]
struct Write {
    start: Py<StartResponse>,
}

#[pymethods]
impl Write {
    #[pyo3(signature = (data, /))]
    fn __call__(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = data.cast::<PyBytes>().map_err(|_| not_bytes(data))?;
        let mut start = self.start.bind(py).try_borrow_mut()?;
        let response = &mut start.response.0;
        if response.exchange.is_none() {
            return Err(finished());
        }
        // SAFETY: the cast has checked it.
        response.send(py, unsafe { bytes_of(data.as_any().as_borrowed()) })?;
        response.flush();
        if response.gone {
            return Err(PyBrokenPipeError::new_err("the client has left"));
        }
        Ok(())
    }
}

/// `wsgi.early_hints`, by gunicorn's name and with its meaning: called with a list of fields, it sends a 103 with them
/// ahead of the response. Clients of HTTP/1.0 get none.
#[pyclass(module = "monoceros", frozen)]
pub(crate) struct EarlyHints {
    start: Py<StartResponse>,
}

#[pymethods]
impl EarlyHints {
    #[pyo3(signature = (headers))]
    fn __call__(&self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut head = Head::new();
        head.fill_hints(headers)?;
        if head.size() > LARGEST_HINTS {
            return Err(PyValueError::new_err(format!(
                "early hints of {} bytes: at most {LARGEST_HINTS} are sent",
                head.size()
            )));
        }
        let mut start = self.start.bind(py).try_borrow_mut()?;
        let response = &mut start.response.0;
        // Too late is no error, as with gunicorn.
        if response.head_sent || response.gone {
            return Ok(());
        }
        let Some(exchange) = &mut response.exchange else { return Ok(()) };
        let sent = put(py, &mut response.written, head.size(), || {
            exchange.head(103, b"Early Hints", head.fields())?;
            exchange.flush()
        });
        response.note(&sent);
        Ok(())
    }
}

/// Bytes that early hints may have: what does not fit between the processes would end the response.
const LARGEST_HINTS: usize = 64 * 1024;

/// For a piece of the body that is none.
pub(crate) fn not_bytes(data: &Bound<'_, PyAny>) -> PyErr {
    let kind = data.get_type();
    let kind = kind.name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("the body must consist of bytes, not {kind}"))
}
