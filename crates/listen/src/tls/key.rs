//! Private keys, also those that a password protects.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use config::model::tls::KeyForm;
use md5::{Digest, Md5};

use super::pem::Section;

/// More rounds than this are an attack on whoever starts the program.
const MOST_ROUNDS: u64 = 20_000_000;

/// Why there is no key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// None of the passwords opens it, or there is none.
    Password,
    /// It is of a kind that is not read here.
    Kind(String),
}

/// The key of a file: the first section that is one.
pub(super) fn find(sections: &[Section], passwords: &[Vec<u8>]) -> Result<(KeyForm, Vec<u8>), Wrong> {
    for section in sections {
        let form = match section.label.as_str() {
            "PRIVATE KEY" => KeyForm::Pkcs8,
            "RSA PRIVATE KEY" => KeyForm::Pkcs1,
            "EC PRIVATE KEY" => KeyForm::Sec1,
            "ENCRYPTED PRIVATE KEY" => {
                return Ok((KeyForm::Pkcs8, open(passwords, |p| pkcs8(&section.data, p))?));
            }
            "DSA PRIVATE KEY" => return Err(Wrong::Kind("DSA keys are not supported".to_owned())),
            _ => continue,
        };
        let information = section.headers.iter().find(|(name, _)| name == "DEK-Info");
        return Ok((
            form,
            match information {
                Some((_, information)) => open(passwords, |p| traditional(&section.data, information, p))?,
                None => section.data.clone(),
            },
        ));
    }
    Err(Wrong::Kind("it holds no private key".to_owned()))
}

/// The first password that opens it; each attempt says what it came to, or that it will not come to anything.
fn open(
    passwords: &[Vec<u8>],
    attempt: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, Wrong>,
) -> Result<Vec<u8>, Wrong> {
    for password in passwords {
        if let Some(key) = attempt(password)? {
            return Ok(key);
        }
    }
    Err(Wrong::Password)
}

/// PBES2 (RFC 8018 §6.2) with PBKDF2 and AES.
fn pkcs8(der: &[u8], password: &[u8]) -> Result<Option<Vec<u8>>, Wrong> {
    const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
    const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
    let broken = || Wrong::Kind("its encryption cannot be made out".to_owned());
    let other = |what: &str| Wrong::Kind(format!("it is encrypted with {what}, which is not supported"));
    let mut outer = Der(der).inner(SEQUENCE).ok_or_else(broken)?;
    let mut algorithm = outer.inner(SEQUENCE).ok_or_else(broken)?;
    let data = outer.value(OCTETS).ok_or_else(broken)?;
    if algorithm.value(OID) != Some(PBES2) {
        return Err(other("an old scheme"));
    }
    let mut parameters = algorithm.inner(SEQUENCE).ok_or_else(broken)?;
    let mut derivation = parameters.inner(SEQUENCE).ok_or_else(broken)?;
    let mut encryption = parameters.inner(SEQUENCE).ok_or_else(broken)?;
    if derivation.value(OID) != Some(PBKDF2) {
        return Err(other("another derivation than PBKDF2"));
    }
    let mut derivation = derivation.inner(SEQUENCE).ok_or_else(broken)?;
    let salt = derivation.value(OCTETS).ok_or_else(broken)?;
    let rounds =
        derivation.value(INTEGER).and_then(number).filter(|n| *n <= MOST_ROUNDS).ok_or_else(broken)?;
    let rounds = u32::try_from(rounds).ok().and_then(NonZeroU32::new).ok_or_else(broken)?;
    let _length = derivation.value(INTEGER);
    let hash = match derivation.inner(SEQUENCE) {
        None => pbkdf2::PBKDF2_HMAC_SHA1,
        Some(mut hash) => match hash.value(OID) {
            Some([.., 2, 7]) => pbkdf2::PBKDF2_HMAC_SHA1,
            Some([.., 2, 9]) => pbkdf2::PBKDF2_HMAC_SHA256,
            Some([.., 2, 10]) => pbkdf2::PBKDF2_HMAC_SHA384,
            Some([.., 2, 11]) => pbkdf2::PBKDF2_HMAC_SHA512,
            _ => return Err(other("an unknown hash")),
        },
    };
    // aes128-CBC-PAD and so on: 2.16.840.1.101.3.4.1.{2,22,42}
    let (cipher, length) = match encryption.value(OID) {
        Some([0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 2]) => (&AES_128, 16),
        Some([0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 22]) => (&AES_192, 24),
        Some([0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42]) => (&AES_256, 32),
        _ => return Err(other("another cipher than AES-CBC")),
    };
    let iv = encryption.value(OCTETS).ok_or_else(broken)?;
    let mut key = vec![0; length];
    pbkdf2::derive(hash, rounds, salt, password, &mut key);
    Ok(decrypt(cipher, &key, iv, data))
}

/// What OpenSSL did before PKCS#8: `DEK-Info: AES-256-CBC,IV`, the key made of password and IV by MD5.
fn traditional(data: &[u8], information: &str, password: &[u8]) -> Result<Option<Vec<u8>>, Wrong> {
    let (name, iv) = information.split_once(',').unwrap_or((information, ""));
    let (cipher, length) = match name {
        "AES-128-CBC" => (&AES_128, 16),
        "AES-192-CBC" => (&AES_192, 24),
        "AES-256-CBC" => (&AES_256, 32),
        _ => return Err(Wrong::Kind(format!("it is encrypted with {name}, which is not supported"))),
    };
    let iv: Option<Vec<u8>> =
        (0..iv.len()).step_by(2).map(|at| u8::from_str_radix(iv.get(at..at + 2)?, 16).ok()).collect();
    let Some(iv) = iv.filter(|iv| iv.len() == 16) else {
        return Err(Wrong::Kind("its encryption cannot be made out".to_owned()));
    };
    let mut key: Vec<u8> = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    while key.len() < length {
        last =
            Md5::new().chain_update(&last).chain_update(password).chain_update(&iv[..8]).finalize().to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(length);
    Ok(decrypt(cipher, &key, &iv, data))
}

/// `None`: the padding is wrong, so the password was.
fn decrypt(cipher: &'static Algorithm, key: &[u8], iv: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(cipher, key).ok()?).ok()?;
    let iv: [u8; 16] = iv.try_into().ok()?;
    let mut data = data.to_vec();
    let plain = key.decrypt(&mut data, DecryptionContext::Iv128(FixedLength::from(&iv))).ok()?;
    // One wrong password in 256 has padding that looks right; a key is a sequence as long as it says.
    let is_whole = Der(plain).element(SEQUENCE).is_some_and(|(_, rest)| rest.is_empty());
    is_whole.then(|| plain.to_vec())
}

const INTEGER: u8 = 2;
const OCTETS: u8 = 4;
const OID: u8 = 6;
const SEQUENCE: u8 = 0x30;

fn number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

/// What is left of some DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element, if it has this tag, and what follows it.
    fn element(&self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        let (first, rest) = self.0.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(*length), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                (digits.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        (*first == tag).then(|| rest.split_at_checked(length)).flatten()
    }

    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (value, rest) = self.element(tag)?;
        self.0 = rest;
        Some(value)
    }

    fn inner(&mut self, tag: u8) -> Option<Self> {
        self.value(tag).map(Self)
    }
}
