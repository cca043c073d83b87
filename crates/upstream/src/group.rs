//! Groups of servers: who is asked next, and what is remembered of each.

mod members;
mod peer;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::model::http::{Balance, Keepalive, Upstream, UpstreamAddress};

pub(crate) use members::{Members, Tier};
pub use peer::Peer;

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
    /// Which were asked already, a bit for each slot.
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
        let (mut primary, mut backup) = (Vec::new(), Vec::new());
        let mut slot = 0;
        for server in &upstream.servers {
            let tier = if server.backup { &mut backup } else { &mut primary };
            for address in &server.addresses {
                tier.push(Arc::new(Peer::new(server, address, slot)));
                slot += 1;
            }
        }
        let up = primary.iter().chain(&backup).filter(|peer| !peer.down).count() as u32;
        let mut members = Members {
            primary: Tier::new(primary),
            backup: Tier::new(backup),
            points: Points::default(),
            random: seed(),
            up,
        };
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
        let all = members.up;
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

    /// Whatever kept a server out of the rotation is over.
    fn unpark(&self, peer: &Arc<Peer>) {
        let mut members = self.members();
        members.primary.unpark(peer);
        members.backup.unpark(peer);
    }

    fn now(&self) -> u64 {
        // Never 0, which is long ago.
        self.begin.elapsed().as_millis() as u64 + 1
    }
}

impl Choice {
    /// The next server to ask; `None` if there is none that could be.
    pub fn lease(&mut self) -> Option<Lease> {
        let group = Arc::clone(&self.group);
        let now = group.now();
        let mut members = group.members();
        let peer = if self.single {
            let peer = members.primary.peers.first()?;
            // Of one that is the only one no failure counts, as in nginx.
            if peer.down || peer.is_full() || self.is_tried(peer.slot) {
                return None;
            }
            Arc::clone(peer)
        } else {
            balance::next(group.balance, &mut members, self, now)?
        };
        peer.begin(now);
        drop(members);
        self.mark(peer.slot);
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
        let slot = lease.peer.slot as usize;
        if let Some(word) = self.tried.get_mut(slot / 64) {
            *word &= !(1 << (slot % 64));
        }
        self.left = self.left.saturating_add(1);
    }

    pub(crate) fn is_tried(&self, slot: u32) -> bool {
        let slot = slot as usize;
        self.tried.get(slot / 64).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    fn mark(&mut self, slot: u32) {
        let slot = slot as usize;
        if self.tried.len() <= slot / 64 {
            self.tried.resize(slot / 64 + 1, 0);
        }
        self.tried[slot / 64] |= 1 << (slot % 64);
    }
}

impl Lease {
    /// It failed. Tells whether it is now thought to be down.
    pub fn failed(&self) -> bool {
        !self.single && self.peer.failed(self.group.now())
    }

    /// It answered.
    pub fn answered(&self) {
        if self.peer.answered() {
            self.group.unpark(&self.peer);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.peer.end() {
            self.group.unpark(&self.peer);
        }
    }
}

fn seed() -> u64 {
    // Without the system's random numbers chance is less so, and nothing else is wrong.
    getrandom::u64().unwrap_or(0x9E37_79B9_7F4A_7C15) | 1
}

#[cfg(test)]
mod tests;
