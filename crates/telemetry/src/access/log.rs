//! Where access lines go: one sink for the process, one buffer for each thread.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::event::AccessEvent;
use super::format::AccessFormat;

/// A thread's buffer is written when it holds this many bytes.
const FLUSH_BYTES: usize = 32 * 1024;
/// And when its oldest line is this old.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// What a reader that does not read may leave waiting before lines are dropped.
const MOST_WAITING: usize = 1024 * 1024;

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output; gunicorn's `-`.
    Stdout,
    /// A file, appended to and made with mode 0644 (less the umask).
    File(PathBuf),
}

impl From<&OsStr> for Target {
    /// The value of gunicorn's `accesslog`.
    fn from(text: &OsStr) -> Self {
        if text == "-" { Self::Stdout } else { Self::File(text.into()) }
    }
}

/// The access log of a process: give each thread a [`AccessLog::writer`].
///
/// Nothing here stops a request: what cannot be written is counted, reported once in the error log, and
/// once more when it works again. A pipe whose reader has stopped gets no blocking write; its lines wait,
/// up to 1 MiB.
#[derive(Debug)]
pub struct AccessLog {
    target: Target,
    format: AccessFormat,
    sink: Mutex<Sink>,
}

impl AccessLog {
    /// Opens the target.
    ///
    /// # Errors
    /// What open(2) says of the file.
    pub fn open(target: Target, format: AccessFormat) -> io::Result<Arc<Self>> {
        let file = open(&target)?;
        Ok(Self::with_file(file, target, format))
    }

    /// Takes an open file, for a process that may not open it itself. `target` is for messages, and for
    /// [`AccessLog::reopen`].
    pub fn with_file(file: File, target: Target, format: AccessFormat) -> Arc<Self> {
        let sink = Sink { file, waiting: Vec::new(), torn: false, lost: 0, failing: false };
        Arc::new(Self { target, format, sink: Mutex::new(sink) })
    }

    /// A buffer for the calling thread.
    pub fn writer(self: &Arc<Self>) -> AccessWriter {
        AccessWriter { log: Arc::clone(self), lines: Vec::new(), oldest: None }
    }

    /// Opens the file again by its name (after logrotate has moved it). Lines that still wait go to the new
    /// file. Standard output stays.
    ///
    /// # Errors
    /// What open(2) says; the old file stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        if self.target == Target::Stdout {
            return Ok(());
        }
        self.reopen_with(open(&self.target)?);
        Ok(())
    }

    /// As [`AccessLog::reopen`], with a file that another process has opened.
    pub fn reopen_with(&self, file: File) {
        let mut sink = self.sink();
        sink.drain();
        sink.file = file;
        // Half a line stays in the old file; its rest, if any waits, must not begin the new one.
        if std::mem::take(&mut sink.torn)
            && let Some(end) = sink.waiting.iter().position(|&byte| byte == b'\n')
        {
            sink.waiting.drain(..=end);
        }
    }

    /// Lines that were lost so far.
    pub fn lost(&self) -> u64 {
        self.sink().lost
    }

    fn sink(&self) -> std::sync::MutexGuard<'_, Sink> {
        // A panic while the lock was held leaves at worst half a line.
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, lines: &[u8]) {
        let change = self.sink().accept(lines);
        let name = match &self.target {
            Target::Stdout => Path::new("standard output").display(),
            Target::File(path) => path.display(),
        };
        match change {
            Change::None => {}
            Change::Failed(why) => {
                crate::error!("access log {name}: {why}; lines are dropped until it can be written again");
            }
            Change::Recovered(lost) => {
                crate::warning!("access log {name}: written again; {lost} lines were dropped so far");
            }
        }
    }
}

/// A thread's end of the access log. Lines it still holds are written when it is dropped.
#[derive(Debug)]
pub struct AccessWriter {
    log: Arc<AccessLog>,
    lines: Vec<u8>,
    oldest: Option<Instant>,
}

impl AccessWriter {
    /// Writes the line of a finished request into the buffer, and the buffer into the log when it is full.
    pub fn log(&mut self, event: &AccessEvent<'_>, now: Instant) {
        self.log.format.render(event, &mut self.lines);
        let oldest = *self.oldest.get_or_insert(now);
        if self.lines.len() >= FLUSH_BYTES || now.saturating_duration_since(oldest) >= FLUSH_AFTER {
            self.flush();
        }
    }

    /// When [`AccessWriter::flush`] is due; `None` while the buffer is empty.
    pub fn deadline(&self) -> Option<Instant> {
        self.oldest.map(|oldest| oldest + FLUSH_AFTER)
    }

    /// Writes the buffer if it is due. For a thread's timer; calling it more often costs nothing.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline().is_some_and(|due| now >= due) {
            self.flush();
        }
    }

    /// Writes the buffer now.
    pub fn flush(&mut self) {
        self.oldest = None;
        if !self.lines.is_empty() {
            self.log.accept(&self.lines);
            self.lines.clear();
            // One burst of very long lines is no reason to hold their memory for ever.
            self.lines.shrink_to(FLUSH_BYTES * 2);
        }
    }
}

impl Drop for AccessWriter {
    fn drop(&mut self) {
        self.flush();
    }
}

fn open(target: &Target) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true);
    match target {
        Target::File(path) => options.create(true).mode(0o644).open(path),
        Target::Stdout => {
            let duplicate = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            // A pipe is opened anew, because O_NONBLOCK on the shared open file would be felt by everybody
            // who holds it. Where that is not allowed (another user's pipe), writes to it may block.
            if duplicate.metadata()?.file_type().is_fifo() {
                let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
                if let Ok(own) = options.custom_flags(nonblocking).open("/proc/self/fd/1") {
                    return Ok(own);
                }
            }
            Ok(duplicate)
        }
    }
}

#[derive(Debug)]
struct Sink {
    file: File,
    /// Accepted, not written; begins at a line or with the rest of one.
    waiting: Vec<u8>,
    /// The last byte written was not a line end.
    torn: bool,
    lost: u64,
    failing: bool,
}

enum Change {
    None,
    Failed(io::Error),
    Recovered(u64),
}

impl Sink {
    /// Takes whole lines.
    fn accept(&mut self, lines: &[u8]) -> Change {
        let mut why = self.drain();
        // A disk that filled up in the middle of a line: the next line must not stick to that half.
        if why.is_none() && self.torn && self.waiting.is_empty() {
            why = self.write(b"\n");
        }
        if why.is_some() {
            self.lose(lines);
        } else if self.waiting.is_empty() {
            why = self.write(lines);
        } else {
            why = self.keep(lines);
        }
        match why {
            Some(why) if !self.failing => {
                self.failing = true;
                Change::Failed(why)
            }
            None if self.failing && self.waiting.is_empty() => {
                self.failing = false;
                Change::Recovered(self.lost)
            }
            _ => Change::None,
        }
    }

    /// Writes what waits, as far as it goes.
    fn drain(&mut self) -> Option<io::Error> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() { None } else { self.write(&waiting) }
    }

    fn write(&mut self, mut lines: &[u8]) -> Option<io::Error> {
        while !lines.is_empty() {
            match self.file.write(lines) {
                Ok(0) => return Some(self.fail(lines, ErrorKind::WriteZero.into())),
                Ok(written) => {
                    let (done, rest) = lines.split_at(written.min(lines.len()));
                    self.torn = done.last() != Some(&b'\n');
                    lines = rest;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.keep(lines),
                Err(error) => return Some(self.fail(lines, error)),
            }
        }
        None
    }

    fn fail(&mut self, lines: &[u8], error: io::Error) -> io::Error {
        if lines != b"\n" {
            self.lose(lines);
        }
        error
    }

    fn keep(&mut self, lines: &[u8]) -> Option<io::Error> {
        let room = MOST_WAITING.saturating_sub(self.waiting.len());
        // Only whole lines; the first may be the rest of one that is half out already.
        let fits = match lines.get(..room) {
            None => lines.len(),
            Some(head) => head.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1),
        };
        self.waiting.extend_from_slice(&lines[..fits]);
        self.lose(&lines[fits..]);
        (fits < lines.len()).then(|| io::Error::new(ErrorKind::WouldBlock, "its reader does not read"))
    }

    fn lose(&mut self, lines: &[u8]) {
        self.lost += lines.split(|&byte| byte == b'\n').count() as u64 - 1;
    }
}

#[cfg(test)]
mod tests;
