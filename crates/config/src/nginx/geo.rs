//! `geo`: a variable by the client's address.

use std::net::{IpAddr, Ipv4Addr};

use conf_syntax::{Directive, Word};

use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use crate::model::http::{Geo, Source, Variable};
use crate::model::{InvalidNetwork, IpNetwork};

pub(super) const ROWS: &[Row] = &[Row::new(
    "geo",
    Context::HTTP,
    Count::between(1, 2),
    Apply::Custom(|r, _, d| r.geo(d)),
    "",
    "A variable by an address: networks or `ranges`, `default`, `delete`, `proxy`, `proxy_recursive`.",
)
.block()
.repeats()
.differs("A text file is read as it is each time: nginx's binary bases are neither made nor read.")];

impl<'a> Reader<'a> {
    fn geo(&mut self, directive: Directive<'a>) {
        let (Some(block), Some(last)) = (directive.block, directive.args.last()) else { return };
        let mut geo = Geo {
            address: None,
            networks: Vec::new(),
            ranges: Vec::new(),
            default: Vec::new(),
            proxies: Vec::new(),
            proxy_recursive: false,
            volatile: false,
        };
        if directive.args.len() == 2 {
            geo.address = self.geo_address(directive.args.first());
        }
        let mut has_ranges = false;
        for line in block.directives {
            self.begin(&line);
            match (line.name.value, line.args.len()) {
                (b"ranges", 0) => {
                    if !geo.networks.is_empty() {
                        let message =
                            "the \"ranges\" directive must be the first directive inside \"geo\" block";
                        self.error(line.name.span, message);
                    }
                    has_ranges = true;
                }
                (b"proxy_recursive", 0) => geo.proxy_recursive = true,
                (b"volatile", 0) => geo.volatile = true,
                (b"proxy", 1) => {
                    if let Some(network) = line.args.first().and_then(|w| self.network(w)) {
                        geo.proxies.push(network);
                    }
                }
                (b"default", 1) => {
                    geo.default = line.args.first().map(|w| w.value.to_vec()).unwrap_or_default();
                }
                (b"delete", 1) => {
                    if let Some(word) = line.args.first() {
                        self.geo_delete(&mut geo, has_ranges, word);
                    }
                }
                (_, 1) => self.geo_line(&mut geo, has_ranges, line),
                _ => {
                    self.error(line.head(), "invalid number of the geo parameters")
                        .help("a line is a network and its value: `10.0.0.0/8 inside;`");
                }
            }
        }
        // The later of two equal ranges counts; they are looked up by their beginning.
        geo.ranges.sort_by_key(|(first, last, _)| (*first, *last));
        self.defines(last, Source::Geo(Box::new(geo)));
    }

    fn geo_address(&mut self, word: Option<Word<'a>>) -> Option<Variable> {
        let word = word?;
        let Some(name) = word.value.strip_prefix(b"$") else {
            let text = word.text().into_owned();
            self.error(word.span, format!("invalid variable name \"{text}\""));
            return None;
        };
        let name = String::from_utf8_lossy(name);
        Some(self.variables.used(&name, word.span))
    }

    fn geo_line(&mut self, geo: &mut Geo, has_ranges: bool, line: Directive<'a>) {
        let value = line.args.first().map(|w| w.value.to_vec()).unwrap_or_default();
        if !has_ranges {
            let Some(network) = self.network(line.name) else { return };
            if let Some(same) = geo.networks.iter_mut().rev().take(64).find(|(n, _)| *n == network) {
                let text = line.name.text().into_owned();
                same.1 = value;
                self.warning(
                    line.name.span,
                    format!("duplicate network \"{text}\", the last value is taken"),
                );
            } else {
                geo.networks.push((network, value));
            }
            return;
        }
        let Some((first, last)) = self.range(line.name) else { return };
        match clash(&geo.ranges, first, last) {
            None => {}
            Some((start, end, Some(old))) => {
                let new = String::from_utf8_lossy(&value).into_owned();
                let message =
                    format!("duplicate range \"{start}-{end}\", value: \"{new}\", old value: \"{old}\"");
                self.warning(line.name.span, message);
            }
            Some((start, end, None)) => {
                let text = line.name.text().into_owned();
                self.error(line.name.span, format!("range \"{text}\" overlaps \"{start}-{end}\""))
                    .help("a range may lie within one that stands before it, but not go beyond it");
                return;
            }
        }
        cut_out(&mut geo.ranges, first, last);
        geo.ranges.push((IpAddr::V4(first), IpAddr::V4(last), value));
    }

    fn geo_delete(&mut self, geo: &mut Geo, has_ranges: bool, word: Word<'a>) {
        let is_there = if has_ranges {
            let Some((first, last)) = self.range(word) else { return };
            let before = geo.ranges.len();
            geo.ranges.retain(|(f, l, _)| (*f, *l) != (IpAddr::V4(first), IpAddr::V4(last)));
            before != geo.ranges.len()
        } else {
            let Some(network) = self.network(word) else { return };
            let before = geo.networks.len();
            geo.networks.retain(|(n, _)| *n != network);
            before != geo.networks.len()
        };
        if !is_there {
            let what = if has_ranges { "address range" } else { "network" };
            let text = word.text().into_owned();
            self.warning(word.span, format!("no {what} \"{text}\" to delete"));
        }
    }

    fn range(&mut self, word: Word<'a>) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let text = word.text().into_owned();
        let found = text.split_once('-').and_then(|(first, last)| {
            let (first, last): (Ipv4Addr, Ipv4Addr) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some((first, last))
        });
        if found.is_none() {
            self.error(word.span, format!("invalid range \"{text}\""))
                .help("write it as `10.0.0.0-10.0.0.255`");
        }
        found
    }

    /// A network. Bits behind its prefix are cut off with a warning, as nginx does.
    pub(super) fn network(&mut self, word: Word<'a>) -> Option<IpNetwork> {
        let text = word.text().into_owned();
        match text.parse() {
            Ok(network) => Some(network),
            Err(InvalidNetwork::HostBits(network)) => {
                self.warning(word.span, format!("low address bits of {text} are meaningless"))
                    .help(format!("write `{network}`"));
                Some(network)
            }
            Err(_) => {
                self.error(word.span, format!("invalid network \"{text}\""))
                    .help("write an address or network, as `10.0.0.0/8`, `127.0.0.1` or `2001:db8::/32`");
                None
            }
        }
    }
}

/// The range that another would go beyond, as nginx has it: it keeps pieces of 65536 addresses, and those that are taken
/// as a whole may be taken anew. Or the same range, with its value.
fn clash(
    ranges: &[(IpAddr, IpAddr, Vec<u8>)],
    first: Ipv4Addr,
    last: Ipv4Addr,
) -> Option<(Ipv4Addr, Ipv4Addr, Option<String>)> {
    if ranges.last().is_none_or(|(_, end, _)| *end < IpAddr::V4(first)) {
        return None;
    }
    ranges.iter().find_map(|(start, end, value)| {
        let (IpAddr::V4(start), IpAddr::V4(end)) = (*start, *end) else { return None };
        if (start, end) == (first, last) {
            return Some((start, end, Some(String::from_utf8_lossy(value).into_owned())));
        }
        let is_apart = end < first || start > last;
        let goes_beyond = (first < start && start.to_bits() & 0xffff != 0)
            || (last > end && end.to_bits() & 0xffff != 0xffff);
        (!is_apart && goes_beyond).then_some((start, end, None))
    })
}

/// Makes room for a range that counts from now on.
fn cut_out(ranges: &mut Vec<(IpAddr, IpAddr, Vec<u8>)>, first: Ipv4Addr, last: Ipv4Addr) {
    let (from, to) = (IpAddr::V4(first), IpAddr::V4(last));
    // Nearly all files are in order: nothing overlaps.
    if ranges.last().is_none_or(|(_, end, _)| *end < from) {
        return;
    }
    let mut rests = Vec::new();
    ranges.retain_mut(|(start, end, value)| {
        if *end < from || *start > to {
            return true;
        }
        if let (IpAddr::V4(e), true) = (*end, *end > to) {
            rests.push((IpAddr::V4(Ipv4Addr::from_bits(last.to_bits() + 1)), IpAddr::V4(e), value.clone()));
        }
        if *start < from {
            *end = IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() - 1));
            return true;
        }
        false
    });
    ranges.extend(rests);
}
