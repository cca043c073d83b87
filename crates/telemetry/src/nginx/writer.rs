//! An event loop's end of the access logs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use config::model::http::{LogFormat, SettingsId, Value};

use super::logs::{AccessLogs, Batching, Entry, To};
use super::{Lookup, evaluate, log_format, path};
use crate::buffer::Buffer;
use crate::clock;

/// Writes the lines of one event loop. What it still holds is written when it is dropped.
///
/// Lines without `buffer=` appear with the next [`AccessLogsWriter::tick`].
#[derive(Debug)]
pub struct AccessLogsWriter {
    logs: Arc<AccessLogs>,
    buffers: Buffers,
    generation: u64,
}

impl AccessLogsWriter {
    pub(super) fn new(logs: Arc<AccessLogs>) -> Self {
        let buffers =
            Buffers { files: logs.files.iter().map(|_| Buffer::default()).collect(), ..Buffers::default() };
        Self { buffers, generation: logs.generation(), logs }
    }

    /// The logs that it writes to.
    pub fn logs(&self) -> &Arc<AccessLogs> {
        &self.logs
    }

    /// nginx's log phase: one line for each log that holds with these settings and whose `if=` is fulfilled.
    pub fn log(&mut self, settings: SettingsId, now: Instant, lookup: &mut Lookup<'_>) {
        for entry in self.logs.entries(settings).unwrap_or_default() {
            if entry.condition.as_ref().is_none_or(|condition| self.buffers.holds(condition, lookup)) {
                self.buffers.line(&self.logs, entry, now, lookup);
            }
        }
    }

    /// Writes what is due. For the loop's timer, at least every 100 ms; calling it more often costs little.
    pub fn tick(&mut self, now: Instant) {
        let generation = self.logs.generation();
        if generation != self.generation {
            self.generation = generation;
            self.flush();
            return;
        }
        for (buffer, open) in self.buffers.files.iter_mut().zip(&self.logs.files) {
            if open.batching.after.is_some_and(|after| buffer.is_due(now, after)) {
                buffer.flush(&open.file, open.batching.gzip);
            }
        }
        self.buffers.flush_by_variables(&self.logs);
    }

    /// Writes everything now.
    pub fn flush(&mut self) {
        for (buffer, open) in self.buffers.files.iter_mut().zip(&self.logs.files) {
            buffer.flush(&open.file, open.batching.gzip);
        }
        self.buffers.flush_by_variables(&self.logs);
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
    /// By name; emptied at each tick.
    by_variables: HashMap<Vec<u8>, Buffer>,
    scratch: Vec<u8>,
}

impl Buffers {
    fn holds(&mut self, condition: &Value, lookup: &mut Lookup<'_>) -> bool {
        self.scratch.clear();
        evaluate(condition, lookup, &mut self.scratch);
        !matches!(self.scratch.as_slice(), b"" | b"0")
    }

    fn line(&mut self, logs: &AccessLogs, entry: &Entry, now: Instant, lookup: &mut Lookup<'_>) {
        let Some(format) = logs.formats.get(entry.format) else { return };
        match &entry.to {
            To::File(index) => {
                let (buffer, open) = (&mut self.files[*index], &logs.files[*index]);
                log_format::render(format, lookup, buffer.line(now));
                if buffer.len() >= open.batching.bytes {
                    buffer.flush(&open.file, open.batching.gzip);
                }
            }
            To::Syslog(index) => {
                self.scratch.clear();
                log_format::render(format, lookup, &mut self.scratch);
                // Its end: a datagram has one of its own.
                self.scratch.pop();
                logs.peers[*index].send(clock::now(), &self.scratch);
            }
            To::Path(name) => {
                self.scratch.clear();
                match path::render(name, lookup, &mut self.scratch) {
                    Ok(()) => self.line_by_variables(logs, format, now, lookup),
                    Err(why) => {
                        let name = self.scratch.escape_ascii();
                        crate::error_limited!("access log \"{name}\" is not written: {why}");
                    }
                }
            }
        }
    }

    /// The name of the file is in `scratch`.
    fn line_by_variables(
        &mut self,
        logs: &AccessLogs,
        format: &LogFormat,
        now: Instant,
        lookup: &mut Lookup<'_>,
    ) {
        if let Some(buffer) = self.by_variables.get_mut(&self.scratch) {
            log_format::render(format, lookup, buffer.line(now));
            if buffer.len() >= Batching::NONE.bytes {
                self.flush_by_variables(logs);
            }
            return;
        }
        // Clients may make names without end.
        if self.by_variables.len() >= path::MOST_OPEN {
            self.flush_by_variables(logs);
        }
        let buffer = self.by_variables.entry(self.scratch.clone()).or_default();
        log_format::render(format, lookup, buffer.line(now));
    }

    fn flush_by_variables(&mut self, logs: &AccessLogs) {
        for (name, mut buffer) in self.by_variables.drain() {
            match logs.by_variables.open(&name) {
                Ok(file) => buffer.flush(&file, None),
                Err(why) => {
                    crate::error_limited!(
                        "access log \"{}\": {why}; its lines are lost",
                        name.escape_ascii()
                    );
                }
            }
        }
    }
}
