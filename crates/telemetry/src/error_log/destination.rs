//! Where messages in nginx's form go.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use config::model::http::{LogLevel, Syslog};
use config::model::{ErrorLog, ErrorLogs, ErrorTarget, LogTarget};

use super::memory::Ring;
use super::{Context, Level, line};
use crate::clock;
use crate::file::{LogFile, OpenError, Target};
use crate::sink::Batch;
use crate::syslog::Peer;

/// nginx's `error_log` directives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// Those of the outermost level; at least one, or nothing is written that has no other log.
    pub main: Vec<(Destination, LogLevel)>,
    /// Those of servers and locations: what holds in one place, by [`Context::log`]. An empty one is silent.
    pub others: Vec<Vec<(Destination, LogLevel)>>,
    /// There may be clients about whom everything is written, whatever the level ([`Context::debug`]).
    pub debug: bool,
}

impl Logs {
    /// Those of the model; `None` is gunicorn's form. The file that descriptor 2 of every process is pointed at is not
    /// opened a second time.
    pub fn of(logs: &config::model::Logs) -> Option<Self> {
        let ErrorLogs { main, others, debug } = logs.nginx.as_ref()?;
        let place = |log: &ErrorLog| {
            let to = match &log.target {
                ErrorTarget::Stderr => Destination::Stderr,
                ErrorTarget::File(path) if logs.error == LogTarget::File(path.clone()) => Destination::Stderr,
                ErrorTarget::File(path) => Destination::File(path.clone()),
                ErrorTarget::Syslog(syslog) => Destination::Syslog(syslog.clone()),
                ErrorTarget::Memory(size) => Destination::Memory(*size),
            };
            (to, log.level)
        };
        let places = |logs: &Vec<ErrorLog>| logs.iter().map(place).collect();
        Some(Self {
            main: places(main),
            others: others.iter().map(places).collect(),
            debug: !debug.is_empty(),
        })
    }
}

/// Where an `error_log` goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Descriptor 2 at the moment of each line: `stderr`, and the main log where the master has pointed the
    /// descriptor at its file.
    Stderr,
    /// A file, opened by this process.
    File(PathBuf),
    /// A syslog server; messages have their own severity.
    Syslog(Syslog),
    /// So many bytes of memory.
    Memory(u64),
}

/// The logs, opened.
#[derive(Debug)]
pub(super) struct Open {
    main: Vec<(Level, To)>,
    others: Vec<Vec<(Level, To)>>,
    debug: bool,
}

#[derive(Debug)]
enum To {
    Stderr,
    File(Arc<LogFile>),
    Syslog(Box<Peer>),
    Memory(Ring),
}

impl Open {
    pub(super) fn new(logs: &Logs) -> Result<Self, OpenError> {
        let open = |places: &Vec<(Destination, LogLevel)>| {
            places.iter().map(|(to, level)| Ok((Level::from(*level), To::new(to)?))).collect()
        };
        Ok(Self {
            main: open(&logs.main)?,
            others: logs.others.iter().map(open).collect::<Result<_, _>>()?,
            debug: logs.debug,
        })
    }

    /// The least level that is written anywhere.
    pub(super) fn least(&self) -> Level {
        if self.debug {
            return Level::Debug;
        }
        let all = self.main.iter().chain(self.others.iter().flatten());
        all.map(|(level, _)| *level).min().unwrap_or(Level::Emerg)
    }

    pub(super) fn write(
        &self,
        level: Level,
        context: Option<&Context<'_>>,
        message: fmt::Arguments<'_>,
        block: Option<&str>,
    ) {
        let places = context
            .and_then(|context| context.log)
            .and_then(|log| self.others.get(log as usize))
            .unwrap_or(&self.main);
        let debug = context.is_some_and(|context| context.debug);
        let mut places = places.iter().filter(|(least, _)| level >= *least || debug).peekable();
        if places.peek().is_none() {
            return;
        }
        let second = clock::now();
        let who = (std::process::id(), rustix::thread::gettid().as_raw_nonzero().get());
        let line = line::nginx(second, who, level, context, message, block);
        for (_, to) in places {
            to.write(level, second, &line);
        }
    }
}

impl To {
    fn new(destination: &Destination) -> Result<Self, OpenError> {
        Ok(match destination {
            Destination::Stderr => Self::Stderr,
            Destination::File(path) => match Target::path(path) {
                // Never a copy of the descriptor: the master may point it elsewhere.
                Target::Stderr => Self::Stderr,
                target => {
                    let log = target.to_string();
                    Self::File(LogFile::open(target).map_err(|source| OpenError { log, source })?)
                }
            },
            Destination::Syslog(syslog) => Self::Syslog(Box::new(Peer::new(syslog)?)),
            Destination::Memory(size) => Self::Memory(
                Ring::new(*size).map_err(|source| OpenError { log: "memory".to_owned(), source })?,
            ),
        })
    }

    fn write(&self, level: Level, second: i64, line: &[u8]) {
        match self {
            Self::Stderr => stderr(line),
            // There is nowhere to say that it failed.
            Self::File(file) => drop(file.write_silently(Batch::Lines(line))),
            Self::Memory(ring) => ring.write(line),
            Self::Syslog(peer) => {
                for line in line.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                    peer.send_at(level.severity(), second, line);
                }
            }
        }
    }
}

/// Writes to descriptor 2.
pub(super) fn stderr(mut rest: &[u8]) {
    while !rest.is_empty() {
        match rustix::io::write(io::stderr(), rest) {
            Ok(0) => return,
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            // A full disk or a reader that is gone or asleep: no reason to stop or to stumble.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests;
