//! The texts that were read, and places in them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A text in [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub(crate) u32);

/// A range of bytes in one text; `start <= end <= ` the text's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The text.
    pub file: FileId,
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

impl Span {
    /// The range as an index.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// From the beginning of this to the end of `last`, which must be of the same file and not before it.
    pub fn to(self, last: Span) -> Span {
        debug_assert!(self.file == last.file && self.start <= last.end);
        Span { end: last.end, ..self }
    }
}

/// A place as people count: both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The line.
    pub line: u32,
    /// The character in the line. A byte that is not UTF-8 counts as one.
    pub column: u32,
}

/// The lines around a span as text, for a diagnostic that shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Number of the first line, from 1.
    pub line: u32,
    /// The lines, without the last line feed; what is not UTF-8 is replaced.
    pub text: String,
    /// What the span covers in `text`.
    pub range: Range<usize>,
    /// Characters of the first line that stand before `text`, because the line is longer than any should be.
    pub cut: u32,
}

/// All texts of a run, each once, in the order in which they were first read.
#[derive(Debug, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
    by_path: HashMap<PathBuf, FileId>,
}

#[derive(Debug)]
struct SourceFile {
    path: PathBuf,
    text: Vec<u8>,
    /// Not a command line's text: `nginx -T` shows it.
    is_file: bool,
    line_starts: OnceLock<Vec<u32>>,
}

/// Bytes of an excerpt before and after the beginning of its span.
const LONGEST_SIDE: usize = 500;

impl Sources {
    /// Adds a text that is no file, such as a command line's; `title` stands where a path would.
    ///
    /// Of a text longer than 4 GiB the rest is dropped.
    pub fn add_text(&mut self, title: &str, text: Vec<u8>) -> FileId {
        self.push(PathBuf::from(title), text, false)
    }

    /// Adds a file. The path finds it again.
    pub(crate) fn add_file(&mut self, path: PathBuf, text: Vec<u8>) -> FileId {
        let id = self.push(path.clone(), text, true);
        self.by_path.insert(path, id);
        id
    }

    /// The file with this path, if it was read.
    pub fn find(&self, path: &Path) -> Option<FileId> {
        self.by_path.get(path).copied()
    }

    /// The files that were read, in that order; without texts that are no files.
    pub fn files(&self) -> impl Iterator<Item = (FileId, &Path, &[u8])> {
        let numbered = (0..).map(FileId).zip(&self.files);
        numbered.filter(|(_, f)| f.is_file).map(|(id, f)| (id, f.path.as_path(), f.text.as_slice()))
    }

    /// The path as it was opened, or the title of a text that is no file.
    pub fn path(&self, file: FileId) -> &Path {
        &self.files[file.0 as usize].path
    }

    /// The text; any bytes.
    pub fn text(&self, file: FileId) -> &[u8] {
        &self.files[file.0 as usize].text
    }

    /// The bytes of a span.
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.text(span.file)[span.range()]
    }

    /// Where a span begins.
    pub fn line_column(&self, span: Span) -> Location {
        let line = self.line_index(span.file, span.start);
        let start = self.line_starts(span.file)[line] as usize;
        let before = &self.text(span.file)[start..span.start as usize];
        Location { line: line as u32 + 1, column: characters(before) as u32 + 1 }
    }

    /// The line in which a span begins, without its line feed or CRLF.
    pub fn line_text(&self, span: Span) -> &[u8] {
        &self.text(span.file)[self.line_range(span.file, self.line_index(span.file, span.start))]
    }

    /// The lines that a span covers, at most `lines` of them (at least one), as text.
    ///
    /// Of what is longer than any line should be, only 500 bytes on each side of the span's beginning are shown.
    pub fn excerpt(&self, span: Span, lines: u32) -> Excerpt {
        let first = self.line_index(span.file, span.start);
        let last = self.line_index(span.file, span.end.saturating_sub(1).max(span.start));
        let last = last.min(first + lines.max(1) as usize - 1);
        let mut whole = self.line_range(span.file, first).start..self.line_range(span.file, last).end;
        let text = self.text(span.file);
        let start = span.range().start.min(whole.end);
        if whole.len() > 2 * LONGEST_SIDE {
            whole.start = whole.start.max(start.saturating_sub(LONGEST_SIDE));
            whole.end = whole.end.min(start + LONGEST_SIDE);
        }
        let cut = characters(&text[self.line_range(span.file, first).start..whole.start]) as u32;
        let end = span.range().end.clamp(start, whole.end);
        let mut shown = lossy(&text[whole.start..start]).into_owned();
        let from = shown.len();
        shown.push_str(&lossy(&text[start..end]));
        let to = shown.len();
        shown.push_str(&lossy(&text[end..whole.end]));
        Excerpt { line: first as u32 + 1, text: shown, range: from..to, cut }
    }

    fn push(&mut self, path: PathBuf, mut text: Vec<u8>, is_file: bool) -> FileId {
        text.truncate(u32::MAX as usize);
        text.shrink_to_fit();
        let id = FileId(self.files.len() as u32);
        self.files.push(SourceFile { path, text, is_file, line_starts: OnceLock::new() });
        id
    }

    /// Without the line feed or CRLF at the end.
    fn line_range(&self, file: FileId, line: usize) -> Range<usize> {
        let (starts, text) = (self.line_starts(file), self.text(file));
        let start = starts[line] as usize;
        let mut end = starts.get(line + 1).map_or(text.len(), |&next| next as usize - 1);
        if end > start && text[end - 1] == b'\r' {
            end -= 1;
        }
        start..end
    }

    /// From 0.
    fn line_index(&self, file: FileId, offset: u32) -> usize {
        self.line_starts(file).partition_point(|&start| start <= offset) - 1
    }

    /// Made when first asked for: most runs show no place at all.
    fn line_starts(&self, file: FileId) -> &[u32] {
        let file = &self.files[file.0 as usize];
        file.line_starts.get_or_init(|| {
            let after = memchr::memchr_iter(b'\n', &file.text).map(|at| at as u32 + 1);
            std::iter::once(0).chain(after).collect()
        })
    }
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn characters(bytes: &[u8]) -> usize {
    bytes.utf8_chunks().map(|c| c.valid().chars().count() + usize::from(!c.invalid().is_empty())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &[u8], start: u32, end: u32) -> (Sources, Span) {
        let mut sources = Sources::default();
        let file = sources.add_text("test", text.to_vec());
        (sources, Span { file, start, end })
    }

    #[test]
    fn counts_lines_and_characters_from_one() {
        let (sources, span) = at("a\nб\u{fc}x\n".as_bytes(), 6, 7);
        assert_eq!(sources.line_column(span), Location { line: 2, column: 3 });
        assert_eq!(sources.line_text(span), "б\u{fc}x".as_bytes());
        let (sources, span) = at(b"a\n\xff\xfex", 4, 4);
        assert_eq!(sources.line_column(span), Location { line: 2, column: 3 });
    }

    #[test]
    fn the_end_of_a_text_is_a_place() {
        let (sources, span) = at(b"a;\n", 3, 3);
        assert_eq!(sources.line_column(span), Location { line: 2, column: 1 });
        assert_eq!(sources.excerpt(span, 3), Excerpt { line: 2, text: String::new(), range: 0..0, cut: 0 });
        let (sources, span) = at(b"", 0, 0);
        assert_eq!(sources.line_column(span), Location { line: 1, column: 1 });
        assert_eq!(sources.line_text(span), b"");
    }

    #[test]
    fn an_excerpt_maps_the_span_into_replaced_text() {
        let (sources, span) = at(b"first\r\n\xff name\r\nlast", 9, 13);
        let excerpt = sources.excerpt(span, 1);
        assert_eq!(excerpt.line, 2);
        assert_eq!(excerpt.text, "\u{fffd} name");
        assert_eq!(&excerpt.text[excerpt.range], "name");
    }

    #[test]
    fn an_excerpt_of_a_long_span_stops_after_the_lines_asked_for() {
        let (sources, span) = at(b"server {\n  a;\n  b;\n}\n", 0, 20);
        let excerpt = sources.excerpt(span, 2);
        assert_eq!(excerpt.text, "server {\n  a;");
        assert_eq!(excerpt.range, 0..excerpt.text.len());
    }

    #[test]
    fn an_excerpt_of_a_long_line_shows_the_middle() {
        let text = [&[b'x'; 5000][..], b"here", &[b'y'; 5000]].concat();
        let (sources, span) = at(&text, 5000, 5004);
        let excerpt = sources.excerpt(span, 1);
        assert_eq!((excerpt.text.len(), excerpt.range), (1000, 500..504));
        let (sources, span) = at(&text, 0, 9000);
        assert_eq!(sources.excerpt(span, 1).range, 0..500);
        let (sources, span) = at(&[b"a\n", &text[..]].concat(), 5002, 5006);
        assert_eq!(sources.excerpt(span, 1).cut, 4500);
    }

    #[test]
    fn texts_that_are_no_files_are_not_listed() {
        let mut sources = Sources::default();
        sources.add_text("-g", b"daemon off;".to_vec());
        let id = sources.add_file("a.conf".into(), b"x;".to_vec());
        let listed: Vec<_> = sources.files().collect();
        assert_eq!(listed, [(id, Path::new("a.conf"), &b"x;"[..])]);
        assert_eq!(sources.find(Path::new("./a.conf")), None);
        assert_eq!(sources.find(Path::new("a.conf")), Some(id));
        assert_eq!(sources.find(Path::new("-g")), None);
    }
}
