//! Large bodies: from the ring to the client's socket, without a copy of ours between them.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use sys::{Foreign, MOST_FOREIGN};

use super::{BridgeError, EdgeThread, Progress, SlotId, SlotState};
use crate::frame::{self, FRAME_HEADER, ResponseFrame};
use crate::layout::Ring;

/// More than so many bytes are left in the ring where they can be sent from there; fewer are copied sooner than asked
/// about.
const LARGE: u32 = 64 * 1024;
/// For fewer bytes than this a call of its own does not pay.
const WORTH_IT: usize = 16 * 1024;
/// Frames that are sent in one go; each is at most two pieces.
const MOST_FRAMES: usize = MOST_FOREIGN / 2;

impl EdgeThread {
    /// As [`EdgeThread::read_frames`], but once the head is taken, a large part of a body stays where it is, for
    /// [`EdgeThread::send_body`] or, with [`EdgeThread::read_frames`], for whoever wants to have it.
    pub fn read_up_to_large(
        &mut self,
        id: SlotId,
        sink: impl FnMut(ResponseFrame) -> ControlFlow<()>,
    ) -> Result<Progress, BridgeError> {
        self.read(id, true, sink)
    }

    /// Offers what has come of a body to `send`, at most `most` bytes of it; `send` tells how many it has sent, and has
    /// to look at none of them. Of a frame that was sent in part, `rest` takes what is left; frames behind it stay.
    /// `None` where there is nothing, or too little to be worth it: then the next of [`EdgeThread::read_frames`] tells
    /// more.
    pub fn send_body(
        &mut self,
        id: SlotId,
        most: u64,
        send: impl FnOnce(&[Foreign<'_>]) -> io::Result<usize>,
        rest: impl FnOnce(Bytes),
    ) -> Result<Option<io::Result<usize>>, BridgeError> {
        let Some(local) = self.find(id) else { return Ok(None) };
        if !matches!(self.state(id), SlotState::Claimed { .. }) {
            return Ok(None);
        }
        let slot = &mut self.slots[local];
        if slot.ended || slot.cancelled.get() || !slot.head {
            return Ok(None);
        }
        let ring = self.region.layout.response(id.slot);
        let tail = slot.look(&ring)?;
        let frames = Frames::find(&ring, slot.read, tail, usize::try_from(most).unwrap_or(usize::MAX))?;
        if frames.total < WORTH_IT {
            return Ok(None);
        }
        let sent = match send(&frames.pieces(&ring, slot.read)) {
            Ok(sent) => sent.min(frames.total),
            Err(error) => return Ok(Some(Err(error))),
        };
        let (mut taken, mut left) = (0, sent);
        for &length in frames.lengths() {
            let payload = taken + FRAME_HEADER;
            let of_this = left.min(length);
            left -= of_this;
            taken = payload + length;
            if of_this < length {
                let mut copy = Vec::new();
                ring.read(slot.read.wrapping_add((payload + of_this) as u32), length - of_this, &mut copy);
                rest(Bytes::from(copy));
                break;
            }
            if left == 0 {
                break;
            }
        }
        slot.advance(&ring, taken as u32);
        Ok(Some(Ok(sent)))
    }

    /// Whether nothing that the worker has written waits in the ring.
    pub fn is_drained(&self, id: SlotId) -> bool {
        self.find(id).is_none_or(|local| {
            self.region.layout.response(id.slot).tail().load(Ordering::Acquire) == self.slots[local].read
        })
    }
}

impl super::Slot {
    /// Whether much of a body waits in front of this position.
    pub(super) fn has_large(&self, tail: u32) -> bool {
        self.head && !self.cancelled.get() && tail.wrapping_sub(self.read) > LARGE
    }
}

/// The frames of a body at the front of a ring. What their headers say is read once, for it could change.
struct Frames {
    lengths: [usize; MOST_FRAMES],
    count: usize,
    /// Bytes of their payloads.
    total: usize,
}

impl Frames {
    /// As many as are whole, at most `most` bytes.
    fn find(ring: &Ring<'_>, position: u32, tail: u32, most: usize) -> Result<Self, BridgeError> {
        let mut frames = Self { lengths: [0; MOST_FRAMES], count: 0, total: 0 };
        let available = tail.wrapping_sub(position) as usize;
        let mut at = 0;
        let mut header = Vec::with_capacity(FRAME_HEADER);
        while frames.count < MOST_FRAMES && at < available {
            header.clear();
            ring.read(position.wrapping_add(at as u32), FRAME_HEADER.min(available - at), &mut header);
            let (kind, length) =
                frame::read_header(&header).ok_or(BridgeError::Broken("a frame's header is none"))?;
            if length > available - at - FRAME_HEADER {
                return Err(BridgeError::Broken("a frame is longer than what was sent"));
            }
            if kind != frame::BODY || length > most - frames.total {
                break;
            }
            frames.lengths[frames.count] = length;
            frames.count += 1;
            frames.total += length;
            at += FRAME_HEADER + length;
        }
        Ok(frames)
    }

    fn lengths(&self) -> &[usize] {
        &self.lengths[..self.count]
    }

    fn pieces<'a>(&self, ring: &Ring<'a>, mut position: u32) -> Vec<Foreign<'a>> {
        let mut pieces = Vec::with_capacity(MOST_FOREIGN);
        for &length in self.lengths() {
            position = position.wrapping_add(FRAME_HEADER as u32);
            pieces.extend(ring.foreign(position, length).into_iter().filter(|piece| !piece.is_empty()));
            position = position.wrapping_add(length as u32);
        }
        pieces
    }
}
