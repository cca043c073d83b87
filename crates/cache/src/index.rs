//! What a zone knows of its files: in memory, shared by all event loops, in the order of their last use.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::entry::{Identity, Stored};
use crate::key::Id;
use crate::purge::{Meant, Purges, Tag};

/// Bytes of small answers that a zone holds in memory.
const HELD: u64 = 16 << 20;
/// Bytes of a zone that a key is thought to take: nginx says of one megabyte that it has room for 8000.
const KEY: u64 = 128;

/// One key.
#[derive(Debug, Default)]
pub struct Node {
    /// When it was used last, seconds since 1970; with a number of its own it is its place in the order.
    used: (u64, u64),
    pub uses: u32,
    /// Requests that are about it now.
    pub busy: u32,
    /// There is a file.
    pub exists: bool,
    /// Bytes of it on the disk.
    pub size: u64,
    /// A status that is remembered in place of a file, and until when.
    pub status: u16,
    pub status_until: u64,
    /// Somebody fetches it, and for how long the others believe that.
    pub updating: bool,
    pub lock: Option<Instant>,
    pub waiting: Option<Arc<Notify>>,
    /// Nobody waits for who fetches it until then: the last that came was not for others.
    pub passes: Option<Instant>,
    /// See [`Key::base`](crate::Key), where it is known.
    pub base: Option<Id>,
    /// The tags of the file, where they are known.
    pub tags: Option<Box<[Tag]>>,
    /// Small, and as it was read last.
    pub held: Option<Arc<Stored>>,
    /// The file whose checksum was right.
    pub verified: Option<Identity>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Index {
    nodes: HashMap<Id, Node>,
    order: BTreeSet<(u64, u64, Id)>,
    counter: u64,
    /// Bytes of all files on the disk.
    pub size: u64,
    held: u64,
    pub purges: Purges,
    /// Not all files are known yet.
    pub cold: bool,
}

impl Index {
    /// Of a zone that has just been opened.
    pub fn cold() -> Self {
        Self { cold: true, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn get(&self, id: &Id) -> Option<&Node> {
        self.nodes.get(id)
    }

    pub fn get_mut(&mut self, id: &Id) -> Option<&mut Node> {
        self.nodes.get_mut(id)
    }

    /// The node of a key, made if there was none; it has been used now.
    pub fn touch(&mut self, id: Id, now: u64) -> &mut Node {
        let counter = &mut self.counter;
        let mut next = || {
            *counter += 1;
            (now, *counter)
        };
        let node = self.nodes.entry(id).or_insert_with(|| {
            let used = next();
            self.order.insert((used.0, used.1, id));
            Node { used, ..Node::default() }
        });
        // Once a second is enough.
        if node.used.0 < now {
            self.order.remove(&(node.used.0, node.used.1, id));
            node.used = next();
            self.order.insert((node.used.0, node.used.1, id));
        }
        node
    }

    /// What is too much for so many bytes of keys: it is forgotten, and those of it that have files are returned.
    pub fn shrink(&mut self, bytes: u64) -> Vec<Id> {
        let most = (bytes / KEY).max(16) as usize;
        let mut files = Vec::new();
        while self.nodes.len() > most {
            let Some(id) = self.oldest(|_| true) else { break };
            if self.forget(&id) {
                files.push(id);
            }
        }
        files
    }

    /// The file that nobody has used for the longest time, if that is longer than `age`.
    pub fn inactive(&self, now: u64, age: Duration) -> Option<Id> {
        let (used, _, id) = self.order.first()?;
        (used.saturating_add(age.as_secs()) < now).then_some(*id)
    }

    /// The oldest of those that nobody is about. At most a few are passed over.
    pub fn oldest(&self, wanted: impl Fn(&Node) -> bool) -> Option<Id> {
        let is_free = |id: &Id| self.nodes.get(id).is_some_and(|node| node.busy == 0 && wanted(node));
        self.order.iter().take(1000).map(|(_, _, id)| *id).find(is_free)
    }

    /// Forgets a key; `true` if it had a file.
    pub fn forget(&mut self, id: &Id) -> bool {
        self.lose(id);
        let Some(node) = self.nodes.remove(id) else { return false };
        self.order.remove(&(node.used.0, node.used.1, *id));
        if let Some(waiting) = node.waiting {
            waiting.notify_waiters();
        }
        let existed = node.exists;
        self.size -= if existed { node.size } else { 0 };
        existed
    }

    /// It has a file of this size from now on, or none.
    pub fn set_file(&mut self, id: &Id, size: Option<u64>) {
        self.lose(id);
        let Some(node) = self.nodes.get_mut(id) else { return };
        if node.exists {
            self.size -= node.size;
        }
        node.exists = size.is_some();
        node.size = size.unwrap_or(0);
        node.verified = None;
        node.tags = None;
        self.size += node.size;
    }

    /// Holds what is small in memory; what was not used for longest goes for it.
    pub fn hold(&mut self, id: &Id, stored: &Arc<Stored>) {
        let Some(bytes) = stored.memory() else { return };
        self.lose(id);
        while self.held + bytes > HELD {
            let Some(oldest) = self.oldest(|node| node.held.is_some()) else { return };
            self.lose(&oldest);
        }
        if let Some(node) = self.nodes.get_mut(id) {
            node.held = Some(Arc::clone(stored));
            self.held += bytes;
        }
    }

    /// Holds it no longer.
    pub fn lose(&mut self, id: &Id) {
        if let Some(stored) = self.nodes.get_mut(id).and_then(|node| node.held.take()) {
            self.held -= stored.memory().unwrap_or(0);
        }
    }

    /// What is meant by a purge: what surely is, and that of which the file has to be looked at.
    pub fn meant(&self, meant: &Meant) -> (Vec<Id>, Vec<Id>) {
        let (mut sure, mut perhaps) = (Vec::new(), Vec::new());
        for (id, node) in self.nodes.iter().filter(|(_, node)| node.exists || node.status != 0) {
            match meant.matches_known(node.base.as_ref(), node.tags.as_deref()) {
                Some(true) => sure.push(*id),
                None if node.exists => perhaps.push(*id),
                Some(false) | None => {}
            }
        }
        (sure, perhaps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut index = Index::default();
        for (name, now) in [(1, 10), (2, 11), (3, 12), (1, 13)] {
            index.touch([name; 16], now);
            index.set_file(&[name; 16], Some(4096));
        }
        assert_eq!((index.len(), index.size), (3, 3 * 4096));
        assert_eq!(index.oldest(|_| true), Some([2; 16]));
        assert_eq!(index.inactive(21, Duration::from_secs(10)), None);
        assert_eq!(index.inactive(22, Duration::from_secs(10)), Some([2; 16]));
        index.get_mut(&[2; 16]).unwrap().busy = 1;
        assert_eq!(index.oldest(|_| true), Some([3; 16]));
        assert!(index.forget(&[3; 16]) && !index.forget(&[3; 16]));
        assert_eq!(index.size, 2 * 4096);
    }

    #[test]
    fn keys_are_bounded() {
        let mut index = Index::default();
        for number in 0..1000_u16 {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&number.to_le_bytes());
            index.touch(id, u64::from(number));
            index.set_file(&id, Some(1));
            assert!(index.shrink(100 * KEY).len() <= 1);
        }
        assert_eq!((index.len(), index.size), (100, 100));
    }
}
