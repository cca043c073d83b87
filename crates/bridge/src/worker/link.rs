//! The connection of a worker to the edge.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use sys::SharedRegion;

use super::claimer::Claimer;
use crate::futex;
use crate::layout::{Layout, MOST_CLAIMERS};
use crate::message;

/// Why a worker has no connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The edge is gone, or ended the conversation.
    #[error("the edge closed the worker's socket")]
    Gone,
    /// The two are not of the same make.
    #[error("the edge speaks another version of the bridge's protocol")]
    Mismatch,
    /// There is no claimer of this number.
    #[error("the worker has only {0} claimers")]
    NoSuchClaimer(u16),
    /// The system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How the conversation with the edge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The edge has asked the worker to finish before it closed the socket.
    Stopped,
    /// The edge is gone without a word: nobody waits for an answer.
    Gone,
}

/// What the threads of a worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) layout: Layout,
    eventfds: Vec<OwnedFd>,
    pub(crate) socket: OwnedFd,
    first: u16,
    count: u16,
    /// Claim no more.
    stop: AtomicBool,
    /// The edge is gone.
    gone: AtomicBool,
    /// Bodies that have arrived for whoever asked for them.
    bodies: Mutex<HashMap<(u16, u64), OwnedFd>>,
    arrived: Condvar,
    purges: Mutex<Purges>,
    purged: Condvar,
}

/// Purges that were asked for and not answered yet, and answers that nobody has taken yet.
#[derive(Debug, Default)]
struct Purges {
    last: u32,
    answers: HashMap<u32, Option<u32>>,
}

/// A worker's connection to the edge, after the handshake.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
}

impl Link {
    /// Shakes hands: says who this is and how many threads will claim, and maps what the edge sends. Blocks.
    pub fn connect(socket: OwnedFd, pid: u32, claimers: u32) -> Result<Self, LinkError> {
        let count = u16::try_from(claimers).ok().filter(|count| (1..=MOST_CLAIMERS).contains(count));
        let count = count.ok_or(LinkError::NoSuchClaimer(MOST_CLAIMERS))?;
        sys::set_nonblocking(&socket, false)?;
        message::send(&socket, message::HELLO, &[message::VERSION, pid, claimers], &[])?;
        let packet = message::recv(&socket)?.ok_or(LinkError::Gone)?;
        if packet.kind != message::WELCOME {
            return Err(LinkError::Mismatch);
        }
        let [first] = packet.words()?;
        let first = u16::try_from(first).map_err(|_| LinkError::Mismatch)?;
        if first.checked_add(count).is_none_or(|end| end > MOST_CLAIMERS) {
            return Err(LinkError::Mismatch);
        }
        let mut fds = packet.fds.into_iter();
        let memfd = File::from(fds.next().ok_or(LinkError::Mismatch)?);
        let eventfds: Vec<OwnedFd> = fds.collect();
        let length = usize::try_from(memfd.metadata()?.len()).map_err(|_| LinkError::Mismatch)?;
        let layout = Layout::open(SharedRegion::map(&memfd, length)?).ok_or(LinkError::Mismatch)?;
        if eventfds.len() != usize::from(layout.threads) {
            return Err(LinkError::Mismatch);
        }
        for claimer in first..first + count {
            layout.claimer_pid(claimer).store(pid, Ordering::Relaxed);
        }
        let shared = Shared {
            layout,
            eventfds,
            socket,
            first,
            count,
            stop: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            bodies: Mutex::default(),
            arrived: Condvar::new(),
            purges: Mutex::default(),
            purged: Condvar::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Tells the edge that the worker has booted.
    pub fn ready(&self) -> io::Result<()> {
        message::send(&self.shared.socket, message::READY, &[], &[])
    }

    /// Listens to the edge until it is gone: hands out request bodies, and when asked to stop has every thread finish
    /// what it runs. Blocks: for a thread of its own.
    pub fn run_control(&self) -> Ended {
        let shared = &self.shared;
        let mut ended = Ended::Gone;
        loop {
            let Ok(Some(packet)) = message::recv(&shared.socket) else { break };
            match packet.kind {
                message::STOP => {
                    ended = Ended::Stopped;
                    shared.request_stop();
                }
                message::BODY => {
                    let Ok(slot) = packet.slot() else { break };
                    let Ok(fd) = packet.fd() else { break };
                    shared.deliver(slot, fd);
                }
                message::PURGED => {
                    let Ok([number, removed]) = packet.words() else { break };
                    shared.deliver_purge(number, removed);
                }
                _ => break,
            }
        }
        shared.edge_is_gone();
        ended
    }

    /// Removes from the edge's caches what carries one of these tags (spaces between, [`Link::MOST_TAGS`] bytes at most),
    /// and tells how much that was. Blocks, while [`Link::run_control`] listens.
    pub fn purge(&self, tags: &[u8]) -> io::Result<u32> {
        let shared = &self.shared;
        if tags.len() > Self::MOST_TAGS {
            return Err(message::invalid());
        }
        let lock = || shared.purges.lock().unwrap_or_else(PoisonError::into_inner);
        let number = {
            let mut purges = lock();
            purges.last = purges.last.wrapping_add(1);
            let number = purges.last;
            purges.answers.insert(number, None);
            number
        };
        let sent = message::send_text(&shared.socket, message::PURGE, number, tags);
        let mut purges = lock();
        loop {
            match purges.answers.get(&number).copied().flatten() {
                Some(removed) => {
                    purges.answers.remove(&number);
                    return Ok(removed);
                }
                None if sent.is_err() || shared.is_gone() => {
                    purges.answers.remove(&number);
                    return Err(sent.err().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()));
                }
                None => {}
            }
            let wait = shared.purged.wait_timeout(purges, Duration::from_millis(250));
            purges = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Bytes of tags that one [`Link::purge`] takes.
    pub const MOST_TAGS: usize = message::TAGS;

    /// The claimer of this number, from 0; for one thread at a time.
    pub fn claimer(&self, number: usize) -> Result<Claimer, LinkError> {
        let number = u16::try_from(number).ok().filter(|&number| number < self.shared.count);
        let number = number.ok_or(LinkError::NoSuchClaimer(self.shared.count))?;
        Ok(Claimer::new(Arc::clone(&self.shared), self.shared.first + number))
    }

    /// For whoever wants the worker to end.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle { shared: Arc::clone(&self.shared) }
    }
}

/// Asks the threads of a worker to take no more requests.
#[derive(Debug, Clone)]
pub struct StopHandle {
    shared: Arc<Shared>,
}

impl StopHandle {
    /// May be called in a signal handler: it only stores and makes system calls.
    pub fn request_stop(&self) {
        self.shared.request_stop();
    }
}

impl Shared {
    fn request_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        for claimer in self.first..self.first + self.count {
            let word = self.layout.claimer_word(claimer);
            word.fetch_add(1, Ordering::SeqCst);
            futex::wake(word);
        }
    }

    fn edge_is_gone(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.request_stop();
        // Whoever waits for room in a ring looks once a second.
        let _bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        self.arrived.notify_all();
    }

    pub(crate) fn is_stopped(&self, claimer: u16) -> bool {
        self.stop.load(Ordering::SeqCst) || self.layout.claimer_stop(claimer).load(Ordering::SeqCst) != 0
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Tells the edge thread of a slot that there is something to read in it.
    pub(crate) fn ring(&self, slot: u16) {
        let thread = slot / self.layout.slots_per_thread;
        let local = slot % self.layout.slots_per_thread;
        self.layout.dirty(thread, usize::from(local / 64)).fetch_or(1 << (local % 64), Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let sleeping = self.layout.sleeping(thread);
        if sleeping.load(Ordering::SeqCst) != 0 && sleeping.swap(0, Ordering::SeqCst) != 0 {
            // It can only fail by being full of unread rings.
            let _ = rustix::io::write(&self.eventfds[usize::from(thread)], &1_u64.to_ne_bytes());
        }
    }

    fn deliver_purge(&self, number: u32, removed: u32) {
        let mut purges = self.purges.lock().unwrap_or_else(PoisonError::into_inner);
        // An answer that nobody waits for is none.
        if let Some(answer) = purges.answers.get_mut(&number) {
            *answer = Some(removed);
        }
        drop(purges);
        self.purged.notify_all();
    }

    fn deliver(&self, slot: (u16, u64), fd: OwnedFd) {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).insert(slot, fd);
        self.arrived.notify_all();
    }

    /// Asks for the body of a request and waits for it; `None` when the edge is gone or nobody wants the answer.
    pub(crate) fn fetch_body(&self, slot: (u16, u64), cancelled: impl Fn() -> bool) -> Option<OwnedFd> {
        message::send_slot(&self.socket, message::GIVE, slot, &[]).ok()?;
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(fd) = bodies.remove(&slot) {
                return Some(fd);
            }
            if self.is_gone() || cancelled() {
                return None;
            }
            let wait = self.arrived.wait_timeout(bodies, Duration::from_millis(250));
            bodies = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Forgets a body that came too late for its request.
    pub(crate) fn forget_body(&self, slot: (u16, u64)) {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).remove(&slot);
    }

    pub(crate) fn send_file(&self, slot: (u16, u64), file: BorrowedFd<'_>) -> io::Result<()> {
        message::send_slot(self.socket.as_fd(), message::FILE, slot, &[file])
    }
}
