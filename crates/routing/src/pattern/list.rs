//! Patterns of which the first that matches is wanted.

use regex::bytes::{RegexSet, RegexSetBuilder};

use super::{MatchError, Regex};
use crate::variables::State;

/// From how many patterns on all are tried at once: for fewer, one after the other is faster.
const SET_FROM: usize = 8;

/// Patterns in order.
#[derive(Debug, Default)]
pub(crate) struct PatternList {
    regexes: Vec<Regex>,
    /// All of them in one automaton, if they are many and all linear.
    set: Option<RegexSet>,
    /// One of them holds a `$`.
    ends: bool,
}

impl PatternList {
    pub(crate) fn new(regexes: Vec<Regex>) -> Self {
        let linear: Option<Vec<_>> = regexes.iter().map(Regex::linear).collect();
        let ends = linear.as_ref().is_some_and(|all| all.iter().any(|&(_, ends)| ends));
        let set = linear.filter(|all| all.len() >= SET_FROM).and_then(|all| {
            RegexSetBuilder::new(all.iter().map(|&(source, _)| source)).unicode(false).build().ok()
        });
        Self { regexes, set, ends }
    }

    pub(crate) fn regexes(&self) -> &[Regex] {
        &self.regexes
    }

    /// The first that matches; its groups are then what `state` holds.
    pub(crate) fn first(&self, subject: &[u8], state: &mut State) -> Result<Option<usize>, MatchError> {
        if let Some(set) = self.set.as_ref().filter(|_| !(self.ends && subject.last() == Some(&b'\n'))) {
            let Some(first) = set.matches(subject).iter().next() else { return Ok(None) };
            state.execute(&self.regexes[first], subject)?;
            return Ok(Some(first));
        }
        for (index, regex) in self.regexes.iter().enumerate() {
            if state.execute(regex, subject)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }
}
