//! `secure_link`: links that were made by someone who knows a secret.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

/// As lenient as nginx: bits that are left over do not matter, and the text ends at the first `=`.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// The base64 of a checksum has no more bytes, padding included.
const LONGEST_CHECKSUM: usize = 24;

/// What a link is worth: `$secure_link`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The checksum is missing or another one; the variable is empty.
    Wrong,
    /// `0`: the time that it was good for is over.
    Expired,
    /// `1`
    Good,
}

impl Link {
    /// The variable's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wrong => "",
            Self::Expired => "0",
            Self::Good => "1",
        }
    }
}

/// The link's checksum and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked<'a> {
    /// `$secure_link`
    pub link: Link,
    /// `$secure_link_expires`: as the link said it, even where the checksum is wrong.
    pub expires: Option<&'a [u8]>,
}

/// Checks `link`, the value of `secure_link`: the MD5 of `md5`, the value of `secure_link_md5`, in URL-safe base64,
/// perhaps followed by a comma and the time in seconds since 1970 to which the link is good. `now` is in the same
/// seconds.
pub fn check<'a>(link: &'a [u8], md5: &[u8], now: i64) -> Checked<'a> {
    let (checksum, expires) = match link.iter().position(|byte| *byte == b',') {
        Some(comma) => (&link[..comma], Some(&link[comma + 1..])),
        None => (link, None),
    };
    let until = match expires.map(parse_time) {
        None => None,
        Some(Some(until)) => Some(until),
        Some(None) => return Checked { link: Link::Wrong, expires: None },
    };
    let link = match decode(checksum) {
        Some(checksum) if bool::from(Md5::digest(md5).as_slice().ct_eq(&checksum)) => {
            if until.is_some_and(|until| until < now) { Link::Expired } else { Link::Good }
        }
        _ => Link::Wrong,
    };
    Checked { link, expires }
}

/// The time that `link`, the value of `secure_link`, says it is good to: what `$secure_link_expires` is while
/// `secure_link_md5` is evaluated.
pub fn expires(link: &[u8]) -> Option<&[u8]> {
    let comma = link.iter().position(|byte| *byte == b',')?;
    let expires = &link[comma + 1..];
    parse_time(expires).map(|_| expires)
}

/// With `secure_link_secret`: the link within `target`, the request target as received (`/prefix/checksum/link`),
/// if the checksum, in hexadecimal, is the MD5 of link and secret.
pub fn check_secret<'a>(target: &'a [u8], secret: &[u8]) -> Option<&'a [u8]> {
    let after = |text: &'a [u8]| Some(&text[text.iter().position(|byte| *byte == b'/')? + 1..]);
    let checksum_and_link = after(target.get(1..)?)?;
    let link = after(checksum_and_link)?;
    let checksum = &checksum_and_link[..checksum_and_link.len() - link.len() - 1];
    if checksum.len() != 32 || link.is_empty() {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(checksum.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    let expected = Md5::new().chain_update(link).chain_update(secret).finalize();
    bool::from(expected.as_slice().ct_eq(&bytes)).then_some(link)
}

/// Digits only, and after 1970.
fn parse_time(text: &[u8]) -> Option<i64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|&time| time > 0)
}

fn decode(checksum: &[u8]) -> Option<[u8; 16]> {
    if checksum.len() > LONGEST_CHECKSUM {
        return None;
    }
    let end = checksum.iter().position(|byte| *byte == b'=').unwrap_or(checksum.len());
    BASE64_URL.decode(&checksum[..end]).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of nginx's documentation: `$secure_link_expires$uri$remote_addr secret`.
    const TEXT: &[u8] = b"2147483647/s/link127.0.0.1 secret";
    /// `echo -n '…' | openssl md5 -binary | openssl base64 | tr +/ -_ | tr -d =`, as documented there.
    const CHECKSUM: &str = "_e4Nc3iduzkWRm01TBBNYw";

    fn link_of(link: &str, now: i64) -> Link {
        check(link.as_bytes(), TEXT, now).link
    }

    #[test]
    fn the_example_of_nginx_documentation() {
        let link = format!("{CHECKSUM},2147483647");
        assert_eq!(link_of(&link, 2_147_483_647), Link::Good);
        assert_eq!(link_of(&link, 2_147_483_648), Link::Expired);
        assert_eq!(check(link.as_bytes(), TEXT, 0).expires, Some(&b"2147483647"[..]));
        assert_eq!(link_of(CHECKSUM, i64::MAX), Link::Good);
        assert_eq!(link_of(&format!("{CHECKSUM}=="), 0), Link::Good);
    }

    #[test]
    fn what_is_not_the_checksum_is_wrong() {
        for link in [
            "",
            ",2147483647",
            "_e4Nc3iduzkWRm01TBBNYx8",
            "_e4Nc3iduzkWRm01TBBNY",
            "-e4Nc3iduzkWRm01TBBNYw",
            "/e4Nc3iduzkWRm01TBBNYw",
            "_e4Nc3iduzkWRm01TBBNYw===",
            "_e4Nc3iduzkWRm01TBBNYw,",
            "_e4Nc3iduzkWRm01TBBNYw,0",
            "_e4Nc3iduzkWRm01TBBNYw,-1",
            "_e4Nc3iduzkWRm01TBBNYw,+1",
            "_e4Nc3iduzkWRm01TBBNYw,12x",
            "_e4Nc3iduzkWRm01TBBNYw,99999999999999999999",
        ] {
            assert_eq!(link_of(link, 0), Link::Wrong, "{link}");
        }
        assert_eq!(check(b"x,12", TEXT, 0).expires, Some(&b"12"[..]));
    }

    #[test]
    fn the_time_is_known_before_the_checksum() {
        assert_eq!(expires(b"x,12"), Some(&b"12"[..]));
        for link in [&b"x"[..], b"x,", b"x,0", b"x,1x"] {
            assert_eq!(expires(link), None, "{}", link.escape_ascii());
        }
    }

    #[test]
    fn a_link_with_a_secret() {
        // `echo -n 'linksecret' | openssl md5 -hex`, of nginx's documentation.
        let target = b"/p/5e814704a28d9bc1914ff19fa0c4a00a/link";
        assert_eq!(check_secret(target, b"secret"), Some(&b"link"[..]));
        assert_eq!(check_secret(&target.to_ascii_uppercase(), b"secret"), None);
        let upper = b"/p/5E814704A28D9BC1914FF19FA0C4A00A/link";
        assert_eq!(check_secret(upper, b"secret"), Some(&b"link"[..]));
        for (target, secret) in [
            (&target[..], &b"other"[..]),
            (b"/p/5e814704a28d9bc1914ff19fa0c4a00a/link/", b"secret"),
            (b"/p/5e814704a28d9bc1914ff19fa0c4a00a/", b"secret"),
            (b"/p/5e814704a28d9bc1914ff19fa0c4a00a", b"secret"),
            (b"/p/5e814704a28d9bc1914ff19fa0c4a00/link", b"secret"),
            (b"/p/5e814704a28d9bc1914ff19fa0c4a00g/link", b"secret"),
            (b"/5e814704a28d9bc1914ff19fa0c4a00a/link", b"secret"),
            (b"/", b"secret"),
            (b"", b"secret"),
        ] {
            assert_eq!(check_secret(target, secret), None, "{}", target.escape_ascii());
        }
    }
}
