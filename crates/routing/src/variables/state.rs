//! What is remembered about one request.

use config::model::http::DefinedId;

use crate::pattern::{Captures, MatchError, Regex};

/// What is remembered about one request: stored variables, what maps gave, the groups of the last pattern that
/// matched. Used again for the next request (see [`State::clear`]); then nothing is allocated any more.
#[derive(Clone, Debug, Default)]
pub struct State {
    captures: Captures,
    /// By [`DefinedId`]; those past the end are unset.
    slots: Vec<Slot>,
    /// The texts of all slots. What is stored anew is appended, which the number of rewrites bounds.
    block: Vec<u8>,
    /// Buffers for texts on the way to another.
    scratch: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Slot {
    #[default]
    Unset,
    /// It is being found out: whoever asks meanwhile is part of a cycle.
    Evaluating,
    Text {
        start: u32,
        len: u32,
    },
}

impl State {
    /// Nothing remembered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.captures.clear();
        self.slots.clear();
        self.block.clear();
    }

    /// Stores a variable's value, as `set` and `auth_request_set` do.
    pub fn store(&mut self, variable: DefinedId, value: &[u8]) {
        store(&mut self.slots, &mut self.block, variable, value);
    }

    /// What `$1` to `$9` stand for.
    pub fn captures(&self) -> &Captures {
        &self.captures
    }

    /// Matches, and if it does, remembers what the groups matched; otherwise all stays as it is.
    pub fn execute(&mut self, regex: &Regex, subject: &[u8]) -> Result<bool, MatchError> {
        let Self { captures, slots, block, .. } = self;
        regex.execute(subject, captures, |variable, text| store(slots, block, variable, text))
    }

    /// For a request within this one, which has captures of its own; what is put back are those of before.
    pub fn swap_captures(&mut self, captures: Captures) -> Captures {
        std::mem::replace(&mut self.captures, captures)
    }

    pub(crate) fn forget_captures(&mut self) {
        self.captures.clear();
    }

    pub(super) fn slot(&self, variable: DefinedId) -> Slot {
        self.slots.get(variable as usize).copied().unwrap_or_default()
    }

    /// What is stored in a variable; empty if nothing is.
    pub fn stored(&self, variable: DefinedId) -> &[u8] {
        match self.slot(variable) {
            Slot::Text { start, len } => &self.block[start as usize..(start + len) as usize],
            Slot::Unset | Slot::Evaluating => b"",
        }
    }

    pub(super) fn begin(&mut self, variable: DefinedId) {
        set(&mut self.slots, variable, Slot::Evaluating);
    }

    pub(super) fn forget(&mut self, variable: DefinedId) {
        set(&mut self.slots, variable, Slot::Unset);
    }

    /// An empty buffer; whoever takes it gives it back.
    pub(crate) fn scratch(&mut self) -> Vec<u8> {
        self.scratch.pop().unwrap_or_default()
    }

    pub(crate) fn give_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.scratch.push(buffer);
    }
}

fn store(slots: &mut Vec<Slot>, block: &mut Vec<u8>, variable: DefinedId, value: &[u8]) {
    let start = block.len() as u32;
    block.extend_from_slice(value);
    set(slots, variable, Slot::Text { start, len: value.len() as u32 });
}

fn set(slots: &mut Vec<Slot>, variable: DefinedId, slot: Slot) {
    let index = variable as usize;
    if index >= slots.len() {
        slots.resize(index + 1, Slot::Unset);
    }
    slots[index] = slot;
}
