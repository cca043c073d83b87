//! The byte stream under the codec.
//!
//! The codec writes and flushes frame by frame. Here frames are collected, and leave together when the codec has no
//! more of them: 32 small responses on one connection are one write.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use ::h2::Reason;
use bytes::{Buf, BytesMut};
use listen::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Fault, Frames, Stretch};
use super::turns::Turns;

/// Bytes that one read takes at most.
const READ_SIZE: usize = 16 * 1024;
/// Bytes that are collected before they have to leave.
const OUTPUT_LIMIT: usize = 64 * 1024;

/// What a connection, its codec and its exchanges share.
pub(super) struct Wire {
    stream: RefCell<Stream>,
    input: RefCell<BytesMut>,
    output: RefCell<BytesMut>,
    frames: RefCell<Frames>,
    /// What of the input the codec may have now.
    stretch: Cell<Stretch>,
    /// What the client did that ends the connection.
    fault: Cell<Option<Fault>>,
    /// The codec has been told to wait since the last flush.
    blocked: Cell<bool>,
    /// Bytes left since somebody last asked.
    moved: Cell<bool>,
    /// The client is at the end of what it sends.
    ended: Cell<bool>,
    /// Whose turn it is to hand over data.
    pub(super) turns: Turns,
    /// Exchanges that are not over.
    exchanges: Cell<usize>,
    driver: RefCell<Option<Waker>>,
    /// Exchanges that wait for the end of the TLS handshake.
    unsettled: RefCell<Vec<Waker>>,
    /// Requests begun.
    pub(super) requests: Cell<u64>,
    /// Responses that were whole.
    pub(super) served: Cell<u64>,
}

impl Wire {
    /// `input`: what has been read already.
    pub(super) fn new(stream: Stream, input: BytesMut) -> Rc<Self> {
        Rc::new(Self {
            stream: RefCell::new(stream),
            input: RefCell::new(input),
            output: RefCell::default(),
            frames: RefCell::new(Frames::new(Instant::now())),
            stretch: Cell::new(Stretch { length: 0, is_section: false }),
            fault: Cell::new(None),
            blocked: Cell::new(false),
            moved: Cell::new(false),
            ended: Cell::new(false),
            turns: Turns::default(),
            exchanges: Cell::new(0),
            driver: RefCell::default(),
            unsettled: RefCell::default(),
            requests: Cell::new(0),
            served: Cell::new(0),
        })
    }

    pub(super) fn stream(&self) -> std::cell::Ref<'_, Stream> {
        self.stream.borrow()
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    /// Whether a head has begun whose end is not there.
    pub(super) fn is_within_head(&self) -> bool {
        self.frames.borrow().is_within_head()
    }

    /// Whether anything waits for the client to take it.
    pub(super) fn is_writing(&self) -> bool {
        !self.output.borrow().is_empty()
    }

    /// Whether bytes have left since the last call.
    pub(super) fn take_moved(&self) -> bool {
        self.moved.replace(false)
    }

    /// Whether the codec has been told to wait since the last call.
    pub(super) fn take_blocked(&self) -> bool {
        self.blocked.replace(false)
    }

    pub(super) fn exchanges(&self) -> usize {
        self.exchanges.get()
    }

    pub(super) fn begin_exchange(&self) {
        self.exchanges.set(self.exchanges.get() + 1);
    }

    /// The last one's end is the connection's business.
    pub(super) fn end_exchange(&self) {
        self.exchanges.set(self.exchanges.get() - 1);
        if self.exchanges.get() == 0
            && let Some(driver) = self.driver.borrow_mut().take()
        {
            driver.wake();
        }
    }

    /// Who is woken by the end of the last exchange.
    pub(super) fn set_driver(&self, cx: &Context<'_>) {
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
    }

    /// Whether the TLS handshake is over; if not, who asks is woken when it is.
    pub(super) fn is_settled(&self, cx: &Context<'_>) -> bool {
        if !self.stream.borrow().is_in_early_data() {
            return true;
        }
        let mut unsettled = self.unsettled.borrow_mut();
        if !unsettled.iter().any(|waker| waker.will_wake(cx.waker())) {
            unsettled.push(cx.waker().clone());
        }
        false
    }

    /// Wakes those that wait for the end of the handshake, if it is over.
    fn wake_settled(&self) {
        if !self.unsettled.borrow().is_empty() && !self.stream.borrow().is_in_early_data() {
            self.unsettled.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Gives back memory that an idle connection does not need.
    pub(super) fn release(&self) {
        self.frames.borrow_mut().release();
        let mut input = self.input.borrow_mut();
        if input.is_empty() {
            *input = BytesMut::new();
        }
        let mut output = self.output.borrow_mut();
        if output.is_empty() {
            *output = BytesMut::new();
        }
    }

    /// Ready when all that was collected has left.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut output = self.output.borrow_mut();
        let mut stream = self.stream.borrow_mut();
        while !output.is_empty() {
            match stream.try_write(&output) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    output.advance(count);
                    self.frames.borrow_mut().wrote(count);
                    self.moved.set(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(stream.poll_write_ready(cx))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        output.clear();
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more is written.
    pub(super) fn shutdown_write(&self) {
        self.stream.borrow_mut().shutdown_write();
    }

    /// Makes the close that follows a reset.
    pub(super) fn reset_on_close(&self) {
        self.stream.borrow_mut().reset_on_close();
    }

    /// Reads and forgets what the client sends; ready at its end.
    pub(super) fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut input = self.input.borrow_mut();
        let mut stream = self.stream.borrow_mut();
        loop {
            if self.ended.get() {
                return Poll::Ready(());
            }
            input.clear();
            input.reserve(READ_SIZE);
            match ready!(stream.poll_read(cx, &mut input)) {
                Ok(0) | Err(_) => self.ended.set(true),
                Ok(_) => {}
            }
        }
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Whatever it was, the codec is not to work for it: the driver ends the connection.
        if self.fault.get().is_some() {
            return Poll::Pending;
        }
        let mut input = self.input.borrow_mut();
        if self.stretch.get().length == 0 {
            if input.is_empty() {
                input.reserve(READ_SIZE);
                let polled = self.stream.borrow_mut().poll_read(cx, &mut input);
                self.wake_settled();
                let read = ready!(polled)?;
                if read == 0 {
                    self.ended.set(true);
                    return Poll::Ready(Ok(()));
                }
            }
            match self.frames.borrow_mut().next(&input) {
                Ok(stretch) => self.stretch.set(stretch),
                Err(fault) => {
                    self.fault.set(Some(fault));
                    return Poll::Pending;
                }
            }
        }
        let mut stretch = self.stretch.get();
        let count = stretch.length.min(buf.remaining());
        buf.put_slice(&input[..count]);
        input.advance(count);
        stretch.length -= count;
        self.stretch.set(stretch);
        Poll::Ready(Ok(()))
    }

    /// Names the error that the codec has just ended the connection for by its right code, where it calls it
    /// `PROTOCOL_ERROR` and what it had last was a header section: it could not be decompressed (RFC 9113 §4.3), unless
    /// it is malformed. Whether it was renamed.
    pub(super) fn rename_error(&self) -> bool {
        const GOAWAY: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];
        let mut output = self.output.borrow_mut();
        let Some(at) = output.len().checked_sub(GOAWAY.len() + 8) else { return false };
        let is_it = self.stretch.get().is_section
            && output[at..].starts_with(&GOAWAY)
            && !self.frames.borrow().is_malformed();
        if is_it {
            let code = u32::from(Reason::COMPRESSION_ERROR).to_be_bytes();
            output[at + GOAWAY.len() + 4..].copy_from_slice(&code);
        }
        is_it
    }

    /// Ready with how many more bytes may be collected.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.output.borrow().len() >= OUTPUT_LIMIT && self.poll_flush(cx)?.is_pending() {
            self.blocked.set(true);
            return Poll::Pending;
        }
        Poll::Ready(Ok(OUTPUT_LIMIT - self.output.borrow().len().min(OUTPUT_LIMIT)))
    }
}

/// The codec's end of the wire.
pub(super) struct Socket(pub(super) Rc<Wire>);

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let room = ready!(self.0.poll_room(cx))?;
        let count = buf.len().min(room);
        self.0.output.borrow_mut().extend_from_slice(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = ready!(self.0.poll_room(cx))?;
        let mut output = self.0.output.borrow_mut();
        let mut count = 0;
        for buf in bufs {
            let part = &buf[..buf.len().min(room - count)];
            output.extend_from_slice(part);
            count += part.len();
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The driver does, when the codec has nothing more.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
