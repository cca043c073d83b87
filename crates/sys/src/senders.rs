//! Signals with who has sent them, and when.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, getpid};

/// Bytes of one that is told: the signal's number and its sender's, both i32 of this machine, and the nanoseconds of its
/// monotonic clock as u64.
pub const SIGNAL_BYTES: usize = 16;

/// Where the handlers write, for the life of the process.
static TARGET: OnceLock<OwnedFd> = OnceLock::new();
/// The process that wants to know. A fork of it has its handlers, too, until it sets its own.
static OWNER: AtomicI32 = AtomicI32::new(0);

/// From now on each of these signals is written to `target`, which must not block, in [`SIGNAL_BYTES`]. The sender is a
/// process, or 0: the kernel, or one that has no number here. What finds no room is lost.
///
/// Only one call of a process has an effect on where they are written.
pub fn tell_senders(signals: &[i32], target: OwnedFd) -> io::Result<()> {
    let _ = TARGET.set(target);
    OWNER.store(getpid().as_raw_nonzero().get(), Ordering::Relaxed);
    for &signal in signals {
        // SAFETY: a zeroed sigaction is a valid one to fill in; `tell` is what SA_SIGINFO wants, and calls nothing but
        // what may be called in a handler.
        let set = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = tell as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        if set < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A signal that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its number.
    pub signal: i32,
    /// Who has sent it: a process, or 0.
    pub sender: i32,
    /// When it reached this process, however late it is read: by the clock that all processes of a machine share.
    pub at: Duration,
}

impl Told {
    /// What a handler has written.
    pub fn read(bytes: [u8; SIGNAL_BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        let both = word(0);
        Self {
            signal: (both & 0xffff_ffff) as i32,
            sender: (both >> 32) as i32,
            at: Duration::from_nanos(word(8)),
        }
    }
}

extern "C" fn tell(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let Some(target) = TARGET.get() else { return };
    if Some(getpid()) != Pid::from_raw(OWNER.load(Ordering::Relaxed)) {
        return;
    }
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid one.
    let info = unsafe { &*info };
    // Where the kernel has sent it, there is no sender in it (sigaction(2): SI_USER, SI_QUEUE and SI_TKILL have one).
    let sender = if matches!(info.si_code, libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL) {
        // SAFETY: as said.
        unsafe { info.si_pid() }
    } else {
        0
    };
    let mut bytes = [0; SIGNAL_BYTES];
    let both = u64::from(signal as u32) | u64::from(sender as u32) << 32;
    bytes[..8].copy_from_slice(&both.to_ne_bytes());
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: errno is the thread's own, and what is interrupted may be about to look at it. `clock_gettime` and `write`
    // may be called in a handler; `now` is theirs to fill in, the descriptor is open for ever, the bytes live until it
    // returns.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now);
        let at = (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64);
        bytes[8..].copy_from_slice(&at.to_ne_bytes());
        libc::write(target.as_fd().as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
        *errno = before;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_signal_comes_with_its_sender_and_its_time() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        tell_senders(&[libc::SIGURG, libc::SIGWINCH], theirs.into()).unwrap();
        let myself = getpid().as_raw_nonzero().get();
        signal_hook::low_level::raise(libc::SIGURG).unwrap();
        rustix::process::kill_process(getpid(), rustix::process::Signal::WINCH).unwrap();
        let told = [(); 2].map(|()| {
            let mut bytes = [0; SIGNAL_BYTES];
            ours.read_exact(&mut bytes).unwrap();
            Told::read(bytes)
        });
        assert_eq!(
            told.map(|told| (told.signal, told.sender)),
            [(libc::SIGURG, myself), (libc::SIGWINCH, myself)]
        );
        let clock =
            || Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic)).unwrap();
        assert!(told[0].at <= told[1].at && told[1].at <= clock());
        assert!(told[0].at + Duration::from_secs(60) > clock());
    }
}
