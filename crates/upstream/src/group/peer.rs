//! One address of a server, and what is remembered of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

use config::model::http::{LeastTime, UpstreamAddress, UpstreamServer};
use md5::{Digest, Md5};

/// Times that are closer than this are equal, and those that are longer than that; milliseconds.
const STEP: u64 = 20;
const SLOW: u64 = 5000;

/// One address of a server.
#[derive(Debug)]
pub struct Peer {
    /// Where it listens.
    pub address: UpstreamAddress,
    /// The same, as logs and `$upstream_addr` have it.
    pub name: Arc<str>,
    /// The server's name in the configuration.
    pub(crate) server: String,
    /// Its number in the group, by which a request remembers whom it has asked.
    pub(crate) slot: u32,
    /// Its server's number in the configuration.
    pub(super) of: u32,
    pub(crate) weight: i64,
    pub(super) backup: bool,
    pub(crate) down: bool,
    drain: bool,
    /// By which health checks it is not healthy, and of those which have not looked yet: bits.
    unhealthy: AtomicU64,
    checking: AtomicU64,
    counts: Counts,
    /// What `sticky` knows it by.
    pub(crate) sid: Vec<u8>,
    /// `slow_start`, milliseconds.
    slow_start: u64,
    /// When it came up again, for `slow_start`; 0: long ago.
    risen: AtomicU64,
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
    /// Its usual times until heads and last bytes of answers, milliseconds; 0: not known.
    header_time: AtomicU64,
    response_time: AtomicU64,
    /// Answers that are awaited, and the sum of the times when they began to be.
    awaited: AtomicU64,
    awaited_since: AtomicU64,
    /// Why it is not in its tier's rotation; a [`Parked`].
    parked: AtomicU8,
    /// When it comes back into the rotation by itself.
    pub(super) wake: AtomicU64,
    /// Its place in its tier.
    pub(super) place: AtomicU32,
}

/// What happened to a server.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    /// By the first digit of their statuses.
    responses: [AtomicU64; 5],
    fails: AtomicU64,
    unavailable: AtomicU64,
    checks: AtomicU64,
    checks_failed: AtomicU64,
    unhealthy: AtomicU64,
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
    pub(super) fn new(of: u32, server: &UpstreamServer, found: &Found, slot: u32, mandatory: u64) -> Self {
        let address = &found.address;
        Self {
            of,
            backup: server.backup || found.backup,
            unhealthy: AtomicU64::new(mandatory),
            checking: AtomicU64::new(mandatory),
            counts: Counts::default(),
            address: address.clone(),
            name: address_name(address).into(),
            server: server.name.clone(),
            slot,
            weight: i64::from(found.weight),
            down: server.down,
            drain: server.drain,
            sid: sid(server, address),
            slow_start: server.slow_start.as_millis() as u64,
            risen: AtomicU64::new(0),
            header_time: AtomicU64::new(0),
            response_time: AtomicU64::new(0),
            awaited: AtomicU64::new(0),
            awaited_since: AtomicU64::new(0),
            max_conns: server.max_conns,
            max_fails: server.max_fails,
            fail_timeout: server.fail_timeout.as_millis() as u64,
            conns: AtomicU32::new(0),
            fails: AtomicU32::new(0),
            accessed: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            current: AtomicI64::new(0),
            effective: AtomicI64::new(i64::from(found.weight)),
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
        if self.drain { Standing::Out } else { self.standing_of_led(now) }
    }

    /// Whether one may be led to it who was there before.
    fn standing_of_led(&self, now: u64) -> Standing {
        if self.down || !self.is_healthy() {
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

    /// The same for one whom `sticky` leads to it.
    pub(super) fn is_eligible_for_led(&self, now: u64) -> bool {
        self.standing_of_led(now) == Standing::Eligible
    }

    /// No health check has anything against it.
    pub(super) fn is_healthy(&self) -> bool {
        self.unhealthy.load(Ordering::Relaxed) == 0
    }

    /// A health check has looked. Tells whether that made it healthy.
    pub(super) fn was_looked_at(&self, bit: u64, is_well: bool, now: u64) -> bool {
        self.checking.fetch_and(!bit, Ordering::Relaxed);
        if is_well {
            let before = self.unhealthy.fetch_and(!bit, Ordering::Relaxed);
            let is_new = before == bit;
            if is_new {
                self.rise(now);
            }
            is_new
        } else {
            if self.unhealthy.fetch_or(bit, Ordering::Relaxed) == 0 {
                self.counts.unhealthy.fetch_add(1, Ordering::Relaxed);
            }
            false
        }
    }

    /// A health check was made.
    pub(super) fn count_check(&self, passed: bool) {
        self.counts.checks.fetch_add(1, Ordering::Relaxed);
        if !passed {
            self.counts.checks_failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_response(&self, status: u16) {
        if let Some(count) = self.counts.responses.get(usize::from(status / 100).wrapping_sub(1)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is known of it.
    pub(super) fn status(&self, now: u64) -> PeerStatus {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let state = match self.standing_of_led(now) {
            _ if self.down => "down",
            _ if of(&self.checking) != 0 => "checking",
            Standing::Out => "unhealthy",
            Standing::Failed(_) => "unavail",
            _ if self.drain => "draining",
            Standing::Eligible | Standing::Full => "up",
        };
        PeerStatus {
            server: self.server.clone(),
            address: self.name.to_string(),
            backup: self.backup,
            weight: self.weight,
            state,
            active: of_load(self.load()),
            max_conns: self.max_conns,
            requests: of(&self.counts.requests),
            responses: std::array::from_fn(|class| of(&self.counts.responses[class])),
            fails: of(&self.counts.fails),
            unavailable: of(&self.counts.unavailable),
            checks: of(&self.counts.checks),
            checks_failed: of(&self.counts.checks_failed),
            unhealthy: of(&self.counts.unhealthy),
            header_time: of(&self.header_time),
            response_time: of(&self.response_time),
        }
    }

    /// Neither down nor drained by the configuration.
    pub(super) fn is_up(&self) -> bool {
        !self.down && !self.drain
    }

    /// Whether it ever has less than its weight.
    pub(super) fn starts_slowly(&self) -> bool {
        self.slow_start > 0
    }

    /// How much of its weight it has, in thousandths.
    pub(crate) fn share(&self, now: u64) -> i64 {
        let risen = self.risen.load(Ordering::Relaxed);
        if self.slow_start == 0 || risen == 0 {
            return 1000;
        }
        let since = now.saturating_sub(risen);
        if since >= self.slow_start { 1000 } else { (since * 1000 / self.slow_start).max(1) as i64 }
    }

    /// Its weight now, in thousandths.
    pub(crate) fn weight_now(&self, now: u64) -> i64 {
        self.weight * self.share(now)
    }

    /// It is up again.
    fn rise(&self, now: u64) {
        self.risen.store(now, Ordering::Relaxed);
    }

    /// How long it may take to answer all that it is asked and one more, as nginx reckons it.
    pub(crate) fn patience(&self, which: LeastTime, now: u64) -> i64 {
        let time = if which.last_byte { &self.response_time } else { &self.header_time };
        let mut time = time.load(Ordering::Relaxed);
        let seconds = now.saturating_sub(self.checked.load(Ordering::Relaxed)) / 1000;
        let patience = self.fail_timeout / 1000;
        if seconds > patience {
            // One that has not been asked for long gets its chance: what is known of it counts half as much each time.
            time = time.checked_shr((seconds / (patience + 1)).min(63) as u32).unwrap_or(0);
        }
        let awaited = self.awaited.load(Ordering::Relaxed);
        if which.inflight && awaited > 0 {
            let begun = self.awaited_since.load(Ordering::Relaxed) / awaited;
            time = time.max(now.saturating_sub(begun));
        }
        // Times that are nearly the same are the same, and so are all that are far too long.
        let time = if time > SLOW { SLOW } else { time + STEP - time % STEP };
        time as i64 * (1 + self.load())
    }

    /// An answer that began to be awaited then has come so far.
    pub(super) fn took(&self, last_byte: bool, begun: u64, now: u64) {
        let average = if last_byte { &self.response_time } else { &self.header_time };
        let (before, took) = (average.load(Ordering::Relaxed), now.saturating_sub(begun));
        // The newest counts a twentieth.
        let after = if before == 0 { took } else { (before * 19 + took + 10) / 20 };
        average.store(after, Ordering::Relaxed);
    }

    /// An answer is awaited from now on, or is not any more.
    pub(super) fn await_answer(&self, begun: u64) {
        self.awaited_since.fetch_add(begun, Ordering::Relaxed);
        self.awaited.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn await_no_more(&self, begun: u64) {
        self.awaited.fetch_sub(1, Ordering::Relaxed);
        self.awaited_since.fetch_sub(begun, Ordering::Relaxed);
    }

    /// It is asked.
    pub(super) fn begin(&self, now: u64) {
        self.conns.fetch_add(1, Ordering::SeqCst);
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
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
        let fails = self.fails.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.counts.fails.fetch_add(1, Ordering::Relaxed);
        self.accessed.store(now, Ordering::Relaxed);
        self.checked.store(now, Ordering::Relaxed);
        if self.max_fails == 0 {
            return false;
        }
        let less = self.weight / i64::from(self.max_fails);
        let effective = self.effective.load(Ordering::Relaxed) - less;
        self.effective.store(effective.max(0), Ordering::Relaxed);
        if fails == self.max_fails {
            self.counts.unavailable.fetch_add(1, Ordering::Relaxed);
        }
        fails >= self.max_fails
    }

    /// It answered. Tells whether the rotation waits for that.
    pub(super) fn answered(&self, now: u64) -> bool {
        // Only an answer to a request that began after the failure takes it back.
        if self.accessed.load(Ordering::Relaxed) < self.checked.load(Ordering::Relaxed) {
            let fails = self.fails.swap(0, Ordering::Relaxed);
            if self.max_fails > 0 && fails >= self.max_fails {
                self.rise(now);
            }
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

/// What is known of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names that the page has")]
pub struct PeerStatus {
    pub server: String,
    pub address: String,
    pub backup: bool,
    pub weight: i64,
    /// `up`, `draining`, `down`, `unavail`, `checking` or `unhealthy`.
    pub state: &'static str,
    pub active: u64,
    pub max_conns: u32,
    pub requests: u64,
    pub responses: [u64; 5],
    pub fails: u64,
    pub unavailable: u64,
    pub checks: u64,
    pub checks_failed: u64,
    pub unhealthy: u64,
    /// Usual times in milliseconds.
    pub header_time: u64,
    pub response_time: u64,
}

/// An address that a server turned out to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it listens.
    pub address: UpstreamAddress,
    /// Its weight, 1 at least.
    pub weight: u32,
    /// Others come before it.
    pub backup: bool,
}

fn of_load(load: i64) -> u64 {
    u64::try_from(load).unwrap_or(0)
}

/// The `route`, else a digest of the address.
fn sid(server: &UpstreamServer, address: &UpstreamAddress) -> Vec<u8> {
    if !server.route.is_empty() {
        return server.route.clone().into_bytes();
    }
    let digest = Md5::digest(address_name(address).as_bytes());
    digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| b"0123456789abcdef"[nibble as usize])
        .collect()
}

fn address_name(address: &UpstreamAddress) -> String {
    match address {
        UpstreamAddress::Ip(SocketAddr::V4(address)) => address.to_string(),
        UpstreamAddress::Ip(SocketAddr::V6(address)) => format!("[{}]:{}", address.ip(), address.port()),
        UpstreamAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}
