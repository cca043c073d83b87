//! The body of an answer on its way to the client: at the client's pace, or as fast as the server sends.

use std::task::{Context, Poll};

use buffering::ResponseBuffer;
use exchange::{Body, Chunk, ChunkStream, Fields, StreamError};

use crate::AnswerBody;

/// Reads only as the client takes. `trailers`: what stands behind the body goes along.
pub fn direct(body: AnswerBody, trailers: bool) -> Body {
    Body::Stream(Box::new(Direct { body, trailers, unflushed: false }))
}

/// Reads as fast as the server sends, as long as there is room: so it is free for others when its last byte has come.
///
/// What the client takes as it comes passes through no buffer. Only while it takes nothing is there something to keep.
pub fn buffered(body: AnswerBody, buffer: ResponseBuffer, trailers: bool) -> Body {
    Body::Stream(Box::new(Buffered { body, buffer, end: None, trailers }))
}

struct Direct {
    body: AnswerBody,
    trailers: bool,
    /// Something was given since the server last paused.
    unflushed: bool,
}

impl ChunkStream for Direct {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        match self.body.poll_next(cx) {
            // What it has said so far is to be seen, also by those who compress it.
            Poll::Pending if std::mem::take(&mut self.unflushed) => Poll::Ready(Some(Ok(Chunk::Flush))),
            Poll::Pending => Poll::Pending,
            Poll::Ready(next) => {
                self.unflushed = next.is_some();
                Poll::Ready(next.map(|next| next.map(Chunk::Data).map_err(StreamError)))
            }
        }
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        self.body.poll_ahead(cx);
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.body.trailers().filter(|_| self.trailers)
    }
}

struct Buffered {
    body: AnswerBody,
    /// What came while the client took nothing.
    buffer: ResponseBuffer,
    /// How the answer ended, once it has.
    end: Option<Result<(), &'static str>>,
    trailers: bool,
}

impl ChunkStream for Buffered {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        if let Some(chunk) = self.buffer.pop() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        match self.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(words)) => Poll::Ready(Some(Err(StreamError(words)))),
            None => self
                .body
                .poll_next(cx)
                .map(|next| next.map(|next| next.map(Chunk::Data).map_err(StreamError))),
        }
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        self.buffer.set_slow();
        while self.end.is_none() && self.buffer.has_room() {
            match self.body.poll_next(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.buffer.push(data);
                    if self.buffer.has_file() {
                        self.body.has_spilled();
                    }
                }
                Poll::Ready(Some(Err(words))) => self.end = Some(Err(words)),
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Pending => return,
            }
        }
        // Where there is no room for more of the answer, the request still goes on.
        self.body.poll_ahead(cx);
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.body.trailers().filter(|_| self.trailers)
    }
}
