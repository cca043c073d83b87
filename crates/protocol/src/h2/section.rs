//! Header sections as they come, compressed (RFC 7541): whether one is malformed.
//!
//! The codec decompresses them. But it calls a name with capitals what it also calls a block that cannot be
//! decompressed, and tells nobody of pseudo-header fields in trailers. Here the literals of a block are looked at, which
//! needs no table: what is not literal was literal once, and was looked at then.

use std::borrow::Cow;

/// The last entry of the static table that is a pseudo-header field (RFC 7541, appendix A).
const PSEUDO: usize = 14;
/// Those that a request may have (RFC 9113 §8.3.1, RFC 8441 §4), and `:status`, which the codec refuses by itself.
const KNOWN: [&[u8]; 6] = [b":method", b":scheme", b":authority", b":path", b":protocol", b":status"];

/// Whether a field of the section, of which this is the whole block, cannot be in a request (RFC 9113 §8.2.1, §8.3).
/// `is_trailers`: the section is the trailer section, which has no pseudo-header fields at all; one whose name was
/// literal in an earlier section only is not seen.
///
/// What cannot be decompressed is not malformed: the answer is by the fields in front of it.
pub(super) fn is_malformed(mut block: &[u8], is_trailers: bool) -> bool {
    while let Some(&first) = block.first() {
        let prefix = match first {
            0x80.. => 7,
            0x40..=0x7f => 6,
            0x20..=0x3f => 5,
            _ => 4,
        };
        let Some(number) = integer(&mut block, prefix) else { return false };
        if prefix == 5 {
            continue;
        }
        let mut is_pseudo = (1..=PSEUDO).contains(&number);
        if prefix == 7 {
            if is_trailers && is_pseudo {
                return true;
            }
            continue;
        }
        if number == 0 {
            let Some(name) = string(&mut block) else { return false };
            is_pseudo = name.starts_with(b":");
            let is_known = if is_pseudo { KNOWN.contains(&&*name) } else { is_name(&name) };
            if !is_known {
                return true;
            }
        }
        if is_trailers && is_pseudo {
            return true;
        }
        let Some(value) = string(&mut block) else { return false };
        if !is_value(&value) || (is_pseudo && str::from_utf8(&value).is_err()) {
            return true;
        }
    }
    false
}

/// A token in small letters.
fn is_name(name: &[u8]) -> bool {
    let is_part = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_part)
}

fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..))
}

/// An integer (RFC 7541 §5.1); `None` if it does not end, or is larger than anybody means.
fn integer(block: &mut &[u8], prefix: u32) -> Option<usize> {
    let most = (1_usize << prefix) - 1;
    let (first, mut rest) = block.split_first()?;
    let mut number = usize::from(*first) & most;
    if number == most {
        for shift in [0, 7, 14, 21] {
            let (byte, after) = rest.split_first()?;
            rest = after;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Some(number);
            }
        }
        return None;
    }
    *block = rest;
    Some(number)
}

/// A string (RFC 7541 §5.2); `None` if it does not end, or is not of Huffman's code.
fn string<'a>(block: &mut &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let is_coded = block.first()? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length)?;
    *block = rest;
    if is_coded { decode(bytes).map(Cow::Owned) } else { Some(Cow::Borrowed(bytes)) }
}

/// Huffman's code is canonical: codes of one length are consecutive, and go on where the shorter ones ended.
fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len() * 8 / 5);
    // The code so far, its length, and of that length the first code and the place of its symbol.
    let (mut code, mut length, mut first, mut place) = (0_u32, 0, 0_u32, 0_usize);
    for byte in bytes {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(byte >> bit & 1);
            length += 1;
            first <<= 1;
            let count = u32::from(*COUNTS.get(length)?);
            if code - first < count {
                text.push(*SYMBOLS.get(place + (code - first) as usize)?);
                (code, length, first, place) = (0, 0, 0, 0);
            } else {
                first += count;
                place += count as usize;
            }
        }
    }
    // What is left over is less than a byte of ones.
    (length < 8 && code == (1 << length) - 1).then_some(text)
}

/// How many symbols have a code of so many bits (RFC 7541, appendix B).
const COUNTS: [u8; 31] =
    [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];

/// The symbols by their codes; that of the end of the string would come last.
#[rustfmt::skip]
const SYMBOLS: [u8; 256] = [
    48, 49, 50, 97, 99, 101, 105, 111, 115, 116, 32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61,
    65, 95, 98, 100, 102, 103, 104, 108, 109, 110, 112, 114, 117, 58, 66, 67, 68, 69, 70, 71, 72,
    73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89, 106, 107, 113, 118, 119, 120,
    121, 122, 38, 42, 44, 59, 88, 90, 33, 34, 40, 41, 63, 39, 43, 124, 35, 62, 0, 36, 64, 91, 93,
    126, 94, 125, 60, 96, 123, 92, 195, 208, 128, 130, 131, 162, 184, 194, 224, 226, 153, 161, 167,
    172, 176, 177, 179, 209, 216, 217, 227, 229, 230, 129, 132, 133, 134, 136, 146, 154, 156, 160,
    163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190, 196, 198, 228, 232, 233, 1, 135,
    137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175,
    180, 182, 183, 188, 191, 197, 231, 239, 9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236,
    237, 199, 207, 234, 235, 192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243,
    255, 203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253,
    254, 2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29,
    30, 31, 127, 220, 249, 10, 13, 22,
];

#[cfg(test)]
mod tests;
