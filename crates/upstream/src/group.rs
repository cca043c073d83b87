//! Groups of servers: who is asked next, and what is remembered of each.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::model::http::{Balance, Keepalive, Upstream, UpstreamAddress};

use crate::balance::{self, Points};

/// A group of servers. All event loops of a process share it.
#[derive(Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// `keepalive`
    pub keepalive: Option<Keepalive>,
    balance: Kind,
    begin: Instant,
    members: Mutex<Members>,
}

/// How the next is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    RoundRobin,
    LeastConn,
    IpHash,
    Hash,
    Consistent,
    Random,
    RandomTwo,
}

/// Servers, and those that are asked when none of the first can be.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub primary: Tier,
    pub backup: Tier,
    /// For `hash … consistent`.
    pub points: Points,
    pub random: u64,
}

/// Servers that are equal but for their weights.
#[derive(Debug, Default)]
pub(crate) struct Tier {
    pub peers: Vec<Arc<Peer>>,
    pub total_weight: u64,
}

/// One address of a server.
#[derive(Debug)]
pub struct Peer {
    /// Where it listens.
    pub address: UpstreamAddress,
    /// The same, as logs and `$upstream_addr` have it.
    pub name: String,
    /// The server's name in the configuration.
    pub(crate) server: String,
    pub(crate) weight: i64,
    pub(crate) down: bool,
    max_conns: u32,
    max_fails: u32,
    /// Milliseconds.
    fail_timeout: u64,
    pub(crate) conns: AtomicU32,
    fails: AtomicU32,
    /// When it failed last, and when it was last looked whether it still does: milliseconds of the group's clock.
    accessed: AtomicU64,
    checked: AtomicU64,
    pub(crate) current: AtomicI64,
    pub(crate) effective: AtomicI64,
}

/// What decides who is next, where something of the request does.
#[derive(Debug, Clone, Default)]
pub enum Key {
    /// Nothing.
    #[default]
    None,
    /// The client's address, for `ip_hash`.
    Address(Option<IpAddr>),
    /// The text of `hash`.
    Text(Vec<u8>),
}

/// The servers that one request may ask.
#[derive(Debug)]
pub struct Choice {
    group: Arc<Group>,
    pub(crate) key: Key,
    /// Which were asked already, a bit for each of both tiers.
    pub(crate) tried: Vec<u64>,
    /// Whom a hash leads to next.
    pub(crate) hash: Option<u32>,
    pub(crate) rehash: u32,
    pub(crate) misses: u32,
    /// How many may still be asked.
    left: u32,
    single: bool,
}

/// A server that is being asked. Dropped without a verdict, it counts as neither good nor bad.
#[derive(Debug)]
pub struct Lease {
    /// Which.
    pub peer: Arc<Peer>,
    group: Arc<Group>,
    single: bool,
}

impl Group {
    /// Of the model.
    pub fn new(upstream: &Upstream) -> Arc<Self> {
        let mut members = Members { random: seed(), ..Members::default() };
        for server in &upstream.servers {
            let tier = if server.backup { &mut members.backup } else { &mut members.primary };
            for address in &server.addresses {
                tier.total_weight += u64::from(server.weight);
                tier.peers.push(Arc::new(Peer {
                    address: address.clone(),
                    name: address_name(address),
                    server: server.name.clone(),
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
                }));
            }
        }
        let balance = match &upstream.balance {
            Balance::RoundRobin => Kind::RoundRobin,
            Balance::LeastConn => Kind::LeastConn,
            Balance::IpHash => Kind::IpHash,
            Balance::Hash { consistent: false, .. } => Kind::Hash,
            Balance::Hash { consistent: true, .. } => Kind::Consistent,
            Balance::Random { two: false } => Kind::Random,
            Balance::Random { two: true } => Kind::RandomTwo,
        };
        if balance == Kind::Consistent {
            members.points = Points::of(&members.primary);
        }
        Arc::new(Self {
            name: upstream.name.clone(),
            keepalive: upstream.keepalive.clone(),
            balance,
            begin: Instant::now(),
            members: Mutex::new(members),
        })
    }

    /// A group of addresses that were only found out for one request.
    pub fn of_addresses(name: String, addresses: impl IntoIterator<Item = UpstreamAddress>) -> Arc<Self> {
        let server = config::model::http::UpstreamServer {
            name: name.clone(),
            addresses: addresses.into_iter().collect(),
            resolve: None,
            weight: 1,
            max_conns: 0,
            max_fails: 1,
            fail_timeout: Duration::from_secs(10),
            backup: false,
            down: false,
        };
        Self::new(&Upstream {
            name,
            implicit: true,
            servers: vec![server],
            balance: Balance::RoundRobin,
            keepalive: None,
        })
    }

    /// The servers for one request; of them at most `tries` are asked (0: all).
    pub fn choose(self: &Arc<Self>, key: Key, tries: u32) -> Choice {
        let members = self.members();
        let up = |tier: &Tier| tier.peers.iter().filter(|peer| !peer.down).count() as u32;
        let all = if members.primary.peers.len() + members.backup.peers.len() > MANY {
            // Not to be counted for each request.
            u32::MAX
        } else {
            up(&members.primary) + up(&members.backup)
        };
        let single = members.primary.peers.len() == 1 && members.backup.peers.is_empty();
        drop(members);
        Choice {
            group: Arc::clone(self),
            key,
            tried: Vec::new(),
            hash: None,
            rehash: 0,
            misses: 0,
            left: if tries == 0 { all } else { all.min(tries) },
            single,
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        // Never 0, which is long ago.
        self.begin.elapsed().as_millis() as u64 + 1
    }
}

/// Above so many servers nobody counts those that are up.
const MANY: usize = 64;

impl Choice {
    /// The next server to ask; `None` if there is none that could be.
    pub fn lease(&mut self) -> Option<Lease> {
        let group = Arc::clone(&self.group);
        let now = group.now();
        let mut members = group.members();
        let (peer, index) = if self.single {
            let peer = members.primary.peers.first()?;
            // Of one that is the only one no failure counts, as in nginx.
            if peer.down || peer.is_full() || self.is_tried(0) {
                return None;
            }
            (Arc::clone(peer), 0)
        } else {
            balance::next(group.balance, &mut members, self, now)?
        };
        peer.conns.fetch_add(1, Ordering::Relaxed);
        if now.saturating_sub(peer.checked.load(Ordering::Relaxed)) > peer.fail_timeout {
            peer.checked.store(now, Ordering::Relaxed);
        }
        drop(members);
        self.mark(index);
        Some(Lease { peer, group, single: self.single })
    }

    /// Whether another may be asked after one that failed; counts it.
    pub fn use_up(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }

    /// Whether another could be asked after this one.
    pub fn has_more(&self) -> bool {
        self.left > 1
    }

    /// The last one was asked on a kept connection, which says nothing of it: it may be asked again.
    pub fn give_back(&mut self, lease: &Lease) {
        let index = {
            let members = self.group.members();
            let all = members.primary.peers.iter().chain(&members.backup.peers);
            all.enumerate().find(|(_, peer)| Arc::ptr_eq(peer, &lease.peer)).map(|(index, _)| index)
        };
        if let Some(index) = index
            && let Some(word) = self.tried.get_mut(index / 64)
        {
            *word &= !(1 << (index % 64));
        }
        self.left = self.left.saturating_add(1);
    }

    pub(crate) fn is_tried(&self, index: usize) -> bool {
        self.tried.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    fn mark(&mut self, index: usize) {
        if self.tried.len() <= index / 64 {
            self.tried.resize(index / 64 + 1, 0);
        }
        self.tried[index / 64] |= 1 << (index % 64);
    }
}

impl Peer {
    pub(crate) fn is_full(&self) -> bool {
        self.max_conns > 0 && self.conns.load(Ordering::Relaxed) >= self.max_conns
    }

    /// Whether it may be asked: not down, not thought to be, not at its limit.
    pub(crate) fn is_eligible(&self, now: u64) -> bool {
        let failed = self.max_fails > 0
            && self.fails.load(Ordering::Relaxed) >= self.max_fails
            && now.saturating_sub(self.checked.load(Ordering::Relaxed)) <= self.fail_timeout;
        !self.down && !failed && !self.is_full()
    }
}

impl Lease {
    /// It failed. Tells whether it is now thought to be down.
    pub fn failed(&self) -> bool {
        let peer = &self.peer;
        if self.single {
            return false;
        }
        let now = self.group.now();
        let fails = peer.fails.fetch_add(1, Ordering::Relaxed) + 1;
        peer.accessed.store(now, Ordering::Relaxed);
        peer.checked.store(now, Ordering::Relaxed);
        if peer.max_fails == 0 {
            return false;
        }
        let less = peer.weight / i64::from(peer.max_fails);
        let effective = peer.effective.load(Ordering::Relaxed) - less;
        peer.effective.store(effective.max(0), Ordering::Relaxed);
        fails >= peer.max_fails
    }

    /// It answered.
    pub fn answered(&self) {
        let peer = &self.peer;
        // Only an answer to a request that began after the failure takes it back.
        if peer.accessed.load(Ordering::Relaxed) < peer.checked.load(Ordering::Relaxed) {
            peer.fails.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.peer.conns.fetch_sub(1, Ordering::Relaxed);
    }
}

fn address_name(address: &UpstreamAddress) -> String {
    match address {
        UpstreamAddress::Ip(SocketAddr::V4(address)) => address.to_string(),
        UpstreamAddress::Ip(SocketAddr::V6(address)) => format!("[{}]:{}", address.ip(), address.port()),
        UpstreamAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn seed() -> u64 {
    // Without the system's random numbers chance is less so, and nothing else is wrong.
    getrandom::u64().unwrap_or(0x9E37_79B9_7F4A_7C15) | 1
}

#[cfg(test)]
mod tests;
