//! nginx's error logs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::http::{LogLevel, Syslog};

/// All `error_log`s of an nginx.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorLogs {
    /// Those of the outermost level; at least one.
    pub main: Vec<ErrorLog>,
    /// Those that [`Settings::error_log`](super::http::Settings::error_log) names.
    pub others: Vec<Vec<ErrorLog>>,
}

/// One `error_log`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ErrorLog {
    /// Where to.
    pub target: ErrorTarget,
    /// From which level on.
    pub level: LogLevel,
}

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorTarget {
    /// `stderr`
    Stderr,
    /// An absolute path.
    File(PathBuf),
    /// `syslog:`
    Syslog(Syslog),
}
