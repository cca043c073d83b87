//! An answer on its way into the cache and to the client: written as fast as it comes, and sent from the file at the
//! client's pace. A client that leaves does not keep it from being kept, and a disk that is full not from being sent.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::future::poll_fn;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use cache::Writer;
use exchange::{Body, Chunk, ChunkStream, Fields, FileBody, StreamError};
use telemetry::error_log::{Level, write};

use super::store::StoreWriter;

/// What is read of a file at once.
const PIECE: u64 = 64 * 1024;

/// Where it is written to.
pub enum Sink {
    /// `proxy_cache`
    Cache(Box<Writer>),
    /// `proxy_store`
    Store(StoreWriter),
}

impl Sink {
    fn push(&mut self, data: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Cache(writer) => writer.push(data),
            Self::Store(writer) => writer.push(data),
        }
    }

    /// The file, and where the body begins in it.
    fn file(&self) -> (&Arc<File>, u64) {
        match self {
            Self::Cache(writer) => writer.file(),
            Self::Store(writer) => (writer.file(), 0),
        }
    }

    fn finish(self) -> std::io::Result<()> {
        match self {
            Self::Cache(writer) => writer.finish(),
            Self::Store(writer) => writer.finish(),
        }
    }
}

/// Writes a body and gives the client the same. `length`: what it has to come to. `memory`: bytes that are held for the
/// client when the disk has failed.
pub fn tee(body: Body, mut writer: Sink, length: Option<u64>, memory: u64) -> Body {
    let source = match body {
        Body::Stream(source) => source,
        whole => {
            let written = match &whole {
                Body::Full(bytes) => writer.push(bytes),
                Body::File(file) => copy(file, &mut writer),
                Body::Empty | Body::Stream(_) => Ok(()),
            };
            let is_whole = length.is_none_or(|length| whole.len() == Some(length));
            if let Err(error) = written.and_then(|()| if is_whole { writer.finish() } else { Ok(()) }) {
                failed(&error);
            }
            return whole;
        }
    };
    let (file, start) = writer.file();
    let shared = Rc::new(RefCell::new(Shared {
        file: Arc::clone(file),
        start,
        written: 0,
        last: None,
        flush: false,
        behind: VecDeque::new(),
        held: 0,
        memory,
        end: None,
        trailers: None,
        consumer: None,
        producer: None,
        abandoned: false,
    }));
    tokio::task::spawn_local(pump(source, Some(writer), length, Rc::clone(&shared)));
    Body::Stream(Box::new(Taken { shared, at: 0 }))
}

fn copy(body: &FileBody, writer: &mut Sink) -> std::io::Result<()> {
    for piece in &body.pieces {
        writer.push(&piece.prefix)?;
        copy_range(&body.file, piece.start, piece.len, |data| writer.push(data))?;
    }
    writer.push(&body.suffix)
}

fn copy_range(
    file: &File,
    mut start: u64,
    length: u64,
    mut put: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let end = start + length;
    let mut piece = vec![0; PIECE.min(length) as usize];
    while start < end {
        let next = PIECE.min(end - start) as usize;
        file.read_exact_at(&mut piece[..next], start)?;
        put(&piece[..next])?;
        start += next as u64;
    }
    Ok(())
}

fn finish(writer: Sink) {
    if let Err(error) = writer.finish() {
        failed(&error);
    }
}

fn failed(error: &std::io::Error) {
    write(Level::Critical, format_args!("an answer could not be kept: {error}"));
}

struct Shared {
    /// What was written of the body, from `start` on.
    file: Arc<File>,
    start: u64,
    written: u64,
    /// The last that was written, and where.
    last: Option<(u64, Bytes)>,
    /// All so far is to reach the client.
    flush: bool,
    /// What follows when nothing is written any more.
    behind: VecDeque<Chunk>,
    held: u64,
    memory: u64,
    end: Option<Result<(), &'static str>>,
    trailers: Option<Fields>,
    consumer: Option<Waker>,
    producer: Option<Waker>,
    abandoned: bool,
}

impl Shared {
    fn wake(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            consumer.wake();
        }
    }
}

async fn pump(
    mut source: Box<dyn ChunkStream>,
    mut writer: Option<Sink>,
    length: Option<u64>,
    shared: Rc<RefCell<Shared>>,
) {
    let mut is_kept = false;
    poll_fn(|cx| {
        loop {
            {
                let mut shared = shared.borrow_mut();
                if writer.is_none() && !is_kept {
                    if shared.abandoned {
                        return Poll::Ready(());
                    }
                    shared.producer = Some(cx.waker().clone());
                    if shared.held >= shared.memory {
                        return Poll::Pending;
                    }
                }
            }
            let next = std::task::ready!(source.poll_chunk(cx));
            let mut shared = shared.borrow_mut();
            let end = match next {
                Some(Ok(chunk)) => {
                    put(&mut shared, &mut writer, chunk);
                    // The next request finds it as soon as the client has the last byte.
                    if length == Some(shared.written)
                        && let Some(writer) = writer.take()
                    {
                        is_kept = true;
                        finish(writer);
                    }
                    None
                }
                Some(Err(error)) => Some(Err(error.0)),
                None => {
                    shared.trailers = source.trailers();
                    Some(Ok(()))
                }
            };
            if let Some(end) = end {
                let is_whole = end.is_ok() && length.is_none_or(|length| length == shared.written);
                if let Some(writer) = writer.take().filter(|_| is_whole) {
                    finish(writer);
                }
                shared.end = Some(end);
            }
            shared.wake();
            if shared.end.is_some() {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

/// One chunk more: into the file, or behind it.
fn put(shared: &mut Shared, writer: &mut Option<Sink>, chunk: Chunk) {
    let Some(open) = writer else {
        shared.held += match &chunk {
            Chunk::Data(data) => data.len() as u64,
            Chunk::File { .. } | Chunk::Flush => 1,
        };
        shared.behind.push_back(chunk);
        return;
    };
    let written = match &chunk {
        Chunk::Data(data) => open.push(data),
        Chunk::File { file, start, len } => copy_range(file, *start, *len, |data| open.push(data)),
        Chunk::Flush => {
            shared.flush = true;
            return;
        }
    };
    match (written, chunk) {
        (Ok(()), Chunk::Data(data)) => {
            let at = shared.written;
            shared.written += data.len() as u64;
            shared.last = Some((at, data));
        }
        (Ok(()), Chunk::File { len, .. }) => shared.written += len,
        (Ok(()), Chunk::Flush) => {}
        (Err(error), chunk) => {
            failed(&error);
            // It is not kept, and leaves none the less: what was written from the file, the rest as it comes.
            *writer = None;
            put(shared, writer, chunk);
        }
    }
}

struct Taken {
    shared: Rc<RefCell<Shared>>,
    at: u64,
}

impl ChunkStream for Taken {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        let mut shared = self.shared.borrow_mut();
        let ready = shared.written - self.at;
        if ready > 0 {
            let at = std::mem::replace(&mut self.at, shared.written);
            if let Some((_, data)) = shared.last.take().filter(|(from, _)| *from == at) {
                return Poll::Ready(Some(Ok(Chunk::Data(data))));
            }
            let (file, start) = (Arc::clone(&shared.file), shared.start + at);
            return Poll::Ready(Some(Ok(Chunk::File { file, start, len: ready })));
        }
        if std::mem::take(&mut shared.flush) {
            return Poll::Ready(Some(Ok(Chunk::Flush)));
        }
        if let Some(chunk) = shared.behind.pop_front() {
            shared.held -= match &chunk {
                Chunk::Data(data) => data.len() as u64,
                Chunk::File { .. } | Chunk::Flush => 1,
            };
            if let Some(producer) = shared.producer.take() {
                producer.wake();
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
        match shared.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(words)) => Poll::Ready(Some(Err(StreamError(words)))),
            None => {
                shared.consumer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.shared.borrow_mut().trailers.take()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut shared = self.shared.borrow_mut();
        shared.abandoned = true;
        if let Some(producer) = shared.producer.take() {
            producer.wake();
        }
    }
}
