//! `limit_conn`: how many requests of a key are in progress at once.

use std::fmt;
use std::sync::Arc;

use config::model::http::{LogLevel, Refusal};
use smallvec::SmallVec;

use crate::table::{Shards, Slot, Table};

/// Keys of more bytes are not counted.
const LONGEST_KEY: usize = 255;
/// What nginx needs for a state beside its key.
const OVERHEAD: u64 = 36;

/// `$limit_conn_status`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "nginx's names for them")]
pub enum ConnectionStatus {
    Passed,
    Rejected,
    RejectedDryRun,
}

impl ConnectionStatus {
    /// The variable's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Rejected => "REJECTED",
            Self::RejectedDryRun => "REJECTED_DRY_RUN",
        }
    }
}

/// The answer to one request.
#[derive(Debug)]
pub struct Outcome {
    /// What becomes of it.
    pub decision: Decision,
    /// `$limit_conn_status`; `None` (the variable is empty) when no key was counted. A request is counted once: the
    /// caller does not ask again after an internal redirect when this is set.
    pub status: Option<ConnectionStatus>,
    /// What the error log is told.
    pub notice: Option<Notice>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Decision {
    /// It goes on, and counts until these are dropped.
    Passed(Guards),
    /// It is answered with [`ConnectionLimits::status`].
    Rejected,
}

/// What a request counts in; dropping it takes the request out again. It can be dropped on any thread.
#[derive(Debug, Default)]
pub struct Guards {
    held: SmallVec<[Guard; 1]>,
}

impl Guards {
    /// Whether the request counts nowhere.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// A line for the error log, in nginx's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// `limit_conn_log_level`
    pub level: LogLevel,
    zone: Arc<str>,
    kind: NoticeKind,
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoticeKind {
    Limiting,
    Full,
    LongKey,
}

/// The limits of one place in the configuration, in their order.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    limits: Box<[Limit]>,
    refusal: Refusal,
}

impl ConnectionLimits {
    pub(crate) fn new(limits: Box<[Limit]>, refusal: Refusal) -> Self {
        Self { limits, refusal }
    }

    /// `limit_conn_status`
    pub const fn status(&self) -> u16 {
        self.refusal.status
    }

    /// Counts one request. `keys` holds the evaluated key of each limit's zone, in the limits' order; an empty one
    /// is not counted. A request that is refused counts nowhere, in a dry run neither.
    pub fn enter<K: AsRef<[u8]>>(&self, keys: &[K]) -> Outcome {
        let mut guards = Guards::default();
        let mut notice = None;
        for (limit, key) in self.limits.iter().zip(keys) {
            let key = key.as_ref();
            if key.is_empty() {
                continue;
            }
            if key.len() > LONGEST_KEY {
                notice = Some(self.notice(limit, NoticeKind::LongKey));
                continue;
            }
            match limit.enter(key) {
                Ok(guard) => guards.held.push(guard),
                Err(kind) => {
                    drop(guards);
                    return self.rejected(self.notice(limit, kind));
                }
            }
        }
        let status = (!guards.is_empty()).then_some(ConnectionStatus::Passed);
        Outcome { decision: Decision::Passed(guards), status, notice }
    }

    fn rejected(&self, notice: Notice) -> Outcome {
        let (decision, status) = if self.refusal.dry_run {
            (Decision::Passed(Guards::default()), ConnectionStatus::RejectedDryRun)
        } else {
            (Decision::Rejected, ConnectionStatus::Rejected)
        };
        Outcome { decision, status: Some(status), notice: Some(notice) }
    }

    fn notice(&self, limit: &Limit, kind: NoticeKind) -> Notice {
        let level = match kind {
            NoticeKind::Limiting => self.refusal.level,
            NoticeKind::Full => LogLevel::Crit,
            NoticeKind::LongKey => LogLevel::Error,
        };
        Notice { level, zone: Arc::clone(&limit.name), kind, dry_run: self.refusal.dry_run }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = &self.zone;
        match self.kind {
            NoticeKind::Limiting => {
                let dry_run = if self.dry_run { ", dry run," } else { "" };
                write!(f, "limiting connections{dry_run} by zone \"{zone}\"")
            }
            NoticeKind::Full => {
                let dry_run = if self.dry_run { ", dry run" } else { "" };
                write!(f, "could not allocate node in limit_conn zone \"{zone}\"{dry_run}")
            }
            NoticeKind::LongKey => {
                write!(f, "the key of limit_conn zone \"{zone}\" is more than {LONGEST_KEY} bytes")
            }
        }
    }
}

/// One `limit_conn`.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    name: Arc<str>,
    states: Arc<States>,
    most: u32,
}

impl Limit {
    pub(crate) fn new(name: &str, states: Arc<States>, most: u32) -> Self {
        Self { name: name.into(), states, most }
    }

    fn enter(&self, key: &[u8]) -> Result<Guard, NoticeKind> {
        let (hash, shard) = self.states.shards.locate(key);
        let mut table = self.states.shards.lock(shard);
        let slot = match table.find(hash, key) {
            // nginx does not ask a key's first request either: the configuration refuses a limit of 0.
            None => table.insert(hash, key, 1).ok_or(NoticeKind::Full)?,
            Some(slot) => {
                let count = table.value_mut(slot).ok_or(NoticeKind::Full)?;
                if *count >= self.most {
                    return Err(NoticeKind::Limiting);
                }
                *count += 1;
                slot
            }
        };
        drop(table);
        Ok(Guard { states: Arc::clone(&self.states), shard, slot })
    }
}

/// One request in one zone.
#[derive(Debug)]
struct Guard {
    states: Arc<States>,
    shard: usize,
    slot: Slot,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut table = self.states.shards.lock(self.shard);
        let is_last = table.value_mut(self.slot).is_some_and(|count| {
            *count -= 1;
            *count == 0
        });
        if is_last {
            table.remove(self.slot);
        }
    }
}

/// The states of a zone.
#[derive(Debug)]
pub(crate) struct States {
    shards: Shards<Table<u32>>,
}

impl States {
    pub(crate) fn new(size: u64) -> Self {
        Self { shards: Shards::new(size, OVERHEAD, |table| table) }
    }
}

#[cfg(test)]
mod tests;
