//! One shard of a zone: buckets by key, the oldest evicted first.

use super::{Limit, REQUEST};
use crate::Millis;
use crate::table::{Slot, Table};

/// Clocks of event loops may differ a little; one that is further behind has wrapped.
const SKEW: Millis = 60_000;
/// A state that was not asked for so long may be forgotten once its bucket is empty.
const IDLE: Millis = 60_000;

#[derive(Debug)]
pub(crate) struct Shard {
    table: Table<Bucket>,
    /// The one that was asked last.
    newest: Option<Slot>,
    oldest: Option<Slot>,
}

/// What is kept for a key.
#[derive(Debug)]
pub(crate) struct Bucket {
    newer: Option<Slot>,
    older: Option<Slot>,
    last: Millis,
    excess: i64,
    /// Requests that are being decided on. Such a state is not evicted.
    pins: u32,
}

impl Bucket {
    /// The excess with one more request at `now`, and how much time has gone by for it.
    fn with_request(&self, rate: u64, now: Millis) -> (i64, Millis) {
        let elapsed = elapsed(self.last, now);
        (self.excess.saturating_sub(leaked(rate, elapsed)).saturating_add(REQUEST as i64).max(0), elapsed)
    }
}

fn elapsed(last: Millis, now: Millis) -> Millis {
    match now.checked_sub(last) {
        Some(elapsed) => elapsed,
        None if last - now > SKEW => 1,
        None => 0,
    }
}

fn leaked(rate: u64, elapsed: Millis) -> i64 {
    i64::try_from(u128::from(rate) * u128::from(elapsed) / 1000).unwrap_or(i64::MAX)
}

/// What a question found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The request is within the limit, and counted.
    Counted { excess: u64 },
    /// The request is within the limit; [`Shard::count`] or [`Shard::unpin`] must follow.
    Pinned { slot: Slot },
    /// The request is over the limit.
    Over { excess: u64 },
    /// There is no room for the key.
    Full,
}

impl Shard {
    pub(crate) fn new(table: Table<Bucket>) -> Self {
        Self { table, newest: None, oldest: None }
    }

    /// Asks for one request of `key`; `count_now`: counts it if it is within the limit, else pins its state.
    pub(crate) fn ask(
        &mut self,
        hash: u64,
        key: &[u8],
        limit: &Limit,
        count_now: bool,
        now: Millis,
    ) -> Found {
        let Some(slot) = self.table.find(hash, key) else {
            return self.ask_first(hash, key, limit.rate, count_now, now);
        };
        self.unlink(slot);
        self.link(slot);
        let Some(bucket) = self.table.value_mut(slot) else { return Found::Full };
        let (excess, elapsed) = bucket.with_request(limit.rate, now);
        if excess as u64 > limit.burst {
            return Found::Over { excess: excess as u64 };
        }
        if !count_now {
            bucket.pins += 1;
            return Found::Pinned { slot };
        }
        bucket.excess = excess;
        if elapsed > 0 {
            bucket.last = now;
        }
        Found::Counted { excess: excess as u64 }
    }

    fn ask_first(&mut self, hash: u64, key: &[u8], rate: u64, count_now: bool, now: Millis) -> Found {
        self.expire(rate, false, now);
        // The first request is no excess; where it is counted later, room for it is made.
        let (excess, pins) = if count_now { (0, 0) } else { (-(REQUEST as i64), 1) };
        let bucket = || Bucket { newer: None, older: None, last: now, excess, pins };
        let mut slot = self.table.insert(hash, key, bucket());
        if slot.is_none() {
            self.expire(rate, true, now);
            slot = self.table.insert(hash, key, bucket());
        }
        let Some(slot) = slot else { return Found::Full };
        self.link(slot);
        if count_now { Found::Counted { excess: 0 } } else { Found::Pinned { slot } }
    }

    /// Counts a request whose state is pinned; the excess that it has now.
    pub(crate) fn count(&mut self, slot: Slot, rate: u64, now: Millis) -> u64 {
        let Some(bucket) = self.table.value_mut(slot) else { return 0 };
        let (excess, elapsed) = bucket.with_request(rate, now);
        bucket.excess = excess;
        if elapsed > 0 {
            bucket.last = now;
        }
        bucket.pins -= 1;
        excess as u64
    }

    /// Lets a state go whose request does not count.
    pub(crate) fn unpin(&mut self, slot: Slot) {
        if let Some(bucket) = self.table.value_mut(slot) {
            bucket.pins -= 1;
        }
    }

    /// Forgets up to two of the oldest states that have long been idle and are empty; `by_force`: before them the
    /// oldest of all.
    fn expire(&mut self, rate: u64, by_force: bool, now: Millis) {
        for round in usize::from(!by_force)..3 {
            let Some((slot, bucket)) = self.oldest.and_then(|slot| Some((slot, self.table.value(slot)?)))
            else {
                return;
            };
            if bucket.pins > 0 {
                return;
            }
            if round > 0 {
                let idle = now.abs_diff(bucket.last);
                if idle < IDLE || bucket.excess > leaked(rate, idle) {
                    return;
                }
            }
            self.unlink(slot);
            self.table.remove(slot);
        }
    }

    fn link(&mut self, slot: Slot) {
        let before = self.newest.replace(slot);
        if let Some(bucket) = self.table.value_mut(slot) {
            (bucket.newer, bucket.older) = (None, before);
        }
        match before.and_then(|before| self.table.value_mut(before)) {
            Some(bucket) => bucket.newer = Some(slot),
            None => self.oldest = Some(slot),
        }
    }

    fn unlink(&mut self, slot: Slot) {
        let Some(bucket) = self.table.value_mut(slot) else { return };
        let (newer, older) = (bucket.newer.take(), bucket.older.take());
        match newer.and_then(|newer| self.table.value_mut(newer)) {
            Some(bucket) => bucket.older = older,
            None => self.newest = older,
        }
        match older.and_then(|older| self.table.value_mut(older)) {
            Some(bucket) => bucket.newer = newer,
            None => self.oldest = newer,
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, hash: u64, key: &[u8]) -> bool {
        self.table.find(hash, key).is_some()
    }

    /// Every state is in the list once, from either end, none is pinned, and the budget holds.
    #[cfg(test)]
    pub(crate) fn assert_consistent(&self) {
        let walk = |first: Option<Slot>, next: fn(&Bucket) -> Option<Slot>| {
            std::iter::successors(first, |&slot| next(self.table.value(slot).unwrap()))
                .take(self.table.len() + 1)
                .collect::<Vec<_>>()
        };
        let mut from_newest = walk(self.newest, |bucket| bucket.older);
        let from_oldest = walk(self.oldest, |bucket| bucket.newer);
        from_newest.reverse();
        assert_eq!(from_newest, from_oldest);
        assert_eq!(from_oldest.len(), self.table.len());
        assert!(from_oldest.iter().all(|&slot| self.table.value(slot).unwrap().pins == 0));
        self.table.assert_within_budget();
    }
}
