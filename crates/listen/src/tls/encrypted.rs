//! A stream once its handshake has begun.

use std::cell::RefCell;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::ServerConnection;

use crate::socket::Socket;

/// Bytes that one read of the socket takes at most: a record of the largest size, and a bit.
const READ_SIZE: usize = 17 * 1024;
/// Bytes that are encrypted before they have to leave.
const WRITE_SIZE: usize = 64 * 1024;

thread_local! {
    /// What was read and is not in a session yet: only for as long as a call takes.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a session is beside its socket: it may go to another event loop.
pub struct Session {
    tls: ServerConnection,
    /// Plaintext that came before the end of the handshake, and that nobody has taken yet.
    early: Option<Box<BytesMut>>,
    /// Read from the socket, and not taken by the session, which has as much plaintext as it may.
    waiting: BytesMut,
    /// Bytes that were encrypted, and of which nobody has been told yet that they are written.
    debt: usize,
    end: Option<End>,
    farewell: Farewell,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

/// How the client's side ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With `close_notify`.
    Proper,
    /// With the connection.
    Truncated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    Owed,
    Said,
    /// A client that gets none knows that something is missing.
    Never,
}

/// An encrypted stream.
pub struct Encrypted {
    socket: Socket,
    inner: Box<Session>,
}

impl Encrypted {
    pub(super) fn new(socket: Socket, mut session: ServerConnection) -> Self {
        session.set_buffer_limit(Some(WRITE_SIZE));
        let inner = Session {
            tls: session,
            early: None,
            waiting: BytesMut::new(),
            debt: 0,
            end: None,
            farewell: Farewell::Owed,
        };
        Self { socket, inner: Box::new(inner) }
    }

    /// A session goes on, with its socket.
    pub fn resume(socket: Socket, session: Box<Session>) -> Self {
        Self { socket, inner: session }
    }

    /// Socket and session, for another event loop.
    pub fn into_parts(self) -> (Socket, Box<Session>) {
        (self.socket, self.inner)
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn session(&mut self) -> &mut ServerConnection {
        &mut self.inner.tls
    }

    pub(crate) fn is_truncated(&self) -> bool {
        self.inner.end == Some(End::Truncated)
    }

    /// Whether what is read comes from before the end of the handshake.
    pub(crate) fn is_in_early_data(&self) -> bool {
        self.inner.tls.is_handshaking()
    }

    /// Whether the client has sent anything before the end of the handshake that nobody has taken yet.
    pub(super) fn has_early_data(&self) -> bool {
        self.inner.early.is_some()
    }

    /// Ready at the end of the handshake.
    pub(crate) fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.inner.tls.is_handshaking() {
            if self.inner.end.is_some() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            ready!(self.poll_take_in(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    // Reading.

    /// Ready when there is plaintext, or the end. An error stays one.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.plaintext().is_empty() && self.inner.end.is_none() {
            ready!(self.poll_take_in(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// All plaintext that is there goes behind what `buf` holds. 0 is the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
        ready!(self.poll_readable(cx))?;
        let before = buf.len();
        let room = (buf.capacity() - before).max(1024);
        loop {
            let plaintext = self.plaintext();
            let count = plaintext.len().min(room - (buf.len() - before));
            if count == 0 {
                return Poll::Ready(Ok(buf.len() - before));
            }
            buf.extend_from_slice(&plaintext[..count]);
            self.consume(count);
        }
    }

    fn plaintext(&mut self) -> &[u8] {
        if self.inner.early.is_some() {
            return self.inner.early.as_deref().map_or(&[], |early| &early[..]);
        }
        // An error says that there is none, or none any more.
        self.inner.tls.reader().into_first_chunk().unwrap_or_default()
    }

    fn consume(&mut self, count: usize) {
        match &mut self.inner.early {
            Some(early) if early.len() > count => early.advance(count),
            Some(_) => self.inner.early = None,
            None => self.inner.tls.reader().consume(count),
        }
    }

    /// Takes what came before the end of the handshake; the session takes no more of it than it is told to.
    fn take_early(&mut self) -> io::Result<()> {
        let Some(mut early) = self.inner.tls.early_data() else { return Ok(()) };
        let mut more = Vec::new();
        if early.read_to_end(&mut more)? > 0 {
            self.inner.early.get_or_insert_default().extend_from_slice(&more);
        }
        Ok(())
    }

    /// Reads from the socket and lets the session make of it what it can.
    pub(super) fn poll_take_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.inner.waiting.is_empty() {
            let mut waiting = std::mem::take(&mut self.inner.waiting);
            let taken = self.feed(&waiting)?;
            waiting.advance(taken);
            if !waiting.is_empty() {
                self.inner.waiting = waiting;
            }
            return Poll::Ready(Ok(()));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(READ_SIZE, 0);
            let count = ready!(self.socket.poll_read_slice(cx, scratch))?;
            let taken = self.feed(&scratch[..count])?;
            self.inner.waiting.extend_from_slice(&scratch[taken..count]);
            Poll::Ready(Ok(()))
        })
    }

    /// What was read before the session was there. What is left of the hello's own reads is in the session already.
    pub(super) fn take_in(&mut self, input: &[u8]) -> io::Result<()> {
        let taken = self.feed(input)?;
        self.inner.waiting.extend_from_slice(&input[taken..]);
        Ok(())
    }

    /// Gives the session what was read; says how much it has taken, which is less than all when it has enough plaintext.
    fn feed(&mut self, input: &[u8]) -> io::Result<usize> {
        let mut left = input;
        if left.is_empty() {
            // The connection's end.
            self.inner.tls.read_tls(&mut left)?;
            self.inner.end.get_or_insert(End::Truncated);
            return Ok(0);
        }
        let mut has_room = true;
        while !left.is_empty() && has_room {
            // A closed session takes nothing more.
            if self.inner.tls.read_tls(&mut left)? == 0 {
                left = &[];
            }
            has_room = self.process()?;
        }
        // Answers to what the client asked of the session itself.
        if self.inner.tls.wants_write() {
            match self.push() {
                Err(stopped) if stopped.error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(stopped.error);
                }
                _ => {}
            }
        }
        Ok(input.len() - left.len())
    }

    /// Lets the session make something of what it has been given; whether it has room for more plaintext.
    pub(super) fn process(&mut self) -> io::Result<bool> {
        match self.inner.tls.process_new_packets() {
            Ok(state) => {
                if state.peer_has_closed() {
                    self.inner.end = Some(End::Proper);
                }
                self.take_early()?;
                Ok(state.plaintext_bytes_to_read() < WRITE_SIZE / 4)
            }
            Err(error) => {
                // It says why by an alert, if there is room for it.
                let _ = self.push();
                self.inner.farewell = Farewell::Never;
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    // Writing.

    /// What is told as written, the kernel has; see [`crate::Stream::try_write`].
    pub(crate) fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if total == 0 {
            return Ok(0);
        }
        if self.inner.debt == 0 {
            if self.inner.tls.wants_write() {
                self.push().map_err(|stopped| stopped.error)?;
            }
            self.inner.debt = self.inner.tls.writer().write_vectored(bufs)?;
        }
        match self.push() {
            Ok(()) => {
                let count = self.inner.debt.min(total);
                self.inner.debt -= count;
                Ok(count)
            }
            // All but the last byte is told as it leaves, give or take what records add: so a slow client is seen
            // to take something, and whoever was told of the last byte knows that everything has left.
            Err(stopped) if stopped.error.kind() == io::ErrorKind::WouldBlock => {
                let count = stopped.written.min(self.inner.debt.saturating_sub(1)).min(total);
                self.inner.debt -= count;
                if count > 0 { Ok(count) } else { Err(stopped.error) }
            }
            Err(stopped) => Err(stopped.error),
        }
    }

    pub(crate) fn write_now(&mut self, buf: &[u8]) {
        if self.inner.debt == 0 && self.inner.tls.writer().write(buf).is_ok() {
            let _ = self.push();
        }
    }

    pub(crate) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Not more: what leaves is told of by the next write.
        self.socket.poll_write_ready(cx)
    }

    /// Ready when all that is encrypted has left.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.push() {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(stopped) if stopped.error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(cx))?;
                }
                Err(stopped) => return Poll::Ready(Err(stopped.error)),
            }
        }
    }

    /// Writes what is encrypted.
    fn push(&mut self) -> Result<(), Stopped> {
        let mut written = 0;
        while self.inner.tls.wants_write() {
            match self.inner.tls.write_tls(&mut Sink(&self.socket)) {
                Ok(0) => return Err(Stopped { written, error: io::ErrorKind::WriteZero.into() }),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stopped { written, error }),
            }
        }
        Ok(())
    }

    // The end.

    pub(crate) fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.inner.farewell == Farewell::Never {
            return Poll::Ready(());
        }
        self.farewell();
        // Whoever is gone needs none.
        let _ = ready!(self.poll_flush(cx));
        Poll::Ready(())
    }

    /// Says it, if there is room.
    pub(crate) fn farewell(&mut self) {
        if self.inner.farewell == Farewell::Owed {
            self.inner.farewell = Farewell::Said;
            self.inner.tls.send_close_notify();
            let _ = self.push();
        }
    }

    pub(crate) fn no_farewell(&mut self) {
        self.inner.farewell = Farewell::Never;
    }
}

/// Writing came to a stop.
struct Stopped {
    /// Bytes that had left.
    written: usize,
    error: io::Error,
}

/// Where records go.
struct Sink<'a>(&'a Socket);

impl Write for Sink<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
