//! Signals with who has sent them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::{Pid, getpid};

/// Bytes of one that is told: the signal's number and its sender's, both i32 of this machine.
pub const SIGNAL_BYTES: usize = 8;

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

/// A signal's number and its sender's.
pub fn signal_told(bytes: [u8; SIGNAL_BYTES]) -> (i32, i32) {
    let both = u64::from_ne_bytes(bytes);
    ((both & 0xffff_ffff) as i32, (both >> 32) as i32)
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
    let both = u64::from(signal as u32) | u64::from(sender as u32) << 32;
    let bytes = both.to_ne_bytes();
    // SAFETY: errno is the thread's own, and what is interrupted may be about to look at it. `write` may be called in
    // a handler; the descriptor is open for ever, the bytes live until it returns.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
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
    fn a_signal_comes_with_its_sender() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        tell_senders(&[libc::SIGURG, libc::SIGWINCH], theirs.into()).unwrap();
        let myself = getpid().as_raw_nonzero().get();
        signal_hook::low_level::raise(libc::SIGURG).unwrap();
        rustix::process::kill_process(getpid(), rustix::process::Signal::WINCH).unwrap();
        let mut told = [(0, 0); 2];
        for one in &mut told {
            let mut bytes = [0; SIGNAL_BYTES];
            ours.read_exact(&mut bytes).unwrap();
            *one = signal_told(bytes);
        }
        assert_eq!(told, [(libc::SIGURG, myself), (libc::SIGWINCH, myself)]);
    }
}
