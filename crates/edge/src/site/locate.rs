//! The phases that lead to a location: server_rewrite, find_config, rewrite and post_rewrite.

use config::model::http::Content;
use exchange::Request;
use routing::{Answer, Outcome};
use telemetry::error_log::Level;

use super::environment::{Sent, View};
use super::visit::{Args, Step, Visit};

/// How rewrite directives ended.
enum Ran {
    /// The next phase follows.
    On,
    /// The path has changed: another search for a location follows.
    Again,
    /// The request goes on so.
    Step(Step),
}

impl Visit<'_, '_> {
    pub(super) fn go_to(&mut self, request: &mut Request, path: Vec<u8>, args: Args) -> Step {
        if let Some(step) = self.count_change(request) {
            return step;
        }
        request.path = path;
        match args {
            Args::Kept => {}
            Args::Missing => (request.query, request.query_set) = (Vec::new(), false),
            Args::Said(args) => (request.query, request.query_set) = (args, true),
        }
        self.internal = true;
        self.target_changed = true;
        self.location_valid = true;
        self.facts.adds_to_alias.set(false);
        self.begin(request)
    }

    pub(super) fn go_to_named(&mut self, request: &mut Request, name: &[u8]) -> Step {
        if let Some(step) = self.count_change(request) {
            return step;
        }
        self.internal = true;
        self.facts.adds_to_alias.set(false);
        self.named(request, name)
    }

    fn count_change(&mut self, request: &Request) -> Option<Step> {
        self.uri_changes = self.uri_changes.saturating_sub(1);
        if self.uri_changes > 0 {
            return None;
        }
        let path = String::from_utf8_lossy(&request.path);
        self.facts.log(
            Level::Error,
            Some(request),
            format_args!("rewrite or internal redirection cycle while processing \"{path}\""),
        );
        self.forget_type();
        // No page of the configuration could be reached any more.
        Some(Step::Respond(self.special(request, 500)))
    }

    /// server_rewrite, then the search for a location.
    pub(super) fn begin(&mut self, request: &mut Request) -> Step {
        let site = self.site;
        let Some(server) = site.routing.server(self.server) else { return Step::Page(500) };
        self.enter(server.settings, Content::Files);
        let ops = match site.routing.ops(self.server) {
            Ok(ops) => ops,
            Err(error) => return self.failed(request, &error),
        };
        // A path that changes here needs no second search: there was none yet. Nor does an `if` of a server say what
        // holds in its locations.
        if let Some(ops) = ops
            && let Ran::Step(step) = self.run(request, ops)
        {
            return step;
        }
        self.locate(request)
    }

    /// find_config, rewrite, post_rewrite.
    fn locate(&mut self, request: &mut Request) -> Step {
        let site = self.site;
        loop {
            let found = match site.routing.find(self.server, &request.path, &mut self.state) {
                Ok(found) => found,
                Err(error) => return self.failed(request, &error),
            };
            let Some(found) = found else {
                // What held where the path was rewritten does not hold any more.
                if let Some(server) = site.routing.server(self.server) {
                    self.enter(server.settings, Content::Files);
                }
                self.keep_alive_or_not(request);
                if let Some(step) = self.check_length(request) {
                    return step;
                }
                break;
            };
            let Some(location) = site.routing.location(found.location) else { break };
            self.enter(location.settings, location.content.clone());
            self.facts.debug(format_args!(
                "using configuration \"{}{}\" for \"{}\"",
                modifier(location.kind),
                location.name.escape_ascii(),
                request.path.escape_ascii()
            ));
            self.keep_alive_or_not(request);
            if self.settings().internal && !self.internal {
                return Step::Page(404);
            }
            if let Some(step) = self.check_length(request) {
                return step;
            }
            if found.redirect {
                let mut to = location.redirect.clone();
                if !request.query.is_empty() {
                    to.push(b'?');
                    to.extend_from_slice(&request.query);
                }
                return self.redirect(request, 301, to);
            }
            match self.rewrite(request, found.location) {
                Ran::On => break,
                Ran::Again => {
                    if let Some(step) = self.count_change(request) {
                        return step;
                    }
                }
                Ran::Step(step) => return step,
            }
        }
        Step::Answer
    }

    /// From a named location on.
    pub(super) fn named(&mut self, request: &mut Request, name: &[u8]) -> Step {
        let site = self.site;
        // A head that was refused for its path, or before it had one: what asks about paths would let it through.
        if request.path.is_empty() {
            let name = String::from_utf8_lossy(name);
            self.facts.log(
                Level::Error,
                Some(request),
                format_args!("empty URI in redirect to named location \"{name}\""),
            );
            self.forget_type();
            return Step::Respond(self.special(request, 500));
        }
        let found = match site.routing.named(self.server, name) {
            Ok(found) => found,
            Err(error) => return self.failed(request, &error),
        };
        let Some((id, location)) = found.and_then(|id| Some((id, site.routing.location(id)?))) else {
            let name = String::from_utf8_lossy(name);
            self.facts.log(
                Level::Error,
                Some(request),
                format_args!("could not find named location \"{name}\""),
            );
            self.forget_type();
            return Step::Respond(self.special(request, 500));
        };
        self.enter(location.settings, location.content.clone());
        self.keep_alive_or_not(request);
        match self.rewrite(request, id) {
            Ran::On => Step::Answer,
            Ran::Again => match self.count_change(request) {
                Some(step) => step,
                None => self.locate(request),
            },
            Ran::Step(step) => step,
        }
    }

    /// A location's rewrite phase; or what its `limit_except` says, which has none: as in nginx it is a place of its
    /// own for the methods that it concerns, into which the location's rewrite directives do not reach.
    fn rewrite(&mut self, request: &mut Request, id: routing::LocationId) -> Ran {
        let site = self.site;
        let Some(location) = site.routing.location(id) else { return Ran::On };
        let limit = location.limit_except.as_ref().filter(|l| l.concerns(request.method.as_bytes()));
        let Some(limit) = limit else { return self.run(request, &location.ops) };
        let content = limit.content.clone().unwrap_or_else(|| self.content.clone());
        self.enter(limit.settings, content);
        Ran::On
    }

    /// Runs rewrite directives.
    fn run(&mut self, request: &mut Request, ops: &routing::Ops) -> Ran {
        let view = View { facts: &self.facts, sent: Sent::default() };
        let ran = self.site.routing.variables.run(ops, request, &mut self.state, &view);
        let ran = match ran {
            Ok(ran) => ran,
            Err(error) => return Ran::Step(self.failed(request, &error)),
        };
        // As in nginx, an `internal` location is open to what was rewritten.
        self.internal |= ran.rewritten;
        self.target_changed |= ran.target_changed;
        // A path that was replaced without another search need not begin as the location's any more.
        self.location_valid &= !(ran.rewritten && ran.outcome == Outcome::Continue);
        if ran.settings.is_some() || ran.content.is_some() {
            let settings = ran.settings.unwrap_or(self.place.id);
            let stays = ran.back && self.is_passed_on();
            let content = ran.content.filter(|_| !stays).unwrap_or_else(|| self.content.clone());
            self.enter(settings, content);
        }
        Ran::Step(match ran.outcome {
            Outcome::Continue => return Ran::On,
            Outcome::Again => return Ran::Again,
            Outcome::Return { status: 444, .. } => Step::Close,
            Outcome::Return { status, answer: Answer::Page } => Step::Page(status),
            Outcome::Return { status, answer: Answer::Text(text) } => {
                Step::Respond(self.text(request, status, text))
            }
            Outcome::Return { status, answer: Answer::Location(to) } => self.redirect(request, status, to),
        })
    }

    fn failed(&self, request: &Request, error: &dyn std::fmt::Display) -> Step {
        self.facts.log(Level::Error, Some(request), format_args!("{error}"));
        Step::Page(500)
    }
}

/// How nginx writes it before a location's path.
const fn modifier(kind: routing::Kind) -> &'static str {
    match kind {
        routing::Kind::Exact => "=",
        routing::Kind::Prefix | routing::Kind::Named => "",
        routing::Kind::PrefixWithoutRegex => "^~ ",
        routing::Kind::Regex => "~ ",
    }
}
