//! The form of the table of directives: a row says all about one, and everything else is driven by it.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use conf_syntax::Directive;

use super::level::Level;
use super::reader::Reader;
use crate::model::http::Value;

/// Where a directive may stand: a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Context(u16);

impl Context {
    pub(super) const MAIN: Self = Self(1);
    pub(super) const EVENTS: Self = Self(1 << 1);
    pub(super) const HTTP: Self = Self(1 << 2);
    pub(super) const SERVER: Self = Self(1 << 3);
    pub(super) const LOCATION: Self = Self(1 << 4);
    pub(super) const SERVER_IF: Self = Self(1 << 5);
    pub(super) const LOCATION_IF: Self = Self(1 << 6);
    pub(super) const LIMIT_EXCEPT: Self = Self(1 << 7);
    /// `acme_issuer`
    pub(super) const ISSUER: Self = Self(1 << 10);
    /// Inside blocks that are not read, because what they are about is not there yet.
    pub(super) const LATER: Self = Self(1 << 8);
    pub(super) const UPSTREAM: Self = Self(1 << 9);

    /// `http`, `server`, `location`: what most directives allow.
    pub(super) const ALL: Self = Self::HTTP.or(Self::SERVER).or(Self::LOCATION);

    pub(super) const ANY: Self = Self(u16::MAX);

    const NAMES: [(Self, &'static str); 11] = [
        (Self::MAIN, "main"),
        (Self::EVENTS, "events"),
        (Self::HTTP, "http"),
        (Self::SERVER, "server"),
        (Self::LOCATION, "location"),
        (Self::SERVER_IF, "if in server"),
        (Self::LOCATION_IF, "if in location"),
        (Self::LIMIT_EXCEPT, "limit_except"),
        (Self::ISSUER, "acme_issuer"),
        (Self::LATER, "blocks that are not there yet"),
        (Self::UPSTREAM, "upstream"),
    ];

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn contains(self, one: Self) -> bool {
        self.0 & one.0 != 0
    }

    pub(super) fn names(self) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(c, _)| self.contains(*c)).map(|(_, n)| *n).collect()
    }
}

/// How many words follow the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub least: usize,
    /// `None` is any number.
    pub most: Option<usize>,
}

impl Count {
    pub(super) const fn exactly(n: usize) -> Self {
        Self { least: n, most: Some(n) }
    }

    pub(super) const fn between(least: usize, most: usize) -> Self {
        Self { least, most: Some(most) }
    }

    pub(super) const fn at_least(least: usize) -> Self {
        Self { least, most: None }
    }

    pub(super) fn allows(self, n: usize) -> bool {
        n >= self.least && self.most.is_none_or(|most| n <= most)
    }
}

/// Where a value goes.
pub(super) type Slot<T> = fn(&mut Level) -> &mut Option<T>;

/// A directive with a meaning of its own.
pub(super) type Custom = for<'a> fn(&mut Reader<'a>, &mut Level, Directive<'a>);

/// What a directive does.
#[derive(Clone, Copy)]
pub(super) enum Apply {
    /// `on` or `off`.
    Flag(Slot<bool>),
    /// Bytes.
    Size(Slot<u64>),
    /// Bytes, also with `g`.
    Offset(Slot<u64>),
    /// A time in whole seconds.
    Seconds(Slot<Duration>),
    /// A time in milliseconds.
    Millis(Slot<Duration>),
    /// A number.
    Number(Slot<u64>),
    /// A text without variables.
    Text(Slot<Vec<u8>>),
    /// A text with variables.
    Value(Slot<Value>),
    /// Something else.
    Custom(Custom),
    /// A block, or a step of the rewrite phase: read in order, once what stands beside it is merged.
    Later,
    /// Its arguments are checked and change nothing; the text says why.
    Quiet(Argument, &'static str),
    /// The same where the arguments need a look of their own, which says so too.
    Checked(for<'a> fn(&mut Reader<'a>, Directive<'a>), &'static str),
    /// An error, because it would change something: the text is what comes later.
    NotYet(&'static str),
    /// The same, unless it says `off`.
    OnlyOff(&'static str),
}

/// What the argument of a directive that changes nothing must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    Flag,
    Size,
    /// Of a pool of memory, of which nginx has a least.
    Pool,
    /// A power of two between these, both included.
    Power(u64, u64),
    /// A whole number, perhaps with a minus.
    Signed,
    Offset,
    Millis,
    Number,
    /// How many, and bytes of each.
    Buffers,
    OneOf(&'static [&'static str]),
    Any,
}

/// A directive.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub name: &'static str,
    /// The reference's heading.
    pub feature: &'static str,
    pub contexts: Context,
    pub count: Count,
    /// A block must follow, or must not.
    pub block: bool,
    /// May stand more than once in a block.
    pub repeats: bool,
    pub default: &'static str,
    /// What it does, in one line.
    pub doc: &'static str,
    /// How that differs from nginx; empty when it does not.
    pub differs: &'static str,
    /// Not one of nginx's.
    pub ours: bool,
    pub apply: Apply,
}

impl Row {
    pub(super) const fn new(
        name: &'static str,
        contexts: Context,
        count: Count,
        apply: Apply,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            feature: "",
            contexts,
            count,
            block: false,
            repeats: false,
            default,
            doc,
            differs: "",
            ours: false,
            apply,
        }
    }

    pub(super) const fn flag(
        name: &'static str,
        c: Context,
        slot: Slot<bool>,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self::new(name, c, Count::exactly(1), Apply::Flag(slot), default, doc)
    }

    pub(super) const fn one(
        name: &'static str,
        c: Context,
        apply: Apply,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self::new(name, c, Count::exactly(1), apply, default, doc)
    }

    /// The form of a block: `name words { … }`.
    pub(super) const fn block(mut self) -> Self {
        self.block = true;
        self
    }

    pub(super) const fn repeats(mut self) -> Self {
        self.repeats = true;
        self
    }

    pub(super) const fn differs(mut self, text: &'static str) -> Self {
        self.differs = text;
        self
    }

    pub(super) const fn ours(mut self) -> Self {
        self.ours = true;
        self
    }
}

/// The heading of what is not there yet.
pub(super) const LATER: &str = "Not there yet";

/// The rows of one feature under its heading.
pub(super) type Feature = (&'static str, &'static [Row]);

/// All rows, and by each name those that have it.
pub(super) struct Table {
    pub rows: Vec<Row>,
    by_name: HashMap<&'static [u8], Vec<usize>>,
}

pub(super) static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut rows = Vec::new();
    for (feature, part) in super::FEATURES {
        rows.extend(part.iter().map(|row| Row { feature, ..*row }));
    }
    rows.extend(super::later::rows().into_iter().map(|row| Row { feature: LATER, ..row }));
    let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        by_name.entry(row.name.as_bytes()).or_default().push(index);
    }
    Table { rows, by_name }
});

impl Table {
    /// The rows of that name; nginx has some names twice, with different places.
    pub(super) fn find(&self, name: &[u8]) -> &[usize] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }
}
