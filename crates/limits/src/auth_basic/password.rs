//! What a user must prove: the stored forms of passwords, and how each is checked.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha_crypt::Params;
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use super::{crypt, des};

/// Bytes of the longest password, as in libxcrypt: SHA-crypt's work grows with the square of them.
pub const LONGEST_PASSWORD: usize = 511;

/// Bytes of a SHA-1 digest; in `{SSHA}` the salt follows.
const SHA1_SIZE: usize = 20;

/// A stored password. It owns what it holds and can be moved to another thread.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    stored: Box<[u8]>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// `$2a$`, `$2b$`, `$2y$`
    Bcrypt,
    /// `$apr1$`, `$1$`: where the salt is.
    Md5 { magic: &'static str, salt: Box<[u8]> },
    /// `$5$`
    Sha256 { salt: Box<[u8]>, rounds: Params },
    /// `$6$`
    Sha512 { salt: Box<[u8]>, rounds: Params },
    /// `{SHA}`
    Sha,
    /// `{SSHA}`
    Ssha { digest: [u8; SHA1_SIZE], salt: Box<[u8]> },
    /// `{PLAIN}`
    Plain,
    /// Thirteen characters of crypt(3)'s first scheme, the first two of which are the salt.
    Des,
    /// `*` or `!` at the beginning, nothing, or a malformed one of the forms above: nobody can prove it.
    Locked,
}

/// A stored password that cannot be checked: nobody can prove it, as in nginx, where crypt(3) makes of such a one a hash
/// that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedPassword {
    /// Not of a known form.
    #[error(
        "it is stored in no form that is known: bcrypt, $apr1$, $1$, $5$, $6$, {{SHA}}, {{SSHA}}, {{PLAIN}} and \
         crypt(3)'s first are"
    )]
    Unknown,
}

impl Password {
    /// Recognises a stored form: what stands behind the user's name.
    pub fn parse(stored: &[u8]) -> Result<Self, UnsupportedPassword> {
        Ok(Self { kind: Kind::parse(stored)?, stored: stored.into() })
    }

    /// Whether `password` is the one. Pure; for slow forms 50 ms of CPU time and more. What is stored is compared
    /// in constant time.
    pub fn verify(&self, password: &[u8]) -> bool {
        // crypt(3) would end the password at the NUL, so that more than one password were right.
        if password.len() > LONGEST_PASSWORD || password.contains(&0) {
            return false;
        }
        match &self.kind {
            Kind::Bcrypt => std::str::from_utf8(&self.stored)
                .is_ok_and(|stored| bcrypt::verify(password, stored).unwrap_or(false)),
            Kind::Md5 { magic, salt } => self.ends_in(&crypt::md5_crypt(password, salt, magic.as_bytes())),
            Kind::Sha256 { salt, rounds } => self.ends_in(&crypt::sha256_crypt(password, salt, *rounds)),
            Kind::Sha512 { salt, rounds } => self.ends_in(&crypt::sha512_crypt(password, salt, *rounds)),
            Kind::Sha => {
                let digest = BASE64_STANDARD.encode(Sha1::digest(password));
                self.stored[b"{SHA}".len()..].ct_eq(digest.as_bytes()).into()
            }
            Kind::Ssha { digest, salt } => {
                let proved = Sha1::new().chain_update(password).chain_update(salt).finalize();
                digest[..].ct_eq(&proved).into()
            }
            Kind::Plain => self.stored[b"{PLAIN}".len()..].ct_eq(password).into(),
            Kind::Des => {
                let salt = [self.stored[0], self.stored[1]];
                des::des_crypt(password, salt).is_some_and(|hash| self.ends_in(&hash))
            }
            Kind::Locked => false,
        }
    }

    /// Whether [`verify`](Self::verify) takes long enough to belong beside the event loop.
    pub const fn is_slow(&self) -> bool {
        matches!(self.kind, Kind::Bcrypt | Kind::Md5 { .. } | Kind::Sha256 { .. } | Kind::Sha512 { .. })
    }

    pub(super) fn stored(&self) -> &[u8] {
        &self.stored
    }

    fn ends_in(&self, hash: &[u8]) -> bool {
        // The length behind the salt was checked when it was read.
        self.stored[self.stored.len() - hash.len()..].ct_eq(hash).into()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A hash may be broken, and {PLAIN} need not be.
        let name = match self.kind {
            Kind::Bcrypt => "bcrypt",
            Kind::Md5 { magic, .. } => magic,
            Kind::Sha256 { .. } => "$5$",
            Kind::Sha512 { .. } => "$6$",
            Kind::Sha => "{SHA}",
            Kind::Ssha { .. } => "{SSHA}",
            Kind::Plain => "{PLAIN}",
            Kind::Des => "DES",
            Kind::Locked => "locked",
        };
        write!(f, "Password({name})")
    }
}

impl Kind {
    fn parse(stored: &[u8]) -> Result<Self, UnsupportedPassword> {
        if matches!(stored.first(), None | Some(b'*' | b'!')) {
            return Ok(Self::Locked);
        }
        if stored.starts_with(b"{PLAIN}") {
            return Ok(Self::Plain);
        }
        if stored.starts_with(b"{SHA}") {
            return Ok(Self::Sha);
        }
        if is_des(stored) {
            return Ok(Self::Des);
        }
        let known = if let Some(encoded) = stored.strip_prefix(b"{SSHA}") {
            ssha(encoded)
        } else if let Some(rest) = stored.strip_prefix(b"$apr1$") {
            salt_before(rest, 8, 22).map(|salt| Self::Md5 { magic: "$apr1$", salt })
        } else if let Some(rest) = stored.strip_prefix(b"$1$") {
            salt_before(rest, 8, 22).map(|salt| Self::Md5 { magic: "$1$", salt })
        } else if let Some(rest) = stored.strip_prefix(b"$5$") {
            rounds(rest).and_then(|(rounds, rest)| {
                salt_before(rest, 16, 43).map(|salt| Self::Sha256 { salt, rounds })
            })
        } else if let Some(rest) = stored.strip_prefix(b"$6$") {
            rounds(rest).and_then(|(rounds, rest)| {
                salt_before(rest, 16, 86).map(|salt| Self::Sha512 { salt, rounds })
            })
        } else if is_bcrypt(stored) {
            Some(Self::Bcrypt)
        } else {
            return Err(UnsupportedPassword::Unknown);
        };
        // As in nginx, where what crypt(3) makes of a cut hash is another than the cut hash.
        Ok(known.unwrap_or(Self::Locked))
    }
}

/// The salt, when `rest` is one of at most `longest` bytes, a dollar sign and a hash of `hash` characters.
fn salt_before(rest: &[u8], longest: usize, hash: usize) -> Option<Box<[u8]>> {
    let end = rest.iter().position(|byte| *byte == b'$')?;
    (end <= longest && rest.len() == end + 1 + hash).then(|| rest[..end].into())
}

/// `rounds=5000$`, if it is there, and what follows. crypt(3) writes a number that is out of bounds, or has zeroes
/// before it, in another form than it stands here; it would never be the same.
fn rounds(rest: &[u8]) -> Option<(Params, &[u8])> {
    let Some(said) = rest.strip_prefix(b"rounds=") else { return Some((Params::RECOMMENDED, rest)) };
    let end = said.iter().position(|byte| *byte == b'$')?;
    let number = std::str::from_utf8(&said[..end]).ok()?;
    let count = number.parse::<u32>().ok().filter(|count| count.to_string() == number)?;
    Some((Params::new(count).ok()?, &said[end + 1..]))
}

fn ssha(encoded: &[u8]) -> Option<Kind> {
    let mut digest = super::decode_base64(encoded).filter(|decoded| decoded.len() >= SHA1_SIZE)?;
    let salt = digest.split_off(SHA1_SIZE).into();
    Some(Kind::Ssha { digest: digest.try_into().ok()?, salt })
}

fn is_bcrypt(stored: &[u8]) -> bool {
    // $2x$ is a defect of one library that was made compatible on purpose.
    matches!(stored, [b'$', b'2', b'a' | b'b' | b'y', b'$', ..])
        && std::str::from_utf8(stored).is_ok_and(|text| {
            text.parse::<bcrypt::HashParts>().is_ok_and(|parts| (4..=31).contains(&parts.get_cost()))
        })
}

fn is_des(stored: &[u8]) -> bool {
    stored.len() == 13
        && stored.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'))
}

#[cfg(test)]
mod tests;
