//! An event loop's end of the access logs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use config::model::http::{LogFormat, SettingsId, Value, Variable};

use super::logs::{AccessLogs, Entry, To};
use super::path::{OpenFiles, Refused};
use super::{Lookup, Way, evaluate, log_format, path};
use crate::buffer::Buffer;
use crate::clock;

/// Writes the lines of one event loop. What it still holds is written when it is dropped.
///
/// Lines without `buffer=` appear with the next [`AccessLogsWriter::write`], which [`AccessLogsWriter::log`] asks for.
#[derive(Debug)]
pub struct AccessLogsWriter {
    logs: Arc<AccessLogs>,
    buffers: Buffers,
    generation: u64,
}

impl AccessLogsWriter {
    pub(super) fn new(logs: Arc<AccessLogs>) -> Self {
        let files = logs.files.iter().map(|_| Buffer::default()).collect();
        let buffers = Buffers { files, ..Buffers::default() };
        Self { buffers, generation: logs.generation(), logs }
    }

    /// The logs that it writes to.
    pub fn logs(&self) -> &Arc<AccessLogs> {
        &self.logs
    }

    /// nginx's log phase: one line for each log that holds with these settings and whose `if=` is fulfilled.
    ///
    /// Tells whether there are lines now that want [`AccessLogsWriter::write`], or a sooner [`AccessLogsWriter::tick`]
    /// than was due; of many between two such calls only the first tells so.
    pub fn log(
        &mut self,
        settings: SettingsId,
        now: Instant,
        way: Option<&dyn Way>,
        lookup: &mut Lookup<'_>,
    ) -> bool {
        let (knew, due) = (!self.buffers.waiting.is_empty(), self.buffers.due);
        for entry in self.logs.entries(settings).unwrap_or_default() {
            if entry.condition.as_ref().is_none_or(|condition| self.buffers.holds(condition, lookup)) {
                self.buffers.line(&self.logs, entry, (now, way), lookup);
            }
        }
        (!knew && !self.buffers.waiting.is_empty()) || self.buffers.due != due
    }

    /// Writes the lines of logs without `buffer=`. For the end of an event loop's turn, so that many lines are one
    /// write.
    pub fn write(&mut self) {
        for index in self.buffers.waiting.drain(..) {
            let (buffer, open) = (&mut self.buffers.files[index], &self.logs.files[index]);
            buffer.flush(&open.file, open.batching.gzip);
        }
    }

    /// When [`AccessLogsWriter::tick`] is due for `flush=`; `None` while nothing waits for that.
    pub fn deadline(&self) -> Option<Instant> {
        self.buffers.due
    }

    /// Writes what `flush=` says is due, and everything when the logs are opened again. Calling it more often costs
    /// little.
    pub fn tick(&mut self, now: Instant) {
        let generation = self.logs.generation();
        if generation != self.generation {
            self.generation = generation;
            self.flush();
            return;
        }
        if self.buffers.due.is_some_and(|due| due <= now) {
            self.buffers.due = None;
            for (buffer, open) in self.buffers.files.iter_mut().zip(&self.logs.files) {
                let Some(after) = open.batching.after.filter(|after| !after.is_zero()) else { continue };
                if buffer.is_due(now, after) {
                    buffer.flush(&open.file, open.batching.gzip);
                } else if let Some(oldest) = buffer.oldest() {
                    let due = oldest + after;
                    self.buffers.due = Some(self.buffers.due.map_or(due, |sooner| sooner.min(due)));
                }
            }
        }
        self.logs.caches.iter().for_each(|cache| cache.expire(now));
    }

    /// Writes everything now.
    pub fn flush(&mut self) {
        for (buffer, open) in self.buffers.files.iter_mut().zip(&self.logs.files) {
            buffer.flush(&open.file, open.batching.gzip);
        }
        self.buffers.waiting.clear();
        self.buffers.due = None;
    }
}

impl Drop for AccessLogsWriter {
    fn drop(&mut self) {
        self.flush();
    }
}

#[derive(Debug, Default)]
struct Buffers {
    /// One for each of the logs' files.
    files: Vec<Buffer>,
    /// Those of them that want to be written when the turn ends.
    waiting: Vec<usize>,
    /// When `flush=` of one of them says that it is to be written; it may have been since.
    due: Option<Instant>,
    /// For one line of a file whose name has variables.
    single: Buffer,
    scratch: Vec<u8>,
}

impl Buffers {
    fn holds(&mut self, condition: &Value, lookup: &mut Lookup<'_>) -> bool {
        self.scratch.clear();
        evaluate(condition, lookup, &mut self.scratch);
        !matches!(self.scratch.as_slice(), b"" | b"0")
    }

    fn line(
        &mut self,
        logs: &AccessLogs,
        entry: &Entry,
        (now, way): (Instant, Option<&dyn Way>),
        lookup: &mut Lookup<'_>,
    ) {
        let Some(format) = logs.formats.get(entry.format) else { return };
        match &entry.to {
            To::File(index) => {
                let (buffer, open) = (&mut self.files[*index], &logs.files[*index]);
                let is_first = buffer.len() == 0;
                log_format::render(format, lookup, buffer.line(now));
                if buffer.len() >= open.batching.bytes {
                    buffer.flush(&open.file, open.batching.gzip);
                } else if is_first && let Some(after) = open.batching.after {
                    if !after.is_zero() {
                        let due = now + after;
                        self.due = Some(self.due.map_or(due, |sooner| sooner.min(due)));
                    } else if !self.waiting.contains(index) {
                        self.waiting.push(*index);
                    }
                }
            }
            To::Syslog(index) => {
                self.scratch.clear();
                log_format::render(format, lookup, &mut self.scratch);
                // Its end: a datagram has one of its own.
                self.scratch.pop();
                logs.peers[*index].send(clock::now(), &self.scratch);
            }
            To::Path(name, cache) => {
                let cache = cache.and_then(|index| logs.caches.get(index));
                if let Err(why) = self.line_by_variables(format, name, cache, (now, way), lookup) {
                    let name = self.scratch.escape_ascii();
                    crate::error_limited!("access log \"{name}\" is not written: {why}");
                }
            }
        }
    }

    /// As in nginx the file is opened for each line unless it stays open, and only where the request's root is there:
    /// otherwise a client could have files made by asking for hosts.
    fn line_by_variables(
        &mut self,
        format: &LogFormat,
        name: &Value,
        cache: Option<&OpenFiles>,
        (now, way): (Instant, Option<&dyn Way>),
        lookup: &mut Lookup<'_>,
    ) -> Result<(), Refused> {
        self.scratch.clear();
        path::render(name, lookup, &mut self.scratch)?;
        let mut root = Vec::new();
        let is_directory = |path: &[u8]| match way {
            Some(way) => way.is_directory(path),
            None => Path::new(OsStr::from_bytes(path)).is_dir(),
        };
        if lookup(&Variable::DocumentRoot, &mut root) && !is_directory(&root) {
            return Err(Refused::NoRoot);
        }
        let file = match cache {
            Some(cache) => cache.open(&self.scratch, now, way)?,
            None => path::open(&self.scratch, way)?,
        };
        log_format::render(format, lookup, self.single.line(now));
        self.single.flush(&file, None);
        Ok(())
    }
}
