//! Open log files: one for each name and process, whoever writes to it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use crate::sink::{Batch, Change, Sink};

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Standard output; gunicorn's `-`.
    Stdout,
    /// Standard error: descriptor 2, wherever it points when the log is opened.
    Stderr,
    /// A file, appended to and made with mode 0644 (less the umask).
    File(PathBuf),
}

impl Target {
    /// What a path of nginx's language means: `/dev/stdout` and `/dev/stderr` are the streams themselves, since
    /// their names cannot be opened when they are sockets.
    pub fn path(path: &Path) -> Self {
        match path.to_str() {
            Some("/dev/stdout") => Self::Stdout,
            Some("/dev/stderr") => Self::Stderr,
            _ => Self::File(path.to_owned()),
        }
    }
}

impl From<&OsStr> for Target {
    /// The value of gunicorn's `accesslog`.
    fn from(text: &OsStr) -> Self {
        if text == "-" { Self::Stdout } else { Self::File(text.into()) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::Stderr => f.write_str("standard error"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// A log that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{log}: {source}")]
pub struct OpenError {
    /// The file or server.
    pub log: String,
    /// What open(2) says.
    pub source: io::Error,
}

/// Opens every log file of this process again by its name (after logrotate has moved them), whatever it is used
/// for. Lines that still wait go to the new file. Streams stay. Returns those that could not be opened, which
/// stay as they are.
pub fn reopen() -> Vec<OpenError> {
    let files: Vec<_> = registry().values().filter_map(Weak::upgrade).collect();
    files
        .into_iter()
        .filter_map(|file| {
            file.reopen().err().map(|source| OpenError { log: file.target.to_string(), source })
        })
        .collect()
}

/// An open file with what waits to be written to it. All writers of a process share it, so that no line is torn.
#[derive(Debug)]
pub(crate) struct LogFile {
    target: Target,
    sink: Mutex<Sink>,
}

impl LogFile {
    /// The open file of this name, opened if it is not yet.
    pub(crate) fn open(target: Target) -> io::Result<Arc<Self>> {
        let mut registry = registry();
        if let Some(file) = registry.get(&target).and_then(Weak::upgrade) {
            return Ok(file);
        }
        let file = Self::with_file(open(&target)?, target.clone());
        registry.retain(|_, file| file.strong_count() > 0);
        registry.insert(target, Arc::downgrade(&file));
        Ok(file)
    }

    /// Opens it for the caller alone: [`reopen`] does not know of it.
    pub(crate) fn open_alone(target: Target) -> io::Result<Arc<Self>> {
        Ok(Self::with_file(open(&target)?, target))
    }

    /// Takes an open file. `target` is for messages, and for [`LogFile::reopen`].
    pub(crate) fn with_file(file: File, target: Target) -> Arc<Self> {
        Arc::new(Self { target, sink: Mutex::new(Sink::new(file)) })
    }

    /// See [`reopen`].
    pub(crate) fn reopen(&self) -> io::Result<()> {
        if matches!(self.target, Target::File(_)) {
            self.reopen_with(open(&self.target)?);
        }
        Ok(())
    }

    /// As [`LogFile::reopen`], with a file that another process has opened.
    pub(crate) fn reopen_with(&self, file: File) {
        self.sink().replace(file);
    }

    /// Lines that were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.sink().lost()
    }

    /// Writes, and says in the error log when that begins or ceases to fail. Not for the error log itself.
    pub(crate) fn write(&self, batch: Batch<'_>) {
        let target = &self.target;
        match self.write_silently(batch) {
            Change::None => {}
            // A disk on the edge of full would change with every batch.
            Change::Failed(why) => crate::error_limited!(
                "access log {target}: {why}; lines are dropped until it can be written again"
            ),
            Change::Recovered(lost) => {
                crate::warning_limited!(
                    "access log {target}: written again; {lost} lines were dropped so far"
                );
            }
        }
    }

    /// Writes.
    pub(crate) fn write_silently(&self, batch: Batch<'_>) -> Change {
        self.sink().accept(batch)
    }

    fn sink(&self) -> MutexGuard<'_, Sink> {
        // A panic while the lock was held leaves at worst half a line.
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn registry() -> MutexGuard<'static, HashMap<Target, Weak<LogFile>>> {
    static REGISTRY: LazyLock<Mutex<HashMap<Target, Weak<LogFile>>>> = LazyLock::new(Mutex::default);
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(target: &Target) -> io::Result<File> {
    match target {
        // A FIFO without a reader is an error: opening it would wait for one.
        Target::File(path) => appending().create(true).mode(0o644).custom_flags(nonblocking()).open(path),
        Target::Stdout => stream(io::stdout().as_fd(), "/proc/self/fd/1"),
        Target::Stderr => stream(io::stderr().as_fd(), "/proc/self/fd/2"),
    }
}

fn stream(stream: BorrowedFd<'_>, path: &str) -> io::Result<File> {
    let duplicate = File::from(stream.try_clone_to_owned()?);
    // A pipe is opened anew, because O_NONBLOCK on the shared open file would be felt by everybody
    // who holds it. Where that is not allowed (another user's pipe), writes to it may block.
    if duplicate.metadata()?.file_type().is_fifo()
        && let Ok(own) = appending().custom_flags(nonblocking()).open(path)
    {
        return Ok(own);
    }
    Ok(duplicate)
}

fn appending() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true);
    options
}

fn nonblocking() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits() as i32
}
