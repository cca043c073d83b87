//! `queue`: requests that wait, in the order in which they came, until a server may be asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use config::model::http::UpstreamQueue;

use super::{Choice, Lease};

/// The queue of a group, for all event loops.
#[derive(Debug)]
pub(super) struct Queue {
    model: UpstreamQueue,
    /// How many there are, to be seen without the lock.
    count: AtomicUsize,
    waiting: Mutex<Waiting>,
}

/// Who waits, by number; the first is next.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// Whether a request may wait.
#[derive(Debug)]
pub enum Waits {
    /// There is nothing to wait for, or no queue.
    No,
    /// There are too many already.
    Full,
    /// So long at most.
    Here(Place, Duration),
}

/// A request's place in a queue, which it has until this is dropped.
#[derive(Debug)]
pub struct Place {
    queue: Arc<Queue>,
    number: u64,
}

impl Queue {
    pub(super) fn new(model: &UpstreamQueue) -> Self {
        Self { model: model.clone(), count: AtomicUsize::new(0), waiting: Mutex::default() }
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    pub(super) fn status(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed) as u64, u64::from(self.model.requests))
    }

    pub(super) fn enter(self: &Arc<Self>) -> Waits {
        let mut waiting = self.waiting();
        if waiting.wakers.len() >= self.model.requests as usize {
            return Waits::Full;
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.wakers.insert(number, Waker::noop().clone());
        self.count.store(waiting.wakers.len(), Ordering::SeqCst);
        Waits::Here(Place { queue: Arc::clone(self), number }, self.model.timeout)
    }

    /// Wakes the first.
    pub(super) fn call(&self) {
        if self.has_waiting()
            && let Some((_, first)) = self.waiting().wakers.first_key_value()
        {
            first.wake_by_ref();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Ready with a server, once it is this request's turn and there is one.
    pub fn poll_lease(&self, choice: &mut Choice, cx: &mut Context<'_>) -> Poll<Lease> {
        let mut waiting = self.queue.waiting();
        // Before a server is looked for: one that becomes free meanwhile calls again.
        waiting.wakers.insert(self.number, cx.waker().clone());
        let is_first = waiting.wakers.first_key_value().is_some_and(|(first, _)| *first == self.number);
        drop(waiting);
        let lease = if is_first { choice.lease_in_turn() } else { None };
        lease.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.queue.waiting();
        waiting.wakers.remove(&self.number);
        self.queue.count.store(waiting.wakers.len(), Ordering::SeqCst);
        drop(waiting);
        // There may be room for more than one.
        self.queue.call();
    }
}
