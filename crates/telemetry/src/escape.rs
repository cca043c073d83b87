//! Escaping of text that others chose, so that a log line stays one line and a quoted value stays quoted.

/// Appends `text` for a place between double quotes: `"` and `\` get a backslash before them (as gunicorn
/// and Apache write them), control bytes and everything beyond ASCII become `\xHH` (as nginx writes them;
/// beyond ASCII because C1 controls and broken UTF-8 hide there).
pub(crate) fn quoted(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = dirty(rest) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => hex(out, byte),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends `text` as nginx's logs do: `"`, `\`, control bytes and everything beyond ASCII become `\xHH`.
pub(crate) fn nginx(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = dirty(rest) {
        out.extend_from_slice(&rest[..at]);
        hex(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Where the first byte is that [`quoted`] and [`nginx`] change.
pub(crate) fn dirty(text: &[u8]) -> Option<usize> {
    text.iter().position(|&byte| !PLAIN[usize::from(byte)])
}

/// Appends `text` as the content of a JSON string, as nginx does. A byte that is not UTF-8, which no JSON may
/// contain and nginx lets through, becomes `\u00HH`.
pub(crate) fn json(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        while let Some(at) = rest.iter().position(|&byte| !JSON_PLAIN[usize::from(byte)]) {
            out.extend_from_slice(&rest[..at]);
            match rest[at] {
                byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                0x08 => out.extend_from_slice(b"\\b"),
                0x0C => out.extend_from_slice(b"\\f"),
                byte => unicode(out, byte),
            }
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
        chunk.invalid().iter().for_each(|&byte| unicode(out, byte));
    }
}

/// Where the first byte is that [`json`] may change.
pub(crate) fn dirty_json(text: &[u8]) -> Option<usize> {
    text.iter().position(|&byte| !JSON_PLAIN[usize::from(byte)] || byte >= 0x80)
}

/// Bytes that [`json`] leaves as they are, if they are UTF-8.
const JSON_PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < b' ' {
        plain[byte as usize] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// Bytes that [`quoted`] leaves as they are; a table, because this runs over every byte of every line.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        plain[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    plain
};

/// Appends `text` for a message of its own: UTF-8 and quotes stay, control characters become `\xHH`.
pub(crate) fn message(out: &mut Vec<u8>, text: &str, keep_lines: bool) {
    // C1 controls are two bytes in UTF-8, C2 80 to C2 9F; terminals obey some of them.
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() && !(keep_lines && (c == '\n' || c == '\t'))) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let Some(control) = tail.chars().next() else { break };
        match control {
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            _ => tail.as_bytes()[..control.len_utf8()].iter().for_each(|&byte| hex(out, byte)),
        }
        rest = &tail[control.len_utf8()..];
    }
    out.extend_from_slice(rest.as_bytes());
}

fn hex(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(&[b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

fn unicode(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(b"\\u00");
    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_value_cannot_leave_its_quotes_or_its_line() {
        let mut out = Vec::new();
        quoted(&mut out, b"a\" 200\\\r\n\x1b[2J\x7f\xc3\xa9 b");
        assert_eq!(out, br#"a\" 200\\\x0D\x0A\x1B[2J\x7F\xC3\xA9 b"#);
    }

    #[test]
    fn a_message_keeps_its_words_and_loses_its_controls() {
        let mut out = Vec::new();
        message(&mut out, "caf\u{e9} \"x\"\r\nb\x1b[2J\u{9b}c", false);
        assert_eq!(out, "caf\u{e9} \"x\"\\r\\nb\\x1B[2J\\xC2\\x9Bc".as_bytes());
        out.clear();
        message(&mut out, "one\n\ttwo\r", true);
        assert_eq!(out, b"one\n\ttwo\\r");
    }
}
