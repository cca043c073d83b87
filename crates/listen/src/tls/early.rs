//! Early data that is offered: what the library does not say of a hello.

/// The type of a record with a part of the handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The extension (RFC 8446 §4.2.10).
const EARLY_DATA: u16 = 42;

/// Whether the hello that these records begin with offers early data. One that makes no sense offers none: others look
/// at it for that.
pub(super) fn is_offered(records: &[u8]) -> bool {
    is_in(&fragments(records)).unwrap_or(false)
}

/// What the records of the handshake hold.
fn fragments(mut records: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(records.len());
    while let Some(([HANDSHAKE, _, _, high, low], rest)) = records.split_first_chunk() {
        let Some((fragment, behind)) = rest.split_at_checked(u16::from_be_bytes([*high, *low]).into()) else {
            break;
        };
        all.extend_from_slice(fragment);
        records = behind;
    }
    all
}

fn is_in(message: &[u8]) -> Option<bool> {
    let (kind, rest) = message.split_first()?;
    if *kind != CLIENT_HELLO {
        return None;
    }
    let mut hello = take(&mut { rest }, 3)?;
    // Version and random bytes; the session's name, cipher suites, ways of compression.
    (_, hello) = hello.split_at_checked(2 + 32)?;
    for width in [1, 2, 1] {
        take(&mut hello, width)?;
    }
    let mut extensions = take(&mut hello, 2)?;
    while let Some((kind, rest)) = extensions.split_first_chunk() {
        if u16::from_be_bytes(*kind) == EARLY_DATA {
            return Some(true);
        }
        extensions = rest;
        take(&mut extensions, 2)?;
    }
    Some(false)
}

/// Bytes behind their length, which has `width` bytes.
fn take<'a>(from: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let (length, rest) = from.split_at_checked(width)?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (taken, rest) = rest.split_at_checked(length)?;
    *from = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([2, 0, 0, 0, 2, 0x13, 0x01, 1, 0]);
        let mut all = Vec::new();
        for (kind, value) in extensions {
            all.extend(kind.to_be_bytes());
            all.extend((value.len() as u16).to_be_bytes());
            all.extend(*value);
        }
        body.extend((all.len() as u16).to_be_bytes());
        body.extend(all);
        let length = body.len() as u32;
        [&[1], &length.to_be_bytes()[1..], &body].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record = |part: &[u8]| [&[22, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat();
        message.chunks(size).flat_map(record).collect()
    }

    #[test]
    fn it_is_found_where_it_is_however_the_hello_is_cut() {
        // The number in a value, or where a length stands, is none.
        let without = hello(&[(0, &[0, 42]), (42 << 8, &[]), (1, &[0; 42])]);
        let with = hello(&[(0, &[1, 2]), (42, &[]), (41, &[0; 99])]);
        for size in [1, 2, 7, 64, 16384] {
            assert!(!is_offered(&records(&without, size)));
            let mut records = records(&with, size);
            records.extend([23, 3, 3, 0, 1, 9]);
            assert!(is_offered(&records));
        }
    }

    #[test]
    fn what_makes_no_sense_offers_none() {
        let with = hello(&[(0, &[1, 2]), (1, &[]), (42, &[])]);
        for end in 0..with.len() {
            assert!(!is_offered(&records(&with[..end], 50)));
        }
        let whole = records(&with, 50);
        for end in 0..whole.len() {
            assert!(!is_offered(&whole[..end]));
        }
        let mut other = with;
        other[0] = 2;
        assert!(!is_offered(&records(&other, 50)));
    }
}
