//! Who is next: nginx's ways of balancing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::crc32::Crc32;
use crate::group::{Choice, Key, Kind, Members, Peer, Tier};

/// After so many servers that could not be asked, those of a hash or of chance go round.
const MISSES: u32 = 20;
/// Points on the circle for each unit of weight.
const POINTS: i64 = 160;

/// The next server.
pub(crate) fn next(kind: Kind, members: &mut Members, choice: &mut Choice, now: u64) -> Option<Arc<Peer>> {
    let found = match kind {
        Kind::RoundRobin => None,
        Kind::LeastConn => least(&members.primary, choice, now, &mut members.random, Peer::load),
        Kind::LeastTime(which) => {
            least(&members.primary, choice, now, &mut members.random, |peer| peer.patience(which, now))
        }
        Kind::IpHash => ip_hash(&members.primary, choice, now),
        Kind::Hash => hash(&members.primary, choice, now),
        Kind::Consistent => consistent(members, choice, now),
        Kind::Random => random(members, choice, now),
        Kind::RandomTwo(None) => random_two(members, choice, now, Peer::load),
        Kind::RandomTwo(Some(which)) => random_two(members, choice, now, |peer| peer.patience(which, now)),
    };
    let random = &mut members.random;
    if let Some(index) = found.or_else(|| round_robin(&mut members.primary, choice, now, random)) {
        return Some(Arc::clone(&members.primary.peers[index]));
    }
    if let Some(peer) = members.led(choice, true, now) {
        return Some(peer);
    }
    let random = &mut members.random;
    let found = match kind {
        Kind::LeastConn => least(&members.backup, choice, now, random, Peer::load),
        Kind::LeastTime(which) => {
            least(&members.backup, choice, now, random, |peer| peer.patience(which, now))
        }
        _ => round_robin(&mut members.backup, choice, now, random),
    };
    found.map(|index| Arc::clone(&members.backup.peers[index]))
}

/// A step of the smooth weighted round over some servers: each gets its weight, the one that has most is next and pays
/// for all.
fn step<'p>(peers: impl Iterator<Item = (usize, &'p Arc<Peer>)>) -> Option<usize> {
    let mut total = 0;
    let mut best: Option<(usize, i64, &Arc<Peer>)> = None;
    for (index, peer) in peers {
        let effective = peer.effective.load(Ordering::Relaxed);
        let current = peer.current.load(Ordering::Relaxed) + effective;
        peer.current.store(current, Ordering::Relaxed);
        total += effective;
        if effective < peer.weight {
            peer.effective.store(effective + 1, Ordering::Relaxed);
        }
        if best.is_none_or(|(_, most, _)| current > most) {
            best = Some((index, current, peer));
        }
    }
    best.map(|(index, current, peer)| {
        peer.current.store(current - total, Ordering::Relaxed);
        index
    })
}

fn eligible<'t>(
    tier: &'t Tier,
    choice: &'t Choice,
    now: u64,
) -> impl Iterator<Item = (usize, &'t Arc<Peer>)> {
    tier.peers.iter().enumerate().filter(move |(_, peer)| may_ask(peer, choice, now))
}

fn may_ask(peer: &Peer, choice: &Choice, now: u64) -> bool {
    peer.is_eligible(now) && !choice.is_tried(peer.slot)
}

fn round_robin(tier: &mut Tier, choice: &Choice, now: u64, random: &mut u64) -> Option<usize> {
    match &mut tier.rotation {
        Some(rotation) => rotation.next(&tier.peers, choice, now, random),
        None => step_slowly(|| eligible(tier, choice, now), tier.slow, now, random),
    }
}

/// A step in which those that start slowly take part as often as they may, as long as there are others.
fn step_slowly<'p, I: Iterator<Item = (usize, &'p Arc<Peer>)>>(
    peers: impl Fn() -> I,
    slow: bool,
    now: u64,
    random: &mut u64,
) -> Option<usize> {
    if slow {
        let takes_part = peers().filter(|(_, peer)| {
            let share = peer.share(now);
            share >= 1000 || (chance(random, 1000) as i64) < share
        });
        if let Some(found) = step(takes_part) {
            return Some(found);
        }
    }
    step(peers())
}

/// The one with the least of something, by weight. Those that have equally little go round.
fn least(
    tier: &Tier,
    choice: &Choice,
    now: u64,
    random: &mut u64,
    load: impl Fn(&Peer) -> i64,
) -> Option<usize> {
    // What was measured may change meanwhile.
    let loads: Vec<(usize, &Arc<Peer>, i64, i64)> = eligible(tier, choice, now)
        .map(|(index, peer)| (index, peer, load(peer), peer.weight_now(now)))
        .collect();
    let by_weight = |(_, _, load, weight): &(usize, &Arc<Peer>, i64, i64),
                     (_, _, other, others): &(usize, &Arc<Peer>, i64, i64)| {
        load.saturating_mul(*others).cmp(&other.saturating_mul(*weight))
    };
    let least = loads.iter().min_by(|a, b| by_weight(a, b))?;
    let same = || {
        let same = loads.iter().filter(|one| by_weight(one, least).is_eq());
        same.map(|(index, peer, ..)| (*index, *peer))
    };
    if same().nth(1).is_none() {
        return Some(least.0);
    }
    step_slowly(same, tier.slow, now, random)
}

fn ip_hash(tier: &Tier, choice: &mut Choice, now: u64) -> Option<usize> {
    let (v4, v6);
    let bytes: &[u8] = match &choice.key {
        Key::Address(Some(IpAddr::V4(address))) => {
            v4 = address.octets();
            &v4[..3]
        }
        Key::Address(Some(IpAddr::V6(address))) => {
            v6 = address.octets();
            &v6
        }
        _ => &[0; 3],
    };
    let mut hash = choice.hash.unwrap_or(89);
    let found = loop {
        if choice.misses > MISSES || tier.total_weight() == 0 {
            break None;
        }
        for byte in bytes {
            hash = (hash * 113 + u32::from(*byte)) % 6271;
        }
        let index = tier.at_weight(u64::from(hash) % tier.total_weight())?;
        if may_ask(&tier.peers[index], choice, now) {
            break Some(index);
        }
        choice.misses += 1;
    };
    choice.hash = Some(hash);
    found
}

fn hash(tier: &Tier, choice: &mut Choice, now: u64) -> Option<usize> {
    let Key::Text(key) = &choice.key else { return None };
    if key.is_empty() || tier.total_weight() == 0 {
        return None;
    }
    let mut hash = choice.hash.unwrap_or(0);
    let (mut rehash, mut misses) = (choice.rehash, choice.misses);
    let found = loop {
        if misses > MISSES {
            break None;
        }
        let mut sum = Crc32::new();
        if rehash > 0 {
            sum = sum.update(rehash.to_string().as_bytes());
        }
        hash = hash.wrapping_add((sum.update(key).value() >> 16) & 0x7FFF);
        rehash += 1;
        let index = tier.at_weight(u64::from(hash) % tier.total_weight())?;
        if may_ask(&tier.peers[index], choice, now) {
            break Some(index);
        }
        misses += 1;
    };
    (choice.hash, choice.rehash, choice.misses) = (Some(hash), rehash, misses);
    found
}

/// The circle of `hash … consistent`: sorted points, each a server's.
#[derive(Debug, Default)]
pub(crate) struct Points {
    /// Each with the number of its server.
    points: Vec<(u32, u32)>,
    /// The places in the tier of each server's addresses.
    servers: Vec<Vec<u32>>,
}

impl Points {
    /// As ketama and Cache::Memcached::Fast have them.
    pub(crate) fn of(tier: &Tier) -> Self {
        let (mut points, mut servers) = (Vec::new(), Vec::<Vec<u32>>::new());
        let mut known = HashMap::new();
        for (place, peer) in (0..).zip(&tier.peers) {
            let server = peer.server.as_str();
            let number = *known.entry(server).or_insert(servers.len());
            if number == servers.len() {
                servers.push(Vec::new());
            }
            servers[number].push(place);
            let (host, port) = match server.get(..5) {
                Some(unix) if unix.eq_ignore_ascii_case("unix:") => (&server[5..], ""),
                _ => match server.rsplit_once(':') {
                    Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
                        (host, port)
                    }
                    _ => (server, ""),
                },
            };
            let base = Crc32::new().update(host.as_bytes()).update(&[0]).update(port.as_bytes());
            let mut previous = 0_u32;
            for _ in 0..peer.weight * POINTS {
                previous = base.update(&previous.to_le_bytes()).value();
                points.push((previous, number as u32));
            }
        }
        points.sort_by_key(|(hash, _)| *hash);
        points.dedup_by_key(|(hash, _)| *hash);
        Self { points, servers }
    }

    fn find(&self, hash: u32) -> usize {
        self.points.partition_point(|(point, _)| *point < hash)
    }

    /// The places of the server at a point.
    fn at(&self, point: usize) -> &[u32] {
        let (_, server) = self.points[point % self.points.len()];
        &self.servers[server as usize]
    }
}

fn consistent(members: &Members, choice: &mut Choice, now: u64) -> Option<usize> {
    let Key::Text(key) = &choice.key else { return None };
    let points = &members.points;
    if key.is_empty() || points.points.is_empty() {
        return None;
    }
    let mut place = choice.hash.unwrap_or_else(|| points.find(Crc32::new().update(key).value()) as u32);
    let mut misses = choice.misses;
    let found = loop {
        if misses > MISSES {
            break None;
        }
        let same = points.at(place as usize).iter().map(|place| *place as usize);
        let same = same.map(|place| (place, &members.primary.peers[place]));
        if let Some(index) = step(same.filter(|(_, peer)| may_ask(peer, choice, now))) {
            break Some(index);
        }
        place = place.wrapping_add(1);
        misses += 1;
    };
    (choice.hash, choice.misses) = (Some(place), misses);
    found
}

/// xorshift: fair enough to spread requests.
pub(crate) fn chance(state: &mut u64, below: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % below.max(1)
}

fn random(members: &mut Members, choice: &mut Choice, now: u64) -> Option<usize> {
    let total = members.primary.total_weight();
    while choice.misses <= MISSES && total > 0 {
        let index = members.primary.at_weight(chance(&mut members.random, total))?;
        if may_ask(&members.primary.peers[index], choice, now) {
            return Some(index);
        }
        choice.misses += 1;
    }
    None
}

fn random_two(
    members: &mut Members,
    choice: &mut Choice,
    now: u64,
    load: impl Fn(&Peer) -> i64,
) -> Option<usize> {
    let total = members.primary.total_weight();
    let mut first: Option<usize> = None;
    while choice.misses <= MISSES && total > 0 {
        let index = members.primary.at_weight(chance(&mut members.random, total))?;
        let peers = &members.primary.peers;
        if first != Some(index) && may_ask(&peers[index], choice, now) {
            let Some(other) = first else {
                first = Some(index);
                continue;
            };
            let load = |at: usize| load(&peers[at]);
            let is_fuller = load(index) * peers[other].weight > load(other) * peers[index].weight;
            return Some(if is_fuller { other } else { index });
        }
        choice.misses += 1;
    }
    None
}
