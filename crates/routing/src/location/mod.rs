//! Which location a path belongs to.

#[cfg(test)]
mod tests;
mod tree;

use std::collections::HashMap;

use config::model::http::{self as model, Content, Defined, Matcher, SettingsId};

use crate::escape::{Escape, escape};
use crate::pattern::{MatchError, PatternError, PatternList, Regex};
use crate::rewrite::Ops;
use crate::variables::State;
use tree::Tree;

/// A location's number in its server.
pub(crate) type Index = u32;

/// A location.
#[derive(Debug)]
pub struct Location {
    /// How it is found.
    pub kind: Kind,
    /// Its path, pattern, or name with the at sign.
    pub name: Vec<u8>,
    /// Where a request is sent whose path lacks the slash at the end (`name`, escaped).
    pub redirect: Vec<u8>,
    /// What holds in it.
    pub settings: SettingsId,
    /// Its rewrite directives.
    pub ops: Ops,
    /// Who answers.
    pub content: Content,
    /// What holds for other methods.
    pub limit_except: Option<LimitExcept>,
    auto_redirect: bool,
    nested: Locations,
}

/// How a location is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `= uri`
    Exact,
    /// `uri`
    Prefix,
    /// `^~ uri`
    PrefixWithoutRegex,
    /// `~ pattern`
    Regex,
    /// `@name`
    Named,
}

/// `limit_except`: what holds for all methods but those named.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitExcept {
    /// Methods that are not limited.
    pub methods: Vec<String>,
    /// What holds for all others.
    pub settings: SettingsId,
    /// Who answers the others, if the block says so.
    pub content: Option<Content>,
}

impl LimitExcept {
    /// Whether it holds for a method. Where GET is allowed, HEAD is.
    pub fn concerns(&self, method: &[u8]) -> bool {
        let allows = |name: &[u8]| self.methods.iter().any(|allowed| allowed.as_bytes() == name);
        !(allows(method) || method == b"HEAD" && allows(b"GET"))
    }
}

/// Where a path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<Id> {
    /// The location.
    pub location: Id,
    /// The path is the location's without the slash at its end: 301 to [`Location::redirect`], with the request's
    /// arguments.
    pub redirect: bool,
}

/// The locations of a server, or within a location.
#[derive(Debug, Default)]
pub(crate) struct Locations {
    prefixes: Tree,
    patterns: PatternList,
    by_pattern: Vec<Index>,
    named: HashMap<Box<[u8]>, Index>,
}

impl Locations {
    /// Compiles locations and all within them into `all`.
    pub(crate) fn compile(
        locations: &model::Locations,
        defined: &[Defined],
        all: &mut Vec<Location>,
    ) -> Result<Self, PatternError> {
        let mut prefixes = Vec::with_capacity(locations.prefixes.len());
        for location in &locations.prefixes {
            let id = Location::compile(location, defined, all)?;
            prefixes.push((all[id as usize].name.clone(), all[id as usize].kind == Kind::Exact, id));
        }
        let auto_redirect = |id: Index| all[id as usize].auto_redirect;
        let prefixes = Tree::new(prefixes, auto_redirect);
        let (mut regexes, mut by_pattern) = (Vec::new(), Vec::new());
        for location in &locations.regexes {
            if let Matcher::Regex(regex) = &location.matcher {
                regexes.push(Regex::compile(regex)?);
                by_pattern.push(Location::compile(location, defined, all)?);
            }
        }
        let mut named = HashMap::new();
        for location in &locations.named {
            let id = Location::compile(location, defined, all)?;
            named.entry(all[id as usize].name.as_slice().into()).or_insert(id);
        }
        Ok(Self { prefixes, patterns: PatternList::new(regexes), by_pattern, named })
    }

    pub(crate) fn named(&self, name: &[u8]) -> Option<Index> {
        self.named.get(name).copied()
    }

    /// The location of a path, in nginx's order: an exact one; else within the longest prefix that one which the
    /// same search finds there, or the prefix's own patterns; else (unless it is `^~`) the first pattern beside it;
    /// else the prefix.
    pub(crate) fn find(
        &self,
        path: &[u8],
        all: &[Location],
        state: &mut State,
    ) -> Result<Option<Found<Index>>, MatchError> {
        Ok(self.search(path, all, state)?.map(|(found, _)| found))
    }

    /// Besides what was found, whether the search is over: neither a pattern nor anything further out is asked.
    fn search(
        &self,
        path: &[u8],
        all: &[Location],
        state: &mut State,
    ) -> Result<Option<(Found<Index>, bool)>, MatchError> {
        let mut best = None;
        let mut without_regex = false;
        match self.prefixes.find(path) {
            Some(tree::Match::Exact(location)) => {
                return Ok(Some((Found { location, redirect: false }, true)));
            }
            Some(tree::Match::Redirect(location)) => {
                return Ok(Some((Found { location, redirect: true }, true)));
            }
            Some(tree::Match::Prefix(location)) => {
                let outer = &all[location as usize];
                without_regex = outer.kind == Kind::PrefixWithoutRegex;
                match outer.nested.search(path, all, state)? {
                    Some((found, true)) => return Ok(Some((found, true))),
                    Some((found, false)) => best = Some(found),
                    None => best = Some(Found { location, redirect: false }),
                }
            }
            None => {}
        }
        if !without_regex
            && !self.by_pattern.is_empty()
            && let Some(index) = self.patterns.first(path, state)?
        {
            let location = self.by_pattern[index];
            let inner = all[location as usize].nested.search(path, all, state)?;
            let found = inner.map_or(Found { location, redirect: false }, |(found, _)| found);
            return Ok(Some((found, true)));
        }
        Ok(best.map(|found| (found, false)))
    }
}

impl Location {
    fn compile(
        location: &model::Location,
        defined: &[Defined],
        all: &mut Vec<Self>,
    ) -> Result<Index, PatternError> {
        let (kind, name) = match &location.matcher {
            Matcher::Exact(uri) => (Kind::Exact, uri.clone()),
            Matcher::Prefix { uri, without_regex: false } => (Kind::Prefix, uri.clone()),
            Matcher::Prefix { uri, without_regex: true } => (Kind::PrefixWithoutRegex, uri.clone()),
            Matcher::Regex(regex) => (Kind::Regex, regex.pattern.clone()),
            Matcher::Named(name) => (Kind::Named, name.clone()),
        };
        let mut redirect = Vec::new();
        // An exact one leads to its slash for the prefix of the same path, too.
        if location.auto_redirect || (kind == Kind::Exact && name.ends_with(b"/")) {
            escape(&name, Escape::Uri, &mut redirect);
        }
        // nginx makes no table of the prefixes within a pattern: only the patterns there are ever found.
        let nested = if kind == Kind::Regex {
            let patterns =
                model::Locations { regexes: location.locations.regexes.clone(), ..Default::default() };
            Locations::compile(&patterns, defined, all)?
        } else {
            Locations::compile(&location.locations, defined, all)?
        };
        let compiled = Self {
            kind,
            name,
            redirect,
            settings: location.settings,
            ops: Ops::compile(&location.rewrite, defined)?,
            content: location.content.clone(),
            limit_except: location.limit_except.as_deref().map(|limit| LimitExcept {
                methods: limit.methods.clone(),
                settings: limit.settings,
                content: limit.content.clone(),
            }),
            auto_redirect: location.auto_redirect,
            nested,
        };
        all.push(compiled);
        Ok((all.len() - 1) as Index)
    }
}
