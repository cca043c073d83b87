//! The variables of a configuration: those that it defines, wherever that stands, and those that it only uses.

use std::collections::HashMap;

use conf_syntax::Span;

use crate::model::http::{Defined, DefinedId, Source, Variable};

/// Variables of nginx's modules that are empty whatever happens, as in nginx where such a module has nothing to do.
const EMPTY: &[&str] = &["upstream_", "ssl_client_sigalg", "ssl_ech_"];

/// The same, of those that have names of their own.
const EMPTY_NAMES: &[&str] = &["ssl_sigalg", "uid_reset", "http3", "quic"];

/// Variables of nginx that would have a value and are not there yet, and why; those that end in `_` are families.
const LATER: &[(&str, &str)] = &[
    ("geoip_", "GeoIP comes later"),
    ("perl_", "Perl is not run here"),
    ("ancient_browser", "browsers are not told apart"),
    ("modern_browser", "browsers are not told apart"),
    ("msie", "browsers are not told apart"),
    ("memcached_key", "memcached comes later"),
    ("slice_range", "slices come later"),
];

/// Built-in variables that `set` may change.
const SETTABLE: &[&str] = &["args", "limit_rate"];

/// All variables that the configuration names.
#[derive(Debug, Default)]
pub(super) struct Variables {
    pub list: Vec<Defined>,
    states: Vec<State>,
    by_name: HashMap<String, DefinedId>,
}

#[derive(Debug)]
struct State {
    is_defined: bool,
    first_use: Option<Span>,
}

/// A variable that is used and defined nowhere.
pub(super) struct Unknown<'a> {
    pub name: &'a str,
    pub at: Option<Span>,
    /// There is nothing that could fill it, in nginx neither.
    pub is_empty: bool,
    /// It is one of nginx's, and this is why it is not there.
    pub later: Option<&'static str>,
}

impl Variables {
    /// The variable of that name, known yet or not.
    pub(super) fn used(&mut self, name: &str, at: Span) -> Variable {
        let name = name.to_ascii_lowercase();
        // What is defined hides one of a family (`$arg_x`), but not one that is there by itself and can be set.
        match (Variable::built_in(&name), self.by_name.get(&name)) {
            (Some(built_in), _) if is_built_in(&name) => return built_in,
            (_, Some(id)) => {
                self.states[*id as usize].first_use.get_or_insert(at);
                return Variable::Defined(*id);
            }
            (Some(built_in), None) => return built_in,
            (None, None) => {}
        }
        let id = self.id(&name);
        self.states[id as usize].first_use = Some(at);
        Variable::Defined(id)
    }

    /// Defines a variable. What `set` and groups store does not replace a `map`; those replace each other.
    /// An error has nginx's words.
    pub(super) fn define(&mut self, name: &str, source: Source) -> Result<DefinedId, String> {
        let name = name.to_ascii_lowercase();
        if name.is_empty() {
            return Err("invalid variable name \"$\"".to_owned());
        }
        if is_built_in(&name) && !SETTABLE.contains(&name.as_str()) {
            return Err(format!("the duplicate \"{name}\" variable"));
        }
        let id = self.id(&name);
        let state = &mut self.states[id as usize];
        if !(state.is_defined && source == Source::Stored) {
            self.list[id as usize].source = source;
        }
        state.is_defined = true;
        Ok(id)
    }

    /// Notes a name that is defined somewhere and would otherwise be taken for one of a family (`$arg_x`).
    pub(super) fn announce(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        if Variable::built_in(&name).is_some() && !is_built_in(&name) {
            self.id(&name);
        }
    }

    pub(super) fn unknown(&self) -> impl Iterator<Item = Unknown<'_>> {
        let undefined = self.list.iter().zip(&self.states).filter(|(_, state)| !state.is_defined);
        undefined.map(|(variable, state)| {
            let name = variable.name.as_str();
            // `$arg_` alone is one of its family to nginx, and never has a value.
            let is_family = Variable::ALL.iter().any(|(family, _)| family.strip_suffix('…') == Some(name));
            let is_of = |known: &str| name == known || (known.ends_with('_') && name.starts_with(known));
            Unknown {
                name,
                at: state.first_use,
                is_empty: is_family || EMPTY_NAMES.contains(&name) || EMPTY.iter().any(|known| is_of(known)),
                later: LATER.iter().find(|(known, _)| is_of(known)).map(|(_, why)| *why),
            }
        })
    }

    /// Names that could have been meant.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let own = self.list.iter().zip(&self.states).filter(|(_, s)| s.is_defined);
        let built_in = Variable::ALL.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('…'));
        own.map(|(d, _)| d.name.as_str()).chain(built_in)
    }

    fn id(&mut self, name: &str) -> DefinedId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = self.list.len() as DefinedId;
        self.list.push(Defined { name: name.to_owned(), source: Source::Stored });
        self.states.push(State { is_defined: false, first_use: None });
        self.by_name.insert(name.to_owned(), id);
        id
    }
}

/// Whether a variable of that very name is there by itself.
fn is_built_in(name: &str) -> bool {
    Variable::ALL.iter().any(|(n, _)| *n == name)
}
