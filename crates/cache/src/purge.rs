//! Purging: what is meant is removed at once, and an answer that was being fetched meanwhile is not kept.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::key::{self, Id};

/// Bytes of tags that an answer may have, and that a purge may name: of one with more nothing is kept, for it could not
/// be purged.
pub const TAGS: usize = 16 * 1024;
/// Purges that are remembered for those who fetch.
const RECENT: usize = 1024;

/// What is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// What has this key, in all its forms.
    Key(Vec<u8>),
    /// What has a key that begins so.
    Start(Vec<u8>),
    /// What has one of these tags; spaces or commas between.
    Tags(Vec<u8>),
}

/// A tag, short: another with the same number is purged too, which does no harm.
pub type Tag = u64;

/// The tags of a text.
pub fn tags(text: &[u8]) -> Box<[Tag]> {
    split(text)
        .map(|tag| {
            let mut hasher = DefaultHasher::new();
            tag.hash(&mut hasher);
            hasher.finish()
        })
        .collect()
}

/// The words of a list of tags.
pub fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b',' | b' ' | b'\t')).filter(|tag| !tag.is_empty())
}

/// A purge as an index compares it.
#[derive(Debug)]
pub enum Meant {
    Key(Id),
    Start(Vec<u8>),
    Tags(Box<[Tag]>),
}

impl Meant {
    pub fn of(purge: Purge) -> Self {
        match purge {
            Purge::Key(text) => Self::Key(key::base(&text)),
            Purge::Start(text) => Self::Start(text),
            Purge::Tags(text) => Self::Tags(tags(&text)),
        }
    }

    /// By the key's text and the tags.
    pub fn matches(&self, text: &[u8], of: &[Tag]) -> bool {
        match self {
            Self::Key(base) => *base == key::base(text),
            Self::Start(start) => text.starts_with(start),
            Self::Tags(tags) => has_one(tags, of),
        }
    }

    /// By what is known without its file; `None` if that is not enough.
    pub fn matches_known(&self, base: Option<&Id>, of: Option<&[Tag]>) -> Option<bool> {
        match self {
            Self::Key(meant) => base.map(|base| base == meant),
            Self::Start(_) => None,
            Self::Tags(tags) => of.map(|of| has_one(tags, of)),
        }
    }
}

fn has_one(tags: &[Tag], of: &[Tag]) -> bool {
    of.iter().any(|tag| tags.contains(tag))
}

/// The purges of a zone, for those who have begun to fetch before.
#[derive(Debug, Default)]
pub struct Purges {
    count: u64,
    recent: VecDeque<std::sync::Arc<Meant>>,
}

impl Purges {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn note(&mut self, meant: &std::sync::Arc<Meant>) {
        self.count += 1;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(meant.clone());
    }

    /// Whether what has been fetched since there were so many purges is none of what they meant.
    pub fn spare(&self, since: u64, text: &[u8], tags: &[Tag]) -> bool {
        let missed = (self.count - since.min(self.count)) as usize;
        missed <= self.recent.len()
            && !self.recent.iter().rev().take(missed).any(|meant| meant.matches(text, tags))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn tags_are_words() {
        assert_eq!(split(b" a, b\tc,,d ").collect::<Vec<_>>(), [b"a", b"b", b"c", b"d"]);
        let of = tags(b"shop item-1");
        let matches = |tags: &[u8]| Meant::of(Purge::Tags(tags.to_vec())).matches(b"", &of);
        assert!(matches(b"item-1") && matches(b"other,shop"));
        assert!(!matches(b"item") && !matches(b"") && !matches(b"item-11"));
    }

    #[test]
    fn what_was_fetched_while_it_was_purged_is_not_spared() {
        let mut purges = Purges::default();
        let before = purges.count();
        let spare = |purges: &Purges, since| purges.spare(since, b"/a/b", &tags(b"t"));
        assert!(spare(&purges, before));
        for (purge, spares) in [
            (Purge::Key(b"/a".to_vec()), true),
            (Purge::Tags(b"u".to_vec()), true),
            (Purge::Start(b"/a/".to_vec()), false),
        ] {
            purges.note(&Arc::new(Meant::of(purge)));
            assert_eq!(spare(&purges, before), spares);
        }
        assert!(spare(&purges, purges.count()));
        for _ in 0..=RECENT {
            purges.note(&Arc::new(Meant::of(Purge::Key(b"/x".to_vec()))));
        }
        // Nobody knows any more.
        assert!(!spare(&purges, before));
    }
}
