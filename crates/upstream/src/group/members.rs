//! The servers of a group as the ways of balancing need them: nothing that a request does grows with their number where
//! that can be had.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Choice;
use super::peer::{Parked, Peer, Standing};
use crate::balance::{Points, chance};

/// So many servers are looked at one by one, in nginx's order whatever happens; of more the next is kept at hand.
const FEW: usize = 32;
/// What a server of weight one waits for its next turn.
const ROUND: u64 = 1 << 32;
/// Where turns begin to be counted anew.
const LAST: u64 = 1 << 62;

/// Servers, and those that are asked when none of the first can be.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub primary: Tier,
    pub backup: Tier,
    /// For `hash … consistent`.
    pub points: Points,
    pub random: u64,
    /// Those of both tiers that the configuration does not say to be down.
    pub up: u32,
    /// All servers, in the order of the configuration.
    all: Vec<Arc<Peer>>,
    /// `hash … consistent`, and `sticky`.
    wants: (bool, bool),
    /// The servers of both tiers by what `sticky` knows them by; empty without it.
    by_sid: [HashMap<Vec<u8>, Arc<Peer>>; 2],
}

/// Servers that are equal but for their weights.
#[derive(Debug, Default)]
pub(crate) struct Tier {
    pub peers: Vec<Arc<Peer>>,
    /// Of each the weights of all up to it.
    sums: Vec<u64>,
    /// Of many, who is next in turn.
    pub rotation: Option<Rotation>,
    /// Some have `slow_start`.
    pub slow: bool,
}

impl Members {
    pub(super) fn new(all: Vec<Arc<Peer>>, consistent: bool, sticky: bool, random: u64) -> Self {
        let mut members = Self { wants: (consistent, sticky), random, ..Self::default() };
        members.arrange(all);
        members
    }

    /// Whom `sticky` leads to, if it may be asked.
    pub(crate) fn led(&self, choice: &Choice, backup: bool, now: u64) -> Option<Arc<Peer>> {
        let peer = self.by_sid[usize::from(backup)].get(choice.led_to.as_ref()?)?;
        (!choice.is_tried(peer.slot) && peer.is_eligible_for_led(now)).then(|| Arc::clone(peer))
    }

    pub(super) fn all(&self) -> &[Arc<Peer>] {
        &self.all
    }

    /// Goes on with these servers.
    pub(super) fn arrange(&mut self, mut all: Vec<Arc<Peer>>) {
        all.sort_by_key(|peer| peer.of);
        let (backup, primary): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|peer| peer.backup);
        self.up = all.iter().filter(|peer| peer.is_up()).count() as u32;
        self.by_sid = Default::default();
        if self.wants.1 {
            for peer in &all {
                let tier = &mut self.by_sid[usize::from(peer.backup)];
                tier.entry(peer.sid.clone()).or_insert_with(|| Arc::clone(peer));
            }
        }
        (self.primary, self.backup, self.all) = (Tier::new(primary), Tier::new(backup), all);
        if self.wants.0 {
            self.points = Points::of(&self.primary);
        }
    }
}

impl Tier {
    pub(super) fn new(peers: Vec<Arc<Peer>>) -> Self {
        let mut total = 0;
        let sums = peers.iter().map(|peer| {
            total += peer.weight as u64;
            total
        });
        let sums = sums.collect();
        for (place, peer) in peers.iter().enumerate() {
            peer.place.store(place as u32, Ordering::Relaxed);
            peer.unpark();
        }
        let rotation = (peers.len() > FEW).then(|| Rotation::new(&peers));
        let slow = peers.iter().any(|peer| peer.starts_slowly());
        Self { peers, sums, rotation, slow }
    }

    pub(crate) fn total_weight(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    /// The server at a place on the line of all weights.
    pub(crate) fn at_weight(&self, place: u64) -> Option<usize> {
        let index = self.sums.partition_point(|sum| *sum <= place);
        (index < self.peers.len()).then_some(index)
    }

    /// Puts a server back into the rotation.
    pub(super) fn unpark(&mut self, peer: &Arc<Peer>) {
        let place = peer.place.load(Ordering::Relaxed);
        let is_here = self.peers.get(place as usize).is_some_and(|known| Arc::ptr_eq(known, peer));
        if let Some(rotation) = self.rotation.as_mut().filter(|_| is_here)
            && peer.unpark()
        {
            rotation.add(place);
        }
    }
}

/// Whose turn is next by weight: the one whose turn is due first. A server that cannot be asked is taken out and comes
/// back when that has changed, so that nobody looks at it meanwhile.
#[derive(Debug)]
pub(crate) struct Rotation {
    /// When whose turn is due.
    turns: BinaryHeap<Reverse<(u64, u32)>>,
    /// When who is thought to be up again.
    asleep: BinaryHeap<Reverse<(u64, u32)>>,
    /// When the last turn was due.
    at: u64,
}

impl Rotation {
    fn new(peers: &[Arc<Peer>]) -> Self {
        // Those of one weight begin one after the other, so that others have their turns between them.
        let mut alike = HashMap::new();
        for peer in peers {
            alike.entry(peer.weight).or_insert((0, 0)).0 += 1;
        }
        let turns = (0..).zip(peers).map(|(place, peer)| {
            let (count, begun) = alike.entry(peer.weight).or_insert((1, 0));
            *begun += 1;
            Reverse(((u128::from(wait(peer)) * *begun / *count) as u64, place))
        });
        Self { turns: turns.collect(), asleep: BinaryHeap::new(), at: 0 }
    }

    fn add(&mut self, place: u32) {
        self.turns.push(Reverse((self.at, place)));
    }

    /// Whose turn it is.
    pub(crate) fn next(
        &mut self,
        peers: &[Arc<Peer>],
        choice: &Choice,
        now: u64,
        random: &mut u64,
    ) -> Option<usize> {
        while let Some(Reverse((wake, place))) = self.asleep.peek().copied().filter(|next| next.0.0 < now) {
            self.asleep.pop();
            // Another entry may have taken this one's place.
            let peer = &peers[place as usize];
            if peer.wake.load(Ordering::Relaxed) == wake && peer.is_parked_as(Parked::Failed) && peer.unpark()
            {
                self.add(place);
            }
        }
        let (mut asked, mut passed) = (Vec::new(), 0);
        let found = loop {
            let Some(Reverse((due, place))) = self.turns.peek().copied() else { break None };
            let peer = &peers[place as usize];
            if choice.is_tried(peer.slot) {
                asked.extend(self.turns.pop());
                continue;
            }
            match peer.standing(now) {
                Standing::Eligible => {
                    self.at = due;
                    if let Some(mut first) = self.turns.peek_mut() {
                        first.0.0 = due + wait(peer);
                    }
                    // One that starts slowly lets some of its turns pass, as long as there are others.
                    passed += 1;
                    let share = peer.share(now);
                    if share < 1000 && passed < peers.len() && chance(random, 1000) as i64 >= share {
                        continue;
                    }
                    break Some(place as usize);
                }
                Standing::Full => {
                    self.turns.pop();
                    peer.park(Parked::Full);
                    // It may have become free before it was said that this is waited for.
                    if !peer.is_full() && peer.unpark() {
                        self.turns.push(Reverse((due, place)));
                    }
                }
                Standing::Failed(until) => {
                    self.turns.pop();
                    peer.wake.store(until, Ordering::Relaxed);
                    peer.park(Parked::Failed);
                    self.asleep.push(Reverse((until, place)));
                }
                Standing::Out => {
                    self.turns.pop();
                    peer.park(Parked::Out);
                }
            }
        };
        self.turns.extend(asked);
        if self.at > LAST {
            let begin = self.at;
            self.turns =
                self.turns.drain().map(|turn| Reverse((turn.0.0 - begin.min(turn.0.0), turn.0.1))).collect();
            self.at = 0;
        }
        found
    }
}

/// Until the next turn.
fn wait(peer: &Peer) -> u64 {
    ROUND / peer.weight.max(1) as u64
}
