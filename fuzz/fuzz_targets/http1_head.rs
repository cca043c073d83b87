//! A request head: the same for every cut, within its limits, and never laxer than httparse.
#![no_main]

use http1::{Limits, Policy, RequestHead, UnderscoreFields, parse_request_head};
use libfuzzer_sys::fuzz_target;

// The first byte chooses limits and policy, the second where the input is cut.
fuzz_target!(|data: &[u8]| {
    let [choice, cut, buf @ ..] = data else { return };
    let limits = match choice & 1 {
        0 => Limits::default(),
        _ => Limits { request_line: 30, fields: 5, field_size: 30, head: 120, ..Limits::default() },
    };
    let policy = Policy {
        unconventional_methods: choice & 2 != 0,
        underscore_fields: match choice >> 2 & 3 {
            0 => UnderscoreFields::Drop,
            1 => UnderscoreFields::Refuse,
            _ => UnderscoreFields::Keep,
        },
        plain_names_only: choice & 16 != 0,
        bare_lf: choice & 32 != 0,
    };
    let mut head = RequestHead::default();
    let whole = parse_request_head(buf, &limits, &policy, &mut head);

    let mut parts = RequestHead::default();
    let cut = usize::from(*cut).min(buf.len());
    let first = parse_request_head(&buf[..cut], &limits, &policy, &mut parts);
    let cut_outcome = match first {
        Ok(None) => parse_request_head(buf, &limits, &policy, &mut parts),
        outcome => outcome,
    };
    assert_eq!(cut_outcome, whole);
    // One byte at a time, in a head that was used before.
    let bytewise = (0..=buf.len())
        .map(|end| parse_request_head(&buf[..end], &limits, &policy, &mut parts))
        .find(|outcome| *outcome != Ok(None));
    assert_eq!(bytewise.unwrap_or(Ok(None)), whole);

    let Ok(Some(consumed)) = whole else { return };
    assert!(consumed <= buf.len());
    assert_eq!((&parts.fields, parts.form, parts.framing), (&head.fields, head.form, head.framing));
    assert!(head.fields.len() <= limits.fields && head.target.len() <= limits.request_line);

    // A bare LF is another way to write CRLF: who takes none understands the head so written alike.
    if policy.bare_lf && limits == Limits::default() {
        let mut written = Vec::new();
        for &byte in &buf[..consumed] {
            if byte == b'\n' && written.last() != Some(&b'\r') {
                written.push(b'\r');
            }
            written.push(byte);
        }
        let strict = Policy { bare_lf: false, ..policy.clone() };
        let outcome = parse_request_head(&written, &limits, &strict, &mut parts);
        // Only the carriage returns may be what is too much of it.
        if written.len() <= limits.head {
            assert_eq!(outcome, Ok(Some(written.len())));
            assert!(head.lines(buf).eq(parts.lines(&written)));
            assert_eq!((head.framing, head.keep_alive), (parts.framing, parts.keep_alive));
        }
    }

    if policy.plain_names_only {
        return;
    }
    let mut scratch = [httparse::EMPTY_HEADER; 128];
    let mut peer = httparse::Request::new(&mut scratch);
    // httparse wants its target in UTF-8.
    if std::str::from_utf8(head.target.of(buf)).is_ok() {
        assert_eq!(peer.parse(buf), Ok(httparse::Status::Complete(consumed)));
        assert_eq!(peer.method.map(str::as_bytes), Some(head.method.of(buf)));
        assert_eq!(peer.path.map(str::as_bytes), Some(head.target.of(buf)));
        assert_eq!(peer.headers.len(), head.fields.len() + head.dropped as usize);
    }
});
