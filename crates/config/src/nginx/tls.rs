//! TLS: what is offered to clients.

pub(super) mod certificates;
pub(super) mod clients;
pub(super) mod sessions;
pub(super) mod stapling;

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use conf_syntax::{Directive, Span, Word};

use super::level::Level;
use super::reader::{Reader, list};
use super::table::{Apply, Argument, Context, Count, Row};
use crate::model::http::Value;
use crate::model::tls::{
    self as model, CertificateFiles, Der, Listed, Protocol, SessionCache, Stapling, Tls, TlsId,
};
use crate::report::Severity;
use crate::tls::{DEFAULT_12, DEFAULT_13, DEFAULT_GROUPS, ciphers, groups, suites_of_13};

const HEAD: Context = Context::HTTP.or(Context::SERVER);
const ONE_OR_MORE: Count = Count::at_least(1);

/// Bytes that a record may have.
const RECORDS: std::ops::RangeInclusive<u64> = 32..=16384;

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "ssl_protocols",
        HEAD,
        ONE_OR_MORE,
        Apply::Custom(|r, l, d| r.ssl_protocols(l, d)),
        "TLSv1.2 TLSv1.3",
        "Versions that are spoken.",
    )
.repeats()
    .differs("TLSv1.2 and TLSv1.3 only; others are left out with a warning."),
    Row::one(
        "ssl_ciphers",
        HEAD,
        Apply::Custom(|r, l, d| {
            if let Some(word) = d.args.first() {
                r.ssl_ciphers(l, word, &word.text());
            }
        }),
        "HIGH:!aNULL:!MD5",
        "Cipher suites of TLS 1.2, in OpenSSL's language.",
    )
    .differs("There are ECDHE with AES-GCM and ChaCha20 only; what else is named is left out with a note."),
    Row::flag(
        "ssl_prefer_server_ciphers",
        HEAD,
        |l| &mut l.ssl_prefer_server_ciphers,
        "off",
        "The server's order of cipher suites counts, not the client's.",
    ),
    Row::one(
        "ssl_ecdh_curve",
        HEAD,
        Apply::Custom(|r, l, d| {
            if let Some(word) = d.args.first() {
                r.ssl_groups(l, word, &word.text());
            }
        }),
        "auto: X25519MLKEM768:X25519:prime256v1:secp384r1",
        "Groups for the key exchange, the best first.",
    )
    .differs("P-521, X448 and finite fields are left out with a note."),
    Row::flag(
        "ssl_reject_handshake",
        HEAD,
        |l| &mut l.ssl_reject_handshake,
        "off",
        "Handshakes for this server's names, or for names that nobody has, are rejected.",
    ),
    Row::one(
        "ssl_buffer_size",
        HEAD,
        Apply::Custom(|r, l, d| r.ssl_buffer_size(l, d)),
        "16k",
        "Bytes of a record at most.",
    )
    .differs("Several records leave at once, up to 64k."),
    Row::new(
        "ssl_conf_command",
        HEAD,
        Count::exactly(2),
        Apply::Custom(|r, l, d| r.ssl_conf_command(l, d)),
        "",
        "A command of OpenSSL's configuration.",
    )
    .repeats()
    .differs(
        "`Ciphersuites`, `CipherString`, `Curves`, `Groups`, `MinProtocol`, `MaxProtocol`, `Protocol`, some of \
         `Options`, and `Certificate` and `PrivateKey`, which stand in the place of all \
         of `ssl_certificate` and `ssl_certificate_key`; others are errors.",
    ),
    Row::one(
        "ssl_dhparam",
        HEAD,
        Apply::Quiet(Argument::Any, "no cipher suite with a key exchange over finite fields is offered"),
        "",
        "Parameters for such a key exchange.",
    ),
    Row::one(
        "ssl",
        HEAD,
        Apply::Custom(|r, _, d| r.obsolete_ssl(d)),
        "off",
        "What `listen … ssl` says; nginx knew it until 1.25.1.",
    )
    .differs("`on` is an error, as in nginx today."),
];

/// A file that a directive names.
#[derive(Debug, Clone)]
pub(super) struct NamedFile {
    pub path: PathBuf,
    /// It has variables.
    pub value: Option<Value>,
    pub at: Span,
    /// Where nginx says that the directive is.
    pub line_at: Option<Span>,
}

/// All certificates and offers.
#[derive(Debug, Default)]
pub(super) struct Offers {
    pub model: model::Model,
    /// `None`: it has been told what is wrong with it.
    by_files: HashMap<(CertificateFiles, Option<Stapling>), Option<u32>>,
    /// How many certificates have a name that begins so: they differ in how answers about them are got.
    named: HashMap<String, u32>,
    /// What files list; `None`: it has been told what is wrong with it.
    listed: HashMap<(PathBuf, Listed), Option<Rc<Vec<Der>>>>,
    /// Sessions of each cache.
    caches: HashMap<String, u32>,
}

impl<'a> Reader<'a> {
    fn obsolete_ssl(&mut self, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        if self.flag(word, "ssl") == Some(true) {
            self.error(directive.name.span, "the \"ssl\" directive is gone")
                .help("write `ssl` behind the address: `listen 443 ssl;`");
        }
    }

    pub(super) fn conf_path(&mut self, directive: Directive<'a>) -> Option<NamedFile> {
        let word = directive.args.first()?;
        let path = self.conf_prefix.join(&*word.text());
        Some(NamedFile { path, value: None, at: word.span, line_at: self.problems.line_at })
    }

    fn ssl_protocols(&mut self, level: &mut Level, directive: Directive<'a>) {
        const NAMES: [(&str, Option<Protocol>); 6] = [
            ("SSLv2", None),
            ("SSLv3", None),
            ("TLSv1", None),
            ("TLSv1.1", None),
            ("TLSv1.2", Some(Protocol::Tls12)),
            ("TLSv1.3", Some(Protocol::Tls13)),
        ];
        let mut protocols = level.ssl_protocols.take().unwrap_or_default();
        let mut old: Option<(_, Vec<&'static str>)> = None;
        for word in directive.args {
            let known = NAMES.iter().find(|(name, _)| word.value.eq_ignore_ascii_case(name.as_bytes()));
            match known {
                Some((_, Some(protocol))) => protocols.push(*protocol),
                Some((name, None)) => {
                    let (_, names) = old.get_or_insert((word.span, Vec::new()));
                    names.push(*name);
                }
                None => self.not_one_of(word, &NAMES.map(|(name, _)| name)),
            }
        }
        protocols.sort_unstable();
        protocols.dedup();
        if let Some((at, names)) = old {
            let names = list(&names, "and");
            if protocols.is_empty() {
                // The next line may name more, and so may each server. Else it is an error where TLS is spoken.
                level.ssl_unspoken = Some((names, at, self.problems.line_at));
            } else {
                self.warning(at, format!("not spoken: {names}; clients that know nothing newer are refused"));
            }
        }
        level.ssl_protocols = Some(protocols);
    }

    fn ssl_ciphers(&mut self, level: &mut Level, word: Word<'a>, text: &str) {
        if text.starts_with("PROFILE=") {
            level.ssl_ciphers = Some(DEFAULT_12.to_vec());
            self.note(
                word.span,
                "the system's profile is not asked: all suites of TLS 1.2 that there are are offered",
            );
            return;
        }
        let chosen = ciphers(text);
        if chosen.suites.is_empty() {
            self.error(word.span, format!("no cipher match in \"{text}\"")).help(
                "of TLS 1.2 there are ECDHE-ECDSA and ECDHE-RSA with AES256-GCM-SHA384, AES128-GCM-SHA256 and \
                 CHACHA20-POLY1305",
            );
            return;
        }
        self.tell_missing(word, &chosen.missing, "cipher suites");
        level.ssl_ciphers = Some(chosen.suites);
    }

    fn tell_missing(&mut self, word: Word<'a>, missing: &[String], what: &str) {
        const SHOWN: usize = 4;
        if missing.is_empty() {
            return;
        }
        let more = missing.len().saturating_sub(SHOWN);
        let mut names: Vec<&str> = missing.iter().take(SHOWN).map(String::as_str).collect();
        let others = format!("{more} others");
        if more > 0 {
            names.push(&others);
        }
        let names = list(&names, "and");
        self.note(word.span, format!("{what} that are not offered: {names}"))
            .help("clients that know one of the others are served");
    }

    fn ssl_groups(&mut self, level: &mut Level, word: Word<'a>, text: &str) {
        let groups = groups(text);
        if !groups.unknown.is_empty() || groups.chosen.is_empty() {
            let wrong = groups.unknown.first().or(groups.missing.first()).map_or("", String::as_str);
            let message = if groups.unknown.is_empty() {
                format!("no group of \"{text}\" is there")
            } else {
                format!("unknown group \"{wrong}\"")
            };
            self.error(word.span, message).help(
                "there are `X25519MLKEM768`, `X25519`, `prime256v1`, `secp384r1`, `SecP256r1MLKEM768`, `MLKEM768` and \
                 `MLKEM1024`",
            );
            return;
        }
        self.tell_missing(word, &groups.missing, "groups");
        level.ssl_groups = Some(groups.chosen);
    }

    fn ssl_buffer_size(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let Some(size) = self.size(word, "ssl_buffer_size") else { return };
        if size < *RECORDS.start() {
            self.error(word.span, "\"ssl_buffer_size\" is too small")
                .help("16k is usual, 4k sends the first byte sooner");
            return;
        }
        if size > *RECORDS.end() {
            self.note(word.span, "a record has 16k at most");
        }
        level.ssl_buffer_size = Some(size.min(*RECORDS.end()));
    }

    fn ssl_conf_command(&mut self, level: &mut Level, directive: Directive<'a>) {
        let mut words = directive.args.iter();
        let (Some(name), Some(word)) = (words.next(), words.next()) else { return };
        let text = word.text().into_owned();
        match &*name.text().to_ascii_lowercase() {
            "ciphersuites" => {
                let chosen = suites_of_13(&text);
                if chosen.suites.is_empty() {
                    self.error(word.span, format!("no cipher match in \"{text}\"")).help(
                        "of TLS 1.3 there are TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256 and \
                         TLS_AES_128_GCM_SHA256",
                    );
                    return;
                }
                self.tell_missing(word, &chosen.missing, "cipher suites");
                level.ssl_ciphersuites = Some(chosen.suites);
            }
            "cipherstring" => self.ssl_ciphers(level, word, &text),
            "curves" | "groups" => self.ssl_groups(level, word, &text),
            "minprotocol" => level.ssl_min_protocol = self.ssl_protocol(word),
            "maxprotocol" => {
                level.ssl_max_protocol = self.ssl_protocol(word);
                if level.ssl_max_protocol.is_none() && !text.eq_ignore_ascii_case("None") {
                    self.error(word.span, "nothing that is spoken is that old")
                        .help("write `TLSv1.2` or `TLSv1.3`");
                }
            }
            "options" => self.ssl_options(level, word),
            "certificate" => self.ssl_conf_file(&mut level.ssl_conf_certificates, word),
            "privatekey" => self.ssl_conf_file(&mut level.ssl_conf_keys, word),
            _ => {
                let name = name.text().into_owned();
                self.error(directive.head(), format!("`{name}` of \"ssl_conf_command\" is not supported")).help(
                    "there are `Ciphersuites`, `CipherString`, `Curves`, `Groups`, `MinProtocol`, `MaxProtocol`, \
                     `Options`, `Certificate` and `PrivateKey`",
                );
            }
        }
    }

    /// `None`: it is none that is spoken.
    fn ssl_protocol(&mut self, word: Word<'a>) -> Option<Protocol> {
        const NAMES: [&str; 6] = ["None", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
        let at = NAMES.iter().position(|name| word.value.eq_ignore_ascii_case(name.as_bytes()));
        match at {
            Some(4) => Some(Protocol::Tls12),
            Some(5) => Some(Protocol::Tls13),
            Some(_) => None,
            None => {
                self.not_one_of(word, &NAMES);
                None
            }
        }
    }

    fn ssl_options(&mut self, level: &mut Level, word: Word<'a>) {
        for option in word.text().split(',').map(str::trim).filter(|option| !option.is_empty()) {
            let (on, name) = match option.strip_prefix('-') {
                Some(name) => (false, name),
                None => (true, option.trim_start_matches('+')),
            };
            match &*name.to_ascii_lowercase() {
                "sessionticket" => level.ssl_session_tickets = Some(on),
                "serverpreference" => level.ssl_prefer_server_ciphers = Some(on),
                "prioritizechacha"
                | "ktls"
                | "bugs"
                | "emptyfragments"
                | "encryptthenmac"
                | "norenegotiation"
                | "extendedmastersecret"
                | "noresumptiononrenegotiation"
                | "antireplay"
                | "ecdhsingle"
                | "dhsingle" => {
                    self.note(word.span, format!("the option `{name}` changes nothing here"));
                }
                _ => {
                    self.error(word.span, format!("the option `{name}` is not supported"));
                }
            }
        }
    }

    fn ssl_conf_file(&mut self, files: &mut Option<Rc<Vec<NamedFile>>>, word: Word<'a>) {
        let path = self.conf_prefix.join(&*word.text());
        let file = NamedFile { path, value: None, at: word.span, line_at: self.problems.line_at };
        Rc::make_mut(files.get_or_insert_default()).push(file);
    }

    /// What a server offers; `None`: it has no certificate and rejects nobody. `acme`: the certificate that is ordered
    /// for it.
    pub(super) fn offer(
        &mut self,
        level: &Level,
        acme: Option<u32>,
        on_demand: Option<u32>,
    ) -> Option<TlsId> {
        let reject = level.ssl_reject_handshake.unwrap_or(false);
        let speaks = level.ssl_certificates.is_some() || acme.is_some() || on_demand.is_some() || reject;
        let is_unspoken = level.ssl_protocols.as_ref().is_some_and(Vec::is_empty);
        if speaks
            && is_unspoken
            && let Some((names, at, line_at)) = &level.ssl_unspoken
            && self.unverifiable.insert(*at)
        {
            let message = format!("{names} cannot be spoken");
            let problem = self.problems.push(Severity::Error, Some(*at), message);
            problem.line_at = *line_at;
            problem.help("write `TLSv1.2 TLSv1.3`");
        }
        let (certificates, by_variable) = self.certificates(level, acme, on_demand.is_some())?;
        if certificates.is_empty() && by_variable.is_empty() && on_demand.is_none() && !reject {
            return None;
        }
        let kept = level.ssl_certificate_cache.clone().flatten().filter(|_| !by_variable.is_empty());
        let clients = self.clients(level)?;
        let mut protocols =
            level.ssl_protocols.clone().unwrap_or_else(|| vec![Protocol::Tls12, Protocol::Tls13]);
        let (least, most) = (level.ssl_min_protocol, level.ssl_max_protocol);
        protocols.retain(|p| least.is_none_or(|least| *p >= least) && most.is_none_or(|most| *p <= most));
        if protocols.is_empty() && is_unspoken {
            return None;
        }
        if protocols.is_empty() {
            let problem = self.problems.push(
                Severity::Error,
                None,
                "no protocol is left by \"ssl_protocols\" and \"ssl_conf_command\"",
            );
            problem.line_at = None;
            return None;
        }
        let suites = |protocol| match protocol {
            Protocol::Tls13 => level.ssl_ciphersuites.clone().unwrap_or_else(|| DEFAULT_13.to_vec()),
            Protocol::Tls12 => level.ssl_ciphers.clone().unwrap_or_else(|| DEFAULT_12.to_vec()),
        };
        let early_data = level.ssl_early_data.unwrap_or(false) && protocols.contains(&Protocol::Tls13);
        let session_cache = level.ssl_session_cache.clone().flatten();
        let of_early_data = || {
            early_data
                .then(|| SessionCache { name: "early data".to_owned(), sessions: sessions::BUILTIN_SESSIONS })
        };
        let offer = Tls {
            certificates,
            by_variable,
            kept,
            on_demand,
            compress: level.ssl_certificate_compression.unwrap_or(false),
            reject,
            suites: protocols.iter().rev().flat_map(|protocol| suites(*protocol)).collect(),
            protocols,
            server_order: level.ssl_prefer_server_ciphers.unwrap_or(false),
            groups: level.ssl_groups.clone().unwrap_or_else(|| DEFAULT_GROUPS.to_vec()),
            record_size: level.ssl_buffer_size.unwrap_or(*RECORDS.end()) as u32,
            session_timeout: level.ssl_session_timeout.unwrap_or(Duration::from_secs(300)),
            session_cache: session_cache.or_else(of_early_data),
            tickets: level.ssl_session_tickets.unwrap_or(true) && !early_data,
            early_data,
            clients,
            ticket_keys: level.ssl_session_ticket_keys.as_deref().cloned().unwrap_or_default(),
        };
        let offers = &mut self.offers.model.offers;
        let known = offers.iter().position(|known| *known == offer);
        Some(known.unwrap_or_else(|| {
            offers.push(offer);
            offers.len() - 1
        }) as TlsId)
    }

    /// What a file lists, or why it cannot be read.
    pub(super) fn list_of(&mut self, file: &NamedFile, kind: Listed) -> Result<Rc<Vec<Der>>, String> {
        let key = (file.path.clone(), kind);
        if let Some(Some(known)) = self.offers.listed.get(&key) {
            return Ok(Rc::clone(known));
        }
        let list = Rc::new(self.vault.list(&file.path, kind)?);
        self.offers.listed.insert(key, Some(Rc::clone(&list)));
        Ok(list)
    }

    /// What a file lists; `None`: it has been told what is wrong with it.
    pub(super) fn listed(&mut self, file: &NamedFile, kind: Listed) -> Option<Rc<Vec<Der>>> {
        let key = (file.path.clone(), kind);
        if let Some(known) = self.offers.listed.get(&key) {
            return known.clone();
        }
        let list = match self.list_of(file, kind) {
            Ok(list) => Some(list),
            Err(why) => {
                let what = match kind {
                    Listed::Certificates => "certificates",
                    Listed::Revocations => "lists of revocations",
                };
                let message = format!("cannot load {what} \"{}\": {why}", file.path.display());
                let problem = self.problems.push(Severity::Error, Some(file.at), message);
                problem.line_at = file.line_at;
                None
            }
        };
        self.offers.listed.insert(key, list.clone());
        list
    }
}
