//! Puts directives together, opens and closes blocks, and reads what is included in their midst.
//!
//! Nothing here calls itself: open files and open blocks are two stacks, so that no text exhausts the program's.

mod directive;
mod include;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use self::directive::Ending;
use crate::error::{SyntaxError, SyntaxErrorKind as Kind};
use crate::loader::Loader;
use crate::lua::{self, NoEnd};
use crate::source::{FileId, Sources, Span};
use crate::tree::{NO_BLOCK, Node, Parsed, Tree};

/// What a run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all texts, one that is included twice counted twice; 256 MiB. At most 1 GiB is used.
    pub bytes: usize,
    /// Words of all directives together, their names counted; 24 million.
    pub words: usize,
    /// Files opened by `include`, each time counted; 1,000,000.
    pub includes: usize,
    /// Files open within each other; 64.
    pub include_depth: usize,
    /// Blocks open within each other; 512.
    pub depth: usize,
    /// Bytes of a word as written, with quotes and escapes; 1 MiB.
    pub word: usize,
    /// Errors after which the rest is not read; 100.
    pub errors: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            words: 24_000_000,
            includes: 1_000_000,
            include_depth: 64,
            depth: 512,
            word: 1 << 20,
            errors: 100,
        }
    }
}

/// Reads `main` and all that it includes, and adds the texts to `sources`.
///
/// Relative includes are looked for beside `main`, wherever they stand, as in nginx.
pub fn parse(sources: &mut Sources, main: &Path, loader: &mut dyn Loader) -> Parsed {
    parse_with_limits(sources, main, loader, Limits::default())
}

/// As [`parse`], with limits of one's own.
pub fn parse_with_limits(
    sources: &mut Sources,
    main: &Path,
    loader: &mut dyn Loader,
    limits: Limits,
) -> Parsed {
    let mut parser = Parser::new(sources, main, loader, limits);
    parser.open(main.to_owned(), None);
    parser.run()
}

/// Reads directives that stand in `text`, the value of `-g`: no blocks. Includes are relative to `main`.
pub fn parse_option(sources: &mut Sources, text: &[u8], main: &Path, loader: &mut dyn Loader) -> Parsed {
    let file = sources.add_text("-g", text.to_vec());
    let mut parser = Parser::new(sources, main, loader, Limits::default());
    parser.option = Some(file);
    parser.enter(file, None);
    parser.run()
}

struct Parser<'a> {
    sources: &'a mut Sources,
    loader: &'a mut dyn Loader,
    limits: Limits,
    /// Directory of the main file, for relative includes.
    prefix: PathBuf,
    /// The text that is no file but an option.
    option: Option<FileId>,
    tree: Tree,
    errors: Errors,
    files: Vec<OpenFile>,
    blocks: Vec<OpenBlock>,
    bytes: usize,
    includes: usize,
    is_stopped: bool,
}

/// A file that is being read.
struct OpenFile {
    file: FileId,
    position: usize,
    /// How many blocks were open when it was opened; it may close only its own.
    blocks_before: usize,
    /// The first block whose `}` stands further left than the block itself: the one that most likely lacks its own.
    suspect: Option<Span>,
    /// What an `include` in it still has to read, and where that stands.
    queue: std::vec::IntoIter<PathBuf>,
    include: Option<Span>,
}

/// A block whose `}` has not come yet.
struct OpenBlock {
    /// From the directive's name to the `{`.
    head: Span,
    /// Its directive's index, and how many words there were before it.
    node: u32,
    first_word: u32,
    /// It has no name, or its directive cannot have a block: the error was told and nothing in it counts.
    is_void: bool,
}

/// Errors, each once: a file that is included many times has its errors once.
struct Errors {
    list: Vec<SyntaxError>,
    seen: HashSet<(Option<Span>, Kind)>,
    limit: usize,
}

impl Errors {
    /// Beyond the limit nothing is kept.
    fn push(&mut self, error: SyntaxError) {
        if !self.is_full() && self.seen.insert((error.span, error.kind)) {
            self.list.push(error);
        }
    }

    fn is_full(&self) -> bool {
        self.list.len() >= self.limit
    }
}

impl<'a> Parser<'a> {
    fn new(sources: &'a mut Sources, main: &Path, loader: &'a mut dyn Loader, limits: Limits) -> Self {
        let limits = Limits { bytes: limits.bytes.min(1 << 30), ..limits };
        Self {
            sources,
            loader,
            limits,
            prefix: main.parent().map(Path::to_owned).unwrap_or_default(),
            option: None,
            tree: Tree::default(),
            errors: Errors { list: Vec::new(), seen: HashSet::new(), limit: limits.errors },
            files: Vec::new(),
            blocks: Vec::new(),
            bytes: 0,
            includes: 0,
            is_stopped: false,
        }
    }

    fn run(mut self) -> Parsed {
        while let Some(file) = self.files.last_mut() {
            if self.is_stopped {
                break;
            }
            if let Some(path) = file.queue.next() {
                let at = file.include;
                self.open(path, at);
            } else {
                self.step();
            }
            self.is_stopped |= self.errors.is_full();
        }
        if self.errors.is_full() {
            let message = "too many errors, the rest is not read";
            self.errors.list.push(SyntaxError::new(None, Kind::TooManyErrors, message));
        }
        // Each file's blocks end in that file.
        while !self.files.is_empty() {
            self.leave_file(self.tree.words.len() as u32);
        }
        Parsed { tree: self.tree, errors: self.errors.list }
    }

    /// One directive, or one brace.
    fn step(&mut self) {
        let first_word = self.tree.words.len() as u32;
        if self.tree.words.len() > self.limits.words {
            let at = self.files.last().map(|current| Span {
                file: current.file,
                start: current.position as u32,
                end: current.position as u32,
            });
            let message = format!("the configuration has more than {} words", self.limits.words);
            self.stop(SyntaxError::new(at, Kind::TooLarge, message));
            return;
        }
        match self.read_directive() {
            Ending::Semicolon => {
                if self.is_include(first_word) {
                    self.include(first_word);
                } else {
                    self.push_directive(first_word, NO_BLOCK);
                }
            }
            Ending::Open => self.open_block(first_word, false),
            Ending::VoidOpen => self.open_block(first_word, true),
            Ending::CutOff => {
                let index = self.push_directive(first_word, NO_BLOCK);
                if let (Some(node), Some(last)) =
                    (self.tree.nodes.get_mut(index as usize), self.tree.words.last())
                {
                    node.end = last.end;
                }
                self.close_block();
            }
            Ending::Close => self.close_block(),
            Ending::File => self.close_file(),
            Ending::Lost => self.leave_file(first_word),
        }
    }

    /// Adds the directive whose words begin at `first_word`; the block that follows it begins at `open`.
    fn push_directive(&mut self, first_word: u32, open: u32) -> u32 {
        let index = self.tree.nodes.len() as u32;
        if let Some(current) = self.files.last() {
            let file = current.file;
            let end = current.position as u32;
            self.tree.nodes.push(Node { file, first_word, next: index + 1, open, end });
        }
        index
    }

    fn open_block(&mut self, first_word: u32, is_nameless: bool) {
        let Some(current) = self.files.last() else { return };
        let (file, after) = (current.file, current.position as u32);
        let words = &self.tree.words[first_word as usize..];
        let start = words.first().map_or(after - 1, |name| name.start);
        let words_end = words.last().map_or(after, |last| last.end);
        let head = Span { file, start, end: after };
        if self.option == Some(file) {
            self.errors.push(SyntaxError::new(
                Some(head),
                Kind::BlockInOption,
                "block directives are not supported in -g option",
            ));
            self.leave_file(first_word);
            return;
        }
        if self.blocks.len() >= self.limits.depth {
            let message = format!("blocks are nested more than {} deep", self.limits.depth);
            self.errors.push(SyntaxError::new(Some(head), Kind::TooDeep, message));
            self.leave_file(first_word);
            return;
        }
        let is_include = !is_nameless && self.is_include(first_word);
        if is_include {
            let message = "directive \"include\" is not terminated by \";\"";
            let at = Span { end: words_end, ..head };
            self.errors.push(SyntaxError::new(Some(at), Kind::NotTerminated, message));
        }
        let is_void = is_nameless || is_include;
        let node =
            if is_void { self.tree.nodes.len() as u32 } else { self.push_directive(first_word, after - 1) };
        self.blocks.push(OpenBlock { head, node, first_word, is_void });
        if !is_void && lua::is_lua_block(self.name(first_word)) {
            self.skip_lua(after as usize);
        }
    }

    /// Leaves the closing brace to be read as any other.
    fn skip_lua(&mut self, start: usize) {
        let Some(current) = self.files.last_mut() else { return };
        let (file, text) = (current.file, self.sources.text(current.file));
        match lua::find_end(text, start) {
            Ok(end) => current.position = end,
            Err(NoEnd::Brace) => current.position = text.len(),
            Err(NoEnd::LongBracket { start, level }) => {
                current.position = text.len();
                let bracket = Span { file, start: start as u32, end: (start + level + 2) as u32 };
                let closing = format!("]{}]", "=".repeat(level));
                let message = format!("Lua code block missing the closing long bracket \"{closing}\"");
                self.errors.push(SyntaxError::new(Some(bracket), Kind::EndOfFile, message));
                let words = self.tree.words.len() as u32;
                self.leave_file(words);
            }
        }
    }

    /// A `}` was read.
    fn close_block(&mut self) {
        let Some(current) = self.files.last() else { return };
        let (file, after) = (current.file, current.position as u32);
        if self.blocks.len() <= current.blocks_before {
            let error = unexpected("}", Span { file, start: after - 1, end: after });
            let is_within = !self.blocks.is_empty();
            self.errors.push(error.help(if is_within {
                "this file opened no block that it could close; a file cannot close a block of another"
            } else {
                "no block is open here"
            }));
            return;
        }
        self.suspect_block(after as usize - 1);
        self.close_blocks(self.blocks.len() - 1, after);
    }

    /// Notes the innermost block if the brace that closes it, at `brace`, is indented less.
    fn suspect_block(&mut self, brace: usize) {
        let (Some(current), Some(block)) = (self.files.last_mut(), self.blocks.last()) else { return };
        if current.suspect.is_some() {
            return;
        }
        let text = self.sources.text(current.file);
        let indents = (indent(text, block.head.range().start), indent(text, brace));
        if let (Some(opened), Some(closed)) = indents
            && closed < opened
        {
            current.suspect = Some(block.head);
        }
    }

    /// Closes all blocks but the first `keep`; what they hold ends at `end`.
    fn close_blocks(&mut self, keep: usize, end: u32) {
        for block in self.blocks.drain(keep..).rev() {
            if block.is_void {
                self.tree.truncate(block.node, block.first_word);
                continue;
            }
            let next = self.tree.nodes.len() as u32;
            if let Some(node) = self.tree.nodes.get_mut(block.node as usize) {
                (node.next, node.end) = (next, end);
            }
        }
    }

    /// The text of the current file is over and the last directive had ended.
    fn close_file(&mut self) {
        let Some(current) = self.files.last() else { return };
        if let Some(block) = self.blocks[current.blocks_before..].last() {
            let at = self.end_of_text();
            let at = Span { file: current.file, start: at, end: at };
            let error =
                SyntaxError::new(Some(at), Kind::EndOfFile, "unexpected end of file, expecting \"}\"");
            self.errors.push(match current.suspect {
                Some(suspect) => error
                    .help("by the indentation, it is the block shown that lacks its \"}\"")
                    .related(suspect, "this block"),
                None => error.help("the block has no closing brace").related(block.head, "this block"),
            });
        }
        let words = self.tree.words.len() as u32;
        self.leave_file(words);
    }

    /// Goes back to the file that included this one; what this one left open is closed, words that belong to
    /// nothing are forgotten.
    fn leave_file(&mut self, first_word: u32) {
        let nodes = self.tree.nodes.len() as u32;
        self.tree.truncate(nodes, first_word);
        let end = self.end_of_text();
        if let Some(current) = self.files.pop() {
            self.close_blocks(current.blocks_before, end);
        }
    }

    fn end_of_text(&self) -> u32 {
        self.files.last().map_or(0, |current| self.sources.text(current.file).len() as u32)
    }

    /// The value of a word of the current file.
    fn name(&self, word: u32) -> &[u8] {
        let (Some(current), Some(&word)) = (self.files.last(), self.tree.words.get(word as usize)) else {
            return b"";
        };
        self.tree.value(word, self.sources.text(current.file))
    }
}

fn unexpected(what: &str, span: Span) -> SyntaxError {
    SyntaxError::new(Some(span), Kind::Unexpected, format!("unexpected \"{what}\""))
}

/// How many blanks stand before `at` if nothing else does in its line.
fn indent(text: &[u8], at: usize) -> Option<usize> {
    let blanks = text[..at].iter().rev().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let begins_line = matches!(text[..at - blanks].last(), None | Some(b'\n'));
    begins_line.then_some(blanks)
}
