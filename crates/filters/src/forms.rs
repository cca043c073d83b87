//! Compressed forms of files, so that each is compressed once and not for every request.
//!
//! One for each event loop and configuration, bounded in bytes. A file that has changed has another identity: what
//! was made of the old one is never found again, and gives way to what is asked for.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use exchange::{Coding, FileIdentity};

/// Larger files are compressed while they are sent, each time: one would push out many others.
const LARGEST: u64 = 1024 * 1024;
/// What one form costs beside its bytes, about.
const OVERHEAD: usize = 256;

/// What a form is of, and how it is coded.
pub type Key = (Rc<FileIdentity>, Coding);

/// Forms in memory; the ones that nobody asked for go first.
#[derive(Debug)]
pub struct Forms {
    known: HashMap<Key, Form>,
    /// Oldest first; a form that was asked for since it was queued gets a second turn.
    queue: VecDeque<Key>,
    bytes: usize,
    limit: usize,
    /// Being compressed, and the most that all of them may come to.
    collecting: Vec<Key>,
    collected: u64,
}

#[derive(Debug)]
struct Form {
    bytes: Bytes,
    used: bool,
}

impl Forms {
    /// Of at most so many bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            known: HashMap::new(),
            queue: VecDeque::new(),
            bytes: 0,
            limit,
            collecting: Vec::new(),
            collected: 0,
        }
    }

    /// The form, if it is there.
    pub fn find(&mut self, key: &Key) -> Option<Bytes> {
        let form = self.known.get_mut(key)?;
        form.used = true;
        Some(form.bytes.clone())
    }

    /// Remembers a form. One that takes too much of the room is not worth it.
    pub fn insert(&mut self, key: Key, bytes: Bytes) {
        let cost = bytes.len() + OVERHEAD;
        if cost > self.limit / 4 || self.known.contains_key(&key) {
            return;
        }
        while self.bytes + cost > self.limit {
            let Some(oldest) = self.queue.pop_front() else { break };
            let used = self.known.get_mut(&oldest).is_some_and(|form| std::mem::take(&mut form.used));
            if used {
                self.queue.push_back(oldest);
            } else if let Some(form) = self.known.remove(&oldest) {
                self.bytes -= form.bytes.len() + OVERHEAD;
            }
        }
        self.bytes += cost;
        self.queue.push_back((Rc::clone(&key.0), key.1));
        self.known.insert(key, Form { bytes, used: false });
    }
}

/// Gathers a form while it is sent for the first time.
#[derive(Debug)]
pub struct Collector {
    forms: Rc<RefCell<Forms>>,
    key: Key,
    bytes: BytesMut,
}

impl Collector {
    /// `None` where the form is not to be kept: it is large, is being gathered already, or too much is.
    pub fn begin(forms: &Rc<RefCell<Forms>>, key: Key) -> Option<Self> {
        let mut inner = forms.borrow_mut();
        let size = key.0.size;
        if size > LARGEST || inner.collected + size > inner.limit as u64 || inner.collecting.contains(&key) {
            return None;
        }
        inner.collected += size;
        inner.collecting.push((Rc::clone(&key.0), key.1));
        Some(Self { forms: Rc::clone(forms), key, bytes: BytesMut::new() })
    }

    /// A piece of the form.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// That was all of it.
    pub fn finish(mut self) {
        // A copy of the right size: the buffer has grown ahead of need.
        let bytes = Bytes::copy_from_slice(&std::mem::take(&mut self.bytes));
        let key = (Rc::clone(&self.key.0), self.key.1);
        self.forms.borrow_mut().insert(key, bytes);
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let mut forms = self.forms.borrow_mut();
        forms.collected -= self.key.0.size;
        forms.collecting.retain(|key| *key != self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(inode: u64, size: u64) -> Key {
        (Rc::new(FileIdentity { device: 1, inode, size, modified: (2, 3), changed: (2, 3) }), Coding::Gzip)
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut forms = Forms::new(100_000);
        for inode in 0..1000 {
            forms.insert(key(inode, 10_000), vec![0; 5000].into());
            assert!(forms.bytes <= 100_000);
            assert!(forms.find(&key(0, 10_000)).is_some(), "asked for all the time; gone after {inode}");
        }
        assert_eq!(forms.known.len(), forms.queue.len());
        assert_eq!(forms.known.len(), 100_000 / (5000 + OVERHEAD));
        assert_eq!(forms.find(&key(10, 10_000)), None);
        assert!(forms.find(&key(999, 10_000)).is_some());
    }

    #[test]
    fn what_would_push_out_everything_is_not_kept() {
        let mut forms = Forms::new(100_000);
        forms.insert(key(1, 10), vec![0; 50].into());
        forms.insert(key(2, 90_000), vec![0; 50_000].into());
        assert_eq!(forms.find(&key(2, 90_000)), None);
        assert!(forms.find(&key(1, 10)).is_some());
    }

    #[test]
    fn the_same_form_is_gathered_once_and_all_together_are_bounded() {
        let forms = Rc::new(RefCell::new(Forms::new(100_000)));
        assert!(Collector::begin(&forms, key(1, LARGEST + 1)).is_none());
        let first = Collector::begin(&forms, key(1, 60_000)).unwrap();
        assert!(Collector::begin(&forms, key(1, 60_000)).is_none());
        assert!(Collector::begin(&forms, key(2, 60_000)).is_none(), "too much at once");
        drop(first);
        let mut again = Collector::begin(&forms, key(1, 60_000)).unwrap();
        again.push(b"ab");
        again.push(b"cd");
        assert_eq!(forms.borrow_mut().find(&key(1, 60_000)), None, "not whole yet");
        again.finish();
        assert_eq!(forms.borrow_mut().find(&key(1, 60_000)).unwrap(), "abcd");
        assert_eq!(forms.borrow().collected, 0);
    }
}
