//! What there is of a head that was refused, or did not come as a whole, for those who write about it.

use memchr::memchr;

use crate::field::{FieldLine, field_line};
use crate::head::{Policy, RequestHead, UnderscoreFields, is_left_out};
use crate::limits::Limits;
use crate::name::Name;
use crate::syntax::is_token_byte;

/// See [`RequestHead::salvage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Salvage {
    /// Where the field lines end that are whole and good.
    pub end: usize,
    /// What stands behind them.
    pub flaw: Flaw,
    /// The line that says which transfer codings the body has.
    pub encoding: Option<FieldLine>,
}

/// Why no more field lines could be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    /// The head ends there, or its next line has not come as a whole.
    #[default]
    None,
    /// A line that is no field line: where it begins, and the byte that is wrong with it.
    Line(usize, usize),
    /// A line that was there before and may be there once only.
    Repeated(FieldLine, FieldLine),
}

impl RequestHead {
    /// Reads the field lines of a head that was refused or is not whole, up to the first that is no good. They are in
    /// `fields` afterwards, without those that say how the message is framed: nobody is to act on them.
    pub fn salvage(&mut self, buf: &[u8], limits: &Limits, policy: &Policy) -> Salvage {
        self.fields.clear();
        let start = self.begin_of_fields();
        let mut salvage = Salvage { end: start, ..Salvage::default() };
        if start == 0 {
            return salvage;
        }
        let mut once: [Option<FieldLine>; 3] = [None; 3];
        while let Some(length) = memchr(b'\n', buf.get(salvage.end..).unwrap_or_default()) {
            let begin = salvage.end;
            let next = begin + length + 1;
            let line = &buf[begin..next];
            if length > limits.field_size.saturating_add(1)
                || next > self.begin_of_line() + limits.head_effective()
            {
                break;
            }
            if matches!(line, b"\n" | b"\r\n") {
                salvage.end = next;
                break;
            }
            let read =
                field_line(buf, begin).ok().filter(|(_, to)| matches!(&buf[*to..next], b"\n" | b"\r\n"));
            let Some((field, _)) = read else {
                salvage.flaw = Flaw::Line(begin, begin + first_wrong(line));
                break;
            };
            let slot = match field.known {
                Name::Host => Some(0),
                Name::ContentLength => Some(1),
                Name::TransferEncoding => Some(2),
                _ => None,
            };
            salvage.end = next;
            if let Some(before) = slot.and_then(|slot| once[slot].replace(field)) {
                salvage.flaw = Flaw::Repeated(before, field);
                break;
            }
            let name = field.name.of(buf);
            let is_framing = matches!(
                field.known,
                Name::ContentLength
                    | Name::TransferEncoding
                    | Name::Connection
                    | Name::Expect
                    | Name::Upgrade
                    | Name::Trailer
            );
            if !is_framing && (field.known != Name::Other || !is_left_out(policy, name)) {
                self.fields.push(field);
            }
        }
        salvage.encoding = once[2];
        salvage
    }

    /// Calls for each field line of a head of `length` bytes that the policy leaves out, with the line as it stands.
    pub fn left_out<'a>(
        &self,
        buf: &'a [u8],
        length: usize,
        policy: &Policy,
        mut each: impl FnMut(&'a [u8]),
    ) {
        let mut at = self.begin_of_fields();
        while let Some(end) = memchr(b'\n', buf.get(at..length).unwrap_or_default()) {
            let line = buf[at..at + end].strip_suffix(b"\r").unwrap_or(&buf[at..at + end]);
            let name = &line[..memchr(b':', line).unwrap_or(0)];
            let is_dropped =
                policy.underscore_fields != UnderscoreFields::Refuse && is_left_out(policy, name);
            if is_dropped && Name::of(name) == Name::Other && !name.is_empty() {
                each(line);
            }
            at += end + 1;
        }
    }
}

/// The byte of a line that keeps it from being a field line.
fn first_wrong(line: &[u8]) -> usize {
    let Some(end) = line.iter().position(|&byte| !is_token_byte(byte)) else { return line.len() - 1 };
    if line[end] != b':' || end == 0 {
        return end;
    }
    let is_wrong = |byte: &u8| matches!(byte, b'\0'..=b'\x08' | b'\n'..=b'\x1f' | b'\x7f');
    line[end..].iter().position(is_wrong).map_or(end, |at| end + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_request_head;

    fn salvage(text: &[u8]) -> (RequestHead, Salvage) {
        let mut head = RequestHead::default();
        let policy = Policy { bare_lf: true, plain_names_only: true, ..Policy::default() };
        let limits = Limits { field_size: 40, ..Limits::default() };
        let _ = parse_request_head(text, &limits, &policy, &mut head);
        let salvage = head.salvage(text, &limits, &policy);
        (head, salvage)
    }

    #[test]
    fn what_stands_before_the_flaw_is_told() {
        let line = "GET / HTTP/1.1\r\n";
        for (rest, names, end, flaw) in [
            ("Host: a\r\nX: b\r\n", &["Host", "X"][..], 15, None),
            ("Host: a\r\nReferer: r", &["Host"], 9, None),
            ("Host: a\r\nFo o: x\r\nReferer: r\r\n\r\n", &["Host"], 9, Some("Fo\x20")),
            ("Host: a\r\n : x\r\n\r\n", &["Host"], 9, Some(" ")),
            ("Host: a\r\n: x\r\n\r\n", &["Host"], 9, Some(":")),
            ("Foo: a\0b\r\n\r\n", &[], 0, Some("Foo: a\0")),
            ("Foo: a\rb\r\n\r\n", &[], 0, Some("Foo: a\r")),
            ("Foo\r\n\r\n", &[], 0, Some("Foo\r")),
            ("Foo\n\n", &[], 0, Some("Foo\n")),
            ("Host: a\nX_Y: b\nContent-Length: x\n\n", &["Host"], 34, None),
            ("Host:\r\n\r\n", &["Host"], 9, None),
            ("Host: a\r\nLong: 123456789012345678901234567890123456789\r\n\r\n", &["Host"], 9, None),
        ] {
            let text = format!("{line}{rest}");
            let (head, salvage) = salvage(text.as_bytes());
            let found: Vec<_> = head.fields.iter().map(|field| field.name.of(text.as_bytes())).collect();
            assert_eq!(found, names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>(), "{rest:?}");
            assert_eq!(salvage.end, line.len() + end, "{rest:?}");
            let told = match salvage.flaw {
                Flaw::Line(from, at) => Some(&text[from..=at]),
                _ => None,
            };
            assert_eq!(told, flaw, "{rest:?}");
        }
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
        let (_, Salvage { flaw: Flaw::Repeated(before, again), .. }) = salvage(text) else { panic!() };
        assert_eq!((before.value.of(text), again.value.of(text)), (&b"a"[..], &b"b"[..]));
        let (head, told) = salvage(b"get / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((head.fields.len(), told), (0, Salvage::default()));
    }

    #[test]
    fn what_is_left_out_is_told() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nA_B: c\r\nD.E: f\r\nG: h\r\n\r\nI_J: k\r\n";
        let policy = Policy { plain_names_only: true, ..Policy::default() };
        let mut head = RequestHead::default();
        let length = parse_request_head(text, &Limits::default(), &policy, &mut head).unwrap().unwrap();
        assert!(head.leaves_out);
        let mut lines = Vec::new();
        head.left_out(text, length, &policy, |line| lines.push(line));
        assert_eq!(lines, [&b"A_B: c"[..], b"D.E: f"]);
    }
}
