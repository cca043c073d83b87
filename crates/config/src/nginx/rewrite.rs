//! `rewrite`, `return`, `set`, `break`, `if`.

use conf_syntax::{Directive, Word};

use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};
use super::units;
use crate::model::http::{Condition, FileTest, Op, Rewrite, RewriteFlag, Source, Value, Variable};

const ANYWHERE: Context =
    Context::SERVER.or(Context::SERVER_IF).or(Context::LOCATION).or(Context::LOCATION_IF);

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "rewrite",
        ANYWHERE,
        Count::between(2, 3),
        Apply::Later,
        "",
        "Gives a path that matches another, then goes on (`last`, `break`) or \
             redirects (`redirect`, `permanent`).",
    )
    .repeats(),
    Row::new(
        "return",
        ANYWHERE,
        Count::between(1, 2),
        Apply::Later,
        "",
        "Answers with a status, a text or a redirect.",
    )
    .repeats(),
    Row::new("set", ANYWHERE, Count::exactly(2), Apply::Later, "", "Stores a value in a variable.").repeats(),
    Row::new("break", ANYWHERE, Count::exactly(0), Apply::Later, "", "Ends the rewrite directives.")
        .repeats(),
    Row::new(
        "if",
        Context::SERVER.or(Context::LOCATION),
        Count::at_least(1),
        Apply::Later,
        "",
        "What holds if a condition is true.",
    )
    .block()
    .repeats(),
    Row::one(
        "rewrite_log",
        ANYWHERE.or(Context::HTTP),
        Apply::Quiet(Argument::Flag, "rewrites are not logged"),
        "off",
        "Logs rewrites.",
    ),
    Row::one(
        "uninitialized_variable_warn",
        ANYWHERE.or(Context::HTTP),
        Apply::Quiet(Argument::Flag, "variables without a value are empty, and nobody is warned"),
        "on",
        "Warns of variables without a value.",
    ),
];

/// What makes a replacement or a `return` a redirect.
const URLS: [&[u8]; 3] = [b"http://", b"https://", b"$scheme"];

impl<'a> Reader<'a> {
    pub(super) fn rewrite_op(&mut self, row: &Row, directive: Directive<'a>) -> Option<Op> {
        match row.name {
            "set" => self.set(directive),
            "return" => self.return_(directive),
            "rewrite" => self.rewrite(directive),
            _ => Some(Op::Break),
        }
    }

    fn set(&mut self, directive: Directive<'a>) -> Option<Op> {
        let [name, value] = directive.args.array()?;
        let value = self.value(value);
        Some(Op::Set { variable: self.defines(name, Source::Stored)?, value })
    }

    fn return_(&mut self, directive: Directive<'a>) -> Option<Op> {
        let (first, second) = (directive.args.first()?, directive.args.get(1));
        match units::number(first.value) {
            Some(status) if status <= 999 => {
                Some(Op::Return { status: status as u16, text: second.map(|w| self.value(w)) })
            }
            None if second.is_none() && URLS.iter().any(|u| first.value.starts_with(u)) => {
                Some(Op::Return { status: 302, text: Some(self.value(first)) })
            }
            _ => {
                let text = first.text().into_owned();
                self.error(first.span, format!("invalid return code \"{text}\"")).help(
                    "write a status as `return 404;`, `return 200 \"text\";`, `return 301 \
             https://…;`, or a URL alone",
                );
                None
            }
        }
    }

    fn rewrite(&mut self, directive: Directive<'a>) -> Option<Op> {
        let (pattern, replacement) = (directive.args.first()?, directive.args.get(1)?);
        if replacement.value.is_empty() {
            self.error(directive.head(), "empty replacement");
            return None;
        }
        let regex = self.regex(pattern.value, false, pattern, 0);
        let flag = match directive.args.get(2) {
            None => RewriteFlag::None,
            Some(word) => match word.value {
                b"last" => RewriteFlag::Last,
                b"break" => RewriteFlag::Break,
                b"redirect" => RewriteFlag::Redirect,
                b"permanent" => RewriteFlag::Permanent,
                _ => {
                    self.invalid_parameter(word).help("write `last`, `break`, `redirect` or `permanent`");
                    return None;
                }
            },
        };
        let is_url = URLS.iter().any(|u| replacement.value.starts_with(u));
        let flag = if is_url && flag != RewriteFlag::Permanent { RewriteFlag::Redirect } else { flag };
        let (text, keep_args) = match replacement.value.strip_suffix(b"?") {
            Some(text) => (text, false),
            None => (replacement.value, true),
        };
        let replacement = self.value_of(text, replacement, 0);
        Some(Op::Rewrite(Box::new(Rewrite { regex, replacement, keep_args, flag })))
    }

    /// The words of an `if`: `($a = b)`, with or without spaces at the brackets.
    pub(super) fn condition(&mut self, directive: Directive<'a>) -> Option<Condition> {
        let words: Vec<Word<'a>> = directive.args.iter().collect();
        let (first, last) = (*words.first()?, *words.last()?);
        let joins = |word: &&Word<'a>| {
            word.quoted == conf_syntax::Quoting::None
                && matches!(word.value, b"&&" | b"||" | b"and" | b"or" | b"AND" | b"OR")
        };
        if let Some(word) = words.iter().skip(1).find(joins) {
            self.problems.hint.get_or_insert_with(|| {
                format!(
                    "a condition has one comparison, and no `{}`: let a `map` of several variables, as `\"$a:$b\"`, give one \
                     that is asked",
                    word.text()
                )
            });
        }
        if !first.value.starts_with(b"(") {
            return self.invalid_condition(first, first.value);
        }
        if !last.value.ends_with(b")") {
            return self.invalid_condition(last, last.value);
        }
        let count = words.len();
        let pieces = words.iter().enumerate().filter_map(|(i, word)| {
            let start = usize::from(i == 0);
            let end = word.value.len() - usize::from(i + 1 == count);
            let is_bracket = start >= end && (i == 0 || i + 1 == count);
            (!is_bracket).then(|| Piece { text: &word.value[start..end], offset: start, word: *word })
        });
        let pieces: Vec<_> = pieces.collect();
        let Some(head) = pieces.first() else { return self.invalid_condition(first, first.value) };
        if head.text.len() > 1 && head.text.starts_with(b"$") {
            return self.variable_condition(head, &pieces[1..]);
        }
        let negated = head.text.starts_with(b"!");
        let test = match &head.text[usize::from(negated)..] {
            b"-f" => FileTest::File,
            b"-d" => FileTest::Directory,
            b"-e" => FileTest::Exists,
            b"-x" => FileTest::Executable,
            _ => return self.invalid_condition(head.word, head.text),
        };
        let [_, path] = pieces.as_slice() else { return self.invalid_condition(head.word, head.text) };
        Some(Condition::File { test, path: self.piece(path), negated })
    }

    fn variable_condition(&mut self, head: &Piece<'a>, rest: &[Piece<'a>]) -> Option<Condition> {
        let variable = self.piece_variable(head)?;
        let (operator, right) = match rest {
            [] => return Some(Condition::True(variable)),
            [operator, right] => (operator, right),
            _ => return self.invalid_condition(head.word, head.text),
        };
        let negated = operator.text.starts_with(b"!");
        match &operator.text[usize::from(negated)..] {
            b"=" => Some(Condition::Equals { variable, value: self.piece(right), negated }),
            sign @ (b"~" | b"~*") => {
                let regex = self.regex(right.text, sign.len() == 2, right.word, right.offset);
                Some(Condition::Matches { variable, regex, negated })
            }
            _ => {
                let text = String::from_utf8_lossy(operator.text).into_owned();
                self.error(operator.word.span, format!("unexpected \"{text}\" in condition"))
                    .help("compare with `=`, `!=`, `~`, `~*`, `!~` or `!~*`");
                None
            }
        }
    }

    /// The whole piece is one name, whatever its letters: nginx's rule here.
    fn piece_variable(&mut self, piece: &Piece<'a>) -> Option<Variable> {
        match piece.text.strip_prefix(b"$") {
            Some([digit @ b'1'..=b'9']) => Some(Variable::Capture(digit - b'0')),
            Some(name) => {
                let name = String::from_utf8_lossy(name);
                let at = super::values::within(piece.word, piece.offset, piece.text.len());
                Some(self.variables.used(&name, at))
            }
            None => self.invalid_condition(piece.word, piece.text),
        }
    }

    fn piece(&mut self, piece: &Piece<'a>) -> Value {
        self.value_of(piece.text, piece.word, piece.offset)
    }

    fn invalid_condition<T>(&mut self, word: Word<'a>, text: &[u8]) -> Option<T> {
        let text = String::from_utf8_lossy(text).into_owned();
        self.error(word.span, format!("invalid condition \"{text}\"")).help(
            "write `($variable)`, `($variable = text)`, `($variable ~ regex)` or `(-f \
             path)`, the words apart",
        );
        None
    }
}

/// A word of a condition without its brackets.
struct Piece<'a> {
    text: &'a [u8],
    offset: usize,
    word: Word<'a>,
}
