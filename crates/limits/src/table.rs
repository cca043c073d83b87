//! States by key within a fixed budget of memory: what one shard of a zone is made of.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use smallvec::SmallVec;

/// Names an entry for as long as it is not removed.
pub(crate) type Slot = u32;

/// The entries of one shard. `T` is what is kept for a key.
#[derive(Debug)]
pub(crate) struct Table<T> {
    by_key: HashTable<Slot>,
    entries: Vec<Option<Entry<T>>>,
    free: Vec<Slot>,
    used: u64,
    budget: u64,
    /// Bytes that an entry costs beside its key, as nginx counts them.
    overhead: u64,
}

#[derive(Debug)]
struct Entry<T> {
    hash: u64,
    /// An address fits without an allocation.
    key: SmallVec<[u8; 16]>,
    value: T,
}

impl<T> Table<T> {
    fn new(budget: u64, overhead: u64) -> Self {
        Self { by_key: HashTable::new(), entries: Vec::new(), free: Vec::new(), used: 0, budget, overhead }
    }

    /// The entry of `key`, whose hash is `hash`.
    pub(crate) fn find(&self, hash: u64, key: &[u8]) -> Option<Slot> {
        self.by_key
            .find(hash, |&slot| {
                self.entries[slot as usize]
                    .as_ref()
                    .is_some_and(|entry| entry.hash == hash && entry.key[..] == *key)
            })
            .copied()
    }

    /// Adds an entry for a key that has none. `None`: the budget does not allow it.
    pub(crate) fn insert(&mut self, hash: u64, key: &[u8], value: T) -> Option<Slot> {
        let cost = self.cost(key);
        if self.used + cost > self.budget {
            return None;
        }
        let entry = Some(Entry { hash, key: SmallVec::from_slice(key), value });
        let slot = if let Some(slot) = self.free.pop() {
            self.entries[slot as usize] = entry;
            slot
        } else {
            let slot = Slot::try_from(self.entries.len()).ok()?;
            self.entries.push(entry);
            slot
        };
        self.used += cost;
        let entries = &self.entries;
        self.by_key
            .insert_unique(hash, slot, |&slot| entries[slot as usize].as_ref().map_or(0, |entry| entry.hash));
        Some(slot)
    }

    /// Forgets an entry.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let Some(entry) = self.entries[slot as usize].take() else { return };
        if let Ok(found) = self.by_key.find_entry(entry.hash, |&other| other == slot) {
            found.remove();
        }
        self.used -= self.cost(&entry.key);
        self.free.push(slot);
    }

    /// What is kept in a slot that [`find`](Self::find) or [`insert`](Self::insert) has named.
    pub(crate) fn value(&self, slot: Slot) -> Option<&T> {
        self.entries[slot as usize].as_ref().map(|entry| &entry.value)
    }

    /// As [`value`](Self::value), to change it.
    pub(crate) fn value_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.entries[slot as usize].as_mut().map(|entry| &mut entry.value)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    #[cfg(test)]
    pub(crate) fn assert_within_budget(&self) {
        let used: u64 = self.entries.iter().flatten().map(|entry| self.cost(&entry.key)).sum();
        assert_eq!(used, self.used);
        assert!(used <= self.budget, "{used} of {}", self.budget);
    }

    /// nginx's slab allocator hands out powers of two; a zone therefore holds as many states here as there.
    fn cost(&self, key: &[u8]) -> u64 {
        (self.overhead + key.len() as u64).next_power_of_two()
    }
}

/// The shards of a zone, each behind a lock of its own.
#[derive(Debug)]
pub(crate) struct Shards<S> {
    shards: Box<[Mutex<S>]>,
    hasher: RandomState,
}

impl<S> Shards<S> {
    /// A shard is never smaller than this: what a long key or a few hot ones need is there, and a small zone is
    /// one shard, which evicts exactly the oldest as nginx does.
    const LEAST: u64 = 256 * 1024;
    /// More would not be fewer waits: there are not many more event loops.
    const MOST: u64 = 16;

    /// Divides `size` bytes; `overhead` is what an entry costs beside its key.
    pub(crate) fn new<T>(size: u64, overhead: u64, shard: impl Fn(Table<T>) -> S) -> Self {
        let count = (size / Self::LEAST).clamp(1, Self::MOST);
        let shards = (0..count).map(|_| Mutex::new(shard(Table::new(size / count, overhead)))).collect();
        Self { shards, hasher: RandomState::new() }
    }

    /// The hash of a key, and which shard it is in. The hash is keyed: keys come from clients.
    pub(crate) fn locate(&self, key: &[u8]) -> (u64, usize) {
        let hash = self.hasher.hash_one(key);
        // The table uses the low and the highest bits.
        (hash, (hash >> 32) as usize % self.shards.len())
    }

    /// Locks a shard. Nothing within the lock panics half way, so a poisoned one is as good as any.
    pub(crate) fn lock(&self, shard: usize) -> MutexGuard<'_, S> {
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = MutexGuard<'_, S>> {
        (0..self.shards.len()).map(|shard| self.lock(shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_holds_and_what_is_removed_is_free_again() {
        let mut table = Table::new(4 * 128, 80);
        for key in 0u64..4 {
            assert!(table.insert(key, &key.to_be_bytes(), key).is_some());
        }
        assert_eq!(table.insert(4, b"next", 4), None);
        let slot = table.find(2, &2u64.to_be_bytes()).unwrap();
        table.remove(slot);
        assert_eq!(table.find(2, &2u64.to_be_bytes()), None);
        // 80 and 100 bytes cost 256.
        assert_eq!(table.insert(5, &[b'x'; 100], 5), None);
        assert_eq!(table.insert(4, b"next", 4), Some(slot));
        assert_eq!(table.value(slot), Some(&4));
        assert_eq!(table.len(), 4);
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let mut table = Table::new(4096, 80);
        let one = table.insert(7, b"one", 1).unwrap();
        let two = table.insert(7, b"two", 2).unwrap();
        assert_eq!(table.find(7, b"one"), Some(one));
        table.remove(one);
        assert_eq!(table.find(7, b"one"), None);
        assert_eq!(table.find(7, b"two"), Some(two));
    }

    #[test]
    fn a_small_zone_is_one_shard() {
        assert_eq!(Shards::new(32 * 1024, 80, |table: Table<()>| table).shards.len(), 1);
        assert_eq!(Shards::new(1024 * 1024, 80, |table: Table<()>| table).shards.len(), 4);
        assert_eq!(Shards::new(1 << 30, 80, |table: Table<()>| table).shards.len(), 16);
    }
}
