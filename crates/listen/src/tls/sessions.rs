//! Sessions that go on: keys of tickets, and caches.
//!
//! What a session may do is decided by the server that began it: a session that one server checked a client for must
//! not be taken for one by another. So tickets and names in caches are bound to a context.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use config::model::tls::{Secret, SessionCache};
use rustls::server::{ProducesTickets, StoresServerSessions};

use super::ratchet::{self, Ratchet};

/// Bytes of one session; one with a longer chain of a client is not kept.
const SESSION_SIZE: usize = 16 * 1024;

const NAME: usize = 16;
const NONCE: usize = 12;
const TIME: usize = 8;

/// What a session must have in common with the one that it goes on from.
pub(super) type Context = [u8; 32];

/// All that a process remembers of sessions, for all event loops, and over reloads.
#[derive(Debug, Default)]
pub struct Sessions {
    keys: Arc<Keys>,
    caches: Mutex<HashMap<String, Arc<Cache>>>,
}

impl Sessions {
    /// What the keys of tickets are made of from now on. Without it, and until then, the process begins one itself.
    pub fn set_ratchet(&self, ratchet: Ratchet) {
        *self.keys.list.write().unwrap_or_else(PoisonError::into_inner) =
            List { ratchet: Some(ratchet), ..List::default() };
    }

    /// What encrypts tickets: the keys of files, of which the first encrypts, or those of the process.
    pub(super) fn tickets(
        &self,
        files: &[Secret],
        context: Context,
        timeout: Duration,
    ) -> Arc<dyn ProducesTickets> {
        let keys = if files.is_empty() {
            Arc::clone(&self.keys)
        } else {
            Arc::new(Keys::fixed(files.iter().filter_map(|file| Key::of_file(&file.0)).collect()))
        };
        Arc::new(Tickets { keys, context, timeout })
    }

    /// The cache of that name.
    pub(super) fn cache(
        &self,
        cache: &SessionCache,
        context: Context,
        timeout: Duration,
    ) -> Arc<dyn StoresServerSessions> {
        let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let known = caches.entry(cache.name.clone()).or_default();
        let sessions = cache.sessions as usize;
        if known.most != sessions {
            *known = Arc::new(Cache { most: sessions, entries: Mutex::default() });
        }
        Arc::new(Scoped { cache: Arc::clone(known), context, timeout })
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether a session of that time may go on.
fn is_young(since: u64, timeout: Duration) -> bool {
    now().checked_sub(since).is_some_and(|age| age <= timeout.as_secs())
}

/// Keys of tickets.
#[derive(Default)]
struct Keys {
    list: RwLock<List>,
    /// They come from files, and stay.
    is_fixed: bool,
}

#[derive(Default)]
struct List {
    ratchet: Option<Ratchet>,
    /// The epoch that the keys are of; `None`: they are still to be made.
    epoch: Option<u64>,
    /// The one that encrypts first.
    keys: Vec<Arc<Key>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

struct Key {
    name: [u8; NAME],
    secret: RandomizedNonceKey,
}

impl Key {
    fn new(name: [u8; NAME], key: &[u8]) -> Option<Self> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, key).ok()?;
        Some(Self { name, secret: key })
    }

    /// nginx's 48 or 80 bytes: a name and two keys, of which we make the one that we need.
    fn of_file(bytes: &[u8]) -> Option<Self> {
        let (name, secret) = bytes.split_first_chunk()?;
        Self::new(*name, digest(&SHA256, secret).as_ref())
    }
}

impl List {
    /// Goes on to an epoch. `None`, which leaves no key: there are no random bytes.
    fn go_on(&mut self, epoch: u64) -> Option<()> {
        self.keys.clear();
        if self.ratchet.is_none() {
            self.ratchet = Ratchet::begin(epoch);
        }
        let keys = self.ratchet.as_mut()?.advance_to(epoch)?.keys(epoch)?;
        self.keys = keys.iter().filter_map(|key| Key::new(key.name, &key.key).map(Arc::new)).collect();
        self.epoch = Some(epoch);
        Some(())
    }
}

impl Keys {
    fn fixed(keys: Vec<Key>) -> Self {
        let keys = keys.into_iter().map(Arc::new).collect();
        Self { list: RwLock::new(List { keys, ..List::default() }), is_fixed: true }
    }

    fn newest(&self) -> Option<Arc<Key>> {
        self.find(|_| true)
    }

    fn find(&self, is_it: impl Fn(&Key) -> bool) -> Option<Arc<Key>> {
        let epoch = (!self.is_fixed).then(|| ratchet::epoch(ratchet::clock()));
        let known = self.list.read().unwrap_or_else(PoisonError::into_inner);
        if known.epoch == epoch {
            return known.keys.iter().find(|key| is_it(key)).cloned();
        }
        drop(known);
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        // Another loop may have been first, and by a clock that was a little ahead.
        if let Some(epoch) = epoch.filter(|epoch| list.epoch.is_none_or(|known| known < *epoch)) {
            list.go_on(epoch)?;
        }
        list.keys.iter().find(|key| is_it(key)).cloned()
    }
}

/// Name of the key, nonce, and encrypted: the time, the session.
#[derive(Debug)]
struct Tickets {
    keys: Arc<Keys>,
    context: Context,
    timeout: Duration,
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // RFC 8446 §4.6.1: seven days at most.
        self.timeout.as_secs().min(7 * 24 * 60 * 60) as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.keys.newest()?;
        let mut sealed = Vec::with_capacity(TIME + plain.len() + 16);
        sealed.extend_from_slice(&now().to_be_bytes());
        sealed.extend_from_slice(plain);
        let nonce = key.secret.seal_in_place_append_tag(Aad::from(self.context), &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(NAME + NONCE + sealed.len());
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(nonce.as_ref());
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
        let key = self.keys.find(|key| key.name == name)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.secret.open_in_place(nonce, Aad::from(self.context), &mut sealed).ok()?;
        let (time, session) = plain.split_first_chunk::<TIME>()?;
        is_young(u64::from_be_bytes(*time), self.timeout).then(|| session.to_vec())
    }
}

/// Sessions by their names, the oldest given up first.
#[derive(Default)]
struct Cache {
    most: usize,
    entries: Mutex<Entries>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache")
    }
}

#[derive(Default)]
struct Entries {
    by_name: HashMap<Vec<u8>, (u64, Vec<u8>)>,
    /// Names in the order in which they came; some may be gone already.
    order: VecDeque<Vec<u8>>,
}

impl Entries {
    fn put(&mut self, name: Vec<u8>, session: Vec<u8>, most: usize) {
        if self.by_name.insert(name.clone(), (now(), session)).is_none() {
            self.order.push_back(name);
        }
        while self.by_name.len() > most {
            let Some(oldest) = self.order.pop_front() else { return };
            self.by_name.remove(&oldest);
        }
        if self.order.len() > 2 * most + 16 {
            let by_name = &self.by_name;
            self.order.retain(|name| by_name.contains_key(name));
        }
    }
}

/// A cache as one server sees it.
#[derive(Debug)]
struct Scoped {
    cache: Arc<Cache>,
    context: Context,
    timeout: Duration,
}

impl Scoped {
    fn name(&self, key: &[u8]) -> Vec<u8> {
        [&self.context[..], key].concat()
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.cache.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoresServerSessions for Scoped {
    fn put(&self, key: Vec<u8>, session: Vec<u8>) -> bool {
        let fits = session.len() <= SESSION_SIZE;
        if fits {
            self.entries().put(self.name(&key), session, self.cache.most);
        }
        fits
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let entries = self.entries();
        let (since, session) = entries.by_name.get(&self.name(key))?;
        is_young(*since, self.timeout).then(|| session.clone())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let (since, session) = self.entries().by_name.remove(&self.name(key))?;
        is_young(since, self.timeout).then_some(session)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_ticket_is_good_in_its_context_for_its_time_and_unchanged() {
        let sessions = Sessions::default();
        let tickets = sessions.tickets(&[], [1; 32], HOUR);
        let ticket = tickets.encrypt(b"session").unwrap();
        assert_eq!(tickets.decrypt(&ticket).unwrap(), b"session");
        assert_eq!(
            sessions.tickets(&[], [1; 32], HOUR).decrypt(&ticket).unwrap(),
            b"session",
            "after a reload"
        );
        assert_eq!(sessions.tickets(&[], [2; 32], HOUR).decrypt(&ticket), None);
        assert_eq!(Sessions::default().tickets(&[], [1; 32], HOUR).decrypt(&ticket), None);
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None);
            assert_eq!(tickets.decrypt(&ticket[..at]), None);
        }
    }

    #[test]
    fn a_process_that_is_told_how_keys_are_made_knows_tickets_of_another() {
        let ratchet = Ratchet::new().unwrap();
        let told = || {
            let sessions = Sessions::default();
            sessions.set_ratchet(Ratchet::of_bytes(&ratchet.to_bytes().0).unwrap());
            sessions.tickets(&[], [1; 32], HOUR)
        };
        let ticket = told().encrypt(b"session").unwrap();
        assert_eq!(told().decrypt(&ticket).unwrap(), b"session", "before it has made a ticket itself");
        let late = Sessions::default();
        let tickets = late.tickets(&[], [1; 32], HOUR);
        let own = tickets.encrypt(b"own").unwrap();
        late.set_ratchet(ratchet);
        assert_eq!(tickets.decrypt(&ticket).unwrap(), b"session");
        assert_eq!(tickets.decrypt(&own), None);
    }

    #[test]
    fn keys_go_on_with_the_epochs_and_old_ones_are_forgotten() {
        let mut list = List { ratchet: Ratchet::begin(5), ..List::default() };
        let mut names = Vec::new();
        for epoch in 5..12 {
            list.go_on(epoch).unwrap();
            names.insert(0, list.keys[0].name);
            names.truncate(3);
            assert_eq!(list.keys.iter().map(|key| key.name).collect::<Vec<_>>(), names);
        }
    }

    #[test]
    fn keys_of_files_are_the_same_everywhere_and_may_be_rotated() {
        let (old, new) = (Secret(vec![1; 48]), Secret(vec![2; 80]));
        let tickets = |keys: &[Secret]| Sessions::default().tickets(keys, [0; 32], HOUR);
        let ticket = tickets(std::slice::from_ref(&old)).encrypt(b"x").unwrap();
        assert_eq!(tickets(&[new.clone(), old]).decrypt(&ticket).unwrap(), b"x");
        assert_eq!(tickets(&[new]).decrypt(&ticket), None);
    }

    #[test]
    fn a_cache_keeps_the_newest_and_no_more() {
        let cache = SessionCache { name: "a".to_owned(), sessions: 10 };
        let sessions = Sessions::default();
        let mine = sessions.cache(&cache, [1; 32], HOUR);
        for n in 0..100_u8 {
            assert!(mine.put(vec![n], vec![n]));
            mine.take(&[n.wrapping_sub(1)]);
            mine.put(vec![n], vec![n]);
        }
        let other = sessions.cache(&cache, [2; 32], HOUR);
        assert_eq!(other.get(&[99]), None, "of another context");
        assert_eq!(sessions.cache(&cache, [1; 32], HOUR).get(&[99]).unwrap(), [99]);
        for n in 100..150_u8 {
            mine.put(vec![n], vec![n]);
        }
        let kept = (0..=255_u8).filter(|n| mine.get(&[*n]).is_some());
        assert_eq!(kept.collect::<Vec<_>>(), (140..150).collect::<Vec<_>>());
        assert!(!mine.put(vec![0], vec![0; SESSION_SIZE + 1]));
    }
}
