//! The open-file cache: bounded, one per directory and thread.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::entry::Entry;

/// Longer paths that lead nowhere are not remembered: they cost a scanner little and would cost us memory.
const MAX_ABSENT_PATH: usize = 256;

/// Known paths. Entries are replaced by second chance: a hit saves from the next sweep.
#[derive(Debug)]
pub struct Cache<E = Entry> {
    slots: Vec<Slot<E>>,
    places: HashMap<Rc<[u8]>, usize>,
    hand: usize,
    memory: u64,
    absent: HashMap<Box<[u8]>, Instant>,
    max_entries: usize,
    valid: Duration,
}

#[derive(Debug)]
struct Slot<E> {
    path: Rc<[u8]>,
    entry: E,
    checked: Instant,
    /// When somebody asked for it last.
    seen: Instant,
    used: bool,
}

/// What a cache holds of a path.
pub trait Weigh {
    /// Bytes of file content that it keeps in memory.
    fn memory(&self) -> u64;
}

impl Weigh for Entry {
    fn memory(&self) -> u64 {
        self.memory()
    }
}

/// What the cache knows of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is in this slot and was looked at within the valid period.
    Fresh(usize),
    /// It is in this slot, to be looked at again.
    Stale(usize),
    /// It was not there a moment ago.
    Absent,
    /// Nothing.
    Unknown,
}

impl<E: Weigh> Cache<E> {
    /// A cache of at least one entry; nothing is believed for longer than `valid`.
    pub fn new(max_entries: usize, valid: Duration) -> Self {
        Self {
            slots: Vec::new(),
            places: HashMap::new(),
            hand: 0,
            memory: 0,
            absent: HashMap::new(),
            max_entries: max_entries.max(1),
            valid,
        }
    }

    /// What is known of a path.
    pub fn find(&mut self, path: &[u8], now: Instant) -> Known {
        if let Some(&place) = self.places.get(path) {
            let slot = &mut self.slots[place];
            (slot.used, slot.seen) = (true, now);
            return if now.saturating_duration_since(slot.checked) < self.valid {
                Known::Fresh(place)
            } else {
                Known::Stale(place)
            };
        }
        match self.absent.get(path) {
            Some(&seen) if now.saturating_duration_since(seen) < self.valid => Known::Absent,
            _ => Known::Unknown,
        }
    }

    /// The entry in a slot that [`Cache::find`] or [`Cache::insert`] named.
    pub fn entry(&self, place: usize) -> &E {
        &self.slots[place].entry
    }

    /// The same, to be changed; what it weighs stays.
    pub fn entry_mut(&mut self, place: usize) -> &mut E {
        &mut self.slots[place].entry
    }

    /// A known path was looked at and is as it was.
    pub fn confirm(&mut self, place: usize, now: Instant) {
        self.slots[place].checked = now;
    }

    /// Puts a new look at a known path in place of the old one.
    pub fn renew(&mut self, place: usize, entry: E, now: Instant) {
        let slot = &mut self.slots[place];
        self.memory = self.memory - slot.entry.memory() + entry.memory();
        (slot.entry, slot.checked) = (entry, now);
    }

    /// Adds an unknown path; another may have to go.
    pub fn insert(&mut self, path: &[u8], entry: E, now: Instant) -> usize {
        self.absent.remove(path);
        let path: Rc<[u8]> = path.into();
        self.memory += entry.memory();
        let slot = Slot { path: Rc::clone(&path), entry, checked: now, seen: now, used: false };
        let place = if self.slots.len() < self.max_entries {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let place = self.victim();
            self.memory -= self.slots[place].entry.memory();
            self.places.remove(&self.slots[place].path);
            self.slots[place] = slot;
            place
        };
        self.places.insert(path, place);
        place
    }

    /// Remembers that nothing is there. A flood of such paths pushes out each other, never a file.
    pub fn insert_absent(&mut self, path: &[u8], now: Instant) {
        self.remove(path);
        if path.len() > MAX_ABSENT_PATH {
            return;
        }
        if self.absent.len() >= self.max_entries && !self.absent.contains_key(path) {
            self.absent.clear();
        }
        self.absent.insert(path.into(), now);
    }

    /// Forgets what nobody asked for within `inactive`, so that a deleted file gives its space back
    /// (nginx's `open_file_cache inactive=`).
    pub fn sweep(&mut self, now: Instant, inactive: Duration) {
        let unused = |slot: &&Slot<E>| now.saturating_duration_since(slot.seen) >= inactive;
        let paths: Vec<_> = self.slots.iter().filter(unused).map(|slot| Rc::clone(&slot.path)).collect();
        for path in paths {
            self.remove(&path);
        }
    }

    /// Forgets everything and closes all files.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.places.clear();
        self.absent.clear();
        (self.hand, self.memory) = (0, 0);
    }

    /// Bytes of file content held.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    fn remove(&mut self, path: &[u8]) {
        let Some(place) = self.places.remove(path) else { return };
        self.memory -= self.slots.swap_remove(place).entry.memory();
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(Rc::clone(&moved.path), place);
        }
    }

    fn victim(&mut self) -> usize {
        loop {
            self.hand = (self.hand + 1) % self.slots.len();
            if !std::mem::take(&mut self.slots[self.hand].used) {
                return self.hand;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let now = Instant::now();
        let mut cache = Cache::new(4, VALID);
        for path in [b"a", b"b", b"c", b"d"] {
            cache.insert(path, Entry::Directory, now);
        }
        for n in 0..100u8 {
            assert!(matches!(cache.find(b"a", now), Known::Fresh(_)), "in use until round {n}");
            cache.insert(&[b'x', n], Entry::Directory, now);
            assert_eq!((cache.slots.len(), cache.places.len()), (4, 4));
        }
        assert_eq!(cache.find(b"b", now), Known::Unknown);
        assert_eq!(cache.find(b"a", now + VALID), Known::Stale(cache.places[&b"a"[..]]));
    }

    #[test]
    fn what_nobody_asks_for_is_let_go() {
        let now = Instant::now();
        let later = now + Duration::from_secs(50);
        let mut cache = Cache::new(10, VALID);
        for path in [b"a", b"b", b"c", b"d"] {
            cache.insert(path, Entry::Directory, now);
        }
        let Known::Stale(place) = cache.find(b"c", later) else { panic!("a look is believed for a second") };
        cache.renew(place, Entry::Forbidden, later);
        cache.sweep(now + Duration::from_secs(60), Duration::from_secs(60));
        assert_eq!((cache.slots.len(), cache.places.len()), (1, 1));
        let Known::Fresh(place) = cache.find(b"c", later) else { panic!("c was in use") };
        assert!(matches!(cache.entry(place), Entry::Forbidden));
    }

    #[test]
    fn absence_is_bounded_and_brief() {
        let now = Instant::now();
        let mut cache = Cache::new(4, VALID);
        cache.insert(b"a", Entry::Directory, now);
        cache.insert(b"b", Entry::Forbidden, now);
        cache.insert_absent(b"a", now);
        assert_eq!(cache.find(b"a", now), Known::Absent);
        assert_eq!(cache.find(b"a", now + VALID), Known::Unknown);
        assert_eq!(cache.find(b"b", now), Known::Fresh(0));
        for n in 0..100u8 {
            cache.insert_absent(&[n], now);
        }
        assert!(cache.absent.len() <= 4);
        cache.insert_absent(&[b'x'; MAX_ABSENT_PATH + 1], now);
        assert_eq!(cache.find(&[b'x'; MAX_ABSENT_PATH + 1], now), Known::Unknown);
    }
}
