//! Regular expressions in PCRE's language.
//!
//! A pattern whose meaning the linear engine of the `regex` crate shares runs there, in time linear in the subject.
//! All others run in PCRE2 itself.

mod captures;
mod list;
#[cfg(test)]
mod tests;
mod translate;

use std::cell::{OnceCell, RefCell};
use std::fmt::Write;

use config::model::http as model;
use regex::bytes::{CaptureLocations, RegexBuilder};

pub use captures::Captures;
pub(crate) use list::PatternList;
use model::DefinedId;
use translate::translate;

/// How often PCRE2 may try for one match; what a sensible pattern needs for a long path stays far below. It bounds
/// the time of a match, by the count of PCRE2's own steps: the work of one step still grows with the subject.
const MATCH_LIMIT: &str = "(*LIMIT_MATCH=1000000)";

/// Bytes that compiled PCRE2 code may use for backtracking.
const JIT_STACK: usize = 1 << 20;

/// A pattern that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{pattern}\" is no regular expression: {reason}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What PCRE2 says.
    pub reason: String,
}

/// A match that PCRE2 gave up: it took too many steps or too much memory. The pattern is to blame, or the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("matching \"{pattern}\" was given up: {reason}")]
pub struct MatchError {
    /// The pattern.
    pub pattern: String,
    /// What PCRE2 says.
    pub reason: String,
}

impl From<PatternError> for MatchError {
    fn from(PatternError { pattern, reason }: PatternError) -> Self {
        Self { pattern, reason }
    }
}

/// A compiled regular expression.
#[derive(Debug)]
pub struct Regex {
    pattern: Box<[u8]>,
    caseless: bool,
    engine: Engine,
    /// Groups without that of the whole match.
    groups: usize,
    /// Which variable a named group sets.
    names: Vec<(usize, DefinedId)>,
}

#[derive(Debug)]
enum Engine {
    Linear(Box<Linear>),
    Backtracking(Backtracking),
}

#[derive(Debug)]
struct Linear {
    regex: regex::bytes::Regex,
    /// The same with its flags, as a part of a set.
    source: String,
    locations: RefCell<CaptureLocations>,
    /// There is a `$` or `\Z`, which stands for the very end here. Subjects that end in a newline, before which it
    /// matches too, go to PCRE2 (compiled when the first of them comes).
    ends: bool,
    exact: OnceCell<Result<Backtracking, PatternError>>,
}

#[derive(Debug)]
struct Backtracking {
    regex: pcre2::bytes::Regex,
    locations: RefCell<pcre2::bytes::CaptureLocations>,
}

impl Regex {
    /// Compiles a pattern of the model.
    pub fn compile(regex: &model::Regex) -> Result<Self, PatternError> {
        let (pattern, caseless) = (regex.pattern.as_slice(), regex.caseless);
        let engine = match Linear::compile(pattern, caseless) {
            Some(linear) => Engine::Linear(Box::new(linear)),
            None => Engine::Backtracking(Backtracking::compile(pattern, caseless)?),
        };
        let (groups, names) = match &engine {
            Engine::Linear(linear) => {
                let named = linear.regex.capture_names().enumerate();
                let found =
                    named.filter_map(|(group, name)| variable(&regex.names, name?).map(|id| (group, id)));
                (linear.regex.captures_len() - 1, found.collect())
            }
            Engine::Backtracking(exact) => {
                let named = exact.regex.capture_names().iter().enumerate();
                let found = named
                    .filter_map(|(group, name)| variable(&regex.names, name.as_ref()?).map(|id| (group, id)));
                (exact.regex.captures_len() - 1, found.collect())
            }
        };
        Ok(Self { pattern: pattern.into(), caseless, engine, groups, names })
    }

    /// Whether it matches somewhere in `subject`. Does not allocate in the linear engine.
    pub fn is_match(&self, subject: &[u8]) -> Result<bool, MatchError> {
        match &self.engine {
            Engine::Linear(linear) if !linear.is_inexact_for(subject) => Ok(linear.regex.is_match(subject)),
            _ => self.exact()?.regex.is_match(subject).map_err(|e| self.gave_up(&e)),
        }
    }

    /// Matches, and if it does, replaces what is in `captures`; otherwise leaves it as it is.
    pub fn captures(&self, subject: &[u8], captures: &mut Captures) -> Result<bool, MatchError> {
        self.execute(subject, captures, |_, _| {})
    }

    /// The same, and hands on what each named group matched: empty if it took no part.
    pub(crate) fn execute(
        &self,
        subject: &[u8],
        captures: &mut Captures,
        mut named: impl FnMut(DefinedId, &[u8]),
    ) -> Result<bool, MatchError> {
        if self.groups == 0 {
            let matched = self.is_match(subject)?;
            if matched {
                captures.clear();
            }
            return Ok(matched);
        }
        let mut found = |span: &dyn Fn(usize) -> Option<(usize, usize)>| {
            captures.fill(subject, self.groups, span);
            for &(group, variable) in &self.names {
                named(variable, span(group).map_or(b"".as_slice(), |(start, end)| &subject[start..end]));
            }
        };
        match &self.engine {
            Engine::Linear(linear) if !linear.is_inexact_for(subject) => {
                let mut locations = linear.locations.borrow_mut();
                if linear.regex.captures_read(&mut locations, subject).is_none() {
                    return Ok(false);
                }
                found(&|group| locations.get(group));
            }
            _ => {
                let exact = self.exact()?;
                let mut locations = exact.locations.borrow_mut();
                let matched =
                    exact.regex.captures_read(&mut locations, subject).map_err(|e| self.gave_up(&e))?;
                if matched.is_none() {
                    return Ok(false);
                }
                found(&|group| locations.get(group));
            }
        }
        Ok(true)
    }

    /// Variables that named groups set.
    pub(crate) fn variables(&self) -> impl Iterator<Item = DefinedId> {
        self.names.iter().map(|&(_, variable)| variable)
    }

    /// The pattern in the language of the linear engine, if it runs there, and whether it holds a `$`.
    fn linear(&self) -> Option<(&str, bool)> {
        match &self.engine {
            Engine::Linear(linear) => Some((&linear.source, linear.ends)),
            Engine::Backtracking(_) => None,
        }
    }

    fn exact(&self) -> Result<&Backtracking, MatchError> {
        match &self.engine {
            Engine::Backtracking(exact) => Ok(exact),
            Engine::Linear(linear) => linear
                .exact
                .get_or_init(|| Backtracking::compile(&self.pattern, self.caseless))
                .as_ref()
                .map_err(|error| error.clone().into()),
        }
    }

    fn gave_up(&self, error: &pcre2::Error) -> MatchError {
        MatchError { pattern: text(&self.pattern), reason: error.to_string() }
    }
}

fn variable(names: &[(String, DefinedId)], name: &str) -> Option<DefinedId> {
    names.iter().find(|(known, _)| known == name).map(|&(_, id)| id)
}

impl Linear {
    fn compile(pattern: &[u8], caseless: bool) -> Option<Self> {
        let translated = translate(pattern, caseless)?;
        // A pattern that becomes too large here is PCRE2's.
        let regex = RegexBuilder::new(&translated.source).unicode(false).build().ok()?;
        Some(Self {
            locations: RefCell::new(regex.capture_locations()),
            regex,
            source: translated.source,
            ends: translated.ends,
            exact: OnceCell::new(),
        })
    }

    fn is_inexact_for(&self, subject: &[u8]) -> bool {
        self.ends && subject.last() == Some(&b'\n')
    }
}

impl Backtracking {
    fn compile(pattern: &[u8], caseless: bool) -> Result<Self, PatternError> {
        let mut builder = pcre2::bytes::RegexBuilder::new();
        builder.caseless(caseless).jit_if_available(true).max_jit_stack_size(Some(JIT_STACK));
        let regex = builder.build(&format!("{MATCH_LIMIT}{}", text(pattern))).map_err(|limited| {
            // Without the limit in front, so that the place that is named is one in the pattern.
            let error = builder.build(&text(pattern)).err().unwrap_or(limited);
            PatternError { pattern: text(pattern), reason: error.to_string() }
        })?;
        Ok(Self { locations: RefCell::new(regex.capture_locations()), regex })
    }
}

/// A pattern as a text: bytes that are no UTF-8 as PCRE's `\xHH`, which means the same.
fn text(pattern: &[u8]) -> String {
    let mut text = String::with_capacity(pattern.len());
    for chunk in pattern.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}
