//! The head of a response: what `start_response` was given, checked and ready for the wire.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::text::{latin1, with_latin1};

/// A checked status and headers.
pub(crate) struct Head {
    pub(crate) status: u16,
    reason: Vec<u8>,
    /// The status text that the two above came from.
    status_text: Option<Py<PyString>>,
    /// Names and values, one after the other.
    bytes: Vec<u8>,
    /// The length of each name and of its value.
    fields: Vec<(u16, u32)>,
    /// How many of the fields the application gave.
    given: usize,
    pub(crate) content_length: Option<u64>,
}

impl Head {
    pub(crate) const fn new() -> Self {
        Self {
            status: 0,
            reason: Vec::new(),
            status_text: None,
            bytes: Vec::new(),
            fields: Vec::new(),
            given: 0,
            content_length: None,
        }
    }

    /// Forgets a response's fields. The status stays: the next one is likely the same.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.given = 0;
        self.content_length = None;
    }

    /// Takes what `start_response` was given.
    pub(crate) fn fill(&mut self, status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        self.clear();
        self.set_status(status)?;
        for header in &list_of(headers)? {
            self.add_header(&header).inspect_err(|_| self.fields.clear())?;
        }
        self.given = self.fields.len();
        Ok(())
    }

    /// Takes what `wsgi.early_hints` was given: the fields of a 103. Names and values may be bytes, as with gunicorn.
    pub(crate) fn fill_hints(&mut self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        self.clear();
        for header in &list_of(headers)? {
            let (name, value) = pair_of(&header)?;
            self.add_field(&text_of(name)?, &text_of(value)?)?;
        }
        Ok(())
    }

    fn set_status(&mut self, status: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(status) = status.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!(
                "the status must be a str, not {}",
                status.get_type().name()?
            )));
        };
        if self.status_text.as_ref().is_some_and(|text| text.is(status)) {
            return Ok(());
        }
        let reason = &mut self.reason;
        let code = with_latin1(status, |text| {
            let (code, rest) = text.split_at_checked(3)?;
            let code = std::str::from_utf8(code).ok().filter(|c| c.bytes().all(|b| b.is_ascii_digit()))?;
            let code: u16 = code.parse().ok()?;
            let rest = if rest.is_empty() { rest } else { rest.strip_prefix(b" ")? };
            if !(200..=999).contains(&code)
                || rest.iter().any(|b| forbidden_in_value(*b))
                || rest.len() > 1024
            {
                return None;
            }
            reason.clear();
            reason.extend_from_slice(rest);
            Some(code)
        })?;
        match code {
            Some(code) => {
                self.status = code;
                self.status_text = Some(status.clone().unbind());
                Ok(())
            }
            None => Err(PyValueError::new_err(format!("{status:?} is not a status: write it as '200 OK'"))),
        }
    }

    fn add_header(&mut self, header: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(pair) = header.cast::<PyTuple>()
            && pair.len() == 2
        {
            let (name, value) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
            return self.add_field(&name, &value);
        }
        let (name, value) = pair_of(header)?;
        self.add_field(&name, &value)
    }

    fn add_field(&mut self, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (Ok(name), Ok(value)) = (name.cast::<PyString>(), value.cast::<PyString>()) else {
            return Err(PyTypeError::new_err(format!(
                "a header's name and value must be str, not {name:?} and {value:?}"
            )));
        };
        let start = self.bytes.len();
        let bytes = &mut self.bytes;
        let name_ok = with_latin1(name, |name| {
            bytes.extend_from_slice(name);
            !name.is_empty() && u16::try_from(name.len()).is_ok() && name.iter().all(|b| is_token(*b))
        })?;
        if !name_ok {
            return Err(PyValueError::new_err(format!("Invalid HTTP header name: {name:?}")));
        }
        let name_end = bytes.len();
        let value_ok = with_latin1(value, |value| {
            let value = value.trim_ascii();
            bytes.extend_from_slice(value);
            u32::try_from(value.len()).is_ok() && !value.iter().any(|b| forbidden_in_value(*b))
        })?;
        if !value_ok {
            return Err(PyValueError::new_err(format!("Invalid HTTP header value of {name:?}: {value:?}")));
        }
        let (name, value) = self.bytes[start..].split_at(name_end - start);
        match known(name) {
            Known::HopByHop => {
                // They are about one connection, which is the edge's (PEP 3333, "Other HTTP Features"). As in gunicorn
                // they are dropped: applications that set `Connection` are too many to refuse.
                self.bytes.truncate(start);
                return Ok(());
            }
            Known::ContentLength => {
                let length = Some(value).filter(|v| !v.is_empty() && v.iter().all(u8::is_ascii_digit));
                let length = length.and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.parse().ok());
                match length {
                    Some(length) if self.content_length.is_none_or(|before| before == length) => {
                        self.content_length = Some(length);
                    }
                    _ => {
                        let value = String::from_utf8_lossy(value).into_owned();
                        return Err(PyValueError::new_err(format!("Invalid Content-Length: {value:?}")));
                    }
                }
            }
            Known::Other => {}
        }
        self.fields.push((name.len() as u16, value.len() as u32));
        Ok(())
    }

    /// Adds a field of the server's own; the name and value are known to be good.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.fields.push((name.len() as u16, value.len() as u32));
    }

    /// Bytes in the ring, without what is the same for every head.
    pub(crate) fn size(&self) -> usize {
        self.reason.len() + self.bytes.len() + 8 * self.fields.len()
    }

    pub(crate) fn reason(&self) -> &[u8] {
        &self.reason
    }

    /// Each field's name and value.
    pub(crate) fn fields(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        let mut rest = self.bytes.as_slice();
        self.fields.iter().map(move |(name, value)| {
            let (name, after) = rest.split_at(usize::from(*name));
            let (value, after) = after.split_at(*value as usize);
            rest = after;
            (name, value)
        })
    }

    /// Whether a response with this status has no body (RFC 9110 section 6.4.1).
    pub(crate) const fn is_bodiless(&self) -> bool {
        matches!(self.status, 204 | 304)
    }

    pub(crate) fn status_text(&self) -> Option<&Py<PyString>> {
        self.status_text.as_ref()
    }

    /// The fields that the application gave and that are sent, as pairs of texts. What it gave itself could be read once
    /// only, or have changed meanwhile.
    pub(crate) fn given<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (name, value) in self.fields().take(self.given) {
            list.append((latin1(py, name)?, latin1(py, value)?))?;
        }
        Ok(list)
    }
}

/// The headers, which PEP 3333 wants as a list; gunicorn takes whatever gives pairs.
fn list_of<'py>(headers: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    if let Ok(list) = headers.cast_exact::<PyList>() {
        return Ok(list.clone());
    }
    let list = PyList::empty(headers.py());
    let Ok(each) = headers.try_iter() else {
        let kind = headers.get_type();
        return Err(PyTypeError::new_err(format!("the headers must be a list, not {}", kind.name()?)));
    };
    for header in each {
        list.append(header?)?;
    }
    Ok(list)
}

fn text_of(part: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    match part.cast::<PyBytes>() {
        Ok(bytes) => latin1(part.py(), bytes.as_bytes()),
        Err(_) => Ok(part),
    }
}

/// Name and value, which PEP 3333 wants as a tuple; gunicorn takes any two things.
fn pair_of<'py>(header: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let wrong =
        || PyTypeError::new_err(format!("a header must be a tuple of name and value, not {header:?}"));
    let mut parts = header.try_iter().map_err(|_| wrong())?;
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(value), None) => Ok((name?, value?)),
        _ => Err(wrong()),
    }
}

enum Known {
    ContentLength,
    /// RFC 2616 section 13.5.1, which PEP 3333 names, and `Proxy-Connection`.
    HopByHop,
    Other,
}

fn known(name: &[u8]) -> Known {
    const HOP_BY_HOP: [&str; 9] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    // Most names are told apart by their length alone.
    if name.len() == 14 && name.eq_ignore_ascii_case(b"content-length") {
        return Known::ContentLength;
    }
    if name.eq_ignore_ascii_case(b"trailers") {
        return Known::HopByHop;
    }
    if HOP_BY_HOP.iter().any(|hop| hop.len() == name.len() && name.eq_ignore_ascii_case(hop.as_bytes())) {
        return Known::HopByHop;
    }
    Known::Other
}

/// RFC 9110 section 5.6.2.
const fn is_token(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
}

/// Control characters but the tab (RFC 9110 section 5.5).
const fn forbidden_in_value(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}
