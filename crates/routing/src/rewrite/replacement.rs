//! The text that a path is replaced by.

use config::model::http::{Part, Value, Variable};
use exchange::Request;

use crate::escape::{Escape, escape, unescape_redirect};
use crate::variables::{Scope, State, Variables};

/// Appends what a text is worth; with `quote` captures are escaped if the path that came was.
pub(super) fn evaluate(
    value: &Value,
    quote: bool,
    variables: &Variables,
    state: &mut State,
    scope: Scope<'_>,
    out: &mut Vec<u8>,
) {
    for part in &value.0 {
        match part {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Variable(variable) => put(variable, quote, variables, state, scope, out),
        }
    }
}

fn put(
    variable: &Variable,
    quote: bool,
    variables: &Variables,
    state: &mut State,
    scope: Scope<'_>,
    out: &mut Vec<u8>,
) {
    match variable {
        Variable::Capture(number) if quote && is_escaped(scope.request) => {
            escape(state.captures().group(*number), Escape::Args, out);
        }
        variable => {
            variables.variable(variable, state, scope, out);
        }
    }
}

/// Whether the path as it came has something in it that decoding changes or that means something else in arguments.
fn is_escaped(request: &Request) -> bool {
    memchr::memchr2(b'%', b'+', &request.raw_path).is_some()
}

/// A replacement under construction.
pub(super) struct Text {
    buffer: Vec<u8>,
    redirects: bool,
    /// Where the arguments begin (there is no question mark in the buffer, unless it redirects).
    args: Option<usize>,
}

impl Text {
    pub(super) fn new(buffer: Vec<u8>, redirects: bool) -> Self {
        Self { buffer, redirects, args: None }
    }

    /// The first question mark of the replacement itself begins the arguments; one that comes out of a variable is
    /// part of the path.
    pub(super) fn replace(
        &mut self,
        value: &Value,
        variables: &Variables,
        state: &mut State,
        scope: Scope<'_>,
    ) {
        for part in &value.0 {
            match part {
                Part::Text(text) => self.literal(text),
                Part::Variable(variable) => {
                    let quote = self.redirects || self.args.is_some();
                    put(variable, quote, variables, state, scope, &mut self.buffer);
                }
            }
        }
    }

    fn literal(&mut self, text: &[u8]) {
        let Some(mark) = memchr::memchr(b'?', text).filter(|_| self.args.is_none()) else {
            return self.buffer.extend_from_slice(text);
        };
        self.buffer.extend_from_slice(&text[..mark]);
        let args = if self.redirects { &text[mark..] } else { &text[mark + 1..] };
        self.args = Some(self.buffer.len());
        self.buffer.extend_from_slice(args);
    }

    /// The `Location` of a redirect.
    pub(super) fn into_location(self, keep_args: bool, query: &[u8], state: &mut State) -> Vec<u8> {
        let mut location = Vec::with_capacity(self.buffer.len() + query.len() + 1);
        unescape_redirect(&self.buffer, &mut location);
        if keep_args && !query.is_empty() {
            location.push(if self.args.is_some() { b'&' } else { b'?' });
            location.extend_from_slice(query);
        }
        state.give_back(self.buffer);
        location
    }

    /// Makes it the request's path and arguments.
    pub(super) fn apply(self, keep_args: bool, request: &mut Request, state: &mut State) {
        let path = self.args.unwrap_or(self.buffer.len());
        request.path.clear();
        request.path.extend_from_slice(&self.buffer[..path]);
        if let Some(args) = self.args {
            let kept = std::mem::take(&mut request.query);
            request.query_set = true;
            request.query.extend_from_slice(&self.buffer[args..]);
            if keep_args && !kept.is_empty() {
                request.query.push(b'&');
                request.query.extend_from_slice(&kept);
            }
        } else if !keep_args {
            // As in nginx: what was there is nothing now, and what was not there is still not there.
            request.query_set |= !request.query.is_empty();
            request.query.clear();
        }
        state.give_back(self.buffer);
    }
}
