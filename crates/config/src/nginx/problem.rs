//! What is wrong with a configuration, in two forms: with the place shown, and in nginx's own one line.

use std::fmt::Write as _;

use conf_syntax::{Sources, Span};

use crate::report::{Diagnostic, Place, Report, Severity};

/// More errors than this are not read by anybody.
const MOST: usize = 100;
/// Of each kind so many are kept: a file of a hundred megabytes may have a million, and what is told is found among
/// these.
const KEPT: usize = 500;

/// Why a configuration cannot be used: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NginxReport {
    /// In the order of the files.
    pub diagnostics: Vec<Diagnostic>,
    /// The same as `nginx -t` says it: `nginx: [emerg] unknown directive "foo" in /etc/nginx/nginx.conf:12`.
    pub lines: Vec<String>,
}

impl NginxReport {
    /// A report of what was found elsewhere.
    pub fn of(diagnostics: Vec<Diagnostic>) -> Self {
        let line = |d: &Diagnostic| {
            let place = |p: &Place| p.line.map(|line| format!(" in {}:{line}", p.title));
            let place = d.place.as_ref().and_then(place).unwrap_or_default();
            format!("nginx: [emerg] {}{place}", d.message)
        };
        Self { lines: diagnostics.iter().map(line).collect(), diagnostics }
    }

    /// The form that shows the places.
    pub fn report(self) -> Report {
        Report::errors(self.diagnostics, false)
    }

    /// Everything in nginx's form, each with a line feed.
    pub fn nginx_text(&self) -> String {
        self.lines.iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

/// One thing to tell.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub severity: Severity,
    /// nginx's words where nginx has them.
    pub message: String,
    /// What to underline; `None` is the configuration as a whole.
    pub at: Option<Span>,
    /// Where nginx would say that it is: the end of the directive's head.
    pub line_at: Option<Span>,
    pub help: Option<String>,
    /// The help is [`Problems::hint`], which is nearer to the cause than any other.
    is_hinted: bool,
}

impl Problem {
    /// A help that stays, whatever else would be said.
    pub(super) fn advise(&mut self, help: &str) {
        self.help = Some(help.to_owned());
        self.is_hinted = true;
    }

    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        if !self.is_hinted {
            self.help = Some(help.into());
        }
        self
    }
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
    errors: usize,
    warnings: usize,
    notes: usize,
    /// The last one that was not kept.
    dropped: Option<Box<Problem>>,
    /// The end of the head of the directive that is being read.
    pub line_at: Option<Span>,
    /// What is most likely behind all that is wrong with that directive.
    pub hint: Option<String>,
    /// It is behind all of it, so that one error is enough.
    pub has_one_cause: bool,
    /// Where the directive ends of which such an error was told.
    told_of: Option<Span>,
}

impl Problems {
    pub(super) fn push(
        &mut self,
        severity: Severity,
        at: Option<Span>,
        message: impl Into<String>,
    ) -> &mut Problem {
        let count = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
            Severity::Note => &mut self.notes,
        };
        let is_kept = *count < KEPT;
        let line_at = at.and(self.line_at.or(at));
        let is_told = severity == Severity::Error && self.hint.is_some() && self.has_one_cause && {
            let told_of = std::mem::replace(&mut self.told_of, self.line_at);
            self.line_at.is_some() && told_of == self.line_at
        };
        if !is_told {
            *count += 1;
        }
        let (help, is_hinted) = (self.hint.clone(), self.hint.is_some());
        let problem = Problem { severity, message: message.into(), at, line_at, help, is_hinted };
        if !is_kept || is_told {
            return self.dropped.insert(Box::new(problem));
        }
        self.list.push(problem);
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Whether a further error would not be kept, so that no help needs to be found for it.
    pub(super) fn has_enough(&self) -> bool {
        self.errors >= KEPT
    }

    /// Whether there is an error at a place of this kind.
    pub(super) fn any_error(&self, is_one: impl Fn(Option<Span>) -> bool) -> bool {
        self.list.iter().any(|p| p.severity == Severity::Error && is_one(p.at))
    }

    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Everything as a report, errors first found first told.
    pub(super) fn into_report(self, sources: &Sources) -> NginxReport {
        let mut list: Vec<_> = self.list.into_iter().filter(|p| p.severity == Severity::Error).collect();
        sort(&mut list);
        // What a file has that is included many times is told once.
        list.dedup_by(|a, b| (a.at, &a.message) == (b.at, &b.message));
        let left_out = list.len().saturating_sub(MOST) + self.errors.saturating_sub(KEPT);
        list.truncate(MOST);
        let mut report = render(&list, sources);
        if left_out > 0 {
            report.diagnostics.push(Diagnostic::error(format!("{left_out} more errors are not shown")));
        }
        report
    }

    /// What is no error.
    pub(super) fn into_notes(self, sources: &Sources) -> NginxReport {
        let mut list = self.list;
        sort(&mut list);
        list.dedup_by(|a, b| (a.at, &a.message) == (b.at, &b.message));
        let mut report = render(&list, sources);
        let counts = [(Severity::Warning, self.warnings, "warnings"), (Severity::Note, self.notes, "notes")];
        for (severity, count, what) in counts {
            if let Some(more @ 1..) = count.checked_sub(KEPT) {
                let text = format!("{more} more {what} are not shown");
                if severity == Severity::Warning {
                    report.lines.push(format!("nginx: [warn] {text}"));
                }
                report.diagnostics.push(Diagnostic::new(severity, text));
            }
        }
        report
    }
}

/// In the order of the text; what is about no place comes last.
fn sort(list: &mut [Problem]) {
    list.sort_by_key(|p| (p.at.is_none(), p.at));
}

fn render(list: &[Problem], sources: &Sources) -> NginxReport {
    NginxReport {
        diagnostics: list.iter().map(|p| diagnostic(p, sources)).collect(),
        lines: list.iter().filter(|p| p.severity != Severity::Note).map(|p| nginx_line(p, sources)).collect(),
    }
}

fn diagnostic(problem: &Problem, sources: &Sources) -> Diagnostic {
    let place = problem.at.map(|span| Place::in_sources(sources, span));
    Diagnostic::new(problem.severity, problem.message.clone()).at(place).help(problem.help.clone())
}

fn nginx_line(problem: &Problem, sources: &Sources) -> String {
    let level = if problem.severity == Severity::Error { "emerg" } else { "warn" };
    let mut line = format!("nginx: [{level}] {}", problem.message);
    match problem.line_at {
        None => {}
        Some(at) if sources.path(at.file).as_os_str() == "-g" => line.push_str(" in command line"),
        Some(at) => {
            // Writing to memory does not fail.
            let _ = write!(line, " in {}:{}", sources.path(at.file).display(), sources.line_column(at).line);
        }
    }
    line
}
