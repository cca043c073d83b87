//! What workers have written, and what is left of it when one dies.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bridge::edge::{BridgeError, Progress, SlotId, SlotState};
use bytes::Bytes;
use exchange::SendForeign;

use super::App;
use super::reply::{End, Pending, Phase};
use super::shared::{Event, Worker};

/// About how much can be sent of an answer whose rest waits in its ring.
const LEFT: u64 = 64 * 1024;

/// What of an answer is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// What there is room for; of a large body nothing that can be sent from where it is.
    Unasked,
    /// What there is room for.
    Room,
    /// Also what there is no room for. That is at most a ring of a worker that writes nothing more.
    All,
}

impl App {
    /// Lets `send` have what comes next of a body, if that is much and nothing is before it.
    pub(super) fn send_foreign(
        &self,
        pending: &Rc<Pending>,
        most: u64,
        send: &mut SendForeign<'_>,
    ) -> Option<io::Result<usize>> {
        let id = pending.slot.get()?;
        let mut reply = pending.reply.borrow_mut();
        let reply = &mut *reply;
        let is_going = reply.end.is_none() && reply.phase == Phase::Going;
        if !is_going || !reply.buffer.is_empty() || reply.awaited_file.is_some() {
            return None;
        }
        let mut of_rest = 0;
        let rest = |bytes: Bytes| {
            of_rest = bytes.len() as u64;
            reply.buffer.push(bytes);
        };
        let mut thread = self.thread.borrow_mut();
        match thread.send_body(id, most, send, rest) {
            Ok(sent) => {
                if let Some(Ok(sent)) = &sent {
                    reply.received += *sent as u64 + of_rest;
                    pending.progress.set(Instant::now());
                    // What comes now rings; from here on the worker has no one to wait for.
                    pending.stalled.set(!thread.is_drained(id));
                    pending.leaves_large.set(true);
                }
                sent
            }
            // Whoever reads it next says so.
            Err(_) => None,
        }
    }

    /// A worker is gone: what it had pulled is lost, what it had finished is not.
    pub fn worker_gone(&self, worker: &Worker) {
        let mut lost = self.thread.borrow().claimed_by(worker.claimers.clone());
        // A worker that overwrote its slot's state is known by what was seen before.
        for pending in self.in_flight.borrow().iter().flatten() {
            if let Some(id) = pending.slot.get()
                && pending.claimer.get().is_some_and(|c| worker.claimers.contains(&c))
                && self.thread.borrow().state(id) == SlotState::Broken
            {
                lost.push(id);
            }
        }
        for id in lost {
            let Some(pending) = self.pending(self.local(id)) else { continue };
            pending.note_worker(worker);
            self.read_reply(&pending, How::All);
            if pending.slot.get() == Some(id) {
                self.release(&pending);
                pending.lose_worker();
            }
        }
    }

    /// Reads what the worker has written for this request, as far as there is room for it.
    pub(super) fn take_in(&self, pending: &Rc<Pending>) {
        self.read_reply(pending, How::Room);
    }

    /// The same before anybody asks for it; how many bytes that were, or can be sent from where they are.
    pub(super) fn take_in_unasked(&self, pending: &Rc<Pending>) -> u64 {
        let before = pending.reply.borrow().received;
        self.read_reply(pending, How::Unasked);
        let taken = pending.reply.borrow().received - before;
        if pending.is_stalled() { taken.max(LEFT) } else { taken }
    }

    fn read_reply(&self, pending: &Rc<Pending>, how: How) {
        let Some(id) = pending.slot.get() else { return };
        let all = how == How::All;
        let mut ended = false;
        loop {
            if !self.take_file(pending, id) {
                return;
            }
            // Whoever takes a frame none the less makes room in the ring, and the worker goes on filling memory.
            if !all && !pending.reply.borrow().buffer.has_room() && !pending.abandoned.get() {
                pending.stalled.set(true);
                break;
            }
            let result = {
                let mut reply = pending.reply.borrow_mut();
                let reply = &mut *reply;
                let unwanted = pending.abandoned.get();
                // For a client that is slow nobody asks again: what comes goes to where it may wait.
                let is_offered = reply.buffer.is_empty() && !reply.buffer.is_slow();
                let leaves_large = how == How::Unasked && pending.leaves_large.get() && is_offered;
                let mut thread = self.thread.borrow_mut();
                if leaves_large {
                    thread.read_up_to_large(id, |frame| reply.take(frame, unwanted))
                } else {
                    thread.read_frames(id, |frame| reply.take(frame, unwanted))
                }
            };
            pending.progress.set(Instant::now());
            let reply = pending.reply.borrow();
            match result {
                Ok(Progress::Ended) => ended = true,
                // The frame that filled the buffer may have been the last that was there.
                Ok(Progress::Drained) => pending.stalled.set(!reply.buffer.has_room()),
                // It stopped for a file, or because the buffer is full, or before what can be sent from where it is.
                Ok(Progress::Stopped) if all || reply.awaited_file.is_some() => continue,
                Ok(Progress::Stopped) => pending.stalled.set(true),
                Err(error) => {
                    drop(reply);
                    self.broken(pending, id, &error);
                }
            }
            break;
        }
        if ended {
            if let SlotState::Claimed { claimer, .. } = self.thread.borrow().state(id) {
                pending.note_claim(claimer, Instant::now());
                if let Some(worker) = self.shared.worker_of(claimer) {
                    pending.note_worker(&worker);
                    self.shared.count_request(&worker);
                }
            }
            self.release(pending);
        }
        pending.wake();
    }

    /// Joins the FILE frame that waits, if one does, with its file; `false` while that has not come.
    fn take_file(&self, pending: &Rc<Pending>, id: SlotId) -> bool {
        let mut reply = pending.reply.borrow_mut();
        let Some((offset, length)) = reply.awaited_file else { return true };
        let Some(file) = self.shared.take_file(id) else { return false };
        reply.awaited_file = None;
        reply.received = reply.received.saturating_add(length);
        if length > 0 {
            reply.buffer.push_file(Arc::new(file.into()), offset, length);
        }
        true
    }

    /// The worker wrote what it must not. The slot stays its own until it is dead.
    pub(super) fn broken(&self, pending: &Rc<Pending>, id: SlotId, error: &BridgeError) {
        pending.reply.borrow_mut().end = Some(End::Protocol);
        if pending.overran.replace(true) {
            return;
        }
        let claimer = match self.thread.borrow().state(id) {
            SlotState::Claimed { claimer, .. } => Some(claimer),
            SlotState::Ready | SlotState::Broken => pending.claimer.get(),
        };
        if let Some(worker) = claimer.and_then(|claimer| self.shared.worker_of(claimer)) {
            self.shared.send(Event::Broken { worker: worker.id, why: error.to_string() });
        }
    }
}
