//! A zone: looking for what is kept, waiting for who fetches it, and removing it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use config::model::http::CacheZone;
use exchange::{Method, Request};

use crate::entry::{Identity, Meta, Stored, peek};
use crate::index::Index;
use crate::keep;
use crate::key::{self, Id, Key, variant};
use crate::purge::{self, Meant, Purge};
use crate::served::{Served, ZoneStatus};

/// The zones of a configuration.
#[derive(Debug, Default)]
pub struct Caches {
    zones: Vec<Arc<Zone>>,
}

impl Caches {
    /// Opens them. One that `before` has with the same name and directory goes on, with what the model says now.
    pub fn new(zones: &[CacheZone], before: Option<&Self>) -> Self {
        let open = |model: &CacheZone| {
            let same = |zone: &&Arc<Zone>| {
                zone.name == model.name && zone.directory == model.path && zone.levels == model.levels
            };
            match before.and_then(|before| before.zones.iter().find(same)) {
                Some(zone) => {
                    *lock(&zone.model) = model.clone();
                    zone.signal.wake();
                    Arc::clone(zone)
                }
                None => Zone::open(model),
            }
        };
        Self { zones: zones.iter().map(open).collect() }
    }

    /// All of them.
    pub fn zones(&self) -> &[Arc<Zone>] {
        &self.zones
    }

    /// By its number in the model.
    pub fn zone(&self, at: u32) -> Option<&Arc<Zone>> {
        self.zones.get(at as usize)
    }

    /// By its name.
    pub fn named(&self, name: &[u8]) -> Option<&Arc<Zone>> {
        self.zones.iter().find(|zone| zone.name.as_bytes() == name)
    }
}

/// `proxy_cache_path`
#[derive(Debug)]
pub struct Zone {
    name: String,
    directory: PathBuf,
    levels: Vec<u8>,
    model: Mutex<CacheZone>,
    index: Mutex<Index>,
    pub(crate) signal: Arc<Signal>,
    counter: AtomicU64,
    served: Served,
}

/// Wakes the manager.
#[derive(Debug, Default)]
pub struct Signal {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    pub fn wake(&self) {
        *lock(&self.is_set) = true;
        self.changed.notify_one();
    }

    pub fn wait(&self, time: Duration) {
        let waits = |is_set: &mut bool| !*is_set;
        let waited = self.changed.wait_timeout_while(lock(&self.is_set), time, waits);
        let (mut is_set, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *is_set = false;
    }
}

/// What is looked for.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Its key.
    pub key: &'a Key,
    /// The request, for `Vary`.
    pub request: &'a Request,
    /// `proxy_cache_min_uses`
    pub min_uses: u32,
    /// `proxy_cache_lock`, with its age.
    pub lock: Option<Duration>,
}

/// What there is.
#[derive(Debug)]
pub enum Found {
    /// It holds.
    Hit(Arc<Stored>),
    /// It holds no more, and this request is the one to fetch it anew.
    Stale(Arc<Stored>),
    /// It holds no more, and another request fetches it anew.
    Updating(Arc<Stored>),
    /// It holds, and is nothing but this status.
    Status(u16),
    /// Nothing: what is fetched may be kept.
    Nothing,
    /// Nothing, and too few have asked for it yet.
    Scarce,
    /// Nothing yet: another request fetches it. [`Ticket::wait`] and look again.
    Locked,
}

/// See [`Zone::look`].
pub struct Look {
    /// What there is.
    pub found: Found,
    /// The request's part in it.
    pub ticket: Ticket,
}

impl Zone {
    fn open(model: &CacheZone) -> Arc<Self> {
        let zone = Arc::new(Self {
            name: model.name.clone(),
            directory: model.path.clone(),
            levels: model.levels.clone(),
            model: Mutex::new(model.clone()),
            index: Mutex::new(Index::cold()),
            signal: Arc::default(),
            counter: AtomicU64::new(0),
            served: Served::default(),
        });
        keep::spawn(&zone);
        zone
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What came of looking for a request, as `$upstream_cache_status` has it, and what it was before.
    pub fn count(&self, status: &str, before: &str) {
        self.served.count(status, before);
    }

    /// What it holds, and what it was good for.
    pub fn status(&self) -> ZoneStatus {
        let max_size = self.model().max_size;
        let index = self.index();
        ZoneStatus {
            name: self.name.clone(),
            size: index.size,
            max_size,
            keys: index.len() as u64,
            cold: index.cold,
            served: self.served.all(),
        }
    }

    pub(crate) fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    pub(crate) fn depth(&self) -> usize {
        self.levels.len()
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, CacheZone> {
        lock(&self.model)
    }

    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    pub(crate) fn path(&self, id: &Id) -> PathBuf {
        key::path(&self.directory, &self.levels, id)
    }

    pub(crate) fn number(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// A ticket for what is to be kept without anybody having looked.
    pub fn ticket(self: &Arc<Self>, key: &Key) -> Ticket {
        let mut ticket = self.new_ticket(key);
        ticket.count();
        ticket
    }

    fn new_ticket(self: &Arc<Self>, key: &Key) -> Ticket {
        Ticket {
            zone: Arc::clone(self),
            base: key.base,
            main: key.id,
            id: key.id,
            fetches: false,
            lock: None,
            counted: false,
            purges: self.index().purges.count(),
        }
    }

    /// Looks for what is kept. `again`: the ticket of an earlier look, so that a request counts once. An error is one of
    /// the disk.
    pub fn look(self: &Arc<Self>, ask: Ask<'_>, again: Option<Ticket>) -> Look {
        let counts = again.is_none();
        let mut ticket = again.unwrap_or_else(|| self.new_ticket(ask.key));
        let mut found = self.look_at(&mut ticket, ask, counts);
        if let Err(form) = found {
            // The file at the key's own place is of another form (`Vary`).
            ticket.turn_to(form);
            found = self.look_at(&mut ticket, ask, counts);
        }
        // A form that leads to yet another is not there.
        let found = found.unwrap_or_else(|_| self.missing(&mut ticket, ask));
        Look { found, ticket }
    }

    fn look_at(&self, ticket: &mut Ticket, ask: Ask<'_>, counts: bool) -> Result<Found, Id> {
        let now = now();
        let size = self.model().size;
        let (exists, is_scarce, cold, held, verified, gone) = {
            let mut index = self.index();
            let cold = index.cold;
            let node = index.touch(ticket.id, now);
            node.base = Some(ticket.base);
            if counts || node.uses == 0 {
                node.uses = node.uses.saturating_add(1);
            }
            if !std::mem::replace(&mut ticket.counted, true) {
                node.busy += 1;
            }
            if node.status != 0 {
                if node.status_until >= now {
                    return Ok(Found::Status(node.status));
                }
                node.status = 0;
            }
            let is_scarce = !node.exists && node.uses < ask.min_uses;
            let seen = (node.exists, is_scarce, cold, node.held.clone(), node.verified);
            let gone = index.shrink(size);
            (seen.0, seen.1, seen.2, seen.3, seen.4, gone)
        };
        self.remove_files(&gone);
        if (exists || cold)
            && let Some(stored) = self.read(&ticket.id, held, verified)
        {
            if stored.meta.key != ask.key.text {
                return Ok(self.missing(ticket, ask));
            }
            // What HEAD has brought is nothing for others.
            if stored.meta.without_body && ask.request.method != Method::Head {
                return Ok(self.missing(ticket, ask));
            }
            if !stored.meta.vary.is_empty() {
                let form = variant(ask.key, &stored.meta.vary, ask.request);
                if form != stored.meta.variant {
                    return if ticket.is_form() { Ok(self.missing(ticket, ask)) } else { Err(form) };
                }
            }
            if stored.is_fresh(now) {
                return Ok(Found::Hit(stored));
            }
            let mut index = self.index();
            let Some(node) = index.get_mut(&ticket.id) else { return Ok(Found::Stale(stored)) };
            if node.updating && node.lock.is_none_or(|lock| lock > Instant::now()) {
                return Ok(Found::Updating(stored));
            }
            ticket.take_lock(node, None);
            return Ok(Found::Stale(stored));
        }
        Ok(if is_scarce { Found::Scarce } else { self.missing(ticket, ask) })
    }

    /// There is nothing: somebody has to fetch it.
    fn missing(&self, ticket: &mut Ticket, ask: Ask<'_>) -> Found {
        let Some(age) = ask.lock else { return Found::Nothing };
        let mut index = self.index();
        let Some(node) = index.get_mut(&ticket.id) else { return Found::Nothing };
        let instant = Instant::now();
        if node.passes.is_some_and(|until| until > instant) {
            return Found::Nothing;
        }
        if node.updating && node.lock.is_none_or(|lock| lock > instant) {
            return Found::Locked;
        }
        ticket.take_lock(node, Some(age));
        Found::Nothing
    }

    /// Reads a file; what is no whole one of ours is as good as not there.
    fn read(&self, id: &Id, held: Option<Arc<Stored>>, verified: Option<Identity>) -> Option<Arc<Stored>> {
        let path = self.path(id);
        if let Some(held) = held
            && fs::metadata(&path).is_ok_and(|looked| Identity::of(&looked) == held.identity)
        {
            return Some(held);
        }
        let stored = File::open(&path).and_then(Stored::read).ok().flatten();
        let mut index = self.index();
        let Some(stored) = stored else {
            index.set_file(id, None);
            return None;
        };
        if verified == Some(stored.identity) {
            stored.set_verified();
        }
        let stored = Arc::new(stored);
        if index.get(id).is_some_and(|node| !node.exists) {
            index.set_file(id, Some(stored.body_length + stored.meta.body_start()));
        }
        if let Some(node) = index.get_mut(id).filter(|node| node.tags.is_none()) {
            node.tags = Some(purge::tags(&stored.meta.tags));
        }
        index.hold(id, &stored);
        Some(stored)
    }

    /// The body of what was found is what was written, or it is not.
    pub fn verified(&self, ticket: &Ticket, stored: &Stored, is_good: bool) {
        if !is_good {
            self.remove(&ticket.id);
        } else if let Some(node) = self.index().get_mut(&ticket.id) {
            node.verified = Some(stored.identity);
        }
    }

    /// Removes what is kept under a name.
    pub(crate) fn remove(&self, id: &Id) -> bool {
        let existed = self.index().forget(id);
        fs::remove_file(self.path(id)).is_ok() || existed
    }

    pub(crate) fn remove_files(&self, ids: &[Id]) {
        for id in ids {
            let _ = fs::remove_file(self.path(id));
        }
    }

    /// Removes what is meant, and tells how much that was. What is known of it goes at once; of files that nobody has
    /// read yet each has to be looked at, which takes as long as it takes.
    pub fn purge(&self, purge: Purge) -> u64 {
        let meant = Arc::new(Meant::of(purge));
        let (sure, mut perhaps, cold) = {
            let mut index = self.index();
            // Whoever fetches now sees it before the file is there; what is there already is found here.
            index.purges.note(&meant);
            let (sure, perhaps) = index.meant(&meant);
            (sure, perhaps, index.cold)
        };
        let mut removed = sure.iter().map(|id| u64::from(self.remove(id))).sum();
        if cold {
            perhaps = keep::all(self);
        }
        for id in perhaps {
            let looked = File::open(self.path(&id)).and_then(|file| peek(&file));
            let Ok(Some((text, tags))) = looked else { continue };
            let tags = purge::tags(&tags);
            if meant.matches(&text, &tags) {
                removed += u64::from(self.remove(&id));
            } else if let Some(node) = self.index().get_mut(&id).filter(|node| node.exists) {
                (node.base, node.tags) = (Some(key::base(&text)), Some(tags));
            }
        }
        removed
    }

    /// What all files take on the disk, and how many there are.
    pub fn used(&self) -> (u64, usize) {
        let index = self.index();
        (index.size, index.len())
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        self.signal.wake();
    }
}

/// A request's part in what is kept under its key. While it is there, who fetches it is known; dropped, the next may.
#[derive(Debug)]
pub struct Ticket {
    zone: Arc<Zone>,
    base: Id,
    /// The key's own name, and that of the form that is meant.
    main: Id,
    id: Id,
    /// This request fetches it.
    fetches: bool,
    /// Until when that is believed.
    lock: Option<Instant>,
    counted: bool,
    /// How many purges there had been when it was looked for.
    purges: u64,
}

/// How long nobody waits for who fetches what was not for others.
const PASSES: Duration = Duration::from_secs(10);

impl Ticket {
    /// Where it is.
    pub fn zone(&self) -> &Arc<Zone> {
        &self.zone
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.zone.path(&self.id)
    }

    fn is_form(&self) -> bool {
        self.id != self.main
    }

    fn take_lock(&mut self, node: &mut crate::index::Node, age: Option<Duration>) {
        node.updating = true;
        node.lock = age.map(|age| Instant::now() + age);
        (self.fetches, self.lock) = (true, node.lock);
    }

    /// From now on it is about another name.
    fn turn_to(&mut self, id: Id) {
        self.let_go();
        self.id = id;
    }

    /// The answer says which form it is. One that belongs elsewhere than was looked for lies at the key's own place.
    pub fn settle(&mut self, form: Id) {
        if self.is_form() && self.id != form {
            let main = self.main;
            self.turn_to(main);
            self.count();
        }
    }

    fn count(&mut self) {
        let now = now();
        let zone = Arc::clone(&self.zone);
        let mut index = zone.index();
        let node = index.touch(self.id, now);
        node.base = Some(self.base);
        node.busy += 1;
        self.counted = true;
    }

    /// Waits until nobody fetches it any more; `false` if that takes too long.
    pub async fn wait(&self, until: Instant) -> bool {
        loop {
            let (waiting, lock) = {
                let mut index = self.zone.index();
                let Some(node) = index.get_mut(&self.id).filter(|node| node.updating) else { return true };
                (Arc::clone(node.waiting.get_or_insert_default()), node.lock)
            };
            // Created before the second look, so that no call is lost.
            let called = waiting.notified();
            if self.zone.index().get(&self.id).is_none_or(|node| !node.updating) {
                return true;
            }
            let end = lock.map_or(until, |lock| lock.min(until));
            let is_called = tokio::time::timeout_at(end.into(), called).await.is_ok();
            if is_called || lock.is_some_and(|lock| lock <= Instant::now()) {
                return true;
            }
            if until <= Instant::now() {
                return false;
            }
        }
    }

    /// The answer is no more than a status, which holds this long.
    pub fn remember(&self, status: u16, until: u64) {
        if let Some(node) = self.zone.index().get_mut(&self.id) {
            (node.status, node.status_until) = (status, until);
        }
    }

    /// The answer is not for others: they need not wait for each other's.
    pub fn pass(&self) {
        if let Some(node) = self.zone.index().get_mut(&self.id) {
            node.passes = Some(Instant::now() + PASSES);
        }
    }

    /// The file is there.
    pub(crate) fn stored(&self, stored: Option<&Arc<Stored>>, size: u64, meta: &Meta) {
        let now = now();
        let most = self.zone.model().max_size;
        let tags = purge::tags(&meta.tags);
        let mut index = self.zone.index();
        if !index.purges.spare(self.purges, &meta.key, &tags) {
            // It may be older than the purge.
            index.forget(&self.id);
            drop(index);
            self.zone.remove_files(&[self.id]);
            return;
        }
        index.touch(self.id, now);
        index.set_file(&self.id, Some(size));
        if let Some(node) = index.get_mut(&self.id) {
            (node.status, node.passes) = (0, None);
            (node.base, node.tags) = (Some(self.base), Some(tags));
            node.verified = stored.map(|stored| stored.identity);
        }
        if let Some(stored) = stored {
            index.hold(&self.id, stored);
        }
        if most.is_some_and(|most| index.size > most) {
            self.zone.signal.wake();
        }
    }

    pub(crate) fn renewed(&self, verified: Option<Identity>) {
        let mut index = self.zone.index();
        index.lose(&self.id);
        if let Some(node) = index.get_mut(&self.id) {
            node.verified = verified;
        }
    }

    fn let_go(&mut self) {
        let mut index = self.zone.index();
        let (fetched, lock) = (std::mem::take(&mut self.fetches), self.lock.take());
        let counted = std::mem::take(&mut self.counted);
        let Some(node) = index.get_mut(&self.id) else { return };
        if counted {
            node.busy = node.busy.saturating_sub(1);
        }
        // Another may have taken over meanwhile.
        if fetched && node.lock == lock {
            node.updating = false;
            node.lock = None;
            if let Some(waiting) = node.waiting.take() {
                waiting.notify_waiters();
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is locked is left half done by a panic that could matter.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
