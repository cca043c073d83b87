//! The rewrite directives: `set`, `rewrite`, `return`, `break`, `if`.
//!
//! A server's and a location's own directives are each run from first to last, or to what ends the run.

mod compile;
mod replacement;
#[cfg(test)]
mod tests;

use config::model::http::{Content, SettingsId, Value};
use exchange::Request;

use crate::pattern::{MatchError, Regex};
use crate::variables::{Environment, Scope, State, Variables};
use compile::{Condition, Step, Target};
use replacement::Text;

pub use compile::Ops;
pub(crate) use compile::Uses;

/// How often the path of one request may change, or an internal redirect be made, before it counts as a cycle (500).
pub const URI_CHANGES: u32 = 10;

/// What a run of rewrite directives came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Rewritten {
    /// What comes next.
    pub outcome: Outcome,
    /// A `rewrite` matched: from now on the request is an internal one, which locations that are `internal` serve.
    pub rewritten: bool,
    /// Path or arguments are no longer those that were received: whoever passes the request on makes a target of them.
    pub target_changed: bool,
    /// The settings of the last `if` that held, which are to hold from here on. In a server they are not (nginx).
    pub settings: Option<SettingsId>,
    /// Who answers, by the last `if` that held and says so.
    pub content: Option<Content>,
    /// An `if` that held after it says nothing of that: the location's own server or application answers, if it has one.
    pub back: bool,
}

/// What comes after a run of rewrite directives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The next phase, in the same location.
    Continue,
    /// A search for a location anew; counts as one of [`URI_CHANGES`]. After a server's directives the first search
    /// comes anyway, and this is the same as `Continue`.
    Again,
    /// A response.
    Return {
        /// Its status; 444 closes the connection without one.
        status: u16,
        /// What it consists of.
        answer: Answer,
    },
}

/// What a `return`, or a `rewrite` that redirects, answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// What `error_page` or the program itself says about the status.
    Page,
    /// This body, of the type that the path's extension has.
    Text(Vec<u8>),
    /// This `Location`, not yet made absolute.
    Location(Vec<u8>),
}

/// Rewriting failed: 500.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// The configuration makes an empty path of this one.
    #[error("the rewritten URI has a zero length")]
    EmptyPath,
    /// A pattern was given up.
    #[error(transparent)]
    Match(#[from] MatchError),
}

impl Variables {
    /// Runs rewrite directives. They may change the request's path and arguments.
    pub fn run(
        &self,
        ops: &Ops,
        request: &mut Request,
        state: &mut State,
        environment: &dyn Environment,
    ) -> Result<Rewritten, RewriteError> {
        let result = Rewritten {
            outcome: Outcome::Continue,
            rewritten: false,
            target_changed: false,
            settings: None,
            content: None,
            back: false,
        };
        let mut run =
            Run { variables: self, request, state, environment, quote: true, changed: false, result };
        if run.steps(ops.steps())?.is_continue() && run.changed {
            run.result.outcome = Outcome::Again;
        }
        Ok(run.result)
    }
}

/// Whether the run goes on with the next directive, or has its outcome.
type Flow = std::ops::ControlFlow<()>;

struct Run<'a> {
    variables: &'a Variables,
    request: &'a mut Request,
    state: &'a mut State,
    environment: &'a dyn Environment,
    /// Captures of an escaped path are escaped in the values of `set` and `if`, until a `rewrite` has matched: so it
    /// is in nginx.
    quote: bool,
    /// The path is another one, for which a location has not been searched.
    changed: bool,
    result: Rewritten,
}

impl Run<'_> {
    fn steps(&mut self, steps: &[Step]) -> Result<Flow, RewriteError> {
        for step in steps {
            if self.step(step)?.is_break() {
                return Ok(Flow::Break(()));
            }
        }
        Ok(Flow::Continue(()))
    }

    fn step(&mut self, step: &Step) -> Result<Flow, RewriteError> {
        match step {
            Step::Set { target, value } => self.set(target, value),
            Step::Rewrite(rewrite) => return self.rewrite(rewrite),
            Step::Break => {
                self.changed = false;
                return Ok(Flow::Break(()));
            }
            Step::Return { status, text } => {
                let answer = self.answer(*status, text.as_ref());
                self.result.outcome = Outcome::Return { status: *status, answer };
                return Ok(Flow::Break(()));
            }
            Step::If(branch) => {
                if self.holds(&branch.condition)? {
                    self.result.settings = Some(branch.settings);
                    self.result.back = branch.content.is_none();
                    if let Some(content) = &branch.content {
                        self.result.content = Some(content.clone());
                    }
                    return self.steps(&branch.steps);
                }
            }
        }
        Ok(Flow::Continue(()))
    }

    fn set(&mut self, target: &Target, value: &Value) {
        let mut text = self.state.scratch();
        self.value(value, &mut text);
        match target {
            Target::Stored(id) => self.state.store(*id, &text),
            Target::Args => {
                self.request.query.clone_from(&text);
                self.request.query_set = true;
                self.result.target_changed = true;
            }
            Target::BuiltIn(variable) => self.environment.set(variable, &text),
        }
        self.state.give_back(text);
    }

    fn answer(&mut self, status: u16, text: Option<&Value>) -> Answer {
        // An error without a text is one of the program's own pages.
        if status >= 400 && text.is_none_or(|text| text.as_text() == Some(b"")) {
            return Answer::Page;
        }
        let mut out = Vec::new();
        if let Some(text) = text {
            self.environment.answers_with(status);
            let scope = Scope { request: self.request, environment: self.environment };
            self.variables.evaluate(text, self.state, scope, &mut out);
        }
        if matches!(status, 301 | 302 | 303 | 307 | 308) { Answer::Location(out) } else { Answer::Text(out) }
    }

    fn rewrite(&mut self, rewrite: &compile::Rewrite) -> Result<Flow, RewriteError> {
        if !self.state.execute(&rewrite.regex, &self.request.path)? {
            self.state.forget_captures();
            return Ok(Flow::Continue(()));
        }
        self.result.rewritten = true;
        self.result.target_changed = true;
        let redirects = rewrite.redirect.is_some();
        let mut text = Text::new(self.state.scratch(), redirects);
        let scope = Scope { request: self.request, environment: self.environment };
        text.replace(&rewrite.replacement, self.variables, self.state, scope);
        self.quote = false;
        if let Some(status) = rewrite.redirect {
            let location = text.into_location(rewrite.keep_args, &self.request.query, self.state);
            self.result.outcome = Outcome::Return { status, answer: Answer::Location(location) };
            return Ok(Flow::Break(()));
        }
        self.changed = !rewrite.breaks;
        text.apply(rewrite.keep_args, self.request, self.state);
        if self.request.path.is_empty() {
            return Err(RewriteError::EmptyPath);
        }
        if !rewrite.ends {
            return Ok(Flow::Continue(()));
        }
        self.result.outcome = if self.changed { Outcome::Again } else { Outcome::Continue };
        Ok(Flow::Break(()))
    }

    fn holds(&mut self, condition: &Condition) -> Result<bool, RewriteError> {
        match condition {
            Condition::True(variable) => {
                let text = self.variable(variable);
                let holds = !matches!(text.as_slice(), b"" | b"0");
                self.state.give_back(text);
                Ok(holds)
            }
            Condition::Equals { variable, value, negated } => {
                let left = self.variable(variable);
                let mut right = self.state.scratch();
                self.value(value, &mut right);
                let holds = (left == right) != *negated;
                self.state.give_back(left);
                self.state.give_back(right);
                Ok(holds)
            }
            Condition::Matches { variable, regex, negated } => {
                let text = self.variable(variable);
                let matched = self.matches(regex, &text);
                self.state.give_back(text);
                Ok(matched? != *negated)
            }
            Condition::File { test, path, negated } => {
                let mut text = self.state.scratch();
                self.value(path, &mut text);
                let scope = Scope { request: self.request, environment: self.environment };
                let (variables, state) = (self.variables, &mut *self.state);
                let mut value = |value: &Value| variables.text(value, state, scope).into_owned();
                let holds = self.environment.file(&text, *test, &mut value) != *negated;
                self.state.give_back(text);
                Ok(holds)
            }
        }
    }

    fn matches(&mut self, regex: &Regex, text: &[u8]) -> Result<bool, MatchError> {
        let matched = self.state.execute(regex, text)?;
        if !matched {
            self.state.forget_captures();
        }
        Ok(matched)
    }

    /// A variable's value in a buffer that goes back; nothing is as good as empty.
    fn variable(&mut self, variable: &config::model::http::Variable) -> Vec<u8> {
        let mut text = self.state.scratch();
        let scope = Scope { request: self.request, environment: self.environment };
        self.variables.variable(variable, self.state, scope, &mut text);
        text
    }

    fn value(&mut self, value: &Value, out: &mut Vec<u8>) {
        let scope = Scope { request: self.request, environment: self.environment };
        replacement::evaluate(value, self.quote, self.variables, self.state, scope, out);
    }
}
