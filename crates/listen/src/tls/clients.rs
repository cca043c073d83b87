//! Certificates of clients: who they are asked from, and whether they are good.
//!
//! As in nginx the handshake succeeds whatever a client shows, if only the key is its own: what is wrong is told to the
//! request, which `error_page` may answer. Gunicorn's command line wants the handshake to fail ([`Clients::strict`]).
//! A chain is followed as OpenSSL does it, because that decides which certificates of today's installations are good:
//! trusted certificates first, up to one that signs itself and is trusted; those of clients may be authorities or of
//! the first version.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use config::model::tls::{self as model, Der};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible,
    SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::der::{Signed, public_key};

/// Signatures of one chain that are looked at: it comes from a stranger.
const SIGNATURES: u32 = 32;

/// What is wrong with a certificate. The words are OpenSSL's, which configurations and logs know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Flaw {
    #[error("unable to get issuer certificate")]
    NoIssuer,
    #[error("unable to get certificate CRL")]
    NoRevocations,
    #[error("certificate signature failure")]
    Signature,
    #[error("CRL signature failure")]
    RevocationsSignature,
    #[error("certificate is not yet valid")]
    NotYetValid,
    #[error("certificate has expired")]
    Expired,
    #[error("CRL is not yet valid")]
    RevocationsNotYetValid,
    #[error("CRL has expired")]
    RevocationsExpired,
    #[error("self-signed certificate")]
    SelfSigned,
    #[error("self-signed certificate in certificate chain")]
    SelfSignedInChain,
    #[error("unable to get local issuer certificate")]
    NoLocalIssuer,
    #[error("unable to verify the first certificate")]
    UnverifiedLeaf,
    #[error("certificate chain too long")]
    ChainTooLong,
    #[error("certificate revoked")]
    Revoked,
    #[error("invalid CA certificate")]
    NoAuthority,
    #[error("path length constraint exceeded")]
    PathLength,
    #[error("unsuitable certificate purpose")]
    Purpose,
    #[error("unhandled critical extension")]
    CriticalExtension,
    #[error("unsupported name constraint type")]
    NameConstraint,
    #[error("unspecified certificate verification error")]
    Malformed,
}

impl Flaw {
    /// nginx's number of it, which is OpenSSL's.
    pub fn number(self) -> u32 {
        match self {
            Self::NoIssuer => 2,
            Self::NoRevocations => 3,
            Self::Signature => 7,
            Self::RevocationsSignature => 8,
            Self::NotYetValid => 9,
            Self::Expired => 10,
            Self::RevocationsNotYetValid => 11,
            Self::RevocationsExpired => 12,
            Self::SelfSigned => 18,
            Self::SelfSignedInChain => 19,
            Self::NoLocalIssuer => 20,
            Self::UnverifiedLeaf => 21,
            Self::ChainTooLong => 22,
            Self::Revoked => 23,
            Self::NoAuthority => 24,
            Self::PathLength => 25,
            Self::Purpose => 26,
            Self::CriticalExtension => 34,
            Self::NameConstraint => 51,
            Self::Malformed => 1,
        }
    }

    /// Nobody who is trusted has signed it, and that is all: with `optional_no_ca` somebody else looks.
    pub fn is_missing_trust(self) -> bool {
        matches!(
            self,
            Self::NoIssuer
                | Self::SelfSigned
                | Self::SelfSignedInChain
                | Self::NoLocalIssuer
                | Self::UnverifiedLeaf
        )
    }
}

/// Whom a server trusts.
pub(super) struct Clients {
    trusted: Trusted,
    names: Vec<DistinguishedName>,
    depth: usize,
    revocations: Option<Vec<Revocations>>,
    strict: bool,
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients")
    }
}

struct Trusted {
    all: Vec<Der>,
    by_subject: HashMap<Vec<u8>, Vec<usize>>,
}

/// One list of revoked certificates.
struct Revocations {
    issuer: Vec<u8>,
    der: Vec<u8>,
    serials: HashSet<Vec<u8>>,
    from: i64,
    until: Option<i64>,
    /// The key that has signed it, once that was looked at: the list may be long.
    signed_by: Mutex<Option<Vec<u8>>>,
}

impl Clients {
    /// The error is for the log.
    pub(super) fn new(model: &model::Clients) -> Result<Self, String> {
        let mut by_subject: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        let mut names = Vec::new();
        for (at, der) in model.trusted.iter().enumerate() {
            let certificate = parse(&der.0).map_err(|_| "a trusted certificate cannot be made out")?;
            let subject = certificate.subject().as_raw().to_vec();
            if at < model.named as usize && !by_subject.contains_key(&subject) {
                names.push(DistinguishedName::from(subject.clone()));
            }
            by_subject.entry(subject).or_default().push(at);
        }
        let revocations = model.revocations.as_ref().map(|all| {
            all.iter().map(|der| Revocations::new(&der.0).ok_or("a list of revocations cannot be made out"))
        });
        let revocations = revocations.map(Iterator::collect::<Result<_, _>>).transpose()?;
        Ok(Self {
            trusted: Trusted { all: model.trusted.clone(), by_subject },
            names,
            depth: model.depth as usize,
            revocations,
            strict: model.strict,
            mandatory: model.strict && model.verify == model::Verify::On,
            algorithms: default_provider().signature_verification_algorithms,
        })
    }

    /// Whether a client with these certificates, its own first, is one that is trusted.
    pub(super) fn check(&self, chain: &[CertificateDer<'_>]) -> Result<(), Flaw> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        self.check_at(chain, now)
    }

    fn check_at(&self, chain: &[CertificateDer<'_>], now: i64) -> Result<(), Flaw> {
        let (leaf, others) = chain.split_first().ok_or(Flaw::Malformed)?;
        let leaf = parse(leaf)?;
        let others: Vec<_> = others.iter().filter_map(|der| parse(der).ok()).collect();
        let mut budget = SIGNATURES;
        let path = self.path(leaf, others, now, &mut budget)?;
        for (at, certificate) in path.iter().enumerate() {
            check_extensions(certificate, at == 0)?;
            if at > 0 {
                check_authority(certificate, &path[1..at])?;
            }
            if now < certificate.validity().not_before.timestamp() {
                return Err(Flaw::NotYetValid);
            }
            if now > certificate.validity().not_after.timestamp() {
                return Err(Flaw::Expired);
            }
        }
        self.check_revocations(&path, now)
    }

    /// Whether it is known of all certificates on the way to one that is trusted that they are not revoked.
    pub(super) fn check_revoked(&self, chain: &[CertificateDer<'_>], now: i64) -> Result<(), Flaw> {
        let (leaf, others) = chain.split_first().ok_or(Flaw::Malformed)?;
        let others = others.iter().filter_map(|der| parse(der).ok()).collect();
        let path = self.path(parse(leaf)?, others, now, &mut { SIGNATURES })?;
        self.check_revocations(&path, now)
    }

    fn check_revocations(&self, path: &[X509Certificate<'_>], now: i64) -> Result<(), Flaw> {
        let Some(revocations) = &self.revocations else { return Ok(()) };
        // All of them are looked at, and the last flaw is told, as nginx does: that an authority is revoked says more
        // than that nothing is known of what it has signed.
        let mut last = Ok(());
        for (at, certificate) in path.iter().enumerate() {
            let issuer = path.get(at + 1).unwrap_or(certificate);
            last = self.check_revocation(revocations, certificate, issuer, now).and(last);
        }
        last
    }

    /// From the client's certificate to one that signs itself and is trusted.
    fn path<'a>(
        &'a self,
        leaf: X509Certificate<'a>,
        mut others: Vec<X509Certificate<'a>>,
        now: i64,
        budget: &mut u32,
    ) -> Result<Vec<X509Certificate<'a>>, Flaw> {
        let presented = others.len();
        let mut path = vec![leaf];
        let mut is_trusted = false;
        loop {
            let last = path.last().ok_or(Flaw::Malformed)?;
            if last.subject().as_raw() == last.issuer().as_raw() && self.is_signed_by(last, last, budget)? {
                return match (path.len(), is_trusted || self.trusted.has(last)) {
                    (_, true) => Ok(path),
                    (1, false) => Err(Flaw::SelfSigned),
                    (_, false) => Err(Flaw::SelfSignedInChain),
                };
            }
            if path.len() == self.depth + 2 {
                return Err(Flaw::ChainTooLong);
            }
            let mut issuer = None;
            let mut was_found = false;
            for candidate in self.trusted.of_name(last.issuer().as_raw()) {
                was_found = true;
                let is_valid = |one: &X509Certificate<'_>| {
                    (one.validity().not_before.timestamp()..=one.validity().not_after.timestamp())
                        .contains(&now)
                };
                // One that has expired is only the issuer where there is no other.
                if (issuer.is_none() || is_valid(&candidate))
                    && self.is_signed_by(last, &candidate, budget)?
                {
                    let is_best = is_valid(&candidate);
                    issuer = Some(candidate);
                    if is_best {
                        break;
                    }
                }
            }
            is_trusted = issuer.is_some();
            if issuer.is_none() {
                let mut at = 0;
                while at < others.len() {
                    let is_named = others[at].subject().as_raw() == last.issuer().as_raw();
                    was_found |= is_named;
                    if is_named && self.is_signed_by(last, &others[at], budget)? {
                        issuer = Some(others.swap_remove(at));
                        break;
                    }
                    at += 1;
                }
            }
            match issuer {
                // Somebody of that name, with another key.
                None if was_found => return Err(Flaw::Signature),
                None if self.trusted.has(last) => return Err(Flaw::NoIssuer),
                None if path.len() == 1 && presented == 0 => return Err(Flaw::UnverifiedLeaf),
                None => return Err(Flaw::NoLocalIssuer),
                Some(issuer) => path.push(issuer),
            }
        }
    }

    fn is_signed_by(
        &self,
        certificate: &X509Certificate<'_>,
        issuer: &X509Certificate<'_>,
        budget: &mut u32,
    ) -> Result<bool, Flaw> {
        *budget = budget.checked_sub(1).ok_or(Flaw::ChainTooLong)?;
        let signed = Signed::parse(certificate.as_raw()).ok_or(Flaw::Malformed)?;
        Ok(is_signed(&self.algorithms, &signed, issuer.public_key().raw))
    }

    fn check_revocation(
        &self,
        all: &[Revocations],
        certificate: &X509Certificate<'_>,
        issuer: &X509Certificate<'_>,
        now: i64,
    ) -> Result<(), Flaw> {
        let mut wrong = Flaw::NoRevocations;
        let mut is_known = false;
        for list in all.iter().filter(|list| list.issuer == certificate.issuer().as_raw()) {
            if !list.is_signed(&self.algorithms, issuer) {
                wrong = Flaw::RevocationsSignature;
            } else if list.serials.contains(certificate.raw_serial()) {
                return Err(Flaw::Revoked);
            } else if now < list.from {
                wrong = Flaw::RevocationsNotYetValid;
            } else if list.until.is_some_and(|until| now > until) {
                wrong = Flaw::RevocationsExpired;
            } else {
                is_known = true;
            }
        }
        if is_known { Ok(()) } else { Err(wrong) }
    }
}

impl Trusted {
    fn has(&self, certificate: &X509Certificate<'_>) -> bool {
        let same = self.by_subject.get(certificate.subject().as_raw());
        same.is_some_and(|same| same.iter().any(|at| self.all[*at].0 == certificate.as_raw()))
    }

    fn of_name(&self, name: &[u8]) -> impl Iterator<Item = X509Certificate<'_>> {
        let same = self.by_subject.get(name).map_or(&[][..], Vec::as_slice);
        same.iter().filter_map(|at| parse(&self.all[*at].0).ok())
    }
}

impl Revocations {
    fn new(der: &[u8]) -> Option<Self> {
        let (_, list) = CertificateRevocationList::from_der(der).ok()?;
        // Lists of a part only (RFC 5280 §5.2.4 and §5.2.5) would leave revoked certificates good.
        if list.extensions().iter().any(|extension| extension.critical) {
            return None;
        }
        Some(Self {
            issuer: list.issuer().as_raw().to_vec(),
            der: der.to_vec(),
            serials: list.iter_revoked_certificates().map(|one| one.raw_serial().to_vec()).collect(),
            from: list.last_update().timestamp(),
            until: list.next_update().map(|time| time.timestamp()),
            signed_by: Mutex::default(),
        })
    }

    fn is_signed(&self, algorithms: &WebPkiSupportedAlgorithms, issuer: &X509Certificate<'_>) -> bool {
        let may_sign = match issuer.key_usage() {
            Ok(Some(usage)) => usage.value.crl_sign(),
            Ok(None) => true,
            Err(_) => false,
        };
        if !may_sign {
            return false;
        }
        let key = issuer.public_key().raw;
        let mut signed_by = self.signed_by.lock().unwrap_or_else(PoisonError::into_inner);
        if signed_by.as_deref() == Some(key) {
            return true;
        }
        let is_signed = Signed::parse(&self.der).is_some_and(|signed| is_signed(algorithms, &signed, key));
        if is_signed {
            *signed_by = Some(key.to_vec());
        }
        is_signed
    }
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Flaw> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Flaw::Malformed),
    }
}

/// Whether it is a list of revocations that can be used.
pub(super) fn is_list(der: &[u8]) -> bool {
    Revocations::new(der).is_some()
}

/// Whether the key of this `SubjectPublicKeyInfo` has signed it.
pub(super) fn is_signed(algorithms: &WebPkiSupportedAlgorithms, signed: &Signed<'_>, spki: &[u8]) -> bool {
    let Some((kind, key)) = public_key(spki) else { return false };
    let mut fitting = algorithms.all.iter().filter(|algorithm| {
        algorithm.signature_alg_id().as_ref() == signed.algorithm
            && algorithm.public_key_alg_id().as_ref() == kind
    });
    fitting.any(|algorithm| algorithm.verify_signature(key, signed.message, signed.signature).is_ok())
}

/// An authority may sign certificates, and has not more of them below it than it says.
fn check_authority(certificate: &X509Certificate<'_>, below: &[X509Certificate<'_>]) -> Result<(), Flaw> {
    match certificate.basic_constraints() {
        Ok(Some(constraints)) if constraints.value.ca => {
            let between = below.iter().filter(|one| one.subject().as_raw() != one.issuer().as_raw()).count();
            let most = constraints.value.path_len_constraint;
            if most.is_some_and(|most| between > most as usize) {
                return Err(Flaw::PathLength);
            }
        }
        // Of the first version nobody could say what it is; it is at the end of a path, so it is trusted.
        Ok(None)
            if certificate.version().0 == 0
                && certificate.subject().as_raw() == certificate.issuer().as_raw() => {}
        _ => return Err(Flaw::NoAuthority),
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => Err(Flaw::NoAuthority),
        Ok(_) => Ok(()),
        Err(_) => Err(Flaw::Malformed),
    }
}

fn check_extensions(certificate: &X509Certificate<'_>, is_leaf: bool) -> Result<(), Flaw> {
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::NameConstraints(_) => return Err(Flaw::NameConstraint),
            ParsedExtension::ParseError { .. } => return Err(Flaw::Malformed),
            ParsedExtension::BasicConstraints(_)
            | ParsedExtension::KeyUsage(_)
            | ParsedExtension::ExtendedKeyUsage(_)
            | ParsedExtension::SubjectAlternativeName(_)
            | ParsedExtension::CertificatePolicies(_) => {}
            _ if extension.critical => return Err(Flaw::CriticalExtension),
            _ => {}
        }
    }
    match certificate.extended_key_usage() {
        Ok(Some(usage)) if !usage.value.client_auth => return Err(Flaw::Purpose),
        Ok(_) => {}
        Err(_) => return Err(Flaw::Malformed),
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if is_leaf && !usage.value.digital_signature() && !usage.value.key_agreement() => {
            Err(Flaw::Purpose)
        }
        Ok(_) => Ok(()),
        Err(_) => Err(Flaw::Malformed),
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.names
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.strict {
            let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
            self.check(&chain).map_err(|flaw| Error::InvalidCertificate(reason(flaw)))?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_handshake(message, cert, dss, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_handshake(message, cert, dss, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Clients {
    /// The client has the key of its certificate. The library's own check refuses certificates of the first version.
    fn verify_handshake(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
        is_tls13: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let bad = |why| Error::InvalidCertificate(why);
        let certificate = parse(cert).map_err(|_| bad(CertificateError::BadEncoding))?;
        let (kind, key) =
            public_key(certificate.public_key().raw).ok_or_else(|| bad(CertificateError::BadEncoding))?;
        // RFC 8446 §4.2.3: PKCS#1 and what begins with another number is for certificates only.
        let is_old = matches!(
            dss.scheme,
            SignatureScheme::RSA_PKCS1_SHA256
                | SignatureScheme::RSA_PKCS1_SHA384
                | SignatureScheme::RSA_PKCS1_SHA512
                | SignatureScheme::RSA_PKCS1_SHA1
                | SignatureScheme::ECDSA_SHA1_Legacy
        );
        let all = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == dss.scheme);
        let (Some((_, all)), false) = (all, is_tls13 && is_old) else {
            return Err(PeerIncompatible::NoSignatureSchemesInCommon.into());
        };
        // In TLS 1.3 a scheme names one curve.
        let all = if is_tls13 { &all[..all.len().min(1)] } else { all };
        let mut fitting = all.iter().filter(|algorithm| algorithm.public_key_alg_id().as_ref() == kind);
        if fitting.any(|algorithm| algorithm.verify_signature(key, message, dss.signature()).is_ok()) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        Err(bad(CertificateError::BadSignature))
    }
}

pub(super) fn reason(flaw: Flaw) -> CertificateError {
    match flaw {
        Flaw::Expired => CertificateError::Expired,
        Flaw::NotYetValid => CertificateError::NotValidYet,
        Flaw::Revoked => CertificateError::Revoked,
        Flaw::Malformed => CertificateError::BadEncoding,
        flaw if flaw.is_missing_trust() => CertificateError::UnknownIssuer,
        flaw => CertificateError::Other(OtherError(std::sync::Arc::new(flaw))),
    }
}
