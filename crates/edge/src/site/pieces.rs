//! A body of several pieces, in memory and in files.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::os::unix::fs::FileExt;
use std::task::{Context, Poll};

use buffering::{BodyBuffer, BufferedBody};
use bytes::Bytes;
use exchange::{Body, Chunk, ChunkStream, Name, Response, StreamError};

use crate::event_loop::EventLoop;

/// Bytes of a streamed body that are gathered in memory; a longer one is in a temporary file.
const IN_MEMORY: usize = 64 * 1024;
/// What lies in memory and is no longer becomes one piece.
const ONE_PIECE: u64 = 64 * 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Pieces {
    chunks: VecDeque<Chunk>,
    length: u64,
    /// Temporary files, whose space is given back when all has been sent.
    held: Vec<BufferedBody>,
    /// One of the bodies was not whole: nor is this one.
    broken: Option<StreamError>,
}

impl Pieces {
    /// What stands for a body that is not sent.
    pub fn of_unknown_length() -> Body {
        Body::Stream(Box::new(Self::default()))
    }

    /// A body, all of it. What streams is waited for, and whoever makes it is free then.
    pub async fn gather(body: Body, event_loop: &EventLoop) -> Self {
        let mut pieces = Self::default();
        match body {
            Body::Empty => {}
            Body::Full(bytes) => pieces.data(bytes),
            Body::File(body) => {
                for piece in body.pieces {
                    pieces.data(piece.prefix);
                    pieces.file(&body.file, piece.start, piece.len);
                }
                pieces.data(body.suffix);
            }
            Body::Stream(stream) => pieces.gather_stream(stream, event_loop).await,
        }
        pieces
    }

    async fn gather_stream(&mut self, mut stream: Box<dyn ChunkStream>, event_loop: &EventLoop) {
        let fresh = || BodyBuffer::new(IN_MEMORY, event_loop.process.temp.clone());
        let mut buffer = fresh();
        loop {
            match poll_fn(|cx| stream.poll_chunk(cx)).await {
                None => break,
                Some(Ok(Chunk::Flush)) => {}
                Some(Ok(Chunk::Data(data))) => {
                    if buffer.push(&data).is_err() {
                        self.broken = Some(StreamError("no space to gather its body"));
                        return;
                    }
                }
                Some(Ok(Chunk::File { file, start, len })) => {
                    self.buffered(std::mem::replace(&mut buffer, fresh()));
                    self.file(&file, start, len);
                }
                Some(Err(error)) => {
                    self.broken = Some(error);
                    break;
                }
            }
        }
        self.buffered(buffer);
    }

    fn buffered(&mut self, buffer: BodyBuffer) {
        match buffer.finish() {
            Ok(BufferedBody::Empty) => {}
            Ok(BufferedBody::Memory(bytes)) => self.data(bytes),
            Ok(BufferedBody::File(spilled)) => {
                self.file(spilled.file(), 0, spilled.len());
                self.held.push(BufferedBody::File(spilled));
            }
            Err(_) => self.broken = Some(StreamError("no space to gather its body")),
        }
    }

    /// Appends bytes.
    pub fn data(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.length += bytes.len() as u64;
            self.chunks.push_back(Chunk::Data(bytes));
        }
    }

    /// Appends a range of a file.
    pub fn file(&mut self, file: &std::sync::Arc<std::fs::File>, start: u64, len: u64) {
        if len > 0 {
            self.length += len;
            self.chunks.push_back(Chunk::File { file: file.clone(), start, len });
        }
    }

    /// Appends all of another body. Behind what broke off nothing comes.
    pub fn append(&mut self, other: Self) {
        if self.broken.is_none() {
            self.chunks.extend(other.chunks);
            self.length += other.length;
            self.held.extend(other.held);
            self.broken = other.broken;
        }
    }

    /// Takes out what it consists of; what it holds goes on to be held.
    pub fn take_chunks(&mut self, holder: &mut Self) -> VecDeque<Chunk> {
        holder.held.append(&mut self.held);
        self.length = 0;
        std::mem::take(&mut self.chunks)
    }

    /// It is not whole, and ends here.
    pub fn break_off(&mut self, error: StreamError) {
        self.broken.get_or_insert(error);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// All of it in memory, if it is whole and no longer than that.
    pub fn bytes(&self, most: u64) -> Option<Vec<u8>> {
        if self.length > most || self.broken.is_some() {
            return None;
        }
        let mut whole = Vec::with_capacity(self.length as usize);
        for chunk in &self.chunks {
            match chunk {
                Chunk::Data(bytes) => whole.extend_from_slice(bytes),
                Chunk::File { file, start, len } => {
                    let from = whole.len();
                    whole.resize(from + *len as usize, 0);
                    file.read_exact_at(&mut whole[from..], *start).ok()?;
                }
                Chunk::Flush => {}
            }
        }
        Some(whole)
    }

    /// Makes it a response's body.
    pub fn into_response(mut self, response: &mut Response) {
        let in_memory = self.chunks.iter().all(|chunk| matches!(chunk, Chunk::Data(_)));
        if self.broken.is_none() && in_memory && self.length <= ONE_PIECE {
            let mut whole = Vec::with_capacity(self.length as usize);
            for chunk in &self.chunks {
                if let Chunk::Data(bytes) = chunk {
                    whole.extend_from_slice(bytes);
                }
            }
            response.body = if whole.is_empty() { Body::Empty } else { Body::Full(whole.into()) };
            return;
        }
        if self.broken.is_none() {
            response.fields.set(Name::ContentLength, self.length.to_string().as_bytes());
        }
        self.chunks.retain(|chunk| !matches!(chunk, Chunk::Flush));
        response.body = Body::Stream(Box::new(self));
    }
}

impl ChunkStream for Pieces {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        let next = self.chunks.pop_front().map(Ok);
        Poll::Ready(next.or_else(|| self.broken.take().map(Err)))
    }
}
