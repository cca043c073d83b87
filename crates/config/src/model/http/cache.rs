//! The cache: where answers are kept, and which.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{NextUpstream, Value, Variable};

/// Kinds of servers whose answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// `proxy_pass`
    Proxy,
    /// `app_pass`
    App,
    /// `fastcgi_pass`
    FastCgi,
    /// `uwsgi_pass`
    Uwsgi,
    /// `scgi_pass`
    Scgi,
}

impl CacheKind {
    /// All of them, each at its number.
    pub const ALL: [Self; CACHE_KINDS] = [Self::Proxy, Self::App, Self::FastCgi, Self::Uwsgi, Self::Scgi];
}

/// How many kinds there are.
pub const CACHE_KINDS: usize = 5;

/// Index into [`Http::caches`](super::Http::caches).
pub type CacheId = u32;

/// `proxy_cache_path`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheZone {
    /// Its name.
    pub name: String,
    /// The directory.
    pub path: PathBuf,
    /// `levels`: how many letters of its name the directories above a file have, outermost first.
    pub levels: Vec<u8>,
    /// Bytes for keys, by which their number is bounded.
    pub size: u64,
    /// `inactive`: what nobody has asked for this long goes.
    pub inactive: Duration,
    /// `max_size`, bytes; `None` is no limit.
    pub max_size: Option<u64>,
    /// `min_free`: bytes that stay free on the file system.
    pub min_free: u64,
    /// How what is too much goes.
    pub manager: CachePace,
    /// How what is there is looked through at the beginning.
    pub loader: CachePace,
}

/// `manager_…` and `loader_…`: work in small portions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachePace {
    /// Files at a time.
    pub files: u32,
    /// The pause after them.
    pub sleep: Duration,
    /// How long they may take.
    pub threshold: Duration,
}

/// Which zone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CacheName {
    /// This one.
    Fixed(CacheId),
    /// By its name, which only a request tells.
    Variable(Value),
}

/// `proxy_cache` and its company, all of it merged.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CacheSettings {
    /// `proxy_cache`
    pub zone: CacheName,
    /// `proxy_cache_key`; `None` is whom is asked and what for.
    pub key: Option<Value>,
    /// `proxy_cache_valid`: status (0 is any) and how long.
    pub valid: Vec<(u16, Duration)>,
    /// `proxy_cache_methods`: POST too.
    pub post: bool,
    /// `proxy_cache_min_uses`
    pub min_uses: u32,
    /// `proxy_cache_bypass`
    pub bypass: Vec<Value>,
    /// `proxy_no_cache`
    pub no_cache: Vec<Value>,
    /// `proxy_cache_lock`
    pub lock: bool,
    /// `proxy_cache_lock_timeout`
    pub lock_timeout: Duration,
    /// `proxy_cache_lock_age`
    pub lock_age: Duration,
    /// `proxy_cache_use_stale`
    pub use_stale: NextUpstream,
    /// `proxy_cache_use_stale updating`
    pub stale_updating: bool,
    /// `proxy_cache_background_update`
    pub background_update: bool,
    /// `proxy_cache_revalidate`
    pub revalidate: bool,
    /// `proxy_cache_convert_head`
    pub convert_head: bool,
    /// `proxy_cache_max_range_offset`
    pub max_range_offset: Option<u64>,
    /// `proxy_cache_purge`: a request for which one of them says so removes what is kept for it.
    pub purge: Vec<Value>,
}

impl CacheSettings {
    /// Whether the configured key has this variable.
    pub fn is_keyed_by(&self, variable: &Variable) -> bool {
        self.key.iter().flat_map(Value::variables).any(|part| part == variable)
    }
}
