//! What holds for every input, and for every way to cut it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use http1::{
    AnswerTo, BodyFraming, ChunkHeader, ChunkedDecoder, ChunkedEvent, EncodeError, Limits, Policy,
    RequestHead, ResponseError, ResponseFraming, ResponseHead, Version, encode_chunk, encode_last_chunk,
    encode_response_head, parse_authority, parse_request_head, parse_response_head,
};

mod common;
use common::{End, serve};

/// Small enough that generated input meets them.
fn tight() -> Limits {
    Limits {
        request_line: 40,
        fields: 6,
        field_size: 40,
        head: 160,
        trailers: 40,
        chunk_extension: 8,
        chunk_extensions_total: 16,
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    prop_oneof![Just(Limits::default()), Just(tight())]
}

/// Lines that are right, nearly right, and dangerous.
fn field_line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => ("[A-Za-z0-9-]{1,12}", "[ \t]{0,2}[!-~]{0,12}[ \t]{0,2}").prop_map(|(n, v)| format!("{n}:{v}").into()),
        4 => select(vec![
            "Content-Length: 3", "Content-Length:0", "content-length: 3 ", "Transfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked", "Connection: close", "Connection: keep-alive, X-A", "Host: b",
            "Expect: 100-continue", "X_A: 1", "Upgrade: h2c", "A:\tb\tc", "Empty:", " fold", "A : b", ": c",
        ]).prop_map(|line| line.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..20),
    ]
}

fn head() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        4 => ("(GET|HEAD|POST|OPTIONS|X)", "/[a-z/?%=&]{0,12}", "1[.][01]")
            .prop_map(|(m, t, v)| format!("{m} {t} HTTP/{v}")),
        1 => select(vec![
            "OPTIONS * HTTP/1.1", "CONNECT a:1 HTTP/1.1", "GET http://a/ HTTP/1.1", "GET / HTTP/2.0", "GET /",
            "", "get / HTTP/1.1", "GET  / HTTP/1.1",
        ]).prop_map(str::to_owned),
    ];
    (first, prop::bool::weighted(0.9), vec(field_line(), 0..5)).prop_map(|(first, host, lines)| {
        let mut bytes = first.into_bytes();
        bytes.extend_from_slice(if host { b"\r\nHost: a\r\n" } else { b"\r\n" });
        for line in lines {
            bytes.extend(line);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    })
}

fn chunked_body() -> impl Strategy<Value = Vec<u8>> {
    let extension = prop_oneof![
        4 => Just(String::new()),
        1 => select(vec![";a", ";a=b", "; a = \"b\\\"\" ", " ", ";", ";a=\"", ";aaaaaaaaaa"]).prop_map(str::to_owned),
    ];
    let chunk = (vec(any::<u8>(), 1..20), extension, "0{0,2}", prop::bool::weighted(0.02));
    (vec(chunk, 0..5), vec(field_line(), 0..3), prop::bool::weighted(0.3)).prop_map(
        |(chunks, trailers, with)| {
            let mut bytes = Vec::new();
            for (data, extension, zeros, wrong) in chunks {
                bytes.extend(
                    format!("{zeros}{:x}{extension}\r\n", data.len() + usize::from(wrong)).into_bytes(),
                );
                bytes.extend(data);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n");
            for trailer in trailers.into_iter().filter(|_| with) {
                bytes.extend(trailer);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"\r\n");
            bytes
        },
    )
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let chunked = chunked_body().prop_map(|body| {
        let mut bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        bytes.extend(body);
        bytes
    });
    prop_oneof![3 => head(), 2 => chunked]
}

/// Several messages one after the other, in which a few bytes may have been changed, put in or left out.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![select(b"\r\n \t:;,0x\0".to_vec()), any::<u8>()];
    let change = (0..3u8, any::<Index>(), byte);
    (vec(message(), 1..4), vec(change, 0..3)).prop_map(|(messages, changes)| {
        let mut bytes = messages.concat();
        for (kind, place, byte) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

/// The pieces between the cuts.
fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for cut in cuts {
        pieces.push(&bytes[start..cut]);
        start = cut;
    }
    pieces.push(&bytes[start..]);
    pieces
}

/// Some of the CRLF as LF. Bodies change with it, which only makes the next head another one.
fn loosened(bytes: &[u8], mut choose: impl FnMut() -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        if !(byte == b'\r' && bytes.get(at + 1) == Some(&b'\n') && choose()) {
            out.push(byte);
        }
    }
    out
}

/// Every bare LF as CRLF.
fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    for &byte in text {
        if byte == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(byte);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_outcome_does_not_depend_on_the_cuts(
        bytes in stream(),
        cuts in vec(any::<Index>(), 0..8),
        limits in limits(),
    ) {
        let policy = Policy::default();
        let whole = serve([&bytes[..]], &limits, &policy);
        prop_assert_eq!(&serve(pieces(&bytes, &cuts), &limits, &policy), &whole);
        prop_assert_eq!(&serve(bytes.chunks(1), &limits, &policy), &whole);
    }

    #[test]
    fn arbitrary_bytes_end_somehow(bytes in vec(any::<u8>(), 0..200), limits in limits()) {
        let whole = serve([&bytes[..]], &limits, &Policy::default());
        prop_assert_eq!(serve(bytes.chunks(1), &limits, &Policy::default()), whole);
        let mut decoder = ChunkedDecoder::new(&limits);
        if let Ok(ChunkedEvent::End { consumed }) = decoder.decode(&bytes) {
            prop_assert!(consumed <= bytes.len());
        }
        parse_authority(&bytes);
    }

    /// Whatever is accepted holds nothing that a stricter or laxer reader could take for something else.
    #[test]
    fn what_is_accepted_is_clean(bytes in stream()) {
        let mut head = RequestHead::default();
        let outcome = parse_request_head(&bytes, &Limits::default(), &Policy::default(), &mut head);
        if let Ok(Some(consumed)) = outcome {
            let text = &bytes[..consumed];
            prop_assert!(text.ends_with(b"\r\n\r\n"));
            for (at, &b) in text.iter().enumerate() {
                match b {
                    b'\n' => prop_assert_eq!(text[at - 1], b'\r'),
                    b'\r' => prop_assert_eq!(text[at + 1], b'\n'),
                    b => prop_assert!(b >= 0x20 && b != 0x7f || b == b'\t'),
                }
            }
            // Line by line, as the simplest reader would.
            let begin = head.method.start as usize;
            let mut lines = text[begin..].split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
            let mut words = lines.next().unwrap().split(|&b| b == b' ');
            prop_assert_eq!(words.next(), Some(head.method.of(&bytes)));
            prop_assert_eq!(words.next(), Some(head.target.of(&bytes)));
            // A higher minor version is read as the highest that is known (RFC 9110 §2.5).
            let version = words.next().map(|word| match word {
                [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => b"HTTP/1.1",
                word => word,
            });
            prop_assert_eq!(version, Some(head.version.as_str().as_bytes()));
            prop_assert_eq!(words.next(), None);
            let mut kept = head.lines(&bytes);
            let mut lengths = 0;
            let mut codings = 0;
            for line in lines.take_while(|line| !line.is_empty()) {
                let colon = line.iter().position(|&b| b == b':').unwrap();
                let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
                lengths += usize::from(name.eq_ignore_ascii_case(b"content-length"));
                codings += usize::from(name.eq_ignore_ascii_case(b"transfer-encoding"));
                if !name.contains(&b'_') {
                    prop_assert_eq!(kept.next(), Some((name, value)));
                }
            }
            prop_assert_eq!(kept.next(), None);
            let expected = match head.framing {
                BodyFraming::None => (0, 0),
                BodyFraming::Length(_) => (1, 0),
                BodyFraming::Chunked => (0, 1),
            };
            prop_assert_eq!((lengths, codings), expected);
        }
    }

    /// A bare LF is another way to write CRLF and nothing else: the same stream with CRLF in its heads is understood
    /// alike by a strict reader, request by request, and what that one refuses nobody lets through.
    #[test]
    fn a_bare_lf_means_crlf_and_nothing_else(bytes in stream(), loosen in vec(any::<bool>(), 1..40)) {
        let lenient = Policy { bare_lf: true, ..Policy::default() };
        let mut choices = loosen.iter().cycle();
        let mut rest = loosened(&bytes, || *choices.next().unwrap_or(&false));
        let (mut head, mut strict) = (RequestHead::default(), RequestHead::default());
        while let Ok(Some(consumed)) = parse_request_head(&rest, &Limits::default(), &lenient, &mut head) {
            let text = &rest[..consumed];
            let written = with_crlf(text);
            let outcome = parse_request_head(&written, &Limits::default(), &Policy::default(), &mut strict);
            prop_assert_eq!(outcome, Ok(Some(written.len())));
            prop_assert!(head.lines(text).eq(strict.lines(&written)));
            prop_assert_eq!(head.method.of(text), strict.method.of(&written));
            prop_assert_eq!(head.target.of(text), strict.target.of(&written));
            prop_assert_eq!(head.authority.map(|at| at.of(text)), strict.authority.map(|at| at.of(&written)));
            prop_assert_eq!(
                (head.version, head.framing, head.keep_alive, head.upgrade, head.expect_continue, head.dropped),
                (
                    strict.version,
                    strict.framing,
                    strict.keep_alive,
                    strict.upgrade,
                    strict.expect_continue,
                    strict.dropped
                )
            );
            // What is handed on has no line end in it.
            for (name, value) in head.lines(text) {
                prop_assert!(![name, value].iter().any(|part| part.contains(&b'\n') || part.contains(&b'\r')));
            }
            rest = rest.split_off(consumed);
        }
    }

    /// Where a bare LF is allowed, nothing else changes: what the strict reader takes is taken alike.
    #[test]
    fn what_is_strictly_right_stays_what_it_is(bytes in stream(), cuts in vec(any::<Index>(), 0..8)) {
        let lenient = Policy { bare_lf: true, ..Policy::default() };
        let strict = serve([&bytes[..]], &Limits::default(), &Policy::default());
        let whole = serve([&bytes[..]], &Limits::default(), &lenient);
        prop_assert_eq!(&serve(pieces(&bytes, &cuts), &Limits::default(), &lenient), &whole);
        prop_assert!(whole.0.starts_with(&strict.0));
        if strict.1 != End::Head(http1::HeadError::BareLf) {
            prop_assert_eq!(whole, strict);
        }
    }

    #[test]
    fn chunks_come_back_as_they_were_written(
        data in vec(vec(any::<u8>(), 0..300), 0..6),
        trailers in vec(("[A-Za-z]{1,8}-[0-9]", "([!-~]([ -~]{0,10}[!-~])?)?"), 0..3),
        after in vec(any::<u8>(), 0..10),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let mut wire = Vec::new();
        for data in &data {
            encode_chunk(&mut wire, data);
        }
        let fields = || trailers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        encode_last_chunk(&mut wire, fields()).unwrap();
        let end = wire.len();
        wire.extend(&after);

        let mut decoder = ChunkedDecoder::new(&Limits::default());
        let (mut body, mut used) = (Vec::new(), 0);
        'pieces: for piece in pieces(&wire, &cuts) {
            let mut at = 0;
            loop {
                match decoder.decode(&piece[at..]).unwrap() {
                    ChunkedEvent::NeedMore => break,
                    ChunkedEvent::Data(range) => {
                        body.extend_from_slice(&piece[at..][range.clone()]);
                        at += range.end;
                    }
                    ChunkedEvent::End { consumed } => {
                        used += at + consumed;
                        break 'pieces;
                    }
                }
            }
            used += piece.len();
        }
        prop_assert!(decoder.is_done());
        prop_assert_eq!(used, end);
        prop_assert_eq!(body, data.concat());
        prop_assert!(decoder.trailers().iter().eq(fields()));
    }

    #[test]
    fn chunk_headers_are_hexadecimal(length in prop_oneof![1..5000u64, any::<u64>()]) {
        prop_assume!(length > 0);
        let header = ChunkHeader::new(length).as_ref().to_vec();
        prop_assert_eq!(header, format!("{length:x}\r\n").into_bytes());
    }

    /// A response head has as many lines as fields were given, whatever they hold, or it is not written.
    #[test]
    fn nothing_is_injected_into_a_response(
        status in 0..1200u16,
        reason in proptest::option::of(vec(any::<u8>(), 0..8)),
        fields in vec((prop_oneof![Just(b"X-A".to_vec()), vec(any::<u8>(), 0..6)], vec(any::<u8>(), 0..8)), 0..4),
        version in select(vec![Version::Http10, Version::Http11]),
    ) {
        let mut out = b"before".to_vec();
        let lines = fields.iter().map(|(name, value)| (&name[..], &value[..]));
        match encode_response_head(&mut out, version, status, reason.as_deref(), lines) {
            Err(error) => {
                prop_assert_eq!(&out, b"before");
                prop_assert_eq!(error == EncodeError::Status, !(100..1000).contains(&status));
            }
            Ok(length) => {
                prop_assert_eq!(length, out.len() - 6);
                let text = &out[6..];
                let lines: Vec<_> = text.split(|&b| b == b'\n').collect();
                // The status line, the fields, the empty line, and nothing behind it.
                prop_assert_eq!(lines.len(), fields.len() + 3);
                prop_assert!(lines[..lines.len() - 1].iter().all(|line| line.ends_with(b"\r")));
                let mut scratch = [httparse::EMPTY_HEADER; 8];
                let mut response = httparse::Response::new(&mut scratch);
                prop_assert_eq!(response.parse(text), Ok(httparse::Status::Complete(text.len())));
                prop_assert_eq!(response.code, Some(status));
            }
        }
    }
}

#[test]
fn generated_streams_are_neither_all_good_nor_all_bad() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut good, mut heads, mut bodies, mut incomplete) = (0, 0, 0, 0);
    for _ in 0..1000 {
        let bytes = stream().new_tree(&mut runner).unwrap().current();
        match serve([&bytes[..]], &Limits::default(), &Policy::default()).1 {
            End::Clean => good += 1,
            End::Incomplete => incomplete += 1,
            End::Head(_) => heads += 1,
            End::Body(_) => bodies += 1,
        }
    }
    assert!(
        good > 100 && heads > 100 && bodies > 50 && incomplete > 10,
        "{good} {heads} {bodies} {incomplete}"
    );
}

fn response() -> impl Strategy<Value = Vec<u8>> {
    let first = select(vec![
        "HTTP/1.1 200 OK",
        "HTTP/1.0 200 OK",
        "HTTP/1.1 204 No Content",
        "HTTP/1.1 100 Continue",
        "HTTP/1.1 101 S",
        "HTTP/1.1 304",
        "HTTP/2.0 200 OK",
        "HTTP/1.1 20 OK",
        "ICY 200 OK",
        "",
    ]);
    let end = prop_oneof![8 => Just("\r\n"), 1 => Just("\n")];
    (first, vec((field_line(), end), 0..6)).prop_map(|(first, lines)| {
        let mut bytes = [first.as_bytes(), b"\r\n"].concat();
        for (line, end) in lines {
            bytes.extend(line);
            bytes.extend_from_slice(end.as_bytes());
        }
        bytes.extend_from_slice(b"\r\nbody");
        bytes
    })
}

/// Its length, its status, its framing, whether the connection stays, and how many fields it has.
type Said = (usize, u16, ResponseFraming, bool, usize);

/// All that a head says, or why it is none.
fn outcome(
    pieces: &[&[u8]],
    limits: &Limits,
    bare_lf: bool,
    to: AnswerTo,
) -> Result<Option<Said>, ResponseError> {
    let (mut buf, mut head) = (Vec::new(), ResponseHead::default());
    for piece in pieces {
        buf.extend_from_slice(piece);
        if let Some(n) = parse_response_head(&buf, limits, bare_lf, to, &mut head)? {
            return Ok(Some((n, head.status, head.framing, head.keep_alive, head.fields.len())));
        }
    }
    Ok(None)
}

proptest! {
    #[test]
    fn a_response_head_is_the_same_however_it_is_split(
        bytes in prop_oneof![4 => response(), 1 => vec(any::<u8>(), 0..60)],
        limits in limits(),
        bare_lf: bool,
        head: bool,
        upgrade: bool,
        cuts in vec(any::<Index>(), 0..5),
    ) {
        let to = AnswerTo { head, upgrade };
        let whole = outcome(&[&bytes], &limits, bare_lf, to);
        let each: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(outcome(&each, &limits, bare_lf, to), whole);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(outcome(&pieces, &limits, bare_lf, to), whole);
        if let Ok(Some((taken, status, framing, keep_alive, _))) = whole {
            prop_assert!(taken <= limits.head && (100..=999).contains(&status));
            prop_assert!(!(keep_alive && framing == ResponseFraming::Close));
            prop_assert!(!head || framing == ResponseFraming::None);
        }
    }
}
