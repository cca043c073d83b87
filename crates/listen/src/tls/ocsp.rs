//! Whether a certificate has been revoked, asked of its issuer (OCSP, RFC 6960): requests, and what answers say.
//!
//! Neither sockets nor a clock: who asks brings both. Answers come from strangers by plain HTTP.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::model::tls::Der;
use rustls::crypto::aws_lc_rs::default_provider;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::clients::{is_signed, parse};
use super::der::{Element, SEQUENCE, Signed, next, public_key};

/// Bytes of an answer.
pub const LARGEST: usize = 64 * 1024;

/// Clocks may differ by so many seconds.
const SKEW: i64 = 300;
/// An answer that does not say how long it holds is believed for so many seconds.
const UNBOUNDED: i64 = 24 * 60 * 60;
/// Certificates in an answer that are looked at.
const SIGNERS: usize = 8;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const ENUMERATED: u8 = 0x0a;
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_1: u8 = 0xa1;
const CONTEXT_2: u8 = 0xa2;

/// 1.3.14.3.2.26
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
/// 1.3.6.1.5.5.7.48.1.1
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// 1.3.6.1.5.5.7.48.1: where the issuer is asked.
const ACCESS: &str = "1.3.6.1.5.5.7.48.1";
/// 1.3.6.1.5.5.7.1.24: what a handshake with this certificate has to have (RFC 7633).
const FEATURES: &str = "1.3.6.1.5.5.7.1.24";
/// `status_request` (RFC 6066 §8).
const STATUS_REQUEST: &[u8] = &[5];

/// Why nobody can be asked about a certificate, or why an answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Wrong {
    #[error("the certificate cannot be made out")]
    Certificate,
    #[error("issuer certificate not found")]
    NoIssuer,
    #[error("the answer cannot be made out")]
    Malformed,
    #[error("OCSP response not successful ({status}: {})", status_name(*status))]
    Refused { status: u8 },
    #[error("the answer is of another kind than basic")]
    Kind,
    #[error("the answer has a critical extension")]
    CriticalExtension,
    #[error("certificate status not found in the OCSP response")]
    OtherCertificate,
    #[error("OCSP response is not valid yet")]
    NotYetValid,
    #[error("OCSP response has expired")]
    Expired,
    #[error("nobody in the OCSP response is who has signed it")]
    NoSigner,
    #[error("the signature of the OCSP response is wrong")]
    Signature,
    #[error("who has signed the OCSP response may not answer for the issuer")]
    Unauthorised,
}

/// RFC 6960 §4.2.1
fn status_name(status: u8) -> &'static str {
    match status {
        1 => "malformedrequest",
        2 => "internalerror",
        3 => "trylater",
        5 => "sigrequired",
        6 => "unauthorized",
        _ => "unknown",
    }
}

/// What an issuer says of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has not been revoked.
    Good,
    /// It has.
    Revoked,
    /// The issuer does not know it.
    Unknown,
}

impl Status {
    /// OpenSSL's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        }
    }
}

/// An answer that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What it says.
    pub status: Status,
    /// Until when, in seconds since 1970.
    pub until: i64,
}

/// Who may have signed an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The issuer, or whom it has certified to answer for it (RFC 6960 §4.2.2.2).
    Issuer,
    /// Anybody whose certificate is in it; only that it has arrived as it was signed is looked at.
    Anybody,
}

/// What is asked about one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// SHA-1 of the issuer's name and of its key.
    name_hash: Vec<u8>,
    key_hash: Vec<u8>,
    serial: Vec<u8>,
    issuer: Vec<u8>,
    responder: Option<String>,
}

impl Inquiry {
    /// About `leaf`, whose issuer is among `others`.
    pub fn new<'d>(leaf: &[u8], others: impl IntoIterator<Item = &'d [u8]>) -> Result<Self, Wrong> {
        let leaf = parse(leaf).map_err(|_| Wrong::Certificate)?;
        let algorithms = default_provider().signature_verification_algorithms;
        let signed = Signed::parse(leaf.as_raw()).ok_or(Wrong::Certificate)?;
        let issuer = others
            .into_iter()
            .filter_map(|der| parse(der).ok())
            .filter(|other| other.subject().as_raw() == leaf.issuer().as_raw())
            .find(|other| is_signed(&algorithms, &signed, other.public_key().raw))
            .ok_or(Wrong::NoIssuer)?;
        let (_, key) = public_key(issuer.public_key().raw).ok_or(Wrong::NoIssuer)?;
        Ok(Self {
            name_hash: sha1(issuer.subject().as_raw()),
            key_hash: sha1(key),
            serial: leaf.raw_serial().to_vec(),
            issuer: issuer.as_raw().to_vec(),
            responder: responder(&leaf),
        })
    }

    /// Whom the certificate names.
    pub fn responder(&self) -> Option<&str> {
        self.responder.as_deref()
    }

    /// The issuer's certificate.
    pub fn into_issuer(self) -> Vec<u8> {
        self.issuer
    }

    /// The request, DER (RFC 6960 §4.1.1), without a nonce: answers may come from a cache.
    pub fn request(&self) -> Vec<u8> {
        let algorithm = element(SEQUENCE, &[&element(OID, &[SHA1]), &[0x05, 0x00]]);
        let id = element(
            SEQUENCE,
            &[
                &algorithm,
                &element(OCTET_STRING, &[&self.name_hash]),
                &element(OCTET_STRING, &[&self.key_hash]),
                &element(INTEGER, &[&self.serial]),
            ],
        );
        (0..4).fold(id, |inner, _| element(SEQUENCE, &[&inner]))
    }

    /// The same as a path behind a responder's (RFC 6960 appendix A.1).
    pub fn request_path(&self) -> String {
        let mut path = String::new();
        for byte in STANDARD.encode(self.request()).bytes() {
            match byte {
                b'+' | b'/' | b'=' => {
                    let _ = write!(path, "%{byte:02X}");
                }
                other => path.push(char::from(other)),
            }
        }
        path
    }

    /// What an answer says of the certificate at `now`, in seconds since 1970.
    pub fn check(&self, answer: &[u8], trust: Trust, now: i64) -> Result<Verdict, Wrong> {
        let basic = Basic::parse(answer)?;
        self.check_signature(&basic, trust, now)?;
        let mut responses = basic.responses;
        while !responses.is_empty() {
            let (single, rest) = sequence(responses)?;
            responses = rest;
            if let Some(single) = self.single(single)? {
                return single.at(now);
            }
        }
        Err(Wrong::OtherCertificate)
    }

    /// `None`: it is about another certificate.
    fn single(&self, content: &[u8]) -> Result<Option<Single>, Wrong> {
        let (id, rest) = sequence(content)?;
        let (status, rest) = any(rest)?;
        let (this, rest) = any(rest)?;
        if !self.is_about(id)? {
            return Ok(None);
        }
        let status = match status.tag {
            0x80 => Status::Good,
            CONTEXT_1 => Status::Revoked,
            0x82 => Status::Unknown,
            _ => return Err(Wrong::Malformed),
        };
        let mut single = Single { status, from: time(&this)?, until: None };
        let mut rest = rest;
        while !rest.is_empty() {
            let (element, behind) = any(rest)?;
            rest = behind;
            match element.tag {
                CONTEXT_0 => single.until = Some(time(&any(element.content)?.0)?),
                CONTEXT_1 => no_critical(element.content)?,
                _ => return Err(Wrong::Malformed),
            }
        }
        Ok(Some(single))
    }

    fn is_about(&self, id: &[u8]) -> Result<bool, Wrong> {
        let (algorithm, rest) = sequence(id)?;
        let (algorithm, _) = any(algorithm)?;
        let (name, rest) = any(rest)?;
        let (key, rest) = any(rest)?;
        let (serial, _) = any(rest)?;
        Ok((algorithm.tag, algorithm.content) == (OID, SHA1)
            && (name.tag, name.content) == (OCTET_STRING, &self.name_hash)
            && (key.tag, key.content) == (OCTET_STRING, &self.key_hash)
            && (serial.tag, serial.content) == (INTEGER, &self.serial))
    }

    fn check_signature(&self, basic: &Basic<'_>, trust: Trust, now: i64) -> Result<(), Wrong> {
        let algorithms = default_provider().signature_verification_algorithms;
        let issuer = parse(&self.issuer).map_err(|_| Wrong::Certificate)?;
        let embedded = basic.certificates()?;
        let mut wrong = Wrong::NoSigner;
        for signer in std::iter::once(&issuer).chain(&embedded) {
            if !basic.names(signer) {
                continue;
            }
            if !is_signed(&algorithms, &basic.signed, signer.public_key().raw) {
                wrong = Wrong::Signature;
                continue;
            }
            let is_issuer = signer.public_key().raw == issuer.public_key().raw
                && signer.subject().as_raw() == issuer.subject().as_raw();
            let may_answer = || {
                signer.issuer().as_raw() == issuer.subject().as_raw()
                    && matches!(signer.extended_key_usage(), Ok(Some(usage)) if usage.value.ocsp_signing)
                    && (signer.validity().not_before.timestamp()..=signer.validity().not_after.timestamp())
                        .contains(&now)
                    && Signed::parse(signer.as_raw())
                        .is_some_and(|signed| is_signed(&algorithms, &signed, issuer.public_key().raw))
            };
            if trust == Trust::Anybody || is_issuer || may_answer() {
                return Ok(());
            }
            wrong = Wrong::Unauthorised;
        }
        Err(wrong)
    }
}

/// What an answer says of one certificate.
struct Single {
    status: Status,
    from: i64,
    until: Option<i64>,
}

impl Single {
    fn at(self, now: i64) -> Result<Verdict, Wrong> {
        let until = self.until.unwrap_or(self.from.saturating_add(UNBOUNDED).max(now));
        if self.from > now + SKEW {
            return Err(Wrong::NotYetValid);
        }
        if until < self.from || until < now - SKEW {
            return Err(Wrong::Expired);
        }
        Ok(Verdict { status: self.status, until })
    }
}

/// `BasicOCSPResponse`
struct Basic<'a> {
    signed: Signed<'a>,
    /// `ResponderID`
    responder: Element<'a>,
    /// All `SingleResponse`, one behind the other.
    responses: &'a [u8],
    /// The certificates that came along, one behind the other.
    certificates: &'a [u8],
}

impl<'a> Basic<'a> {
    fn parse(answer: &'a [u8]) -> Result<Self, Wrong> {
        if answer.len() > LARGEST {
            return Err(Wrong::Malformed);
        }
        let (response, _) = sequence(answer)?;
        let (status, rest) = any(response)?;
        match (status.tag, status.content) {
            (ENUMERATED, [0]) => {}
            (ENUMERATED, [status]) => return Err(Wrong::Refused { status: *status }),
            _ => return Err(Wrong::Malformed),
        }
        let bytes = tagged(CONTEXT_0, rest)?;
        let (bytes, _) = sequence(bytes)?;
        let (kind, rest) = any(bytes)?;
        if (kind.tag, kind.content) != (OID, BASIC) {
            return Err(Wrong::Kind);
        }
        let (basic, _) = any(rest)?;
        if basic.tag != OCTET_STRING {
            return Err(Wrong::Malformed);
        }
        let signed = Signed::parse(basic.content).ok_or(Wrong::Malformed)?;
        let (whole, _) = sequence(basic.content)?;
        // Behind what is signed, the algorithm and the signature.
        let mut behind = whole;
        for _ in 0..3 {
            behind = any(behind)?.1;
        }
        let certificates = if behind.is_empty() { behind } else { sequence(tagged(CONTEXT_0, behind)?)?.0 };
        let (data, _) = sequence(signed.message)?;
        let (mut responder, mut rest) = any(data)?;
        if responder.tag == CONTEXT_0 {
            // The version.
            (responder, rest) = any(rest)?;
        }
        let (_produced, rest) = any(rest)?;
        let (responses, rest) = sequence(rest)?;
        if !rest.is_empty() {
            no_critical(tagged(CONTEXT_1, rest)?)?;
        }
        Ok(Self { signed, responder, responses, certificates })
    }

    fn certificates(&self) -> Result<Vec<X509Certificate<'a>>, Wrong> {
        let (mut left, mut found) = (self.certificates, Vec::new());
        while !left.is_empty() && found.len() < SIGNERS {
            let (element, rest) = any(left)?;
            left = rest;
            found.extend(parse(element.whole).ok());
        }
        Ok(found)
    }

    /// Whether it says that this one has signed it.
    fn names(&self, signer: &X509Certificate<'_>) -> bool {
        let content = self.responder.content;
        match self.responder.tag {
            CONTEXT_1 => content == signer.subject().as_raw(),
            CONTEXT_2 => {
                let key = public_key(signer.public_key().raw).map(|(_, key)| sha1(key));
                let named = next(content).filter(|(element, _)| element.tag == OCTET_STRING);
                key.zip(named).is_some_and(|(key, (element, _))| element.content == key)
            }
            _ => false,
        }
    }
}

/// Whether a certificate asks for an answer of its issuer's in each handshake (RFC 7633).
pub fn must_staple(certificate: &[u8]) -> bool {
    let Ok(certificate) = parse(certificate) else { return false };
    let mut features = certificate.extensions().iter().filter(|one| one.oid.to_id_string() == FEATURES);
    features.any(|extension| {
        let Ok((mut list, _)) = sequence(extension.value) else { return false };
        while let Some((element, rest)) = next(list) {
            if (element.tag, element.content) == (INTEGER, STATUS_REQUEST) {
                return true;
            }
            list = rest;
        }
        false
    })
}

/// The first `http` address at which the issuer is asked.
fn responder(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut all =
        certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => Some(access),
            _ => None,
        });
    all.find_map(|access| {
        let descriptions = access.accessdescs.iter();
        let responders = descriptions.filter(|one| one.access_method.to_id_string() == ACCESS);
        responders.into_iter().find_map(|one| match &one.access_location {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
    })
}

/// `Extensions`, none of which has to be understood.
fn no_critical(explicit: &[u8]) -> Result<(), Wrong> {
    let (mut list, _) = sequence(explicit)?;
    while !list.is_empty() {
        let (extension, rest) = sequence(list)?;
        list = rest;
        let (_, value) = any(extension)?;
        let (critical, _) = any(value)?;
        if critical.tag == BOOLEAN && critical.content != [0] {
            return Err(Wrong::CriticalExtension);
        }
    }
    Ok(())
}

fn any(bytes: &[u8]) -> Result<(Element<'_>, &[u8]), Wrong> {
    next(bytes).ok_or(Wrong::Malformed)
}

/// The content of the sequence that comes first, and what follows it.
fn sequence(bytes: &[u8]) -> Result<(&[u8], &[u8]), Wrong> {
    let (element, rest) = any(bytes)?;
    if element.tag == SEQUENCE { Ok((element.content, rest)) } else { Err(Wrong::Malformed) }
}

/// The content of what comes first, which has this tag.
fn tagged(tag: u8, bytes: &[u8]) -> Result<&[u8], Wrong> {
    let (element, _) = any(bytes)?;
    if element.tag == tag { Ok(element.content) } else { Err(Wrong::Malformed) }
}

fn time(element: &Element<'_>) -> Result<i64, Wrong> {
    let (_, time) = ASN1Time::from_der(element.whole).map_err(|_| Wrong::Malformed)?;
    Ok(time.timestamp())
}

fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

/// DER of something that consists of these parts.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(short as u8),
        long => {
            let digits = long.to_be_bytes();
            let digits = &digits[digits.iter().take_while(|digit| **digit == 0).count()..];
            out.push(0x80 | digits.len() as u8);
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(&content);
    out
}

/// What can be said of a certificate when the configuration is read.
pub(super) fn inquiry(chain: &[Der], issuers: &[Der]) -> Result<Inquiry, Wrong> {
    let (leaf, others) = chain.split_first().ok_or(Wrong::Certificate)?;
    Inquiry::new(&leaf.0, others.iter().chain(issuers).map(|der| &der.0[..]))
}

#[cfg(test)]
mod tests;
