//! Words with variables, regular expressions and paths.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use conf_syntax::{PartKind, Quoting, Span, Word, parts};

use super::reader::Reader;
use crate::model::http::{DefinedId, Part, Regex, Source, Value};
use crate::pattern;

impl<'a> Reader<'a> {
    /// A word that may contain variables.
    pub(super) fn value(&mut self, word: Word<'a>) -> Value {
        self.value_of(word.value, word, 0)
    }

    /// A part of a word that may contain variables; `offset` is where it begins in the word.
    pub(super) fn value_of(&mut self, text: &[u8], word: Word<'a>, offset: usize) -> Value {
        let mut value = Value::default();
        for part in parts(text) {
            match part {
                Ok(part) => value.0.push(match part.kind {
                    PartKind::Literal(text) => Part::Text(text.to_vec()),
                    PartKind::Variable { name, braced } => {
                        let length = name.len() + if braced { 3 } else { 1 };
                        let at = within(word, offset + part.offset, length);
                        Part::Variable(self.variables.used(name, at))
                    }
                    PartKind::Capture(n) => Part::Variable(crate::model::http::Variable::Capture(n)),
                }),
                Err(error) => {
                    self.error(within(word, offset + error.offset(), 1), error.to_string());
                    break;
                }
            }
        }
        value
    }

    /// A variable that a directive defines: its name in the word, with the dollar sign.
    pub(super) fn defines(&mut self, word: Word<'a>, source: Source) -> Option<DefinedId> {
        let Some(name) = word.value.strip_prefix(b"$") else {
            let text = word.text().into_owned();
            self.error(word.span, format!("invalid variable name \"{text}\""))
                .help(format!("a variable begins with a dollar sign: write `${text}`"));
            return None;
        };
        let name = String::from_utf8_lossy(name).into_owned();
        match self.variables.define(&name, source) {
            Ok(id) => Some(id),
            Err(message) => {
                self.error(word.span, message);
                None
            }
        }
    }

    /// A regular expression; what cannot be compiled is an error, and stands in the model as it was written.
    pub(super) fn regex(&mut self, text: &[u8], caseless: bool, word: Word<'a>, offset: usize) -> Regex {
        let names = if let Some(names) = self.patterns.get(text) {
            names.clone()
        } else {
            let names = self.names_of_groups(text, word, offset);
            self.patterns.insert(text.to_vec(), names.clone());
            names
        };
        let mut regex = Regex { pattern: text.to_vec(), caseless, names: Vec::new() };
        for name in names.into_iter().flatten() {
            match self.variables.define(&name, Source::Stored) {
                Ok(id) => regex.names.push((name, id)),
                Err(message) => {
                    self.error(word.span, message)
                        .help(format!("call the group something else than `{name}`"));
                }
            }
        }
        regex
    }

    fn names_of_groups(&mut self, text: &[u8], word: Word<'a>, offset: usize) -> Option<Vec<String>> {
        let wrong = match pattern::check(text) {
            Ok(names) => return Some(names),
            Err(wrong) => wrong,
        };
        let shown = beginning(text);
        let rest = match beginning(&text[wrong.offset..]) {
            rest if rest.is_empty() => String::new(),
            rest => format!(" at \"{rest}\""),
        };
        let at = within(word, offset + wrong.offset.min(text.len().saturating_sub(1)), 1);
        self.error(at, format!("pcre2_compile() failed: {} in \"{shown}\"{rest}", wrong.message));
        None
    }

    /// A path below the prefix, or as it is if it is absolute.
    pub(super) fn full_path(&self, path: &[u8]) -> PathBuf {
        self.prefix.join(Path::new(std::ffi::OsStr::from_bytes(path)))
    }
}

/// A text for a message, of which nobody reads more than a few lines.
fn beginning(text: &[u8]) -> String {
    const MOST: usize = 500;
    if text.len() <= MOST {
        return String::from_utf8_lossy(text).into_owned();
    }
    format!("{}...", String::from_utf8_lossy(&text[..MOST]))
}

/// A path with variables: one that does not begin with a slash or a variable lies below `base`.
pub(super) fn full_value(mut value: Value, base: &Path) -> Value {
    match value.0.first_mut() {
        Some(Part::Text(text)) if !text.starts_with(b"/") => {
            let path = base.join(Path::new(std::ffi::OsStr::from_bytes(text)));
            *text = path.as_os_str().as_bytes().to_vec();
        }
        Some(_) => {}
        None => {
            // An empty path is the prefix, as in nginx, with the slash that joins a name to it.
            let mut path = base.as_os_str().as_bytes().to_vec();
            path.push(b'/');
            value = Value::text(path);
        }
    }
    value
}

/// A part of a word to underline. Where the word has escapes it cannot be told which part, and it is the whole.
pub(super) fn within(word: Word<'_>, offset: usize, length: usize) -> Span {
    let quote = u32::from(word.quoted != Quoting::None);
    let span = word.span;
    if (span.end - span.start) as usize != word.value.len() + 2 * quote as usize {
        return span;
    }
    let start = span.start + quote + offset as u32;
    Span { start: start.min(span.end), end: (start + length as u32).min(span.end), ..span }
}
