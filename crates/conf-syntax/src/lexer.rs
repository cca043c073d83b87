//! Cuts a text into words and the three signs, as nginx's `ngx_conf_read_token` does.
//!
//! What of it surprises: a quote quotes only at the beginning of a word, and what follows the closing one must
//! be white space, `;`, `{` or `)`; `#` begins a comment only there as well; braces directly behind a `$`
//! belong to the word; `}` ends nothing but a block, so that `80}` is a word.

/// What stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// A word, quotes included.
    Word { start: usize, end: usize, escaped: bool },
    /// `;`
    Semicolon,
    /// `{`
    Open,
    /// `}`
    Close,
    /// The text is over.
    End,
    /// A quoted word ended here and something else follows at once; it is read as the next word.
    NoSpace,
    /// The text ends within a word that began at `start` with this quote.
    Unterminated { start: usize, quote: u8 },
    /// The word that began at `start` is longer than allowed.
    TooLong { start: usize, quote: Option<u8> },
}

/// A text and how far it was read.
#[derive(Debug, Clone)]
pub(crate) struct Lexer<'t> {
    text: &'t [u8],
    /// Where the next token begins, white space aside; after one, where it ended.
    pub(crate) position: usize,
    longest_word: usize,
    after_quote: bool,
}

impl<'t> Lexer<'t> {
    pub(crate) fn new(text: &'t [u8], position: usize, longest_word: usize) -> Self {
        Self { text, position, longest_word, after_quote: false }
    }

    pub(crate) fn next(&mut self) -> Token {
        if std::mem::take(&mut self.after_quote)
            && let Some(byte) = self.peek()
            // A brace goes on to the parser: it says of this one what it says of every `}` that cuts a directive off.
            && !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b'}' | b')')
        {
            return Token::NoSpace;
        }
        self.skip_blank();
        let Some(byte) = self.peek() else { return Token::End };
        match byte {
            b';' => self.sign(Token::Semicolon),
            b'{' => self.sign(Token::Open),
            b'}' => self.sign(Token::Close),
            b'"' | b'\'' => self.quoted_word(byte),
            _ => self.plain_word(),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    fn sign(&mut self, token: Token) -> Token {
        self.position += 1;
        token
    }

    /// White space and comments.
    fn skip_blank(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.position += 1,
                b'#' => {
                    let rest = &self.text[self.position..];
                    self.position += memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                }
                _ => return,
            }
        }
    }

    fn quoted_word(&mut self, quote: u8) -> Token {
        let start = self.position;
        let limit = self.limit(start);
        let (mut at, mut escaped) = (start + 1, false);
        loop {
            let Some(found) = memchr::memchr2(quote, b'\\', &self.text[at.min(limit)..limit]) else {
                self.position = limit;
                if limit < self.text.len() {
                    return Token::TooLong { start, quote: Some(quote) };
                }
                return Token::Unterminated { start, quote };
            };
            at += found;
            if self.text[at] == quote {
                break;
            }
            escaped = true;
            at += 2;
        }
        self.position = at + 1;
        self.after_quote = true;
        Token::Word { start, end: self.position, escaped }
    }

    /// After an unquoted word that `{` ended: reads it to the end of what most likely was meant as one word, as
    /// `^/\d{4}/`. Whether it was is to be seen from what stands in the braces: one thing, without blanks. nginx reads
    /// a block there, whose first directive has a brace in its name.
    pub(crate) fn braces_within(&mut self, start: usize) -> Option<Token> {
        let before = self.position;
        let mut end = before;
        while let Some(inside) = self.text[end..].strip_prefix(b"{") {
            let is_end =
                |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b'}' | b'"' | b'\'' | b'#');
            let length = inside.iter().position(is_end).filter(|&at| at > 0 && inside[at] == b'}');
            let Some(length) = length else { break };
            self.position = end + 1 + length + 1;
            // A further quantifier, a `?`, the rest of the pattern.
            self.plain_word();
            end = self.position;
        }
        if end == before || end - start > self.longest_word {
            self.position = before;
            return None;
        }
        Some(Token::Word { start, end, escaped: self.text[start..end].contains(&b'\\') })
    }

    fn plain_word(&mut self) -> Token {
        let start = self.position;
        let limit = self.limit(start);
        let (mut at, mut escaped) = (start, false);
        while at < limit {
            match self.text[at] {
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' => break,
                b'\\' => {
                    escaped = true;
                    at += 2;
                }
                b'$' => {
                    at += 1;
                    while at < limit && self.text[at] == b'{' {
                        at += 1;
                    }
                }
                _ => at += 1,
            }
        }
        // An escape at the very end has nothing to escape.
        let end = at.min(limit);
        self.position = end;
        if end - start > self.longest_word {
            return Token::TooLong { start, quote: None };
        }
        Token::Word { start, end, escaped }
    }

    /// How far to look at a word that begins at `start`: one byte more than it may have.
    fn limit(&self, start: usize) -> usize {
        self.text.len().min(start.saturating_add(self.longest_word).saturating_add(1))
    }
}

/// Appends `text` with its escapes resolved: `\"`, `\'`, `\\`, `\t`, `\r` and `\n`. Every other backslash stays.
pub(crate) fn unescape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(b'\\', text) {
        out.extend_from_slice(&text[..at]);
        let resolved = match text.get(at + 1) {
            Some(&byte) if matches!(byte, b'"' | b'\'' | b'\\') => Some(byte),
            Some(b't') => Some(b'\t'),
            Some(b'r') => Some(b'\r'),
            Some(b'n') => Some(b'\n'),
            _ => None,
        };
        out.push(resolved.unwrap_or(b'\\'));
        text = &text[at + if resolved.is_some() { 2 } else { 1 }..];
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests;
