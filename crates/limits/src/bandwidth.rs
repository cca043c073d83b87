//! `limit_rate` and `limit_rate_after`: how much of a response may be written now.

use std::time::Duration;

use crate::Millis;

/// The limit of one response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    /// Bytes a second; 0 is no limit.
    pub rate: u64,
    /// So many bytes at the beginning are not counted.
    pub after: u64,
}

/// What may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// As much as the socket takes.
    Unlimited,
    /// At most so many bytes (not 0).
    Bytes(u64),
    /// Nothing before so much time has gone by.
    Wait(Duration),
}

impl Bandwidth {
    /// What may be written at `now`, when `sent` bytes (head and body) of a request that began at `start` have
    /// been.
    ///
    /// nginx counts whole seconds, and the one that has begun is there to be used: a response gets its first
    /// second's bytes at once.
    pub fn allowance(self, sent: u64, start: Millis, now: Millis) -> Allowance {
        if self.rate == 0 {
            return Allowance::Unlimited;
        }
        let seconds = (now / 1000).saturating_sub(start / 1000) + 1;
        let granted = u128::from(self.rate) * u128::from(seconds) + u128::from(self.after);
        let sent = u128::from(sent);
        if sent < granted {
            Allowance::Bytes(u64::try_from(granted - sent).unwrap_or(u64::MAX))
        } else {
            Allowance::Wait(millis((sent - granted) * 1000 / u128::from(self.rate) + 1))
        }
    }

    /// How long to pause after a write that brought the bytes sent from `before` to `after_write`: the time that
    /// they are worth, so that a second's bytes do not leave in one burst. Zero: go on at once.
    pub fn pause(self, before: u64, after_write: u64) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let counted = after_write.saturating_sub(self.after) - before.saturating_sub(self.after);
        millis(u128::from(counted) * 1000 / u128::from(self.rate))
    }
}

fn millis(count: u128) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let free = Bandwidth { rate: 0, after: 10 };
        assert_eq!(free.allowance(u64::MAX, 0, 0), Allowance::Unlimited);
        assert_eq!(free.pause(0, u64::MAX), Duration::ZERO);
    }

    #[test]
    fn each_second_that_has_begun_grants_its_bytes() {
        let limit = Bandwidth { rate: 1000, after: 0 };
        for (sent, start, now, expected) in [
            (0, 5000, 5000, Allowance::Bytes(1000)),
            (999, 5000, 5999, Allowance::Bytes(1)),
            (1000, 5000, 5999, Allowance::Wait(ms(1))),
            (1500, 5000, 5999, Allowance::Wait(ms(501))),
            (1500, 5000, 6000, Allowance::Bytes(500)),
            // The seconds are the clock's, not the request's.
            (1500, 5999, 6000, Allowance::Bytes(500)),
            // Another loop's clock may be a little behind.
            (0, 6000, 5999, Allowance::Bytes(1000)),
        ] {
            assert_eq!(limit.allowance(sent, start, now), expected, "{sent} sent from {start} to {now}");
        }
    }

    #[test]
    fn the_first_bytes_are_not_counted() {
        let limit = Bandwidth { rate: 1000, after: 500 };
        assert_eq!(limit.allowance(0, 0, 0), Allowance::Bytes(1500));
        assert_eq!(limit.allowance(1500, 0, 0), Allowance::Wait(ms(1)));
        assert_eq!(limit.pause(0, 500), Duration::ZERO);
        assert_eq!(limit.pause(0, 700), ms(200));
        assert_eq!(limit.pause(600, 700), ms(100));
    }

    #[test]
    fn nothing_overflows() {
        let limit = Bandwidth { rate: u64::MAX, after: u64::MAX };
        assert_eq!(limit.allowance(0, 0, u64::MAX), Allowance::Bytes(u64::MAX));
        let slow = Bandwidth { rate: 1, after: 0 };
        assert_eq!(slow.allowance(u64::MAX, 0, 0), Allowance::Wait(ms(u64::MAX)));
        assert_eq!(slow.pause(0, u64::MAX), ms(u64::MAX));
    }
}
