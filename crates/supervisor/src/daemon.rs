//! Leaving the terminal. The program starts itself again in a session of its own and the first one ends: a fork
//! would leave the mold behind as somebody else's child.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::pipe::PipeFlags;

/// Set for the second start.
pub(crate) const VARIABLE: &str = "MONOCEROS_DAEMON";

/// Whether this is the second start.
pub(crate) fn is_detached(environment: &[(OsString, OsString)]) -> bool {
    environment.iter().any(|(name, _)| name == VARIABLE)
}

/// Starts the program again in the background.
pub(crate) fn detach(arguments: &[OsString], keep_output: bool) -> io::Result<()> {
    let mut command = Command::new(program());
    command.args(arguments.iter().skip(1)).env(VARIABLE, "1").stdin(Stdio::null());
    if !keep_output {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    command.spawn().map(drop)
}

/// Starts the program again in the background, by the name that it was called by, and waits until that one says that
/// it serves. False when it ended before it could; why, it has said itself.
pub(crate) fn detach_and_wait(arguments: &[OsString]) -> io::Result<bool> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let mut command = Command::new(program());
    command
        .arg0(arguments.first().map_or(OsStr::new("nginx"), OsString::as_os_str))
        .args(arguments.iter().skip(1))
        .env(VARIABLE, write.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    sys::spawn(command, &sys::SpawnOptions { keep: &[write.as_fd()], ..Default::default() })?;
    drop(write);
    let mut word = [0];
    Ok(File::from(read).read(&mut word)? == 1)
}

/// Whoever waits for this process to serve: closing it without a word says that it will not.
#[derive(Debug)]
pub(crate) struct Waiting(Option<OwnedFd>);

impl Waiting {
    /// In the second start, as [`detach_and_wait`] has made it.
    pub(crate) fn find(environment: &[(OsString, OsString)]) -> Self {
        let value = environment.iter().find(|(name, _)| name == VARIABLE).and_then(|(_, v)| v.to_str());
        Self(value.and_then(|text| text.parse().ok()).and_then(|fd| sys::inherited_fd(fd).ok()))
    }

    /// Says that it serves.
    pub(crate) fn tell(self) {
        if let Some(fd) = self.0 {
            // One that is gone does not wait.
            let _ = rustix::io::write(&fd, b"1");
        }
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
