//! A body that changes while it is sent.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use exchange::{Body, Chunk, ChunkStream, StreamError};

use crate::stream::{Part, Source};

/// Read and changed in one go, before others get their turn.
const STEP: usize = 64 * 1024;
/// Output is handed on from here.
const ENOUGH: usize = 8 * 1024;

/// Changes a body, piece by piece.
pub trait Change {
    /// Bytes that go in at once at most: what comes of them is kept in memory.
    const PIECE: usize;

    /// Takes more of the body and appends what can be sent of it.
    fn feed(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError>;

    /// Appends what can be sent now that the sender has paused.
    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), StreamError>;

    /// Appends the rest: the body has ended.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), StreamError>;
}

/// The body as it is after the change. Its length is not known any more.
pub fn change<C: Change + 'static>(body: Body, change: C) -> Body {
    let source = match body {
        Body::Empty => Source::Memory(Bytes::new()),
        Body::Full(bytes) => Source::Memory(bytes),
        Body::File(file) => Source::file(file),
        Body::Stream(inner) => Source::Stream(inner),
    };
    Body::Stream(Box::new(Changed {
        change,
        source,
        range: None,
        data: Bytes::new(),
        out: Vec::new(),
        flush_next: false,
        ended: false,
    }))
}

struct Changed<C> {
    change: C,
    source: Source,
    /// A range of a file that is being read.
    range: Option<(Arc<File>, u64, u64)>,
    /// What has been read and not changed yet.
    data: Bytes,
    out: Vec<u8>,
    flush_next: bool,
    ended: bool,
}

/// What the source has next.
enum Next {
    Data,
    Flush,
    Pending,
    End,
}

impl<C: Change> Changed<C> {
    /// Brings more into `data`.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<Next, StreamError> {
        if let Some((file, start, len)) = self.range.take() {
            let step = len.min(STEP as u64);
            let mut buffer = vec![0; step as usize];
            file.read_exact_at(&mut buffer, start).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => StreamError("the file was truncated while it was sent"),
                _ => StreamError("the file cannot be read"),
            })?;
            self.data = buffer.into();
            if len > step {
                self.range = Some((file, start + step, len - step));
            }
            return Ok(Next::Data);
        }
        match &mut self.source {
            Source::Memory(bytes) if bytes.is_empty() => return Ok(Next::End),
            Source::Memory(bytes) => self.data = std::mem::take(bytes),
            Source::File { file, rest } => match rest.pop() {
                None => return Ok(Next::End),
                Some(Part::Bytes(bytes)) => self.data = bytes,
                Some(Part::Range { len: 0, .. }) => {}
                Some(Part::Range { start, len }) => self.range = Some((Arc::clone(file), start, len)),
            },
            Source::Stream(inner) => match inner.poll_chunk(cx) {
                Poll::Pending => return Ok(Next::Pending),
                Poll::Ready(None) => return Ok(Next::End),
                Poll::Ready(Some(Err(error))) => return Err(error),
                Poll::Ready(Some(Ok(Chunk::Flush))) => return Ok(Next::Flush),
                Poll::Ready(Some(Ok(Chunk::Data(bytes)))) => self.data = bytes,
                Poll::Ready(Some(Ok(Chunk::File { file, start, len }))) => {
                    self.range = Some((file, start, len));
                }
            },
        }
        Ok(Next::Data)
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Result<Poll<Option<Chunk>>, StreamError> {
        let mut budget = STEP;
        loop {
            while !self.data.is_empty() && self.out.len() < ENOUGH && budget > 0 {
                let piece = self.data.split_to(self.data.len().min(C::PIECE));
                self.change.feed(&piece, &mut self.out)?;
                budget = budget.saturating_sub(piece.len().max(512));
            }
            if self.out.len() >= ENOUGH || (budget == 0 && !self.out.is_empty()) {
                return Ok(Poll::Ready(Some(self.take())));
            }
            if budget == 0 {
                // What changes into nothing must not hold the thread.
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
            }
            match self.read(cx)? {
                Next::Data => budget = budget.saturating_sub(64),
                Next::Flush => {
                    self.change.flush(&mut self.out)?;
                    if self.out.is_empty() {
                        return Ok(Poll::Ready(Some(Chunk::Flush)));
                    }
                    self.flush_next = true;
                    return Ok(Poll::Ready(Some(self.take())));
                }
                Next::Pending if self.out.is_empty() => return Ok(Poll::Pending),
                Next::Pending => return Ok(Poll::Ready(Some(self.take()))),
                Next::End => {
                    self.ended = true;
                    self.change.finish(&mut self.out)?;
                    return Ok(Poll::Ready((!self.out.is_empty()).then(|| self.take())));
                }
            }
        }
    }

    fn take(&mut self) -> Chunk {
        Chunk::Data(std::mem::take(&mut self.out).into())
    }
}

impl<C: Change> ChunkStream for Changed<C> {
    fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        self.source.poll_ahead(cx);
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        if std::mem::take(&mut self.flush_next) {
            return Poll::Ready(Some(Ok(Chunk::Flush)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        match self.advance(cx) {
            Ok(poll) => poll.map(|chunk| chunk.map(Ok)),
            Err(error) => {
                self.ended = true;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}
