//! The error log is descriptor 2 of every process; the access log is the edge's own.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use config::model::{LogLevel, LogTarget, Logs, Model, Process};
use rustix::fs::{Gid, Uid};
use telemetry::error_log::Level;

/// The error log's file, opened for appending; nothing when it goes to a stream.
#[derive(Debug)]
pub(crate) struct ErrorLog {
    file: Option<OwnedFd>,
    capture: bool,
}

impl ErrorLog {
    /// What this process has already.
    pub(crate) fn none() -> Self {
        Self { file: None, capture: false }
    }

    /// Opens the error log, and makes the file of the access log, which the edge may not be able to. The error is a
    /// sentence for the user.
    pub(crate) fn open(model: &Model) -> Result<Self, String> {
        let Logs { error, access, access_format, capture_output, .. } = &model.logs;
        // The edge would find it out too, but in the middle of a reload.
        telemetry::AccessFormat::compile(access_format)
            .map_err(|error| format!("access_log_format: {error}"))?;
        if let Some(LogTarget::File(path)) = access {
            open_file(path, &model.process, "access log")?;
        }
        let file = match error {
            LogTarget::File(path) => Some(open_file(path, &model.process, "error log")?),
            LogTarget::Stderr | LogTarget::Stdout => None,
        };
        Ok(Self { file, capture: *capture_output })
    }

    /// Points descriptor 2 (and 1, when output is captured) of this process at it.
    pub(crate) fn redirect(&self) {
        if let Some(file) = &self.file {
            // Both are open, so that neither call fails.
            let _ = rustix::stdio::dup2_stderr(file);
            if self.capture {
                let _ = rustix::stdio::dup2_stdout(file);
            }
        }
    }

    /// Descriptors for another process: its new 2, and its new 1 when output is captured.
    pub(crate) fn copies(&self) -> Vec<OwnedFd> {
        let Some(file) = &self.file else { return vec![] };
        let count = if self.capture { 2 } else { 1 };
        (0..count).filter_map(|_| file.as_fd().try_clone_to_owned().ok()).collect()
    }
}

fn open_file(path: &Path, process: &Process, what: &str) -> Result<OwnedFd, String> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .open(path)
        .map_err(|error| format!("The {what} {} cannot be opened: {error}", path.display()))?;
    // As gunicorn does, so that the user can open it again. Whoever may not give files away need not.
    if rustix::process::geteuid().is_root() && (process.uid.is_some() || process.gid.is_some()) {
        let _ = rustix::fs::fchown(&file, process.uid.map(Uid::from_raw), process.gid.map(Gid::from_raw));
    }
    Ok(file.into())
}

/// The model's level in telemetry's terms.
pub(crate) fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warning => Level::Warning,
        LogLevel::Error => Level::Error,
        LogLevel::Critical => Level::Critical,
    }
}
