//! A chunked body: the same for every cut, and what it was made of can be encoded again.
#![no_main]

use http1::{ChunkedDecoder, ChunkedError, ChunkedEvent, Limits, encode_chunk, encode_last_chunk};
use libfuzzer_sys::fuzz_target;

type Trailers = Vec<(Vec<u8>, Vec<u8>)>;

// The first byte chooses the limits, the second how long the pieces are.
fuzz_target!(|data: &[u8]| {
    let [choice, length, input @ ..] = data else { return };
    let limits = match choice & 1 {
        0 => Limits::default(),
        _ => Limits {
            fields: 3,
            field_size: 20,
            trailers: 40,
            chunk_extension: 8,
            chunk_extensions_total: 20,
            ..Limits::default()
        },
    };
    let whole = decode(input, input.len().max(1), &limits);
    assert_eq!(decode(input, usize::from(*length).max(1), &limits), whole);
    assert_eq!(decode(input, 1, &limits), whole);

    if let (body, Ok(Some((consumed, trailers)))) = whole {
        assert!(consumed <= input.len());
        let mut wire = Vec::new();
        encode_chunk(&mut wire, &body);
        let fields = trailers.iter().map(|(name, value)| (&name[..], &value[..]));
        encode_last_chunk(&mut wire, fields).expect("what was read can be written");
        let again = decode(&wire, wire.len(), &Limits::default());
        assert_eq!(again, (body, Ok(Some((wire.len(), trailers)))));
    }
});

/// The data, and at the end how much of the input the body took, with the trailers.
fn decode(
    input: &[u8],
    length: usize,
    limits: &Limits,
) -> (Vec<u8>, Result<Option<(usize, Trailers)>, ChunkedError>) {
    let mut decoder = ChunkedDecoder::new(limits);
    let (mut body, mut used) = (Vec::new(), 0);
    for piece in input.chunks(length) {
        let mut at = 0;
        loop {
            match decoder.decode(&piece[at..]) {
                Err(error) => {
                    assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(error));
                    return (body, Err(error));
                }
                Ok(ChunkedEvent::NeedMore) => break,
                Ok(ChunkedEvent::Data(range)) => {
                    assert!(!range.is_empty());
                    body.extend_from_slice(&piece[at..][range.clone()]);
                    at += range.end;
                }
                Ok(ChunkedEvent::End { consumed }) => {
                    let trailers = decoder.trailers().iter();
                    let trailers = trailers.map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
                    return (body, Ok(Some((used + at + consumed, trailers))));
                }
            }
        }
        used += piece.len();
    }
    (body, Ok(None))
}
