//! Groups of servers: who is asked next, and what is remembered of each.

mod members;
mod peer;
mod queue;
mod sessions;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use config::model::http::{Balance, Keepalive, LeastTime, Sticky, Upstream, UpstreamAddress, UpstreamServer};

pub(crate) use members::{Members, Tier};
pub use peer::{Found, Peer, PeerStatus};
pub use queue::{Place, Waits};

use queue::Queue;
use sessions::Sessions;

use crate::balance;

/// A group of servers. All event loops of a process share it.
#[derive(Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// `keepalive`
    pub keepalive: Option<Keepalive>,
    /// `sticky`
    pub sticky: Option<Sticky>,
    /// As the configuration has them.
    servers: Vec<UpstreamServer>,
    /// Bits of health checks that have to look at a server before it is asked.
    mandatory: u64,
    balance: Kind,
    /// `sticky learn`, and whether sessions begin with heads.
    sessions: Option<(Arc<Sessions>, bool)>,
    /// `queue`
    queue: Option<Arc<Queue>>,
    /// Idle connections of all event loops, as they were when last looked at.
    pub(crate) idle: Arc<AtomicU64>,
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
    RandomTwo(Option<LeastTime>),
    LeastTime(LeastTime),
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
    /// Whom `sticky` leads to.
    led_to: Option<Vec<u8>>,
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
    /// It is a health check's.
    looks: bool,
    /// By the group's clock.
    begun: u64,
    /// It counts among the answers that are awaited.
    awaited: Cell<bool>,
    /// The session that it is asked for, and whether that may begin.
    session: RefCell<Option<(Vec<u8>, bool)>>,
}

impl Group {
    /// Of the model. Sessions that were learned go on.
    ///
    /// `mandatory` are the bits of health checks that have to look at a server before it is asked; if they are
    /// `persistent`, not at those that were healthy before.
    pub fn new(upstream: &Upstream, before: &[Arc<Self>], mandatory: u64, persistent: bool) -> Arc<Self> {
        let known = before.iter().find(|group| group.name == upstream.name && !upstream.implicit);
        let mut all = Vec::new();
        for (of, server) in (0..).zip(&upstream.servers) {
            let found = if server.resolve.is_some() {
                // Until the name has been asked for again, what it was before the reload holds.
                known.map(|group| group.found_before(server)).unwrap_or_default()
            } else {
                let weight = server.weight;
                server
                    .addresses
                    .iter()
                    .map(|address| Found { address: address.clone(), weight, backup: false })
                    .collect()
            };
            for found in &found {
                let slot = all.len() as u32;
                let peer = Peer::new(of, server, found, slot, mandatory);
                let is_same = |before: &&Arc<Peer>| before.name == peer.name;
                if persistent
                    && known.is_some_and(|group| {
                        group.peers().iter().find(is_same).is_some_and(|p| p.is_healthy())
                    })
                {
                    peer.was_looked_at(u64::MAX, true, 0);
                }
                all.push(Arc::new(peer));
            }
        }
        let consistent = matches!(upstream.balance, Balance::Hash { consistent: true, .. });
        let members = Members::new(all, consistent, upstream.sticky.is_some(), seed());
        let balance = match &upstream.balance {
            Balance::RoundRobin => Kind::RoundRobin,
            Balance::LeastConn => Kind::LeastConn,
            Balance::IpHash => Kind::IpHash,
            Balance::Hash { consistent: false, .. } => Kind::Hash,
            Balance::Hash { consistent: true, .. } => Kind::Consistent,
            Balance::Random { two: false, .. } => Kind::Random,
            Balance::Random { two: true, time } => Kind::RandomTwo(*time),
            Balance::LeastTime(which) => Kind::LeastTime(*which),
        };
        let sessions = match &upstream.sticky {
            Some(Sticky::Learn(learn)) => {
                let before = before.iter().filter_map(|group| group.sessions.as_ref());
                let goes_on =
                    before.map(|(sessions, _)| sessions).find(|sessions| sessions.goes_on_as(learn));
                Some((goes_on.map_or_else(|| Arc::new(Sessions::new(learn)), Arc::clone), learn.header))
            }
            _ => None,
        };
        Arc::new(Self {
            name: upstream.name.clone(),
            keepalive: upstream.keepalive.clone(),
            sticky: upstream.sticky.clone(),
            servers: if upstream.implicit { Vec::new() } else { upstream.servers.clone() },
            mandatory,
            balance,
            sessions,
            queue: upstream.queue.as_ref().map(|queue| Arc::new(Queue::new(queue))),
            idle: Arc::default(),
            begin: Instant::now(),
            members: Mutex::new(members),
        })
    }

    /// A group of addresses that were only found out for one request.
    pub fn of_addresses(name: String, addresses: impl IntoIterator<Item = UpstreamAddress>) -> Arc<Self> {
        let server = UpstreamServer::new(name.clone(), addresses.into_iter().collect());
        Self::new(&Upstream { implicit: true, ..Upstream::new(name, vec![server]) }, &[], 0, false)
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
            led_to: None,
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

    /// All servers as they are now.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.members().all().to_vec()
    }

    /// What is known of each.
    pub fn status(&self) -> Vec<PeerStatus> {
        let now = self.now();
        self.members().all().iter().map(|peer| peer.status(now)).collect()
    }

    /// Connections that wait for a request, of all event loops.
    pub fn idle(&self) -> u64 {
        self.idle.load(Ordering::Relaxed)
    }

    /// Requests that wait for a server, and how many may; `None` without `queue`.
    pub fn queued(&self) -> Option<(u64, u64)> {
        self.queue.as_ref().map(|queue| queue.status())
    }

    /// A server may be one that can be asked: whoever waits longest is to look.
    fn call(&self) {
        if let Some(queue) = &self.queue {
            queue.call();
        }
    }

    /// The addresses that a server's name had before a reload, also if the rest of the server was changed by it.
    fn found_before(&self, server: &UpstreamServer) -> Vec<Found> {
        let Some(asked) = &server.resolve else { return Vec::new() };
        let Some(of) = self.servers.iter().position(|known| {
            known.backup == server.backup
                && known.resolve.as_ref().is_some_and(|k| k.host == asked.host && k.service == asked.service)
        }) else {
            return Vec::new();
        };
        let members = self.members();
        let own = members.all().iter().filter(|peer| peer.of as usize == of);
        let found = own.map(|peer| {
            if asked.service.is_some() {
                return Found {
                    address: peer.address.clone(),
                    weight: u32::try_from(peer.weight).unwrap_or(1),
                    backup: peer.backup && !server.backup,
                };
            }
            let address = match &peer.address {
                UpstreamAddress::Ip(ip) => UpstreamAddress::Ip((ip.ip(), asked.port).into()),
                unix @ UpstreamAddress::Unix(_) => unix.clone(),
            };
            Found { address, weight: server.weight, backup: false }
        });
        found.collect()
    }

    /// A server has these addresses from now on. What is remembered of those that it had before stays.
    pub fn set_addresses(&self, of: usize, found: &[Found]) {
        let Some(server) = self.servers.get(of) else { return };
        let mut members = self.members();
        let (mut own, mut all): (Vec<_>, Vec<_>) =
            members.all().iter().cloned().partition(|peer| peer.of as usize == of);
        let is = |peer: &Arc<Peer>, found: &Found| {
            peer.address == found.address
                && peer.weight == i64::from(found.weight)
                && peer.backup == (found.backup || server.backup)
        };
        if own.len() == found.len() && own.iter().zip(found).all(|(peer, found)| is(peer, found)) {
            return;
        }
        let taken: HashSet<u32> = all.iter().chain(&own).map(|peer| peer.slot).collect();
        let mut free = (0..u32::MAX).filter(|slot| !taken.contains(slot));
        for found in found {
            if let Some(at) = own.iter().position(|peer| is(peer, found)) {
                all.push(own.swap_remove(at));
            } else if let Some(slot) = free.next() {
                all.push(Arc::new(Peer::new(of as u32, server, found, slot, self.mandatory)));
            }
        }
        members.arrange(all);
        drop(members);
        self.call();
    }

    /// A health check looks at a server: what comes of it counts for nothing else.
    pub fn look(self: &Arc<Self>, peer: &Arc<Peer>) -> Lease {
        Lease {
            peer: Arc::clone(peer),
            group: Arc::clone(self),
            single: true,
            looks: true,
            begun: self.now(),
            awaited: Cell::new(false),
            session: RefCell::default(),
        }
    }

    /// One look is over.
    pub fn count_check(&self, peer: &Peer, passed: bool) {
        peer.count_check(passed);
    }

    /// A health check has found out how a server is.
    pub fn found_to_be(&self, peer: &Arc<Peer>, bit: u64, is_well: bool) {
        if peer.was_looked_at(bit, is_well, self.now()) {
            self.unpark(peer);
            self.call();
        }
    }

    /// Whether answers are counted while they are awaited.
    const fn awaits(&self) -> bool {
        matches!(self.balance, Kind::LeastTime(LeastTime { inflight: true, .. }))
    }

    /// Whether it is the head of an answer that ends the waiting.
    const fn awaits_heads(&self) -> bool {
        matches!(self.balance, Kind::LeastTime(LeastTime { last_byte: false, .. }))
    }

    /// Whatever kept a server out of the rotation is over.
    fn unpark(&self, peer: &Arc<Peer>) {
        let mut members = self.members();
        members.primary.unpark(peer);
        members.backup.unpark(peer);
    }

    fn now(&self) -> u64 {
        // Never 0, which is long ago.
        exchange::now().saturating_duration_since(self.begin).as_millis() as u64 + 1
    }
}

impl Choice {
    /// The next server to ask; `None` if there is none that could be, or others wait already.
    pub fn lease(&mut self) -> Option<Lease> {
        if self.group.queue.as_ref().is_some_and(|queue| queue.has_waiting()) {
            return None;
        }
        self.lease_in_turn()
    }

    /// Whether a request without a server may wait for one.
    pub fn queue_up(&self) -> Waits {
        let Some(queue) = &self.group.queue else { return Waits::No };
        let members = self.group.members();
        let may_come = members.all().iter().any(|peer| peer.is_up() && !self.is_tried(peer.slot));
        drop(members);
        if may_come { queue.enter() } else { Waits::No }
    }

    /// The same whoever waits.
    fn lease_in_turn(&mut self) -> Option<Lease> {
        let group = Arc::clone(&self.group);
        let now = group.now();
        let mut members = group.members();
        let peer = if self.single {
            let peer = members.primary.peers.first()?;
            // Of one that is the only one no failure counts, as in nginx.
            let may = if self.is_led_to(peer) { !peer.down } else { peer.is_up() } && peer.is_healthy();
            if !may || peer.is_full() || self.is_tried(peer.slot) {
                return None;
            }
            Arc::clone(peer)
        } else {
            match members.led(self, false, now) {
                Some(peer) => peer,
                None => balance::next(group.balance, &mut members, self, now)?,
            }
        };
        peer.begin(now);
        drop(members);
        self.mark(peer.slot);
        let awaited = group.awaits();
        if awaited {
            peer.await_answer(now);
        }
        Some(Lease {
            peer,
            group,
            single: self.single,
            looks: false,
            begun: now,
            awaited: Cell::new(awaited),
            session: RefCell::default(),
        })
    }

    /// `sticky`: what the request says of the server that it was led to before, or of its session.
    pub fn lead(&mut self, id: Vec<u8>) {
        self.led_to = match &self.group.sessions {
            Some((sessions, _)) => sessions.server_of(&id),
            None => Some(id),
        };
    }

    fn is_led_to(&self, peer: &Peer) -> bool {
        self.led_to.as_ref().is_some_and(|sid| *sid == peer.sid)
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

    /// It answered, to the last byte.
    pub fn answered(&self) {
        if self.looks {
            return;
        }
        let now = self.group.now();
        self.peer.took(true, self.begun, now);
        if self.peer.answered(now) {
            self.group.unpark(&self.peer);
            self.group.call();
        }
        self.learn();
    }

    /// The head of its answer is there.
    pub fn has_head(&self, status: u16) {
        if self.looks {
            return;
        }
        self.peer.count_response(status);
        self.peer.took(false, self.begun, self.group.now());
        if self.group.awaits_heads() {
            self.await_no_more();
        }
    }

    /// `sticky` of its group.
    pub fn sticky(&self) -> Option<&Sticky> {
        self.group.sticky.as_ref()
    }

    /// What `sticky` knows the server by.
    pub fn sid(&self) -> &[u8] {
        &self.peer.sid
    }

    /// `sticky learn`: the session that is served; one that is not known begins if it `may_begin`.
    pub fn serves(&self, session: Vec<u8>, may_begin: bool) {
        *self.session.borrow_mut() = Some((session, may_begin));
        if self.group.sessions.as_ref().is_some_and(|(_, with_head)| *with_head) {
            self.learn();
        }
    }

    fn learn(&self) {
        if let Some((id, may_begin)) = self.session.take()
            && let Some((sessions, _)) = &self.group.sessions
        {
            sessions.served(&id, &self.peer.sid, may_begin);
        }
    }

    fn await_no_more(&self) {
        if self.awaited.take() {
            self.peer.await_no_more(self.begun);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.looks {
            return;
        }
        self.await_no_more();
        if self.peer.end() {
            self.group.unpark(&self.peer);
        }
        self.group.call();
    }
}

fn seed() -> u64 {
    // Without the system's random numbers chance is less so, and nothing else is wrong.
    getrandom::u64().unwrap_or(0x9E37_79B9_7F4A_7C15) | 1
}

#[cfg(test)]
mod tests;
