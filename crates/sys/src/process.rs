//! Processes: starting them, what they may do, what they are told by signals.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::Mode;

/// How a child differs from what `Command` says.
#[derive(Debug, Default)]
pub struct SpawnOptions<'a> {
    /// Descriptors that stay open in the child, under the same number.
    pub keep: &'a [BorrowedFd<'a>],
    /// The signal that the child gets when the *thread* that started it ends.
    pub death_signal: Option<i32>,
    /// Makes the child the leader of a process group of its own, so that a terminal's signals do not reach it.
    pub new_process_group: bool,
    /// Orders wait until the child lets them in. One that has not come so far as to say what they mean to it would end
    /// by them, or tell of them in its own way.
    pub holds_orders: bool,
}

/// Starts a child. It begins with no signal blocked but those of [`SpawnOptions::holds_orders`].
pub fn spawn(mut command: Command, options: &SpawnOptions<'_>) -> io::Result<Child> {
    let keep: Vec<RawFd> = options.keep.iter().map(AsRawFd::as_raw_fd).collect();
    let death_signal = options.death_signal;
    let held: &[libc::c_int] = if options.holds_orders { &ORDERS } else { &[] };
    if options.new_process_group {
        command.process_group(0);
    }
    let parent = rustix::process::getpid().as_raw_nonzero().get();
    let before_exec = move || {
        for &fd in &keep {
            // SAFETY: fcntl is async-signal-safe; the descriptor is open, for the caller borrows it over the fork.
            if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        if let Some(signal) = death_signal {
            // SAFETY: prctl and getppid are plain system calls.
            let (set, now) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, signal), libc::getppid()) };
            if set < 0 {
                return Err(io::Error::last_os_error());
            }
            if now != parent {
                // It died between the fork and here: nobody would send the signal.
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
        // SAFETY: a zeroed set is a valid place for sigemptyset; all calls are async-signal-safe.
        unsafe {
            let mut mask: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut mask);
            for &signal in held {
                libc::sigaddset(&raw mut mask, signal);
            }
            libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: the closure calls only async-signal-safe functions and allocates nothing.
    unsafe { command.pre_exec(before_exec) };
    command.spawn()
}

/// Who a process becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Numeric user.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Whose supplementary groups to take on; without one there are none.
    pub user: Option<CString>,
}

/// Makes a write past the limit on file sizes the error EFBIG, and not the end of the process by SIGXFSZ.
pub fn ignore_file_size_signal() {
    // SAFETY: the disposition runs no code of ours. It can't fail: the signal exists and may be ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// The signals by which a master is told what to do.
const ORDERS: [libc::c_int; 9] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Leaves the signals that are orders to the master. Whoever sends them to all processes of a service, as systemd does
/// with its default `KillMode`, or a terminal, reaches it as well, and it says what is to happen.
pub fn ignore_orders() {
    for signal in ORDERS {
        // SAFETY: the disposition runs no code of ours. It can't fail: the signals exist and may be ignored.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Becomes somebody else, in every thread and for good: groups first, then the group, then the user.
///
/// Fails where the process lacks the right to, and where the old user could still be had back.
pub fn drop_privileges(identity: &Identity) -> io::Result<()> {
    let check = |result: libc::c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: plain calls with numbers and a valid C string; the C library applies them to all threads.
    unsafe {
        if libc::geteuid() == 0 {
            match &identity.user {
                Some(user) => check(libc::initgroups(user.as_ptr(), identity.gid))?,
                None => check(libc::setgroups(0, std::ptr::null()))?,
            }
        }
        check(libc::setresgid(identity.gid, identity.gid, identity.gid))?;
        check(libc::setresuid(identity.uid, identity.uid, identity.uid))?;
        if identity.uid != 0 && libc::setuid(0) == 0 {
            return Err(io::Error::other("the privileges could be had back"));
        }
    }
    Ok(())
}

/// As [`drop_privileges`], but the right to raw sockets stays, and with it that to connect from addresses of others
/// (`IP_TRANSPARENT`). Only for this thread and those that it starts.
pub fn drop_privileges_but_raw_sockets(identity: &Identity) -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities};
    set_keep_capabilities(true)?;
    drop_privileges(identity)?;
    let (only, none) = (CapabilitySet::NET_RAW, CapabilitySet::empty());
    set_capabilities(None, CapabilitySets { effective: only, permitted: only, inheritable: none })?;
    set_keep_capabilities(false)?;
    Ok(())
}

/// Whether this thread may connect from addresses of others.
pub fn may_bind_transparently() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    let enough = CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN;
    capabilities(None).is_ok_and(|sets| sets.effective.intersects(enough))
}

/// Sets the file mode creation mask of the process and returns the one before.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(Mode::from_bits_truncate(mask)).bits()
}

/// Makes this process the parent of every orphan among its descendants.
pub fn set_child_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Whether this thread leaves a processor that another has, when it wakes, until that one's turn is over (`SCHED_BATCH`),
/// or takes it (`SCHED_OTHER`, sched(7)). A thread that somebody gave another policy keeps it: `Unsupported`.
pub fn set_patient(patient: bool) -> io::Result<()> {
    // SAFETY: plain calls; the zeroed parameter is the only one that these policies take, and lives through the call.
    unsafe {
        match libc::sched_getscheduler(0) {
            -1 => return Err(io::Error::last_os_error()),
            libc::SCHED_OTHER | libc::SCHED_BATCH => {}
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        let policy = if patient { libc::SCHED_BATCH } else { libc::SCHED_OTHER };
        let parameter: libc::sched_param = std::mem::zeroed();
        if libc::sched_setscheduler(0, policy, &raw const parameter) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Has `signal` store `value` in `flag` for as long as the process lives, besides other actions registered for it.
pub fn on_signal_store(signal: i32, flag: Arc<AtomicU32>, value: u32) -> io::Result<()> {
    // SAFETY: the action is one atomic store.
    unsafe { signal_hook::low_level::register(signal, move || flag.store(value, Ordering::SeqCst))? };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn only_what_is_kept_is_open_in_a_child() {
        let (read, write) = io::pipe().unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!(
            "echo kept >&{}; [ ! -e /proc/self/fd/{} ]",
            write.as_raw_fd(),
            read.as_raw_fd()
        ));
        let options = SpawnOptions {
            keep: &[write.as_fd()],
            death_signal: Some(libc::SIGKILL),
            new_process_group: true,
            ..SpawnOptions::default()
        };
        let mut child = spawn(command, &options).unwrap();
        assert_eq!(child.wait().unwrap().into_raw(), 0);
        drop(write);
        let mut text = String::new();
        { read }.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept\n");
    }

    #[test]
    fn orders_wait_for_a_child_that_holds_them() {
        let blocked = |holds_orders| {
            let mut command = Command::new("grep");
            command.arg("SigBlk").arg("/proc/self/status").stdout(Stdio::piped());
            let child = spawn(command, &SpawnOptions { holds_orders, ..SpawnOptions::default() }).unwrap();
            let output = child.wait_with_output().unwrap();
            u64::from_str_radix(
                str::from_utf8(&output.stdout).unwrap().split_whitespace().nth(1).unwrap(),
                16,
            )
        };
        assert_eq!(blocked(false), Ok(0));
        let all = ORDERS.iter().fold(0, |mask, signal| mask | 1_u64 << (signal - 1));
        assert_eq!(blocked(true), Ok(all));
    }

    #[test]
    fn a_thread_is_patient_and_no_longer() {
        // SAFETY: a plain call.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        std::thread::spawn(move || {
            set_patient(true).unwrap();
            assert_eq!(policy(), libc::SCHED_BATCH);
            set_patient(false).unwrap();
            assert_eq!(policy(), libc::SCHED_OTHER);
            // SAFETY: a plain call; the parameter lives through it.
            unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &std::mem::zeroed()) };
            assert_eq!(set_patient(true).unwrap_err().kind(), io::ErrorKind::Unsupported);
            assert_eq!(policy(), libc::SCHED_IDLE);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_signal_stores() {
        let flag = Arc::new(AtomicU32::new(0));
        on_signal_store(libc::SIGUSR2, Arc::clone(&flag), 7).unwrap();
        signal_hook::low_level::raise(libc::SIGUSR2).unwrap();
        assert_eq!(flag.load(Ordering::SeqCst), 7);
    }
}
