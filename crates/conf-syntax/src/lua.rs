//! Bodies of OpenResty's `…_by_lua_block`: Lua, of which only the end is looked for.

use memchr::memmem;

/// Whether the block of a directive with this name holds Lua code.
pub(crate) fn is_lua_block(name: &[u8]) -> bool {
    name.ends_with(b"_by_lua_block")
}

/// Why the end was not found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoEnd {
    /// The braces are not balanced.
    Brace,
    /// A long bracket with that many `=` opens at `start` and is never closed.
    LongBracket { start: usize, level: usize },
}

/// The offset of the `}` that closes a block whose body begins at `position`.
///
/// Braces in strings and comments don't count. A string that its line does not close ends with the line.
pub(crate) fn find_end(code: &[u8], mut position: usize) -> Result<usize, NoEnd> {
    let mut depth = 0_usize;
    while let Some(&byte) = code.get(position) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Ok(position),
            b'}' => depth -= 1,
            b'"' | b'\'' => position = string_end(code, position),
            b'[' => {
                if let Some(level) = long_bracket(code, position) {
                    position = long_bracket_end(code, position, level)?;
                }
            }
            b'-' if code.get(position + 1) == Some(&b'-') => {
                position = match long_bracket(code, position + 2) {
                    Some(level) => long_bracket_end(code, position + 2, level)?,
                    None => memchr::memchr(b'\n', &code[position..]).map_or(code.len(), |at| position + at),
                };
            }
            _ => {}
        }
        position += 1;
    }
    Err(NoEnd::Brace)
}

/// The offset of the closing quote, or of the end of the line.
fn string_end(code: &[u8], start: usize) -> usize {
    let quote = code[start];
    let mut at = start + 1;
    while let Some(&byte) = code.get(at) {
        match byte {
            b'\\' => at += 2,
            b'\n' => return at,
            _ if byte == quote => return at,
            _ => at += 1,
        }
    }
    at
}

/// The number of `=` if a long bracket (`[[`, `[=[`) opens here.
fn long_bracket(code: &[u8], start: usize) -> Option<usize> {
    let rest = code.get(start..)?.strip_prefix(b"[")?;
    let level = rest.iter().take_while(|&&b| b == b'=').count();
    (rest.get(level) == Some(&b'[')).then_some(level)
}

/// The offset of the last byte of the closing long bracket.
fn long_bracket_end(code: &[u8], start: usize, level: usize) -> Result<usize, NoEnd> {
    let closing = [b"]".as_slice(), &b"=".repeat(level), b"]"].concat();
    let inside = start + level + 2;
    let found = memmem::find(&code[inside..], &closing).ok_or(NoEnd::LongBracket { start, level })?;
    Ok(inside + found + closing.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_in_strings_and_comments_do_not_count() {
        for code in [
            "}",
            " local t = {a = {}} }",
            "say('}') say(\"}\\\"}\") }",
            "-- it's a }\n }",
            "--[[ } \n } ]] }",
            "--[==[ } ]] ]=] } ]==] }",
            "say([[ } ]]) say([=[ }]] ]=]) t[1] = a[b[2]] }",
            "'open }\n }",
        ] {
            let found = find_end(code.as_bytes(), 0);
            assert_eq!(found, Ok(code.len() - 1), "{code}");
            assert_eq!(find_end(format!("{code} }}").as_bytes(), 0), found, "{code}");
        }
    }

    #[test]
    fn what_is_missing() {
        assert_eq!(find_end(b"if x then {", 0), Err(NoEnd::Brace));
        assert_eq!(find_end(b"a [==[ ]=] }", 0), Err(NoEnd::LongBracket { start: 2, level: 2 }));
        assert_eq!(find_end(b"'\\", 0), Err(NoEnd::Brace));
        assert_eq!(find_end(b"--", 0), Err(NoEnd::Brace));
    }
}
