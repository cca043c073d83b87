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
