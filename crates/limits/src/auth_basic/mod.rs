//! `auth_basic`: HTTP Basic authentication (RFC 7617) against a file of users.
//!
//! The steps of a request, for whoever runs them on an event loop:
//! 1. [`is_off`] says whether the realm switches it off.
//! 2. [`Credentials::parse`] reads the `Authorization` field; without credentials, 401 with [`challenge`].
//! 3. [`UserFiles::password`] finds what the user must prove; the file is read again when it has changed.
//! 4. [`Verified::contains`] knows what was proved not long ago.
//! 5. [`Password::verify`] does the work. A modern password hash is slow by intention, 50 ms and more of CPU time:
//!    where [`Password::is_slow`], it belongs on a thread beside the event loop. Password and credentials own
//!    what they hold and are `Send`, so that they can be moved there.
//! 6. [`Verified::remember`] spares the next requests the same work: a browser sends the password with every one
//!    of the hundred requests of a page.

mod crypt;
mod des;
mod password;
mod user_file;
mod verified;

pub use password::{LONGEST_PASSWORD, Password, UnsupportedPassword};
pub use user_file::{LARGEST_FILE, UserFile, UserFileError, UserFiles};
pub use verified::Verified;

use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// As lenient as nginx: bits that are left over do not matter, and the text ends at the first `=`.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Whether the realm, evaluated, switches authentication off.
pub fn is_off(realm: &[u8]) -> bool {
    realm == b"off"
}

/// The value of `WWW-Authenticate` for a realm. As in nginx the realm stands there as it is: one with a quotation
/// mark needs a backslash before it in the configuration.
pub fn challenge(realm: &[u8]) -> Vec<u8> {
    [b"Basic realm=\"", realm, b"\""].concat()
}

/// What a client says to be and to know.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Credentials {
    /// Reads the value of an `Authorization` field. `None`, which is as if there were none: another scheme, no
    /// base64, no colon or an empty user.
    pub fn parse(authorization: &[u8]) -> Option<Self> {
        let (scheme, rest) = authorization.split_at_checked(b"Basic ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return None;
        }
        let mut decoded = decode_base64(rest.trim_ascii_start())?;
        let colon = decoded.iter().position(|byte| *byte == b':').filter(|&colon| colon > 0)?;
        let password = decoded.split_off(colon + 1);
        decoded.truncate(colon);
        Some(Self { user: decoded, password })
    }

    /// `$remote_user`
    pub fn user(&self) -> &[u8] {
        &self.user
    }

    /// The password, as the client encoded it (today UTF-8).
    pub fn password(&self) -> &[u8] {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Logs are read by many.
        write!(f, "Credentials({})", self.user.escape_ascii())
    }
}

fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().position(|byte| *byte == b'=').unwrap_or(text.len());
    BASE64.decode(&text[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(field: &str) -> Option<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Credentials::parse(field.as_bytes()).map(|c| (text(c.user()), text(c.password())))
    }

    #[test]
    fn credentials_are_read_as_nginx_does() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (field, expected) in [
            // RFC 7617, section 2.
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", pair("Aladdin", "open sesame")),
            ("basic   QWxhZGRpbjpvcGVuIHNlc2FtZQ==", pair("Aladdin", "open sesame")),
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ", pair("Aladdin", "open sesame")),
            // "a:b:c", "a:", and what follows the padding is not read.
            ("Basic YTpiOmM=", pair("a", "b:c")),
            ("Basic YTo=", pair("a", "")),
            ("Basic YTo=!!", pair("a", "")),
            // "a", ":b", and what is no base64.
            ("Basic YQ==", None),
            ("Basic OmI=", None),
            ("Basic YTo!", None),
            ("Basic YTp", pair("a", "")),
            ("Basic YTpiO", None),
            ("Basic ", None),
            ("Basic", None),
            ("Bearer YTpi", None),
            ("", None),
        ] {
            assert_eq!(parse(field), expected, "{field}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let credentials = Credentials::parse(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").unwrap();
        assert_eq!(format!("{credentials:?}"), "Credentials(Aladdin)");
    }

    #[test]
    fn the_challenge_names_the_realm() {
        assert_eq!(challenge(b"closed site"), b"Basic realm=\"closed site\"");
        assert!(is_off(b"off"));
        assert!(!is_off(b"Off"));
    }

    #[test]
    fn verification_can_be_moved_to_a_thread() {
        let credentials = Credentials::parse(b"Basic YTpi").unwrap();
        let password = Password::parse(b"{PLAIN}b").unwrap();
        let proved = std::thread::spawn(move || password.verify(credentials.password()));
        assert!(proved.join().unwrap());
    }
}
