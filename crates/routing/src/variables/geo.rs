//! `geo`

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::model::IpNetwork;
use config::model::http::{self as model, Variable};
use exchange::Name;

use super::{Scope, State, Variables};

/// A compiled `geo`.
#[derive(Debug)]
pub(super) struct Geo {
    address: Option<Variable>,
    four: Ranges,
    six: Ranges,
    /// Given as ranges, which nginx has for IPv4 only: another address counts as the last one of IPv4.
    by_ranges: bool,
    values: Vec<Box<[u8]>>,
    default: Box<[u8]>,
    proxies: Vec<IpNetwork>,
    proxy_recursive: bool,
    volatile: bool,
}

/// What nginx takes where there is no address.
const NO_ADDRESS: u128 = u32::MAX as u128;

impl Geo {
    pub(super) fn compile(geo: &model::Geo) -> Self {
        let mut values = Vec::new();
        let (mut four, mut six) = (Painting::default(), Painting::default());
        let mut paint = |first: IpAddr, last: IpAddr, value: &[u8]| {
            let painting = if first.is_ipv4() { &mut four } else { &mut six };
            painting.paint(bits(first), bits(last), values.len() as u32);
            values.push(value.into());
        };
        // The narrower ones over the wider ones, of equal ones the last.
        let mut networks: Vec<_> = geo.networks.iter().collect();
        networks.sort_by_key(|(network, _)| network.prefix());
        for (network, value) in networks {
            paint(network.first(), network.last(), value);
        }
        for (first, last, value) in &geo.ranges {
            paint(*first, *last, value);
        }
        Self {
            address: geo.address.clone(),
            four: four.finish(),
            six: six.finish(),
            by_ranges: !geo.ranges.is_empty(),
            values,
            default: geo.default.as_slice().into(),
            proxies: geo.proxies.clone(),
            proxy_recursive: geo.proxy_recursive,
            volatile: geo.volatile,
        }
    }

    pub(super) fn find(&self, variables: &Variables, state: &mut State, scope: Scope<'_>) -> &[u8] {
        let address = variables.address(self.address.as_ref(), state, scope).map(|address| {
            if self.proxies.is_empty() {
                return address;
            }
            let lines = scope.request.fields.all(Name::XForwardedFor).collect::<Vec<_>>();
            forwarded_address(address, lines.into_iter().rev(), &self.proxies, self.proxy_recursive)
        });
        self.value(address)
    }

    pub(super) fn is_volatile(&self) -> bool {
        self.volatile
    }

    pub(super) fn value(&self, address: Option<IpAddr>) -> &[u8] {
        let found = match address.map(|address| address.to_canonical()) {
            Some(address @ IpAddr::V4(_)) => self.four.find(bits(address)),
            Some(address @ IpAddr::V6(_)) if self.by_ranges => {
                self.six.find(bits(address)).or_else(|| self.four.find(NO_ADDRESS))
            }
            Some(address @ IpAddr::V6(_)) => self.six.find(bits(address)),
            None => self.four.find(NO_ADDRESS),
        };
        found.map_or(&self.default, |value| &self.values[value as usize])
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => u128::from(four.to_bits()),
        IpAddr::V6(six) => six.to_bits(),
    }
}

/// Ranges under construction: what is painted last covers what was there.
#[derive(Debug, Default)]
struct Painting(BTreeMap<u128, (u128, u32)>);

impl Painting {
    fn paint(&mut self, first: u128, last: u128, value: u32) {
        if first > last {
            return;
        }
        // What begins before and reaches in keeps its beginning, and its end if it reaches out again.
        let before = self.0.range(..first).next_back().map(|(&start, &(end, old))| (start, end, old));
        if let Some((start, end, old)) = before
            && end >= first
        {
            self.0.insert(start, (first - 1, old));
            if end > last {
                self.0.insert(last + 1, (end, old));
            }
        }
        let covered: Vec<_> =
            self.0.range(first..=last).map(|(&start, &(end, old))| (start, end, old)).collect();
        for (start, end, old) in covered {
            self.0.remove(&start);
            if end > last {
                self.0.insert(last + 1, (end, old));
            }
        }
        self.0.insert(first, (last, value));
    }

    fn finish(self) -> Ranges {
        Ranges(self.0.into_iter().map(|(first, (last, value))| (first, last, value)).collect())
    }
}

/// Ranges in order that do not overlap.
#[derive(Debug)]
struct Ranges(Vec<(u128, u128, u32)>);

impl Ranges {
    fn find(&self, address: u128) -> Option<u32> {
        let after = self.0.partition_point(|&(first, ..)| first <= address);
        let &(_, last, value) = self.0.get(after.checked_sub(1)?)?;
        (address <= last).then_some(value)
    }
}

/// The client's address where `address` is perhaps that of a proxy: of the lines of `X-Forwarded-For` (the last
/// first) the last address, if `address` is one of `proxies`; with `recursive` then on to the left, past all that are
/// proxies too. A word that is no address ends it.
pub fn forwarded_address<'l>(
    address: IpAddr,
    lines: impl Iterator<Item = &'l [u8]>,
    proxies: &[IpNetwork],
    recursive: bool,
) -> IpAddr {
    let mut address = address;
    for line in lines {
        let mut rest = line;
        loop {
            if !proxies.iter().any(|proxy| proxy.contains(address)) {
                return address;
            }
            let (before, word) = last_word(rest);
            let Some(found) = parse_address(word) else { return address };
            address = found;
            if !recursive {
                return address;
            }
            if before.is_empty() {
                break;
            }
            rest = before;
        }
    }
    address
}

/// What stands before the last word, with what parts them, and the word.
fn last_word(line: &[u8]) -> (&[u8], &[u8]) {
    let is_word = |byte: &u8| !matches!(byte, b' ' | b',');
    let end = line.iter().rposition(is_word).map_or(0, |last| last + 1);
    let start = line[..end].iter().rposition(|byte| !is_word(byte)).map_or(0, |parting| parting + 1);
    (&line[..start], &line[start..end])
}

/// An address, perhaps with a port.
fn parse_address(word: &[u8]) -> Option<IpAddr> {
    let word = str::from_utf8(word).ok()?;
    if let Ok(address) = word.parse() {
        return Some(address);
    }
    let (address, port) = if let Some(literal) = word.strip_prefix('[') {
        let (address, port) = literal.split_once(']')?;
        let address = address.parse().ok().map(IpAddr::V6)?;
        if port.is_empty() {
            return Some(address);
        }
        (address, port.strip_prefix(':')?)
    } else {
        let (address, port) = word.split_once(':')?;
        (address.parse().ok().map(IpAddr::V4)?, port)
    };
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    is_port.then_some(address)
}
