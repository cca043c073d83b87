//! From PCRE's language to that of the linear engine, for patterns that mean the same there.
//!
//! What is not certain to mean the same is not translated; PCRE2 then runs the pattern, or says what is wrong with it.

use std::fmt::{self, Write};

use regex_syntax::hir::{Hir, HirKind};

/// A pattern in the linear engine's language.
pub(super) struct Translated {
    pub(super) source: String,
    /// It holds a `$` or `\Z`, here the very end of the subject.
    pub(super) ends: bool,
}

/// Translates, if the meaning is the same.
pub(super) fn translate(pattern: &[u8], caseless: bool) -> Option<Translated> {
    let mut translator =
        Translator { pattern, at: 0, out: String::new(), open: 0, ends: false, repeatable: false };
    translator.out.push_str(if caseless { "(?i:" } else { "(?:" });
    translator.run()?;
    translator.out.push(')');
    let source = translator.out;
    let mut parser = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build();
    if repeats_nothing(&parser.parse(&source).ok()?) {
        return None;
    }
    Some(Translated { source, ends: translator.ends })
}

/// Whether something is repeated that can be empty: the engines leave such a loop, and fill its groups, differently.
fn repeats_nothing(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Repetition(repetition) => {
            let is_loop = repetition.max.is_none_or(|most| most > 1);
            (is_loop && repetition.sub.properties().minimum_len().is_none_or(|least| least == 0))
                || repeats_nothing(&repetition.sub)
        }
        HirKind::Capture(capture) => repeats_nothing(&capture.sub),
        HirKind::Concat(all) | HirKind::Alternation(all) => all.iter().any(repeats_nothing),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => false,
    }
}

struct Translator<'p> {
    pattern: &'p [u8],
    at: usize,
    out: String,
    /// Groups that are open.
    open: usize,
    ends: bool,
    /// A quantifier may follow.
    repeatable: bool,
}

/// What a backslash and the bytes behind it stand for, in a class as well as outside.
enum Escaped {
    Byte(u8),
    /// One of these bytes (written as in a class), or one of all others.
    Class(&'static str, bool),
}

impl Translator<'_> {
    fn run(&mut self) -> Option<()> {
        while let Some(byte) = self.next() {
            match byte {
                b'(' => self.group()?,
                b')' => {
                    self.open = self.open.checked_sub(1)?;
                    self.push(")", true);
                }
                b'|' => self.push("|", false),
                b'^' => self.push("^", false),
                b'$' => self.end(),
                b'.' => self.push(".", true),
                b'*' => self.quantifier("*")?,
                b'+' => self.quantifier("+")?,
                b'?' => self.quantifier("?")?,
                b'{' => self.brace()?,
                b'[' => self.class()?,
                b'\\' => self.escape()?,
                other => self.literal(other),
            }
        }
        (self.open == 0).then_some(())
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.pattern.get(self.at).copied()
    }

    fn take(&mut self, text: &[u8]) -> bool {
        let found = self.pattern[self.at..].starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn push(&mut self, text: &str, repeatable: bool) {
        self.out.push_str(text);
        self.repeatable = repeatable;
    }

    fn put(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.out.write_fmt(text);
    }

    fn literal(&mut self, byte: u8) {
        self.byte(byte);
        self.repeatable = true;
    }

    fn byte(&mut self, byte: u8) {
        if byte.is_ascii_alphanumeric() {
            self.out.push(char::from(byte));
        } else {
            self.put(format_args!("\\x{byte:02X}"));
        }
    }

    fn end(&mut self) {
        self.ends = true;
        self.push("\\z", false);
    }

    /// `text` is a quantifier; perhaps a lazy one. Possessive ones are PCRE's own.
    fn quantifier(&mut self, text: &str) -> Option<()> {
        if !self.repeatable || matches!(self.pattern.get(self.at), Some(b'+' | b'*' | b'{')) {
            return None;
        }
        self.push(text, false);
        if self.take(b"?") {
            self.out.push('?');
        }
        Some(())
    }

    /// A brace is a quantifier only if it is written as one.
    fn brace(&mut self) -> Option<()> {
        let rest = &self.pattern[self.at..];
        let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
        let least = digits(rest);
        if least == 0 {
            // Newer PCREs read `{,3}` and spaces, older ones do not.
            if matches!(rest.first(), Some(b',' | b' ' | b'\t')) {
                return None;
            }
            self.literal(b'{');
            return Some(());
        }
        let mut length = least;
        if rest.get(length) == Some(&b',') {
            length += 1;
            length += digits(&rest[length..]);
        }
        match rest.get(length) {
            Some(b'}') => {
                let text = format!("{{{}}}", str::from_utf8(&rest[..length]).ok()?);
                self.at += length + 1;
                self.quantifier(&text)
            }
            Some(b' ' | b'\t') => None,
            _ => {
                self.literal(b'{');
                Some(())
            }
        }
    }

    /// Behind an opening parenthesis.
    fn group(&mut self) -> Option<()> {
        if self.peek() == Some(b'*') {
            return None;
        }
        if !self.take(b"?") {
            self.open += 1;
            self.push("(", false);
            return Some(());
        }
        if self.take(b"#") {
            while self.next()? != b')' {}
            return Some(());
        }
        let rest = &self.pattern[self.at..];
        if rest.starts_with(b"<=") || rest.starts_with(b"<!") {
            return None;
        }
        if self.take(b"P<") || self.take(b"<") {
            return self.name(b'>');
        }
        if self.take(b"'") {
            return self.name(b'\'');
        }
        self.flags()
    }

    fn name(&mut self, end: u8) -> Option<()> {
        let length = self.pattern[self.at..].iter().position(|&b| b == end)?;
        let name = &self.pattern[self.at..self.at + length];
        if !name.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'_') {
            return None;
        }
        let text = format!("(?P<{}>", str::from_utf8(name).ok()?);
        self.at += length + 1;
        self.open += 1;
        self.push(&text, false);
        Some(())
    }

    /// `(?i)`, `(?s-i:` and the like. `m` and `x` mean something else in detail.
    fn flags(&mut self) -> Option<()> {
        let mut text = String::from("(?");
        loop {
            match self.next()? {
                flag @ (b'i' | b's' | b'-') => text.push(char::from(flag)),
                b')' => {
                    text.push(')');
                    break;
                }
                b':' => {
                    text.push(':');
                    self.open += 1;
                    break;
                }
                _ => return None,
            }
        }
        self.push(&text, false);
        Some(())
    }

    fn escape(&mut self) -> Option<()> {
        match self.peek()? {
            b'A' => self.assertion("\\A"),
            b'z' => self.assertion("\\z"),
            b'b' => self.assertion("\\b"),
            b'B' => self.assertion("\\B"),
            b'Z' => {
                self.at += 1;
                self.end();
            }
            b'N' if self.pattern.get(self.at + 1) != Some(&b'{') => {
                self.at += 1;
                self.push("[^\\n]", true);
            }
            b'Q' => {
                self.at += 1;
                while self.peek().is_some() && !self.take(b"\\E") {
                    let byte = self.next()?;
                    self.literal(byte);
                }
            }
            b'E' => self.at += 1,
            _ => match self.escaped()? {
                Escaped::Byte(byte) => self.literal(byte),
                Escaped::Class(bytes, negated) => {
                    let text = format!("[{}{bytes}]", if negated { "^" } else { "" });
                    self.push(&text, true);
                }
            },
        }
        Some(())
    }

    fn assertion(&mut self, text: &str) {
        self.at += 1;
        self.push(text, false);
    }

    /// Escapes that mean the same in a class and outside.
    fn escaped(&mut self) -> Option<Escaped> {
        let byte = self.next()?;
        Some(match byte {
            b'd' | b'D' => Escaped::Class("0-9", byte == b'D'),
            b'w' | b'W' => Escaped::Class("0-9A-Za-z_", byte == b'W'),
            b's' | b'S' => Escaped::Class("\\t-\\r\\x20", byte == b'S'),
            b'h' | b'H' => Escaped::Class("\\t\\x20\\xA0", byte == b'H'),
            b'v' | b'V' => Escaped::Class("\\n-\\r\\x85", byte == b'V'),
            b'n' => Escaped::Byte(b'\n'),
            b'r' => Escaped::Byte(b'\r'),
            b't' => Escaped::Byte(b'\t'),
            b'f' => Escaped::Byte(0x0c),
            b'e' => Escaped::Byte(0x1b),
            b'a' => Escaped::Byte(0x07),
            b'0' => Escaped::Byte(u8::try_from(self.digits(2, 8)).ok()?),
            b'x' => Escaped::Byte(self.hexadecimal()?),
            other if !other.is_ascii_alphanumeric() && other.is_ascii() => Escaped::Byte(other),
            _ => return None,
        })
    }

    fn hexadecimal(&mut self) -> Option<u8> {
        if !self.take(b"{") {
            return u8::try_from(self.digits(2, 16)).ok();
        }
        let before = self.at;
        let value = self.digits(2, 16);
        (self.at > before && self.take(b"}")).then(|| u8::try_from(value).ok())?
    }

    /// Up to `most` digits.
    fn digits(&mut self, most: usize, radix: u32) -> u32 {
        let mut value = 0;
        for _ in 0..most {
            let Some(digit) = self.peek().and_then(|b| char::from(b).to_digit(radix)) else { break };
            value = value * radix + digit;
            self.at += 1;
        }
        value
    }

    /// Behind an opening bracket.
    fn class(&mut self) -> Option<()> {
        self.out.push('[');
        if self.take(b"^") {
            self.out.push('^');
        }
        let start = self.at;
        loop {
            let first = self.at == start;
            match self.next()? {
                b']' if !first => break,
                b'[' if matches!(self.peek(), Some(b':' | b'.' | b'=')) => {
                    self.posix()?;
                    self.no_range()?;
                }
                b'\\' => match self.class_escape()? {
                    Escaped::Byte(byte) => self.range(byte)?,
                    Escaped::Class(bytes, false) => {
                        self.out.push_str(bytes);
                        self.no_range()?;
                    }
                    Escaped::Class(bytes, true) => {
                        self.put(format_args!("[^{bytes}]"));
                        self.no_range()?;
                    }
                },
                byte => self.range(byte)?,
            }
        }
        self.push("]", true);
        Some(())
    }

    fn class_escape(&mut self) -> Option<Escaped> {
        if self.take(b"b") { Some(Escaped::Byte(0x08)) } else { self.escaped() }
    }

    /// `low` stands for itself, or begins a range.
    fn range(&mut self, low: u8) -> Option<()> {
        self.byte(low);
        if self.peek() != Some(b'-') || self.pattern.get(self.at + 1) == Some(&b']') {
            return Some(());
        }
        self.at += 1;
        let high = match self.next()? {
            b'[' => return None,
            b'\\' => match self.class_escape()? {
                Escaped::Byte(byte) => byte,
                Escaped::Class(..) => return None,
            },
            byte => byte,
        };
        if high < low {
            return None;
        }
        self.out.push('-');
        self.byte(high);
        self.no_range()
    }

    /// A hyphen here is read in several ways, unless it is the last.
    fn no_range(&self) -> Option<()> {
        (self.peek() != Some(b'-') || self.pattern.get(self.at + 1) == Some(&b']')).then_some(())
    }

    /// `[:alpha:]`, behind its bracket.
    fn posix(&mut self) -> Option<()> {
        const NAMES: &[&str] = &[
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        if !self.take(b":") {
            return None;
        }
        let negated = self.take(b"^");
        let name = NAMES.iter().find(|name| self.take(format!("{name}:]").as_bytes()))?;
        // Without regard to case these two are `[:alpha:]` for PCRE, which matters once they are negated.
        if negated && matches!(*name, "lower" | "upper") {
            return None;
        }
        self.put(format_args!("[:{}{name}:]", if negated { "^" } else { "" }));
        Some(())
    }
}
