//! Which responses are compressed and how their fields change.

use std::cell::RefCell;
use std::rc::Rc;

use exchange::{AcceptEncoding, Body, Coding, Fields, FileIdentity, Method, Name, Request, Response};

use crate::encoder::{Encoder, Spare};
use crate::forms::{Collector, Forms, Key};
use crate::stream::{Compressed, Source};

/// Bodies in memory up to this length are compressed at once; longer ones in steps, so that the other
/// connections of the thread get their turn.
const AT_ONCE: usize = 128 * 1024;
/// Bytes of compressed files that are kept.
const KEPT: usize = 16 * 1024 * 1024;

/// How hard each coding tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// 1 to 19.
    pub zstd: u32,
    /// 0 to 11.
    pub br: u32,
    /// 1 to 9.
    pub gzip: u32,
}

impl Default for Levels {
    fn default() -> Self {
        Self { zstd: 3, br: 4, gzip: 5 }
    }
}

/// What is compressed.
#[derive(Clone, Debug)]
pub struct CompressOptions {
    /// In the server's order of preference.
    pub codings: Vec<Coding>,
    /// Media types in lower case without parameters: `text/html`, `text/*`, or `*` alone.
    /// `text/event-stream` counts only when it is there by its full name.
    pub types: Vec<String>,
    /// Bodies known to be shorter than this many bytes are left alone.
    pub min_length: u64,
    /// Levels.
    pub levels: Levels,
}

/// Compression of one configuration, on one thread.
#[derive(Debug)]
pub struct Compress {
    options: CompressOptions,
    spare: Rc<RefCell<Spare>>,
    forms: Rc<RefCell<Forms>>,
}

/// What happens to a response: it depends on `Accept-Encoding`, and perhaps a coding is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan(pub(crate) Option<Coding>);

impl Compress {
    pub fn new(options: CompressOptions) -> Self {
        Self::sharing(options, &forms())
    }

    /// Keeps compressed files together with others of the thread.
    pub(crate) fn sharing(options: CompressOptions, forms: &Rc<RefCell<Forms>>) -> Self {
        Self { options, spare: Rc::default(), forms: Rc::clone(forms) }
    }

    /// `None` where no client would get this response compressed.
    pub fn plan(&self, request: &Request, response: &Response) -> Option<Plan> {
        let fields = &response.fields;
        // No content, or content that is defined by what the client holds already.
        if matches!(response.status, 0..=199 | 204 | 205 | 304 | 416) {
            return None;
        }
        let length = match response.body {
            // What an application sends for HEAD; GET may have a body of any length.
            ref body if body.is_empty() && request.method == Method::Head => None,
            ref body => body.len(),
        };
        let length = length.or_else(|| content_length(fields));
        if length.is_some_and(|length| length < self.options.min_length.max(1)) {
            return None;
        }
        if !self.takes(fields.first(Name::ContentType)?)
            || fields.has(Name::ContentEncoding)
            || forbids(fields)
        {
            return None;
        }
        if response.status == 206 || fields.has(Name::ContentRange) {
            return Some(Plan(None));
        }
        let accepted = AcceptEncoding::of(&request.fields);
        Some(Plan(accepted.choose(self.options.codings.iter().copied())))
    }

    fn collector(&self, key: Option<Key>) -> Option<Collector> {
        Collector::begin(&self.forms, key?)
    }

    fn takes(&self, content_type: &[u8]) -> bool {
        let end = content_type.iter().position(|&b| b == b';').unwrap_or(content_type.len());
        let given = content_type[..end].trim_ascii();
        // A proxy or a decoder that waits for more would hold back events.
        let only_by_name = given.eq_ignore_ascii_case(b"text/event-stream");
        self.options.types.iter().any(|wanted| {
            let wanted = wanted.as_bytes();
            match wanted.strip_suffix(b"*") {
                Some(prefix) => {
                    !only_by_name
                        && given.len() >= prefix.len()
                        && given[..prefix.len()].eq_ignore_ascii_case(prefix)
                }
                None => given.eq_ignore_ascii_case(wanted),
            }
        })
    }

    /// Compresses the body as planned; the fields are marked already.
    pub fn run(&self, request: &Request, response: &mut Response, plan: Plan) {
        let Plan(Some(coding)) = plan else { return };
        response.fields.remove(Name::ContentLength);
        let key = whole_file(response).map(|file| (file, coding));
        if let Some(form) = key.as_ref().and_then(|key| self.forms.borrow_mut().find(key)) {
            response.body = Body::Full(form);
            return;
        }
        if request.method == Method::Head {
            // Of unknown length, so that no Content-Length is made up that GET would not have.
            response.body = Body::Stream(Box::new(exchange::Nothing));
            return;
        }
        let size = response.body.len();
        let Ok(encoder) = Encoder::new(coding, self.options.levels, size, &self.spare) else {
            // Out of memory: as it is, and said so.
            response.fields.remove(Name::ContentEncoding);
            return;
        };
        response.body = match std::mem::take(&mut response.body) {
            Body::Empty => Body::Empty,
            Body::Full(bytes) if bytes.len() <= AT_ONCE => {
                if let Ok(compressed) = encoder.whole(&bytes) {
                    if let Some(key) = key {
                        self.forms.borrow_mut().insert(key, compressed.clone());
                    }
                    Body::Full(compressed)
                } else {
                    response.fields.remove(Name::ContentEncoding);
                    Body::Full(bytes)
                }
            }
            Body::Full(bytes) => stream(encoder, Source::Memory(bytes), None),
            Body::File(file) => stream(encoder, Source::file(file), self.collector(key)),
            Body::Stream(inner) => stream(encoder, Source::Stream(inner), None),
        };
    }
}

fn stream(encoder: Encoder, source: Source, collector: Option<Collector>) -> Body {
    Body::Stream(Box::new(Compressed::new(encoder, source, collector)))
}

/// Room for compressed files.
pub(crate) fn forms() -> Rc<RefCell<Forms>> {
    Rc::new(RefCell::new(Forms::new(KEPT)))
}

/// The file that this is the whole of.
fn whole_file(response: &Response) -> Option<Rc<FileIdentity>> {
    let file = response.of_file.as_ref()?;
    (response.status == 200 && response.body.len() == Some(file.size)).then(|| Rc::clone(file))
}

/// Changes the fields: the representation varies, and is no longer byte for byte what its tag named.
pub fn mark(response: &mut Response, plan: Plan) {
    vary(&mut response.fields);
    let Plan(Some(coding)) = plan else { return };
    response.fields.push_known(Name::ContentEncoding, coding.as_str().as_bytes());
    response.fields.remove(Name::AcceptRanges);
    for of_the_bytes in [&b"Content-MD5"[..], b"Content-Digest", b"Digest"] {
        response.fields.remove_named(of_the_bytes);
    }
    let weak = match response.fields.first(Name::ETag) {
        Some(etag) if !etag.starts_with(b"W/") => [b"W/", etag].concat(),
        _ => return,
    };
    response.fields.set(Name::ETag, &weak);
}

/// Adds `Accept-Encoding` to `Vary`, within its line where there is one.
pub(crate) fn vary(fields: &mut Fields) {
    let mut merged = Vec::new();
    for value in fields.all(Name::Vary) {
        for member in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            if member == b"*" || member.eq_ignore_ascii_case(b"Accept-Encoding") {
                return;
            }
        }
        merged.extend_from_slice(value);
        merged.extend_from_slice(b", ");
    }
    if merged.is_empty() {
        fields.push_known(Name::Vary, b"Accept-Encoding");
    } else {
        merged.extend_from_slice(b"Accept-Encoding");
        fields.set(Name::Vary, &merged);
    }
}

pub(crate) fn content_length(fields: &Fields) -> Option<u64> {
    std::str::from_utf8(fields.only(Name::ContentLength)?).ok()?.parse().ok()
}

/// RFC 9110 §7.7, RFC 9111 §5.2.2.6.
pub(crate) fn forbids(fields: &Fields) -> bool {
    fields.all(Name::CacheControl).any(|value| {
        value.split(|&b| b == b',').any(|d| d.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
    })
}
