//! Paths: percent-decoding and the removal of dot segments, as nginx does it before it looks for a location.

/// A path that no location can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidPath {
    /// `%` without two hexadecimal digits.
    Escape,
    /// A NUL byte.
    Nul,
    /// `..` above the root.
    AboveRoot,
}

impl InvalidPath {
    /// For the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Escape => "a percent sign without two hexadecimal digits in the path",
            Self::Nul => "a NUL byte in the path",
            Self::AboveRoot => "a path that leads above the root",
        }
    }
}

/// Percent-decodes `raw` once, behind what `out` holds.
pub fn decode(raw: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidPath> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'%', rest) {
        out.extend_from_slice(&rest[..at]);
        let byte = match rest.get(at + 1..at + 3) {
            Some(&[high, low]) => hex(high).zip(hex(low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        match byte.ok_or(InvalidPath::Escape)? {
            0 => return Err(InvalidPath::Nul),
            byte => out.push(byte),
        }
        rest = &rest[at + 3..];
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// Percent-decodes `raw`, merges slashes and resolves `.` and `..`, into `out`, which is emptied first.
/// What is decoded to a slash or dot counts as one, so that no spelling of `..` survives.
pub fn normalize(raw: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidPath> {
    out.clear();
    decode(raw, out)?;
    resolve(out)
}

/// [`normalize`] for `merge_slashes off`: slashes that follow one another stay as many.
pub fn normalize_each_slash(raw: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidPath> {
    out.clear();
    decode(raw, out)?;
    resolve_segments(out, false)
}

/// Merges slashes and resolves `.` and `..` of a path that is decoded, in place.
pub fn resolve(path: &mut Vec<u8>) -> Result<(), InvalidPath> {
    // Nearly every path is clean already.
    if path.first() == Some(&b'/') && !path.windows(2).any(|w| w[0] == b'/' && matches!(w[1], b'/' | b'.')) {
        return Ok(());
    }
    resolve_segments(path, true)
}

fn resolve_segments(out: &mut Vec<u8>, merge_slashes: bool) -> Result<(), InvalidPath> {
    let decoded = std::mem::take(out);
    let ends_open = matches!(decoded.rsplit(|&b| b == b'/').next(), Some(b"" | b"." | b".."));
    let last = decoded.split(|&b| b == b'/').count() - 1;
    for (index, segment) in decoded.split(|&b| b == b'/').enumerate() {
        match segment {
            // What stands between two slashes, not before the first or behind the last.
            b"" if !merge_slashes && index > 0 && index < last => out.push(b'/'),
            b"" | b"." => {}
            b".." => {
                let parent = out.iter().rposition(|&b| b == b'/').ok_or(InvalidPath::AboveRoot)?;
                out.truncate(parent);
            }
            name => {
                out.push(b'/');
                out.extend_from_slice(name);
            }
        }
    }
    if out.is_empty() || ends_open {
        out.push(b'/');
    }
    Ok(())
}

/// Percent-encodes a decoded path for a `Location`; slashes stay.
pub fn encode(path: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|d| d as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(raw: &str) -> Result<String, InvalidPath> {
        let mut out = Vec::new();
        normalize(raw.as_bytes(), &mut out).map(|()| String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn resolves_dots_and_slashes() {
        for (raw, path) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a//b", "/a/b"),
            ("//a", "/a"),
            ("/a/./b/", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/../../b", "!"),
            ("/a/%2e%2e/b", "/b"),
            ("/a%2f..%2fb", "/b"),
            ("/.hidden", "/.hidden"),
            ("/a/...", "/a/..."),
            ("/%41", "/A"),
            ("/a/.", "/a/"),
        ] {
            match normal(raw) {
                Ok(got) => assert_eq!(got, path, "{raw}"),
                Err(error) => assert_eq!((error, path), (InvalidPath::AboveRoot, "!"), "{raw}"),
            }
        }
    }

    #[test]
    fn slashes_that_are_not_merged_are_segments() {
        for (raw, path) in [
            ("/", "/"),
            ("/a//b", "/a//b"),
            ("//a/", "//a/"),
            ("/a//", "/a//"),
            ("/a//../b", "/a/b"),
            ("/a///../b", "/a//b"),
            ("//..", "/"),
        ] {
            let mut out = Vec::new();
            assert_eq!(normalize_each_slash(raw.as_bytes(), &mut out), Ok(()));
            assert_eq!(String::from_utf8_lossy(&out), path, "{raw}");
        }
    }

    #[test]
    fn refuses_broken_escapes() {
        assert_eq!(normal("/%"), Err(InvalidPath::Escape));
        assert_eq!(normal("/%4"), Err(InvalidPath::Escape));
        assert_eq!(normal("/%zz"), Err(InvalidPath::Escape));
        assert_eq!(normal("/%00"), Err(InvalidPath::Nul));
        assert_eq!(normal("/.."), Err(InvalidPath::AboveRoot));
    }
}
