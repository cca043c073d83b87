//! Percent-encoding, in the kinds that nginx knows.

/// What is escaped: control bytes, bytes past ASCII, and what stands beside each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// For a path: space, `"`, `#`, `%`, `<`, `>`, `?`, `\`, `^`, `` ` ``, `{`, `|`, `}`.
    Uri,
    /// For an argument: those of a path, `&`, `+` and `;`.
    Args,
    /// All but letters, digits and `-._~`.
    Component,
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

impl Escape {
    const fn concerns(self, byte: u8) -> bool {
        match self {
            Self::Component => !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')),
            Self::Args if matches!(byte, b'&' | b'+' | b';') => true,
            Self::Uri | Self::Args => {
                !byte.is_ascii_graphic()
                    || matches!(
                        byte,
                        b'"' | b'#' | b'%' | b'<' | b'>' | b'?' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
                    )
            }
        }
    }
}

/// Appends `source` with what `kind` concerns as `%XX`.
pub fn escape(source: &[u8], kind: Escape, out: &mut Vec<u8>) {
    for &byte in source {
        if kind.concerns(byte) {
            out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.push(byte);
        }
    }
}

/// Appends `source` decoded. As in nginx a percent sign before what is no hexadecimal digit vanishes, and so does an
/// escape whose second digit is none.
pub fn unescape(source: &[u8], out: &mut Vec<u8>) {
    decode_until(source, |byte, _| {
        out.push(byte);
        false
    });
}

/// Makes a text that became a `Location` of one that was put together from a pattern's captures: up to the first
/// question mark, what needs no escape is decoded; everything else stays as it is.
pub(crate) fn unescape_redirect(source: &[u8], out: &mut Vec<u8>) {
    let decoded = decode_until(source, |byte, digits| {
        match digits {
            Some([high, low]) if byte != b'?' && !(b'&'..0x7f).contains(&byte) => {
                out.extend([b'%', high, low]);
            }
            _ => out.push(byte),
        }
        byte == b'?'
    });
    out.extend_from_slice(&source[decoded..]);
}

/// Hands on each byte, with the two digits if it was escaped, until told to stop; returns how far it came.
fn decode_until(source: &[u8], mut each: impl FnMut(u8, Option<[u8; 2]>) -> bool) -> usize {
    let mut at = 0;
    while let Some(&byte) = source.get(at) {
        at += 1;
        if byte != b'%' {
            if each(byte, None) {
                break;
            }
            continue;
        }
        let Some(&first) = source.get(at) else { break };
        at += 1;
        let Some(high) = hex(first) else {
            if each(first, None) {
                break;
            }
            continue;
        };
        let Some(&second) = source.get(at) else { break };
        at += 1;
        if let Some(low) = hex(second)
            && each((high << 4) | low, Some([first, second]))
        {
            break;
        }
    }
    at
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(source: &[u8], kind: Escape) -> String {
        let mut out = Vec::new();
        escape(source, kind, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn unescaped(source: &str) -> Vec<u8> {
        let mut out = Vec::new();
        unescape(source.as_bytes(), &mut out);
        out
    }

    #[test]
    fn each_kind_escapes_its_own() {
        let all: Vec<u8> = (0x20..0x80).collect();
        assert_eq!(
            escaped(&all, Escape::Uri),
            "%20!%22%23$%25&'()*+,-./0123456789:;%3C=%3E%3F@ABCDEFGHIJKLMNOPQRSTUVWXYZ[%5C]%5E_%60\
             abcdefghijklmnopqrstuvwxyz%7B%7C%7D~%7F"
        );
        assert_eq!(escaped(b"&+;=/a", Escape::Args), "%26%2B%3B=/a");
        assert_eq!(escaped(b"&+;=/a-._~", Escape::Component), "%26%2B%3B%3D%2Fa-._~");
        for kind in [Escape::Uri, Escape::Args, Escape::Component] {
            assert_eq!(escaped(b"\0\x1f\x80\xff", kind), "%00%1F%80%FF");
        }
    }

    #[test]
    fn what_is_no_escape_loses_its_sign() {
        let cases: &[(&str, &[u8])] = &[
            ("%41%4a%4A", b"AJJ"),
            ("%zx", b"zx"),
            ("%4z", b""),
            ("a%", b"a"),
            ("a%4", b"a"),
            ("%%41", b"%41"),
            ("+?%3f", b"+??"),
        ];
        for (source, expected) in cases {
            assert_eq!(unescaped(source), *expected, "{source}");
        }
    }

    proptest! {
        #[test]
        fn unescape_undoes_escape(source: Vec<u8>) {
            for kind in [Escape::Uri, Escape::Args, Escape::Component] {
                prop_assert_eq!(unescaped(&escaped(&source, kind)), source.clone());
            }
        }
    }
}
