//! The access logs of a configuration, opened.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use config::model::http::{
    AccessLog, AccessTarget, Http, LogFileCache, LogFormat, SettingsId, Syslog, Value,
};

use super::path::OpenFiles;
use super::writer::AccessLogsWriter;
use crate::buffer::FLUSH_BYTES;
use crate::file::{LogFile, OpenError, Target, reopen};
use crate::syslog::Peer;

/// nginx's size of a buffer that is compressed.
const GZIP_BYTES: usize = 64 * 1024;

/// All access logs of an `http` block: give each event loop a [`AccessLogs::writer`].
///
/// As with [`AccessLog`](crate::AccessLog), nothing here stops a request: lines that cannot be written are counted
/// and reported.
#[derive(Debug)]
pub struct AccessLogs {
    pub(super) formats: Vec<LogFormat>,
    /// By [`SettingsId`].
    pub(super) entries: Vec<Box<[Entry]>>,
    pub(super) files: Vec<OpenLog>,
    pub(super) peers: Vec<Peer>,
    /// Those whose names have variables, by their caches.
    pub(super) caches: Vec<OpenFiles>,
    reopened: AtomicU64,
}

/// One `access_log` where it holds.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) format: usize,
    pub(super) condition: Option<Value>,
    pub(super) to: To,
}

#[derive(Debug)]
pub(super) enum To {
    /// Index into the files.
    File(usize),
    /// The name is made for each line; the index of the files that stay open, if any do.
    Path(Value, Option<usize>),
    /// Index into the peers.
    Syslog(usize),
}

/// A file with a constant name and how each event loop gathers lines for it.
#[derive(Debug)]
pub(super) struct OpenLog {
    pub(super) file: Arc<LogFile>,
    pub(super) batching: Batching,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batching {
    /// Written when there are so many bytes.
    pub(super) bytes: usize,
    /// And when the first line is so old; `None` is never, which is nginx's `buffer=` without `flush=`.
    pub(super) after: Option<Duration>,
    /// The level.
    pub(super) gzip: Option<u32>,
}

impl Batching {
    /// Without `buffer=`: with the next [`AccessLogsWriter::write`].
    pub(super) const NONE: Self = Self { bytes: FLUSH_BYTES, after: Some(Duration::ZERO), gzip: None };

    fn new(log: &AccessLog) -> Self {
        match (log.buffer, log.gzip) {
            (0, None) => Self::NONE,
            (0, gzip) => Self { bytes: GZIP_BYTES, after: log.flush, gzip },
            (bytes, gzip) => {
                Self { bytes: usize::try_from(bytes).unwrap_or(usize::MAX), after: log.flush, gzip }
            }
        }
    }
}

impl AccessLogs {
    /// Opens what the configuration names. Where the process has a file open already, for an older configuration or
    /// another log, it is shared.
    ///
    /// # Errors
    /// The first file or server that cannot be opened.
    pub fn open(http: &Http) -> Result<Arc<Self>, OpenError> {
        let by_settings = http.settings.iter();
        let by_settings = by_settings.map(|of| (of.access_logs.as_slice(), of.log_file_cache));
        Self::build(&http.log_formats, by_settings)
    }

    fn build<'a>(
        formats: &[LogFormat],
        by_settings: impl Iterator<Item = (&'a [AccessLog], Option<LogFileCache>)>,
    ) -> Result<Arc<Self>, OpenError> {
        let mut opening = Opening::default();
        let entries = by_settings
            .map(|(logs, cache)| logs.iter().map(|log| opening.entry(log, cache)).collect())
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(Self {
            formats: formats.to_vec(),
            entries,
            files: opening.files,
            peers: opening.peers,
            caches: opening.caches.into_iter().map(OpenFiles::new).collect(),
            reopened: AtomicU64::new(0),
        }))
    }

    /// An event loop's end.
    pub fn writer(self: &Arc<Self>) -> AccessLogsWriter {
        AccessLogsWriter::new(Arc::clone(self))
    }

    /// Whether anything is logged where these settings hold.
    pub fn any(&self, settings: SettingsId) -> bool {
        self.entries(settings).is_some_and(|entries| !entries.is_empty())
    }

    /// Whether one of those has variables in its name.
    pub fn has_variable_names(&self, settings: SettingsId) -> bool {
        self.entries(settings).is_some_and(|logs| logs.iter().any(|log| matches!(log.to, To::Path(..))))
    }

    /// Opens every log file of the process again, as [`reopen`] does, and those with variables in their names when
    /// they are next written. Buffers are written to the new files at the next tick.
    pub fn reopen(&self) -> Vec<OpenError> {
        self.caches.iter().for_each(OpenFiles::close);
        let failed = reopen();
        self.reopened.fetch_add(1, Ordering::Release);
        failed
    }

    /// How often that happened.
    pub(super) fn generation(&self) -> u64 {
        self.reopened.load(Ordering::Acquire)
    }

    pub(super) fn entries(&self, settings: SettingsId) -> Option<&[Entry]> {
        self.entries.get(settings as usize).map(AsRef::as_ref)
    }
}

/// The files with constant names that an `http` block logs to, each once: what a master has to make for an edge that
/// may not.
pub fn access_log_files(http: &Http) -> Vec<PathBuf> {
    let mut files: Vec<_> = http
        .settings
        .iter()
        .flat_map(|settings| &settings.access_logs)
        .filter_map(|log| file_of(constant(&log.target)?))
        .collect();
    files.sort_unstable();
    files.dedup();
    files
}

/// Those that are made although nothing is written to them.
pub fn unwritten_log_files(http: &Http) -> impl Iterator<Item = PathBuf> + '_ {
    http.unwritten_logs.iter().filter_map(|path| file_of(Target::path(Path::new(OsStr::from_bytes(path)))))
}

fn file_of(target: Target) -> Option<PathBuf> {
    match target {
        Target::File(path) => Some(path),
        Target::Stdout | Target::Stderr => None,
    }
}

fn constant(target: &AccessTarget) -> Option<Target> {
    match target {
        AccessTarget::File(value) => {
            value.as_text().map(|path| Target::path(Path::new(OsStr::from_bytes(path))))
        }
        AccessTarget::Syslog(_) => None,
    }
}

#[derive(Default)]
struct Opening {
    files: Vec<OpenLog>,
    by_target: HashMap<Target, usize>,
    caches: Vec<LogFileCache>,
    peers: Vec<Peer>,
    by_server: HashMap<Syslog, usize>,
}

impl Opening {
    fn entry(&mut self, log: &AccessLog, cache: Option<LogFileCache>) -> Result<Entry, OpenError> {
        let to = match (constant(&log.target), &log.target) {
            (Some(target), _) => To::File(self.file(target, Batching::new(log))?),
            (None, AccessTarget::File(path)) => To::Path(path.clone(), cache.map(|cache| self.cache(cache))),
            (None, AccessTarget::Syslog(syslog)) => To::Syslog(self.peer(syslog)?),
        };
        Ok(Entry { format: log.format as usize, condition: log.condition.clone(), to })
    }

    fn file(&mut self, target: Target, batching: Batching) -> Result<usize, OpenError> {
        if let Some(&index) = self.by_target.get(&target) {
            // As in nginx a buffer belongs to the file, whichever of the directives that name it has `buffer=`.
            let known = &mut self.files[index].batching;
            if *known == Batching::NONE {
                *known = batching;
            }
            return Ok(index);
        }
        let file =
            LogFile::open(target.clone()).map_err(|source| OpenError { log: target.to_string(), source })?;
        self.files.push(OpenLog { file, batching });
        self.by_target.insert(target, self.files.len() - 1);
        Ok(self.files.len() - 1)
    }

    fn cache(&mut self, cache: LogFileCache) -> usize {
        let known = self.caches.iter().position(|known| *known == cache);
        known.unwrap_or_else(|| {
            self.caches.push(cache);
            self.caches.len() - 1
        })
    }

    fn peer(&mut self, syslog: &Syslog) -> Result<usize, OpenError> {
        if let Some(&index) = self.by_server.get(syslog) {
            return Ok(index);
        }
        self.peers.push(Peer::new(syslog)?);
        self.by_server.insert(syslog.clone(), self.peers.len() - 1);
        Ok(self.peers.len() - 1)
    }
}

#[cfg(test)]
mod tests;
