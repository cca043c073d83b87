//! The error log is descriptor 2 of every process; the access log is the edge's own.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use config::model::{ErrorLogs, ErrorTarget, LogLevel, LogTarget, Logs, Model, Process};
use rustix::fs::{Gid, Uid};
use telemetry::error_log::{self, Level};

use crate::listen::errno;

/// The error log's file, opened for appending; nothing when it goes to a stream.
#[derive(Debug)]
pub(crate) struct ErrorLog {
    file: Option<OwnedFd>,
    capture: bool,
}

impl ErrorLog {
    /// Opens the error log, and makes the files of the other logs, which the edge may not be able to. The error is a
    /// sentence for the user.
    pub(crate) fn open(model: &Model) -> Result<Self, String> {
        let Logs { error, access, access_format, capture_output, nginx, .. } = &model.logs;
        if let Some(logs) = nginx {
            return Self::open_nginx(model, logs);
        }
        // The edge would find it out too, but in the middle of a reload.
        telemetry::AccessFormat::compile(access_format)
            .map_err(|error| format!("access_log_format: {error}"))?;
        let open = |path: &Path, what: &str| {
            open_file(path, &model.process)
                .map_err(|error| format!("The {what} {} cannot be opened: {error}", path.display()))
        };
        if let Some(LogTarget::File(path)) = access {
            open(path, "access log")?;
        }
        let file = match error {
            LogTarget::File(path) => Some(open(path, "error log")?),
            LogTarget::Stderr | LogTarget::Stdout => None,
        };
        Ok(Self { file, capture: *capture_output })
    }

    /// A log that nobody reads.
    pub(crate) fn nowhere() -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open("/dev/null")?;
        Ok(Self { file: Some(file.into()), capture: false })
    }

    fn open_nginx(model: &Model, logs: &ErrorLogs) -> Result<Self, String> {
        if model.binds_transparently() && !sys::may_bind_transparently() {
            return Err(String::from(
                "`proxy_bind … transparent` needs the right CAP_NET_RAW or CAP_NET_ADMIN, which this process does not have",
            ));
        }
        let open = |path: &Path| {
            open_file(path, &model.process)
                .map_err(|error| format!("open() \"{}\" failed ({})", path.display(), errno(&error)))
        };
        for path in model.http.as_deref().into_iter().flat_map(telemetry::access_log_files) {
            open(&path)?;
        }
        for path in model.http.as_deref().into_iter().flat_map(telemetry::unwritten_log_files) {
            open(&path)?;
        }
        // It is no log, but it too has to be there before anything changes.
        if let Some(path) = &model.edge.buffers.temp_dir {
            make_directory(path, &model.process)
                .map_err(|error| format!("mkdir() \"{}\" failed ({})", path.display(), errno(&error)))?;
        }
        // Nor is a cache, in whose directory the edge makes others.
        for cache in model.http.as_deref().into_iter().flat_map(|http| &http.caches) {
            let path = &cache.path;
            make_directory(path, &model.process)
                .map_err(|error| format!("mkdir() \"{}\" failed ({})", path.display(), errno(&error)))?;
        }
        let all = logs.main.iter().chain(logs.others.iter().flatten());
        for log in all {
            if let ErrorTarget::File(path) = &log.target {
                open(path)?;
            }
        }
        let file = match &model.logs.error {
            LogTarget::File(path) => Some(open(path)?),
            LogTarget::Stderr | LogTarget::Stdout => None,
        };
        Ok(Self { file, capture: false })
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

    /// Whether what the application itself writes to standard error goes elsewhere: as with gunicorn, where it did when
    /// the program was started. A daemon's would go nowhere, and an nginx.conf's log has it all.
    pub(crate) fn leaves_stderr(&self, model: &Model) -> bool {
        self.file.is_some() && !self.capture && !model.process.daemon && model.logs.nginx.is_none()
    }

    /// Descriptors for another process: its new 2, and its new 1 when output is captured.
    pub(crate) fn copies(&self) -> Vec<OwnedFd> {
        let Some(file) = &self.file else { return vec![] };
        let count = if self.capture { 2 } else { 1 };
        (0..count).filter_map(|_| file.as_fd().try_clone_to_owned().ok()).collect()
    }
}

fn open_file(path: &Path, process: &Process) -> io::Result<OwnedFd> {
    let file = OpenOptions::new().append(true).create(true).mode(0o644).open(path)?;
    // As gunicorn does, so that the user can open it again. Whoever may not give files away need not.
    if rustix::process::geteuid().is_root() && (process.uid.is_some() || process.gid.is_some()) {
        let _ = rustix::fs::fchown(&file, process.uid.map(Uid::from_raw), process.gid.map(Gid::from_raw));
    }
    Ok(file.into())
}

/// Makes the directory of temporary files, as nginx does, for the user of the edge.
/// Makes the directories for certificates, which belong to whoever orders them.
pub(crate) fn make_states(model: &Model) -> Result<(), String> {
    for issuer in &model.acme.issuers {
        let path = &issuer.state;
        let made = match path.parent() {
            Some(parent) => {
                std::fs::create_dir_all(parent).and_then(|()| make_directory(path, &model.process))
            }
            None => make_directory(path, &model.process),
        };
        made.map_err(|error| format!("mkdir() \"{}\" failed ({})", path.display(), errno(&error)))?;
    }
    Ok(())
}

fn make_directory(path: &Path, process: &Process) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    if rustix::process::geteuid().is_root() && (process.uid.is_some() || process.gid.is_some()) {
        std::os::unix::fs::chown(path, process.uid, process.gid)?;
    }
    Ok(())
}

/// Has this process write its messages as the model says; descriptor 2 is at the error log already.
pub(crate) fn init(model: &Model) -> Result<(), String> {
    if let Some(logs) = error_log::Logs::of(&model.logs) {
        return error_log::init_nginx(&logs).map_err(|error| error.to_string());
    }
    error_log::init(level(model.logs.level));
    Ok(())
}

/// What an administrator wants to see of an ordinary life.
pub(crate) fn notice(text: &str) {
    error_log::write(Level::Notice, format_args!("{text}"));
}

/// The model's level in telemetry's terms.
fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warning => Level::Warning,
        LogLevel::Error => Level::Error,
        LogLevel::Critical => Level::Critical,
    }
}
