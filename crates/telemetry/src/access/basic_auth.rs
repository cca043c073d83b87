//! The user name of HTTP Basic authentication (RFC 7617), for `%(u)s`.

/// The user name in the value of an `Authorization` field; `None` when it is not Basic, not base64 or has
/// no colon (RFC 7617 §2: the user-id ends at the first one).
pub(super) fn user(authorization: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = authorization.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut decoded = decode(rest.trim_ascii())?;
    let colon = decoded.iter().position(|&b| b == b':')?;
    decoded.truncate(colon);
    Some(decoded)
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_suffix_padding();
    if text.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0);
    for &byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

trait Padded {
    fn trim_suffix_padding(&self) -> &Self;
}

impl Padded for [u8] {
    /// At most two `=`, as base64 pads.
    fn trim_suffix_padding(&self) -> &Self {
        let text = self.strip_suffix(b"=").unwrap_or(self);
        text.strip_suffix(b"=").unwrap_or(text)
    }
}

#[cfg(test)]
mod tests {
    use super::user;

    #[test]
    fn reads_the_user_of_rfc_7617() {
        assert_eq!(user(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").as_deref(), Some(b"Aladdin".as_slice()));
        assert_eq!(user(b"bAsIc  dGVzdDoxMjPCow==").as_deref(), Some(b"test".as_slice()));
        assert_eq!(user(b"Basic Og==").as_deref(), Some(b"".as_slice()));
    }

    #[test]
    fn refuses_what_is_not_basic() {
        for value in [
            b"Bearer QWxhZGRpbg==".as_slice(),
            b"Basic",
            b"Basic ",
            b"Basic !!!!",
            b"Basic QWxhZGRpbg==",
            b"",
        ] {
            assert_eq!(user(value), None, "{}", String::from_utf8_lossy(value));
        }
    }
}
