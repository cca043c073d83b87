//! The log phase.

use std::fs::File;
use std::io;
use std::rc::Rc;

use exchange::{Fields, Request, Response};
use protocol::{Sent as Written, WriteError};
use routing::{Scope, State};
use telemetry::Way;
use telemetry::error_log::Level;
use upstream::Attempt;

use super::environment::{Sent, View};
use super::facts::Facts;
use super::place::Place;
use super::visit::Visit;
use crate::event_loop::EventLoop;

/// The client left while a server was waited for.
const LEFT: &str =
    "epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too";

impl Visit<'_, '_> {
    /// Whether a log may ask for fields of the response.
    pub fn wants_fields(&self) -> bool {
        self.event_loop.logs.borrow().as_ref().is_some_and(|logs| logs.logs().any(self.facts.settings.get()))
    }

    /// Writes what the access logs of the place want to know.
    pub fn log(
        &mut self,
        request: &Request,
        status: u16,
        fields: Option<&Fields>,
        written: Option<&Written>,
    ) {
        self.facts
            .debug(format_args!("http finalize request: {status}, \"{}\"", request.target.escape_ascii()));
        if let Some(asked) = &*self.facts.upstream.borrow() {
            for (url, why) in asked.given_up() {
                self.facts.log_about(Level::Error, Some(request), None, Some(&url), format_args!("{why}"));
            }
        }
        match written.map(|written| written.outcome) {
            None | Some(Ok(())) => {}
            Some(Err(error @ (WriteError::Gone | WriteError::Timeout))) => {
                let words = match error {
                    WriteError::Gone => "client prematurely closed connection",
                    _ => "client timed out (110: Connection timed out)",
                };
                let passed = self.facts.passed_on();
                let action = if passed { "sending to client" } else { "sending response to client" };
                self.facts.log_about(Level::Info, Some(request), Some(action), None, format_args!("{words}"));
            }
            Some(Err(WriteError::Left)) => {
                let (action, words) = if self.facts.passed_on() {
                    ("reading upstream", LEFT)
                } else {
                    ("sending response to client", "client prematurely closed connection")
                };
                self.facts.log_about(Level::Info, Some(request), Some(action), None, format_args!("{words}"));
            }
            Some(Err(WriteError::Broken(why))) => {
                self.facts.log(Level::Error, Some(request), format_args!("{why}"));
            }
        }
        if let Some(asked) = &*self.facts.upstream.borrow() {
            for attempt in asked.attempts.iter().flat_map(|(_, attempt)| attempt.chain()) {
                self.facts.log_complaints(request, &attempt, "reading upstream");
                self.log_warnings(request, &attempt);
            }
        }
        let sent = Sent {
            status,
            fields,
            length: None,
            body: written.map_or(0, |written| written.body),
            all: written.map_or(0, |written| written.body + written.head),
            whole: written.is_some_and(|written| written.outcome.is_ok()),
        };
        write(self.event_loop, &self.facts, &mut self.state, request, sent);
    }

    /// What nginx warns of while it reads an answer.
    fn log_warnings(&self, request: &Request, attempt: &Attempt) {
        let warn = |words: std::fmt::Arguments<'_>| {
            self.facts.log_about(Level::Warning, Some(request), Some("reading upstream"), None, words);
        };
        if attempt.spilled.get() {
            let directory = self.event_loop.process.temp.dir().display();
            warn(format_args!("an upstream response is buffered to a temporary file in {directory}"));
        }
        if let Some(excess) = attempt.excess.get() {
            warn(format_args!("{excess}"));
        }
    }

    /// Gives back what the next request can use again.
    pub fn end(self) {
        self.site.give_state(self.state);
    }

    /// `log_subrequest`: nothing of its answer has left.
    pub(super) fn log_inner(&mut self, request: &Request, answer: &Response) {
        let sent = Sent { whole: true, ..Sent::of(answer) };
        write(self.event_loop, &self.facts, &mut self.state, request, sent);
    }
}

fn write(event_loop: &EventLoop, facts: &Facts<'_>, state: &mut State, request: &Request, sent: Sent<'_>) {
    let mut logs = event_loop.logs.borrow_mut();
    let Some(logs) = &mut *logs else { return };
    let view = View { facts, sent };
    let variables = &facts.site.routing.variables;
    let mut way = None;
    if logs.logs().has_variable_names(facts.settings.get())
        && let Some(place) = facts.place().filter(|place| !place.files.follows_links())
    {
        let scope = Scope { request, environment: &view };
        let from = place.files.links_from(|value| variables.text(value, state, scope).into_owned());
        let name = [format!("{}", place.id).as_bytes(), b":", from.as_deref().unwrap_or_default()].concat();
        way = Some(ByLinks { place, from, name });
    }
    let way = way.as_ref().map(|way| way as &dyn Way);
    let wants_write = logs.log(facts.settings.get(), exchange::now(), way, &mut |variable, out| {
        variables.variable(variable, state, Scope { request, environment: &view }, out)
    });
    if wants_write {
        event_loop.lines.notify_one();
    }
}

/// `disable_symlinks` of a place, for its logs.
struct ByLinks {
    place: Rc<Place>,
    from: Option<Vec<u8>>,
    name: Vec<u8>,
}

impl Way for ByLinks {
    fn is_directory(&self, path: &[u8]) -> bool {
        self.place.files.is_directory(path, self.from.as_deref())
    }

    fn append(&self, path: &[u8]) -> io::Result<File> {
        self.place.files.append(path, self.from.as_deref())
    }

    fn name(&self) -> &[u8] {
        &self.name
    }
}
