//! Exact and prefix locations.

use super::Index;

/// Paths in order. The longest prefix of a path is the last entry that is not greater than it, or one of the entries
/// that this one begins with; each entry knows the longest of those.
#[derive(Debug, Default)]
pub(super) struct Tree(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    path: Box<[u8]>,
    exact: Option<Index>,
    prefix: Option<Index>,
    /// Answers `path` without its last byte with a redirect.
    redirect: Option<Index>,
    /// The longest other entry with a prefix location that `path` begins with.
    parent: Option<u32>,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    Exact(Index),
    Prefix(Index),
    Redirect(Index),
}

impl Tree {
    /// Of path, whether it is exact, and location. `auto_redirect` tells which redirect to the slash at their end.
    pub(super) fn new(
        mut locations: Vec<(Vec<u8>, bool, Index)>,
        auto_redirect: impl Fn(Index) -> bool,
    ) -> Self {
        locations.sort_by(|one, two| one.0.cmp(&two.0));
        let mut entries: Vec<Entry> = Vec::with_capacity(locations.len());
        // Entries that the current path begins with, the longest last.
        let mut open: Vec<u32> = Vec::new();
        for (path, is_exact, id) in locations {
            if entries.last().is_none_or(|last| *last.path != *path) {
                while let Some(&index) = open.last()
                    && !(path.starts_with(&entries[index as usize].path))
                {
                    open.pop();
                }
                let parent =
                    open.iter().rev().find(|&&index| entries[index as usize].prefix.is_some()).copied();
                open.push(entries.len() as u32);
                entries.push(Entry { path: path.into(), exact: None, prefix: None, redirect: None, parent });
            }
            let Some(entry) = entries.last_mut() else { continue };
            let place = if is_exact { &mut entry.exact } else { &mut entry.prefix };
            place.get_or_insert(id);
        }
        for entry in &mut entries {
            let redirects = [entry.exact, entry.prefix].into_iter().flatten().any(&auto_redirect);
            entry.redirect = entry.exact.or(entry.prefix).filter(|_| redirects);
        }
        Self(entries)
    }

    pub(super) fn find(&self, path: &[u8]) -> Option<Match> {
        let after = self.0.partition_point(|entry| *entry.path <= *path);
        let last = after.checked_sub(1).map(|index| &self.0[index]);
        if let Some(same) = last.filter(|entry| *entry.path == *path) {
            return same.exact.map(Match::Exact).or(same.prefix.map(Match::Prefix));
        }
        if let Some(redirect) = self.redirect(after, path) {
            return Some(Match::Redirect(redirect));
        }
        let mut entry = last?;
        loop {
            if let Some(prefix) = entry.prefix.filter(|_| path.starts_with(&entry.path)) {
                return Some(Match::Prefix(prefix));
            }
            entry = &self.0[entry.parent? as usize];
        }
    }

    /// The location whose path is `path` and a slash. Few entries can stand between the two: only such as go on with
    /// a byte that is less than a slash.
    fn redirect(&self, from: usize, path: &[u8]) -> Option<Index> {
        let rest = &self.0[from..];
        let at = rest.partition_point(|entry| match entry.path.strip_prefix(path) {
            Some([first, ..]) => *first < b'/',
            Some([]) => true,
            None => *entry.path < *path,
        });
        let entry = rest.get(at)?;
        entry.redirect.filter(|_| entry.path.strip_prefix(path) == Some(b"/"))
    }
}
