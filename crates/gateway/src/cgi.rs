//! The head of an answer as CGI has it (RFC 3875 §6.2): fields without a status line before them, the status one of
//! them.

use crate::GatewayError;

/// Finds where a head ends. The outcome does not depend on how the bytes were split over the calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    /// How far it has looked.
    scanned: usize,
    /// Where the line begins that it looks at.
    line: usize,
}

impl HeadScanner {
    /// Looks at a head at the beginning of `buf`: `Ok(None)` asks for more bytes behind the same ones, `Ok(Some(n))`
    /// says how many it takes, the empty line that ends it included. It may have `limit` bytes.
    pub fn next(&mut self, buf: &[u8], limit: usize) -> Result<Option<usize>, GatewayError> {
        let window = &buf[..buf.len().min(limit)];
        while let Some(feed) =
            window.get(self.scanned..).and_then(|rest| rest.iter().position(|b| *b == b'\n'))
        {
            let end = self.scanned + feed;
            let line = &window[self.line..end];
            (self.scanned, self.line) = (end + 1, end + 1);
            if matches!(line, b"" | b"\r") {
                return Ok(Some(end + 1));
            }
        }
        self.scanned = window.len();
        if buf.len() >= limit { Err(GatewayError::TooLarge) } else { Ok(None) }
    }
}

/// The same head as HTTP/1.1 has it. The status is that of the first `Status`, 302 if there is none but a `Location`,
/// else 200. With `status_line`, one of HTTP may stand in front, as uwsgi and SCGI have it, and counts.
///
/// Fields that say how a message of HTTP is framed, or what is to become of its connection, are left out: here they
/// say nothing. What is no field is not noticed, that is for who parses the outcome.
pub fn to_http(head: &[u8], status_line: bool) -> Result<Vec<u8>, GatewayError> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut out = Vec::with_capacity(head.len() + 32);
    let mut rest = lines.clone();
    match rest.next() {
        Some(first) if status_line && first.starts_with(b"HTTP/") => {
            // Whatever version it says: nothing that follows from one holds here.
            let space = first.iter().position(|byte| *byte == b' ').ok_or(GatewayError::Field)?;
            out.extend_from_slice(b"HTTP/1.1");
            out.extend_from_slice(&first[space..]);
            lines = rest;
        }
        _ => {
            out.extend_from_slice(b"HTTP/1.1 ");
            let (mut status, mut location) = (None, false);
            for (name, value) in lines.clone().filter_map(field) {
                if name.eq_ignore_ascii_case(b"status") {
                    status.get_or_insert(value);
                }
                location |= name.eq_ignore_ascii_case(b"location");
            }
            match status {
                Some(status) => {
                    let is_one = matches!(status, [b'2'..=b'9', b'0'..=b'9', b'0'..=b'9', rest @ ..]
                        if matches!(rest, [] | [b' ', ..]));
                    if !is_one {
                        return Err(GatewayError::Status);
                    }
                    out.extend_from_slice(status);
                }
                None if location => out.extend_from_slice(b"302 Moved Temporarily"),
                None => out.extend_from_slice(b"200 OK"),
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    for line in lines.take_while(|line| !line.is_empty()) {
        let says_nothing = field(line).is_some_and(|(name, _)| {
            [&b"transfer-encoding"[..], b"connection", b"keep-alive"]
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known))
        });
        if !says_nothing {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(out)
}

fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(head: &str, status_line: bool) -> Result<String, GatewayError> {
        to_http(head.as_bytes(), status_line).map(|out| String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_status_is_a_field() {
        for (head, first) in [
            ("A: b\r\n\r\n", "HTTP/1.1 200 OK"),
            ("\n", "HTTP/1.1 200 OK"),
            ("Status: 404 Not Here\n\n", "HTTP/1.1 404 Not Here"),
            ("status:204\n\n", "HTTP/1.1 204"),
            ("Status: 201\nStatus: 500\n\n", "HTTP/1.1 201"),
            ("Location: /x\n\n", "HTTP/1.1 302 Moved Temporarily"),
            ("Location: /x\nStatus: 201 Made\n\n", "HTTP/1.1 201 Made"),
        ] {
            assert_eq!(http(head, false).unwrap().lines().next(), Some(first), "{head:?}");
        }
        for status in ["", "abc", "20", "2000", "100 Continue", "101 Upgrade", "099", "-20", "200OK"] {
            assert_eq!(http(&format!("Status: {status}\n\n"), false), Err(GatewayError::Status), "{status}");
        }
    }

    #[test]
    fn a_status_line_counts_where_there_may_be_one() {
        let head = "HTTP/1.0 404 Gone\r\nStatus: 200\r\n\r\n";
        assert_eq!(http(head, true).unwrap(), "HTTP/1.1 404 Gone\r\nStatus: 200\r\n\r\n");
        assert!(http(head, false).unwrap().starts_with("HTTP/1.1 200\r\nHTTP/1.0 404 Gone\r\n"));
        assert_eq!(http("HTTP/1.1\r\n\r\n", true), Err(GatewayError::Field));
    }

    #[test]
    fn what_is_about_connections_of_http_says_nothing() {
        let head = "Transfer-Encoding: chunked\nConnection: close\nKeep-Alive: 5\nContent-Length: 3\n\n";
        assert_eq!(http(head, false).unwrap(), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n");
    }

    #[test]
    fn a_head_ends_with_an_empty_line_of_either_kind() {
        for (text, taken) in [
            (&b"A: b\r\n\r\nrest"[..], Some(8)),
            (b"A: b\n\nrest", Some(6)),
            (b"A: b\n\r\nrest", Some(7)),
            (b"\nrest", Some(1)),
            (b"A: b\r\n", None),
            (b"A: b\r\n\r", None),
        ] {
            assert_eq!(HeadScanner::default().next(text, 100), Ok(taken), "{text:?}");
        }
        assert_eq!(HeadScanner::default().next(b"A: b\n\n", 6), Ok(Some(6)));
        assert_eq!(HeadScanner::default().next(b"A: bc\n\n", 6), Err(GatewayError::TooLarge));
    }
}
