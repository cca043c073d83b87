//! Regular expressions of nginx's language, checked before anything runs.
//!
//! They are PCRE's: PCRE2 itself is the judge. As in nginx a pattern works on bytes, not on characters, `$` also
//! matches before a final line feed, and only `(?i)` or the directive makes letters match in either case.

use std::fmt;
use std::fmt::Write as _;

use pcre2::bytes::RegexBuilder;

/// Why a pattern is none, in PCRE's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPattern {
    /// What is wrong.
    pub message: String,
    /// Up to which byte of the pattern all is well.
    pub offset: usize,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidPattern {}

/// Checks a pattern and returns the names of its named groups, in order.
pub fn check(pattern: &[u8]) -> Result<Vec<String>, InvalidPattern> {
    let invalid = |e: &pcre2::Error| {
        let text = e.to_string();
        let message = text.rsplit_once(": ").map_or(text.as_str(), |(_, reason)| reason).to_owned();
        InvalidPattern { message, offset: e.offset().unwrap_or_default().min(pattern.len()) }
    };
    let regex = RegexBuilder::new().build(&as_text(pattern)).map_err(|e| invalid(&e))?;
    Ok(regex.capture_names().iter().flatten().cloned().collect())
}

/// How many groups a pattern has, the whole of it not counted; `None`: it is no pattern.
pub fn groups(pattern: &[u8]) -> Option<usize> {
    let regex = RegexBuilder::new().build(&as_text(pattern)).ok()?;
    Some(regex.captures_len() - 1)
}

/// The pattern as text: a byte that is not UTF-8 becomes an escape that matches the same byte.
pub fn as_text(pattern: &[u8]) -> String {
    let mut text = String::with_capacity(pattern.len());
    for chunk in pattern.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to memory does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_and_errors_have_pcres_words() {
        assert_eq!(check(br"^(?<user>.+)\.(?P<zone>\w+)$").unwrap(), ["user", "zone"]);
        assert_eq!(check(b"no (groups)").unwrap(), [""; 0]);
        let error = check(b"a(b").unwrap_err();
        assert_eq!((error.message.as_str(), error.offset), ("missing closing parenthesis", 3));
    }

    #[test]
    fn bytes_that_are_no_text_match_themselves() {
        let regex = RegexBuilder::new().build(&as_text(b"^\xff.$")).unwrap();
        assert!(regex.is_match(b"\xff\xfe").unwrap());
        assert!(!regex.is_match(b"\xfe\xff").unwrap());
    }
}
