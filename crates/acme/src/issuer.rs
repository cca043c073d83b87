//! An authority, and the account with it.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::model::acme::Issuer;
use instant_acme::{Account, AccountCredentials, CertificateIdentifier, ExternalAccountKey, Key, NewAccount};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::Failure;
use crate::store::Store;
use crate::transport::Transport;

/// How often a request is tried again whose nonce the authority did not like (RFC 8555 §6.5). Nothing has happened then.
const NONCES: u32 = 10;
/// How soon an authority's suggestion is asked for again, seconds.
const ASK_AGAIN: std::ops::RangeInclusive<u64> = 600..=24 * 3600;

/// Held by whoever makes an account.
static REGISTRATION: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// An authority that is ready for orders.
pub struct Authority {
    pub(crate) account: Account,
    pub(crate) transport: Transport,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("account", &self.account.id()).finish_non_exhaustive()
    }
}

/// When an authority would have a certificate renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suggestion {
    /// From when to when, seconds since 1970; `None`: it has no opinion.
    pub window: Option<(u64, u64)>,
    /// Seconds until it should be asked again.
    pub again: u64,
}

impl Authority {
    /// Takes up the account that is in the store, or makes one.
    pub async fn open(issuer: &Issuer, store: &Store) -> Result<Self, Failure> {
        let transport = Transport::new(issuer.trusted.as_deref(), issuer.verify).map_err(Failure::Own)?;
        let mut account = Self::known(issuer, &transport, store).await?;
        if account.is_none() {
            // Several certificates are ordered at once, but one account is enough.
            let _one = REGISTRATION.lock().await;
            account = Self::known(issuer, &transport, store).await?;
            if account.is_none() {
                account = Some(Self::register(issuer, &transport, store).await?);
            }
        }
        let account = account.ok_or_else(|| Failure::NoAccount("no account".to_owned()))?;
        if let Some(wanted) = &issuer.profile {
            let offered: Vec<&str> = account.profiles().map(|profile| profile.name).collect();
            if !offered.contains(&wanted.as_str()) {
                let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
                return Err(Failure::Own(format!(
                    "{} has no profile \"{wanted}\"; it has {offered}",
                    issuer.name
                )));
            }
        }
        Ok(Self { account, transport })
    }

    async fn known(
        issuer: &Issuer,
        transport: &Transport,
        store: &Store,
    ) -> Result<Option<Account>, Failure> {
        let Some(credentials) = store.account::<AccountCredentials>(&identity(issuer)) else {
            return Ok(None);
        };
        let opened = Account::builder_with_http(Box::new(transport.clone())).from_credentials(credentials);
        opened.await.map(Some).map_err(|error| failure(transport, &error))
    }

    async fn register(issuer: &Issuer, transport: &Transport, store: &Store) -> Result<Account, Failure> {
        let external = issuer.external_account.as_ref().map(external_key).transpose()?;
        let contact: Vec<&str> = issuer.contact.iter().map(String::as_str).collect();
        let terms_of_service_agreed = issuer.accepted_terms;
        if issuer.account_key.is_some() && (external.is_some() || !terms_of_service_agreed) {
            let why =
                "an account with a key of its own needs accept_terms_of_service, and no external_account_key";
            return Err(Failure::Own(why.to_owned()));
        }
        let (account, credentials) = again(transport, async || {
            let builder = Account::builder_with_http(Box::new(transport.clone()));
            if let Some(path) = &issuer.account_key {
                // Its key may have an account already; the library takes no contacts here.
                return builder.create_from_key(read_key(path)?, issuer.directory.clone()).await;
            }
            let new = NewAccount { contact: &contact, terms_of_service_agreed, only_return_existing: false };
            builder.create(&new, issuer.directory.clone(), external.as_ref()).await
        })
        .await?;
        if issuer.account_key.is_some() && !contact.is_empty() {
            again(transport, async || account.update_contacts(&contact).await).await?;
        }
        store.keep_account(&identity(issuer), &credentials)?;
        telemetry::info!("account {} with {} is registered", account.id(), issuer.name);
        Ok(account)
    }

    /// Whether there is an account.
    pub fn is_known(issuer: &Issuer, store: &Store) -> bool {
        store.account::<AccountCredentials>(&identity(issuer)).is_some()
    }

    /// Forgets the account: the authority does not know it any more.
    pub fn forget(issuer: &Issuer, store: &Store) {
        store.forget_account(&identity(issuer));
    }

    /// When the authority would have this certificate renewed (RFC 9773).
    pub async fn suggestion(&self, certificate: &[u8]) -> Suggestion {
        const NONE: Suggestion = Suggestion { window: None, again: *ASK_AGAIN.end() };
        let certificate = CertificateDer::from(certificate);
        let Ok(identifier) = CertificateIdentifier::try_from(&certificate) else { return NONE };
        match self.account.renewal_info(&identifier).await {
            Ok((info, again)) => {
                let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
                let window = info.suggested_window;
                let window = (seconds(window.start.unix_timestamp()), seconds(window.end.unix_timestamp()));
                let again = again.as_secs().clamp(*ASK_AGAIN.start(), *ASK_AGAIN.end());
                Suggestion { window: Some(window), again }
            }
            Err(instant_acme::Error::Unsupported(_)) => NONE,
            Err(error) => {
                telemetry::debug!("no suggestion for a renewal: {}", failure(&self.transport, &error));
                Suggestion { window: None, again: 3600 }
            }
        }
    }
}

/// What makes an account this one.
fn identity(issuer: &Issuer) -> [&str; 3] {
    let key = issuer.account_key.as_deref().and_then(|path| path.to_str()).unwrap_or_default();
    let external = issuer.external_account.as_ref().map_or("", |external| external.id.as_str());
    [&issuer.directory, key, external]
}

fn external_key(external: &config::model::acme::ExternalAccount) -> Result<ExternalAccountKey, Failure> {
    let text = external.key.trim().trim_end_matches('=');
    // Authorities hand out both alphabets.
    let text = text.replace('+', "-").replace('/', "_");
    let key = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Failure::Own("the key for the external account is no base64url".to_owned()))?;
    Ok(ExternalAccountKey::new(external.id.clone(), &key))
}

fn read_key(path: &std::path::Path) -> Result<(Key, PrivateKeyDer<'static>), instant_acme::Error> {
    let other = |why: String| instant_acme::Error::Other(format!("{}: {why}", path.display()).into());
    let text = fs::read(path).map_err(|error| other(error.to_string()))?;
    let der = PrivatePkcs8KeyDer::from_pem_slice(&text)
        .map_err(|_| other("no private key (PKCS#8, \"BEGIN PRIVATE KEY\")".to_owned()))?;
    let key = Key::from_pkcs8_der(der.clone_key())
        .map_err(|_| other("not a key for ECDSA on P-256, the only kind there is for accounts".to_owned()))?;
    Ok((key, PrivateKeyDer::Pkcs8(der)))
}

/// Sorts an error.
pub(crate) fn failure(transport: &Transport, error: &instant_acme::Error) -> Failure {
    Failure::of(error, transport.retry_after())
}

/// Asks again as long as only the nonce is at fault.
pub(crate) async fn again<T>(
    transport: &Transport,
    mut ask: impl AsyncFnMut() -> Result<T, instant_acme::Error>,
) -> Result<T, Failure> {
    let mut left = NONCES;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if left > 0 && Failure::is_bad_nonce(&error) => left -= 1,
            Err(error) => return Err(failure(transport, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use config::model::acme::ExternalAccount;

    use super::*;

    #[test]
    fn external_keys_are_base64_of_either_kind() {
        for (key, good) in [("zWND_g", true), ("zWND/g==", true), (" zWNDg ", false), ("!", false)] {
            let external = ExternalAccount { id: "kid".into(), key: key.into() };
            assert_eq!(external_key(&external).is_ok(), good, "{key}");
        }
    }

    #[test]
    fn account_keys_are_for_p256() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let write = |kind| fs::write(&path, crate::key::generate(kind).unwrap().serialize_pem()).unwrap();
        let why =
            |path: &std::path::Path| read_key(path).err().map(|error| error.to_string()).unwrap_or_default();
        write(config::model::acme::Key::P256);
        read_key(&path).unwrap();
        write(config::model::acme::Key::P384);
        assert!(why(&path).contains("P-256"));
        fs::write(&path, "x").unwrap();
        assert!(why(&path).contains("key.pem"));
    }
}
