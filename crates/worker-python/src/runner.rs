//! Claims requests and runs the application on them.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bridge::worker::{Claimer, Exchange, Next, RequestBody};
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyList, PyTuple, PyType};

use crate::environ::{Body, Common, Environs};
use crate::file::FileWrapper;
use crate::input::Input;
use crate::link::Link;
use crate::start::{StartResponse, not_bytes};
use crate::text::bytes_of;

/// The application and what its requests have in common.
#[pyclass(module = "monoceros", frozen)]
pub(crate) struct Runner {
    link: Py<Link>,
    app: Py<PyAny>,
    common: Common,
    /// A `logging.Logger`.
    log: Py<PyAny>,
    /// The exception with which a signal ends the worker.
    leave: Py<PyType>,
    /// Called with the environ before the application; what it returns is `after`'s first argument.
    before: Option<Py<PyAny>>,
    after: Option<Py<PyAny>>,
    /// Variables of the environ that the access log wants, in lower case.
    logged: Arc<[String]>,
    requests: AtomicU64,
}

#[pymethods]
impl Runner {
    #[new]
    #[pyo3(signature = (link, app, *, multithread, multiprocess, server_software, errors, log, leave, before=None, after=None, logged=Vec::new()))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn new(
        py: Python<'_>,
        link: Py<Link>,
        app: Py<PyAny>,
        multithread: bool,
        multiprocess: bool,
        server_software: String,
        errors: Py<PyAny>,
        log: Py<PyAny>,
        leave: Py<PyType>,
        before: Option<Py<PyAny>>,
        after: Option<Py<PyAny>>,
        logged: Vec<String>,
    ) -> PyResult<Self> {
        let common = Common {
            multithread,
            multiprocess,
            server_software,
            errors,
            file_wrapper: py.get_type::<FileWrapper>().into_any().unbind(),
            no_input: Py::new(py, Input::empty())?.into_any(),
        };
        Ok(Self {
            link,
            app,
            common,
            log,
            leave,
            before,
            after,
            logged: logged.into(),
            requests: AtomicU64::new(0),
        })
    }

    /// How many requests all threads have run.
    #[getter]
    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Runs requests on the calling thread, as the claimer of that number, until the worker is to stop.
    ///
    /// Raises what a signal handler raises while there is no request, and `leave` at any time. What else the
    /// application raises ends its request and nothing more, as with gunicorn: SystemExit and KeyboardInterrupt too.
    fn run(&self, py: Python<'_>, claimer: usize) -> PyResult<()> {
        let mut claimer = self.link.bind(py).get().claimer(claimer)?;
        let mut thread = Thread { runner: self, environs: Environs::new(py, &self.common)?, start: None };
        loop {
            match next(py, &mut claimer)? {
                Some(exchange) => thread.run(py, exchange)?,
                None => return Ok(()),
            }
        }
    }
}

/// Waits for the next request; `None` when there will be none.
fn next(py: Python<'_>, claimer: &mut Claimer) -> PyResult<Option<Exchange>> {
    loop {
        match py.detach(|| claimer.next()) {
            Next::Exchange(exchange) => return Ok(Some(exchange)),
            Next::Stopped => return Ok(None),
            // Handlers run on the main thread only; on others this does nothing.
            Next::Interrupted => py.check_signals()?,
        }
    }
}

/// One thread that runs requests.
struct Thread<'a> {
    runner: &'a Runner,
    environs: Environs,
    /// Used again while the application keeps no reference to it.
    start: Option<Py<StartResponse>>,
}

impl Thread<'_> {
    /// One request. An error is one that must end the worker.
    fn run(&mut self, py: Python<'_>, mut exchange: Exchange) -> PyResult<()> {
        self.runner.requests.fetch_add(1, Ordering::Relaxed);
        let body = match body(py, &mut exchange) {
            Ok(Some(body)) => body,
            // Gone while its body was fetched: nobody waits for an answer.
            Ok(None) => return Ok(()),
            Err(error) => {
                let start = self.start(py)?;
                start.borrow_mut().response.0.begin(exchange);
                return self.failed(py, &start, None, error);
            }
        };
        let start = self.start(py)?;
        let hints = StartResponse::hints(&start)?.into_any();
        let environ = self.environs.make(py, exchange.request(), body, &hints);
        drop(hints);
        start.borrow_mut().response.0.begin(exchange);
        let outcome = match environ {
            Ok(environ) => {
                if !self.runner.logged.is_empty() {
                    start.borrow_mut().response.0.log(&self.runner.logged, &environ);
                }
                let (request, outcome) = self.call(py, &environ, &start);
                let outcome = match outcome {
                    Ok(()) => Ok(()),
                    Err(error) => self.failed(py, &start, Some(&environ), error),
                };
                let ended = self.after(py, &start, &environ, request);
                outcome.and(ended)
            }
            Err(error) => self.failed(py, &start, None, error),
        };
        if StartResponse::is_free(&start) {
            self.start = Some(start.unbind());
        } else {
            StartResponse::abandon(&start);
        }
        outcome
    }

    fn start<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, StartResponse>> {
        match self.start.take() {
            Some(start) => Ok(start.into_bound(py)),
            None => Bound::new(py, StartResponse::new()),
        }
    }

    /// Runs the application and sends what it answers. The first of the two results is what `before` returned.
    fn call<'py>(
        &self,
        py: Python<'py>,
        environ: &Bound<'py, PyDict>,
        start: &Bound<'py, StartResponse>,
    ) -> (Option<Bound<'py, PyAny>>, PyResult<()>) {
        let request = match &self.runner.before {
            None => None,
            Some(before) => match before.bind(py).call1((environ,)) {
                Ok(request) => Some(request),
                Err(error) => return (None, Err(error)),
            },
        };
        (request, self.answer(py, environ, start))
    }

    fn answer<'py>(
        &self,
        py: Python<'py>,
        environ: &Bound<'py, PyDict>,
        start: &Bound<'py, StartResponse>,
    ) -> PyResult<()> {
        // SAFETY: all arguments are live objects and the list of them ends with null; a new reference or null.
        let result = unsafe {
            let end = std::ptr::null_mut::<ffi::PyObject>();
            let result = ffi::PyObject_CallFunctionObjArgs(
                self.runner.app.as_ptr(),
                environ.as_ptr(),
                start.as_ptr(),
                end,
            );
            Bound::from_owned_ptr_or_err(py, result)?
        };
        let early = start.borrow().response.0.head_sent;
        if let Some(sent) = single(py, &result, start) {
            sent?;
            if early {
                start.borrow_mut().response.0.tell_log(py)?;
            }
            return start.borrow_mut().response.0.end(py);
        }
        let sent = send_all(py, &result, start);
        // As with gunicorn before `close`, which may throw away what there was to tell.
        let told = start.borrow_mut().response.0.tell_log(py);
        // Whatever happened (PEP 3333: "regardless of whether the current request is completed normally").
        let closed = close(py, &result, start);
        sent?;
        // All of it is there, whatever `close` has to say.
        let ended = start.borrow_mut().response.0.end(py);
        told.and(closed)?;
        ended
    }

    /// Logs an error of the application and ends its response. Returns the error when it must end the worker.
    fn failed(
        &self,
        py: Python<'_>,
        start: &Bound<'_, StartResponse>,
        environ: Option<&Bound<'_, PyDict>>,
        error: PyErr,
    ) -> PyResult<()> {
        let gone = {
            let mut start = start.borrow_mut();
            start.response.0.fail(py);
            start.response.0.gone
        };
        if error.is_instance(py, self.runner.leave.bind(py)) {
            return Err(error);
        }
        // An application that meets the client's leaving in `write` lets that error through.
        if gone && error.is_instance_of::<pyo3::exceptions::PyBrokenPipeError>(py) {
            return Ok(());
        }
        let text = |key| {
            let value = environ.and_then(|e| e.get_item(key).ok().flatten());
            value.map_or_else(|| "?".to_owned(), |v| v.to_string())
        };
        self.log(
            py,
            "error",
            &format!("Error handling request {} {}", text("REQUEST_METHOD"), text("RAW_URI")),
            Some(&error),
        )
    }

    /// What the hook for the end of a request is told, and what the log is.
    fn after(
        &self,
        py: Python<'_>,
        start: &Bound<'_, StartResponse>,
        environ: &Bound<'_, PyDict>,
        request: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (sent, cut, missing) = {
            let start = start.borrow();
            let response = &start.response.0;
            (
                response.sent,
                response.cut,
                if response.gone || !response.head_sent { 0 } else { response.missing() },
            )
        };
        if cut > 0 || missing > 0 {
            let (count, what) = if cut > 0 { (cut, "more") } else { (missing, "fewer") };
            let uri = environ.get_item("RAW_URI").ok().flatten().map_or_else(String::new, |v| v.to_string());
            let line =
                format!("{uri}: the application sent {count} bytes {what} than its Content-Length says");
            let _ = self.log(py, "warning", &line, None);
        }
        let Some(after) = &self.runner.after else { return Ok(()) };
        let Some(request) = request else { return Ok(()) };
        let (status, headers) = {
            let start = start.borrow();
            let head = &start.response.0.head;
            let status = head.status_text().filter(|_| start.response.0.started).map(|s| s.clone_ref(py));
            (status, head.given(py)?)
        };
        if let Err(error) = after.bind(py).call1((request, environ, status, headers, sent)) {
            if error.is_instance(py, self.runner.leave.bind(py)) {
                return Err(error);
            }
            let _ = self.log(py, "error", "Exception in post_request hook", Some(&error));
        }
        Ok(())
    }

    fn log(&self, py: Python<'_>, level: &str, line: &str, error: Option<&PyErr>) -> PyResult<()> {
        let keywords = PyDict::new(py);
        if let Some(error) = error {
            // Before 3.12 the exception itself does not hold the traceback yet.
            keywords.set_item("exc_info", (error.get_type(py), error.value(py), error.traceback(py)))?;
        }
        // The line is an argument and no format: it holds what a client sent.
        match self.runner.log.bind(py).call_method(level, ("%s", line), Some(&keywords)) {
            Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
            _ => Ok(()),
        }
    }
}

/// The body as `wsgi.input`. `None` when the client has left.
fn body<'py>(py: Python<'py>, exchange: &mut Exchange) -> PyResult<Option<Body<'py>>> {
    let taken = if exchange.request().content_length().is_none_or(|length| length == 0) {
        exchange.take_body()
    } else {
        py.detach(|| exchange.take_body())
    };
    let (input, length) = match taken {
        Ok(RequestBody::None) => return Ok(Some(Body { input: None, length: 0 })),
        Ok(RequestBody::Bytes(bytes)) => {
            let length = bytes.len() as u64;
            (Input::memory(bytes), length)
        }
        Ok(RequestBody::File { len }) => match py.detach(|| exchange.body_file()) {
            Ok(file) => (Input::file(file, len), len),
            Err(_) => return Ok(None),
        },
        Err(_) => return Ok(None),
    };
    let input = Bound::new(py, input)?.into_any();
    Ok(Some(Body { input: Some(input), length }))
}

/// The commonest result: a list or tuple of one piece. It has no `close` and nothing runs while it is sent.
fn single(
    py: Python<'_>,
    result: &Bound<'_, PyAny>,
    start: &Bound<'_, StartResponse>,
) -> Option<PyResult<()>> {
    let piece = if let Ok(list) = result.cast_exact::<PyList>() {
        (list.len() == 1).then(|| list.get_item(0))?
    } else if let Ok(tuple) = result.cast_exact::<PyTuple>() {
        (tuple.len() == 1).then(|| tuple.get_item(0))?
    } else {
        return None;
    };
    Some(piece.and_then(|piece| {
        let piece = piece.cast::<PyBytes>().map_err(|_| not_bytes(&piece))?;
        // SAFETY: the cast has checked it.
        let data = unsafe { bytes_of(piece.as_any().as_borrowed()) };
        let mut start = start.borrow_mut();
        let response = &mut start.response.0;
        if response.started
            && !response.head_sent
            && response.head.content_length.is_none()
            && !response.head.is_bodiless()
        {
            // PEP 3333, "Handling the Content-Length Header": the only piece is the whole body.
            response.head.add(b"Content-Length", data.len().to_string().as_bytes());
            response.head.content_length = Some(data.len() as u64);
        }
        response.send(py, data)
    }))
}

/// Sends every piece of a result.
fn send_all(py: Python<'_>, result: &Bound<'_, PyAny>, start: &Bound<'_, StartResponse>) -> PyResult<()> {
    if let Ok(wrapper) = result.cast_exact::<FileWrapper>()
        && let Some(extent) = wrapper.get().extent(py)
    {
        return start.borrow_mut().response.0.send_file(py, extent);
    }
    // What is all there needs no flush between the pieces; what is made piece by piece must not be held back.
    let flush = !(result.is_exact_instance_of::<PyList>() || result.is_exact_instance_of::<PyTuple>());
    for piece in PyIterator::from_object(result)? {
        let piece = piece?;
        let data = piece.cast::<PyBytes>().map_err(|_| not_bytes(&piece))?;
        // SAFETY: the cast has checked it.
        if send(py, unsafe { bytes_of(data.as_any().as_borrowed()) }, flush, start)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn send(
    py: Python<'_>,
    data: &[u8],
    flush: bool,
    start: &Bound<'_, StartResponse>,
) -> PyResult<ControlFlow<()>> {
    let mut start = start.borrow_mut();
    let response = &mut start.response.0;
    response.send(py, data)?;
    if flush && !data.is_empty() {
        response.flush();
    }
    Ok(if response.gone { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
}

/// Calls the result's `close`, if it has one.
fn close(py: Python<'_>, result: &Bound<'_, PyAny>, start: &Bound<'_, StartResponse>) -> PyResult<()> {
    if result.is_exact_instance_of::<PyList>() || result.is_exact_instance_of::<PyTuple>() {
        return Ok(());
    }
    let Some(close) = result.getattr_opt(pyo3::intern!(py, "close"))? else { return Ok(()) };
    // It may take its time, and what is sent is complete.
    start.borrow_mut().response.0.flush();
    close.call0().map(drop)
}

/// For a claimer that there is none of.
pub(crate) fn no_such_claimer(error: impl std::fmt::Display) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}
