//! Leaving the terminal. The program starts itself again in a session of its own and the first one ends: a fork
//! would leave the mold behind as somebody else's child.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
