//! Splits arguments into settings, as Python's argparse does for gunicorn: long flags may be shortened while they
//! stay unique, short ones may be joined, and every mistake is reported, not only the first.

use std::ops::Range;

use super::nearest::nearest;
use super::settings::{self, Kind};
use super::words::Words;
use crate::report::Diagnostic;

/// A flag that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// Its place in [`settings::all`].
    pub(crate) setting: usize,
    /// Its full name.
    pub(crate) flag: &'static str,
    /// Its value; `None` for a flag that takes none, or was given without.
    pub(crate) value: Option<String>,
    /// What to underline: the value, or the flag.
    pub(crate) range: Range<usize>,
}

/// What the arguments say.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) given: Vec<Given>,
    /// What is no flag, with its place.
    pub(crate) positional: Vec<(String, Range<usize>)>,
    pub(crate) help: bool,
    pub(crate) version: bool,
    pub(crate) errors: Vec<Diagnostic>,
}

pub(crate) fn read(words: &Words) -> Arguments {
    let list: Vec<&str> = words.values().collect();
    let mut reader = Reader { words, list: &list, at: 0, result: Arguments::default() };
    reader.run();
    reader.result
}

struct Reader<'a> {
    words: &'a Words,
    list: &'a [&'a str],
    at: usize,
    result: Arguments,
}

impl<'a> Reader<'a> {
    fn run(&mut self) {
        while let Some(word) = self.list.get(self.at).copied() {
            let here = self.at;
            self.at += 1;
            if word == "--" {
                while let Some(rest) = self.list.get(self.at) {
                    let range = self.words.range(self.at, None);
                    self.result.positional.push(((*rest).to_owned(), range));
                    self.at += 1;
                }
            } else if !looks_like_flag(word) {
                self.result.positional.push((word.to_owned(), self.words.range(here, None)));
            } else if word.starts_with("--") {
                self.long(here, word);
            } else {
                self.short(here, word);
            }
        }
    }

    fn long(&mut self, here: usize, word: &'a str) {
        let (name, value) = match word.split_once('=') {
            Some((n, v)) => (n, Some((v, n.len() + 1..word.len()))),
            None => (word, None),
        };
        let name_range = self.words.range(here, Some(0..name.len()));
        match find_long(name) {
            Found::Help => self.result.help = true,
            Found::Version => self.result.version = true,
            Found::Setting(setting, flag) => self.give(setting, flag, value, here, name_range),
            Found::Ambiguous(all) => {
                let message = format!("`{name}` could be {}", all.join(" or "));
                self.error(message, name_range, Some("write the flag out".to_owned()));
                self.skip_value(value.is_some());
            }
            Found::Unknown => {
                self.unknown(name, name_range);
                self.skip_value(value.is_some());
            }
        }
    }

    /// What follows an unknown flag is most likely its value: no second error for it.
    fn skip_value(&mut self, has_value: bool) {
        if !has_value && self.list.get(self.at).is_some_and(|next| !looks_like_flag(next)) {
            self.at += 1;
        }
    }

    fn short(&mut self, here: usize, word: &'a str) {
        let mut chars = word.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            let end = at + c.len_utf8();
            let range = self.words.range(here, Some(if at == 1 { 0..end } else { at..end }));
            if c == 'h' {
                self.result.help = true;
                continue;
            }
            if c == 'v' {
                self.result.version = true;
                continue;
            }
            let Some((setting, flag)) = find_short(c) else {
                let name = if at == 1 { format!("-{c}") } else { format!("-{c} (in `{word}`)") };
                self.unknown(&name, range);
                return;
            };
            if settings::all()[setting].kind.takes_value() {
                let value = chars.peek().map(|_| {
                    let start = if word[end..].starts_with('=') { end + 1 } else { end };
                    (&word[start..], start..word.len())
                });
                self.give(setting, flag, value, here, range);
                return;
            }
            self.give(setting, flag, None, here, range);
        }
    }

    /// Records a flag, taking its value from the next word where it needs one.
    fn give(
        &mut self,
        setting: usize,
        flag: &'static str,
        attached: Option<(&'a str, Range<usize>)>,
        here: usize,
        name_range: Range<usize>,
    ) {
        let kind = settings::all()[setting].kind;
        let (value, range) = match attached {
            Some((_, part)) if !kind.takes_value() => {
                let range = self.words.range(here, Some(part));
                return self.error(format!("`{flag}` takes no value"), range, None);
            }
            Some((value, part)) => (Some(value.to_owned()), self.words.range(here, Some(part))),
            None if !kind.takes_value() => (None, name_range),
            None => match self.list.get(self.at).copied().filter(|next| !looks_like_flag(next)) {
                Some(next) => {
                    self.at += 1;
                    (Some(next.to_owned()), self.words.range(self.at - 1, None))
                }
                None if matches!(kind, Kind::OptionalWord(_)) => (None, name_range),
                None => {
                    let meta = settings::all()[setting].meta;
                    let help = self.list.get(self.at).filter(|next| **next != "--").map_or_else(
                        || format!("write `{flag} {meta}`"),
                        |next| format!("write `{flag}={next}` if `{next}` is the value"),
                    );
                    return self.error(format!("`{flag}` needs a value"), name_range, Some(help));
                }
            },
        };
        self.result.given.push(Given { setting, flag, value, range });
    }

    fn unknown(&mut self, name: &str, range: Range<usize>) {
        let flags =
            settings::all().iter().flat_map(|s| s.flags.iter().copied()).filter(|f| f.starts_with("--"));
        let flags = flags.chain(["--help", "--version"]);
        let near = if name.starts_with("--") { nearest_flag(name, flags) } else { None };
        let help =
            near.map_or_else(|| "see `--help` for all flags".to_owned(), |n| format!("did you mean `{n}`?"));
        self.error(format!("there is no flag `{name}`"), range, Some(help));
    }

    fn error(&mut self, message: String, range: Range<usize>, help: Option<String>) {
        let place = self.words.place(range);
        self.result.errors.push(Diagnostic::error(message).at(Some(place)).help(help));
    }
}

/// A flag that is near by letters, or the settings-file spelling of one: `--keepalive`, `--access_logfile`.
fn nearest_flag<'a>(name: &str, flags: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let bare = name.trim_start_matches('-').replace('-', "_");
    if let Some((_, setting)) = settings::find(&bare)
        && let Some(flag) = setting.long_flag()
    {
        return Some(flag);
    }
    nearest(name, flags)
}

/// argparse's rule: a dash alone, a negative number and a word with spaces are values.
fn looks_like_flag(word: &str) -> bool {
    match word.strip_prefix('-') {
        None | Some("") => false,
        Some(rest) => {
            let number = rest.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            !number && (!word.contains(' ') || is_flag_with_value(word))
        }
    }
}

/// `--name=some text` is a flag although it has spaces.
fn is_flag_with_value(word: &str) -> bool {
    match word.split_once('=') {
        Some((name, _)) => !name.contains(' ') && !matches!(find_long(name), Found::Unknown),
        None => word.chars().nth(1).is_some_and(|c| c != '-' && find_short(c).is_some()),
    }
}

enum Found {
    Setting(usize, &'static str),
    Ambiguous(Vec<String>),
    Help,
    Version,
    Unknown,
}

fn find_long(name: &str) -> Found {
    let flags = || {
        let own = settings::all().iter().enumerate();
        own.flat_map(|(i, s)| s.flags.iter().map(move |f| (i, *f))).filter(|(_, f)| f.starts_with("--"))
    };
    if let Some((i, flag)) = flags().find(|(_, f)| *f == name) {
        return Found::Setting(i, flag);
    }
    if !name.starts_with("--") {
        return name
            .chars()
            .nth(1)
            .and_then(find_short)
            .map_or(Found::Unknown, |(i, flag)| Found::Setting(i, flag));
    }
    match name {
        "--" => return Found::Unknown,
        "--help" => return Found::Help,
        "--version" => return Found::Version,
        _ => {}
    }
    let mut candidates: Vec<(Option<usize>, &'static str)> =
        flags().filter(|(_, f)| f.starts_with(name)).map(|(i, f)| (Some(i), f)).collect();
    for own in ["--help", "--version"] {
        if own.starts_with(name) {
            candidates.push((None, own));
        }
    }
    // A script that shortens one of gunicorn's flags goes on working whatever flags are added here.
    let is_gunicorns = |i: Option<usize>| i.is_none_or(|i| !settings::all()[i].ours);
    if candidates.iter().any(|(i, _)| is_gunicorns(*i)) {
        candidates.retain(|(i, _)| is_gunicorns(*i));
    }
    match candidates.as_slice() {
        [] => Found::Unknown,
        [(None, "--help")] => Found::Help,
        [(None, _)] => Found::Version,
        // Two names of one setting are not ambiguous.
        [(Some(i), flag), rest @ ..] if rest.iter().all(|(j, _)| *j == Some(*i)) => Found::Setting(*i, flag),
        several => Found::Ambiguous(several.iter().map(|(_, f)| format!("`{f}`")).collect()),
    }
}

fn find_short(c: char) -> Option<(usize, &'static str)> {
    settings::all().iter().enumerate().find_map(|(i, s)| {
        let flag = s.flags.iter().find(|f| {
            let mut chars = f.chars();
            chars.next() == Some('-') && chars.next() == Some(c) && chars.next().is_none()
        })?;
        Some((i, *flag))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(list: &[&str]) -> Arguments {
        let list: Vec<String> = std::iter::once("x").chain(list.iter().copied()).map(str::to_owned).collect();
        read(&Words::from_arguments(&list))
    }

    fn shown(list: &[&str]) -> String {
        let a = arguments(list);
        let mut parts: Vec<String> = a.errors.iter().map(|e| format!("!{}", e.message)).collect();
        parts.extend(a.given.iter().map(|g| match &g.value {
            Some(v) => format!("{}={v}", g.flag),
            None => g.flag.to_owned(),
        }));
        parts.extend(a.positional.iter().map(|(p, _)| p.clone()));
        parts.join(" ")
    }

    #[test]
    fn flags_are_read_as_argparse_reads_them() {
        for (list, expected) in [
            (&["-w", "4", "app"][..], "-w=4 app"),
            (&["-w4", "--workers=5", "-w=6"], "-w=4 --workers=5 -w=6"),
            (&["-DRw2"], "-D -R -w=2"),
            (&["--worker-cl", "sync"], "--worker-class=sync"),
            (&["--error-logfile", "-", "-"], "--error-logfile=- -"),
            (&["--timeout", "-1"], "--timeout=-1"),
            (&["--access-logformat", "-x y"], "--access-logformat=-x y"),
            (&["--access-logformat=-x y"], "--access-logformat=-x y"),
            (&["--proxy-protocol", "--reload"], "--proxy-protocol --reload"),
            (&["--", "-w"], "-w"),
            (&["-b"], "!`-b` needs a value"),
            (&["--reload=1"], "!`--reload` takes no value"),
            (&["--max-requests-j", "1"], "--max-requests-jitter=1"),
            (&["--wrkers", "1", "a"], "!there is no flag `--wrkers` a"),
            (&["--keepalive", "1", "--keep=2"], "--keepalive-timeout=1 --keep-alive=2"),
            (&["--max-w", "1k"], "--max-worker-rss=1k"),
            (&["-Dq", "-zé"], "!there is no flag `-q (in `-Dq`)` !there is no flag `-z` -D"),
            (&["--threads"], "!`--threads` needs a value"),
        ] {
            assert_eq!(shown(list), expected, "{list:?}");
        }
        assert!(shown(&["--work", "1"]).starts_with("!`--work` could be `--workers` or"));
        assert!(arguments(&["--hel"]).help && arguments(&["-v"]).version);
    }
}
