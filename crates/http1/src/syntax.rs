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
#[expect(clippy::needless_bitwise_bool, reason = "no early exit: so the loop becomes vector instructions")]
#[inline]
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |good, &b| good & (((b >= 0x20) & (b != 0x7f)) | (b == b'\t')))
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
