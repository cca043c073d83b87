//! `allow` and `deny`: the first rule that fits decides.

use std::net::IpAddr;

use config::model::IpNetwork;
use config::model::http::{AccessRule, Who};

/// What the rules say of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// `allow`
    Allowed,
    /// `deny`
    Denied,
    /// No rule fits.
    Undecided,
}

/// The rules of one place in the configuration.
///
/// Networks contain each other or are disjoint, so the first rule that fits is constant between two of their
/// ends. Those stretches are computed once; a lookup is a binary search, however long the list is.
#[derive(Debug, Clone)]
pub struct Access {
    ipv4: Stretches<u32>,
    ipv6: Stretches<u128>,
    unix: Verdict,
}

impl Access {
    /// Compiles `rules`, which stand in the order of the file.
    pub fn new(rules: &[AccessRule]) -> Self {
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        let mut unix = Verdict::Undecided;
        for rule in rules {
            let verdict = if rule.deny { Verdict::Denied } else { Verdict::Allowed };
            let (is_ipv4, is_ipv6, is_unix) = match &rule.who {
                Who::All => (Some((0, u32::MAX)), Some((0, u128::MAX)), true),
                Who::Unix => (None, None, true),
                Who::Network(network) => match ends(*network) {
                    Ends::V4(first, last) => (Some((first, last)), None, false),
                    Ends::V6(first, last) => (None, Some((first, last)), false),
                },
            };
            ipv4.extend(is_ipv4.map(|(first, last)| Rule { first, last, verdict }));
            ipv6.extend(is_ipv6.map(|(first, last)| Rule { first, last, verdict }));
            if is_unix && unix == Verdict::Undecided {
                unix = verdict;
            }
        }
        Self { ipv4: Stretches::new(&ipv4), ipv6: Stretches::new(&ipv6), unix }
    }

    /// What holds for `address`.
    ///
    /// As in nginx, an IPv4 address that a dual-stack socket shows as an IPv6 one is looked up among the IPv4
    /// rules, and among those of IPv6 only if no rule is about IPv4.
    pub fn verdict(&self, address: Option<IpAddr>) -> Verdict {
        match address {
            None => self.unix,
            Some(IpAddr::V4(address)) => self.ipv4.find(address.to_bits()),
            Some(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
                Some(mapped) if !self.ipv4.is_empty() => self.ipv4.find(mapped.to_bits()),
                _ => self.ipv6.find(address.to_bits()),
            },
        }
    }
}

enum Ends {
    V4(u32, u32),
    V6(u128, u128),
}

fn ends(network: IpNetwork) -> Ends {
    let prefix = u32::from(network.prefix());
    match network.first() {
        IpAddr::V4(first) => {
            let first = first.to_bits();
            Ends::V4(first, first | u32::MAX.checked_shr(prefix).unwrap_or(0))
        }
        IpAddr::V6(first) => {
            let first = first.to_bits();
            Ends::V6(first, first | u128::MAX.checked_shr(prefix).unwrap_or(0))
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Rule<T> {
    first: T,
    last: T,
    verdict: Verdict,
}

/// Where each stretch of equal verdict begins; it ends where the next one begins.
#[derive(Debug, Clone)]
struct Stretches<T> {
    begins: Box<[T]>,
    verdicts: Box<[Verdict]>,
}

impl<T: Integer> Stretches<T> {
    fn new(rules: &[Rule<T>]) -> Self {
        let mut order: Vec<usize> = (0..rules.len()).collect();
        // An enclosing network comes before those within it; of equal ones the earlier rule.
        order.sort_by_key(|&at| (rules[at].first, std::cmp::Reverse(rules[at].last), at));
        let mut stretches = Building::default();
        // The networks that enclose the current place, each with the first rule among it and those around it.
        let mut open: Vec<(T, usize)> = Vec::new();
        for at in order {
            let rule = rules[at];
            close(&mut open, Some(rule.first), &mut stretches, rules);
            let first_rule = open.last().map_or(at, |&(_, around)| around.min(at));
            stretches.begin(rule.first, rules[first_rule].verdict);
            open.push((rule.last, first_rule));
        }
        close(&mut open, None, &mut stretches, rules);
        Self { begins: stretches.begins.into(), verdicts: stretches.verdicts.into() }
    }

    fn is_empty(&self) -> bool {
        self.begins.is_empty()
    }

    fn find(&self, address: T) -> Verdict {
        match self.begins.partition_point(|begin| *begin <= address) {
            0 => Verdict::Undecided,
            after => self.verdicts[after - 1],
        }
    }
}

/// Leaves the networks that end before `next`, or all.
fn close<T: Integer>(
    open: &mut Vec<(T, usize)>,
    next: Option<T>,
    stretches: &mut Building<T>,
    rules: &[Rule<T>],
) {
    while let Some(&(last, _)) = open.last()
        && next.is_none_or(|next| last < next)
    {
        open.pop();
        if let Some(after) = last.successor() {
            let verdict = open.last().map_or(Verdict::Undecided, |&(_, around)| rules[around].verdict);
            stretches.begin(after, verdict);
        }
    }
}

struct Building<T> {
    begins: Vec<T>,
    verdicts: Vec<Verdict>,
}

impl<T> Default for Building<T> {
    fn default() -> Self {
        Self { begins: Vec::new(), verdicts: Vec::new() }
    }
}

impl<T: Integer> Building<T> {
    /// From `begin` on, which is never before the last one, `verdict` holds.
    fn begin(&mut self, begin: T, verdict: Verdict) {
        if self.begins.last() == Some(&begin) {
            self.begins.pop();
            self.verdicts.pop();
        }
        if self.verdicts.last() != Some(&verdict) {
            self.begins.push(begin);
            self.verdicts.push(verdict);
        }
    }
}

trait Integer: Copy + Ord {
    fn successor(self) -> Option<Self>;
}

impl Integer for u32 {
    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Integer for u128 {
    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }
}

#[cfg(test)]
mod tests;
