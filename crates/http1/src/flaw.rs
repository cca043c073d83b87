//! What is wrong with the head of a response, for the log.

use crate::response::ResponseError;
use crate::syntax::{is_token_byte, value_end};

/// So much of a line is shown.
const SHOWN: usize = 256;

/// What is wrong, as nginx says it behind `upstream sent`: with the line in question up to the byte, or the two that
/// exclude each other. `buf` is what was refused with `error`, from the head's beginning on.
pub fn describe_response(buf: &[u8], error: ResponseError) -> String {
    let named = |name: &'static [u8]| {
        lines(buf).filter(move |line| {
            let end = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            line[..end].eq_ignore_ascii_case(name)
        })
    };
    let twice = |name| {
        let mut all = named(name).map(shown);
        let (before, again) = (all.next().unwrap_or_default(), all.next().unwrap_or_default());
        format!("duplicate header line: \"{again}\", previous value: \"{before}\"")
    };
    match error {
        ResponseError::Field | ResponseError::ObsFold => {
            let flaw = lines(buf).find_map(|line| flaw(line).map(|at| (line, at)));
            flaw.map_or_else(
                || error.to_string(),
                |(line, at)| format!("invalid header: \"{}\"", up_to(line, at)),
            )
        }
        ResponseError::ContentLengthRepeated => twice(b"content-length"),
        ResponseError::TransferEncodingRepeated => twice(b"transfer-encoding"),
        ResponseError::ContentLength => {
            let line = named(b"content-length").next().map(shown).unwrap_or_default();
            format!("{error}: \"{line}\"")
        }
        ResponseError::TransferEncoding => {
            let line = named(b"transfer-encoding").next().unwrap_or_default();
            let value = line.splitn(2, |byte| *byte == b':').last().unwrap_or_default();
            format!("{error}: \"{}\"", shown(value.trim_ascii()))
        }
        _ => error.to_string(),
    }
}

/// The field lines, without their ends.
fn lines(buf: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ended = buf.split_inclusive(|byte| *byte == b'\n').skip(1);
    let ended = ended.filter_map(|line| line.strip_suffix(b"\n"));
    ended.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).take_while(|line| !line.is_empty())
}

/// Where a line stops to be a field; its length, if that is where.
fn flaw(line: &[u8]) -> Option<usize> {
    let end = line.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(line.len());
    if end == 0 || line.get(end) != Some(&b':') {
        return Some(end);
    }
    Some(value_end(line, end + 1)).filter(|at| *at < line.len())
}

fn up_to(line: &[u8], at: usize) -> String {
    let byte = line.get(at).copied().unwrap_or(b'\r');
    if at > SHOWN {
        return shown(line);
    }
    format!("{}\\x{byte:02x}...", String::from_utf8_lossy(&line[..at]))
}

fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(SHOWN)]);
    if line.len() > SHOWN { format!("{text}...") } else { text.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnswerTo, Limits, ResponseHead, parse_response_head};

    #[test]
    fn the_line_in_question_is_shown() {
        let long = format!("X-{} b: c", "a".repeat(1000));
        let cut = format!("invalid header: \"{}...\"", &long[..SHOWN]);
        for (fields, said) in [
            ("A: b\r\nX Y: a", r#"invalid header: "X\x20...""#),
            ("X-A: a\0b", r#"invalid header: "X-A: a\x00...""#),
            ("X-A: \u{1b}[31mb", r#"invalid header: "X-A: \x1b...""#),
            ("X-A: a\rb", r#"invalid header: "X-A: a\x0d...""#),
            ("X-A: a\r\n b", r#"invalid header: "\x20...""#),
            (": b", r#"invalid header: "\x3a...""#),
            ("nonsense", r#"invalid header: "nonsense\x0d...""#),
            (&long, &cut),
            ("Content-Length: 2x", r#"invalid "Content-Length" header: "Content-Length: 2x""#),
            (
                "Content-Length: 2\r\nX: y\r\ncontent-length: 3",
                r#"duplicate header line: "content-length: 3", previous value: "Content-Length: 2""#,
            ),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
                r#"duplicate header line: "Transfer-Encoding: gzip", previous value: "Transfer-Encoding: chunked""#,
            ),
            ("Transfer-Encoding: gzip, chunked", r#"unknown "Transfer-Encoding": "gzip, chunked""#),
            (
                "Content-Length: 2\r\nTransfer-Encoding: chunked",
                r#""Content-Length" and "Transfer-Encoding" headers at the same time"#,
            ),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nX Y: not a field");
            let mut parsed = ResponseHead::default();
            let outcome = parse_response_head(
                head.as_bytes(),
                &Limits::default(),
                true,
                AnswerTo::default(),
                &mut parsed,
            );
            let error = outcome.unwrap_err();
            assert_eq!(describe_response(head.as_bytes(), error), said);
        }
    }
}
