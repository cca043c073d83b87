//! `limit_req`: how often a key may ask.
//!
//! A leaky bucket, counted in thousandths of a request. Arithmetic, eviction and the order in which several
//! limits are asked are nginx's (`ngx_http_limit_req_module`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use config::model::http::{LimitReq, LogLevel, Refusal};
use smallvec::SmallVec;

use crate::Millis;
use crate::table::Shards;
use shard::{Found, Shard};

mod shard;

/// A request, in the unit of the bucket.
const REQUEST: u64 = 1000;
/// Keys of more bytes are not counted.
const LONGEST_KEY: usize = 65535;
/// What nginx needs for a state beside its key.
const OVERHEAD: u64 = 80;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Passed,
    /// It goes on after so much time.
    Delayed(Duration),
    /// It is answered with [`RateLimits::status`].
    Rejected,
}

/// `$limit_req_status`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "nginx's names for them")]
pub enum RateStatus {
    Passed,
    Delayed,
    Rejected,
    DelayedDryRun,
    RejectedDryRun,
}

impl RateStatus {
    /// The variable's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Delayed => "DELAYED",
            Self::Rejected => "REJECTED",
            Self::DelayedDryRun => "DELAYED_DRY_RUN",
            Self::RejectedDryRun => "REJECTED_DRY_RUN",
        }
    }
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What becomes of it.
    pub decision: Decision,
    /// `$limit_req_status`; `None` (the variable is empty) when no key was counted. A request is counted once: the
    /// caller does not ask again after an internal redirect when this is set.
    pub status: Option<RateStatus>,
    /// What the error log is told.
    pub notice: Option<Notice>,
}

/// A line for the error log, in nginx's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// `limit_req_log_level`, for delays one less.
    pub level: LogLevel,
    zone: Arc<str>,
    excess: u64,
    kind: NoticeKind,
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoticeKind {
    Limiting,
    Delaying,
    Full,
    LongKey,
}

/// The limits of one place in the configuration, in their order.
#[derive(Debug, Clone)]
pub struct RateLimits {
    limits: Box<[Limit]>,
    refusal: Refusal,
}

impl RateLimits {
    pub(crate) fn new(limits: Box<[Limit]>, refusal: Refusal) -> Self {
        Self { limits, refusal }
    }

    /// `limit_req_status`
    pub const fn status(&self) -> u16 {
        self.refusal.status
    }

    /// Asks for one request. `keys` holds the evaluated key of each limit's zone, in the limits' order; an empty
    /// one is not counted.
    ///
    /// Every limit is asked, and only if none refuses is the request counted in all of them; the longest delay
    /// holds.
    pub fn check<K: AsRef<[u8]>>(&self, keys: &[K], now: Millis) -> Outcome {
        let mut pins: SmallVec<[Pin<'_>; 4]> = SmallVec::new();
        let mut notice = None;
        let mut last: Option<(&Limit, u64)> = None;
        for (at, (limit, key)) in self.limits.iter().zip(keys).enumerate() {
            let key = key.as_ref();
            if key.is_empty() {
                continue;
            }
            if key.len() > LONGEST_KEY {
                notice = Some(self.notice(limit, 0, NoticeKind::LongKey));
                continue;
            }
            // As in nginx the last limit counts at once, the others when it is known that none refuses.
            let is_last = at + 1 == self.limits.len();
            let (hash, shard) = limit.states.shards.locate(key);
            let found = limit.states.shards.lock(shard).ask(hash, key, limit, is_last, now);
            match found {
                Found::Counted { excess } => last = Some((limit, excess)),
                Found::Pinned { slot } => pins.push(Pin { limit, shard, slot }),
                Found::Over { excess } => {
                    release(&pins);
                    return self.rejected(self.notice(limit, excess, NoticeKind::Limiting));
                }
                Found::Full => {
                    release(&pins);
                    return self.rejected(self.notice(limit, 0, NoticeKind::Full));
                }
            }
        }
        if last.is_none() && pins.is_empty() {
            return Outcome { decision: Decision::Passed, status: None, notice };
        }
        let mut longest = last.map(|(limit, excess)| (limit.delay_of(excess), limit, excess));
        for pin in pins.iter().rev() {
            let excess = pin.limit.states.shards.lock(pin.shard).count(pin.slot, pin.limit.rate, now);
            let delay = pin.limit.delay_of(excess);
            if longest.is_none_or(|(other, ..)| delay > other) {
                longest = Some((delay, pin.limit, excess));
            }
        }
        match longest {
            Some((delay @ 1.., limit, excess)) => {
                self.delayed(delay, self.notice(limit, excess, NoticeKind::Delaying))
            }
            _ => Outcome { decision: Decision::Passed, status: Some(RateStatus::Passed), notice },
        }
    }

    fn rejected(&self, notice: Notice) -> Outcome {
        let (decision, status) = if self.refusal.dry_run {
            (Decision::Passed, RateStatus::RejectedDryRun)
        } else {
            (Decision::Rejected, RateStatus::Rejected)
        };
        Outcome { decision, status: Some(status), notice: Some(notice) }
    }

    fn delayed(&self, delay: Millis, notice: Notice) -> Outcome {
        let (decision, status) = if self.refusal.dry_run {
            (Decision::Passed, RateStatus::DelayedDryRun)
        } else {
            (Decision::Delayed(Duration::from_millis(delay)), RateStatus::Delayed)
        };
        Outcome { decision, status: Some(status), notice: Some(notice) }
    }

    fn notice(&self, limit: &Limit, excess: u64, kind: NoticeKind) -> Notice {
        let level = match kind {
            NoticeKind::Limiting => self.refusal.level,
            NoticeKind::Delaying => one_less(self.refusal.level),
            NoticeKind::Full => LogLevel::Alert,
            NoticeKind::LongKey => LogLevel::Error,
        };
        Notice { level, zone: Arc::clone(&limit.name), excess, kind, dry_run: self.refusal.dry_run }
    }
}

/// A state that is held until it is known whether the request counts.
struct Pin<'a> {
    limit: &'a Limit,
    shard: usize,
    slot: crate::table::Slot,
}

fn release(pins: &[Pin<'_>]) {
    for pin in pins {
        pin.limit.states.shards.lock(pin.shard).unpin(pin.slot);
    }
}

const fn one_less(level: LogLevel) -> LogLevel {
    match level {
        LogLevel::Debug => LogLevel::Debug,
        LogLevel::Info | LogLevel::Notice => LogLevel::Info,
        LogLevel::Warn => LogLevel::Notice,
        LogLevel::Error => LogLevel::Warn,
        LogLevel::Crit => LogLevel::Error,
        LogLevel::Alert => LogLevel::Crit,
        LogLevel::Emerg => LogLevel::Alert,
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part, zone) = (self.excess / REQUEST, self.excess % REQUEST, &self.zone);
        let dry_run = if self.dry_run { ", dry run" } else { "" };
        match self.kind {
            NoticeKind::Limiting => {
                write!(f, "limiting requests{dry_run}, excess: {whole}.{part:03} by zone \"{zone}\"")
            }
            NoticeKind::Delaying => {
                write!(f, "delaying request{dry_run}, excess: {whole}.{part:03}, by zone \"{zone}\"")
            }
            NoticeKind::Full => write!(f, "could not allocate node in limit_req zone \"{zone}\"{dry_run}"),
            NoticeKind::LongKey => {
                write!(f, "the key of limit_req zone \"{zone}\" is more than {LONGEST_KEY} bytes")
            }
        }
    }
}

/// One `limit_req`.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    name: Arc<str>,
    /// Thousandths of a request a second.
    rate: u64,
    burst: u64,
    delay: u64,
    states: Arc<States>,
}

impl Limit {
    pub(crate) fn new(name: &str, rate: u64, states: Arc<States>, limit: &LimitReq) -> Self {
        Self {
            name: name.into(),
            // The configuration refuses a rate of 0; a division by it must not be what tells.
            rate: rate.max(1),
            burst: limit.burst.saturating_mul(REQUEST),
            delay: limit.delay.saturating_mul(REQUEST),
            states,
        }
    }

    /// How long a request that found `excess` waits.
    fn delay_of(&self, excess: u64) -> Millis {
        let delayed = u128::from(excess.saturating_sub(self.delay));
        u64::try_from(delayed * 1000 / u128::from(self.rate)).unwrap_or(u64::MAX)
    }
}

/// The states of a zone.
#[derive(Debug)]
pub(crate) struct States {
    shards: Shards<Shard>,
}

impl States {
    pub(crate) fn new(size: u64) -> Self {
        Self { shards: Shards::new(size, OVERHEAD, Shard::new) }
    }
}

#[cfg(test)]
mod tests;
