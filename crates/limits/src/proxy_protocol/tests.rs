use proptest::prelude::*;

use super::*;

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// Addresses, and the header's length.
fn read(bytes: &[u8]) -> Result<Option<(Option<Addresses>, usize)>, Invalid> {
    Ok(parse(bytes)?.map(|(header, length)| (header.addresses, length)))
}

fn v2(version_command: u8, family_transport: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = V2_SIGNATURE.to_vec();
    bytes.extend([version_command, family_transport]);
    bytes.extend((content.len() as u16).to_be_bytes());
    bytes.extend(content);
    bytes
}

/// 192.0.2.1:5000 to 192.0.2.2:80, and a TLV.
const INET: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 0, 80, 4, 0, 1, 9];

#[test]
fn version_1() {
    let four = addresses("192.0.2.1:5000", "192.0.2.2:80");
    let six = addresses("[2001:db8::1]:0", "[::1]:65535");
    for (line, expected) in [
        ("PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n", Ok(Some(four))),
        ("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", Ok(Some(six))),
        ("PROXY UNKNOWN\r\n", Ok(None)),
        ("PROXY UNKNOWN anything at all\r\n", Ok(None)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 5000 80 \r\n", Err(Invalid::Broken)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 5000\r\n", Err(Invalid::Broken)),
        ("PROXY TCP4 192.0.2.1  192.0.2.2 5000 80\r\n", Err(Invalid::Broken)),
        ("PROXY TCP4 192.0.2.256 192.0.2.2 5000 80\r\n", Err(Invalid::Broken)),
        ("PROXY TCP4 ::1 ::1 5000 80\r\n", Err(Invalid::Broken)),
        ("PROXY TCP6 192.0.2.1 192.0.2.2 5000 80\r\n", Err(Invalid::Broken)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n", Err(Invalid::Broken)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 +1 80\r\n", Err(Invalid::Broken)),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 5000 \r\n", Err(Invalid::Broken)),
        ("PROXY UDP4 192.0.2.1 192.0.2.2 5000 80\r\n", Err(Invalid::Broken)),
        ("PROXY \r\n", Err(Invalid::Broken)),
        ("PROXY\r\n", Err(Invalid::Missing)),
        ("proxy TCP4 192.0.2.1 192.0.2.2 5000 80\r\n", Err(Invalid::Missing)),
        ("GET / HTTP/1.1\r\n", Err(Invalid::Missing)),
    ] {
        let whole = expected.map(|addresses| Some((addresses, line.len())));
        assert_eq!(read(line.as_bytes()), whole, "{line:?}");
    }
}

#[test]
fn version_1_is_at_most_107_bytes() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_LONGEST - 16));
    assert_eq!(read(longest.as_bytes()), Ok(Some((None, V1_LONGEST))));
    let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_LONGEST - 15));
    assert_eq!(read(longer.as_bytes()), Err(Invalid::TooLarge));
    assert_eq!(read(&longer.as_bytes()[..V1_LONGEST - 1]), Ok(None));
    assert_eq!(read(&longer.as_bytes()[..V1_LONGEST]), Err(Invalid::TooLarge));
}

#[test]
fn version_2() {
    let four = addresses("192.0.2.1:5000", "192.0.2.2:80");
    let six = addresses("[2001:db8::1]:5000", "[::1]:80");
    let mut inet6 = Vec::new();
    inet6.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    inet6.extend("::1".parse::<Ipv6Addr>().unwrap().octets());
    inet6.extend([0x13, 0x88, 0, 80]);
    for (bytes, expected) in [
        (v2(0x21, 0x11, INET), Ok(Some(four))),
        (v2(0x21, 0x11, &INET[..12]), Ok(Some(four))),
        (v2(0x21, 0x11, &INET[..11]), Err(Invalid::Broken)),
        (v2(0x21, 0x21, &inet6), Ok(Some(six))),
        (v2(0x21, 0x21, &inet6[..35]), Err(Invalid::Broken)),
        (v2(0x20, 0x11, INET), Ok(None)),
        (v2(0x20, 0x00, &[]), Ok(None)),
        (v2(0x21, 0x00, &[]), Ok(None)),
        (v2(0x21, 0x12, INET), Ok(None)),
        (v2(0x21, 0x31, &[0; 216]), Ok(None)),
        (v2(0x11, 0x11, INET), Err(Invalid::Unknown)),
        (v2(0x22, 0x11, INET), Err(Invalid::Unknown)),
        (v2(0x21, 0x41, INET), Err(Invalid::Unknown)),
        (v2(0x21, 0x13, INET), Err(Invalid::Unknown)),
    ] {
        let whole = expected.map(|addresses| Some((addresses, bytes.len())));
        assert_eq!(read(&bytes), whole, "{bytes:?}");
    }
}

#[test]
fn version_2_is_refused_by_its_length_before_it_is_whole() {
    let longest = v2(0x20, 0, &[0; V2_LONGEST - V2_FIXED]);
    assert_eq!(read(&longest), Ok(Some((None, V2_LONGEST))));
    let longer = v2(0x20, 0, &[0; V2_LONGEST - V2_FIXED + 1]);
    assert_eq!(read(&longer[..V2_FIXED]), Err(Invalid::TooLarge));
}

fn piece(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

fn extras_of(pieces: &[u8]) -> Extras {
    let bytes = v2(0x21, 0x11, &[&INET[..12], pieces].concat());
    parse(&bytes).unwrap().unwrap().0.proxied().unwrap().extras
}

fn extra(extras: &Extras, name: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    extras.write(name.as_bytes(), &mut out).then_some(out)
}

#[test]
fn what_version_2_says_besides() {
    let tls =
        [&[1, 0, 0, 1, 2][..], &piece(0x21, b"TLSv1.3"), &piece(0x22, b"a.example"), &piece(0x2f, b"new")]
            .concat();
    let pieces =
        [piece(1, b"h2"), piece(5, b"\0id"), piece(0x20, &tls), piece(0, b""), piece(1, b"second")].concat();
    let extras = extras_of(&pieces);
    for (name, value) in [
        ("alpn", Some(&b"h2"[..])),
        ("0x1", Some(b"h2")),
        ("0x00001", Some(b"h2")),
        ("unique_id", Some(b"\0id")),
        ("0x00", Some(b"")),
        ("ssl", Some(&tls)),
        ("ssl_verify", Some(b"258")),
        ("ssl_version", Some(b"TLSv1.3")),
        ("ssl_0x22", Some(b"a.example")),
        ("ssl_0x2F", Some(b"new")),
        ("authority", None),
        ("ssl_cipher", None),
        ("ssl_alpn", None),
        ("version", None),
        ("0x21", None),
        ("0x", None),
        ("0x+1", None),
        ("0x101", None),
        ("0xg", None),
        ("ssl_", None),
        ("none", None),
        ("", None),
    ] {
        assert_eq!(extra(&extras, name), value.map(<[u8]>::to_vec), "{name}");
    }
    // Of the proxy itself nothing is said, and nothing by version 1.
    let of_its_own = v2(0x20, 0x11, &[&INET[..12], &pieces].concat());
    assert_eq!(parse(&of_its_own).unwrap().unwrap().0.extras, Extras::default());
}

#[test]
fn broken_pieces_are_not_there() {
    let whole = [piece(1, b"h2"), piece(0x20, &[1, 0, 0, 0, 9])].concat();
    for length in 0..whole.len() {
        let extras = extras_of(&whole[..length]);
        assert_eq!(extra(&extras, "alpn").is_some(), length >= 5, "{length}");
        assert_eq!(extra(&extras, "ssl_verify"), None);
    }
    assert_eq!(extra(&extras_of(&whole), "ssl_verify"), Some(b"9".to_vec()));
    assert_eq!(extra(&extras_of(&piece(0x20, &[1, 0, 0, 0])), "ssl_verify"), None);
    assert_eq!(extra(&extras_of(&piece(0x20, &[1, 0, 0, 0, 0, 0x21, 0, 9, 1])), "ssl_version"), None);
}

#[test]
fn addresses_of_two_families_are_not_written() {
    let mut out = Vec::new();
    write_v1(&mut out, Some(addresses("192.0.2.1:1", "[::1]:2")));
    write_v1(&mut out, None);
    assert_eq!(out, b"PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n");
}

fn any_header() -> impl Strategy<Value = Vec<u8>> {
    let fixed = (
        prop_oneof![Just(0x20u8), Just(0x21), any::<u8>()],
        prop_oneof![Just(0x11u8), Just(0x21), any::<u8>()],
    );
    let binary = (fixed, prop::collection::vec(any::<u8>(), 0..60))
        .prop_map(|((command, family), content)| v2(command, family, &content));
    let text =
        "PROXY (TCP4|TCP6|UNKNOWN|TCP)( [0-9a-f.:]{1,12}){0,5}(\r\n|\n|\r)?".prop_map(String::into_bytes);
    let junk = prop::collection::vec(any::<u8>(), 0..40);
    let valid = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u16>(), any::<u16>(), any::<bool>()).prop_map(
        |(source, destination, from, to, is_six)| {
            let ip = |bytes: [u8; 16]| {
                if is_six {
                    IpAddr::from(bytes)
                } else {
                    IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
                }
            };
            let mut out = Vec::new();
            let (source, destination) =
                (SocketAddr::new(ip(source), from), SocketAddr::new(ip(destination), to));
            write_v1(&mut out, Some(Addresses { source, destination }));
            assert!(out.len() <= V1_LONGEST);
            assert_eq!(read(&out), Ok(Some((Some(Addresses { source, destination }), out.len()))));
            out
        },
    );
    (prop_oneof![binary, text, junk, valid], prop::collection::vec(any::<u8>(), 0..8)).prop_map(
        |(mut header, tail)| {
            header.extend(tail);
            header
        },
    )
}

proptest! {
    /// What is said of a prefix never contradicts what is said of more.
    #[test]
    fn every_split_gives_the_same(bytes in any_header()) {
        let whole = read(&bytes);
        let mut settled = false;
        for end in 0..=bytes.len() {
            match read(&bytes[..end]) {
                Ok(None) => prop_assert!(!settled, "undecided again at {}", end),
                decided => {
                    settled = true;
                    prop_assert_eq!(decided, whole, "at {}", end);
                }
            }
        }
        if let Ok(Some((_, consumed))) = whole {
            prop_assert!(consumed <= bytes.len());
            prop_assert_eq!(read(&bytes[..consumed - 1]), Ok(None));
        }
    }
}
