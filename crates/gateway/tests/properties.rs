//! What holds for every answer, and for every way to cut it.

use gateway::cgi::{HeadScanner, to_http};
use gateway::fastcgi::{Decoder, Event};
use proptest::collection::vec;
use proptest::prelude::*;

/// All that a decoder says of `pieces`: output, complaints by record, whether it ended, and what was left over.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    output: Vec<u8>,
    complaints: Vec<Vec<u8>>,
    ended: bool,
    rest: Vec<u8>,
    refused: Option<String>,
}

fn hear<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Heard {
    let mut heard = Heard::default();
    let mut decoder = Decoder::default();
    let mut input = Vec::new();
    for piece in pieces {
        if heard.refused.is_some() {
            break;
        }
        input.extend_from_slice(piece);
        loop {
            if heard.ended {
                break;
            }
            match decoder.decode(&input) {
                Ok(Event::Stdout(at)) => {
                    heard.output.extend_from_slice(&input[at.clone()]);
                    input.drain(..at.end);
                }
                Ok(Event::Stderr { at, begins }) => {
                    if begins {
                        heard.complaints.push(Vec::new());
                    }
                    heard.complaints.last_mut().unwrap().extend_from_slice(&input[at.clone()]);
                    input.drain(..at.end);
                }
                Ok(Event::OutputEnd { consumed }) => {
                    input.drain(..consumed);
                }
                Ok(Event::End { consumed }) => {
                    input.drain(..consumed);
                    heard.ended = true;
                }
                Ok(Event::NeedMore) => {
                    input.clear();
                    break;
                }
                Err(error) => {
                    heard.refused = Some(error.to_string());
                    break;
                }
            }
        }
    }
    heard.rest = if heard.refused.is_some() { Vec::new() } else { input };
    heard
}

fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn record(kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
    let length = (content.len() as u16).to_be_bytes();
    let mut out = vec![1, kind, 0, 1, length[0], length[1], padding, 0];
    out.extend_from_slice(content);
    out.extend(std::iter::repeat_n(0xAA, padding.into()));
    out
}

#[derive(Debug, Clone)]
struct Piece {
    is_output: bool,
    content: Vec<u8>,
    padding: u8,
}

fn piece() -> impl Strategy<Value = Piece> {
    (prop::bool::weighted(0.7), vec(any::<u8>(), 1..40), 0..9_u8)
        .prop_map(|(is_output, content, padding)| Piece { is_output, content, padding })
}

proptest! {
    #[test]
    fn records_mean_the_same_however_they_are_cut(
        pieces in vec(piece(), 0..6),
        closes in any::<bool>(),
        behind in vec(any::<u8>(), 0..4),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut bytes = Vec::new();
        let mut expected = Heard { ended: true, rest: behind.clone(), ..Heard::default() };
        for Piece { is_output, content, padding } in &pieces {
            bytes.extend(record(if *is_output { 6 } else { 7 }, content, *padding));
            if *is_output {
                expected.output.extend_from_slice(content);
            } else {
                expected.complaints.push(content.clone());
            }
        }
        if closes {
            bytes.extend(record(6, b"", 3));
        }
        bytes.extend(record(3, &[0; 8], 2));
        bytes.extend_from_slice(&behind);
        prop_assert_eq!(&hear(cut(&bytes, &cuts).into_iter()), &expected);
        prop_assert_eq!(&hear(bytes.chunks(1)), &expected);
    }

    #[test]
    fn anything_is_answered_the_same_however_it_is_cut(
        records in vec((0..9_u8, 0..3_u16, vec(any::<u8>(), 0..20), 0..3_u8), 0..5),
        behind in vec(any::<u8>(), 0..20),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut bytes = Vec::new();
        for (kind, request, content, padding) in records {
            let mut one = record(kind, &content, padding);
            one[3] = request as u8;
            bytes.extend(one);
        }
        bytes.extend(behind);
        let whole = hear(std::iter::once(&bytes[..]));
        prop_assert_eq!(&hear(cut(&bytes, &cuts).into_iter()), &whole);
        prop_assert_eq!(&hear(bytes.chunks(1)), &whole);
    }

    #[test]
    fn a_head_ends_where_it_ends_however_it_is_cut(
        bytes in prop_oneof!["([A-c]{0,3}: ?[a-c\r]{0,4}\r?\n){0,4}\r?\n?[a-c]{0,3}".prop_map(String::into_bytes), vec(any::<u8>(), 0..40)],
        limit in 1..40_usize,
    ) {
        let whole = HeadScanner::default().next(&bytes, limit);
        let mut scanner = HeadScanner::default();
        let mut cut = Ok(None);
        for end in 0..=bytes.len() {
            cut = scanner.next(&bytes[..end], limit);
            if cut != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(cut, whole);
    }

    #[test]
    fn no_line_of_a_head_becomes_two(bytes in vec(any::<u8>(), 0..60), status_line in any::<bool>()) {
        let feeds = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').count();
        if let Ok(http) = to_http(&bytes, status_line) {
            prop_assert!(http.ends_with(b"\r\n\r\n"));
            prop_assert!(feeds(&http) <= feeds(&bytes) + 3);
            prop_assert_eq!(http.windows(4).position(|four| four == b"\r\n\r\n"), Some(http.len() - 4));
        }
    }
}
