//! One address of a server, and what is remembered of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

use config::model::http::{UpstreamAddress, UpstreamServer};

/// One address of a server.
#[derive(Debug)]
pub struct Peer {
    /// Where it listens.
    pub address: UpstreamAddress,
    /// The same, as logs and `$upstream_addr` have it.
    pub name: String,
    /// The server's name in the configuration.
    pub(crate) server: String,
    /// Its number in the group, by which a request remembers whom it has asked.
    pub(crate) slot: u32,
    pub(crate) weight: i64,
    pub(crate) down: bool,
    max_conns: u32,
    max_fails: u32,
    /// Milliseconds.
    fail_timeout: u64,
    conns: AtomicU32,
    fails: AtomicU32,
    /// When it failed last, and when it was last looked whether it still does: milliseconds of the group's clock.
    accessed: AtomicU64,
    checked: AtomicU64,
    pub(crate) current: AtomicI64,
    pub(crate) effective: AtomicI64,
    /// Why it is not in its tier's rotation; a [`Parked`].
    parked: AtomicU8,
    /// When it comes back into the rotation by itself.
    pub(super) wake: AtomicU64,
    /// Its place in its tier.
    pub(super) place: AtomicU32,
}

/// Whether a server may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may.
    Eligible,
    /// It has as many connections as it may have.
    Full,
    /// It is thought to be down until this time is over.
    Failed(u64),
    /// It may not, until somebody says so.
    Out,
}

/// Why a server is not in its tier's rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parked {
    /// It is in it.
    No = 0,
    /// See [`Standing`].
    Full = 1,
    Failed = 2,
    Out = 3,
}

impl Peer {
    pub(super) fn new(server: &UpstreamServer, address: &UpstreamAddress, slot: u32) -> Self {
        Self {
            address: address.clone(),
            name: address_name(address),
            server: server.name.clone(),
            slot,
            weight: i64::from(server.weight),
            down: server.down,
            max_conns: server.max_conns,
            max_fails: server.max_fails,
            fail_timeout: server.fail_timeout.as_millis() as u64,
            conns: AtomicU32::new(0),
            fails: AtomicU32::new(0),
            accessed: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            current: AtomicI64::new(0),
            effective: AtomicI64::new(i64::from(server.weight)),
            parked: AtomicU8::new(Parked::No as u8),
            wake: AtomicU64::new(0),
            place: AtomicU32::new(0),
        }
    }

    /// Requests that it is being asked.
    pub(crate) fn load(&self) -> i64 {
        i64::from(self.conns.load(Ordering::Relaxed))
    }

    pub(crate) fn is_full(&self) -> bool {
        // Beside `parked`, in this order: see `Rotation::next`.
        self.max_conns > 0 && self.conns.load(Ordering::SeqCst) >= self.max_conns
    }

    /// Whether it may be asked.
    pub(crate) fn standing(&self, now: u64) -> Standing {
        if self.down {
            return Standing::Out;
        }
        if self.max_fails > 0 && self.fails.load(Ordering::Relaxed) >= self.max_fails {
            let until = self.checked.load(Ordering::Relaxed).saturating_add(self.fail_timeout);
            if now <= until {
                return Standing::Failed(until);
            }
        }
        if self.is_full() { Standing::Full } else { Standing::Eligible }
    }

    /// Whether it may be asked: not down, not thought to be, not at its limit.
    pub(crate) fn is_eligible(&self, now: u64) -> bool {
        self.standing(now) == Standing::Eligible
    }

    /// It is asked.
    pub(super) fn begin(&self, now: u64) {
        self.conns.fetch_add(1, Ordering::SeqCst);
        if now.saturating_sub(self.checked.load(Ordering::Relaxed)) > self.fail_timeout {
            self.checked.store(now, Ordering::Relaxed);
        }
    }

    /// It is not asked any more. Tells whether the rotation waits for that.
    pub(super) fn end(&self) -> bool {
        self.conns.fetch_sub(1, Ordering::SeqCst);
        self.max_conns > 0 && self.is_parked_as(Parked::Full)
    }

    /// It failed. Tells whether it is now thought to be down.
    pub(super) fn failed(&self, now: u64) -> bool {
        let fails = self.fails.fetch_add(1, Ordering::Relaxed) + 1;
        self.accessed.store(now, Ordering::Relaxed);
        self.checked.store(now, Ordering::Relaxed);
        if self.max_fails == 0 {
            return false;
        }
        let less = self.weight / i64::from(self.max_fails);
        let effective = self.effective.load(Ordering::Relaxed) - less;
        self.effective.store(effective.max(0), Ordering::Relaxed);
        fails >= self.max_fails
    }

    /// It answered. Tells whether the rotation waits for that.
    pub(super) fn answered(&self) -> bool {
        // Only an answer to a request that began after the failure takes it back.
        if self.accessed.load(Ordering::Relaxed) < self.checked.load(Ordering::Relaxed) {
            self.fails.store(0, Ordering::Relaxed);
            return self.is_parked_as(Parked::Failed);
        }
        false
    }

    pub(super) fn park(&self, why: Parked) {
        self.parked.store(why as u8, Ordering::SeqCst);
    }

    /// Tells whether it was not in the rotation.
    pub(super) fn unpark(&self) -> bool {
        self.parked.swap(Parked::No as u8, Ordering::SeqCst) != Parked::No as u8
    }

    pub(super) fn is_parked_as(&self, why: Parked) -> bool {
        self.parked.load(Ordering::SeqCst) == why as u8
    }
}

fn address_name(address: &UpstreamAddress) -> String {
    match address {
        UpstreamAddress::Ip(SocketAddr::V4(address)) => address.to_string(),
        UpstreamAddress::Ip(SocketAddr::V6(address)) => format!("[{}]:{}", address.ip(), address.port()),
        UpstreamAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}
