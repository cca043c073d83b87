//! One edge thread's slots.

mod large;

use std::cell::Cell;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::region::Region;
use crate::frame::{self, Encoder, FRAME_HEADER, RequestFrame, ResponseFrame};
use crate::futex;
use crate::layout::{self, CANCELLED, CLAIMED, FREE, READY, REQUEST_RING, RESPONSE_RING, Ring, State};

/// A claimer is woken for every so many requests; the rest when the loop has nothing else to do.
pub(super) const PUBLISHED_PER_WAKE: u32 = 8;
/// Bytes that are copied out of a ring at a time, unless one frame is longer.
const COPY_SIZE: usize = 16 * 1024;
/// The same before the head has come: what is behind it may stay where it is.
const FIRST_COPY_SIZE: usize = 4 * 1024;
/// A slot that nobody has used for so long keeps so much memory of each of its rings.
const MEMORY_KEPT_FOR: Duration = Duration::from_secs(10);
const KEPT_MEMORY: u32 = 32 * 1024;

/// One request in the bridge: the slot, and the ticket that it was first published under. Stays the same until the
/// slot is freed, and is never given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlotId {
    /// The slot, of all in the region.
    pub slot: u16,
    /// The first ticket.
    pub ticket: u64,
}

/// A request's body.
#[derive(Debug, Clone, Copy)]
pub enum BodyPart<'a> {
    /// None.
    None,
    /// All of it.
    Bytes(&'a [u8]),
    /// All of it, in pieces.
    Chunks(&'a [Bytes]),
    /// It is a file of this length; the worker asks for it with GIVE.
    File(u64),
}

/// Why a request was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No slot is free: try again when one was.
    #[error("all slots of this edge thread are taken")]
    Full,
    /// Larger than a ring: give the body as a file. If it is one, the head is too large.
    #[error("the request does not fit into a ring of the bridge")]
    TooLarge,
}

/// A worker broke the protocol: end it. It says nothing about other workers or requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BridgeError {
    /// What it did.
    #[error("a worker broke the bridge's protocol: {0}")]
    Broken(&'static str),
}

/// In whose hands a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// Nobody has touched it.
    Ready,
    /// A worker has it.
    Claimed {
        /// Which of its threads.
        claimer: u16,
        /// Since when in nanoseconds of CLOCK_MONOTONIC, as the worker says; 0 in the moment after the claim.
        at: u64,
    },
    /// The word is none that the protocol has.
    Broken,
}

/// How far [`EdgeThread::read_frames`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Everything that was there is taken.
    Drained,
    /// The sink said stop, or much of a body is left where it is; there is more: call again when there is room, for
    /// nobody will ring.
    Stopped,
    /// The response has ended: the slot can be freed.
    Ended,
}

/// What [`EdgeThread::before_park_sparing`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Park {
    /// There is something to read after all: the thread must not sleep.
    pub answers: bool,
    /// Requests were left to claimers that are awake.
    pub deferred: bool,
}

/// What an edge thread knows of a slot of its own; nothing of it can be reached by a worker.
#[derive(Debug, Clone, Default)]
struct Slot {
    busy: bool,
    id: u64,
    ticket: u64,
    read: u32,
    seen: u32,
    head: bool,
    log: bool,
    ended: bool,
    cancelled: Cell<bool>,
}

/// How far a slot's rings were filled since their memory was last given back, and when.
#[derive(Debug, Clone, Copy, Default)]
struct Footprint {
    request: u32,
    response: u32,
    last: Option<Instant>,
}

/// The edge's view of the slots that belong to one of its threads.
#[derive(Debug)]
pub struct EdgeThread {
    region: Arc<Region>,
    thread: u16,
    first: u16,
    slots: Vec<Slot>,
    footprints: Vec<Footprint>,
    /// The last one freed is taken next: its rings are still in the cache.
    free: Vec<u16>,
    published: u32,
    scratch: Vec<u8>,
    /// Where the head stood at the last repair.
    stuck_at: Option<u64>,
    /// Where the head stood when requests were left to claimers that are awake.
    deferred_at: Option<u64>,
}

impl EdgeThread {
    /// For the thread with this index, once for each.
    pub fn new(region: Arc<Region>, thread: usize) -> Self {
        assert!(thread < usize::from(region.layout.threads), "no such edge thread");
        let thread = thread as u16;
        let count = region.layout.slots_per_thread;
        let first = (u32::from(thread) * u32::from(count)) as u16;
        let slots = vec![Slot::default(); count.into()];
        let footprints = vec![Footprint::default(); count.into()];
        let free = (0..count).rev().collect();
        Self {
            region,
            thread,
            first,
            slots,
            footprints,
            free,
            published: 0,
            scratch: Vec::new(),
            stuck_at: None,
            deferred_at: None,
        }
    }

    /// The region it is part of.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// How many slots the thread has.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// A slot's number within this thread.
    pub fn local(&self, id: SlotId) -> usize {
        usize::from(id.slot.wrapping_sub(self.first))
    }

    /// How many requests of all edge threads nobody has taken yet, about.
    pub fn waiting(&self) -> usize {
        self.region.waiting() as usize
    }

    /// How many more requests can be published.
    pub fn free_slots(&self) -> usize {
        self.free.len()
    }

    /// Hands a request to whichever worker comes first. Wakes one for every 8; [`EdgeThread::before_park`] sees to
    /// the rest.
    pub fn publish(&mut self, request: RequestFrame<'_>, body: BodyPart<'_>) -> Result<SlotId, PublishError> {
        self.publish_with(request, body, |_| {})
    }

    /// The same; `before` puts in place what a worker may ask for as soon as it has the request.
    pub fn publish_with(
        &mut self,
        request: RequestFrame<'_>,
        body: BodyPart<'_>,
        before: impl FnOnce(SlotId),
    ) -> Result<SlotId, PublishError> {
        let local = *self.free.last().ok_or(PublishError::Full)?;
        let slot = self.first + local;
        let written = self.write_request(slot, request, body)?;
        self.free.pop();
        let layout = &self.region.layout;
        layout.response(slot).reset();
        layout.claimed_at(slot).store(0, Ordering::Relaxed);
        layout.flags(slot).store(0, Ordering::Relaxed);
        layout.left(slot).store(0, Ordering::Relaxed);
        let ring = layout.request(slot);
        ring.reset();
        ring.tail().store(written, Ordering::Relaxed);
        let footprint = &mut self.footprints[usize::from(local)];
        footprint.request = footprint.request.max(written);
        let ticket = self.region.take_ticket();
        self.slots[usize::from(local)] = Slot { busy: true, id: ticket, ticket, ..Slot::default() };
        before(SlotId { slot, ticket });
        layout.state(slot).store(State::word(ticket, READY, 0), Ordering::Release);
        self.announce(slot, ticket);
        self.published += 1;
        if self.published >= PUBLISHED_PER_WAKE {
            self.published = 0;
            fence(Ordering::SeqCst);
            if !self.region.is_manned() {
                self.region.wake_one();
            }
        }
        Ok(SlotId { slot, ticket })
    }

    /// Writes all frames of a request to the beginning of the ring and says how many bytes they are.
    fn write_request(
        &mut self,
        slot: u16,
        request: RequestFrame<'_>,
        body: BodyPart<'_>,
    ) -> Result<u32, PublishError> {
        self.scratch.clear();
        let mut encoder = Encoder { into: &mut self.scratch };
        encoder.request(request).map_err(|_| PublishError::TooLarge)?;
        let chunks: &[Bytes] = match body {
            BodyPart::Chunks(chunks) => chunks,
            _ => &[],
        };
        let length = match body {
            BodyPart::Bytes(bytes) => bytes.len(),
            BodyPart::Chunks(chunks) => chunks.iter().map(Bytes::len).sum(),
            BodyPart::None | BodyPart::File(_) => 0,
        };
        if let BodyPart::File(length) = body {
            encoder.body_file(length);
        } else if length > 0 {
            encoder.header(frame::REQUEST_BODY, u32::try_from(length).map_err(|_| PublishError::TooLarge)?);
        }
        let layout = &self.region.layout;
        let end = self.scratch.len() + length + FRAME_HEADER;
        if end > REQUEST_RING as usize {
            return Err(PublishError::TooLarge);
        }
        let ring = layout.request(slot);
        let mut at = 0;
        let mut write = |bytes: &[u8]| {
            ring.write(at, bytes);
            at += bytes.len() as u32;
        };
        if length == 0 {
            Encoder { into: &mut self.scratch }.request_end();
            write(&self.scratch);
        } else {
            write(&self.scratch);
            if let BodyPart::Bytes(bytes) = body {
                write(bytes);
            }
            for chunk in chunks {
                write(chunk);
            }
            write(&frame::frame_header(frame::REQUEST_END, 0));
        }
        debug_assert_eq!(at as usize, end);
        Ok(at)
    }

    /// Puts a slot's ticket where workers look.
    fn announce(&self, slot: u16, ticket: u64) {
        let layout = &self.region.layout;
        // What the new entry overwrites is not to be waited for.
        if let Some(head) = (ticket + 1).checked_sub(layout.tickets) {
            layout.head().fetch_max(head, Ordering::SeqCst);
        }
        layout.entry(ticket).store(layout::entry(ticket, slot), Ordering::SeqCst);
    }

    /// Takes a request back that no worker has touched, and frees the slot; false if one has.
    pub fn take_back(&mut self, id: SlotId) -> bool {
        let Some(local) = self.find(id) else { return false };
        let ticket = self.slots[local].ticket;
        let (from, to) = (State::word(ticket, READY, 0), State::word(ticket, FREE, 0));
        let state = self.region.layout.state(id.slot);
        if state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return false;
        }
        self.forget(local);
        true
    }

    /// In whose hands a request is.
    pub fn state(&self, id: SlotId) -> SlotState {
        let Some(local) = self.find(id) else { return SlotState::Broken };
        let state = State::read(self.region.layout.state(id.slot).load(Ordering::Acquire));
        match state.kind {
            _ if state.ticket != self.slots[local].ticket => SlotState::Broken,
            READY => SlotState::Ready,
            CLAIMED => SlotState::Claimed {
                claimer: state.claimer,
                at: self.region.layout.claimed_at(id.slot).load(Ordering::Relaxed),
            },
            _ => SlotState::Broken,
        }
    }

    /// The request that a worker means in a FILE or GIVE message; `None` if it is not (or no longer) this thread's.
    pub fn resolve(&self, slot: u16, ticket: u64) -> Option<SlotId> {
        let local = slot.checked_sub(self.first)?;
        let known = self.slots.get(usize::from(local))?;
        (known.busy && known.ticket == ticket).then_some(SlotId { slot, ticket: known.id })
    }

    /// The edge thread that a slot belongs to.
    pub fn thread_of(&self, slot: u16) -> u16 {
        slot / self.region.layout.slots_per_thread
    }

    /// Appends the slots (their numbers within this thread) that have something to read, and forgets that they had.
    pub fn drain_dirty(&mut self, into: &mut Vec<u16>) {
        for i in 0..self.words() {
            let dirty = self.region.layout.dirty(self.thread, i);
            if dirty.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = dirty.swap(0, Ordering::SeqCst);
            while bits != 0 {
                let local = i * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if self.slots.get(local).is_some_and(|slot| slot.busy) {
                    into.push(local as u16);
                }
            }
        }
    }

    /// How many words of the dirty map are in use.
    fn words(&self) -> usize {
        self.slots.len().div_ceil(64)
    }

    /// Reads what a worker has sent, until the sink says stop; the frame with which it does counts as taken. Wakes
    /// the worker if it waits for room.
    ///
    /// After [`EdgeThread::cancel`] the sink sees nothing but the end, which is then also when the worker has let go.
    pub fn read_frames(
        &mut self,
        id: SlotId,
        sink: impl FnMut(ResponseFrame) -> ControlFlow<()>,
    ) -> Result<Progress, BridgeError> {
        self.read(id, false, sink)
    }

    /// `leaves_large`: stops behind the head where much of a body waits, which [`EdgeThread::send_body`] can send.
    fn read(
        &mut self,
        id: SlotId,
        leaves_large: bool,
        mut sink: impl FnMut(ResponseFrame) -> ControlFlow<()>,
    ) -> Result<Progress, BridgeError> {
        let Some(local) = self.find(id) else { return Ok(Progress::Drained) };
        match self.state(id) {
            SlotState::Claimed { .. } => {}
            SlotState::Ready => return Ok(Progress::Drained),
            SlotState::Broken => return Err(BridgeError::Broken("a slot's state was overwritten")),
        }
        let slot = &mut self.slots[local];
        if slot.ended {
            return Ok(Progress::Ended);
        }
        let ring = self.region.layout.response(id.slot);
        // Before the tail: what was sent before leaving is then seen with it.
        let left = slot.cancelled.get() && self.region.layout.left(id.slot).load(Ordering::Acquire) != 0;
        let tail = slot.look(&ring)?;
        let stopped = Cell::new(false);
        let mut sink = |frame| {
            let flow = sink(frame);
            stopped.set(flow.is_break());
            flow
        };
        // In parts, because what is taken out keeps the whole of its copy alive.
        while slot.read != tail && !slot.ended && !(leaves_large && slot.has_large(tail)) {
            let most = if slot.head { COPY_SIZE } else { FIRST_COPY_SIZE };
            let copy = copy_frames(&ring, slot.read, tail.wrapping_sub(slot.read) as usize, most)?;
            let length = copy.len();
            let taken = slot.take(&Bytes::from(copy), &mut sink)?;
            slot.advance(&ring, taken as u32);
            if taken < length || stopped.get() {
                break;
            }
        }
        if slot.ended && slot.read != tail {
            return Err(BridgeError::Broken("a frame after the end"));
        }
        if slot.ended {
            return Ok(Progress::Ended);
        }
        if slot.read != tail {
            return Ok(Progress::Stopped);
        }
        if left {
            slot.ended = true;
            let _ = sink(ResponseFrame::End { failed: true });
            return Ok(Progress::Ended);
        }
        Ok(Progress::Drained)
    }

    /// Tells the worker that nobody waits for the answer: its writes fail from now on. The slot is still its own
    /// until [`EdgeThread::read_frames`] says that it ended, or until it is dead.
    pub fn cancel(&self, id: SlotId) {
        let Some(local) = self.find(id) else { return };
        self.slots[local].cancelled.set(true);
        let layout = &self.region.layout;
        layout.flags(id.slot).fetch_or(CANCELLED, Ordering::SeqCst);
        let word = layout.response(id.slot);
        word.word().fetch_add(1, Ordering::SeqCst);
        futex::wake(word.word());
    }

    /// Frees the slot of a response that has ended, or whose worker is dead (not merely being killed: it could still
    /// write into what is then somebody else's answer).
    pub fn free(&mut self, id: SlotId) {
        let Some(local) = self.find(id) else { return };
        let word = State::word(self.slots[local].ticket, FREE, 0);
        self.region.layout.state(id.slot).store(word, Ordering::SeqCst);
        self.forget(local);
    }

    /// To be called when the thread has nothing to do and is about to sleep: wakes workers for what was published.
    /// Whether there is something to read after all; then it must not sleep.
    pub fn before_park(&mut self) -> bool {
        self.published = 0;
        self.region.wake_for_waiting();
        self.region.layout.sleeping(self.thread).store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.has_answers()
    }

    /// The same, but leaves requests to claimers that are awake already, if there are not many for each. Where it
    /// does, [`EdgeThread::catch_up`] has to be called within about a millisecond: what the claimers are at could
    /// take long.
    pub fn before_park_sparing(&mut self) -> Park {
        fence(Ordering::SeqCst);
        let deferred = self.region.waiting() > 0 && self.region.is_manned();
        if deferred {
            self.published = 0;
            if self.deferred_at.is_none() {
                self.deferred_at = Some(self.region.head());
            }
            self.region.layout.sleeping(self.thread).store(1, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            Park { answers: self.has_answers(), deferred }
        } else {
            Park { answers: self.before_park(), deferred }
        }
    }

    /// A moment after requests were left to claimers that were awake: wakes others if those have not gone on.
    /// Whether some are left to them again.
    pub fn catch_up(&mut self) -> bool {
        let head = self.region.head();
        let stuck = self.deferred_at.replace(head) == Some(head);
        let waiting = self.region.waiting() > 0;
        if waiting && (stuck || !self.region.is_manned()) {
            self.region.wake_for_waiting();
        }
        if !waiting {
            self.deferred_at = None;
        }
        waiting
    }

    fn has_answers(&self) -> bool {
        (0..self.words()).any(|i| self.region.layout.dirty(self.thread, i).load(Ordering::SeqCst) != 0)
    }

    /// To be called when it no longer sleeps: workers need not write to the eventfd.
    pub fn awake(&mut self) {
        self.region.layout.sleeping(self.thread).store(0, Ordering::SeqCst);
    }

    /// The requests of this thread that one of these claimers has.
    pub fn claimed_by(&self, claimers: Range<u16>) -> Vec<SlotId> {
        self.busy()
            .filter(|&id| matches!(self.state(id), SlotState::Claimed { claimer, .. } if claimers.contains(&claimer)))
            .collect()
    }

    /// All requests of this thread.
    pub fn busy(&self) -> impl Iterator<Item = SlotId> {
        let ids = self.slots.iter().zip(self.first..);
        ids.filter(|(slot, _)| slot.busy).map(|(slot, i)| SlotId { slot: i, ticket: slot.id })
    }

    /// Puts right what keeps workers from finding requests: what has fallen out of the ring of tickets, and what a
    /// worker that breaks the protocol has overwritten. To be called about once a second.
    pub fn repair(&mut self) {
        let layout = &self.region.layout;
        let head = layout.head().load(Ordering::SeqCst);
        let tail = self.region.tail();
        let mut waiting: Vec<(u64, u16)> = (0..)
            .zip(&self.slots)
            .filter(|&(local, slot)| {
                let state = layout.state(self.first + local).load(Ordering::SeqCst);
                slot.busy && state == State::word(slot.ticket, READY, 0)
            })
            .map(|(local, slot)| (slot.ticket, local))
            .collect();
        waiting.sort_unstable();
        let Some(&(oldest, _)) = waiting.first() else {
            self.stuck_at = None;
            return;
        };
        if head > tail {
            // A hint from nowhere; what it skipped is published anew below.
            let _ = layout.head().compare_exchange(head, tail, Ordering::SeqCst, Ordering::SeqCst);
        }
        let foreign =
            layout.entry(head).load(Ordering::SeqCst) >> 16 != head.wrapping_add(1) & layout::TICKET_MASK;
        let is_stuck = self.stuck_at.replace(head) == Some(head);
        let skip = head < oldest && foreign && is_stuck;
        if is_stuck {
            self.region.give_up_woken();
        }
        if skip {
            // Nobody gets past an entry that is not there.
            layout.head().fetch_max(oldest, Ordering::SeqCst);
        }
        let lost: Vec<(u64, u16)> = waiting
            .into_iter()
            .filter(|&(ticket, local)| {
                let slot = self.first + local;
                ticket < head || layout.entry(ticket).load(Ordering::SeqCst) != layout::entry(ticket, slot)
            })
            .collect();
        for (ticket, local) in lost {
            self.republish(ticket, local);
        }
        self.region.wake_for_waiting();
    }

    /// Gives a request that nobody has touched a new ticket.
    fn republish(&mut self, old: u64, local: u16) {
        let slot = self.first + local;
        let ticket = self.region.take_ticket();
        let (from, to) = (State::word(old, READY, 0), State::word(ticket, READY, 0));
        let state = self.region.layout.state(slot);
        // If a worker was faster the ticket stays unused: an entry that is passed over would be missing, so it is
        // written in any case.
        if state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.slots[usize::from(local)].ticket = ticket;
        }
        self.announce(slot, ticket);
    }

    fn find(&self, id: SlotId) -> Option<usize> {
        let local = usize::from(id.slot.checked_sub(self.first)?);
        let slot = self.slots.get(local)?;
        (slot.busy && slot.id == id.ticket).then_some(local)
    }

    /// Gives the memory of large requests and answers back whose slots nobody has used for a while. To be called now
    /// and then.
    pub fn trim(&mut self, now: Instant) {
        for (local, footprint) in (0..).zip(&mut self.footprints) {
            let is_large = footprint.request.max(footprint.response) > KEPT_MEMORY;
            if !is_large || self.slots[usize::from(local)].busy {
                continue;
            }
            let last = *footprint.last.get_or_insert(now);
            if now.saturating_duration_since(last) >= MEMORY_KEPT_FOR {
                let slot = self.first + local;
                self.region.layout.request(slot).trim(KEPT_MEMORY);
                self.region.layout.response(slot).trim(KEPT_MEMORY);
                *footprint = Footprint::default();
            }
        }
    }

    fn forget(&mut self, local: usize) {
        self.slots[local].busy = false;
        let footprint = &mut self.footprints[local];
        footprint.response = footprint.response.max(self.slots[local].seen.min(RESPONSE_RING));
        footprint.last = None;
        self.free.push(local as u16);
    }
}

/// Copies whole frames, at least one, out of the `available` bytes of a ring behind `position`.
fn copy_frames(
    ring: &Ring<'_>,
    position: u32,
    available: usize,
    most: usize,
) -> Result<Vec<u8>, BridgeError> {
    let mut copy = Vec::new();
    let first = available.min(most);
    ring.read(position, first, &mut copy);
    let mut whole = 0;
    while whole < copy.len() {
        let length = match frame::read_header(&copy[whole..]) {
            Some((_, length)) => FRAME_HEADER + length,
            // Cut by the copy's end, or by what was sent.
            None if whole > 0 && first < available => break,
            None => return Err(BridgeError::Broken("a frame's header is none")),
        };
        if length > copy.len() - whole {
            if length > available - whole {
                return Err(BridgeError::Broken("a frame is longer than what was sent"));
            }
            if whole == 0 {
                let missing = length - copy.len();
                ring.read(position.wrapping_add(copy.len() as u32), missing, &mut copy);
                whole = length;
            }
            break;
        }
        whole += length;
    }
    copy.truncate(whole);
    Ok(copy)
}

impl Slot {
    /// Up to where the worker has written.
    fn look(&mut self, ring: &Ring<'_>) -> Result<u32, BridgeError> {
        let tail = ring.tail().load(Ordering::Acquire);
        let available = tail.wrapping_sub(self.read);
        if available > RESPONSE_RING || available < self.seen.wrapping_sub(self.read) {
            return Err(BridgeError::Broken("a ring's position is impossible"));
        }
        self.seen = tail;
        Ok(tail)
    }

    /// Gives room for so many bytes back, to a worker that may wait for it.
    fn advance(&mut self, ring: &Ring<'_>, taken: u32) {
        self.read = self.read.wrapping_add(taken);
        ring.head().store(self.read, Ordering::SeqCst);
        if ring.waiting().swap(0, Ordering::SeqCst) != 0 {
            ring.word().fetch_add(1, Ordering::SeqCst);
            futex::wake(ring.word());
        }
    }

    /// Takes frames from the front of a copy; how many bytes they were.
    fn take(
        &mut self,
        copy: &Bytes,
        sink: &mut impl FnMut(ResponseFrame) -> ControlFlow<()>,
    ) -> Result<usize, BridgeError> {
        let mut at = 0;
        while at < copy.len() {
            if self.ended {
                return Err(BridgeError::Broken("a frame after the end"));
            }
            let (kind, length) =
                frame::read_header(&copy[at..]).ok_or(BridgeError::Broken("a frame's header is none"))?;
            let start = at + FRAME_HEADER;
            if copy.len() - start < length {
                return Err(BridgeError::Broken("a frame is longer than what was sent"));
            }
            let frame = ResponseFrame::parse(kind, &copy.slice(start..start + length))
                .ok_or(BridgeError::Broken("a frame that the protocol does not have"))?;
            at = start + length;
            self.follow(&frame)?;
            let wanted = self.ended || !self.cancelled.get();
            let stop = wanted && sink(frame).is_break();
            // Behind the end there must be nothing: the next turn sees to that.
            if stop && !self.ended {
                break;
            }
        }
        Ok(at)
    }

    /// Holds the order of frames.
    fn follow(&mut self, frame: &ResponseFrame) -> Result<(), BridgeError> {
        match frame {
            ResponseFrame::Head(_) if self.head => return Err(BridgeError::Broken("a second head")),
            ResponseFrame::Head(head) => self.head = head.status() >= 200,
            ResponseFrame::End { failed: true } => self.ended = true,
            _ if !self.head => return Err(BridgeError::Broken("a body before the head")),
            ResponseFrame::End { failed: false } => self.ended = true,
            ResponseFrame::Log(_) if self.log => return Err(BridgeError::Broken("a second one for the log")),
            // What an application writes while it is closed comes behind.
            ResponseFrame::Log(_) => self.log = true,
            ResponseFrame::Body(_) | ResponseFrame::File { .. } => {}
        }
        Ok(())
    }
}
