//! Waiting on a word of shared memory.

use std::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// By a wake, or by the word having changed before.
    Look,
    /// By a signal, or by nothing for a second.
    Interrupted,
}

/// Waits until somebody wakes the word, if it still is `observed`; at most a second, as a net under whoever forgets
/// to wake (a peer that died, or that breaks the protocol).
pub(crate) fn wait(word: &AtomicU32, observed: u32) -> Woken {
    let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
    match futex::wait(word, Flags::empty(), observed, Some(&timeout)) {
        Err(Errno::INTR | Errno::TIMEDOUT) => Woken::Interrupted,
        _ => Woken::Look,
    }
}

/// Wakes one waiter of the word, in whatever process.
pub(crate) fn wake(word: &AtomicU32) {
    // It fails only for an address that is not mapped.
    let _ = futex::wake(word, Flags::empty(), 1);
}

/// Nanoseconds of CLOCK_MONOTONIC, the same in every process of the machine.
pub(crate) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
