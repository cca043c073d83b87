//! What was parsed: flat arrays inside, directives and blocks to look at outside.
//!
//! A directive costs 20 bytes and a word 12, whatever it says: values lie in the source text, and only those
//! with escapes have bytes of their own. The arrays are in the order of the text, a directive before what its
//! block holds, so that a directive's next sibling is a single index.

use std::fmt;

use crate::error::SyntaxError;
use crate::source::{FileId, Sources, Span};

/// The outcome of a run.
#[derive(Debug, Default)]
pub struct Parsed {
    pub(crate) tree: Tree,
    /// In the order found, each once. With errors, the directives are what could be made out.
    pub errors: Vec<SyntaxError>,
}

impl Parsed {
    /// The directives outside of all blocks, includes expanded. `sources` must be those that were parsed into.
    pub fn directives<'a>(&'a self, sources: &'a Sources) -> Directives<'a> {
        let view = View { tree: &self.tree, sources };
        Directives { view, start: 0, end: self.tree.nodes.len() as u32 }
    }
}

/// Directives that stand beside each other.
#[derive(Clone, Copy)]
pub struct Directives<'a> {
    view: View<'a>,
    start: u32,
    end: u32,
}

impl<'a> Directives<'a> {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The first.
    pub fn first(self) -> Option<Directive<'a>> {
        self.iter().next()
    }

    /// All, in order.
    pub fn iter(self) -> DirectivesIter<'a> {
        DirectivesIter(self)
    }
}

impl<'a> IntoIterator for Directives<'a> {
    type Item = Directive<'a>;
    type IntoIter = DirectivesIter<'a>;

    fn into_iter(self) -> DirectivesIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Directives<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Iterator over [`Directives`].
#[derive(Clone, Debug)]
pub struct DirectivesIter<'a>(Directives<'a>);

impl<'a> Iterator for DirectivesIter<'a> {
    type Item = Directive<'a>;

    fn next(&mut self) -> Option<Directive<'a>> {
        let Directives { view, start, .. } = self.0;
        if self.0.is_empty() {
            return None;
        }
        self.0.start = view.tree.nodes[start as usize].next;
        Some(view.directive(start))
    }
}

/// One directive.
#[derive(Debug, Clone, Copy)]
pub struct Directive<'a> {
    /// Its name. Where a block's lines are data (`types`, `map`, `geo`), the first word.
    pub name: Word<'a>,
    /// The words after the name.
    pub args: Args<'a>,
    /// What stands in braces behind it.
    pub block: Option<Block<'a>>,
    /// From the name to the `;` or `}`, these included.
    pub span: Span,
}

impl Directive<'_> {
    /// From the name to the last word before the `;` or `{`: the part to underline.
    pub fn head(&self) -> Span {
        self.args.last().map_or(self.name.span, |last| self.name.span.to(last.span))
    }
}

/// What stands in braces.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// The directives inside; none of a raw block.
    pub directives: Directives<'a>,
    /// The braces, with what is between them.
    pub span: Span,
    /// Between the braces stands another language (`…_by_lua_block`), here.
    pub raw: Option<Span>,
}

/// The words after a directive's name.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    view: View<'a>,
    file: FileId,
    start: u32,
    end: u32,
}

impl<'a> Args<'a> {
    /// How many.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The word at `index`, from 0.
    pub fn get(self, index: usize) -> Option<Word<'a>> {
        (index < self.len()).then(|| self.view.word(self.file, self.start + index as u32))
    }

    /// The first word.
    pub fn first(self) -> Option<Word<'a>> {
        self.get(0)
    }

    /// The last word.
    pub fn last(self) -> Option<Word<'a>> {
        self.get(self.len().wrapping_sub(1))
    }

    /// All words if they are exactly `N`: `let Some([from, to]) = directive.args.array()`.
    pub fn array<const N: usize>(self) -> Option<[Word<'a>; N]> {
        (self.len() == N).then(|| std::array::from_fn(|i| self.view.word(self.file, self.start + i as u32)))
    }

    /// The words from `index` on; none if there are not so many.
    pub fn skip(self, index: usize) -> Args<'a> {
        Args { start: self.start + index.min(self.len()) as u32, ..self }
    }

    /// All, in order.
    pub fn iter(self) -> ArgsIter<'a> {
        ArgsIter(self)
    }
}

impl<'a> IntoIterator for Args<'a> {
    type Item = Word<'a>;
    type IntoIter = ArgsIter<'a>;

    fn into_iter(self) -> ArgsIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Iterator over [`Args`].
#[derive(Clone, Debug)]
pub struct ArgsIter<'a>(Args<'a>);

impl<'a> Iterator for ArgsIter<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let word = self.0.first()?;
        self.0.start += 1;
        Some(word)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

impl DoubleEndedIterator for ArgsIter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let word = self.0.last()?;
        self.0.end -= 1;
        Some(word)
    }
}

impl ExactSizeIterator for ArgsIter<'_> {}

/// One word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word<'a> {
    /// Its bytes without quotes, escapes resolved. Variables are as written.
    pub value: &'a [u8],
    /// Where it stands, quotes included.
    pub span: Span,
    /// How it was quoted.
    pub quoted: Quoting,
}

impl<'a> Word<'a> {
    /// The value as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.value)
    }
}

impl fmt::Debug for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{}..{}", self.text(), self.span.start, self.span.end)
    }
}

/// How a word was quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quoting {
    /// Not at all.
    None,
    /// `'…'`.
    Single,
    /// `"…"`.
    Double,
}

/// The arrays.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    pub(crate) words: Vec<WordRecord>,
    /// Values that differ from their source text, one behind the other.
    unescaped: Vec<u8>,
    /// Where each of them ends.
    unescaped_ends: Vec<u32>,
}

/// A directive. Its words are those from `first_word` to the next node's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    pub(crate) file: FileId,
    pub(crate) first_word: u32,
    /// The node after everything in this one's block.
    pub(crate) next: u32,
    /// Offset of the `{`, or [`NO_BLOCK`].
    pub(crate) open: u32,
    /// Offset after the `;` or `}`.
    pub(crate) end: u32,
}

/// No text is that long.
pub(crate) const NO_BLOCK: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
pub(crate) struct WordRecord {
    /// Offset of the first byte, a quote if there is one.
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Index into `unescaped_ends`, or [`VERBATIM`].
    pub(crate) value: u32,
}

/// The value is the source text between the quotes.
pub(crate) const VERBATIM: u32 = u32::MAX;

impl Tree {
    /// Adds a word whose escapes are still as written in `inner`, the text between its quotes.
    pub(crate) fn push_escaped_word(&mut self, start: u32, end: u32, inner: &[u8]) {
        crate::lexer::unescape(inner, &mut self.unescaped);
        self.words.push(WordRecord { start, end, value: self.unescaped_ends.len() as u32 });
        self.unescaped_ends.push(self.unescaped.len() as u32);
    }

    /// Forgets nodes and words from these on.
    pub(crate) fn truncate(&mut self, nodes: u32, words: u32) {
        self.nodes.truncate(nodes as usize);
        self.words.truncate(words as usize);
    }

    /// The value of a word in the text it was read from.
    pub(crate) fn value<'a>(&'a self, word: WordRecord, text: &'a [u8]) -> &'a [u8] {
        if word.value == VERBATIM {
            let quote = u32::from(word.quoting(text) != Quoting::None);
            return &text[(word.start + quote) as usize..(word.end - quote) as usize];
        }
        let index = word.value as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.unescaped_ends[before]);
        &self.unescaped[start as usize..self.unescaped_ends[index] as usize]
    }
}

impl WordRecord {
    /// A quote at the beginning of a word always quotes it.
    fn quoting(self, text: &[u8]) -> Quoting {
        match text[self.start as usize] {
            b'"' => Quoting::Double,
            b'\'' => Quoting::Single,
            _ => Quoting::None,
        }
    }
}

#[derive(Clone, Copy)]
struct View<'a> {
    tree: &'a Tree,
    sources: &'a Sources,
}

impl<'a> View<'a> {
    fn directive(self, index: u32) -> Directive<'a> {
        let nodes = &self.tree.nodes;
        let node = nodes[index as usize];
        let words_end = nodes.get(index as usize + 1).map_or(self.tree.words.len() as u32, |n| n.first_word);
        let name = self.word(node.file, node.first_word);
        Directive {
            name,
            args: Args { view: self, file: node.file, start: node.first_word + 1, end: words_end },
            block: (node.open != NO_BLOCK).then(|| self.block(index, name.value)),
            span: Span { file: node.file, start: name.span.start, end: node.end },
        }
    }

    fn block(self, index: u32, name: &[u8]) -> Block<'a> {
        let Node { file, open, end, next, .. } = self.tree.nodes[index as usize];
        let span = Span { file, start: open, end };
        let text = self.sources.bytes(span);
        let inside_end = if text.len() > 1 && text.ends_with(b"}") { end - 1 } else { end };
        Block {
            directives: Directives { view: self, start: index + 1, end: next },
            span,
            raw: crate::lua::is_lua_block(name).then_some(Span { file, start: open + 1, end: inside_end }),
        }
    }

    fn word(self, file: FileId, index: u32) -> Word<'a> {
        let record = self.tree.words[index as usize];
        let text = self.sources.text(file);
        Word {
            value: self.tree.value(record, text),
            span: Span { file, start: record.start, end: record.end },
            quoted: record.quoting(text),
        }
    }
}
