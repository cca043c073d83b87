//! What all event loops of an edge share about one application.

use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bridge::edge::{Region, SlotId};
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::sync::mpsc::UnboundedSender;

/// A worker process that serves this application.
#[derive(Debug)]
pub struct Worker {
    /// The master's number for it.
    pub id: u64,
    /// Process id.
    pub pid: u32,
    /// Its claimers.
    pub claimers: Range<u16>,
    /// Requests it has finished.
    pub requests: AtomicU64,
    /// It is replaced after so many; 0 is never.
    pub max_requests: u64,
    /// Our end of its socket.
    pub socket: Arc<OwnedFd>,
    /// Since when it neither has a request nor waits for one.
    pub silence: Mutex<Silence>,
}

/// See [`Shared::look_for_silence`].
#[derive(Debug, Default)]
pub struct Silence {
    /// Since when, and what it had finished then.
    since: Option<(Instant, u64)>,
    is_told: bool,
}

impl Worker {
    /// Whether it is dead already, while the word of it may still be on its way to the event loop.
    pub fn is_gone(&self) -> bool {
        let mut polled = [PollFd::new(&*self.socket, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&now)).is_ok()
            && polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}

/// What the edge's control loop is told.
#[derive(Debug)]
pub enum Event {
    /// The worker reached its `max_requests`.
    Recycle {
        /// The worker.
        worker: u64,
    },
    /// The worker overran its time-out.
    Overran {
        /// The worker.
        worker: u64,
        /// Of the request.
        method: String,
        /// Of the request, as received.
        path: String,
        /// The time-out.
        seconds: f64,
    },
    /// The worker has had no request for longer than its time-out, and does not wait for one.
    Silent {
        /// The worker.
        worker: u64,
        /// The time-out.
        seconds: f64,
    },
    /// The worker wrote what the protocol does not allow.
    Broken {
        /// The worker.
        worker: u64,
        /// How.
        why: String,
    },
}

/// See the module.
pub struct Shared {
    /// The shared memory.
    pub region: Arc<Region>,
    /// Requests that wait for a free slot, of all loops.
    pub backlog: AtomicUsize,
    slots_per_thread: u16,
    is_abandoned: AtomicBool,
    workers: RwLock<Vec<Arc<Worker>>>,
    /// What workers had finished that are gone.
    finished_by_gone: AtomicU64,
    files: Mutex<HashMap<u16, Vec<(u64, OwnedFd)>>>,
    /// By slot, with the ticket that the request has first.
    bodies: Mutex<HashMap<u16, (u64, Arc<std::fs::File>)>>,
    events: UnboundedSender<Event>,
}

impl Shared {
    /// Nothing is known of any worker yet.
    pub fn new(region: Arc<Region>, slots_per_thread: u16, events: UnboundedSender<Event>) -> Arc<Self> {
        Arc::new(Self {
            region,
            backlog: AtomicUsize::new(0),
            slots_per_thread,
            is_abandoned: AtomicBool::new(false),
            workers: RwLock::default(),
            finished_by_gone: AtomicU64::new(0),
            files: Mutex::default(),
            bodies: Mutex::default(),
            events,
        })
    }

    /// The event loop that a slot belongs to.
    pub fn thread_of(&self, slot: u16) -> u16 {
        slot / self.slots_per_thread
    }

    /// There is no worker, and none will come: whatever waits, and will, is refused.
    pub fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Relaxed)
    }

    /// A worker is there, and will soon pull.
    pub fn add_worker(&self, worker: Arc<Worker>) {
        self.workers.write().unwrap_or_else(PoisonError::into_inner).push(worker);
    }

    /// Tells of workers that for longer than `limit` have had no request and have not waited for one: an application
    /// hangs behind its answer, or the process is stopped. gunicorn's heartbeat ends those, too.
    pub fn look_for_silence(&self, now: Instant, limit: Duration) {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        for worker in workers.iter() {
            // Another loop looks.
            let Ok(mut silence) = worker.silence.try_lock() else { continue };
            if !self.region.are_away(worker.claimers.clone()) {
                *silence = Silence::default();
                continue;
            }
            let finished = worker.requests.load(Ordering::Relaxed);
            let (since, _) = *match &mut silence.since {
                Some(known) if known.1 == finished => known,
                other => other.insert((now, finished)),
            };
            if now.saturating_duration_since(since) > limit && !std::mem::replace(&mut silence.is_told, true)
            {
                self.send(Event::Silent { worker: worker.id, seconds: limit.as_secs_f64() });
            }
        }
    }

    /// A worker is gone.
    pub fn remove_worker(&self, id: u64) {
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        for gone in workers.extract_if(.., |w| w.id == id) {
            self.finished_by_gone.fetch_add(gone.requests.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Requests that were finished so far.
    pub fn finished(&self) -> u64 {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        let current: u64 = workers.iter().map(|w| w.requests.load(Ordering::Relaxed)).sum();
        current + self.finished_by_gone.load(Ordering::Relaxed)
    }

    /// Requests of all loops that no worker has yet.
    pub fn waiting(&self) -> usize {
        self.region.waiting() as usize + self.backlog.load(Ordering::Relaxed)
    }

    /// Whether as many as this wait.
    pub fn is_full(&self, limit: usize) -> bool {
        // Whoever has left the queue counts no longer, even if a worker that is busy has not come past.
        self.waiting() >= limit && self.region.ready() + self.backlog.load(Ordering::Relaxed) >= limit
    }

    /// The worker that has this claimer.
    pub fn worker_of(&self, claimer: u16) -> Option<Arc<Worker>> {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        workers.iter().find(|w| w.claimers.contains(&claimer)).cloned()
    }

    /// Counts a finished request and asks for the worker's replacement once, at its limit.
    pub fn count_request(&self, worker: &Worker) {
        let count = worker.requests.fetch_add(1, Ordering::Relaxed) + 1;
        if count == worker.max_requests {
            self.send(Event::Recycle { worker: worker.id });
        }
    }

    /// A file that a worker sent for a FILE frame of this slot.
    pub fn put_file(&self, slot: u16, ticket: u64, file: OwnedFd) {
        self.files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(slot)
            .or_default()
            .push((ticket, file));
    }

    pub(super) fn take_file(&self, id: SlotId) -> Option<OwnedFd> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let list = files.get_mut(&id.slot)?;
        // What came for an earlier request in this slot came too late.
        list.retain(|(ticket, _)| *ticket >= id.ticket);
        if list.is_empty() { None } else { Some(list.remove(0).1) }
    }

    /// The request body of a slot that lies in a file, for a worker that asks. One that asks for an earlier request of
    /// the slot comes too late.
    pub fn body_file(&self, slot: u16, ticket: u64) -> Option<Arc<std::fs::File>> {
        let bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.get(&slot).filter(|(first, _)| *first <= ticket).map(|(_, file)| Arc::clone(file))
    }

    pub(super) fn put_body(&self, id: SlotId, file: Arc<std::fs::File>) {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).insert(id.slot, (id.ticket, file));
    }

    pub(super) fn drop_files(&self, id: SlotId) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if !files.is_empty() {
            files.remove(&id.slot);
        }
        drop(files);
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        if !bodies.is_empty() {
            bodies.remove(&id.slot);
        }
    }

    pub(super) fn send(&self, event: Event) {
        // Fails only while the edge ends.
        let _ = self.events.send(event);
    }
}
