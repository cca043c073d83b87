//! `add_trailer`: fields behind the body.

use std::collections::VecDeque;
use std::task::{Context, Poll};

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

    /// Has the body end with the fields, for a client whose protocol has a place for them.
    pub fn apply(&self, request: &Request, response: &mut Response, context: &mut dyn FilterContext) {
        let bodiless = request.method == Method::Head || matches!(response.status, 204 | 304);
        if bodiless || request.version == Version::Http10 {
            return;
        }
        let usual = is_usual(response.status);
        let mut fields = Fields::new();
        for (name, value, always) in &self.0 {
            if usual || *always {
                let value = evaluated(value, request, response, context);
                if !value.is_empty() {
                    context.trailer(name, &value);
                    fields.push(name, &value);
                }
            }
        }
        if fields.is_empty() {
            return;
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
        response.body = Body::Stream(Box::new(Trailed { chunks, inner, fields: Some(fields) }));
    }
}

/// A body with fields behind it.
struct Trailed {
    chunks: VecDeque<Chunk>,
    inner: Option<Box<dyn ChunkStream>>,
    fields: Option<Fields>,
}

impl ChunkStream for Trailed {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        match &mut self.inner {
            Some(inner) => inner.poll_chunk(cx),
            None => Poll::Ready(self.chunks.pop_front().map(Ok)),
        }
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        if let Some(inner) = &mut self.inner {
            inner.poll_ahead(cx);
        }
    }

    fn trailers(&mut self) -> Option<Fields> {
        let own = self.fields.take();
        let Some(mut fields) = self.inner.as_mut().and_then(|inner| inner.trailers()) else { return own };
        for (_, name, value) in own.iter().flat_map(Fields::iter) {
            fields.push(name, value);
        }
        Some(fields)
    }
}
