//! Slowing down what dies in a loop.

use std::time::Duration;

use super::Time;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// After this long without a failure (beyond the last delay) the loop is over.
const CALM: Duration = Duration::from_secs(10);

/// No delay after the first quick death, then 0.1 s, doubled up to 30 s.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    last: Time,
    until: Option<Time>,
}

impl Backoff {
    /// Counts a quick death; the delay until the next start.
    pub(super) fn failed(&mut self, now: Time) -> Duration {
        self.count(now, LONGEST)
    }

    /// Counts one over a request: there may be many such in the queue, and others behind them that must not wait for a
    /// delay that grows.
    pub(super) fn failed_at_work(&mut self, now: Time) -> Duration {
        self.count(now, FIRST)
    }

    fn count(&mut self, now: Time, longest: Duration) -> Duration {
        let calm_at = self.until.unwrap_or(self.last) + CALM;
        if now >= calm_at {
            self.failures = 0;
        }
        // Several that die in one wait are one failure.
        if self.until.is_none_or(|at| at <= now) {
            self.failures += 1;
        }
        self.last = now;
        let delay = match self.failures {
            0 | 1 => Duration::ZERO,
            n => FIRST.saturating_mul(1 << (n - 2).min(16)).min(longest),
        };
        self.until = (!delay.is_zero()).then_some(now + delay);
        delay
    }

    /// From when on something may be started, if there is a delay.
    pub(super) fn until(&self) -> Option<Time> {
        self.until
    }

    /// Deaths in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// What was started works.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_thirty_seconds_and_calms_down() {
        let mut b = Backoff::default();
        let mut now = Duration::ZERO;
        let mut delays = vec![];
        for _ in 0..12 {
            let delay = b.failed(now);
            delays.push(delay.as_millis());
            assert_eq!(b.until(), (!delay.is_zero()).then_some(now + delay));
            now += delay;
        }
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(b.failed(now + CALM + Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn over_requests_it_does_not_grow() {
        let mut b = Backoff::default();
        let mut now = Duration::ZERO;
        for failure in 0..12 {
            let delay = b.failed_at_work(now);
            assert_eq!(delay.as_millis(), if failure == 0 { 0 } else { 100 });
            now += delay;
        }
        assert_eq!(b.failed(now).as_millis(), 30_000);
    }

    #[test]
    fn several_in_one_wait_count_once() {
        let mut b = Backoff::default();
        b.failed(Duration::ZERO);
        b.failed(Duration::ZERO);
        assert_eq!(b.failed(Duration::from_millis(50)), Duration::from_millis(100));
        assert_eq!(b.failures(), 2);
    }
}
