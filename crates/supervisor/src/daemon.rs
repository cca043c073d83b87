//! Leaving the terminal. The program starts itself again in a session of its own and the first one ends: a fork
//! would leave the mold behind as somebody else's child.

use std::ffi::OsString;
use std::io;
use std::process::{Command, Stdio};

/// Set for the second start.
pub(crate) const VARIABLE: &str = "MONOCEROS_DAEMON";

/// Whether this is the second start.
pub(crate) fn is_detached(environment: &[(OsString, OsString)]) -> bool {
    environment.iter().any(|(name, _)| name == VARIABLE)
}

/// Starts the program again in the background.
pub(crate) fn detach(arguments: &[OsString], keep_output: bool) -> io::Result<()> {
    // A deleted or replaced file would not be found by its name.
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments.iter().skip(1)).env(VARIABLE, "1").stdin(Stdio::null());
    if !keep_output {
        command.stdout(Stdio::null()).stderr(Stdio::null());
    }
    command.spawn().map(drop)
}

/// In the second start: a session of its own, so that no terminal reaches it.
pub(crate) fn settle() {
    // An error says that it leads a session already.
    let _ = rustix::process::setsid();
}
