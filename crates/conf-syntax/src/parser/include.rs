//! `include`: which files, and what keeps them from being read.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{OpenFile, Parser};
use crate::error::{SyntaxError, SyntaxErrorKind as Kind};
use crate::glob;
use crate::source::{FileId, Span};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Parser<'_> {
    /// Whether the directive whose words begin here is an `include`. Quotes around the name change nothing.
    pub(super) fn is_include(&self, first_word: u32) -> bool {
        self.name(first_word) == b"include"
    }

    /// Queues the files of an `include` that ended well, and forgets its words: what it includes takes its place.
    pub(super) fn include(&mut self, first_word: u32) {
        let Some(current) = self.files.last() else { return };
        let file = current.file;
        let words = &self.tree.words[first_word as usize..];
        let [name, pattern] = *words else {
            let span = Span { file, start: words[0].start, end: words[words.len() - 1].end };
            let message = "invalid number of arguments in \"include\" directive";
            let error = SyntaxError::new(Some(span), Kind::ArgumentCount, message);
            self.errors.push(error.help(if words.len() > 2 {
                "it takes one path or pattern; is a \";\" missing?"
            } else {
                "it takes one path or pattern"
            }));
            self.forget(first_word);
            return;
        };
        let value = self.tree.value(pattern, self.sources.text(file)).to_vec();
        let span = Span { file, start: pattern.start, end: pattern.end };
        if value.is_empty() {
            let span = Span { start: name.start, ..span };
            let error = SyntaxError::new(Some(span), Kind::ArgumentCount, "\"include\" has an empty path");
            self.errors.push(error);
            self.forget(first_word);
            return;
        }
        self.forget(first_word);
        // As a path, an absolute one replaces the prefix.
        let path = self.prefix.join(OsStr::from_bytes(&value));
        let paths = if glob::has_wildcard(path.as_os_str().as_bytes()) {
            match self.loader.glob(&path) {
                Ok(paths) => paths,
                Err(error) => {
                    let message = format!("glob() \"{}\" failed ({})", path.display(), words_of(&error));
                    self.errors.push(SyntaxError::new(Some(span), Kind::Unreadable, message));
                    return;
                }
            }
        } else {
            vec![path]
        };
        if let Some(current) = self.files.last_mut() {
            current.queue = paths.into_iter();
            current.include = Some(span);
        }
    }

    /// Begins to read a file that `include` names at `at`, or the main file.
    pub(super) fn open(&mut self, path: PathBuf, at: Option<Span>) {
        let known = self.sources.find(&path);
        if let Some(error) = known.and_then(|file| self.include_loop(file, at)) {
            self.errors.push(error);
            return;
        }
        if self.files.len() >= self.limits.include_depth {
            let message = format!(
                "\"{}\" is included through more than {} files",
                path.display(),
                self.limits.include_depth - 1
            );
            self.errors.push(SyntaxError::new(at, Kind::IncludeDepth, message));
            return;
        }
        self.includes += 1;
        if self.includes > self.limits.includes {
            let message = format!("more than {} files are included", self.limits.includes);
            self.stop(SyntaxError::new(at, Kind::TooLarge, message));
            return;
        }
        if let Some(file) = known {
            self.enter(file, at);
            return;
        }
        match self.loader.read(&path, self.limits.bytes - self.bytes) {
            Ok(text) => {
                let file = self.sources.add_file(path, text);
                self.enter(file, at);
            }
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => self.stop(self.too_large(at)),
            Err(error) => {
                let message = format!("open() \"{}\" failed ({})", path.display(), words_of(&error));
                let mut error_at = SyntaxError::new(at, Kind::Unreadable, message);
                if error.kind() == io::ErrorKind::IsADirectory {
                    error_at = error_at.help(format!("to include its files write \"{}/*\"", path.display()));
                }
                self.errors.push(error_at);
            }
        }
    }

    /// Begins to read a text that is in the sources.
    pub(super) fn enter(&mut self, file: FileId, at: Option<Span>) {
        let text = self.sources.text(file);
        self.bytes += text.len();
        if self.bytes > self.limits.bytes {
            self.stop(self.too_large(at));
            return;
        }
        if is_utf16(text) {
            let path = self.sources.path(file).display().to_string();
            let message = format!("\"{path}\" is UTF-16, and has to be UTF-8");
            let error = SyntaxError::new(Some(Span { file, start: 0, end: 0 }), Kind::Encoding, message);
            self.errors.push(
                error.help(format!(
                    "save it as UTF-8 in your editor, or by `iconv -f UTF-16 -t UTF-8 {path}`"
                )),
            );
            return;
        }
        let position = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        self.files.push(OpenFile {
            file,
            position,
            blocks_before: self.blocks.len(),
            suspect: None,
            queue: Vec::new().into_iter(),
            include: None,
        });
    }

    /// Shows the way from the file to itself.
    fn include_loop(&self, file: FileId, at: Option<Span>) -> Option<SyntaxError> {
        let first = self.files.iter().position(|open| open.file == file)?;
        let chain = self.files[first..].iter().map(|open| open.file).chain([file]);
        let names: Vec<_> = chain.map(|file| self.sources.path(file).display().to_string()).collect();
        let message = format!("include loop: {}", names.join(" \u{2192} "));
        Some(SyntaxError::new(at, Kind::IncludeLoop, message))
    }

    fn too_large(&self, at: Option<Span>) -> SyntaxError {
        let message =
            format!("the configuration has more than {} bytes, includes counted", self.limits.bytes);
        SyntaxError::new(at, Kind::TooLarge, message)
    }

    pub(super) fn stop(&mut self, error: SyntaxError) {
        self.errors.push(error);
        self.is_stopped = true;
    }

    fn forget(&mut self, first_word: u32) {
        let nodes = self.tree.nodes.len() as u32;
        self.tree.truncate(nodes, first_word);
    }
}

/// With its byte order mark, or begun by a letter of ASCII.
fn is_utf16(text: &[u8]) -> bool {
    matches!(
        text,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 1..=0x7f, 0, ..] | [1..=0x7f, 0, 1..=0x7f, 0, ..]
    )
}

/// As nginx shows a system's error: its number and its words.
fn words_of(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(code) => format!("{code}: {}", text.trim_end_matches(&format!(" (os error {code})"))),
        None => text,
    }
}
