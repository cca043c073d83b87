//! Field lines (RFC 9112 §5), of heads and of trailer sections.

use crate::name::Name;
use crate::span::Span;
use crate::syntax::{find_colon, is_token_byte, value_end};

/// One field line: where its name and its value stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldLine {
    /// The name as it was sent; never empty.
    pub name: Span,
    /// The value without optional white space around it; may be empty, may hold bytes above ASCII.
    pub value: Span,
    /// Which of the fields it is that the program looks at.
    pub known: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldError {
    Name,
    Value,
    ObsFold,
}

/// Parses the field lines of `buf[start..end]`, where `end` is past the empty line. The lines are known to end in CRLF,
/// each, or in LF where that is allowed.
#[inline]
pub(crate) fn parse_field_lines(
    buf: &[u8],
    start: usize,
    end: usize,
    mut each: impl FnMut(FieldLine, &[u8]),
) -> Result<(), FieldError> {
    let buf = &buf[..end];
    let mut at = start;
    loop {
        match buf.get(at..) {
            None | Some(b"" | b"\n" | b"\r\n") => return Ok(()),
            Some([b' ' | b'\t', ..]) => return Err(FieldError::ObsFold),
            _ => {}
        }
        let (line, to) = field_line(buf, at)?;
        at = match buf.get(to..) {
            Some([b'\n', ..]) => to + 1,
            Some([b'\r', b'\n', ..]) => to + 2,
            _ => return Err(FieldError::Value),
        };
        each(line, line.name.of(buf));
    }
}

/// The field lines of `buf` from `start` on if they are all there, the empty line behind them too, and nothing is wrong
/// with them: each ends in CRLF, none is longer than `field_size`, and they are no more than `most`. Tells where they
/// end. Most heads come so, and are looked at once only.
#[inline]
pub(crate) fn whole_section(
    buf: &[u8],
    start: usize,
    field_size: usize,
    most: usize,
    mut each: impl FnMut(FieldLine, &[u8]),
) -> Option<usize> {
    let (mut at, mut count) = (start, 0);
    loop {
        if let [b'\r', b'\n', ..] = buf.get(at..)? {
            return Some(at + 2);
        }
        let (line, to) = field_line(buf, at).ok()?;
        let [b'\r', b'\n', ..] = buf.get(to..)? else { return None };
        count += 1;
        if to - at > field_size || count > most {
            return None;
        }
        at = to + 2;
        each(line, line.name.of(buf));
    }
}

/// The field line that begins at `at`, and where its value stops with the white space behind it.
#[inline]
pub(crate) fn field_line(buf: &[u8], at: usize) -> Result<(FieldLine, usize), FieldError> {
    let colon = find_colon(buf, at).ok_or(FieldError::Name)?;
    let name = &buf[at..colon];
    let known = Name::of(name);
    // A name that has a number needs no look at its bytes.
    if known == Name::Other && (name.is_empty() || !name.iter().all(|&b| is_token_byte(b))) {
        return Err(FieldError::Name);
    }
    let mut from = colon + 1;
    while matches!(buf.get(from), Some(b' ' | b'\t')) {
        from += 1;
    }
    let end = value_end(buf, from);
    let mut to = end;
    while to > from && matches!(buf[to - 1], b' ' | b'\t') {
        to -= 1;
    }
    // What is empty stands nowhere.
    let value = if from == to { Span::default() } else { Span::new(from, to) };
    Ok((FieldLine { name: Span::new(at, colon), value, known }, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_lines() {
        for count in [0, 1, 16, 500] {
            let mut section: Vec<u8> =
                (0..count).flat_map(|n| format!("A{n}: {n}\r\n").into_bytes()).collect();
            section.extend_from_slice(b"\r\n");
            let mut seen = 0;
            parse_field_lines(&section, 0, section.len(), |line, name| {
                assert_eq!(name, format!("A{seen}").as_bytes());
                assert_eq!(line.value.of(&section), format!("{seen}").as_bytes());
                seen += 1;
            })
            .unwrap();
            assert_eq!(seen, count);
        }
    }

    /// What another parser takes is taken here, as the same names and values, and nothing else is.
    fn agree(lines: &[Vec<u8>]) -> bool {
        let mut section: Vec<u8> = lines.iter().flat_map(|line| [line, &b"\r\n"[..]].concat()).collect();
        section.extend_from_slice(b"\r\n");
        let mut ours = Vec::new();
        let outcome = parse_field_lines(&section, 0, section.len(), |line, _| {
            ours.push((line.name.of(&section).to_vec(), line.value.of(&section).to_vec()));
        });
        let mut scratch = [httparse::EMPTY_HEADER; 8];
        let theirs = match httparse::parse_headers(&section, &mut scratch) {
            Ok(httparse::Status::Complete((length, theirs))) if length == section.len() => Some(theirs),
            _ => None,
        };
        match (outcome, theirs) {
            (Ok(()), Some(theirs)) => theirs
                .iter()
                .map(|it| (it.name.as_bytes(), it.value))
                .eq(ours.iter().map(|(name, value)| (&name[..], &value[..]))),
            (outcome, theirs) => outcome.is_err() && theirs.is_none(),
        }
    }

    #[test]
    fn every_byte_is_judged_as_another_parser_judges_it() {
        for byte in (0..=u8::MAX).filter(|byte| *byte != b'\n') {
            for line in [
                vec![byte],
                vec![byte, b':'],
                vec![b'A', byte, b':', b'v'],
                vec![b'A', b':', byte],
                vec![b'A', b':', byte, b'v'],
                vec![b'A', b':', b'v', byte],
                vec![b'A', b':', b' ', b'v', byte, b'w', b'\t'],
            ] {
                assert!(agree(&[b"Host: a".to_vec(), line.clone()]), "{line:?}");
                assert!(agree(&[line.clone(), b"Host: a".to_vec()]), "{line:?}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn lines_are_read_as_another_parser_reads_them(
            lines in proptest::collection::vec(
                proptest::collection::vec(proptest::sample::select(&b"Aa-_:  \t\rx\x00\x7f\xe9\"("[..]), 1..12),
                0..5,
            ),
        ) {
            proptest::prop_assert!(agree(&lines), "{:?}", lines);
        }
    }
}
