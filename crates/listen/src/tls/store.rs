//! Certificates by name, to be replaced while they are used.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use config::model::tls::{Certificate, Contents};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use super::load::signing_key;

/// A certificate as the library takes it.
pub(super) fn certified(contents: &Contents) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let chain = contents.chain.iter().map(|der| CertificateDer::from(der.0.clone())).collect();
    let mut certified = CertifiedKey::new(chain, signing_key(contents.form, &contents.key.0)?);
    certified.ocsp = contents.ocsp.as_ref().map(|der| der.0.clone());
    Ok(Arc::new(certified))
}

/// All certificates of a process, for all its event loops.
#[derive(Debug, Default)]
pub struct Store(RwLock<HashMap<String, Arc<Slot>>>);

/// The place of one certificate; who has it sees what it is replaced with.
#[derive(Debug, Default)]
pub(super) struct Slot(RwLock<Option<Arc<CertifiedKey>>>);

impl Slot {
    pub(super) fn certificate(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Store {
    /// Puts a certificate into its place, or replaces the one that is there. The error is for the log.
    pub fn put(&self, name: &str, contents: &Contents) -> Result<(), String> {
        let ocsp = contents.ocsp.as_ref().map(|der| &der.0);
        let slot = self.slot(name);
        // Most of many certificates are as they were: the key belongs to the first of the chain.
        if slot.certificate().is_some_and(|known| {
            known.ocsp.as_ref() == ocsp
                && known.cert.iter().map(AsRef::as_ref).eq(contents.chain.iter().map(|der| &der.0[..]))
        }) {
            return Ok(());
        }
        let certified = certified(contents)
            .map_err(|error| format!("the key of the certificate {name} cannot be used: {error}"))?;
        *slot.0.write().unwrap_or_else(PoisonError::into_inner) = Some(certified);
        Ok(())
    }

    /// All certificates of a configuration.
    pub fn put_all(&self, certificates: &[Certificate]) -> Result<(), String> {
        certificates.iter().try_for_each(|certificate| match &certificate.contents {
            Some(contents) => self.put(&certificate.name, contents),
            None => Ok(()),
        })
    }

    /// Forgets those that nobody uses any more.
    pub fn retain(&self, is_wanted: impl Fn(&str) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|name, _| is_wanted(name));
    }

    /// The place of that name, which may be empty yet.
    pub(super) fn slot(&self, name: &str) -> Arc<Slot> {
        if let Some(slot) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(slot);
        }
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(name.to_owned()).or_default())
    }
}
