//! `map`

use config::model::http::{self as model, Value};

use super::{Scope, State, Variables};
use crate::names::Names;
use crate::pattern::{PatternError, PatternList, Regex};

/// A compiled `map`.
#[derive(Debug)]
pub(super) struct Map {
    input: Value,
    hostnames: bool,
    volatile: bool,
    default: Value,
    names: Names<u32>,
    /// Of names by their number, then of patterns in their order.
    values: Vec<Value>,
    patterns: PatternList,
    pattern_values: Vec<Value>,
}

impl Map {
    pub(super) fn compile(map: &model::Map) -> Result<Self, PatternError> {
        let (mut names, mut values) = (Names::new(), Vec::new());
        let mut number = |value: &Value| {
            values.push(value.clone());
            (values.len() - 1) as u32
        };
        for (name, value) in &map.exact {
            names.add_exact(name, number(value));
        }
        for (name, value) in map.leading.iter().chain(&map.trailing) {
            names.add(name, number(value));
        }
        let regexes = map.regexes.iter().map(|(regex, _)| Regex::compile(regex)).collect::<Result<_, _>>()?;
        Ok(Self {
            input: map.input.clone(),
            hostnames: map.hostnames,
            volatile: map.volatile,
            default: map.default.clone(),
            names,
            values,
            patterns: PatternList::new(regexes),
            pattern_values: map.regexes.iter().map(|(_, value)| value.clone()).collect(),
        })
    }

    pub(super) fn regexes(&self) -> &[Regex] {
        self.patterns.regexes()
    }

    /// Whether it is asked anew each time.
    pub(super) fn is_volatile(&self) -> bool {
        self.volatile
    }

    pub(super) fn evaluate(
        &self,
        variables: &Variables,
        state: &mut State,
        scope: Scope<'_>,
        out: &mut Vec<u8>,
    ) {
        let mut input = state.scratch();
        variables.evaluate(&self.input, state, scope, &mut input);
        if self.hostnames && input.last() == Some(&b'.') {
            input.pop();
        }
        let value = self.find(&input, state, scope);
        state.give_back(input);
        variables.evaluate(value, state, scope, out);
    }

    /// Strings are compared in lower case, patterns see the text as it is. Patterns are not asked about nothing.
    fn find(&self, input: &[u8], state: &mut State, scope: Scope<'_>) -> &Value {
        let named = if input.iter().any(u8::is_ascii_uppercase) {
            let mut lower = state.scratch();
            lower.extend(input.iter().map(u8::to_ascii_lowercase));
            let named = self.names.find(&lower);
            state.give_back(lower);
            named
        } else {
            self.names.find(input)
        };
        if let Some(number) = named {
            return &self.values[number as usize];
        }
        if input.is_empty() {
            return &self.default;
        }
        match self.patterns.first(input, state) {
            Ok(found) => found.map_or(&self.default, |index| &self.pattern_values[index]),
            Err(error) => {
                scope.environment.error(&error.to_string());
                &self.default
            }
        }
    }
}
