//! nginx's error logs.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::http::{LogLevel, Syslog, Who};

/// All `error_log`s of an nginx.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorLogs {
    /// Those of the outermost level; at least one.
    pub main: Vec<ErrorLog>,
    /// Those that [`Settings::error_log`](super::http::Settings::error_log) names.
    pub others: Vec<Vec<ErrorLog>>,
    /// `debug_connection`: clients about whom everything is logged, whatever the level.
    #[serde(default)]
    pub debug: Vec<Who>,
}

impl ErrorLogs {
    /// Whether everything is logged about a client; `None` is one on a Unix socket.
    pub fn debugs(&self, client: Option<IpAddr>) -> bool {
        self.debug.iter().any(|who| match (who, client) {
            (Who::All, _) | (Who::Unix, None) => true,
            (Who::Network(network), Some(client)) => network.contains(client),
            (Who::Unix, Some(_)) | (Who::Network(_), None) => false,
        })
    }
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
    /// `memory:`, so many bytes.
    Memory(u64),
}
