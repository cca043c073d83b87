//! The application: a bounded queue in front of the workers, and what their faults mean for a request.
//!
//! A request is `queued` (nobody has it), `pulled` (a worker runs it), `answering` (its head has come) or
//! `done`. The bridge's slot holds the first two, [`Pending`] the rest. The table in `docs/ARCHITECTURE.md`
//! says what each fault does in each state.

mod call;
mod intake;
mod lanes;
mod pace;
mod reply;
mod shared;

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use bridge::edge::{BodyPart, BridgeError, EdgeThread, PublishError, RequestFrame, SlotId, SlotState};
use buffering::{ResponseBuffer, ResponseLimits, TempSpace};
use exchange::Chunk;

pub use call::{Answer, Failure, Watch};
pub use reply::Outcome;
pub use shared::{Event, Shared, Worker};

use lanes::Lanes;
use pace::Pace;
use reply::{Pending, Phase};

/// Bytes of answers that are taken in before others have their turn: whoever has sent something meanwhile would wait
/// until all of them have been handed to their clients.
const TURN: u64 = 128 * 1024;
/// What an answer costs beside its bytes, in bytes.
const ANSWER: u64 = 512;
/// So many slots, or half of all, are not for new clients: what is in a slot is in the one order in which workers take
/// it.
const NOT_FOR_NEW: usize = 48;

/// How the application's requests are handled.
#[derive(Clone, Debug)]
pub struct Options {
    /// A request that runs longer, without a byte of its response in that time, is answered with 504.
    pub timeout: Option<Duration>,
    /// Requests that may wait for a worker.
    pub queue_size: usize,
    /// How long a request may wait for a worker.
    pub queue_timeout: Duration,
    /// `SCRIPT_NAME`.
    pub root_path: String,
    /// Bytes of a response in memory.
    pub response_memory: usize,
    /// Bytes of a response in a temporary file.
    pub response_file: u64,
    /// The access log has variables that only the application's environ has.
    pub told: bool,
}

/// One event loop's side of the application.
pub struct App {
    index: usize,
    thread: RefCell<EdgeThread>,
    shared: Arc<Shared>,
    options: RefCell<Rc<Options>>,
    temp: Arc<TempSpace>,
    /// By the slot's number within this thread.
    in_flight: RefCell<Vec<Option<Rc<Pending>>>>,
    /// Requests that wait for a free slot.
    backlog: RefCell<Lanes<Rc<Pending>>>,
    /// Free slots that were promised to requests which have not published yet.
    promised: Cell<usize>,
    /// Slots that new clients have or are promised.
    new: Cell<usize>,
    dirty: RefCell<Vec<u16>>,
    /// Those of which there is something to take in.
    unread: RefCell<Lanes<Rc<Pending>>>,
    driver: RefCell<Option<Waker>>,
    active: Cell<usize>,
    /// Requests were left to workers that are awake.
    watching: Cell<bool>,
    pace: RefCell<Pace>,
}

impl App {
    /// The side of event loop `index`.
    pub fn new(shared: Arc<Shared>, index: usize, options: Options, temp: Arc<TempSpace>) -> Rc<Self> {
        let thread = EdgeThread::new(Arc::clone(&shared.region), index);
        let slots = thread.slots();
        Rc::new(Self {
            index,
            thread: RefCell::new(thread),
            shared,
            options: RefCell::new(Rc::new(options)),
            temp,
            in_flight: RefCell::new(vec![None; slots]),
            backlog: RefCell::default(),
            promised: Cell::new(0),
            new: Cell::new(0),
            dirty: RefCell::default(),
            unread: RefCell::default(),
            driver: RefCell::default(),
            active: Cell::new(0),
            watching: Cell::new(false),
            pace: RefCell::default(),
        })
    }

    /// What requests from now on are handled by.
    pub fn set_options(&self, options: Options) {
        *self.options.borrow_mut() = Rc::new(options);
    }

    /// Requests that are queued or running, of this loop.
    pub fn active(&self) -> usize {
        self.active.get()
    }

    /// In how many seconds, 1 to 60, the queue will be through at the pace of the last seconds. Before that was
    /// measured for long enough, it follows from how long a request may wait.
    pub fn retry_after(&self, now: Instant) -> u64 {
        let measured = self.pace.borrow().retry_after(now, self.shared.finished(), self.shared.waiting());
        measured.unwrap_or_else(|| self.options.borrow().queue_timeout.as_secs().clamp(1, 5))
    }

    /// Before the event loop sleeps: wakes workers for what is published, and the driver instead of sleeping
    /// when answers are there already, or when a look at the workers a little later has to be arranged.
    pub fn before_park(&self) {
        let park = self.thread.borrow_mut().before_park_sparing();
        if !self.unread.borrow().is_empty() {
            // Not by the waker: with it the loop would go on without a look at what clients have sent.
            let _ = rustix::io::write(self.shared.region.eventfd(self.index), &1_u64.to_ne_bytes());
            return;
        }
        if (park.answers || (park.deferred && !self.watching.get()))
            && let Some(driver) = self.driver.borrow().as_ref()
        {
            self.watching.set(self.watching.get() || park.deferred);
            driver.wake_by_ref();
        }
    }

    /// Whether requests were left to workers that are awake, so that [`App::catch_up`] is due in a millisecond.
    pub fn is_watching(&self) -> bool {
        self.watching.get()
    }

    /// Sees whether those workers went on, and wakes others if not. Whether it is to be called again.
    pub fn catch_up(&self) -> bool {
        let again = self.thread.borrow_mut().catch_up();
        self.watching.set(again);
        again
    }

    /// Takes in what workers have written, as much as one turn may take. To be called whenever the loop's eventfd rang
    /// or [`App::before_park`] woke `driver`.
    pub fn turn(&self, driver: &Waker) {
        {
            let mut slot = self.driver.borrow_mut();
            if !slot.as_ref().is_some_and(|w| w.will_wake(driver)) {
                *slot = Some(driver.clone());
            }
        }
        let mut dirty = std::mem::take(&mut *self.dirty.borrow_mut());
        {
            let mut thread = self.thread.borrow_mut();
            thread.awake();
            thread.drain_dirty(&mut dirty);
        }
        let mut unread = self.unread.borrow_mut();
        for local in dirty.drain(..) {
            if let Some(pending) = self.pending(usize::from(local))
                && !pending.unread.replace(true)
            {
                let is_known = pending.is_known;
                unread.push(pending, is_known);
            }
        }
        drop(unread);
        *self.dirty.borrow_mut() = dirty;
        let mut left = TURN;
        while left > 0 {
            let next = self.unread.borrow_mut().pop(true);
            let Some(pending) = next else { break };
            pending.unread.set(false);
            left = left.saturating_sub(ANSWER + self.take_in_unasked(&pending));
        }
    }

    /// The file that a worker sent for a FILE frame is there.
    pub fn file_arrived(&self, slot: u16) {
        let local = self.thread.borrow().local(SlotId { slot, ticket: 0 });
        if let Some(pending) = self.pending(local) {
            self.take_in_unasked(&pending);
        }
    }

    fn local(&self, id: SlotId) -> usize {
        self.thread.borrow().local(id)
    }

    fn pending(&self, local: usize) -> Option<Rc<Pending>> {
        self.in_flight.borrow().get(local).cloned().flatten()
    }

    /// Several times a second: requests that waited or ran too long.
    pub fn tick(&self) {
        let options = Rc::clone(&self.options.borrow());
        let now = Instant::now();
        let late = |since: Instant, limit: Duration| now.saturating_duration_since(since) > limit;
        let is_abandoned = self.shared.is_abandoned();
        // Whether it has waited enough, and why.
        let gives_up = |pending: &Pending| {
            let is_late = late(pending.since.get(), options.queue_timeout);
            is_abandoned.then_some(Phase::Abandoned).or(is_late.then_some(Phase::QueueTimeout))
        };
        self.thread.borrow_mut().repair();
        self.thread.borrow_mut().trim(now);
        self.pace.borrow_mut().note(now, self.shared.finished(), self.shared.waiting());
        if let Some(limit) = options.timeout {
            self.shared.look_for_silence(now, limit);
        }
        let waiting: Vec<_> = self.backlog.borrow().iter().cloned().collect();
        for pending in waiting {
            if let Some(phase) = gives_up(&pending) {
                self.leave_backlog(&pending);
                pending.fail(phase);
            }
        }
        let running: Vec<_> = self.in_flight.borrow().iter().flatten().cloned().collect();
        for pending in running {
            let Some(id) = pending.slot.get() else { continue };
            let state = self.thread.borrow().state(id);
            match state {
                SlotState::Ready => {
                    if let Some(phase) = gives_up(&pending)
                        && self.thread.borrow_mut().take_back(id)
                    {
                        self.forget(&pending);
                        pending.fail(phase);
                    }
                }
                SlotState::Claimed { claimer, .. } => {
                    pending.note_claim(claimer, now);
                    if let Some(limit) = options.timeout
                        && !pending.overran.get()
                        && !pending.is_stalled()
                        && late(pending.progress.get(), limit)
                    {
                        self.overrun(&pending, claimer);
                    }
                }
                SlotState::Broken => {
                    self.broken(&pending, id, &BridgeError::Broken("a slot's state was overwritten"));
                    pending.wake();
                }
            }
        }
    }

    fn overrun(&self, pending: &Rc<Pending>, claimer: u16) {
        pending.overran.set(true);
        if let (Some(worker), Some(id)) = (self.shared.worker_of(claimer), pending.slot.get()) {
            pending.note_worker(&worker);
            self.thread.borrow().cancel(id);
            pending.overran_by.set(Some(worker.id));
            // While the call waits it reports itself: it has the request.
            if let Some(label) = pending.label.take() {
                self.report_overrun(worker.id, label, &self.options.borrow());
            }
        }
        // The slot stays with the worker until it ends or dies; the client does not wait for that.
        pending.abandoned.set(true);
        pending.fail(Phase::Overran);
    }

    fn report_overrun(&self, worker: u64, (method, path): (String, String), options: &Options) {
        let seconds = options.timeout.unwrap_or_default().as_secs_f64();
        self.shared.send(Event::Overran { worker, method, path, seconds });
    }

    /// Gives the slot of a finished request back, and its place to the next of the backlog.
    fn release(&self, pending: &Rc<Pending>) {
        if let Some(id) = pending.slot.get() {
            self.thread.borrow_mut().free(id);
            self.forget(pending);
        }
    }

    fn forget(&self, pending: &Rc<Pending>) {
        if let Some(id) = pending.slot.take() {
            self.shared.drop_files(id);
            self.in_flight.borrow_mut()[self.local(id)] = None;
            self.active.set(self.active.get() - 1);
            self.uncount(pending);
            self.grant(&mut self.backlog.borrow_mut());
        }
    }

    /// Nobody wants the answer any more.
    fn abandon(&self, pending: &Rc<Pending>) {
        self.leave_backlog(pending);
        let Some(id) = pending.slot.get() else { return };
        if self.thread.borrow_mut().take_back(id) {
            self.forget(pending);
            return;
        }
        pending.abandoned.set(true);
        self.thread.borrow().cancel(id);
        // What is written is thrown away from now on, so the buffer does not hold the worker up.
        let old = std::mem::replace(&mut pending.reply.borrow_mut().buffer, self.new_buffer());
        drop(old);
        self.take_in(pending);
    }

    fn leave_backlog(&self, pending: &Rc<Pending>) {
        let mut backlog = self.backlog.borrow_mut();
        if pending.queued.take() && backlog.remove(pending.is_known, |p| Rc::ptr_eq(p, pending)) {
            self.shared.backlog.fetch_sub(1, Ordering::Relaxed);
        } else if pending.granted.take() {
            // It was given a place that it will not use.
            self.promised.set(self.promised.get() - 1);
            self.uncount(pending);
            self.grant(&mut backlog);
        }
    }

    /// Whether there is a slot for one more request of this kind.
    fn has_slot(&self, is_known: bool) -> bool {
        let thread = self.thread.borrow();
        let most_new = thread.slots() - NOT_FOR_NEW.min(thread.slots() / 2);
        thread.free_slots() > self.promised.get() && (is_known || self.new.get() < most_new)
    }

    /// It has a slot, or is promised one, from now on.
    fn count(&self, pending: &Pending) {
        if !pending.is_known && !pending.counted.replace(true) {
            self.new.set(self.new.get() + 1);
        }
    }

    fn uncount(&self, pending: &Pending) {
        if pending.counted.take() {
            self.new.set(self.new.get() - 1);
        }
    }

    /// Tells the next of the backlog that a slot is free.
    fn grant(&self, backlog: &mut Lanes<Rc<Pending>>) {
        if self.has_slot(true)
            && let Some(next) = backlog.pop(self.has_slot(false))
        {
            self.shared.backlog.fetch_sub(1, Ordering::Relaxed);
            self.promised.set(self.promised.get() + 1);
            next.queued.set(false);
            self.count(&next);
            next.granted.set(true);
            next.wake();
        }
    }

    fn new_buffer(&self) -> ResponseBuffer {
        let options = self.options.borrow();
        let limits = ResponseLimits { memory: options.response_memory, temp_file: options.response_file };
        ResponseBuffer::new(limits, Arc::clone(&self.temp))
    }

    fn pop_chunk(&self, pending: &Rc<Pending>) -> Option<Chunk> {
        let (chunk, has_room) = {
            let mut reply = pending.reply.borrow_mut();
            (reply.buffer.pop(), reply.buffer.has_room())
        };
        if has_room && pending.is_stalled() {
            pending.leaves_large.set(false);
            self.take_in(pending);
            if chunk.is_none() {
                return pending.reply.borrow_mut().buffer.pop();
            }
        }
        chunk
    }

    /// The client takes nothing just now: its answer may take room on the disk, and the worker goes on.
    fn client_is_slow(&self, pending: &Rc<Pending>) {
        pending.reply.borrow_mut().buffer.set_slow();
        if pending.is_stalled() {
            self.take_in(pending);
        }
    }

    fn publish(
        &self,
        frame: RequestFrame<'_>,
        body: BodyPart<'_>,
        file: Option<&Arc<std::fs::File>>,
        pending: &Rc<Pending>,
    ) -> Result<SlotId, PublishError> {
        // A worker may have the request, and ask for the file, before this goes on.
        let before = |id| {
            if let Some(file) = file {
                self.shared.put_body(id, Arc::clone(file));
            }
        };
        let id = self.thread.borrow_mut().publish_with(frame, body, before)?;
        pending.slot.set(Some(id));
        self.in_flight.borrow_mut()[self.local(id)] = Some(Rc::clone(pending));
        self.active.set(self.active.get() + 1);
        Ok(id)
    }

    /// The file descriptor that rings when workers have written: an eventfd. A ring is an event, whatever the count
    /// is, so nobody need read it but [`App::empty_bell`].
    pub fn bell(&self) -> io::Result<OwnedFd> {
        self.shared.region.eventfd(self.index).try_clone_to_owned()
    }

    /// Now and then, so that it is never full.
    pub fn empty_bell(&self) {
        let _ = rustix::io::read(self.shared.region.eventfd(self.index), &mut [0; 8]);
    }
}

#[cfg(test)]
mod tests;
