//! One directive: its words, and how it ends.

use super::{Parser, unexpected};
use crate::error::{SyntaxError, SyntaxErrorKind as Kind};
use crate::invisible::lookalike;
use crate::lexer::{Lexer, Token};
use crate::lua;
use crate::source::Span;
use crate::tree::{Tree, VERBATIM, WordRecord};

/// How a directive ended.
pub(super) enum Ending {
    Semicolon,
    Open,
    /// A `{` without a name before it.
    VoidOpen,
    Close,
    /// A `}` where a `;` should have been.
    CutOff,
    File,
    /// Nothing more can be made out in this file.
    Lost,
}

impl Parser<'_> {
    /// Reads words until something ends them. Words that ended well are in the tree.
    pub(super) fn read_directive(&mut self) -> Ending {
        let Some(open) = self.files.last_mut() else { return Ending::File };
        let (file, text) = (open.file, self.sources.text(open.file));
        let first_word = self.tree.words.len();
        let mut lexer = Lexer::new(text, open.position, self.limits.word);
        let span = |start: usize, end: usize| Span { file, start: start as u32, end: end as u32 };
        let pending = |tree: &Tree| {
            let (first, last) = (tree.words.get(first_word)?, tree.words.last()?);
            Some((span(first.start as usize, last.end as usize), shortened(tree.value(*first, text))))
        };
        let end_message = if self.option == Some(file) {
            "unexpected end of parameter, expecting \";\""
        } else {
            "unexpected end of file, expecting \";\" or \"}\""
        };
        let ending = loop {
            if self.errors.is_full() {
                break Ending::Lost;
            }
            let mut token = lexer.next();
            if let Token::Word { start, end, .. } = token
                && !matches!(text[start], b'"' | b'\'')
                && text.get(end) == Some(&b'{')
                && !holds_data(
                    self.tree
                        .words
                        .get(first_word)
                        .map_or(&text[start..end], |&name| self.tree.value(name, text)),
                )
                && let Some(word @ Token::Word { end: whole_end, .. }) = lexer.braces_within(start)
            {
                token = word;
                let is_condition =
                    self.tree.words.get(first_word).is_some_and(|&name| self.tree.value(name, text) == b"if");
                let help = quote_it(&text[start..whole_end], is_condition);
                self.errors.push(unexpected("{", span(start, whole_end)).help(help));
            }
            let at = lexer.position;
            match token {
                Token::Word { start, end, escaped } => {
                    if escaped {
                        let quoted = usize::from(matches!(text[start], b'"' | b'\''));
                        let inner = &text[start + quoted..end - quoted];
                        self.tree.push_escaped_word(start as u32, end as u32, inner);
                    } else {
                        let word = WordRecord { start: start as u32, end: end as u32, value: VERBATIM };
                        self.tree.words.push(word);
                    }
                }
                Token::Semicolon if self.tree.words.len() > first_word => break Ending::Semicolon,
                Token::Semicolon => self
                    .errors
                    .push(unexpected(";", span(at - 1, at)).help("no directive stands before it; remove it")),
                Token::Open if self.tree.words.len() > first_word => {
                    let Some(end) = json_end(text, at - 1) else { break Ending::Open };
                    // As `return 200 {"status":"ok"};`: nothing that nginx takes looks so.
                    let word = span(at - 1, end);
                    let help = quote_it(&text[word.range()], false);
                    self.errors.push(unexpected("{", word).help(help));
                    let (start, end) = (word.start, word.end);
                    self.tree.words.push(WordRecord { start, end, value: VERBATIM });
                    lexer.position = end as usize;
                }
                Token::Open => {
                    self.errors.push(
                        unexpected("{", span(at - 1, at)).help("a block begins with its directive's name"),
                    );
                    break Ending::VoidOpen;
                }
                Token::Close => {
                    let Some((before, name)) = pending(&self.tree) else { break Ending::Close };
                    self.errors.push(
                        unexpected("}", span(at - 1, at))
                            .help(format!("directive \"{name}\" is not terminated by \";\""))
                            .related(before, "this directive"),
                    );
                    break Ending::CutOff;
                }
                Token::NoSpace => {
                    let length = character_length(&text[at..]);
                    let what = String::from_utf8_lossy(&text[at..at + length]);
                    let mut error = unexpected(&what, span(at, at + length));
                    if let Some(odd) = lookalike(&text[at..at + length]) {
                        error = error.help(odd.help());
                    } else if let Some(&word) = self.tree.words.last() {
                        error = after_quote(error, span(word.start as usize, word.end as usize), text);
                    }
                    self.errors.push(error);
                }
                Token::End => {
                    let Some((before, name)) = pending(&self.tree) else { break Ending::File };
                    self.errors.push(
                        SyntaxError::new(Some(span(at, at)), Kind::EndOfFile, end_message)
                            .help(format!("directive \"{name}\" is not terminated by \";\""))
                            .related(before, "this directive"),
                    );
                    break Ending::Lost;
                }
                Token::Unterminated { start, quote } => {
                    let quote = char::from(quote);
                    self.errors.push(
                        SyntaxError::new(Some(span(at, at)), Kind::EndOfFile, end_message)
                            .help(format!("the quote {quote} is never closed"))
                            .related(span(start, start + 1), "this quote"),
                    );
                    break Ending::Lost;
                }
                Token::TooLong { start, quote } => {
                    self.errors.push(too_long(quote, span(start, (start + 10).min(at)), text));
                    break Ending::Lost;
                }
            }
        };
        open.position = lexer.position;
        ending
    }
}

/// A longer object of JSON is none that somebody has forgotten to quote, and would be looked through again for each
/// block that begins in it.
const LONGEST_OBJECT: usize = 4096;

/// Where an object of JSON ends that begins at `start` with a brace, a quoted name and a colon directly behind it.
fn json_end(text: &[u8], start: usize) -> Option<usize> {
    let inside = text[start + 1..].trim_ascii_start();
    let name = inside.strip_prefix(b"\"").or_else(|| inside.strip_prefix(b"\\\""))?;
    let letters =
        name.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'$')).count();
    let rest = &name[letters..];
    if letters == 0 || !(rest.starts_with(b"\":") || rest.starts_with(b"\\\":")) {
        return None;
    }
    let mut depth = 0_usize;
    for (at, byte) in text.iter().enumerate().skip(start).take(LONGEST_OBJECT) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(at + 1),
            b'}' => depth -= 1,
            b';' => return None,
            _ => {}
        }
    }
    None
}

/// Whether the first word of a directive's block may be anything, so that a brace may stand in it.
fn holds_data(name: &[u8]) -> bool {
    matches!(name, b"map" | b"geo" | b"types" | b"split_clients" | b"charset_map") || lua::is_lua_block(name)
}

/// How to write a word with braces in it.
fn quote_it(word: &[u8], is_condition: bool) -> String {
    // The condition's own parenthesis stays behind the quote.
    let count = |wanted: u8| memchr::memchr_iter(wanted, word).count();
    let (word, behind) = match word.strip_suffix(b")") {
        Some(inner) if is_condition && count(b')') > count(b'(') => (inner, ")"),
        _ => (word, ""),
    };
    if word.contains(&b'"') && word.contains(&b'\'') {
        return "outside of quotes a \"{\" begins a block; put all of it into quotes, with a \"\\\" before those in it"
            .to_owned();
    }
    let quote = if word.contains(&b'"') { '\'' } else { '"' };
    let word = shortened(word);
    format!("outside of quotes a \"{{\" begins a block; quote it: {quote}{word}{quote}{behind}")
}

/// Says what may have gone wrong with the quoted word before an unexpected byte.
fn after_quote(error: SyntaxError, word: Span, text: &[u8]) -> SyntaxError {
    if text[word.range()].contains(&b'\n') {
        return error
            .help("the quoted word before it goes over several lines: is its closing quote missing?")
            .related(word, "this word");
    }
    error.help(
        "a quoted word ends with its closing quote: put a space behind it, or all of it into the quotes",
    )
}

fn too_long(quote: Option<u8>, span: Span, text: &[u8]) -> SyntaxError {
    let message = if let Some(quote) = quote {
        let quote = char::from(quote);
        format!("too long parameter, probably missing terminating \"{quote}\" character")
    } else {
        let beginning = String::from_utf8_lossy(&text[span.range()]);
        format!("too long parameter \"{beginning}...\" started")
    };
    SyntaxError::new(Some(span), Kind::TooLongParameter, message)
}

/// A name for a message: whole if it could be one.
fn shortened(name: &[u8]) -> String {
    const LONGEST: usize = 80;
    if name.len() <= LONGEST {
        return String::from_utf8_lossy(name).into_owned();
    }
    format!("{}...", String::from_utf8_lossy(&name[..LONGEST]))
}

/// Bytes of the first character, one if it is not UTF-8.
fn character_length(text: &[u8]) -> usize {
    let first = &text[..text.len().min(4)];
    first.utf8_chunks().next().and_then(|c| c.valid().chars().next()).map_or(1, char::len_utf8)
}
