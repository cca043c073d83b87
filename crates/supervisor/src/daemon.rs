//! Leaving the terminal. The program starts itself again in a session of its own and the first one ends: a fork
//! would leave the mold behind as somebody else's child.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};

use crate::signals::Signals;

/// Bytes of a log that are shown on the terminal.
const MOST_SHOWN: u64 = 64 * 1024;

/// Set for the second start: the descriptor on which it says that it serves.
pub(crate) const VARIABLE: &str = "MONOCEROS_DAEMON";

/// Whether this is the second start.
pub(crate) fn is_detached(environment: &[(OsString, OsString)]) -> bool {
    environment.iter().any(|(name, _)| name == VARIABLE)
}

/// How the second start went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Started {
    /// It serves.
    Serves,
    /// It ended before it could, with this code.
    Ended(u8),
    /// It is neither ready nor at its end, and goes on: its pid.
    Pending(u32),
}

/// Starts the program again in the background, by the name that it was called by, and waits until that one says that
/// it serves, at most as long as `most`. Until then it has this terminal to say on what is wrong. An order to end is
/// passed on.
pub(crate) fn detach_and_wait(
    arguments: &[OsString],
    keep_output: bool,
    signals: &Signals,
    most: Option<Duration>,
) -> io::Result<Started> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let mut command = Command::new(program());
    command
        .arg0(arguments.first().map_or(OsStr::new("monoceros"), OsString::as_os_str))
        .args(arguments.iter().skip(1))
        .env(VARIABLE, write.as_raw_fd().to_string())
        .stdin(Stdio::null());
    if !keep_output {
        command.stdout(Stdio::null());
    }
    let mut child = sys::spawn(command, &sys::SpawnOptions { keep: &[write.as_fd()], ..Default::default() })?;
    drop(write);
    let until = most.map(|most| Instant::now() + most);
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if signals.told_to_end(Some(read.as_fd()), left).is_some() {
            let _ = rustix::process::kill_process(Pid::from_child(&child), Signal::TERM);
            break;
        }
        if is_readable(&read) {
            let mut word = [0];
            if rustix::io::read(&read, &mut word)? == 1 {
                return Ok(Started::Serves);
            }
            break;
        }
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(Started::Pending(child.id()));
        }
    }
    let status = child.wait()?;
    // Whoever ended well before it served was told to.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
    Ok(Started::Ended(code.unwrap_or(1)))
}

fn is_readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|count| count > 0)
}

/// What a log has now, so that what a start adds to it can be shown.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    length: u64,
}

impl Mark {
    pub(crate) fn set(path: PathBuf) -> Self {
        let length = fs::metadata(&path).map_or(0, |m| if m.is_file() { m.len() } else { u64::MAX });
        Self { path, length }
    }

    /// What was added since, and where.
    pub(crate) fn show(&self, name: &str) {
        let mut added = vec![];
        let read = File::open(&self.path).and_then(|mut log| {
            log.seek(SeekFrom::Start(self.length))?;
            log.take(MOST_SHOWN).read_to_end(&mut added)
        });
        if self.length != u64::MAX && read.is_ok() && !added.is_empty() {
            eprint!(
                "{name}: the start failed; {} says:\n{}",
                self.path.display(),
                String::from_utf8_lossy(&added)
            );
        }
    }
}

/// Whoever waits for this process to serve: closing it without a word says that it will not.
#[derive(Debug)]
pub(crate) struct Waiting(OwnedFd);

impl Waiting {
    /// In the second start, as [`detach_and_wait`] has made it.
    pub(crate) fn find(environment: &[(OsString, OsString)]) -> Option<Self> {
        let value = environment.iter().find(|(name, _)| name == VARIABLE).and_then(|(_, v)| v.to_str())?;
        sys::inherited_fd(value.parse().ok()?).ok().map(Self)
    }

    /// Says that it serves.
    pub(crate) fn tell(self) {
        // One that is gone does not wait.
        let _ = rustix::io::write(&self.0, b"1");
    }
}

/// This program's file: by its name, so that `ps` shows it, while that is still the file that runs; after it was
/// replaced or deleted by the kernel's link to it.
pub(crate) fn program() -> PathBuf {
    let link = PathBuf::from("/proc/self/exe");
    let same = |a: &Path, b: &Path| match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    };
    std::env::current_exe().ok().filter(|named| same(named, &link)).unwrap_or(link)
}

/// In the second start: a session of its own, so that no terminal reaches it.
pub(crate) fn settle() {
    // An error says that it leads a session already.
    let _ = rustix::process::setsid();
}
