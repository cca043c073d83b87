//! Bodies: what a client sends and what a handler answers.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use sys::Foreign;

use crate::Fields;

/// Why a request body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The client closed or reset the connection: nobody is left to answer.
    Gone,
    /// Nothing arrived for `client_body_timeout`: 408.
    Timeout,
    /// The framing is broken: 400 and close.
    Malformed(&'static str),
    /// More than `client_max_body_size`: 413.
    TooLarge,
}

impl BodyError {
    /// The status to answer with; `None` when nobody is left to answer.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Gone => None,
            Self::Timeout => Some(408),
            Self::Malformed(_) => Some(400),
            Self::TooLarge => Some(413),
        }
    }
}

/// Where a request's body comes from: a protocol driver.
pub trait BodySource {
    /// The next bytes; `None` after the last. Never yields an empty piece.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>;

    /// Whether it is known that nothing follows. Where that is not known, the next piece tells.
    fn is_over(&self) -> bool {
        false
    }
}

/// A request without a body.
#[derive(Clone, Copy, Debug)]
pub struct NoBody;

impl BodySource for NoBody {
    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        Poll::Ready(None)
    }

    fn is_over(&self) -> bool {
        true
    }
}

/// One part of a [`FileBody`]: some bytes of its own, then a range of the file.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Sent first; empty for a single range, the part's head in `multipart/byteranges`.
    pub prefix: Bytes,
    /// First byte in the file.
    pub start: u64,
    /// Bytes of the file.
    pub len: u64,
}

/// (Ranges of) a file, to be sent with sendfile where the protocol can.
#[derive(Clone, Debug)]
pub struct FileBody {
    /// The open file. Read with positioned reads only: others share it.
    pub file: Arc<File>,
    /// What is sent of it, in order.
    pub pieces: Vec<Piece>,
    /// Sent last; the closing delimiter of `multipart/byteranges`.
    pub suffix: Bytes,
}

impl FileBody {
    /// Bytes on the wire.
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|p| p.prefix.len() as u64 + p.len).sum::<u64>() + self.suffix.len() as u64
    }

    /// Whether nothing is sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which file's bytes these are. Two bodies with the same identity and length are the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Device of the file.
    pub device: u64,
    /// Number of the file on it.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Time of the last change of the content: seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Time of the last change of content or attributes, which nobody can set back.
    pub changed: (i64, i64),
}

/// Why a response ended before its end. The client must be able to tell: the driver resets or cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamError(
    /// For the log.
    pub &'static str,
);

/// The next of a streamed response.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Bytes; never empty.
    Data(Bytes),
    /// A range of a file.
    File {
        /// The file; positioned reads only.
        file: Arc<File>,
        /// First byte.
        start: u64,
        /// Number of bytes; never 0.
        len: u64,
    },
    /// All so far is to reach the client now (a streaming response has paused).
    Flush,
}

/// Sends some of what lies in another process's reach; how many bytes.
pub type SendForeign<'a> = dyn FnMut(&[Foreign<'_>]) -> io::Result<usize> + 'a;

/// A response body that comes in pieces.
pub trait ChunkStream {
    /// The next piece; `None` after the last.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>>;

    /// Offers what comes next to `send`, at most `most` bytes of it, from where another process has put it; `send` says
    /// how many it has sent. The rest comes with the next piece. `None`: there is nothing of that kind, and the next
    /// piece tells more.
    fn send_foreign(&mut self, _most: u64, _send: &mut SendForeign<'_>) -> Option<io::Result<usize>> {
        None
    }

    /// The client takes nothing just now: takes in what may come meanwhile, if that is to be kept for it. Called each
    /// time the task is woken while it waits for the client.
    fn poll_ahead(&mut self, _: &mut Context<'_>) {}

    /// Only the bytes from `start` up to `end` are wanted; nothing was taken yet. Tells which byte it will begin with:
    /// `start`, if it can leave out what is before and behind them, else the first.
    fn narrow(&mut self, _start: u64, _end: u64) -> u64 {
        0
    }

    /// The trailer section: asked for once after the last piece, where the framing has a place for it.
    fn trailers(&mut self) -> Option<Fields> {
        None
    }
}

/// The stream that has nothing more.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl ChunkStream for Nothing {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        Poll::Ready(None)
    }
}

/// A response body.
#[derive(Default)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// Whole and in memory.
    Full(Bytes),
    /// (Ranges of) a file.
    File(FileBody),
    /// In pieces.
    Stream(Box<dyn ChunkStream>),
}

impl Body {
    /// Length in bytes, where it is known beforehand.
    pub fn len(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Full(bytes) => Some(bytes.len() as u64),
            Self::File(file) => Some(file.len()),
            Self::Stream(_) => None,
        }
    }

    /// Whether it is known to be empty.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({})", bytes.len()),
            Self::File(file) => write!(f, "File({})", file.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}
