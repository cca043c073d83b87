//! What variables are worth in a request, and the texts made of them.

mod geo;
mod map;
mod request;
mod split;
mod state;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::net::IpAddr;

use config::model::http::{self as model, DefinedId, FileTest, Part, Root, Value, Variable};
use exchange::Request;

use crate::pattern::PatternError;
use geo::Geo;
use map::Map;
use split::SplitClients;

pub use geo::forwarded_address;
pub use request::{cookie, request_variable};
use state::Slot;
pub use state::State;

/// What only the edge knows.
pub trait Environment {
    /// Where files of the request lie: `root` or `alias`, and how many bytes of the path an `alias` replaces.
    fn root(&self) -> Option<(&Root, usize)>;

    /// Where they lie when a variable makes that a relative path.
    fn prefix(&self) -> &[u8];

    /// Appends the value of a variable that [`request_variable`] does not know. `false`, and nothing appended, if the
    /// request has no such thing; that is not the same as an empty value.
    fn variable(&self, variable: &Variable, request: &Request, out: &mut Vec<u8>) -> bool;

    /// The same for variables that are made of values of the place: `$secure_link`, `$realpath_root`. `text` says what
    /// such a value is worth.
    fn made(
        &self,
        variable: &Variable,
        request: &Request,
        text: &mut dyn FnMut(&Value) -> Vec<u8>,
        out: &mut Vec<u8>,
    ) -> bool;

    /// `set` of a variable that is there by itself and can be set, other than `$args`: `$limit_rate`.
    fn set(&self, variable: &Variable, value: &[u8]);

    /// The status that a `return` answers with, before the values are asked for that its text is made of.
    fn answers_with(&self, _status: u16) {}

    /// Whether what is at a path is of this kind, links followed. Executable is what its owner may execute, a directory
    /// too. `text` says what a value of the place is worth.
    fn file(&self, path: &[u8], test: FileTest, text: &mut dyn FnMut(&Value) -> Vec<u8>) -> bool;

    /// A line for the error log.
    fn error(&self, message: &str);
}

/// A request, and whom to ask about it.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The request.
    pub request: &'a Request,
    /// Whom to ask.
    pub environment: &'a dyn Environment,
}

/// The variables that the configuration defines.
#[derive(Debug, Default)]
pub struct Variables(Vec<Defined>);

#[derive(Debug)]
struct Defined {
    name: String,
    source: Source,
    /// It is made of the request's body, which is not there yet when the first phases ask.
    is_of_body: bool,
}

#[derive(Debug)]
enum Source {
    /// What was stored last.
    Stored {
        /// Before, it is empty: there is a `set` for it, and no pattern sets it. Otherwise there is no such thing.
        empty: bool,
    },
    Map(Box<Map>),
    Geo(Box<Geo>),
    SplitClients(SplitClients),
}

impl Variables {
    /// Compiles the model's definitions.
    pub fn compile(defined: &[model::Defined]) -> Result<Self, PatternError> {
        let compiled = defined.iter().map(|defined| {
            let source = match &defined.source {
                model::Source::Stored => Source::Stored { empty: false },
                model::Source::Map(map) => Source::Map(Box::new(Map::compile(map)?)),
                model::Source::Geo(geo) => Source::Geo(Box::new(Geo::compile(geo))),
                model::Source::SplitClients(split) => Source::SplitClients(SplitClients::compile(split)),
            };
            Ok(Defined { name: defined.name.clone(), source, is_of_body: false })
        });
        let mut compiled = Self(compiled.collect::<Result<_, _>>()?);
        compiled.note_body(defined);
        Ok(compiled)
    }

    /// Finds the variables that are made of the body, also by way of another: until there is no further one.
    fn note_body(&mut self, defined: &[model::Defined]) {
        let mut found = true;
        while std::mem::take(&mut found) {
            for (id, model) in defined.iter().enumerate() {
                let is_of_body = match &model.source {
                    model::Source::Stored | model::Source::Geo(_) => false,
                    model::Source::Map(map) => map.texts().any(|text| self.is_of_body(text)),
                    model::Source::SplitClients(split) => {
                        let parts = split.parts.iter().map(|(_, text)| text);
                        parts.chain([&split.input]).any(|text| self.is_of_body(text))
                    }
                };
                if is_of_body && !self.0[id].is_of_body {
                    self.0[id].is_of_body = true;
                    found = true;
                }
            }
        }
    }

    /// Whether a text is made of the request's body, be it by way of a `map`.
    pub fn is_of_body(&self, text: &Value) -> bool {
        text.variables().any(|variable| match variable {
            Variable::RequestBody => true,
            Variable::Defined(id) => self.0.get(*id as usize).is_some_and(|defined| defined.is_of_body),
            _ => false,
        })
    }

    /// Nothing that was stored is an empty text for these, which `set` sets.
    pub(crate) fn assume_empty(&mut self, variables: impl Iterator<Item = DefinedId>) {
        for id in variables {
            if let Some(Defined { source: Source::Stored { empty }, .. }) = self.0.get_mut(id as usize) {
                *empty = true;
            }
        }
    }

    /// For these, which patterns set, it is nothing.
    pub(crate) fn assume_absent(&mut self, variables: impl Iterator<Item = DefinedId>) {
        for id in variables {
            if let Some(Defined { source: Source::Stored { empty }, .. }) = self.0.get_mut(id as usize) {
                *empty = false;
            }
        }
    }

    /// Variables that the patterns of maps set.
    pub(crate) fn captured(&self) -> Vec<DefinedId> {
        let maps = self.0.iter().filter_map(|defined| match &defined.source {
            Source::Map(map) => Some(map.as_ref()),
            _ => None,
        });
        maps.flat_map(Map::regexes).flat_map(crate::Regex::variables).collect()
    }

    /// Appends what a text is worth. A variable without a value adds nothing.
    pub fn evaluate(&self, value: &Value, state: &mut State, scope: Scope<'_>, out: &mut Vec<u8>) {
        for part in &value.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Variable(variable) => {
                    self.variable(variable, state, scope, out);
                }
            }
        }
    }

    /// What a text is worth; a text without variables is not copied.
    pub fn text<'v>(&self, value: &'v Value, state: &mut State, scope: Scope<'_>) -> Cow<'v, [u8]> {
        if let Some(text) = value.as_text() {
            return Cow::Borrowed(text);
        }
        let mut out = Vec::new();
        self.evaluate(value, state, scope, &mut out);
        Cow::Owned(out)
    }

    /// Appends what a variable is worth. `false`, and nothing appended, if there is no such thing in this request: a
    /// log shows `-` then, where an empty value leaves nothing.
    pub fn variable(
        &self,
        variable: &Variable,
        state: &mut State,
        scope: Scope<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        match variable {
            Variable::Capture(number) => {
                out.extend_from_slice(state.captures().group(*number));
                true
            }
            Variable::Defined(id) => self.defined(*id, state, scope, out),
            Variable::DocumentRoot => self.file(&[], state, scope, out),
            Variable::RequestFilename => self.file(&scope.request.path, state, scope, out),
            Variable::SecureLink | Variable::RealpathRoot | Variable::UidSet => {
                let mut text = |value: &Value| self.text(value, state, scope).into_owned();
                scope.environment.made(variable, scope.request, &mut text, out)
            }
            other => request_variable(other, scope.request, out)
                .unwrap_or_else(|| scope.environment.variable(other, scope.request, out)),
        }
    }

    /// Where a path leads in the file system, by `root` or `alias`; `false` if there are no files here.
    ///
    /// `location /static { alias /srv/files/; }` makes `/srv/files/../key` of `/static../key` in nginx, out of what
    /// was meant to be shown. Here nothing is there.
    pub fn file(&self, path: &[u8], state: &mut State, scope: Scope<'_>, out: &mut Vec<u8>) -> bool {
        let Some((root, replaced)) = scope.environment.root() else { return false };
        match root {
            Root::Root(value) => {
                self.directory(value, state, scope, out);
                out.extend_from_slice(path);
            }
            Root::Alias(value) => {
                let rest = path.get(replaced..).unwrap_or_default();
                if rest == b".." || rest.starts_with(b"../") {
                    return false;
                }
                self.directory(value, state, scope, out);
                out.extend_from_slice(rest);
            }
        }
        true
    }

    /// The value of `root` or `alias`. What the configuration itself wrote is absolute already.
    fn directory(&self, value: &Value, state: &mut State, scope: Scope<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        self.evaluate(value, state, scope, out);
        if matches!(value.0.first(), Some(Part::Variable(_))) && out.get(start) != Some(&b'/') {
            let prefix = scope.environment.prefix();
            let slash: &[u8] = if prefix.ends_with(b"/") { b"" } else { b"/" };
            out.splice(start..start, prefix.iter().chain(slash).copied());
        }
    }

    fn defined(&self, id: DefinedId, state: &mut State, scope: Scope<'_>, out: &mut Vec<u8>) -> bool {
        let Some(defined) = self.0.get(id as usize) else { return false };
        match state.slot(id) {
            Slot::Unset => {}
            Slot::Text { .. } => {
                out.extend_from_slice(state.stored(id));
                return true;
            }
            Slot::Evaluating => {
                scope.environment.error(&format!("cycle while evaluating variable \"{}\"", defined.name));
                return false;
            }
        }
        if let Source::Stored { empty } = defined.source {
            return empty;
        }
        state.begin(id);
        let start = out.len();
        let is_volatile = match &defined.source {
            Source::Stored { .. } => true,
            Source::Map(map) => {
                map.evaluate(self, state, scope, out);
                map.is_volatile()
            }
            Source::Geo(geo) => {
                let value = geo.find(self, state, scope);
                out.extend_from_slice(value);
                geo.is_volatile()
            }
            Source::SplitClients(split) => {
                split.evaluate(self, state, scope, out);
                false
            }
        };
        // What was asked for before the body was there would stay, and be one cache key for all bodies.
        if is_volatile || defined.is_of_body {
            state.forget(id);
        } else {
            state.store(id, &out[start..]);
        }
        true
    }

    /// The client's address, or that which a variable says.
    fn address(&self, variable: Option<&Variable>, state: &mut State, scope: Scope<'_>) -> Option<IpAddr> {
        let Some(variable) = variable else { return scope.request.peer.remote.map(|remote| remote.ip()) };
        let mut text = state.scratch();
        let is_found = self.variable(variable, state, scope, &mut text);
        let address = str::from_utf8(&text).ok().filter(|_| is_found).and_then(|text| text.parse().ok());
        state.give_back(text);
        address
    }
}
