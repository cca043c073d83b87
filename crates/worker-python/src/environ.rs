//! The environ of a request: PEP 3333's keys, as gunicorn fills them.
//!
//! Most of it is the same for every request of an application, and much of the rest the same as in the request
//! before. So each thread keeps a dict that it copies, the keys that header names became, and for each place in the
//! list of headers what stood there last time.

use std::collections::HashMap;

use bridge::worker::RequestView;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::text::{Memo, latin1};

/// What the environs of one application have in common.
pub(crate) struct Common {
    pub(crate) multithread: bool,
    pub(crate) multiprocess: bool,
    pub(crate) server_software: String,
    /// `wsgi.errors`.
    pub(crate) errors: Py<PyAny>,
    /// `wsgi.file_wrapper`.
    pub(crate) file_wrapper: Py<PyAny>,
    /// `wsgi.input` of a request without a body.
    pub(crate) no_input: Py<PyAny>,
}

/// Makes environs; one for each thread.
pub(crate) struct Environs {
    base: Py<PyDict>,
    keys: Keys,
    content_length: Py<PyAny>,
    headers: Headers,
    method: Memo,
    target: Memo,
    path: Memo,
    script: Memo,
    query: Memo,
    server_name: Memo,
    server_port: Port,
    remote_addr: Memo,
    remote_port: Port,
    protocol: [Py<PyAny>; 3],
    scheme: [Py<PyAny>; 2],
    https: (Py<PyAny>, Py<PyAny>),
}

macro_rules! keys {
    ($($field:ident = $name:literal;)*) => {
        struct Keys { $($field: Py<PyAny>,)* }

        impl Keys {
            fn new(py: Python<'_>) -> Self {
                Self { $($field: PyString::intern(py, $name).into_any().unbind(),)* }
            }

            /// Keys of every request.
            fn all(&self) -> impl Iterator<Item = &Py<PyAny>> {
                [$(&self.$field),*].into_iter()
            }
        }
    };
}

keys! {
    method = "REQUEST_METHOD";
    raw_uri = "RAW_URI";
    request_uri = "REQUEST_URI";
    script_name = "SCRIPT_NAME";
    path_info = "PATH_INFO";
    query = "QUERY_STRING";
    protocol = "SERVER_PROTOCOL";
    server_name = "SERVER_NAME";
    server_port = "SERVER_PORT";
    remote_addr = "REMOTE_ADDR";
    remote_port = "REMOTE_PORT";
    scheme = "wsgi.url_scheme";
    input = "wsgi.input";
    early_hints = "wsgi.early_hints";
}

/// One more than fit in a table of 32 entries, which is two thirds full at most.
const ROOM: usize = 22;

/// The body, as far as the environ tells of it.
pub(crate) struct Body<'py> {
    /// `wsgi.input`; none for a request without one.
    pub(crate) input: Option<Bound<'py, PyAny>>,
    pub(crate) length: u64,
}

impl Environs {
    pub(crate) fn new(py: Python<'_>, common: &Common) -> PyResult<Self> {
        let base = PyDict::new(py);
        base.set_item("wsgi.version", (1, 0))?;
        base.set_item("wsgi.errors", &common.errors)?;
        base.set_item("wsgi.multithread", common.multithread)?;
        base.set_item("wsgi.multiprocess", common.multiprocess)?;
        base.set_item("wsgi.run_once", false)?;
        base.set_item("wsgi.file_wrapper", &common.file_wrapper)?;
        base.set_item("wsgi.input_terminated", true)?;
        base.set_item("SERVER_SOFTWARE", &common.server_software)?;
        let keys = Keys::new(py);
        base.set_item(&keys.input, &common.no_input)?;
        for key in keys.all() {
            if !base.contains(key)? {
                base.set_item(key, "")?;
            }
        }
        // A copy has as much room as the original. Make it enough for a browser's headers, or every request's dict
        // would have to grow: these are more than fit in the next smaller table.
        let room = base.len()..ROOM;
        for i in room.clone() {
            base.set_item(format!("room.{i}"), true)?;
        }
        for i in room {
            base.del_item(format!("room.{i}"))?;
        }
        let text = |text: &str| PyString::intern(py, text).into_any().unbind();
        Ok(Self {
            base: base.unbind(),
            keys,
            content_length: text("CONTENT_LENGTH"),
            headers: Headers::new(),
            method: Memo::new(),
            target: Memo::new(),
            path: Memo::new(),
            script: Memo::new(),
            query: Memo::new(),
            server_name: Memo::new(),
            server_port: Port::new(),
            remote_addr: Memo::new(),
            remote_port: Port::new(),
            protocol: [text("HTTP/1.0"), text("HTTP/1.1"), text("HTTP/2.0")],
            scheme: [text("http"), text("https")],
            https: (text("HTTPS"), text("on")),
        })
    }

    /// The environ of one request.
    pub(crate) fn make<'py>(
        &mut self,
        py: Python<'py>,
        request: &RequestView,
        body: Body<'py>,
        early_hints: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        // SAFETY: `base` is a dict; the result is a new dict or null with an error set.
        let environ = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyDict_Copy(self.base.as_ptr()))? };
        let keys = &self.keys;
        set(&environ, &keys.early_hints, early_hints)?;
        let target = self.target.text(py, request.target())?;
        set(&environ, &keys.method, &self.method.text(py, request.method())?)?;
        set(&environ, &keys.raw_uri, &target)?;
        set(&environ, &keys.request_uri, &target)?;
        let (script, path) = split_script(request.script_name(), request.path());
        if !script.is_empty() {
            set(&environ, &keys.script_name, &self.script.text(py, script)?)?;
        }
        set(&environ, &keys.path_info, &self.path.text(py, path)?)?;
        if !request.query().is_empty() {
            set(&environ, &keys.query, &self.query.text(py, request.query())?)?;
        }
        let protocol = match request.version() {
            10 => 0,
            20 => 2,
            _ => 1,
        };
        set(&environ, &keys.protocol, self.protocol[protocol].bind(py))?;
        set(&environ, &keys.scheme, self.scheme[usize::from(request.scheme() == 1)].bind(py))?;
        if request.scheme() == 1 {
            // PEP 3333 asks servers for it.
            set(&environ, &self.https.0, self.https.1.bind(py))?;
        }
        set(&environ, &keys.server_name, &self.server_name.text(py, request.server_name())?)?;
        set(&environ, &keys.server_port, &self.server_port.text(py, request.server_port())?)?;
        set(&environ, &keys.remote_addr, &self.remote_addr.text(py, request.remote_address())?)?;
        // A client on a Unix socket has no port; gunicorn leaves the text empty then.
        set(&environ, &keys.remote_port, &self.remote_port.text(py, request.remote_port())?)?;
        let has_length = self.headers.add(py, &environ, request)?;
        if let Some(input) = body.input {
            set(&environ, &keys.input, &input)?;
            if !has_length {
                // It came in chunks and is whole now. Applications take no length for no body.
                let length = latin1(py, body.length.to_string().as_bytes())?;
                set(&environ, &self.content_length, &length)?;
            }
        }
        // SAFETY: PyDict_Copy makes a dict.
        Ok(unsafe { environ.cast_into_unchecked() })
    }
}

/// Takes the mount point off a path: only whole segments count.
fn split_script<'a>(script: &'a [u8], path: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let script = script.strip_suffix(b"/").unwrap_or(script);
    match path.strip_prefix(script) {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => (script, rest),
        _ => (script, path),
    }
}

fn set(dict: &Bound<'_, PyAny>, key: &Py<PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    set_raw(dict, key.as_ptr(), value)
}

fn set_raw(dict: &Bound<'_, PyAny>, key: *mut ffi::PyObject, value: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: `dict` is a dict, key and value are live objects, and the dict takes references of its own.
    match unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key, value.as_ptr()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(dict.py())),
    }
}

/// A port as text.
struct Port {
    last: Option<(u16, Py<PyAny>)>,
}

impl Port {
    const fn new() -> Self {
        Self { last: None }
    }

    fn text<'py>(&mut self, py: Python<'py>, port: u16) -> PyResult<Bound<'py, PyAny>> {
        if let Some((last, text)) = &self.last
            && *last == port
        {
            return Ok(text.bind(py).clone());
        }
        let text = if port == 0 { latin1(py, b"")? } else { latin1(py, port.to_string().as_bytes())? };
        self.last = Some((port, text.clone().unbind()));
        Ok(text)
    }
}

/// Header names in the environ, remembered.
struct Headers {
    /// By the name as received.
    names: HashMap<Box<[u8]>, usize>,
    keys: Vec<HeaderKey>,
    /// What stood at each place of the list last time.
    places: Vec<Place>,
    /// Counts requests, so that a header that is there twice is seen without asking the dict.
    request: u64,
}

struct HeaderKey {
    /// As in the environ.
    name: Box<[u8]>,
    object: Py<PyAny>,
    /// What joins the values of repeated fields.
    joint: &'static [u8],
    last_request: u64,
}

struct Place {
    name: Vec<u8>,
    key: usize,
    value: Memo,
}

/// Clients choose header names: forget all of them before they fill the memory.
const MOST_NAMES: usize = 1024;
/// Places that are remembered; later fields are rare.
const MOST_PLACES: usize = 64;

impl Headers {
    fn new() -> Self {
        Self { names: HashMap::new(), keys: Vec::new(), places: Vec::new(), request: 0 }
    }

    /// Adds every field; whether there was a Content-Length.
    fn add(&mut self, py: Python<'_>, environ: &Bound<'_, PyAny>, request: &RequestView) -> PyResult<bool> {
        if self.names.len() > MOST_NAMES {
            *self = Self { request: self.request, ..Self::new() };
        }
        self.request += 1;
        let mut has_length = false;
        for (i, (name, value)) in request.headers().enumerate() {
            let known = self.places.get(i).is_some_and(|place| place.name == name);
            let (key, value) = if known {
                let place = &mut self.places[i];
                (place.key, place.value.text(py, value)?)
            } else {
                let key = self.key(py, name)?;
                if i < MOST_PLACES {
                    let mut memo = Memo::new();
                    let text = memo.text(py, value)?;
                    let place = Place { name: name.to_vec(), key, value: memo };
                    if i < self.places.len() {
                        self.places[i] = place;
                    } else {
                        self.places.push(place);
                    }
                    (key, text)
                } else {
                    (key, latin1(py, value)?)
                }
            };
            let entry = &mut self.keys[key];
            has_length |= &*entry.name == b"CONTENT_LENGTH";
            if entry.last_request == self.request {
                join(py, environ, entry, &value)?;
            } else {
                entry.last_request = self.request;
                set_raw(environ, entry.object.as_ptr(), &value)?;
            }
        }
        Ok(has_length)
    }

    /// The key of a name, which becomes known.
    fn key(&mut self, py: Python<'_>, name: &[u8]) -> PyResult<usize> {
        if let Some(key) = self.names.get(name) {
            return Ok(*key);
        }
        let environ_name = environ_name(name);
        let key = if let Some(key) = self.keys.iter().position(|k| k.name == environ_name) {
            key
        } else {
            let mut object = latin1(py, &environ_name)?.unbind().into_ptr();
            // SAFETY: `object` is the only reference to a new str, which interning may replace by an equal one.
            let object = unsafe {
                ffi::PyUnicode_InternInPlace(&raw mut object);
                Bound::from_owned_ptr(py, object).unbind()
            };
            let joint: &[u8] = if &*environ_name == b"HTTP_COOKIE" { b"; " } else { b"," };
            self.keys.push(HeaderKey { name: environ_name, object, joint, last_request: 0 });
            self.keys.len() - 1
        };
        self.names.insert(name.into(), key);
        Ok(key)
    }
}

/// `HTTP_` and the name in upper case with underscores, but for the two that CGI names otherwise.
fn environ_name(name: &[u8]) -> Box<[u8]> {
    let upper = name.iter().map(|b| if *b == b'-' { b'_' } else { b.to_ascii_uppercase() });
    let upper: Vec<u8> = upper.collect();
    if upper == b"CONTENT_TYPE" || upper == b"CONTENT_LENGTH" {
        return upper.into();
    }
    [b"HTTP_".as_slice(), &upper].concat().into()
}

/// Adds a repeated field's value to what is there (RFC 9110 section 5.3; cookies: RFC 9113 section 8.2.3).
fn join(
    py: Python<'_>,
    environ: &Bound<'_, PyAny>,
    key: &HeaderKey,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let before = environ.get_item(&key.object)?;
    let joined = before.add(latin1(py, key.joint)?)?.add(value)?;
    set_raw(environ, key.object.as_ptr(), &joined)
}
