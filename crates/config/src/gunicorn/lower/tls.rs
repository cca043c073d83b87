//! TLS: certificates that are ordered (`domain`), of an authority of one's own (`tls = self`), or files (`certfile`).

use std::path::PathBuf;
use std::time::Duration;

use super::Lowering;
use crate::host::Entry;
use crate::model::acme::{self, Ask, Challenge, ExternalAccount, Issuer, Key, Local, OnDemand, Order};
use crate::model::tls::{self, Certificate, CertificateFiles, Clients, Protocol, Tls, Verify};
use crate::model::{Address, Listener};
use crate::nginx::identifier;
use crate::tls::{DEFAULT_12, DEFAULT_13, DEFAULT_GROUPS, ciphers};

/// The name of the certificate of an authority of one's own.
const LOCAL: &str = "local";
/// Names of one certificate: what Let's Encrypt takes.
const MOST_NAMES: usize = 100;

impl Lowering<'_> {
    /// Whether certificates are to be ordered, so that the addresses are 80 and 443 if nobody says others.
    pub(super) fn orders(&self) -> bool {
        (!self.list("domain").is_empty() || self.text("on_demand_ask").is_some()) && !self.is_local()
    }

    /// Whether there is a certificate that nobody has to bring.
    pub(super) fn comes_by_itself(&self) -> bool {
        self.orders() || self.is_local()
    }

    fn is_local(&self) -> bool {
        self.text("tls") == Some("self")
    }

    /// What is offered, and what is ordered for it.
    pub(super) fn tls(&mut self, listeners: &[Listener]) -> (tls::Model, acme::Model) {
        let (mut model, acme) = self.certificates(listeners);
        let clients = self.clients();
        match model.offers.first_mut() {
            Some(offer) => offer.clients = clients,
            None if clients.is_some() => {
                self.error(
                    "cert_reqs",
                    0,
                    "cert_reqs: there is no TLS",
                    "give a certificate with --certfile",
                );
            }
            None => {}
        }
        (model, acme)
    }

    /// Which certificates of clients are good.
    fn clients(&mut self) -> Option<Box<Clients>> {
        /// OpenSSL's, if nobody says another.
        const DEPTH: u32 = 100;
        let verify = match self.int("cert_reqs") {
            0 => return None,
            1 => Verify::Optional,
            _ => Verify::On,
        };
        let Some(file) = self.path("ca_certs") else {
            let help = "name the authorities with --ca-certs; without them every client would be refused";
            self.error("cert_reqs", 0, "cert_reqs: there are no ca_certs", help);
            return None;
        };
        Some(Box::new(Clients {
            verify,
            strict: true,
            trusted: Vec::new(),
            file: Some(file),
            named: 0,
            depth: DEPTH,
            revocations: None,
        }))
    }

    fn certificates(&mut self, listeners: &[Listener]) -> (tls::Model, acme::Model) {
        let domains = self.domains();
        let suites = self.suites();
        if self.is_local() {
            let state = self.path("acme_dir").unwrap_or_else(|| self.input.host.state_dir().join("tls"));
            let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
            let own = identifier(&self.input.host.hostname());
            names.extend(own.into_iter().chain(domains));
            dedup(&mut names);
            let local = Some(Local { name: LOCAL.to_owned(), state, identifiers: names });
            self.no_files();
            self.note_unused_on_demand("with tls = self");
            return (
                offer(Some(certificate(LOCAL)), suites, vec![], None),
                acme::Model { local, ..acme::Model::default() },
            );
        }
        let ask = self.ask();
        if domains.is_empty() && ask.is_none() {
            self.note_unused();
            return (self.of_files(suites), acme::Model::default());
        }
        self.no_files();
        let (plain, secured): (Vec<&Listener>, Vec<&Listener>) = listeners.iter().partition(|l| is_plain(l));
        if secured.is_empty() && !listeners.is_empty() {
            let help = "add one, such as `-b :443`; port 80 and `http://` addresses are plain";
            self.error("domain", 0, "domain: no address is left that could speak TLS", help);
        }
        let redirect = secured.iter().find_map(|l| match l.address {
            Address::Tcp(address) => Some(address.port()),
            _ => None,
        });
        let challenge = if self.path("acme_dns_hook").is_some() {
            Challenge::Dns01
        } else if plain.is_empty() {
            Challenge::TlsAlpn01
        } else {
            Challenge::Http01
        };
        let issuers = self.issuers(challenge);
        let all: Vec<u32> = (0..issuers.len() as u32).collect();
        let order = domains.first().cloned().map(|name| Order {
            name,
            identifiers: domains,
            key: Key::P256,
            issuers: all.clone(),
        });
        let plain = plain.into_iter().map(|l| l.address.clone()).collect();
        let mut model = offer(order.as_ref().map(|order| certificate(&order.name)), suites, plain, redirect);
        model.offers[0].on_demand = ask.as_ref().map(|_| 0);
        let on_demand = ask.map(|ask| OnDemand {
            name: ask.to_string(),
            ask,
            key: Key::P256,
            issuers: all,
            names: self.int("on_demand_names") as u32,
        });
        let certificates = order.into_iter().collect();
        let on_demand = on_demand.into_iter().collect();
        (model, acme::Model { issuers, certificates, local: None, on_demand })
    }

    /// Who says which names may have certificates on demand.
    fn ask(&mut self) -> Option<Ask> {
        let Some(text) = self.text("on_demand_ask").map(str::to_owned) else {
            self.note_unused_on_demand("without on_demand_ask");
            return None;
        };
        if self.path("acme_dns_hook").is_some() {
            let help =
                "with names that anybody may ask for, only http-01 or tls-alpn-01 shows that they lead here";
            self.error("on_demand_ask", 0, "on_demand_ask: not together with acme_dns_hook", help);
        }
        match Ask::parse(&text) {
            Ok(Ask::Program(path)) => {
                let path = self.base.join(path);
                if self.input.host.entry(&path) != Entry::File {
                    let message = format!("on_demand_ask: `{}` is no file", path.display());
                    self.error("on_demand_ask", 0, message, "name a program, or a URL that begins with http");
                }
                Some(Ask::Program(path))
            }
            Ok(url) => Some(url),
            Err(why) => {
                self.error("on_demand_ask", 0, format!("on_demand_ask: `{text}`: {why}"), None);
                None
            }
        }
    }

    fn note_unused_on_demand(&mut self, why: &str) {
        let names: &[&str] =
            if self.is_local() { &["on_demand_ask", "on_demand_names"] } else { &["on_demand_names"] };
        for name in names {
            if self.is_given(name) {
                let message = format!("{name} changes nothing {why}");
                self.tell(crate::report::Severity::Note, name, message, None);
            }
        }
    }

    /// One certificate for all listeners.
    fn of_files(&mut self, suites: Vec<u16>) -> tls::Model {
        let (chain, key) = (self.path("certfile"), self.path("keyfile"));
        let Some(chain) = chain else {
            if key.is_some() {
                let help = "the certificate is missing: give it with --certfile";
                self.error("keyfile", 0, "keyfile: there is no certfile", help);
            }
            return tls::Model::default();
        };
        // As with Python's ssl module, both may be in one file.
        let key = key.unwrap_or_else(|| chain.clone());
        let name = format!("{} {}", chain.display(), key.display());
        let files = Some(CertificateFiles { chain, key, passwords: None, ocsp: None });
        offer(Some(Certificate { name, files, contents: None, stapling: None }), suites, vec![], None)
    }

    /// Files have no place where certificates come by themselves.
    fn no_files(&mut self) {
        if self.path("certfile").is_some() {
            let help = "remove one: `domain` orders a certificate, `tls` makes one";
            self.error("certfile", 0, "certfile: the certificate comes from somewhere else", help);
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
            let message = format!("ciphers: not offered: {names}");
            self.tell(crate::report::Severity::Note, "ciphers", message, None);
        }
        chosen.suites
    }

    fn domains(&mut self) -> Vec<String> {
        let has_hook = self.path("acme_dns_hook").is_some();
        let is_local = self.is_local();
        let mut domains = Vec::new();
        for (i, text) in self.list("domain").to_vec().iter().enumerate() {
            match identifier(text) {
                Ok(name) if name.starts_with("*.") && !has_hook && !is_local => {
                    let message = format!("domain: a certificate for `{name}` needs the DNS");
                    self.error("domain", i, message, "name a program for records by --acme-dns-hook");
                }
                Ok(name) => domains.push(name),
                Err(why) => self.error("domain", i, format!("domain: `{text}`: {why}"), None),
            }
        }
        dedup(&mut domains);
        if domains.len() > MOST_NAMES {
            self.error("domain", 0, format!("domain: a certificate has {MOST_NAMES} names at most"), None);
        }
        domains
    }

    fn issuers(&mut self, challenge: Challenge) -> Vec<Issuer> {
        let state = self.path("acme_dir").unwrap_or_else(|| self.input.host.state_dir().join("acme"));
        let external_account = match (self.text("acme_eab_kid"), self.text("acme_eab_hmac")) {
            (Some(id), Some(key)) => Some(ExternalAccount { id: id.to_owned(), key: key.to_owned() }),
            (Some(_), None) => {
                let message = "acme_eab_kid: the key itself is missing";
                self.error("acme_eab_kid", 0, message, "give it by `acme_eab_hmac` or $ACME_EAB_HMAC");
                None
            }
            // Perhaps the environment has it for something else.
            (None, _) => None,
        };
        let dns_hook = self.existing("acme_dns_hook");
        let trusted = self.existing("acme_ca_certs");
        let contact = self.text("acme_email").map(crate::nginx::contact).into_iter().collect::<Vec<_>>();
        let mut issuers = Vec::new();
        for (i, directory) in self.list("acme_directory").to_vec().into_iter().enumerate() {
            if !directory.starts_with("https://") || directory.len() < 10 {
                let message = format!("acme_directory: `{directory}` is no URL that begins with https://");
                self.error("acme_directory", i, message, None);
                continue;
            }
            issuers.push(Issuer {
                name: directory
                    .trim_start_matches("https://")
                    .split('/')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
                directory,
                contact: contact.clone(),
                account_key: None,
                challenge,
                external_account: external_account.clone(),
                profile: None,
                trusted: trusted.clone(),
                verify: true,
                state: state.clone(),
                accepted_terms: true,
                dns_hook: dns_hook.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
            });
        }
        issuers
    }

    /// A file that has to be there.
    fn existing(&mut self, name: &str) -> Option<PathBuf> {
        let path = self.path(name)?;
        if self.input.host.entry(&path) != Entry::File {
            self.error(name, 0, format!("{name}: `{}` is no file", path.display()), None);
        }
        Some(path)
    }

    fn note_unused(&mut self) {
        let names =
            ["acme_directory", "acme_email", "acme_ca_certs", "acme_eab_kid", "acme_dns_hook", "acme_dir"];
        for name in names {
            if self.is_given(name) {
                let message = format!("{name} changes nothing without domain");
                self.tell(crate::report::Severity::Note, name, message, None);
            }
        }
    }
}

/// Whether an address speaks plain HTTP although others speak TLS.
fn is_plain(listener: &Listener) -> bool {
    listener.text.starts_with("http://") || matches!(listener.address, Address::Tcp(a) if a.port() == 80)
}

/// One that comes by itself.
fn certificate(name: &str) -> Certificate {
    Certificate { name: name.to_owned(), files: None, contents: None, stapling: None }
}

fn offer(
    certificate: Option<Certificate>,
    suites: Vec<u16>,
    plain: Vec<Address>,
    redirect: Option<u16>,
) -> tls::Model {
    tls::Model {
        offers: vec![Tls {
            certificates: certificate.iter().map(|_| 0).collect(),
            reject: false,
            protocols: vec![Protocol::Tls12, Protocol::Tls13],
            suites: DEFAULT_13.into_iter().chain(suites).collect(),
            server_order: false,
            groups: DEFAULT_GROUPS.to_vec(),
            record_size: 16384,
            session_timeout: Duration::from_secs(300),
            session_cache: None,
            tickets: true,
            early_data: false,
            by_variable: Vec::new(),
            kept: None,
            on_demand: None,
            compress: false,
            clients: None,
            ticket_keys: vec![],
        }],
        certificates: certificate.into_iter().collect(),
        everywhere: Some(0),
        plain,
        redirect,
    }
}

fn dedup(names: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
}
