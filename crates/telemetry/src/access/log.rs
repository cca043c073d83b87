//! The access log in gunicorn's format: one file for the process, one buffer for each thread.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::AccessEvent;
use super::format::AccessFormat;
use crate::buffer::{Buffer, FLUSH_BYTES};
use crate::file::{LogFile, Target};

/// A thread's buffer is written when its oldest line is this old.
const FLUSH_AFTER: Duration = Duration::from_secs(1);

/// The access log of a process: give each thread a [`AccessLog::writer`].
///
/// Nothing here stops a request: what cannot be written is counted, reported once in the error log, and
/// once more when it works again. A pipe whose reader has stopped gets no blocking write; its lines wait,
/// up to 1 MiB.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessFormat,
    file: Arc<LogFile>,
}

impl AccessLog {
    /// Opens the target.
    ///
    /// # Errors
    /// What open(2) says of the file.
    pub fn open(target: Target, format: AccessFormat) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { format, file: LogFile::open(target)? }))
    }

    /// Takes an open file, for a process that may not open it itself. `target` is for messages, and for
    /// [`AccessLog::reopen`].
    pub fn with_file(file: File, target: Target, format: AccessFormat) -> Arc<Self> {
        Arc::new(Self { format, file: LogFile::with_file(file, target) })
    }

    /// A buffer for the calling thread.
    pub fn writer(self: &Arc<Self>) -> AccessWriter {
        AccessWriter { log: Arc::clone(self), buffer: Buffer::default() }
    }

    /// Opens the file again by its name (after logrotate has moved it). Lines that still wait go to the new
    /// file. Standard output stays.
    ///
    /// # Errors
    /// What open(2) says; the old file stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        self.file.reopen()
    }

    /// As [`AccessLog::reopen`], with a file that another process has opened.
    pub fn reopen_with(&self, file: File) {
        self.file.reopen_with(file);
    }

    /// Lines that were lost so far.
    pub fn lost(&self) -> u64 {
        self.file.lost()
    }
}

/// A thread's end of the access log. Lines it still holds are written when it is dropped.
#[derive(Debug)]
pub struct AccessWriter {
    log: Arc<AccessLog>,
    buffer: Buffer,
}

impl AccessWriter {
    /// Writes the line of a finished request into the buffer, and the buffer into the log when it is full.
    ///
    /// Tells whether it is the first line since [`AccessWriter::flush`], which a loop does when its turn ends.
    pub fn log(&mut self, event: &AccessEvent<'_>, now: Instant) -> bool {
        let is_first = self.buffer.len() == 0;
        self.log.format.render(event, self.buffer.line(now));
        if self.buffer.len() >= FLUSH_BYTES || self.buffer.is_due(now, FLUSH_AFTER) {
            self.flush();
        }
        is_first
    }

    /// When [`AccessWriter::flush`] is due; `None` while the buffer is empty.
    pub fn deadline(&self) -> Option<Instant> {
        self.buffer.oldest().map(|oldest| oldest + FLUSH_AFTER)
    }

    /// Writes the buffer if it is due. For a thread's timer; calling it more often costs nothing.
    pub fn tick(&mut self, now: Instant) {
        if self.buffer.is_due(now, FLUSH_AFTER) {
            self.flush();
        }
    }

    /// Writes the buffer now.
    pub fn flush(&mut self) {
        self.buffer.flush(&self.log.file, None);
    }
}

impl Drop for AccessWriter {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
