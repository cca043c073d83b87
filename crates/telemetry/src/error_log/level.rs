//! How grave a message is.

use std::str::FromStr;

use config::model::http::LogLevel;

/// How grave a message is: gunicorn's `loglevel` and nginx's levels in one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// For whoever looks for a defect.
    Debug,
    /// The ordinary life of the processes.
    Info,
    /// What an administrator wants to see of it; gunicorn's name for it is `info`.
    Notice,
    /// Something is wrong and service goes on as before.
    Warning,
    /// A request or a worker is lost.
    Error,
    /// The program cannot go on, or a part of it.
    Critical,
    /// Somebody has to act at once; gunicorn's name for it is `critical`.
    Alert,
    /// Nothing works; gunicorn's name for it is `critical`.
    Emerg,
}

impl Level {
    /// Gunicorn's name.
    pub(super) const fn gunicorn(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info | Self::Notice => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical | Self::Alert | Self::Emerg => "CRITICAL",
        }
    }

    /// nginx's name.
    pub(super) const fn nginx(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warn",
            Self::Error => "error",
            Self::Critical => "crit",
            Self::Alert => "alert",
            Self::Emerg => "emerg",
        }
    }

    /// syslog's number, which is smaller for what is graver.
    pub(super) const fn severity(self) -> u8 {
        Self::Emerg as u8 - self as u8
    }
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Debug => Self::Debug,
            LogLevel::Info => Self::Info,
            LogLevel::Notice => Self::Notice,
            LogLevel::Warn => Self::Warning,
            LogLevel::Error => Self::Error,
            LogLevel::Crit => Self::Critical,
            LogLevel::Alert => Self::Alert,
            LogLevel::Emerg => Self::Emerg,
        }
    }
}

/// A `loglevel` that gunicorn does not know either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no log level: debug, info, warning, error or critical")]
pub struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;

    /// Ignores case, as gunicorn does.
    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warning" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            "critical" => Ok(Self::Critical),
            _ => Err(UnknownLevel(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_gunicorns_names_and_order() {
        assert_eq!("WARNING".parse(), Ok(Level::Warning));
        assert!("warn".parse::<Level>().unwrap_err().to_string().contains("`warn`"));
        assert!(Level::Debug < Level::Info && Level::Error < Level::Critical);
    }

    #[test]
    fn levels_have_syslogs_numbers() {
        assert_eq!(
            [Level::Emerg, Level::Error, Level::Warning, Level::Debug].map(Level::severity),
            [0, 3, 4, 7]
        );
        assert_eq!(Level::from(LogLevel::Crit).nginx(), "crit");
    }
}
