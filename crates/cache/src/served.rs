//! How often what came of looking into a zone.

use std::sync::atomic::{AtomicU64, Ordering};

/// What `$upstream_cache_status` can be.
pub const STATUSES: [&str; 7] = ["HIT", "MISS", "EXPIRED", "STALE", "UPDATING", "REVALIDATED", "BYPASS"];

/// Requests by [`STATUSES`].
#[derive(Debug, Default)]
pub struct Served([AtomicU64; STATUSES.len()]);

/// What a zone holds, and what it was good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneStatus {
    /// Its name.
    pub name: String,
    /// Bytes of its files on the disk.
    pub size: u64,
    /// `max_size`
    pub max_size: Option<u64>,
    /// Keys that it knows of.
    pub keys: u64,
    /// Its files are still being looked for.
    pub cold: bool,
    /// Requests by [`STATUSES`].
    pub served: [u64; STATUSES.len()],
}

impl Served {
    /// A request has this status now, and had that before, or none.
    pub(crate) fn count(&self, status: &str, before: &str) {
        let of = |status: &str| STATUSES.iter().position(|known| *known == status);
        if let Some(at) = of(before) {
            self.0[at].fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(at) = of(status) {
            self.0[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn all(&self) -> [u64; STATUSES.len()] {
        std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_once() {
        let served = Served::default();
        served.count("EXPIRED", "");
        served.count("STALE", "EXPIRED");
        served.count("HIT", "");
        assert_eq!(served.all(), [1, 0, 0, 1, 0, 0, 0]);
    }
}
