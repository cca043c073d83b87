//! What the keys of tickets are made of, so that every process that is told of it once makes the same.
//!
//! Time is cut into epochs. Each has a secret, and the next one's is a hash of it: whoever has the secret of an epoch has
//! those that come after it, and none before. So what is given away, or found in memory, opens only tickets that are
//! still good (RFC 8446 §C.4).

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use config::model::tls::Secret;
use rustix::time::{ClockId, clock_gettime};

/// How long a key encrypts; those before it go on being known for as long again, twice.
const EPOCH: Duration = Duration::from_secs(12 * 60 * 60);
/// How many epochs are known at once.
const KNOWN: u64 = 3;
/// Epochs that are gone through one by one, some fourteen years. Beyond, nothing is left that anybody could still want.
const MOST_STEPS: u64 = 10_000;

/// Secrets of epochs, from the oldest one that is known.
#[derive(Clone)]
pub struct Ratchet {
    epoch: u64,
    secret: [u8; 32],
}

/// A key of one epoch.
pub(super) struct EpochKey {
    pub(super) name: [u8; 16],
    pub(super) key: [u8; 32],
}

impl fmt::Debug for Ratchet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ratchet({})", self.epoch)
    }
}

/// The time since the machine was started, the same for all processes: nobody can set it.
pub(super) fn clock() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The epoch of a time.
pub(super) fn epoch(clock: Duration) -> u64 {
    clock.as_secs() / EPOCH.as_secs()
}

impl Ratchet {
    /// Begins in this epoch. `None`: there are no random bytes.
    pub fn new() -> Option<Self> {
        Self::begin(epoch(clock()))
    }

    pub(super) fn begin(epoch: u64) -> Option<Self> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        Some(Self { epoch, secret })
    }

    /// What [`to_bytes`](Self::to_bytes) has made.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (epoch, secret) = bytes.split_first_chunk()?;
        Some(Self { epoch: u64::from_be_bytes(*epoch), secret: secret.try_into().ok()? })
    }

    /// For another process on this machine.
    pub fn to_bytes(&self) -> Secret {
        Secret([&self.epoch.to_be_bytes()[..], &self.secret].concat())
    }

    /// Forgets what is not known any more. Returns how it stands then; `None`: there are no random bytes.
    pub fn advance(&mut self) -> Option<&Self> {
        self.advance_to(epoch(clock()))
    }

    pub(super) fn advance_to(&mut self, current: u64) -> Option<&Self> {
        let steps = current.saturating_sub(self.epoch).saturating_sub(KNOWN - 1);
        if current < self.epoch || steps > MOST_STEPS {
            *self = Self::begin(current)?;
        } else {
            (0..steps).try_for_each(|_| self.step())?;
        }
        Some(self)
    }

    /// The keys of this epoch and those before it that are known, the newest first.
    pub(super) fn keys(&self, current: u64) -> Option<Vec<EpochKey>> {
        let mut at = self.clone();
        at.advance_to(current)?;
        let mut keys = vec![at.key()?];
        while at.epoch < current {
            at.step()?;
            keys.insert(0, at.key()?);
        }
        Some(keys)
    }

    fn step(&mut self) -> Option<()> {
        self.secret = expand(&self.secret, b"monoceros tickets: next epoch")?;
        self.epoch += 1;
        Some(())
    }

    fn key(&self) -> Option<EpochKey> {
        Some(EpochKey {
            name: expand(&self.secret, b"monoceros tickets: name")?,
            key: expand(&self.secret, b"monoceros tickets: key")?,
        })
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand (RFC 5869 §2.3).
fn expand<const N: usize>(secret: &[u8; 32], label: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    let labels = [label];
    Prk::new_less_safe(HKDF_SHA256, secret).expand(&labels, Length(N)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ratchet: &Ratchet, current: u64) -> Vec<[u8; 16]> {
        ratchet.keys(current).unwrap().iter().map(|key| key.name).collect()
    }

    #[test]
    fn an_epoch_has_the_same_keys_for_everybody_who_was_told_in_time() {
        let master = Ratchet::begin(7).unwrap();
        let early = Ratchet::of_bytes(&master.to_bytes().0).unwrap();
        let mut late = master.clone();
        late.advance_to(9);
        let late = Ratchet::of_bytes(&late.to_bytes().0).unwrap();
        for current in 9..40 {
            let keys = early.keys(current).unwrap();
            assert_eq!(keys.len(), 3);
            assert!(keys.iter().all(|key| key.key[..16] != key.name));
            assert_eq!(names(&early, current), names(&late, current));
            assert_eq!(names(&early, current)[1..], names(&early, current - 1)[..2], "the newest first");
        }
        assert_eq!(names(&early, 7).len(), 1, "nothing is before the beginning");
        assert_eq!(names(&early, 8).len(), 2);
    }

    #[test]
    fn what_is_over_cannot_be_had_from_what_comes_after() {
        let begun = Ratchet::begin(7).unwrap();
        let mut ratchet = begun.clone();
        ratchet.advance_to(9);
        assert_eq!(ratchet.secret, begun.secret, "all three epochs are known");
        ratchet.advance_to(10);
        assert_eq!(ratchet.epoch, 8);
        assert_ne!(ratchet.secret, begun.secret);
        assert!(!names(&ratchet, 10).contains(&names(&begun, 7)[0]));
        // Each epoch has a secret of its own.
        let mut seen = std::collections::HashSet::new();
        for current in 10..1000 {
            assert!(seen.insert(ratchet.advance_to(current).unwrap().secret));
            assert_eq!(ratchet.epoch, current - 2);
        }
    }

    #[test]
    fn a_clock_that_jumps_does_no_harm() {
        let begun = Ratchet::begin(100).unwrap();
        let mut same = begun.clone();
        for current in [100, 101, 102, 100] {
            assert_eq!(same.advance_to(current).unwrap().secret, begun.secret, "nothing is lost needlessly");
        }
        for current in [99, 0, 100 + MOST_STEPS + 3, u64::MAX] {
            let mut anew = begun.clone();
            assert_eq!(anew.advance_to(current).unwrap().epoch, current);
            assert_ne!(anew.secret, begun.secret);
            assert_eq!(begun.keys(current).unwrap().len(), 1);
        }
        let mut far = begun.clone();
        assert_eq!(far.advance_to(100 + MOST_STEPS).unwrap().epoch, 98 + MOST_STEPS);
        let mut last = Ratchet { epoch: u64::MAX, secret: [0; 32] };
        last.advance_to(u64::MAX);
        assert_eq!(last.keys(u64::MAX).unwrap().len(), 1);
    }

    #[test]
    fn only_whole_ones_are_read_and_none_is_shown() {
        let bytes = Ratchet::new().unwrap().to_bytes().0;
        assert_eq!(bytes.len(), 40);
        assert!(Ratchet::of_bytes(&bytes).is_some());
        assert!(Ratchet::of_bytes(&bytes[..39]).is_none());
        assert!(Ratchet::of_bytes(&[bytes, vec![0]].concat()).is_none());
        assert!(Ratchet::of_bytes(&[]).is_none());
        assert_eq!(format!("{:?}", Ratchet { epoch: 3, secret: [7; 32] }), "Ratchet(3)");
    }
}
