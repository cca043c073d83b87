use super::*;

/// A literal field that is kept in no table.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut block = vec![0, name.len() as u8];
    block.extend_from_slice(name);
    block.push(value.len() as u8);
    block.extend_from_slice(value);
    block
}

#[test]
fn names_and_values_that_no_request_has() {
    for (name, value) in [
        (&b"X-TEST"[..], &b"ok"[..]),
        (b":test", b"ok"),
        (b":Path", b"/"),
        (b"", b"ok"),
        (b"a b", b"ok"),
        (b"a\0", b"ok"),
        (b"a:", b"ok"),
        (b"x-a", b"a\nb"),
        (b"x-a", b"\x7f"),
        (b":path", b"/\xff"),
    ] {
        assert!(is_malformed(&literal(name, value), false), "{name:?} {value:?}");
    }
    for (name, value) in
        [(&b"x-test"[..], &b"o k\t\xff"[..]), (b":path", "/\u{e4}".as_bytes()), (b":status", b"200")]
    {
        assert!(!is_malformed(&literal(name, value), false), "{name:?} {value:?}");
    }
}

#[test]
fn trailers_have_no_pseudo_header_fields() {
    // `:method: POST`, indexed; `:path`, its name indexed; the same written out.
    for block in [&[0x83][..], &[0x04, 1, b'/'], &[0x44, 1, b'/'], &literal(b":path", b"/")] {
        assert!(is_malformed(block, true), "{block:?}");
        assert!(!is_malformed(block, false), "{block:?}");
    }
    // `accept-charset`, the first that is none, and one of the dynamic table.
    assert!(!is_malformed(&[0x8f, 0xbe], true));
}

#[test]
fn what_cannot_be_decompressed_is_another_error() {
    // Lengths beyond the end, an integer without one, padding that is not ones, the end of the string within it.
    for block in [
        &[0, 5, b'X'][..],
        &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0, 0x81, 0x00],
        &[0, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x40],
    ] {
        assert!(!is_malformed(block, true), "{block:?}");
    }
    // But what is in front of it counts.
    assert!(is_malformed(&[&literal(b"A", b"b")[..], &[0x40]].concat(), false));
}

#[test]
fn codes_of_the_examples_of_the_rfc() {
    // RFC 7541, appendix C.4 and C.6.
    for (coded, text) in [
        (
            &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
            &b"www.example.com"[..],
        ),
        (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], b"no-cache"),
        (&[0x64, 0x02], b"302"),
        (&[0x9b, 0xd9, 0xab], b"gzip"),
    ] {
        assert_eq!(decode(coded).as_deref(), Some(text));
    }
    assert_eq!(COUNTS.iter().map(|count| usize::from(*count)).sum::<usize>(), SYMBOLS.len() + 1);
}
