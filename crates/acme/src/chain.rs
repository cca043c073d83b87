//! What an authority, or a file, gives for a certificate, looked at before it is used.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::schedule::Validity;

/// Certificates of one chain.
const LONGEST_CHAIN: usize = 10;
/// Bytes of a chain, as text.
const CHAIN_SIZE: usize = 256 * 1024;

/// What is known of a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// From when until when.
    pub validity: Validity,
    /// What it is valid for.
    pub identifiers: Vec<String>,
    /// Its key, as SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// Who has signed it, for people.
    pub issuer: String,
}

/// Certificates out of PEM.
pub fn parse(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if pem.len() > CHAIN_SIZE {
        return Err("the chain of certificates is too long".to_owned());
    }
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("no chain of certificates: {error}"))?;
        if chain.len() == LONGEST_CHAIN {
            return Err("the chain of certificates is too long".to_owned());
        }
        chain.push(certificate.to_vec());
    }
    if chain.is_empty() { Err("no certificate".to_owned()) } else { Ok(chain) }
}

/// Looks at a chain: each is signed by the next, as far as names say. What is known of the first.
pub fn look(chain: &[Vec<u8>]) -> Result<Leaf, String> {
    let parsed: Vec<X509Certificate<'_>> =
        chain.iter().map(|der| certificate(der)).collect::<Result<_, _>>()?;
    for pair in parsed.windows(2) {
        if pair[0].issuer().as_raw() != pair[1].subject().as_raw() {
            return Err("the chain of certificates is not in order".to_owned());
        }
    }
    let leaf = parsed.first().ok_or("no certificate")?;
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    let names =
        leaf.subject_alternative_name().map_err(|error| format!("a malformed certificate: {error}"))?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    Ok(Leaf {
        validity: Validity {
            from: seconds(leaf.validity().not_before.timestamp()),
            until: seconds(leaf.validity().not_after.timestamp()),
        },
        identifiers: names.iter().filter_map(identifier).collect(),
        public_key: leaf.public_key().raw.to_vec(),
        issuer: crate::failure::clean(&leaf.issuer().to_string()),
    })
}

/// Whether a certificate is what was asked for.
pub fn check(leaf: &Leaf, identifiers: &[String], public_key: &[u8], now: u64) -> Result<(), String> {
    /// Clocks differ, and authorities date certificates back.
    const SKEW: u64 = 3600;
    if leaf.public_key != public_key {
        return Err("the certificate is for another key".to_owned());
    }
    if let Some(missing) = identifiers.iter().find(|wanted| !leaf.identifiers.contains(wanted)) {
        return Err(format!("the certificate is not valid for {missing}"));
    }
    let Validity { from, until } = leaf.validity;
    if from >= until || until <= now {
        return Err("the certificate has expired before it came".to_owned());
    }
    if from > now + SKEW {
        return Err("the certificate is not valid yet: is this machine's clock right?".to_owned());
    }
    Ok(())
}

fn certificate(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("a malformed certificate: something follows it".to_owned()),
        Err(error) => Err(format!("a malformed certificate: {error}")),
    }
}

fn identifier(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let address = match *bytes {
                [a, b, c, d] => IpAddr::from([*a, *b, *c, *d]),
                _ => IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?),
            };
            Some(address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData;

    use super::*;
    use crate::key;

    const NOW: u64 = 1_700_000_000;

    fn names() -> Vec<String> {
        vec!["a.example".to_owned(), "*.b.example".to_owned(), "2001:db8::1".to_owned()]
    }

    #[test]
    fn what_was_asked_for_is_taken() {
        let pair = key::temporary(&names(), NOW).unwrap();
        let leaf = look(&pair.chain).unwrap();
        assert_eq!(leaf.identifiers, names());
        let own = rcgen::KeyPair::try_from(&pair.key[..]).unwrap();
        let public = own.subject_public_key_info();
        check(&leaf, &names(), &public, NOW).unwrap();
        let other = key::generate(config::model::acme::Key::P256).unwrap().subject_public_key_info();
        assert!(check(&leaf, &names(), &other, NOW).unwrap_err().contains("another key"));
        let more = [names(), vec!["c.example".to_owned()]].concat();
        assert!(check(&leaf, &more, &public, NOW).unwrap_err().contains("c.example"));
        assert!(check(&leaf, &names(), &public, NOW + 30 * 86400).unwrap_err().contains("expired"));
        assert!(check(&leaf, &names(), &public, NOW - 30 * 86400).unwrap_err().contains("clock"));
    }

    #[test]
    fn what_is_no_chain_is_refused() {
        let pair = key::temporary(&names(), NOW).unwrap();
        let other = key::temporary(&names(), NOW).unwrap();
        assert!(look(&[]).is_err());
        assert!(look(&[b"x".to_vec()]).is_err());
        assert!(look(&[[&pair.chain[0][..], b"x"].concat()]).is_err());
        // Both have the same subject and issuer, so only names could tell.
        assert!(look(&[pair.chain[0].clone(), other.chain[0].clone()]).is_ok());
        let strange = key::challenge("a.example", &[0; 32], NOW).unwrap();
        assert!(look(&[pair.chain[0].clone(), strange.chain[0].clone()]).is_err());
        for pem in ["", "x", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"] {
            assert!(parse(pem.as_bytes()).is_err(), "{pem}");
        }
        assert!(parse(&vec![b'x'; CHAIN_SIZE + 1]).is_err());
    }
}
