//! One request and its response, as the worker has it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::link::Shared;
use crate::frame::{self, Encoder, FRAME_HEADER, RequestView};
use crate::futex;
use crate::layout::{CANCELLED, REQUEST_RING, RESPONSE_RING};

const SIZE: usize = RESPONSE_RING as usize;
/// The largest payload of a BODY frame: what the edge may hold of a response in memory.
const LARGEST_BODY: usize = 64 * 1024 - FRAME_HEADER;
/// For less room than this a body's rest is not cut again.
const LEAST_ROOM: usize = 16 * 1024;

/// Nobody waits for the answer: the client left, the request ran too long, or the edge is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody waits for the answer any more")]
pub struct Gone;

/// A request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestBody {
    /// None.
    None,
    /// All of it.
    Bytes(Vec<u8>),
    /// It is a file: [`Exchange::body_file`] fetches it.
    File {
        /// In bytes.
        len: u64,
    },
}

/// A request, and where its response goes. Dropped before [`Exchange::end`], the response ends as failed.
///
/// What is written is seen by the edge on [`Exchange::flush`], at the end, or when half a ring has gathered.
#[derive(Debug)]
pub struct Exchange {
    shared: Arc<Shared>,
    slot: u16,
    ticket: u64,
    request: RequestView,
    body: RequestBody,
    /// Heads are put together here.
    scratch: Vec<u8>,
    /// Up to where was written, and up to where the edge knows.
    written: u32,
    published: u32,
    /// What the edge has read, when last looked.
    read: u32,
    fetched: bool,
    ended: bool,
}

impl Exchange {
    /// Reads the request that was just claimed. One that cannot be read is answered with a failed end.
    pub(crate) fn read(shared: Arc<Shared>, slot: u16, ticket: u64) -> Option<Self> {
        let parsed = read_request(&shared, slot);
        let read = parsed.is_some();
        let (request, body) = parsed.unwrap_or_else(|| (RequestView::empty(), RequestBody::None));
        let exchange = Self {
            shared,
            slot,
            ticket,
            request,
            body,
            scratch: Vec::new(),
            written: 0,
            published: 0,
            read: 0,
            fetched: false,
            ended: false,
        };
        // Dropping it ends it.
        read.then_some(exchange)
    }

    /// The request's head.
    pub fn request(&self) -> &RequestView {
        &self.request
    }

    /// The request's body; `None` when it was taken before.
    pub fn take_body(&mut self) -> Result<RequestBody, Gone> {
        Ok(std::mem::replace(&mut self.body, RequestBody::None))
    }

    /// Fetches a body that is a file. Its offset may be anywhere, and it may be shared: read it with `pread`.
    pub fn body_file(&mut self) -> Result<OwnedFd, Gone> {
        self.fetched = true;
        let cancelled = || self.is_cancelled();
        self.shared.fetch_body((self.slot, self.ticket), cancelled).ok_or(Gone)
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_cancelled(&self) -> bool {
        self.shared.is_gone() || self.shared.layout.flags(self.slot).load(Ordering::Relaxed) & CANCELLED != 0
    }

    /// Sends the head. Nothing in it is checked. One that is larger than the ring ends the response as failed.
    pub fn head<'a>(
        &mut self,
        status: u16,
        reason: &[u8],
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), Gone> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let encoded = Encoder { into: &mut scratch }.head(status, reason, fields);
        let fits = encoded.is_ok() && scratch.len() <= SIZE;
        let sent = if fits { self.frame(&scratch) } else { self.end(true).and(Err(Gone)) };
        self.scratch = scratch;
        sent
    }

    /// Sends a piece of the body. Waits while the ring is full.
    pub fn body(&mut self, mut data: &[u8]) -> Result<(), Gone> {
        while !data.is_empty() {
            let wanted = FRAME_HEADER + data.len().min(LARGEST_BODY);
            let room = self.room(wanted.min(LEAST_ROOM))?;
            let (now, rest) = data.split_at(data.len().min(room - FRAME_HEADER).min(LARGEST_BODY));
            self.put(&frame::frame_header(frame::BODY, now.len() as u32));
            self.put(now);
            self.publish_if_much();
            data = rest;
        }
        if self.is_cancelled() { Err(Gone) } else { Ok(()) }
    }

    /// Sends a piece of a file as a piece of the body.
    #[expect(clippy::needless_pass_by_value, reason = "the descriptor is the edge's then; ours is closed")]
    pub fn file(&mut self, file: OwnedFd, offset: u64, length: u64) -> Result<(), Gone> {
        if self.ended || self.is_cancelled() {
            return Err(Gone);
        }
        // The descriptor first: when the edge reads the frame it is there.
        self.shared.send_file((self.slot, self.ticket), file.as_fd()).map_err(|_| Gone)?;
        let mut bytes = Vec::with_capacity(FRAME_HEADER + 16);
        Encoder { into: &mut bytes }.file(offset, length);
        self.frame(&bytes)
    }

    /// Says what the access log is to have otherwise than the head said, behind all of the body. Nothing in it is
    /// checked. One that is larger than the ring is left out.
    pub fn log<'a>(&mut self, fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), Gone> {
        let mut bytes = vec![];
        match (Encoder { into: &mut bytes }.log(fields)) {
            Ok(()) if bytes.len() <= SIZE => self.frame(&bytes),
            _ => Ok(()),
        }
    }

    /// Lets the edge have all that was written.
    pub fn flush(&mut self) -> Result<(), Gone> {
        self.publish();
        if self.is_cancelled() { Err(Gone) } else { Ok(()) }
    }

    /// Ends the response. `failed`: what was sent is not the whole.
    pub fn end(&mut self, failed: bool) -> Result<(), Gone> {
        if self.ended {
            return Err(Gone);
        }
        let mut bytes = Vec::with_capacity(FRAME_HEADER + 1);
        Encoder { into: &mut bytes }.end(failed);
        let sent = self.frame(&bytes);
        self.ended = true;
        if self.fetched {
            self.shared.forget_body((self.slot, self.ticket));
        }
        if sent.is_ok() {
            self.publish();
        } else {
            // Nothing of the slot may be touched after this.
            self.shared.layout.left(self.slot).store(1, Ordering::Release);
            self.shared.ring(self.slot);
        }
        sent
    }

    /// Writes a whole frame.
    fn frame(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.room(bytes.len())?;
        self.put(bytes);
        self.publish_if_much();
        Ok(())
    }

    /// Writes bytes for which there is room.
    fn put(&mut self, bytes: &[u8]) {
        self.shared.layout.response(self.slot).write(self.written, bytes);
        self.written = self.written.wrapping_add(bytes.len() as u32);
    }

    fn publish_if_much(&mut self) {
        if self.written.wrapping_sub(self.published) as usize >= SIZE / 2 {
            self.publish();
        }
    }

    fn publish(&mut self) {
        if self.written != self.published && !self.left() {
            self.shared.layout.response(self.slot).tail().store(self.written, Ordering::Release);
            self.published = self.written;
            self.shared.ring(self.slot);
        }
    }

    /// Whether the slot is no longer this exchange's.
    fn left(&self) -> bool {
        self.ended && self.published == self.written
    }

    /// Waits until there is room for `needed` bytes, at most a ring; how much there is.
    fn room(&mut self, needed: usize) -> Result<usize, Gone> {
        if self.ended {
            return Err(Gone);
        }
        loop {
            if self.is_cancelled() {
                return Err(Gone);
            }
            let free = SIZE.saturating_sub(self.written.wrapping_sub(self.read) as usize);
            if free >= needed {
                return Ok(free);
            }
            let shared = Arc::clone(&self.shared);
            let ring = shared.layout.response(self.slot);
            let read = ring.head().load(Ordering::Acquire);
            if read != self.read {
                self.read = read;
                continue;
            }
            self.publish();
            let observed = ring.word().load(Ordering::SeqCst);
            ring.waiting().store(1, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if ring.head().load(Ordering::SeqCst) == self.read && !self.is_cancelled() {
                futex::wait(ring.word(), observed);
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.end(true);
        }
    }
}

/// Head and body from the request ring; `None` if they are not as PROTOCOL.md has them.
fn read_request(shared: &Shared, slot: u16) -> Option<(RequestView, RequestBody)> {
    let ring = shared.layout.request(slot);
    let tail = ring.tail().load(Ordering::Acquire);
    if tail > REQUEST_RING {
        return None;
    }
    let mut at = 0_u32;
    let mut next = || {
        let mut header = Vec::with_capacity(FRAME_HEADER);
        if tail - at < FRAME_HEADER as u32 {
            return None;
        }
        ring.read(at, FRAME_HEADER, &mut header);
        let (kind, length) = frame::read_header(&header)?;
        at += FRAME_HEADER as u32;
        if length > (tail - at) as usize {
            return None;
        }
        let mut payload = Vec::with_capacity(length);
        ring.read(at, length, &mut payload);
        at += length as u32;
        Some((kind, payload))
    };
    let request = match next()? {
        (frame::REQUEST, payload) => RequestView::parse(payload)?,
        _ => return None,
    };
    let mut body = RequestBody::None;
    loop {
        body = match (next()?, body) {
            ((frame::REQUEST_BODY, payload), RequestBody::None) => RequestBody::Bytes(payload),
            ((frame::REQUEST_BODY, payload), RequestBody::Bytes(mut bytes)) => {
                bytes.extend_from_slice(&payload);
                RequestBody::Bytes(bytes)
            }
            ((frame::BODY_FILE, payload), RequestBody::None) => {
                RequestBody::File { len: frame::parse_body_file(&payload)? }
            }
            ((frame::REQUEST_END, _), body) => {
                ring.head().store(at, Ordering::Release);
                return Some((request, body));
            }
            _ => return None,
        };
    }
}
