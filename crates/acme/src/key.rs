//! Keys, and what is signed with them on this side: requests for certificates, answers to challenges, certificates for
//! the time before the first one.

use std::time::Duration;

use config::model::acme::Key;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    RsaKeySize,
};

use crate::Failure;

/// How long a certificate that nobody has signed is valid.
const OWN_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A certificate and its key, DER.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, then those that lead to the root.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8 (RFC 5958).
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// Makes a key.
pub fn generate(kind: Key) -> Result<KeyPair, Failure> {
    let made = match kind {
        Key::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        Key::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        Key::P521 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
        Key::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        Key::Rsa3072 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
        Key::Rsa4096 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
    };
    made.map_err(|error| own(&error))
}

/// A request for a certificate (PKCS#10), DER.
pub fn request(key: &KeyPair, identifiers: &[String]) -> Result<Vec<u8>, Failure> {
    let params = params(identifiers)?;
    Ok(params.serialize_request(key).map_err(|error| own(&error))?.der().to_vec())
}

/// A certificate for the time before the first one: no client trusts it. `now`: seconds since 1970.
pub fn temporary(identifiers: &[String], now: u64) -> Result<Pair, Failure> {
    let mut params = params(identifiers)?;
    params.distinguished_name.push(DnType::CommonName, "Monoceros, until a certificate is issued");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(params, now)
}

/// The certificate that answers `tls-alpn-01` (RFC 8737 §3).
pub(crate) fn challenge(identifier: &str, digest: &[u8; 32], now: u64) -> Result<Pair, Failure> {
    let mut params = params(&[identifier.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    sign(params, now)
}

fn sign(mut params: CertificateParams, now: u64) -> Result<Pair, Failure> {
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now);
    // Clocks differ.
    params.not_before = now - Duration::from_secs(3600);
    params.not_after = now + OWN_LIFE;
    let key = generate(Key::P256)?;
    let certificate = params.self_signed(&key).map_err(|error| own(&error))?;
    Ok(Pair { chain: vec![certificate.der().to_vec()], key: key.serialize_der() })
}

fn params(identifiers: &[String]) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(identifiers).map_err(|error| own(&error))?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

fn own(error: &rcgen::Error) -> Failure {
    Failure::Own(error.to_string())
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    #[test]
    fn every_kind_of_key_can_ask() {
        for kind in [Key::P256, Key::P384, Key::P521, Key::Rsa2048] {
            let key = generate(kind).unwrap();
            assert!(!request(&key, &["a.example".into(), "*.b.example".into()]).unwrap().is_empty());
        }
    }

    #[test]
    fn the_answer_to_tls_alpn_has_the_critical_extension() {
        let pair = challenge("a.example", &[7; 32], 1_700_000_000).unwrap();
        let (_, certificate) = X509Certificate::from_der(&pair.chain[0]).unwrap();
        let extension =
            certificate.extensions().iter().find(|e| e.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").unwrap();
        assert!(extension.critical);
        assert_eq!(extension.value, [&[4, 32][..], &[7; 32]].concat());
    }

    #[test]
    fn temporary_certificates_are_for_all_names() {
        let names = ["a.example".to_owned(), "192.0.2.1".to_owned()];
        let pair = temporary(&names, 1_700_000_000).unwrap();
        let (_, certificate) = X509Certificate::from_der(&pair.chain[0]).unwrap();
        assert_eq!(certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
        assert!(certificate.validity().not_after.timestamp() > 1_700_000_000);
    }
}
