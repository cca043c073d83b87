//! `charset`, `source_charset`, `charset_map`: what bodies are written in, and how one set becomes another.

use conf_syntax::{Directive, Word};

use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use crate::model::http::CharsetMap;
use crate::report::Severity;

const IF: Context = Context::ALL.or(Context::LOCATION_IF);

pub(super) const ROWS: &[Row] = &[
    Row::one(
        "charset",
        IF,
        Apply::Value(|l| &mut l.charset),
        "off",
        "The character set that `Content-Type` names.",
    ),
    Row::one(
        "source_charset",
        IF,
        Apply::Value(|l| &mut l.source_charset),
        "",
        "The character set that bodies come in; where it is not that of `charset` they are recoded.",
    ),
    Row::new(
        "charset_types",
        Context::ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.type_list(&mut l.charset_types, d)),
        "text/html text/xml text/plain text/vnd.wap.wml application/javascript application/rss+xml",
        "Media types to which it is added; `*` is all.",
    )
    .repeats(),
    Row::flag(
        "override_charset",
        IF,
        |l| &mut l.override_charset,
        "off",
        "Recodes what names a character set itself, too.",
    ),
    Row::new(
        "charset_map",
        Context::HTTP,
        Count::exactly(2),
        Apply::Custom(|r, _, d| r.charset_map(d)),
        "",
        "How bytes of one set are those of another, in hexadecimal: `C0 D18E;`. `utf-8` can only be the second.",
    )
    .block()
    .repeats(),
];

impl<'a> Reader<'a> {
    fn charset_map(&mut self, directive: Directive<'a>) {
        let (Some([from, to]), Some(block)) = (directive.args.array(), directive.block) else { return };
        let (source, target) = (from.text().into_owned(), to.text().into_owned());
        let same = |a: &[u8], b: &[u8]| a.eq_ignore_ascii_case(b);
        if same(from.value, to.value) {
            let text = format!("\"charset_map\" between the same charsets \"{source}\" and \"{target}\"");
            self.error(to.span, text);
            return;
        }
        if same(from.value, b"utf-8") {
            let text = "\"charset_map\" with \"utf-8\" charset should be given in the second column";
            self.error(from.span, text).help(format!("write `charset_map {target} utf-8 {{ … }}`"));
            return;
        }
        if self.charset_maps.iter().any(|map| map.is_between(from.value, to.value)) {
            let text = format!("duplicate \"charset_map\" between \"{source}\" and \"{target}\"");
            self.error(directive.head(), text);
            return;
        }
        let is_utf8 = same(to.value, b"utf-8");
        let mut pairs = Vec::new();
        for line in block.directives {
            self.begin(&line);
            let (true, Some([word])) = (line.block.is_none(), line.args.array()) else {
                self.error(line.head(), "invalid parameters number").help("a line is two codes: `C0 D18E;`");
                continue;
            };
            let Some(Ok([byte])) = hexadecimal(line.name.value, 1).map(<[u8; 1]>::try_from) else {
                self.invalid_code(line.name);
                continue;
            };
            match hexadecimal(word.value, if is_utf8 { 3 } else { 1 }) {
                Some(code) if !is_utf8 || is_character(&code) => pairs.push((byte, code)),
                _ => self.invalid_code(word),
            }
        }
        self.charset_maps.push(CharsetMap { from: from.value.to_vec(), to: to.value.to_vec(), pairs });
    }

    fn invalid_code(&mut self, word: Word<'a>) {
        let text = word.text().into_owned();
        self.error(word.span, format!("invalid value \"{text}\""))
            .help("write the bytes of one character in hexadecimal, such as `C0` or `D18E`");
    }

    /// What is to be recoded needs a table.
    pub(super) fn check_recodings(&mut self) {
        for (from, to) in std::mem::take(&mut self.shared.recodings) {
            if !self.charset_maps.iter().any(|map| map.is_between(&from, &to)) {
                let (from, to) = (String::from_utf8_lossy(&from), String::from_utf8_lossy(&to));
                let text = format!("no \"charset_map\" between the charsets \"{from}\" and \"{to}\"");
                self.problems.push(Severity::Error, None, text);
            }
        }
    }
}

impl CharsetMap {
    fn is_between(&self, one: &[u8], other: &[u8]) -> bool {
        let is = |a: &[u8], b: &[u8]| self.from.eq_ignore_ascii_case(a) && self.to.eq_ignore_ascii_case(b);
        is(one, other) || is(other, one)
    }
}

/// Up to so many bytes, of two digits each; a single one may have one digit.
fn hexadecimal(text: &[u8], most: usize) -> Option<Vec<u8>> {
    let digit = |byte: &u8| (*byte as char).to_digit(16);
    let digits = text.iter().map(digit).collect::<Option<Vec<_>>>()?;
    if digits.is_empty() || (digits.len() > 1 && digits.len() % 2 == 1) || digits.len() > 2 * most {
        return None;
    }
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect())
}

/// Whether it is one character of UTF-8.
fn is_character(code: &[u8]) -> bool {
    std::str::from_utf8(code).is_ok_and(|text| text.chars().count() == 1)
}
