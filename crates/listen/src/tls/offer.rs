//! What one server offers in a handshake.

use std::sync::Arc;

use aws_lc_rs::digest::{self, SHA256};
use config::model::tls::{Contents, Protocol, Tls};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, ALL_KX_GROUPS, default_provider};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureAlgorithm, SignatureScheme, SupportedCipherSuite, version};

use super::clients::Clients;
use super::compress;
use super::load::Loaded;
use super::sessions::{Context, Sessions};
use super::store::{Slot, Store};

/// Bytes of early data that a client may send, nginx's number.
const EARLY_DATA: u32 = 16 * 1024;
/// What may be skipped of early data that is refused. With each read the library looks again at all that it has skipped,
/// until it can decrypt something, and counts it again; it holds 18 KiB of it at most. So this is enough for a client
/// that sends as much as it may in records of 300 bytes, one after the other, and bounds what others cost.
const SKIPPED: u32 = 32 * EARLY_DATA;

/// Versions, suites, groups, certificates: ready for any number of handshakes.
#[derive(Clone, Debug)]
pub struct Offer {
    config: Arc<ServerConfig>,
    resolver: Arc<Resolver>,
    clients: Option<Arc<Clients>>,
}

impl Offer {
    /// `protocols`: what may be spoken within, the best first. The error is for the log.
    pub fn new(
        tls: &Tls,
        names: &[&str],
        protocols: &[&[u8]],
        store: &Store,
        sessions: &Sessions,
    ) -> Result<Self, String> {
        let suites = tls.suites.iter();
        let suites = suites.filter_map(|n| ALL_CIPHER_SUITES.iter().find(|s| u16::from(s.suite()) == *n));
        let groups = tls.groups.iter();
        let groups = groups.filter_map(|n| ALL_KX_GROUPS.iter().find(|g| u16::from(g.name()) == *n));
        let provider = CryptoProvider {
            cipher_suites: suites.copied().collect(),
            kx_groups: groups.copied().collect(),
            ..default_provider()
        };
        let versions: Vec<_> = tls
            .protocols
            .iter()
            .map(|protocol| match protocol {
                Protocol::Tls12 => &version::TLS12,
                Protocol::Tls13 => &version::TLS13,
            })
            .collect();
        let builder = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)
            .map_err(|error| format!("TLS cannot be offered: {error}"))?;
        let slots = names.iter().map(|name| store.slot(name)).collect();
        let resolver = Arc::new(Resolver { slots, loaded: Vec::new() });
        let clients = tls.clients.as_deref().map(Clients::new).transpose()?.map(Arc::new);
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients) as Arc<_>),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&resolver) as Arc<_>);
        config.cert_compressors = if tls.compress { compress::ALL.to_vec() } else { Vec::new() };
        config.cert_decompressors = Vec::new();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config.ignore_client_order = tls.server_order;
        config.max_fragment_size = Some(tls.record_size as usize);
        let context = context(names, tls);
        config.session_storage = match &tls.session_cache {
            Some(cache) => sessions.cache(cache, context, tls.session_timeout),
            None => Arc::new(NoServerSessionStorage {}),
        };
        if tls.early_data {
            // A session that is remembered is good for one connection, which a ticket cannot be: so nobody's copy of
            // early data is taken (RFC 8446 §8.1).
            config.max_early_data_size = EARLY_DATA;
            // Answers leave before the handshake's end. Nothing else does: without early data nobody gets the stream.
            config.send_half_rtt_data = true;
        } else if tls.tickets {
            config.ticketer = sessions.tickets(&tls.ticket_keys, context, tls.session_timeout);
        }
        Ok(Self { config: Arc::new(config), resolver, clients })
    }

    /// The same with more certificates, which this client has asked for.
    pub fn with(&self, loaded: Vec<Loaded>) -> Self {
        let slots = self.resolver.slots.clone();
        let resolver = Arc::new(Resolver { slots, loaded });
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = Arc::clone(&resolver) as Arc<_>;
        Self { config: Arc::new(config), resolver, clients: self.clients.clone() }
    }

    /// The same with another certificate in the place of all others.
    pub fn with_only(&self, loaded: Loaded) -> Self {
        let resolver = Arc::new(Resolver { slots: Vec::new(), loaded: vec![loaded] });
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = Arc::clone(&resolver) as Arc<_>;
        Self { config: Arc::new(config), resolver, clients: self.clients.clone() }
    }

    /// An offer of one certificate, for whoever speaks one of these protocols. The error is for the log.
    pub fn of_one(contents: &Contents, protocols: &[&[u8]]) -> Result<Self, String> {
        let store = Store::default();
        store.put("", contents)?;
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&version::TLS12, &version::TLS13])
            .map_err(|error| format!("TLS cannot be offered: {error}"))?;
        let resolver = Arc::new(Resolver { slots: vec![store.slot("")], loaded: Vec::new() });
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(&resolver) as Arc<_>);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), resolver, clients: None })
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Whether there is a certificate whose key signs as this client can check, in a suite that both sides have.
    pub(super) fn has_certificate_for(&self, hello: &ClientHello<'_>) -> bool {
        let suites = self.config.crypto_provider().cipher_suites.iter();
        let common = suites.filter(|suite| hello.cipher_suites().contains(&suite.suite()));
        let common: Vec<&SupportedCipherSuite> = common.collect();
        let signs = |scheme: &&SignatureScheme| {
            common.iter().any(|suite| match suite {
                SupportedCipherSuite::Tls12(suite) => suite.sign.contains(scheme),
                SupportedCipherSuite::Tls13(_) => true,
            })
        };
        let schemes: Vec<SignatureScheme> = hello.signature_schemes().iter().filter(signs).copied().collect();
        self.resolver.all().any(|key| key.key.choose_scheme(&schemes).is_some())
    }

    /// Whether early data may be taken.
    pub(super) fn takes_early_data(&self) -> bool {
        self.config.max_early_data_size > 0 && !self.config.ticketer.enabled()
    }

    /// For a client whose early data is refused.
    ///
    /// What it has sent is skipped (RFC 8446 §4.2.10). The library skips as many bytes as it tells clients that they may
    /// send; but it tells of plaintext, and skips ciphertext, which is longer. So here it may skip more, and tells
    /// nobody: there are no tickets that would say so.
    pub(super) fn refusing_early_data(&self) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.config);
        config.max_early_data_size = SKIPPED;
        config.send_tls13_tickets = 0;
        if !config.ticketer.enabled() {
            // Early data is for sessions that are remembered: without any it stays refused.
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Arc::new(config)
    }

    /// Who looks at certificates of clients.
    pub(super) fn clients(&self) -> Option<Arc<Clients>> {
        self.clients.clone()
    }
}

/// A session goes on only where the same certificates are shown, and the same clients trusted.
fn context(names: &[&str], tls: &Tls) -> Context {
    let mut hash = digest::Context::new(&SHA256);
    hash.update(names.join("\n").as_bytes());
    for certificate in &tls.by_variable {
        hash.update(format!("\n{:?} {:?}", certificate.chain, certificate.key).as_bytes());
    }
    if let Some(clients) = &tls.clients {
        hash.update(format!("\n{:?} {} {}", clients.verify, clients.strict, clients.depth).as_bytes());
        let lists = clients.revocations.iter().flatten();
        for der in clients.trusted.iter().chain(lists) {
            hash.update(&(der.0.len() as u64).to_be_bytes());
            hash.update(&der.0);
        }
    }
    let mut context = [0; 32];
    context.copy_from_slice(hash.finish().as_ref());
    context
}

/// Of several certificates the one that the client can check.
#[derive(Debug)]
struct Resolver {
    slots: Vec<Arc<Slot>>,
    loaded: Vec<Loaded>,
}

impl Resolver {
    fn all(&self) -> impl Iterator<Item = Arc<CertifiedKey>> {
        let loaded = self.loaded.iter().map(|loaded| Arc::clone(&loaded.0));
        self.slots.iter().filter_map(|slot| slot.certificate()).chain(loaded)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = self.all().filter(|key| key.key.choose_scheme(hello.signature_schemes()).is_some());
        // A signature by a curve costs a tenth of one by RSA.
        fits.min_by_key(|key| key.key.algorithm() == SignatureAlgorithm::RSA)
    }
}
