//! An authority of one's own, for development: made once, kept, and trusted by whoever says so.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::model::acme::{Key, Local, Order};
use config::model::tls::Contents;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use crate::key::{self, Pair};
use crate::program::to_contents;
use crate::store::{Locked, Store};

/// How long the authority is good.
const AUTHORITY_LIFE: u64 = 10 * 365 * 24 * 3600;
/// How long a certificate of its is good: browsers take no longer ones.
const LIFE: u64 = 397 * 24 * 3600;
/// A certificate with less than this left is made anew.
const LEAST_LEFT: u64 = 60 * 24 * 3600;
/// What people find among the authorities that they trust.
const NAME: &str = "Monoceros, an authority for development";
/// Locks of other starts are waited for this long.
const PATIENCE: u32 = 100;

/// The file with the authority's certificate: what is to be trusted.
pub fn authority(local: &Local) -> PathBuf {
    local.state.join("authority.crt")
}

/// The certificate; authority and certificate are made when they are not there, or run out. The error is for the user.
pub fn contents(local: &Local) -> Result<Contents, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    pair(local, now).map(|pair| to_contents(&pair))
}

fn pair(local: &Local, now: u64) -> Result<Pair, String> {
    let store = Store::open(&local.state).map_err(|error| error.to_string())?;
    let order = order(&local.identifiers);
    let own = self::order(&["authority".to_owned()]);
    // Two that start at once make one.
    let _lock = lock(&store, &own)?;
    let known = store.own(&own).filter(|stored| stored.leaf.validity.left(now) > LIFE);
    let authority = if let Some(stored) = known {
        stored.pair
    } else {
        let made = make_authority(now).map_err(|error| error.to_string())?;
        store.keep(&own, &made).map_err(|error| error.to_string())?;
        made
    };
    publish(local, &authority).map_err(|error| format!("{}: {error}", self::authority(local).display()))?;
    let known = store.own(&order).filter(|stored| {
        stored.leaf.validity.left(now) > LEAST_LEFT && stored.pair.chain.get(1) == authority.chain.first()
    });
    if let Some(stored) = known {
        return Ok(stored.pair);
    }
    let made = make(&local.identifiers, &authority, now).map_err(|error| error.to_string())?;
    store.keep(&order, &made).map_err(|error| error.to_string())?;
    Ok(made)
}

fn lock(store: &Store, order: &Order) -> Result<crate::store::Lock, String> {
    let mut why = String::new();
    for _ in 0..PATIENCE {
        match store.lock(order).map_err(|error| error.to_string())? {
            Locked::Yes(lock) => return Ok(lock),
            Locked::No(holder) => why = holder,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(why)
}

fn order(identifiers: &[String]) -> Order {
    Order { name: String::new(), identifiers: identifiers.to_vec(), key: Key::P256, issuers: vec![] }
}

/// The certificate alone, for others to read.
fn publish(local: &Local, pair: &Pair) -> io::Result<()> {
    let text = crate::store::pem("CERTIFICATE", &pair.chain[0]);
    let path = authority(local);
    if std::fs::read_to_string(&path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}

fn authority_params(now: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    date(&mut params, now, AUTHORITY_LIFE);
    params
}

fn make_authority(now: u64) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = authority_params(now).self_signed(&key)?;
    Ok(Pair { chain: vec![certificate.der().to_vec()], key: key.serialize_der() })
}

fn make(identifiers: &[String], authority: &Pair, now: u64) -> Result<Pair, rcgen::Error> {
    // What of it goes into the certificate is its name and its key.
    let issuer = Issuer::new(authority_params(now), KeyPair::try_from(authority.key.as_slice())?);
    let mut params = CertificateParams::new(identifiers)?;
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    date(&mut params, now, LIFE);
    let key = key::generate(Key::P256).map_err(|_| rcgen::Error::KeyGenerationUnavailable)?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pair { chain: vec![certificate.der().to_vec(), authority.chain[0].clone()], key: key.serialize_der() })
}

fn date(params: &mut CertificateParams, now: u64, life: u64) {
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now);
    params.not_before = now - Duration::from_secs(3600);
    params.not_after = now - Duration::from_secs(3600) + Duration::from_secs(life);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain;

    const NOW: u64 = 1_700_000_000;

    #[test]
    fn both_are_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut local = Local {
            name: "local".into(),
            state: directory.path().join("a/b"),
            identifiers: vec!["localhost".into(), "::1".into()],
        };
        let first = pair(&local, NOW).unwrap();
        let trusted = std::fs::read(authority(&local)).unwrap();
        let leaf = chain::look(&first.chain).unwrap();
        assert_eq!(leaf.identifiers, ["localhost", "::1"]);
        assert_eq!(chain::parse(&trusted).unwrap(), [first.chain[1].clone()]);
        assert_eq!(pair(&local, NOW).unwrap(), first);
        // Other names, another certificate, the same authority.
        local.identifiers.push("shop.example".into());
        let second = pair(&local, NOW).unwrap();
        assert_ne!(second.chain[0], first.chain[0]);
        assert_eq!(second.chain[1], first.chain[1]);
        // It runs out, the authority does not.
        let third = pair(&local, NOW + LIFE).unwrap();
        assert_ne!(third.chain[0], second.chain[0]);
        assert_eq!(third.chain[1], first.chain[1]);
    }
}
