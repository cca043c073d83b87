//! Character classes of RFC 9110 §5.6.2 and RFC 3986.

/// `tchar`.
const TOKEN: u8 = 1;
/// A character of a reg-name without `%` (RFC 3986 §3.2.2): unreserved and sub-delims.
const HOST: u8 = 2;
/// A `tchar` that is neither a small letter nor `#`.
const METHOD: u8 = 4;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let mut class = 0;
        if b.is_ascii_alphanumeric() || contains(b"!#$%&'*+-.^_`|~", b) {
            class |= TOKEN;
            if !b.is_ascii_lowercase() && b != b'#' {
                class |= METHOD;
            }
        }
        if b.is_ascii_alphanumeric() || contains(b"-._~!$&'()*+,;=", b) {
            class |= HOST;
        }
        table[i] = class;
        i += 1;
    }
    table
}

const fn contains(set: &[u8], b: u8) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == b {
            return true;
        }
        i += 1;
    }
    false
}

#[inline]
pub(crate) fn is_token_byte(b: u8) -> bool {
    CLASS[b as usize] & TOKEN != 0
}

#[inline]
pub(crate) fn is_method_byte(b: u8) -> bool {
    CLASS[b as usize] & METHOD != 0
}

/// Whether all are characters of a request target: anything visible but `#`, and the bytes above ASCII.
/// RFC 3986 has fewer, but browsers send `"`, `{`, `|` and raw UTF-8, and nginx and gunicorn take them.
#[expect(clippy::needless_bitwise_bool, reason = "no early exit: so the loop becomes vector instructions")]
#[inline]
pub(crate) fn is_target(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |good, &b| good & ((b > 0x20) & (b != 0x7f) & (b != b'#')))
}

#[inline]
pub(crate) fn is_host_byte(b: u8) -> bool {
    CLASS[b as usize] & HOST != 0
}

/// No control byte but HTAB (RFC 9110 §5.5; bytes above ASCII are obs-text and allowed).
#[inline]
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    value_end(bytes, 0) == bytes.len()
}

/// Where the first byte at or behind `from` stands that cannot be in a value: a control byte other than HTAB.
#[inline]
pub(crate) fn value_end(bytes: &[u8], from: usize) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    let is_control = |b: u8| (b < 0x20 && b != b'\t') || b == 0x7f;
    let mut at = from;
    // Eight at a time. The subtraction may take a byte for a control byte that stands behind one, never the first.
    while let Some(word) = bytes.get(at..at + 8).and_then(|eight| eight.first_chunk()) {
        let word = u64::from_le_bytes(*word);
        let below = word.wrapping_sub(0x20 * EACH) & !word;
        let delete = (word ^ (0x7f * EACH)).wrapping_sub(EACH) & !(word ^ (0x7f * EACH));
        let found = (below | delete) & HIGH;
        if found == 0 {
            at += 8;
            continue;
        }
        at += found.trailing_zeros() as usize / 8;
        if is_control(bytes[at]) {
            return at;
        }
        at += 1;
    }
    bytes.get(at..).and_then(|rest| rest.iter().position(|&b| is_control(b))).map_or(bytes.len(), |n| at + n)
}

/// Where the first colon at or behind `from` stands.
#[inline]
pub(crate) fn find_colon(bytes: &[u8], from: usize) -> Option<usize> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut at = from;
    // Eight at a time: names are short. The subtraction may take a byte for a colon that stands behind one, never the
    // first.
    while let Some(word) = bytes.get(at..at + 8).and_then(|eight| eight.first_chunk()) {
        let differ = u64::from_le_bytes(*word) ^ (u64::from(b':') * EACH);
        let found = differ.wrapping_sub(EACH) & !differ & (0x80 * EACH);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes.get(at..)?.iter().position(|&b| b == b':').map(|n| at + n)
}

/// Without the optional white space (SP and HTAB) at both ends.
#[inline]
pub(crate) fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_control_byte_is_found_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            let is_control = byte.is_ascii_control() && byte != b'\t';
            for at in 0..20 {
                // What stands before and behind must not matter.
                for filler in *b"a\t\x20\x80\xff~" {
                    let mut bytes = [filler; 20];
                    bytes[at] = byte;
                    assert_eq!(
                        value_end(&bytes, 0),
                        if is_control { at } else { 20 },
                        "{byte} {at} {filler}"
                    );
                    assert_eq!(value_end(&bytes, at + 1), 20);
                    assert_eq!(is_value(&bytes), !is_control);
                }
            }
            let pair = [b'x', byte, 0x1f, b'x', b'x', b'x', b'x', b'x', b'x'];
            assert_eq!(value_end(&pair, 0), if is_control { 1 } else { 2 });
        }
    }
}
