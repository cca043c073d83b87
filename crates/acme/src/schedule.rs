//! When to renew and when to try again: arithmetic on seconds since 1970, without a clock.

use sha2::{Digest, Sha256};

use crate::Failure;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What an authority may ask for at most by `Retry-After`.
const LONGEST_WISH: u64 = 7 * DAY;
/// The longest pause between two attempts that nobody has asked for.
const LONGEST_PAUSE: u64 = 6 * HOUR;

/// From when until when a certificate is valid, seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// `notBefore`
    pub from: u64,
    /// `notAfter`
    pub until: u64,
}

impl Validity {
    /// Seconds that are left.
    pub fn left(self, now: u64) -> u64 {
        self.until.saturating_sub(now)
    }

    /// That in words.
    pub fn left_in_words(self, now: u64) -> String {
        match self.left(now) {
            0 => format!("has expired {} ago", duration(now.saturating_sub(self.until))),
            left => format!("is valid for {} more", duration(left)),
        }
    }
}

/// When a certificate is to be renewed. `window` is what the authority suggests (RFC 9773 §4.2: any moment in it);
/// without one it is after two thirds of its life, and a bit, so that certificates that were made together are not
/// renewed together.
pub fn renewal(validity: Validity, window: Option<(u64, u64)>, chance: f64) -> u64 {
    let life = validity.until.saturating_sub(validity.from);
    match window {
        // One that makes no sense is none: before or behind the life, or backwards.
        Some((start, end)) if start < end && start < validity.until => {
            start + ((end.min(validity.until) - start) as f64 * chance) as u64
        }
        _ => validity.from + life / 3 * 2 + (life as f64 / 30.0 * chance) as u64,
    }
}

/// Seconds to wait after the `failures`th failure in a row (1 is the first).
///
/// Authorities count what they refuse (Let's Encrypt: five times an hour for a name), so these pauses grow threefold from
/// a minute. One that only can't be reached is asked sooner. What it asks for by `Retry-After` is granted. The nearer the
/// end of what is still served, the shorter the pause.
pub fn pause(failure: &Failure, failures: u32, current: Option<Validity>, now: u64, chance: f64) -> u64 {
    let grown = |first: u64| first.saturating_mul(3_u64.saturating_pow(failures.saturating_sub(1)));
    let (mut pause, least) = match failure {
        Failure::Unreachable(_) => (grown(5), 0),
        Failure::Limited { seconds, .. } => {
            let wish = seconds.unwrap_or(HOUR).min(LONGEST_WISH);
            (wish.max(MINUTE), wish)
        }
        Failure::Refused(_) | Failure::Own(_) => (grown(MINUTE), 0),
        // A new one is made.
        Failure::NoAccount(_) => (if failures < 2 { 1 } else { grown(MINUTE) }, 0),
    };
    if let Some(validity) = current {
        let life = validity.until.saturating_sub(validity.from);
        pause = pause.min((validity.left(now) / 4).max(life / 1000).max(1));
    }
    let pause = pause.min(LONGEST_PAUSE).max(least);
    // Up to a quarter more, for nobody to come back together with all others.
    pause + (pause as f64 * 0.25 * chance) as u64
}

/// A number from 0 to 1 that looks random and stays the same: the moment of a renewal does not move with every restart.
pub fn chance(seed: &[&[u8]]) -> f64 {
    let mut hash = Sha256::new();
    for part in seed {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let mut first = [0; 4];
    first.copy_from_slice(&hash[..4]);
    f64::from(u32::from_be_bytes(first)) / f64::from(u32::MAX)
}

/// A duration for people.
pub fn duration(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / MINUTE, "minute"),
        7200..172_800 => (seconds / HOUR, "hour"),
        _ => (seconds / DAY, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NINETY: Validity = Validity { from: 1_000_000, until: 1_000_000 + 90 * DAY };

    fn refused() -> Failure {
        Failure::Refused(String::new())
    }

    #[test]
    fn without_a_suggestion_two_thirds_count() {
        assert_eq!(renewal(NINETY, None, 0.0), NINETY.from + 60 * DAY);
        assert_eq!(renewal(NINETY, None, 1.0), NINETY.from + 63 * DAY);
        let short = Validity { from: 100, until: 130 };
        assert_eq!(renewal(short, None, 0.5), 120);
    }

    #[test]
    fn a_suggestion_counts_if_it_makes_sense() {
        let window = (NINETY.from + 10 * DAY, NINETY.from + 20 * DAY);
        assert_eq!(renewal(NINETY, Some(window), 0.5), NINETY.from + 15 * DAY);
        // In the past: at once.
        assert_eq!(renewal(NINETY, Some((5, 10)), 0.5), 7);
        for nonsense in [(20, 10), (NINETY.until + 1, NINETY.until + 2)] {
            assert_eq!(renewal(NINETY, Some(nonsense), 0.0), NINETY.from + 60 * DAY);
        }
        // Not behind the end.
        assert!(renewal(NINETY, Some((NINETY.until - 10, u64::MAX)), 1.0) <= NINETY.until);
    }

    #[test]
    fn failures_are_at_most_five_in_an_hour() {
        let mut at = 0;
        let mut count = 1;
        for failures in 1.. {
            at += pause(&refused(), failures, None, 0, 0.0);
            if at > HOUR {
                break;
            }
            count += 1;
        }
        assert!(count <= 5, "{count}");
        assert_eq!(pause(&refused(), 60, None, 0, 0.0), LONGEST_PAUSE);
        assert_eq!(pause(&Failure::Unreachable(String::new()), 1, None, 0, 0.0), 5);
    }

    #[test]
    fn what_an_authority_asks_for_is_granted_within_reason() {
        let limited = |seconds| Failure::Limited { text: String::new(), seconds };
        assert_eq!(pause(&limited(Some(2 * DAY)), 1, None, 0, 0.0), 2 * DAY);
        assert_eq!(pause(&limited(Some(u64::MAX)), 1, None, 0, 0.0), LONGEST_WISH);
        assert_eq!(pause(&limited(None), 1, None, 0, 0.0), HOUR);
        assert!(pause(&limited(Some(0)), 1, None, 0, 0.0) >= MINUTE);
        // Even if the certificate runs out: asking sooner would only be refused again.
        let ending = Validity { from: 0, until: 100 };
        assert_eq!(pause(&limited(Some(500)), 1, Some(ending), 90, 0.0), 500);
    }

    #[test]
    fn pauses_shrink_towards_the_end() {
        let now = NINETY.until - 4 * HOUR;
        assert_eq!(pause(&refused(), 9, Some(NINETY), now, 0.0), 90 * DAY / 1000);
        let short = Validity { from: 0, until: 30 };
        assert_eq!(pause(&refused(), 1, Some(short), 20, 0.0), 2);
        assert_eq!(pause(&refused(), 1, Some(short), 40, 0.0), 1);
    }

    #[test]
    fn chance_is_spread_and_stable() {
        assert!((chance(&[b"a", b"b"]) - chance(&[b"a", b"b"])).abs() < f64::EPSILON);
        assert!((chance(&[b"ab", b""]) - chance(&[b"a", b"b"])).abs() > f64::EPSILON);
        let mean = (0..1000_u32).map(|n| chance(&[&n.to_be_bytes()])).sum::<f64>() / 1000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
    }

    #[test]
    fn durations_read_well() {
        for (seconds, text) in
            [(1, "1 second"), (119, "119 seconds"), (3600, "60 minutes"), (12 * DAY, "12 days")]
        {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(NINETY.left_in_words(NINETY.until - 2 * DAY), "is valid for 2 days more");
        assert_eq!(NINETY.left_in_words(NINETY.until + 2 * DAY), "has expired 2 days ago");
    }
}
