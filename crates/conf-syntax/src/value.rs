//! Variables in values, and values as words.

use std::borrow::Cow;
use std::fmt;

/// A piece of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// What it is.
    pub kind: PartKind<'a>,
    /// Where it begins in the value, in bytes.
    pub offset: usize,
}

/// The sorts of [`Part`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind<'a> {
    /// Text; not empty.
    Literal(&'a [u8]),
    /// `$name` or `${name}`; the name has ASCII letters, digits and `_` only and is not empty.
    Variable {
        /// Without the dollar and braces, as written.
        name: &'a str,
        /// Whether it stood in braces.
        braced: bool,
    },
    /// `$1` to `$9`: what a group of the last regular expression matched. `${1}` is none.
    Capture(u8),
}

/// Why a value has no meaning; the words are nginx's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueError {
    /// A `$` without a name behind it.
    InvalidVariableName {
        /// Of the `$`, in bytes.
        offset: usize,
    },
    /// A `${` without its `}`.
    MissingBracket {
        /// What stands before the first byte that is not of a name.
        name: String,
        /// Of the `$`, in bytes.
        offset: usize,
    },
}

impl ValueError {
    /// Where the `$` stands in the value, in bytes.
    pub fn offset(&self) -> usize {
        match *self {
            Self::InvalidVariableName { offset } | Self::MissingBracket { offset, .. } => offset,
        }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidVariableName { .. } => f.write_str("invalid variable name"),
            Self::MissingBracket { name, .. } => {
                write!(f, "the closing bracket in \"{name}\" variable is missing")
            }
        }
    }
}

impl std::error::Error for ValueError {}

/// The literals and variables of a value, by the rules of nginx's `ngx_http_script_compile`. An error is the last item.
pub fn parts(value: &[u8]) -> Parts<'_> {
    Parts { value, position: 0 }
}

/// Iterator of [`parts`].
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    value: &'a [u8],
    position: usize,
}

impl<'a> Iterator for Parts<'a> {
    type Item = Result<Part<'a>, ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.position;
        let rest = &self.value[offset..];
        if rest.is_empty() {
            return None;
        }
        match memchr::memchr(b'$', rest) {
            Some(0) => {
                let (kind, length) = match variable(&rest[1..], offset) {
                    Ok(found) => found,
                    Err(error) => {
                        self.position = self.value.len();
                        return Some(Err(error));
                    }
                };
                self.position += 1 + length;
                Some(Ok(Part { kind, offset }))
            }
            found => {
                let literal = &rest[..found.unwrap_or(rest.len())];
                self.position += literal.len();
                Some(Ok(Part { kind: PartKind::Literal(literal), offset }))
            }
        }
    }
}

/// What the bytes behind a `$` say, and how many of them.
fn variable(rest: &[u8], offset: usize) -> Result<(PartKind<'_>, usize), ValueError> {
    if let [digit @ b'1'..=b'9', ..] = rest {
        return Ok((PartKind::Capture(digit - b'0'), 1));
    }
    let inside = rest.strip_prefix(b"{");
    let braced = inside.is_some();
    let name = inside.unwrap_or(rest);
    let length = name.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    let is_closed = name.get(length) == Some(&b'}');
    // Only ASCII was let through.
    let (name, is_last) = (std::str::from_utf8(&name[..length]).unwrap_or_default(), name.is_empty());
    if braced && !is_closed && !is_last {
        return Err(ValueError::MissingBracket { name: name.to_owned(), offset });
    }
    if name.is_empty() {
        return Err(ValueError::InvalidVariableName { offset });
    }
    Ok((PartKind::Variable { name, braced }, length + if braced { 2 } else { 0 }))
}

/// The value as one word that reads back as the same bytes, quoted only where it must be.
pub fn quote(value: &[u8]) -> Cow<'_, [u8]> {
    let is_plain =
        |b: &u8| !matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b'}' | b'"' | b'\'' | b'\\');
    // A file's first word must not begin like a byte order mark.
    let begins_plain = value.first().is_some_and(|&b| b != b'#' && b != 0xef);
    if begins_plain && value.iter().all(is_plain) {
        return Cow::Borrowed(value);
    }
    let mut word = vec![b'"'];
    for &byte in value {
        match byte {
            b'"' | b'\\' => word.extend([b'\\', byte]),
            b'\t' => word.extend(b"\\t"),
            b'\r' => word.extend(b"\\r"),
            b'\n' => word.extend(b"\\n"),
            _ => word.push(byte),
        }
    }
    word.push(b'"');
    Cow::Owned(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> Vec<String> {
        parts(value.as_bytes())
            .map(|part| match part {
                Ok(Part { kind: PartKind::Literal(text), offset }) => {
                    format!("{offset} {}", String::from_utf8_lossy(text))
                }
                Ok(Part { kind: PartKind::Variable { name, braced: true }, offset }) => {
                    format!("{offset} ${{{name}}}")
                }
                Ok(Part { kind: PartKind::Variable { name, .. }, offset }) => format!("{offset} ${name}"),
                Ok(Part { kind: PartKind::Capture(n), offset }) => format!("{offset} capture {n}"),
                Err(error) => format!("{} {error}", error.offset()),
            })
            .collect()
    }

    #[test]
    fn variables_stand_between_literals() {
        assert_eq!(shown("a$b-${c}d$e"), ["0 a", "1 $b", "3 -", "4 ${c}", "8 d", "9 $e"]);
        assert_eq!(shown("no?{}"), ["0 no?{}"]);
        assert!(shown("").is_empty());
    }

    #[test]
    fn a_capture_has_one_digit_and_no_braces() {
        assert_eq!(shown("$10$0${1}"), ["0 capture 1", "2 0", "3 $0", "5 ${1}"]);
    }

    #[test]
    fn errors_are_the_last_item_and_have_nginx_words() {
        let bracket = |name: &str| format!("0 the closing bracket in \"{name}\" variable is missing");
        assert_eq!(shown("a$"), ["0 a", "1 invalid variable name"]);
        assert_eq!(shown("$-$x"), ["0 invalid variable name"]);
        assert_eq!(shown("${}"), ["0 invalid variable name"]);
        assert_eq!(shown("${"), ["0 invalid variable name"]);
        assert_eq!(shown("${ab"), [bracket("ab")]);
        assert_eq!(shown("${ab-c}"), [bracket("ab")]);
        assert_eq!(shown("${-}"), [bracket("")]);
    }

    #[test]
    fn words_are_quoted_where_they_must_be() {
        for (value, expected) in [
            ("", "\"\""),
            ("a#b)", "a#b)"),
            ("#a", "\"#a\""),
            ("a b", "\"a b\""),
            ("\\d\"\n", "\"\\\\d\\\"\\n\""),
            ("${x}", "\"${x}\""),
            ("$x", "$x"),
        ] {
            assert_eq!(quote(value.as_bytes()), expected.as_bytes());
        }
    }
}
