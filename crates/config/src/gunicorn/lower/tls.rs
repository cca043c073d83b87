//! TLS: one certificate for all listeners.

use std::time::Duration;

use super::Lowering;
use crate::model::tls::{Certificate, CertificateFiles, Model, Protocol, Tls};
use crate::report::Severity;
use crate::tls::{DEFAULT_12, DEFAULT_13, DEFAULT_GROUPS, ciphers};

impl Lowering<'_> {
    pub(super) fn tls(&mut self) -> Model {
        let suites = self.suites();
        let (chain, key) = (self.path("certfile"), self.path("keyfile"));
        let Some(chain) = chain else {
            if key.is_some() {
                let help = "the certificate is missing: give it with --certfile";
                self.error("keyfile", 0, "keyfile: there is no certfile", help);
            }
            return Model::default();
        };
        // As with Python's ssl module, both may be in one file.
        let key = key.unwrap_or_else(|| chain.clone());
        let name = format!("{} {}", chain.display(), key.display());
        let files = CertificateFiles { chain, key, passwords: None, ocsp: None };
        Model {
            certificates: vec![Certificate { name, files: Some(files), contents: None }],
            offers: vec![Tls {
                certificates: vec![0],
                reject: false,
                protocols: vec![Protocol::Tls12, Protocol::Tls13],
                suites: DEFAULT_13.into_iter().chain(suites).collect(),
                server_order: false,
                groups: DEFAULT_GROUPS.to_vec(),
                record_size: 16 << 10,
                session_timeout: Duration::from_secs(300),
                session_cache: None,
                tickets: true,
                ticket_keys: vec![],
            }],
            everywhere: Some(0),
        }
    }

    /// Those of TLS 1.2; Python's ssl module chooses among no others either.
    fn suites(&mut self) -> Vec<u16> {
        let Some(text) = self.text("ciphers").map(str::to_owned) else { return DEFAULT_12.to_vec() };
        let chosen = ciphers(&text);
        if chosen.suites.is_empty() {
            let help = "of TLS 1.2 there are ECDHE-ECDSA and ECDHE-RSA with AES256-GCM-SHA384, AES128-GCM-SHA256 and \
                        CHACHA20-POLY1305";
            self.error("ciphers", 0, format!("ciphers: `{text}` chooses none that is there"), help);
        }
        if !chosen.missing.is_empty() {
            let names = chosen.missing.join(", ");
            self.tell(Severity::Note, "ciphers", format!("ciphers: not offered: {names}"), None);
        }
        chosen.suites
    }
}
