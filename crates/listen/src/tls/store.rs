//! Certificates by name, to be replaced while they are used.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use config::model::tls::{Certificate, Contents, Der};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::load::signing_key;
use super::ocsp::{Inquiry, Wrong};

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
pub(super) struct Slot(RwLock<Held>);

#[derive(Debug, Default)]
struct Held {
    /// As it was put there.
    own: Option<Arc<CertifiedKey>>,
    /// With an answer about it that was fetched.
    stapled: Option<Stapled>,
}

#[derive(Debug)]
struct Stapled {
    certified: Arc<CertifiedKey>,
    /// The answer holds until then, in seconds since 1970.
    until: i64,
}

impl Slot {
    /// What is shown now: an answer that does not hold any more is not.
    pub(super) fn certificate(&self) -> Option<Arc<CertifiedKey>> {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match &held.stapled {
            Some(stapled) if now() <= stapled.until => Some(Arc::clone(&stapled.certified)),
            _ => held.own.clone(),
        }
    }

    fn own(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).own.clone()
    }
}

/// A certificate that is in its place, without answers about it. Equal: it has not been replaced.
#[derive(Debug, Clone)]
pub struct Shown(Arc<CertifiedKey>);

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Shown {
    /// What to ask about it; its issuer is in its chain or among these.
    pub fn inquiry(&self, issuers: &[Der]) -> Result<Inquiry, Wrong> {
        let (leaf, others) = self.0.cert.split_first().ok_or(Wrong::Certificate)?;
        Inquiry::new(leaf, others.iter().map(AsRef::as_ref).chain(issuers.iter().map(|der| &der.0[..])))
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

impl Store {
    /// Puts a certificate into its place, or replaces the one that is there. The error is for the log.
    pub fn put(&self, name: &str, contents: &Contents) -> Result<(), String> {
        let ocsp = contents.ocsp.as_ref().map(|der| &der.0);
        let slot = self.slot(name);
        // Most of many certificates are as they were: the key belongs to the first of the chain.
        if slot.own().is_some_and(|known| {
            known.ocsp.as_ref() == ocsp
                && known.cert.iter().map(AsRef::as_ref).eq(contents.chain.iter().map(|der| &der.0[..]))
        }) {
            return Ok(());
        }
        let certified = certified(contents)
            .map_err(|error| format!("the key of the certificate {name} cannot be used: {error}"))?;
        let held = Held { own: Some(certified), stapled: None };
        *slot.0.write().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(())
    }

    /// The certificate of that name, if it is there.
    pub fn shown(&self, name: &str) -> Option<Shown> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(name)?.own().map(Shown)
    }

    /// Sends an answer about a certificate along with it until then (seconds since 1970), unless it has been replaced.
    pub fn staple(&self, name: &str, shown: &Shown, answer: Vec<u8>, until: i64) {
        let slot = self.slot(name);
        let mut held = slot.0.write().unwrap_or_else(PoisonError::into_inner);
        if held.own.as_ref().is_some_and(|own| Arc::ptr_eq(own, &shown.0)) {
            let mut certified = CertifiedKey::clone(&shown.0);
            certified.ocsp = Some(answer);
            held.stapled = Some(Stapled { certified: Arc::new(certified), until });
        }
    }

    /// Until when the answer holds that is sent along with a certificate.
    pub fn stapled_until(&self, name: &str) -> Option<i64> {
        let slot = self.slot(name);
        let held = slot.0.read().unwrap_or_else(PoisonError::into_inner);
        held.stapled.as_ref().map(|stapled| stapled.until)
    }

    /// The certificates that are in their places by name, and until when each is good, in seconds since 1970.
    pub fn expirations(&self) -> Vec<(String, i64)> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let until = |(name, slot): (&String, &Arc<Slot>)| {
            let own = slot.own()?;
            let (_, leaf) = X509Certificate::from_der(own.cert.first()?).ok()?;
            Some((name.clone(), leaf.validity().not_after.timestamp()))
        };
        slots.iter().filter_map(until).collect()
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
