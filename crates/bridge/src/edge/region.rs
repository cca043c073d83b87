//! The region as the edge makes it, shared by all its threads.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use sys::SharedRegion;

use crate::futex;
use crate::layout::{CLAIMED, Layout, MOST_CLAIMERS, READY, State};

/// The shared memory of one application.
#[derive(Debug)]
pub struct Region {
    pub(crate) layout: Layout,
    memfd: OwnedFd,
    eventfds: Vec<OwnedFd>,
    /// The next ticket. Not in the region: no worker may touch it.
    next: AtomicU64,
    claimers: Mutex<Vec<bool>>,
    /// How many claimers are taken.
    taken: AtomicU32,
    /// How many words of the bitmaps of claimers have ever had one: the rest need no look.
    words: AtomicUsize,
}

/// There is no room for so many more claimers in one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the workers of an application can have {MOST_CLAIMERS} threads together")]
pub struct NoClaimers;

impl Region {
    /// Makes a region for so many edge threads (at most 64) with so many slots each (at most 1024). It takes memory
    /// as slots are used.
    pub fn create(threads: u16, slots_per_thread: u16) -> io::Result<Arc<Self>> {
        let size = Layout::size(threads, slots_per_thread).ok_or(io::ErrorKind::InvalidInput)?;
        let (memfd, memory) = SharedRegion::create("monoceros-bridge", size)?;
        let layout = Layout::create(memory, threads, slots_per_thread);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let eventfds = (0..threads).map(|_| Ok(eventfd(0, flags)?)).collect::<io::Result<_>>()?;
        let claimers = Mutex::new(vec![false; MOST_CLAIMERS.into()]);
        Ok(Arc::new(Self {
            layout,
            memfd,
            eventfds,
            next: AtomicU64::new(0),
            claimers,
            taken: AtomicU32::new(0),
            words: AtomicUsize::new(0),
        }))
    }

    /// The region as a file.
    pub fn memfd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    /// What workers write to when this edge thread sleeps. Non-blocking; read it empty after each wake-up.
    pub fn eventfd(&self, thread: usize) -> BorrowedFd<'_> {
        self.eventfds[thread].as_fd()
    }

    /// All of them, in the threads' order.
    pub(crate) fn eventfds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.eventfds.iter().map(AsFd::as_fd)
    }

    /// Takes so many claimers for a worker.
    pub fn allocate_claimers(&self, count: u16) -> Result<Range<u16>, NoClaimers> {
        let mut taken = self.claimers.lock().unwrap_or_else(PoisonError::into_inner);
        let count_here = usize::from(count.max(1));
        let start = taken.windows(count_here).position(|run| run.iter().all(|t| !t)).ok_or(NoClaimers)?;
        let range = start as u16..(start + count_here) as u16;
        taken[start..start + count_here].fill(true);
        self.taken.fetch_add(u32::from(count.max(1)), Ordering::SeqCst);
        self.words.fetch_max(usize::from(range.end).div_ceil(64), Ordering::SeqCst);
        for claimer in range.clone() {
            self.clear(claimer);
            self.layout.claimer_stop(claimer).store(0, Ordering::SeqCst);
        }
        Ok(range)
    }

    /// Gives claimers back. The worker must be dead, and its slots freed ([`super::EdgeThread::claimed_by`] in every
    /// thread).
    pub fn release_claimers(&self, range: Range<u16>) {
        let mut taken = self.claimers.lock().unwrap_or_else(PoisonError::into_inner);
        for claimer in range {
            self.clear(claimer);
            if std::mem::take(&mut taken[usize::from(claimer)]) {
                self.taken.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Tells claimers to take no more requests, and wakes those that sleep.
    pub fn stop_claimers(&self, range: Range<u16>) {
        for claimer in range {
            self.layout.claimer_stop(claimer).store(1, Ordering::SeqCst);
            let word = self.layout.claimer_word(claimer);
            word.fetch_add(1, Ordering::SeqCst);
            futex::wake(word);
        }
    }

    /// Lets claimers that were stopped take requests again (a worker of a generation that goes on after all).
    pub fn resume_claimers(&self, range: Range<u16>) {
        for claimer in range {
            self.layout.claimer_stop(claimer).store(0, Ordering::SeqCst);
        }
    }

    /// The words of the bitmaps that say something.
    fn words(&self) -> Range<usize> {
        0..self.words.load(Ordering::SeqCst)
    }

    fn clear(&self, claimer: u16) {
        let (word, bit) = (usize::from(claimer / 64), 1_u64 << (claimer % 64));
        self.layout.parked(word).fetch_and(!bit, Ordering::SeqCst);
        self.layout.woken(word).fetch_and(!bit, Ordering::SeqCst);
    }

    /// Whether none of these claimers has a request or waits for one: they are at something of their own, or stand
    /// still. Those that were told to stop are at their end.
    pub fn are_away(&self, range: Range<u16>) -> bool {
        let layout = &self.layout;
        let is_parked = |claimer: u16| {
            layout.parked(usize::from(claimer / 64)).load(Ordering::SeqCst) & (1 << (claimer % 64)) != 0
        };
        let is_told = |claimer: u16| layout.claimer_stop(claimer).load(Ordering::SeqCst) != 0;
        if range.clone().any(|claimer| is_parked(claimer) || is_told(claimer)) {
            return false;
        }
        !self.has_claimed(&range)
    }

    /// Whether one of these claimers has a request.
    pub fn has_claimed(&self, range: &Range<u16>) -> bool {
        let slots = u16::try_from(self.layout.slots()).unwrap_or(u16::MAX);
        (0..slots).any(|slot| {
            let state = State::read(self.layout.state(slot).load(Ordering::SeqCst));
            state.kind == CLAIMED && range.contains(&state.claimer)
        })
    }

    /// The next ticket, for a request that is ready to be published.
    pub(crate) fn take_ticket(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// One more than the last ticket.
    pub(crate) fn tail(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// How many requests nobody has taken, about: a worker can overwrite the hint that it rests on.
    pub fn waiting(&self) -> u64 {
        self.tail().saturating_sub(self.layout.head().load(Ordering::SeqCst))
    }

    /// The same by a look at every slot: without those that were taken back, which stay in the count until a worker has
    /// passed them.
    pub fn ready(&self) -> usize {
        let layout = &self.layout;
        let slots = u16::try_from(layout.slots().saturating_sub(1)).unwrap_or(u16::MAX);
        let is_ready = |slot: u16| State::read(layout.state(slot).load(Ordering::Relaxed)).kind == READY;
        (0..=slots).filter(|&slot| is_ready(slot)).count()
    }

    /// Where workers have come to in the order of tickets.
    pub(crate) fn head(&self) -> u64 {
        self.layout.head().load(Ordering::SeqCst)
    }

    /// Whether those claimers that do not sleep are enough for what waits, if they go on as fast as is usual. A
    /// wake-up costs more than a small request.
    pub(crate) fn is_manned(&self) -> bool {
        let parked: u32 =
            self.words().map(|i| self.layout.parked(i).load(Ordering::SeqCst).count_ones()).sum();
        let awake = self.taken.load(Ordering::SeqCst).saturating_sub(parked);
        self.waiting() <= u64::from(awake) * u64::from(super::thread::PUBLISHED_PER_WAKE)
    }

    /// Counts no longer on claimers that were woken and have not come since: their process is stopped, or dead, and
    /// others would not be woken in their place. One that comes after all finds its request taken.
    pub(crate) fn give_up_woken(&self) {
        for i in self.words() {
            self.layout.woken(i).store(0, Ordering::SeqCst);
        }
    }

    /// Wakes as many claimers as there are requests that nobody has taken and nobody was woken for.
    pub(crate) fn wake_for_waiting(&self) {
        fence(Ordering::SeqCst);
        let waiting = self.waiting();
        if waiting == 0 {
            return;
        }
        let under_way: u32 =
            self.words().map(|i| self.layout.woken(i).load(Ordering::SeqCst).count_ones()).sum();
        for _ in 0..waiting.saturating_sub(under_way.into()).min(MOST_CLAIMERS.into()) {
            if !self.wake_one() {
                break;
            }
        }
    }

    /// Wakes the sleeping claimer with the lowest number; false if none sleeps.
    pub(crate) fn wake_one(&self) -> bool {
        for i in self.words() {
            // Bounded, for a worker could set bits as fast as they are cleared.
            for _ in 0..64 {
                let parked = self.layout.parked(i).load(Ordering::SeqCst);
                if parked == 0 {
                    break;
                }
                if self.wake(i, parked & parked.wrapping_neg()) {
                    return true;
                }
            }
        }
        false
    }

    /// `woken` is set first and taken back when somebody else was faster: set later, it could stay behind on a
    /// claimer that woke by itself meanwhile, and count as somebody who is about to look.
    fn wake(&self, i: usize, bit: u64) -> bool {
        self.layout.woken(i).fetch_or(bit, Ordering::SeqCst);
        if self.layout.parked(i).fetch_and(!bit, Ordering::SeqCst) & bit == 0 {
            self.layout.woken(i).fetch_and(!bit, Ordering::SeqCst);
            return false;
        }
        let word = self.layout.claimer_word(i as u16 * 64 + bit.trailing_zeros() as u16);
        word.fetch_add(1, Ordering::SeqCst);
        futex::wake(word);
        true
    }
}
