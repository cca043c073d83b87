//! Shell patterns for one component of a path, as glob(3) has them: `*`, `?`, `[…]` and backslashes.

/// Whether glob(3) would look into a directory for this.
pub(crate) fn has_wildcard(pattern: &[u8]) -> bool {
    pattern.iter().any(|b| matches!(b, b'*' | b'?' | b'['))
}

/// The name that a pattern without wildcards stands for.
pub(crate) fn unescape(pattern: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(pattern.len());
    let mut bytes = pattern.iter();
    while let Some(&byte) = bytes.next() {
        name.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    name
}

/// Whether a name matches. A leading dot must be matched by a dot.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && !matches!(pattern, [b'.', ..] | [b'\\', b'.', ..]) {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    // Where to go on if what follows the last `*` does not fit: it swallows one byte more.
    let mut retry = None;
    while n < name.len() || p < pattern.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p + 1, n));
            p += 1;
            continue;
        }
        if let Some(used) = name.get(n).and_then(|&byte| matches_one(&pattern[p..], byte)) {
            (p, n) = (p + used, n + 1);
            continue;
        }
        match retry {
            Some((after, at)) if at < name.len() => {
                retry = Some((after, at + 1));
                (p, n) = (after, at + 1);
            }
            _ => return false,
        }
    }
    true
}

/// How much of the pattern matches this byte.
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', ..] => match set(pattern, byte) {
            Some((used, is_in)) => is_in.then_some(used),
            None => (byte == b'[').then_some(1),
        },
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

/// The length of a `[…]` and whether the byte is in it; `None` if it is not closed and stands for itself.
fn set(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = 1 + usize::from(negated);
    let (mut at, mut is_in) = (first, false);
    loop {
        let mut low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((at + 1, is_in != negated));
        }
        if let Some((used, has)) = class(&pattern[at..], byte) {
            is_in |= has;
            at += used;
            continue;
        }
        if low == b'\\' {
            at += 1;
            low = *pattern.get(at)?;
        }
        at += 1;
        let high = match pattern.get(at..at + 2) {
            Some(&[b'-', high]) if high != b']' => {
                at += 2;
                high
            }
            _ => low,
        };
        is_in |= (low..=high).contains(&byte);
    }
}

/// The length of a `[:name:]` and whether the byte belongs to it.
fn class(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let rest = pattern.strip_prefix(b"[:")?;
    let length = rest.iter().take_while(|b| b.is_ascii_lowercase()).count();
    if !rest[length..].starts_with(b":]") {
        return None;
    }
    let has = match &rest[..length] {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"digit" => byte.is_ascii_digit(),
        b"lower" => byte.is_ascii_lowercase(),
        b"upper" => byte.is_ascii_uppercase(),
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => return None,
    };
    Some((length + 4, has))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_like_the_shell() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            ("*.conf", "a.conf.bak", false),
            (".*", ".a", true),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("?", "x", true),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]]", "]", true),
            ("[a-]", "-", true),
            ("[[:digit:]_]*", "7x", true),
            ("[[:digit:]_]*", "x7", false),
            ("[a", "[a", true),
            ("[a", "a", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("[\\]]", "]", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let pattern = "*a".repeat(200) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(20_000).as_bytes()));
    }

    #[test]
    fn a_pattern_without_wildcards_is_a_name() {
        assert_eq!(unescape(b"a\\b\\\\c\\"), b"ab\\c\\");
    }
}
