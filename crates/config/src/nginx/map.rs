//! `map`, `split_clients`: variables that depend on others.

use std::collections::HashSet;

use conf_syntax::{Directive, Word};

use super::reader::Reader;
use super::server_name::plain_name;
use super::table::{Apply, Argument, Context, Count, Row};
use super::units;
use crate::model::http::{Map, ServerName, Source, SplitClients, Value};

const HASH: &str = "tables grow as they must";

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "map",
        Context::HTTP,
        Count::exactly(2),
        Apply::Custom(|r, _, d| r.map(d)),
        "",
        "A variable by the value of another: `default`, `hostnames`, `volatile`, texts and `~regex`es.",
    )
    .block()
    .repeats(),
    Row::one(
        "map_hash_max_size",
        Context::HTTP,
        Apply::Quiet(Argument::Number, HASH),
        "2048",
        "Size of a table.",
    ),
    Row::one(
        "map_hash_bucket_size",
        Context::HTTP,
        Apply::Quiet(Argument::Number, HASH),
        "64",
        "Size of a bucket.",
    ),
    Row::new(
        "split_clients",
        Context::HTTP,
        Count::exactly(2),
        Apply::Custom(|r, _, d| r.split_clients(d)),
        "",
        "A variable that parts clients by the hash of a value: `10% a; * b;`.",
    )
    .block()
    .repeats(),
];

impl<'a> Reader<'a> {
    fn map(&mut self, directive: Directive<'a>) {
        let (Some([input, name]), Some(block)) = (directive.args.array(), directive.block) else { return };
        let mut map = Map {
            input: self.value(input),
            hostnames: false,
            volatile: false,
            default: Value::default(),
            exact: Vec::new(),
            leading: Vec::new(),
            trailing: Vec::new(),
            regexes: Vec::new(),
        };
        let (mut has_default, mut seen) = (false, HashSet::new());
        for line in block.directives {
            self.begin(&line);
            let key = line.name;
            let value = match line.args.array::<1>() {
                Some([value]) if line.block.is_none() => value,
                None if line.args.is_empty() && line.block.is_none() && key.value == b"hostnames" => {
                    map.hostnames = true;
                    continue;
                }
                None if line.args.is_empty() && line.block.is_none() && key.value == b"volatile" => {
                    map.volatile = true;
                    continue;
                }
                _ => {
                    self.error(line.head(), "invalid number of the map parameters")
                        .help("a line is a text and its value: `text value;`; quote what has spaces");
                    continue;
                }
            };
            let value = self.value(value);
            if key.value == b"default" {
                if std::mem::replace(&mut has_default, true) {
                    self.error(key.span, "duplicate default map parameter");
                }
                map.default = value;
            } else if let Some(pattern) = key.value.strip_prefix(b"~") {
                let caseless = pattern.starts_with(b"*");
                let pattern = &pattern[usize::from(caseless)..];
                let offset = key.value.len() - pattern.len();
                map.regexes.push((self.regex(pattern, caseless, key, offset), value));
            } else {
                self.map_key(&mut map, key, value, &mut seen);
            }
        }
        self.defines(name, Source::Map(Box::new(map)));
    }

    fn map_key(&mut self, map: &mut Map, key: Word<'a>, value: Value, seen: &mut HashSet<(u8, Vec<u8>)>) {
        let text = key.value.strip_prefix(b"\\").unwrap_or(key.value).to_ascii_lowercase();
        let name = if map.hostnames { plain_name(&text) } else { Some(ServerName::Exact(text)) };
        let Some(name) = name else {
            let text = key.text().into_owned();
            self.error(key.span, format!("invalid hostname or wildcard \"{text}\""));
            return;
        };
        let is_new = match &name {
            ServerName::Exact(name) => seen.insert((0, name.clone())),
            ServerName::Leading(name) => seen.insert((1, name.clone())),
            ServerName::Trailing(name) => seen.insert((2, name.clone())),
            ServerName::Dotted(name) => seen.insert((0, name.clone())) && seen.insert((1, name.clone())),
            ServerName::Regex(_) => true,
        };
        if !is_new {
            let text = key.text().to_lowercase();
            self.error(key.span, format!("conflicting parameter \"{text}\""))
                .help("letters of either case are the same here");
            return;
        }
        match name {
            ServerName::Exact(name) => map.exact.push((name, value)),
            ServerName::Trailing(_) => map.trailing.push((name, value)),
            _ => map.leading.push((name, value)),
        }
    }

    fn split_clients(&mut self, directive: Directive<'a>) {
        let (Some([input, name]), Some(block)) = (directive.args.array(), directive.block) else { return };
        let mut split = SplitClients { input: self.value(input), parts: Vec::new() };
        let mut sum = 0;
        for line in block.directives {
            self.begin(&line);
            let Some([value]) = line.args.array() else {
                self.error(line.head(), "invalid number of the split_clients parameters")
                    .help("a line is a share and its value: `10% one;` or `* rest;`");
                continue;
            };
            let part = match line.name.value {
                b"*" => None,
                text => {
                    let Some(part) = text.strip_suffix(b"%").and_then(hundredths) else {
                        let text = line.name.text().into_owned();
                        self.error(line.name.span, format!("invalid percent value \"{text}\""))
                            .help("write a share as `10%` or `0.5%`, the rest as `*`");
                        continue;
                    };
                    Some(part)
                }
            };
            sum = part.map_or(10_000, |part| sum + part);
            if sum > 10_000 {
                self.error(line.name.span, "percent total is greater than 100%");
                return;
            }
            split.parts.push((part, Value::text(value.value)));
        }
        self.defines(name, Source::SplitClients(Box::new(split)));
    }
}

/// `12.34` as 1234; not zero.
fn hundredths(text: &[u8]) -> Option<u32> {
    let (whole, part) = match text.iter().position(|b| *b == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b""[..]),
    };
    let part = match part.len() {
        0 => 0,
        1 => units::number(part)? * 10,
        2 => units::number(part)?,
        _ => return None,
    };
    let total = units::number(whole)?.checked_mul(100)? + part;
    (1..=1_000_000).contains(&total).then_some(total as u32)
}
