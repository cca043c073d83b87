//! `sticky learn`: which session is served where.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use config::model::http::StickyLearn;
use md5::{Digest, Md5};

/// What a session takes of its zone, in bytes.
const SESSION: u64 = 128;

type Key = [u8; 16];

/// The sessions of a zone; they live on over reloads.
#[derive(Debug)]
pub(super) struct Sessions {
    zone: String,
    begin: Instant,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    most: usize,
    /// Milliseconds.
    timeout: u64,
    sessions: HashMap<Key, Session>,
    /// By when they were asked for last.
    order: BTreeMap<(u64, u64), Key>,
    count: u64,
}

#[derive(Debug)]
struct Session {
    server: Vec<u8>,
    last: (u64, u64),
}

impl Sessions {
    pub(super) fn new(learn: &StickyLearn) -> Self {
        let sessions = Self { zone: learn.zone.clone(), begin: Instant::now(), known: Mutex::default() };
        sessions.limit(learn);
        sessions
    }

    /// Whether these are the sessions of this zone; then its limits hold from now on.
    pub(super) fn goes_on_as(&self, learn: &StickyLearn) -> bool {
        let is_it = self.zone == learn.zone;
        if is_it {
            self.limit(learn);
        }
        is_it
    }

    fn limit(&self, learn: &StickyLearn) {
        let mut known = self.known();
        known.most = usize::try_from(learn.size / SESSION).unwrap_or(usize::MAX).max(1);
        known.timeout = learn.timeout.as_millis() as u64;
        let most = known.most;
        known.shrink(most);
    }

    /// The server of a session.
    pub(super) fn server_of(&self, id: &[u8]) -> Option<Vec<u8>> {
        let now = self.now();
        let mut known = self.known();
        known.forget(now);
        known.sessions.get(&key(id)).map(|session| session.server.clone())
    }

    /// A session was served there. One that is not known begins if it `may_begin`.
    pub(super) fn served(&self, id: &[u8], server: &[u8], may_begin: bool) {
        let (now, key) = (self.now(), key(id));
        let mut known = self.known();
        known.forget(now);
        known.count += 1;
        let last = (now, known.count);
        if let Some(session) = known.sessions.get_mut(&key) {
            server.clone_into(&mut session.server);
            let before = std::mem::replace(&mut session.last, last);
            known.order.remove(&before);
        } else if may_begin {
            let most = known.most;
            known.shrink(most - 1);
            known.sessions.insert(key, Session { server: server.to_vec(), last });
        } else {
            return;
        }
        known.order.insert(last, key);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.begin.elapsed().as_millis() as u64
    }
}

impl Known {
    /// Those whose time is over.
    fn forget(&mut self, now: u64) {
        while let Some(first) = self.order.first_entry()
            && first.key().0.saturating_add(self.timeout) <= now
        {
            self.sessions.remove(&first.remove());
        }
    }

    /// The oldest go until there are so many.
    fn shrink(&mut self, most: usize) {
        while self.sessions.len() > most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.sessions.remove(&oldest);
        }
    }
}

fn key(id: &[u8]) -> Key {
    Md5::digest(id).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_make_room_and_what_is_over_is_forgotten() {
        let learn = |size, seconds| StickyLearn {
            create: Vec::new(),
            lookup: Vec::new(),
            zone: "z".to_owned(),
            size,
            timeout: Duration::from_secs(seconds),
            header: false,
        };
        let sessions = Sessions::new(&learn(2 * SESSION, 60));
        sessions.served(b"a", b"1", true);
        sessions.served(b"b", b"2", true);
        sessions.served(b"a", b"1", false);
        sessions.served(b"c", b"3", true);
        sessions.served(b"d", b"4", false);
        let of = |id: &str| sessions.server_of(id.as_bytes());
        assert_eq!((of("a"), of("b"), of("d")), (Some(b"1".to_vec()), None, None));
        sessions.served(b"a", b"3", false);
        assert_eq!(of("a"), Some(b"3".to_vec()));
        assert!(sessions.goes_on_as(&learn(SESSION, 60)));
        assert_eq!((of("a"), of("c")), (Some(b"3".to_vec()), None));
        assert!(sessions.goes_on_as(&learn(SESSION, 0)));
        assert_eq!(of("a"), None);
    }
}
