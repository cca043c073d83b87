//! Host names with wildcards, as servers and maps have them.

use config::model::http::ServerName;
use fnv::FnvHashMap;

/// Values by name: exact ones, then the longest wildcard in front, then the longest behind. All names are lower case.
///
/// The hash is a quick one that can be foreseen: what is in the maps, the configuration says, and no client.
#[derive(Debug)]
pub(crate) struct Names<T> {
    exact: FnvHashMap<Box<[u8]>, T>,
    /// `.example.com`, the name itself.
    dotted: FnvHashMap<Box<[u8]>, T>,
    /// `*.example.com` and `.example.com`, both by `example.com`.
    leading: Wildcards<T>,
    /// `www.example.*` by `www.example`.
    trailing: Wildcards<T>,
}

#[derive(Debug)]
struct Wildcards<T> {
    by_rest: FnvHashMap<Box<[u8]>, T>,
    /// The longest key: what is longer need not be looked up, however many labels a client sends.
    longest: usize,
}

impl<T: Copy> Names<T> {
    pub(crate) fn new() -> Self {
        Self {
            exact: FnvHashMap::default(),
            dotted: FnvHashMap::default(),
            leading: Wildcards::new(),
            trailing: Wildcards::new(),
        }
    }

    /// Adds a name, unless it is there already. Patterns are no names.
    pub(crate) fn add(&mut self, name: &ServerName, value: T) {
        match name {
            ServerName::Exact(name) => self.add_exact(name, value),
            ServerName::Leading(name) => self.leading.add(name.strip_prefix(b"*.").unwrap_or(name), value),
            ServerName::Dotted(name) => {
                let rest = name.strip_prefix(b".").unwrap_or(name);
                self.dotted.entry(rest.into()).or_insert(value);
                self.leading.add(rest, value);
            }
            ServerName::Trailing(name) => self.trailing.add(name.strip_suffix(b".*").unwrap_or(name), value),
            ServerName::Regex(_) => {}
        }
    }

    pub(crate) fn add_exact(&mut self, name: &[u8], value: T) {
        self.exact.entry(name.into()).or_insert(value);
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<T> {
        if let Some(&value) = self.exact.get(name) {
            return Some(value);
        }
        if self.leading.longest > 0 {
            if let Some(&value) = self.dotted.get(name) {
                return Some(value);
            }
            let least = name.len().saturating_sub(self.leading.longest + 1);
            let mut dots = memchr::memchr_iter(b'.', &name[least..]).map(|at| least + at);
            if let Some(value) = dots.find_map(|dot| self.leading.by_rest.get(&name[dot + 1..])) {
                return Some(*value);
            }
        }
        let most = name.len().min(self.trailing.longest + 1);
        memchr::memrchr_iter(b'.', &name[..most])
            .find_map(|dot| self.trailing.by_rest.get(&name[..dot]))
            .copied()
    }
}

impl<T> Wildcards<T> {
    fn new() -> Self {
        Self { by_rest: FnvHashMap::default(), longest: 0 }
    }

    fn add(&mut self, rest: &[u8], value: T) {
        self.longest = self.longest.max(rest.len());
        self.by_rest.entry(rest.into()).or_insert(value);
    }
}
