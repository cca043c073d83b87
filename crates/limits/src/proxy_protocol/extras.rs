//! What a header of version 2 says beside addresses (2.2.1 to 2.2.8): pieces of a type, a length, and so many bytes.

use std::io::Write;

/// The type of the piece about TLS, in which others lie.
const SSL: u8 = 0x20;
/// Bytes before those others: whether a certificate was shown (1), and what came of looking at it (4).
const SSL_FIXED: usize = 5;

/// Names of pieces.
const NAMES: [(&[u8], u8); 5] =
    [(b"alpn", 0x01), (b"authority", 0x02), (b"unique_id", 0x05), (b"ssl", SSL), (b"netns", 0x30)];
/// Names of those about TLS.
const SSL_NAMES: [(&[u8], u8); 5] =
    [(b"version", 0x21), (b"cn", 0x22), (b"cipher", 0x23), (b"sig_alg", 0x24), (b"key_alg", 0x25)];

/// The pieces as they came: at most as many bytes as a header may have. They are read when somebody asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras(pub(super) Box<[u8]>);

impl Extras {
    /// Appends the piece of that name: `$proxy_protocol_tlv_NAME`, with `0x…` in the place of a name for any type. Whether
    /// it is there; one behind another that is broken is not.
    pub fn write(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        match name.strip_prefix(b"ssl_") {
            None => {
                let found = type_of(name, &NAMES).and_then(|kind| find(&self.0, kind));
                found.is_some_and(|value| put(value, out))
            }
            Some(name) => {
                let Some((fixed, inner)) =
                    find(&self.0, SSL).and_then(<[u8]>::split_first_chunk::<SSL_FIXED>)
                else {
                    return false;
                };
                if name == b"verify" {
                    let [_, verify @ ..] = fixed;
                    return write!(out, "{}", u32::from_be_bytes(*verify)).is_ok();
                }
                let found = type_of(name, &SSL_NAMES).and_then(|kind| find(inner, kind));
                found.is_some_and(|value| put(value, out))
            }
        }
    }
}

fn type_of(name: &[u8], names: &[(&[u8], u8)]) -> Option<u8> {
    if let Some(digits) = name.strip_prefix(b"0x") {
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| is_number)?.trim_start_matches('0');
        // Types are of one byte.
        return if digits.is_empty() { Some(0) } else { u8::from_str_radix(digits, 16).ok() };
    }
    names.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// The first piece of the type.
fn find(mut pieces: &[u8], wanted: u8) -> Option<&[u8]> {
    while let [kind, high, low, rest @ ..] = pieces {
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        if *kind == wanted {
            return Some(value);
        }
        pieces = rest;
    }
    None
}

fn put(value: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(value);
    true
}
