//! Rewrite directives with their patterns compiled.

use config::model::http::{
    self as model, Content, Defined, DefinedId, FileTest, Op, Part, RewriteFlag, SettingsId, Value, Variable,
};

use crate::pattern::{PatternError, Regex};

/// The rewrite directives of a block.
#[derive(Debug, Default)]
pub struct Ops(Vec<Step>);

#[derive(Debug)]
pub(super) enum Step {
    Set { target: Target, value: Value },
    Return { status: u16, text: Option<Value> },
    Rewrite(Box<Rewrite>),
    Break,
    If(Box<If>),
}

/// What a `set` sets.
#[derive(Debug)]
pub(super) enum Target {
    Stored(DefinedId),
    Args,
    BuiltIn(Variable),
}

#[derive(Debug)]
pub(super) struct Rewrite {
    pub(super) regex: Regex,
    pub(super) replacement: Value,
    pub(super) keep_args: bool,
    /// The status of a redirect.
    pub(super) redirect: Option<u16>,
    /// No search for a location follows.
    pub(super) breaks: bool,
    /// No directive follows.
    pub(super) ends: bool,
}

#[derive(Debug)]
pub(super) struct If {
    pub(super) condition: Condition,
    pub(super) settings: SettingsId,
    pub(super) content: Option<Content>,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug)]
pub(super) enum Condition {
    True(Variable),
    Equals { variable: Variable, value: Value, negated: bool },
    Matches { variable: Variable, regex: Regex, negated: bool },
    File { test: FileTest, path: Value, negated: bool },
}

/// Which variables rewrite directives set, and by what.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    /// By `set`.
    pub(crate) set: Vec<DefinedId>,
    /// By patterns.
    pub(crate) captured: Vec<DefinedId>,
}

impl Uses {
    /// Of the rewrite directives of a block.
    pub(crate) fn add(&mut self, ops: &[Op], defined: &[Defined]) {
        for op in ops {
            match op {
                Op::Set { variable, .. } => {
                    if let Target::Stored(id) = target(*variable, defined) {
                        self.set.push(id);
                    }
                }
                Op::Rewrite(rewrite) => self.add_regex(&rewrite.regex),
                Op::If(branch) => {
                    if let model::Condition::Matches { regex, .. } = &branch.condition {
                        self.add_regex(regex);
                    }
                    self.add(&branch.ops, defined);
                }
                Op::Return { .. } | Op::Break => {}
            }
        }
    }

    /// Of locations and what lies within.
    pub(crate) fn add_locations(&mut self, locations: &model::Locations, defined: &[Defined]) {
        let model::Locations { prefixes, regexes, named } = locations;
        for location in prefixes.iter().chain(regexes).chain(named) {
            if let model::Matcher::Regex(regex) = &location.matcher {
                self.add_regex(regex);
            }
            self.add(&location.rewrite, defined);
            self.add_locations(&location.locations, defined);
        }
    }

    fn add_regex(&mut self, regex: &model::Regex) {
        self.captured.extend(regex.names.iter().map(|(_, id)| id));
    }
}

impl Ops {
    /// Compiles the directives of a block. A `set` of a variable that `defined` names like one that is there by
    /// itself sets that one.
    pub fn compile(ops: &[Op], defined: &[Defined]) -> Result<Self, PatternError> {
        steps(ops, defined).map(Self)
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }
}

fn steps(ops: &[Op], defined: &[Defined]) -> Result<Vec<Step>, PatternError> {
    ops.iter().map(|op| step(op, defined)).collect()
}

fn step(op: &Op, defined: &[Defined]) -> Result<Step, PatternError> {
    Ok(match op {
        Op::Set { variable, value } => Step::Set { target: target(*variable, defined), value: value.clone() },
        Op::Return { status, text } => Step::Return { status: *status, text: text.clone() },
        Op::Rewrite(rewrite) => Step::Rewrite(Box::new(self::rewrite(rewrite)?)),
        Op::Break => Step::Break,
        Op::If(branch) => Step::If(Box::new(If {
            condition: condition(&branch.condition)?,
            settings: branch.settings,
            content: branch.content.clone(),
            steps: steps(&branch.ops, defined)?,
        })),
    })
}

fn target(id: DefinedId, defined: &[Defined]) -> Target {
    match defined.get(id as usize).and_then(|defined| Variable::built_in(&defined.name)) {
        // One's own that is named like one of a family hides that one.
        None | Some(Variable::Arg(_) | Variable::Cookie(_) | Variable::Http(_) | Variable::SentHttp(_)) => {
            Target::Stored(id)
        }
        Some(Variable::Args) => Target::Args,
        Some(other) => Target::BuiltIn(other),
    }
}

fn rewrite(rewrite: &model::Rewrite) -> Result<Rewrite, PatternError> {
    let redirect = match rewrite.flag {
        RewriteFlag::Permanent => Some(301),
        RewriteFlag::Redirect => Some(302),
        _ => is_absolute(&rewrite.replacement).then_some(302),
    };
    Ok(Rewrite {
        regex: Regex::compile(&rewrite.regex)?,
        replacement: rewrite.replacement.clone(),
        keep_args: rewrite.keep_args,
        redirect,
        breaks: rewrite.flag == RewriteFlag::Break,
        ends: rewrite.flag != RewriteFlag::None,
    })
}

fn is_absolute(replacement: &Value) -> bool {
    match replacement.0.first() {
        Some(Part::Text(text)) => text.starts_with(b"http://") || text.starts_with(b"https://"),
        Some(Part::Variable(variable)) => *variable == Variable::Scheme,
        None => false,
    }
}

fn condition(condition: &model::Condition) -> Result<Condition, PatternError> {
    Ok(match condition.clone() {
        model::Condition::True(variable) => Condition::True(variable),
        model::Condition::Equals { variable, value, negated } => {
            Condition::Equals { variable, value, negated }
        }
        model::Condition::Matches { variable, regex, negated } => {
            Condition::Matches { variable, regex: Regex::compile(&regex)?, negated }
        }
        model::Condition::File { test, path, negated } => Condition::File { test, path, negated },
    })
}
