//! What was proved not long ago.

use std::collections::{HashSet, VecDeque};

use sha2::{Digest, Sha256};

use super::{Credentials, Password};
use crate::Millis;

/// Successful verifications of slow passwords, for one event loop.
///
/// Holds neither names nor passwords, only a keyed hash of user, password and stored hash together: what is
/// remembered is worth nothing to another process, and ends with the user's line in the file, which is looked up
/// first each time: whoever is removed there is out at once. Failures are not remembered.
#[derive(Debug)]
pub struct Verified {
    key: [u8; 32],
    known: HashSet<[u8; 32]>,
    /// In the order of their end.
    ends: VecDeque<(Millis, [u8; 32])>,
    lifetime: Millis,
    most: usize,
}

impl Verified {
    /// Remembers at most `most` verifications, each for `lifetime`. The error is the system's, when it has no
    /// random numbers.
    pub fn new(most: usize, lifetime: Millis) -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self { key, known: HashSet::new(), ends: VecDeque::new(), lifetime, most })
    }

    /// Whether these credentials have proved this password within the lifetime.
    pub fn contains(&mut self, credentials: &Credentials, password: &Password, now: Millis) -> bool {
        self.forget(now);
        !self.known.is_empty() && self.known.contains(&self.digest(credentials, password))
    }

    /// Remembers that these credentials have proved this password at `now`.
    pub fn remember(&mut self, credentials: &Credentials, password: &Password, now: Millis) {
        self.forget(now);
        let digest = self.digest(credentials, password);
        if self.most == 0 || !self.known.insert(digest) {
            return;
        }
        self.ends.push_back((now.saturating_add(self.lifetime), digest));
        if self.ends.len() > self.most {
            self.drop_oldest();
        }
    }

    fn forget(&mut self, now: Millis) {
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, digest)) = self.ends.pop_front() {
            self.known.remove(&digest);
        }
    }

    fn digest(&self, credentials: &Credentials, password: &Password) -> [u8; 32] {
        let mut hash = Sha256::new().chain_update(self.key);
        for part in [credentials.user(), credentials.password(), password.stored()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials { user: user.into(), password: password.into() }
    }

    fn plain(password: &str) -> Password {
        Password::parse(format!("{{PLAIN}}{password}").as_bytes()).unwrap()
    }

    #[test]
    fn only_what_was_proved_is_known() {
        let mut verified = Verified::new(10, 1000).unwrap();
        let (user, stored) = (credentials("user", "secret"), plain("secret"));
        assert!(!verified.contains(&user, &stored, 0));
        verified.remember(&user, &stored, 0);
        assert!(verified.contains(&user, &stored, 999));
        assert!(!verified.contains(&credentials("user", "other"), &stored, 0));
        assert!(!verified.contains(&credentials("userse", "cret"), &stored, 0));
        assert!(!verified.contains(&user, &plain("changed"), 0));
    }

    #[test]
    fn it_ends_with_its_time_and_is_not_prolonged() {
        let mut verified = Verified::new(10, 1000).unwrap();
        let (user, stored) = (credentials("user", "secret"), plain("secret"));
        verified.remember(&user, &stored, 0);
        verified.remember(&user, &stored, 900);
        assert!(!verified.contains(&user, &stored, 1000));
        assert!(verified.ends.is_empty() && verified.known.is_empty());
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut verified = Verified::new(2, 1000).unwrap();
        let stored = plain("secret");
        for (now, user) in ["one", "two", "three"].into_iter().enumerate() {
            verified.remember(&credentials(user, "secret"), &stored, now as Millis);
        }
        assert!(!verified.contains(&credentials("one", "secret"), &stored, 3));
        assert!(verified.contains(&credentials("two", "secret"), &stored, 3));
        assert!(verified.contains(&credentials("three", "secret"), &stored, 3));
        assert_eq!(verified.known.len(), 2);
    }

    #[test]
    fn nothing_is_remembered_where_there_is_no_room() {
        let mut verified = Verified::new(0, 1000).unwrap();
        verified.remember(&credentials("user", "secret"), &plain("secret"), 0);
        assert!(!verified.contains(&credentials("user", "secret"), &plain("secret"), 0));
    }
}
