//! What can be wrong with the text itself.

use std::fmt;

use crate::source::Span;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where; `None` only when the main file could not be read.
    pub span: Option<Span>,
    /// What, for a program.
    pub kind: SyntaxErrorKind,
    /// What, for people: nginx's words where nginx has them.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// A second place that explains the first.
    pub related: Option<Related>,
}

/// A place that explains an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// Where.
    pub span: Span,
    /// What stands there, a few words.
    pub label: String,
}

/// The sorts of [`SyntaxError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SyntaxErrorKind {
    /// `unexpected "…"`: a brace, a semicolon, or what stands directly behind a closing quote.
    Unexpected,
    /// `unexpected end of file, …`: a directive, a quote or a block is not closed.
    EndOfFile,
    /// `too long parameter …`: a word beyond [`Limits::word`](crate::Limits).
    TooLongParameter,
    /// Blocks in blocks beyond [`Limits::depth`](crate::Limits).
    TooDeep,
    /// `directive "include" is not terminated by ";"`.
    NotTerminated,
    /// `invalid number of arguments in "include" directive`.
    ArgumentCount,
    /// A file or a directory could not be read; the message has the system's words.
    Unreadable,
    /// A file is UTF-16, which nobody reads.
    Encoding,
    /// A file includes itself, directly or through others.
    IncludeLoop,
    /// Includes in includes beyond [`Limits::include_depth`](crate::Limits).
    IncludeDepth,
    /// More text or more includes than [`Limits`](crate::Limits) allows.
    TooLarge,
    /// So many errors that the rest was not read.
    TooManyErrors,
    /// `block directives are not supported in -g option`.
    BlockInOption,
}

impl SyntaxError {
    pub(crate) fn new(span: Option<Span>, kind: SyntaxErrorKind, message: impl Into<String>) -> Self {
        Self { span, kind, message: message.into(), help: None, related: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related = Some(Related { span, label: label.into() });
        self
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SyntaxError {}
