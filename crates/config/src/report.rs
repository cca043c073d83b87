//! Diagnostics: what is wrong, where it stands, and what to write instead. All of a run are told together.

use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use conf_syntax::{Excerpt, Sources, Span};

/// Why the program ends before it starts: errors, or an answer to `--help` and `--version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Answer(String),
    Errors { diagnostics: Vec<Diagnostic>, usage: bool },
}

impl Report {
    pub(crate) fn answer(text: String) -> Self {
        Self { outcome: Outcome::Answer(text) }
    }

    /// Why the program cannot start. `usage`: the command line is what is wrong.
    pub fn errors(diagnostics: Vec<Diagnostic>, usage: bool) -> Self {
        Self { outcome: Outcome::Errors { diagnostics, usage } }
    }

    /// What the process ends with: 0 after an answer, 2 when the command line is wrong, else 1. gunicorn's codes.
    pub fn exit_code(&self) -> u8 {
        match &self.outcome {
            Outcome::Answer(_) => 0,
            Outcome::Errors { usage: true, .. } => 2,
            Outcome::Errors { usage: false, .. } => 1,
        }
    }

    /// Whether this is what the user asked for, so that it belongs on standard output.
    pub fn is_answer(&self) -> bool {
        matches!(self.outcome, Outcome::Answer(_))
    }

    /// The errors and notes; none of an answer.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match &self.outcome {
            Outcome::Answer(_) => &[],
            Outcome::Errors { diagnostics, .. } => diagnostics,
        }
    }

    /// The whole text, with a line feed at its end.
    pub fn render(&self, colour: bool) -> String {
        match &self.outcome {
            Outcome::Answer(text) => text.clone(),
            Outcome::Errors { diagnostics, .. } => render(diagnostics, colour),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Report {}

/// What did not keep the settings from being used, but should be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// In the order of the table.
    pub diagnostics: Vec<Diagnostic>,
}

impl Notes {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// One line each, for a log.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.diagnostics.iter().map(Diagnostic::line)
    }

    /// The whole text with the places shown; empty without notes.
    pub fn render(&self, colour: bool) -> String {
        render(&self.diagnostics, colour)
    }
}

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The settings cannot be used.
    Error,
    /// Probably not what was meant.
    Warning,
    /// Worth knowing.
    Note,
}

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// What, in one line.
    pub message: String,
    /// Where.
    pub place: Option<Place>,
    /// What to write instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// One without a place.
    pub fn new(severity: Severity, message: impl Into<String>) -> Self {
        Self { severity, message: message.into(), place: None, help: None }
    }

    /// An error without a place.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message)
    }

    /// The same with a place.
    #[must_use]
    pub fn at(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }

    /// The same with what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }

    /// Everything in one line, without the source text.
    pub fn line(&self) -> String {
        let mut line = String::new();
        if let Some(place) = &self.place {
            line.push_str(&place.title);
            if let Some(n) = place.line {
                line.push(':');
                line.push_str(&n.to_string());
            }
            line.push_str(": ");
        }
        line.push_str(&self.message);
        if let Some(help) = &self.help {
            line.push_str(" (");
            line.push_str(help);
            line.push(')');
        }
        line
    }

    fn group(&self) -> Group<'_> {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let mut group = Group::with_title(level.primary_title(self.message.as_str()));
        match &self.place {
            // The column is not that of the text which is shown.
            Some(Place { title, line, source: Some((text, range)), cut: cut @ 1.. }) => {
                let line = line.unwrap_or(1) as usize;
                let column = *cut as usize + text[..range.start].chars().count() + 1;
                group = group.element(Origin::path(title.as_str()).line(line).char_column(column)).element(
                    Snippet::source(text.as_str())
                        .line_start(line)
                        .annotation(AnnotationKind::Primary.span(range.clone())),
                );
            }
            Some(Place { title, line, source: Some((text, range)), .. }) => {
                group = group.element(
                    Snippet::source(text.as_str())
                        .path(title.as_str())
                        .line_start(line.unwrap_or(1) as usize)
                        .annotation(AnnotationKind::Primary.span(range.clone())),
                );
            }
            Some(Place { title, line, source: None, .. }) => {
                let mut origin = Origin::path(title.as_str());
                if let Some(n) = line {
                    origin = origin.line(*n as usize);
                }
                group = group.element(origin);
            }
            None => {}
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A file, or `command line`, `GUNICORN_CMD_ARGS`, `environment`.
    pub title: String,
    /// The line in the file.
    pub line: Option<u32>,
    /// The text to show and the bytes to underline.
    pub(crate) source: Option<(String, Range<usize>)>,
    /// Characters of the line that stand before that text.
    pub(crate) cut: u32,
}

impl Place {
    /// What a text shows; it is called `title`.
    pub(crate) fn new(title: String, line: Option<u32>, source: Option<(String, Range<usize>)>) -> Self {
        Self { title, line, source, cut: 0 }
    }

    /// A place in an nginx.conf.
    pub(crate) fn in_sources(sources: &Sources, span: Span) -> Self {
        let Excerpt { line, text, range, cut } = sources.excerpt(span, 3);
        let title = sources.path(span.file).display().to_string();
        Self { title, line: Some(line), source: Some((text, range)), cut }
    }
}

fn render(diagnostics: &[Diagnostic], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
    let mut text = String::new();
    for d in diagnostics {
        text.push_str(&renderer.render(&[d.group()]));
        text.push_str("\n\n");
    }
    if text.ends_with("\n\n") {
        text.pop();
    }
    text
}
