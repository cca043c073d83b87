//! `add_trailer`: fields behind the body.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use config::model::http::{AddHeader, Value};
use exchange::{Body, Chunk, ChunkStream, Fields, Method, Name, Request, Response, StreamError, Version};

use super::headers::is_usual;
use super::{FilterContext, evaluated};

/// What is added behind bodies.
#[derive(Debug)]
pub struct Trailers(Vec<(Vec<u8>, Value, bool)>);

impl Trailers {
    /// `None` where nothing is added.
    pub fn of(add: &[AddHeader]) -> Option<Self> {
        let fields = add.iter().map(|add| (add.name.clone(), add.value.clone(), add.always));
        (!add.is_empty()).then(|| Self(fields.collect()))
    }

    /// Has the body end with the fields, for a client whose protocol has a place for them. Variables are read when the
    /// body has ended, if `context` can.
    pub fn apply(&self, request: &Request, response: &mut Response, context: &mut dyn FilterContext) {
        let bodiless = request.method == Method::Head || matches!(response.status, 204 | 304);
        if bodiless || request.version == Version::Http10 {
            return;
        }
        let usual = is_usual(response.status);
        let mut add = self.0.iter().filter(|(.., always)| usual || *always);
        let at_end = if add.clone().any(|(_, value, _)| value.as_text().is_none()) {
            let values = add.clone().map(|(name, value, _)| (name.clone(), value.clone())).collect();
            let at_end = Rc::new(AtEnd { values, ..AtEnd::default() });
            context.at_end(&at_end).then_some(at_end)
        } else {
            None
        };
        let mut fields = Fields::new();
        if at_end.is_none() {
            add.by_ref().for_each(|(name, value, _)| {
                let value = evaluated(value, request, response, context);
                if !value.is_empty() {
                    context.trailer(name, &value);
                    fields.push(name, &value);
                }
            });
            if fields.is_empty() {
                return;
            }
        }
        // A body of known length has no end at which they could stand.
        response.fields.remove(Name::ContentLength);
        let mut chunks = VecDeque::new();
        let mut inner = None;
        match std::mem::take(&mut response.body) {
            Body::Empty => {}
            Body::Full(bytes) => chunks.push_back(Chunk::Data(bytes)),
            Body::File(body) => {
                for piece in body.pieces {
                    chunks.push_back(Chunk::Data(piece.prefix));
                    chunks.push_back(Chunk::File {
                        file: body.file.clone(),
                        start: piece.start,
                        len: piece.len,
                    });
                }
                chunks.push_back(Chunk::Data(body.suffix));
            }
            Body::Stream(stream) => inner = Some(stream),
        }
        chunks.retain(|chunk| match chunk {
            Chunk::Data(bytes) => !bytes.is_empty(),
            Chunk::File { len, .. } => *len > 0,
            Chunk::Flush => true,
        });
        let end = match at_end {
            Some(at_end) => End::Asked(at_end),
            None => End::Known(fields),
        };
        response.body = Body::Stream(Box::new(Trailed { chunks, inner, is_over: false, end }));
    }
}

/// Fields whose values are asked for when the body has ended.
///
/// A stream knows nothing of the request. So at its end the body is not ready until whoever sends it has looked here,
/// after each time that it had to wait.
#[derive(Debug, Default)]
pub struct AtEnd {
    values: Vec<(Vec<u8>, Value)>,
    /// Bytes of the body.
    bytes: Cell<u64>,
    is_due: Cell<bool>,
    fields: RefCell<Option<Fields>>,
}

impl AtEnd {
    /// How many bytes the body had, if it has ended and nobody has said what the values are.
    pub fn due(&self) -> Option<u64> {
        (self.is_due.get() && self.fields.borrow().is_none()).then(|| self.bytes.get())
    }

    /// Reads the values in their order; each field is told, and what is empty is none.
    pub fn fill(&self, mut value: impl FnMut(&Value) -> Vec<u8>, mut tell: impl FnMut(&[u8], &[u8])) {
        let mut fields = Fields::new();
        for (name, text) in &self.values {
            let text = value(text);
            if !text.is_empty() {
                tell(name, &text);
                fields.push(name, &text);
            }
        }
        *self.fields.borrow_mut() = Some(fields);
    }
}

enum End {
    Known(Fields),
    Asked(Rc<AtEnd>),
}

/// A body with fields behind it.
struct Trailed {
    chunks: VecDeque<Chunk>,
    inner: Option<Box<dyn ChunkStream>>,
    is_over: bool,
    end: End,
}

impl ChunkStream for Trailed {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        if !self.is_over {
            let chunk = match &mut self.inner {
                Some(inner) => ready!(inner.poll_chunk(cx)),
                None => self.chunks.pop_front().map(Ok),
            };
            if let Some(chunk) = chunk {
                if let (End::Asked(at_end), Ok(chunk)) = (&self.end, &chunk) {
                    let bytes = match chunk {
                        Chunk::Data(data) => data.len() as u64,
                        Chunk::File { len, .. } => *len,
                        Chunk::Flush => 0,
                    };
                    at_end.bytes.set(at_end.bytes.get() + bytes);
                }
                return Poll::Ready(Some(chunk));
            }
            self.is_over = true;
        }
        if let End::Asked(at_end) = &self.end {
            at_end.is_due.set(true);
            if at_end.due().is_some() {
                return Poll::Pending;
            }
        }
        Poll::Ready(None)
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        if let Some(inner) = &mut self.inner {
            inner.poll_ahead(cx);
        }
    }

    fn trailers(&mut self) -> Option<Fields> {
        let own = match &mut self.end {
            End::Known(fields) => std::mem::take(fields),
            End::Asked(at_end) => at_end.fields.take().unwrap_or_default(),
        };
        let Some(mut fields) = self.inner.as_mut().and_then(|inner| inner.trailers()) else {
            return Some(own);
        };
        for (_, name, value) in own.iter() {
            fields.push(name, value);
        }
        Some(fields)
    }
}
