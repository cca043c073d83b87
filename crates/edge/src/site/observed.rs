//! How much of a stream has gone by, and when it ended.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use exchange::{Body, Chunk, ChunkStream, Fields, SendForeign, StreamError};

/// What was seen of a body so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Its bytes.
    pub bytes: Cell<u64>,
    /// When its end came.
    pub end: Cell<Option<Instant>>,
}

/// Watches a body. One that is no stream is there already.
pub fn watch(body: Body) -> (Body, Rc<Seen>) {
    let seen = Rc::new(Seen::default());
    match body {
        Body::Stream(inner) => (Body::Stream(Box::new(Watched { inner, seen: Rc::clone(&seen) })), seen),
        body => {
            seen.bytes.set(body.len().unwrap_or_default());
            seen.end.set(Some(exchange::now()));
            (body, seen)
        }
    }
}

struct Watched {
    inner: Box<dyn ChunkStream>,
    seen: Rc<Seen>,
}

impl ChunkStream for Watched {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        let polled = self.inner.poll_chunk(cx);
        match &polled {
            Poll::Ready(Some(Ok(Chunk::Data(data)))) => {
                self.seen.bytes.set(self.seen.bytes.get() + data.len() as u64);
            }
            Poll::Ready(Some(Ok(Chunk::File { len, .. }))) => {
                self.seen.bytes.set(self.seen.bytes.get() + len);
            }
            Poll::Ready(None | Some(Err(_))) if self.seen.end.get().is_none() => {
                self.seen.end.set(Some(exchange::now()));
            }
            _ => {}
        }
        polled
    }

    fn send_foreign(&mut self, most: u64, send: &mut SendForeign<'_>) -> Option<io::Result<usize>> {
        let sent = self.inner.send_foreign(most, send);
        if let Some(Ok(sent)) = &sent {
            self.seen.bytes.set(self.seen.bytes.get() + *sent as u64);
        }
        sent
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        self.inner.poll_ahead(cx);
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.inner.trailers()
    }
}
