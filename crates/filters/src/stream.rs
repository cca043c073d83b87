//! A body compressed while it is sent.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use exchange::{Chunk, ChunkStream, FileBody, StreamError};

use crate::encoder::Encoder;
use crate::forms::Collector;

/// Read and compressed in one go, before others get their turn.
const STEP: usize = 64 * 1024;
/// Output is handed on from here, so that a stream of small writes does not become one of tiny chunks.
const ENOUGH: usize = 8 * 1024;

/// Where the bytes come from.
pub enum Source {
    /// Memory.
    Memory(Bytes),
    /// Bytes and ranges of a file, in order; the last comes first.
    File { file: Arc<File>, rest: Vec<Part> },
    /// A stream.
    Stream(Box<dyn ChunkStream>),
}

/// One part of a file body.
pub enum Part {
    Bytes(Bytes),
    Range { start: u64, len: u64 },
}

impl Source {
    /// See [`ChunkStream::poll_ahead`].
    pub fn poll_ahead(&mut self, cx: &mut Context<'_>) {
        if let Self::Stream(inner) = self {
            inner.poll_ahead(cx);
        }
    }

    /// Of a file body.
    pub fn file(body: FileBody) -> Self {
        let mut rest = vec![Part::Bytes(body.suffix)];
        for piece in body.pieces.into_iter().rev() {
            rest.push(Part::Range { start: piece.start, len: piece.len });
            rest.push(Part::Bytes(piece.prefix));
        }
        Self::File { file: body.file, rest }
    }
}

/// What one step brought.
enum Step {
    /// So many bytes went in.
    Fed(usize),
    /// A range of a file that is to be read next.
    Range(Arc<File>, u64, u64),
    /// The source wants its bytes to arrive.
    Flush,
    /// The source has nothing now.
    Pending,
    /// The source has ended.
    End,
}

/// Compresses a source.
pub struct Compressed {
    encoder: Encoder,
    source: Source,
    /// Of a stream: a range of a file that is being read.
    range: Option<(Arc<File>, u64, u64)>,
    /// Large pieces are fed in steps.
    data: Bytes,
    buffer: Vec<u8>,
    /// Gets a copy of all that is sent.
    collector: Option<Collector>,
    flush_next: bool,
    ended: bool,
}

impl Compressed {
    pub fn new(encoder: Encoder, source: Source, collector: Option<Collector>) -> Self {
        Self {
            encoder,
            source,
            range: None,
            data: Bytes::new(),
            buffer: Vec::new(),
            collector,
            flush_next: false,
            ended: false,
        }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Result<Step, StreamError> {
        if !self.data.is_empty() {
            let piece = self.data.split_to(self.data.len().min(STEP));
            self.encoder.write(&piece).map_err(|_| StreamError("the compressor failed"))?;
            return Ok(Step::Fed(piece.len()));
        }
        if let Some((file, start, len)) = self.range.take() {
            let step = len.min(STEP as u64);
            self.feed(&file, start, step as usize)?;
            if len > step {
                self.range = Some((file, start + step, len - step));
            }
            return Ok(Step::Fed(step as usize));
        }
        match &mut self.source {
            Source::Memory(bytes) => {
                self.data = std::mem::take(bytes);
                Ok(if self.data.is_empty() { Step::End } else { Step::Fed(0) })
            }
            Source::File { file, rest } => Ok(match rest.pop() {
                None => Step::End,
                Some(Part::Bytes(bytes)) => {
                    self.data = bytes;
                    Step::Fed(0)
                }
                Some(Part::Range { len: 0, .. }) => Step::Fed(0),
                Some(Part::Range { start, len }) => Step::Range(Arc::clone(file), start, len),
            }),
            Source::Stream(inner) => Ok(match inner.poll_chunk(cx) {
                Poll::Pending => Step::Pending,
                Poll::Ready(None) => Step::End,
                Poll::Ready(Some(Err(error))) => return Err(error),
                Poll::Ready(Some(Ok(Chunk::Flush))) => Step::Flush,
                Poll::Ready(Some(Ok(Chunk::Data(bytes)))) => {
                    self.data = bytes;
                    Step::Fed(0)
                }
                Poll::Ready(Some(Ok(Chunk::File { file, start, len }))) => Step::Range(file, start, len),
            }),
        }
    }

    fn feed(&mut self, file: &File, start: u64, len: usize) -> Result<(), StreamError> {
        self.buffer.resize(STEP, 0);
        let buffer = &mut self.buffer[..len];
        file.read_exact_at(buffer, start).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => StreamError("the file was truncated while it was sent"),
            _ => StreamError("the file cannot be read"),
        })?;
        self.encoder.write(buffer).map_err(|_| StreamError("the compressor failed"))
    }

    fn fail(&mut self, error: StreamError) -> Poll<Option<Result<Chunk, StreamError>>> {
        self.ended = true;
        self.collector = None;
        Poll::Ready(Some(Err(error)))
    }

    fn hand_on(&mut self) -> Poll<Option<Result<Chunk, StreamError>>> {
        let data = self.encoder.take();
        if let Some(mut collector) = self.collector.take() {
            collector.push(&data);
            if self.ended {
                collector.finish();
            } else {
                self.collector = Some(collector);
            }
        }
        Poll::Ready(Some(Ok(Chunk::Data(data))))
    }
}

impl ChunkStream for Compressed {
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
        let mut budget = STEP;
        loop {
            let step = match self.step(cx) {
                Ok(step) => step,
                Err(error) => return self.fail(error),
            };
            match step {
                // A step costs something even if it moves little.
                Step::Fed(bytes) => budget = budget.saturating_sub(bytes.max(512)),
                Step::Range(file, start, len) => self.range = Some((file, start, len)),
                Step::Flush => {
                    if self.encoder.flush().is_err() {
                        return self.fail(StreamError("the compressor failed"));
                    }
                    if self.encoder.len() == 0 {
                        return Poll::Ready(Some(Ok(Chunk::Flush)));
                    }
                    self.flush_next = true;
                    return self.hand_on();
                }
                Step::Pending if self.encoder.len() > 0 => return self.hand_on(),
                Step::Pending => return Poll::Pending,
                Step::End => {
                    self.ended = true;
                    if self.encoder.finish().is_err() {
                        return self.fail(StreamError("the compressor failed"));
                    }
                    return self.hand_on();
                }
            }
            if self.encoder.len() >= ENOUGH {
                return self.hand_on();
            }
            if budget == 0 {
                if self.encoder.len() > 0 {
                    return self.hand_on();
                }
                // What compresses to nothing must not hold the thread.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}
