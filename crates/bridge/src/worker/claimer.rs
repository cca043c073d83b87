//! One thread of a worker.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::exchange::Exchange;
use super::link::Shared;
use crate::futex::{self, Woken};
use crate::layout::{CLAIMED, READY, State, TICKET_MASK};

/// Takes requests, one at a time.
#[derive(Debug)]
pub struct Claimer {
    shared: Arc<Shared>,
    claimer: u16,
}

/// What came of waiting.
#[derive(Debug)]
pub enum Next {
    /// A request.
    Exchange(Exchange),
    /// There will be none any more.
    Stopped,
    /// A signal arrived, or nothing for a second: see to signals and ask again.
    Interrupted,
}

impl Claimer {
    pub(crate) fn new(shared: Arc<Shared>, claimer: u16) -> Self {
        Self { shared, claimer }
    }

    /// Waits for the next request. Whoever is told to stop takes none, even if some wait.
    #[expect(clippy::should_implement_trait, reason = "it never ends in the way of an iterator")]
    pub fn next(&mut self) -> Next {
        loop {
            if self.shared.is_stopped(self.claimer) {
                return Next::Stopped;
            }
            if let Some(exchange) = self.claim() {
                return Next::Exchange(exchange);
            }
            match self.park() {
                Parked::Claimed(exchange) => return Next::Exchange(exchange),
                Parked::Woken(Woken::Look) => {}
                Parked::Woken(Woken::Interrupted) => return Next::Interrupted,
            }
        }
    }

    /// Sleeps until the edge or a stop wakes it, unless a request came meanwhile.
    fn park(&mut self) -> Parked {
        let (i, bit) = (usize::from(self.claimer / 64), 1_u64 << (self.claimer % 64));
        let layout = &self.shared.layout;
        let word = layout.claimer_word(self.claimer);
        let observed = word.load(Ordering::SeqCst);
        layout.woken(i).fetch_and(!bit, Ordering::SeqCst);
        layout.parked(i).fetch_or(bit, Ordering::SeqCst);
        // The edge publishes, then looks at `parked`; this sets `parked`, then looks for requests. One of the two
        // sees the other.
        fence(Ordering::SeqCst);
        let found = self.claim();
        let woken = if found.is_none() && !self.shared.is_stopped(self.claimer) {
            futex::wait(word, observed)
        } else {
            Woken::Look
        };
        let layout = &self.shared.layout;
        layout.parked(i).fetch_and(!bit, Ordering::SeqCst);
        layout.woken(i).fetch_and(!bit, Ordering::SeqCst);
        found.map_or(Parked::Woken(woken), Parked::Claimed)
    }

    /// Takes the oldest request that is ready.
    fn claim(&self) -> Option<Exchange> {
        let layout = &self.shared.layout;
        loop {
            let head = layout.head().load(Ordering::SeqCst);
            let entry = layout.entry(head).load(Ordering::SeqCst);
            let found = entry >> 16;
            let expected = head.wrapping_add(1) & TICKET_MASK;
            if found != expected {
                // Either there is none yet, or the ring went round while this looked.
                let oldest = found.saturating_sub(layout.tickets);
                if found > expected && oldest > head {
                    layout.head().fetch_max(oldest, Ordering::SeqCst);
                    continue;
                }
                return None;
            }
            let slot = entry as u16;
            if u32::from(slot) >= layout.slots() {
                layout.head().fetch_max(head + 1, Ordering::SeqCst);
                continue;
            }
            let (from, to) = (State::word(head, READY, 0), State::word(head, CLAIMED, self.claimer));
            let state = layout.state(slot);
            let won = state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok();
            layout.head().fetch_max(head.wrapping_add(1), Ordering::SeqCst);
            if won {
                layout.claimed_at(slot).store(futex::now(), Ordering::Relaxed);
                if let Some(exchange) = Exchange::read(Arc::clone(&self.shared), slot, head) {
                    return Some(exchange);
                }
            }
        }
    }
}

enum Parked {
    Claimed(Exchange),
    Woken(Woken),
}
