//! What workers have written, and what is left of it when one dies.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bridge::edge::{BridgeError, Progress, SlotId, SlotState};

use super::App;
use super::reply::{End, Pending};
use super::shared::{Event, Worker};

impl App {
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
            self.read_reply(&pending, true);
            if pending.slot.get() == Some(id) {
                self.release(&pending);
                pending.lose_worker();
            }
        }
    }

    /// Reads what the worker has written for this request, as far as there is room for it; how many bytes that were.
    pub(super) fn take_in(&self, pending: &Rc<Pending>) -> u64 {
        let before = pending.reply.borrow().received;
        self.read_reply(pending, false);
        pending.reply.borrow().received - before
    }

    /// `all`: also what there is no room for. That is at most a ring of a worker that writes nothing more.
    fn read_reply(&self, pending: &Rc<Pending>, all: bool) {
        let Some(id) = pending.slot.get() else { return };
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
                self.thread.borrow_mut().read_frames(id, |frame| reply.take(frame, unwanted))
            };
            pending.progress.set(Instant::now());
            let reply = pending.reply.borrow();
            match result {
                Ok(Progress::Ended) => ended = true,
                // The frame that filled the buffer may have been the last that was there.
                Ok(Progress::Drained) => pending.stalled.set(!reply.buffer.has_room()),
                // It stopped for a file, or because the buffer is full.
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
