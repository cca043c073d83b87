//! Arguments with their places in a text that can be shown: the command line put together again with quotes, or
//! `GUNICORN_CMD_ARGS` as it stands.

use std::ops::Range;

use crate::report::Place;

/// Arguments, and the text that shows them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Words {
    title: &'static str,
    text: String,
    list: Vec<Word>,
}

#[derive(Debug, Clone)]
struct Word {
    value: String,
    range: Range<usize>,
}

impl Words {
    /// The arguments of the process; the first is the program's name, shown but not among [`Words::values`].
    pub(crate) fn from_arguments(arguments: &[String]) -> Self {
        let mut text = String::new();
        let mut words = Vec::new();
        for (i, value) in arguments.iter().enumerate() {
            if i > 0 {
                text.push(' ');
            }
            let start = text.len();
            text.push_str(&if i == 0 { base_name(value) } else { quote(value) });
            if i > 0 {
                words.push(Word { value: value.clone(), range: start..text.len() });
            }
        }
        Self { title: "command line", text, list: words }
    }

    /// Splits as Python's `shlex.split` does.
    pub(crate) fn from_shell(text: &str) -> Result<Self, (&'static str, Place)> {
        // Places count bytes: only what keeps its length is replaced.
        let shown: String = text.chars().map(|c| if c.is_ascii_control() { ' ' } else { c }).collect();
        let title = "GUNICORN_CMD_ARGS";
        let words = split(text).map_err(|(why, range)| {
            (why, Place::new(title.to_owned(), None, Some((shown.clone(), range))))
        })?;
        Ok(Self { title, text: shown, list: words })
    }

    pub(crate) fn values(&self) -> impl ExactSizeIterator<Item = &str> {
        self.list.iter().map(|w| w.value.as_str())
    }

    /// The place of a word in the text, or of a part of it where the word stands there letter by letter.
    pub(crate) fn range(&self, word: usize, part: Option<Range<usize>>) -> Range<usize> {
        let Some(w) = self.list.get(word) else { return self.text.len()..self.text.len() };
        match part {
            Some(part) if self.text.get(w.range.clone()) == Some(w.value.as_str()) => {
                w.range.start + part.start..w.range.start + part.end
            }
            _ => w.range.clone(),
        }
    }

    pub(crate) fn place(&self, range: Range<usize>) -> Place {
        Place::new(self.title.to_owned(), None, Some((self.text.clone(), range)))
    }

    /// The place where a missing word would stand.
    pub(crate) fn end(&self) -> Place {
        self.place(self.text.len()..self.text.len())
    }
}

fn base_name(program: &str) -> String {
    quote(program.rsplit('/').next().unwrap_or(program))
}

/// As a POSIX shell would need it. Control characters are shown as escapes, which is for reading only.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "@%+=:,./-_[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut quoted = String::from("'");
    for c in word.chars() {
        match c {
            '\'' => quoted.push_str(r"'\''"),
            c if c.is_control() => quoted.extend(c.escape_default()),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

fn split(text: &str) -> Result<Vec<Word>, (&'static str, Range<usize>)> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if matches!(c, ' ' | '\t' | '\r' | '\n') {
            words.extend(word.take());
            continue;
        }
        let current = word.get_or_insert(Word { value: String::new(), range: at..at });
        match c {
            '\'' | '"' => {
                let mut closed = false;
                while let Some((_, inner)) = chars.next() {
                    if inner == c {
                        closed = true;
                        break;
                    }
                    if c == '"' && inner == '\\' {
                        match chars.next() {
                            Some((_, escaped @ ('"' | '\\'))) => current.value.push(escaped),
                            Some((_, other)) => current.value.extend(['\\', other]),
                            None => break,
                        }
                    } else {
                        current.value.push(inner);
                    }
                }
                if !closed {
                    return Err(("a quote is not closed", at..text.len()));
                }
            }
            '\\' => match chars.next() {
                Some((_, escaped)) => current.value.push(escaped),
                None => return Err(("nothing follows the backslash", at..text.len())),
            },
            c => current.value.push(c),
        }
        current.range.end = chars.clone().next().map_or(text.len(), |(next, _)| next);
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_split_as_python_splits_it() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            (" -w 4\t-b ':80 81' ", &["-w", "4", "-b", ":80 81"]),
            (r#"a"b \" \n"'c\' d\ e ''"#, &[r#"ab " \nc\"#, "d e", ""]),
        ];
        for (text, expected) in cases {
            let words = Words::from_shell(text).unwrap();
            assert_eq!(words.values().collect::<Vec<_>>(), *expected, "{text}");
        }
        assert!(Words::from_shell("-w '4").is_err());
        assert!(Words::from_shell("-w \\").is_err());
        let words = Words::from_shell("--a 'b c'").unwrap();
        assert_eq!(words.range(1, Some(0..1)), 4..9);
        assert_eq!(words.range(0, Some(2..3)), 2..3);
    }
}
