//! Servers as a client of TLS sees them: whom to believe. Shared by all that connect to others.

use std::sync::{Arc, OnceLock};

use config::model::tls::{self as model, Der};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{self, CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::clients::{self, Clients};

/// Certificates that may lie between a server's and that of an authority, where lists of revocations are looked at.
const DEPTH: u32 = 16;

/// The one library of ciphers.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// Believes any certificate. `from_its_owner`: but only from whoever has its key, which certificates of the first version
/// cannot be asked about.
pub fn anybody(from_its_owner: bool) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Anybody { provider: provider(), from_its_owner })
}

/// Believes whom one of these certificates has signed, and these themselves, if the name is right and no list has
/// revoked them. With lists there must be one for each certificate of a chain, as in nginx. The error is for the log.
pub fn trusted(
    own: Vec<CertificateDer<'static>>,
    revocations: Option<&[Der]>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(own.iter().cloned());
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let inner = builder.build().map_err(|error| error.to_string())?;
    // Lists of the first version, and what else the library does not read, are read here.
    let revocations = revocations.map(|lists| {
        Clients::new(&model::Clients {
            verify: model::Verify::On,
            strict: true,
            trusted: own.iter().map(|der| Der(der.to_vec())).collect(),
            file: None,
            named: 0,
            depth: DEPTH,
            revocations: Some(lists.to_vec()),
        })
    });
    Ok(Arc::new(Trusted { inner, own, revocations: revocations.transpose()? }))
}

#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
    from_its_owner: bool,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.from_its_owner {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.from_its_owner {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct Trusted {
    inner: Arc<WebPkiServerVerifier>,
    /// A certificate that is trusted need not be signed by another.
    own: Vec<CertificateDer<'static>>,
    revocations: Option<Clients>,
}

impl Trusted {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.own.iter().any(|own| own.as_ref() == end_entity.as_ref()) {
            let parsed = clients::parse(end_entity)
                .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
            let (now, validity) = (now.as_secs() as i64, parsed.validity());
            if now < validity.not_before.timestamp() {
                return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
            }
            if now > validity.not_after.timestamp() {
                return Err(Error::InvalidCertificate(CertificateError::Expired));
            }
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verify(end_entity, intermediates, name, ocsp, now)?;
        if let Some(lists) = &self.revocations {
            let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
            let checked = lists.check_revoked(&chain, now.as_secs() as i64);
            checked.map_err(|flaw| Error::InvalidCertificate(clients::reason(flaw)))?;
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
