//! TLS: certificates, and what is offered to clients.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use conf_syntax::{Directive, Span, Word};

use super::acme;
use super::level::Level;
use super::reader::{Reader, list};
use super::table::{Apply, Argument, Context, Count, Row};
use crate::model::http::Value;
use crate::model::tls::{
    self as model, ByVariable, Certificate, CertificateCache, CertificateFiles, Clients, Der, Listed,
    Protocol, Secret, SessionCache, Tls, TlsId, Verify, Which,
};
use crate::report::Severity;
use crate::tls::{DEFAULT_12, DEFAULT_13, DEFAULT_GROUPS, ciphers, groups, suites_of_13};

const HEAD: Context = Context::HTTP.or(Context::SERVER);
const ONE_OR_MORE: Count = Count::at_least(1);

/// No chain is longer: messages of a handshake have a limit.
const MOST_DEPTH: u64 = 100;

/// Bytes that a record may have.
const RECORDS: std::ops::RangeInclusive<u64> = 32..=16384;

/// Sessions of a cache whose size nobody says.
const BUILTIN_SESSIONS: u32 = 20_480;

pub(super) const ROWS: &[Row] = &[
    Row::one(
        "ssl_certificate",
        HEAD,
        Apply::Custom(|r, l, d| r.ssl_file(&mut l.ssl_certificates, d)),
        "",
        "The file of a certificate and those that lead to the root. Several for keys of different kinds.",
    )
    .repeats()
    .differs("Of several that a client can check, one with a key by curves is taken before one by RSA."),
    Row::one(
        "ssl_certificate_key",
        HEAD,
        Apply::Custom(|r, l, d| r.ssl_file(&mut l.ssl_certificate_keys, d)),
        "",
        "The file of its key, one for each certificate, in the same order.",
    )
    .repeats()
    .differs("No keys of engines or providers of OpenSSL."),
    Row::new(
        "ssl_certificate_cache",
        HEAD,
        Count::between(1, 3),
        Apply::Custom(|r, l, d| r.certificate_cache(d, |cache| l.ssl_certificate_cache = Some(cache))),
        "off",
        "Certificates whose files variables name are kept: `max=N`, `inactive=TIME` (10s), `valid=TIME` (60s).",
    )
    .differs("Each event loop keeps its own."),
    Row::flag(
        "ssl_certificate_compression",
        HEAD,
        |l| &mut l.ssl_certificate_compression,
        "off",
        "Certificates are sent compressed to clients that take them so (RFC 8879).",
    ),
    Row::one(
        "ssl_password_file",
        HEAD,
        Apply::Custom(|r, l, d| l.ssl_password_file = r.conf_path(d)),
        "",
        "A file of passwords for keys, one a line; each is tried.",
    )
    .differs("Keys that are encrypted with AES-CBC only; of PKCS#8 with PBKDF2."),
    Row::new(
        "ssl_protocols",
        HEAD,
        ONE_OR_MORE,
        Apply::Custom(|r, l, d| r.ssl_protocols(l, d)),
        "TLSv1.2 TLSv1.3",
        "Versions that are spoken.",
    )
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
    Row::new(
        "ssl_session_cache",
        HEAD,
        Count::between(1, 2),
        Apply::Custom(|r, l, d| r.ssl_session_cache(l, d)),
        "none",
        "Where sessions are remembered: `off`, `none`, `builtin`, `shared:NAME:SIZE`.",
    )
    .differs("One that is `shared` holds about half as many sessions as nginx's; `builtin` is shared as well."),
    Row::one(
        "ssl_session_timeout",
        HEAD,
        Apply::Seconds(|l| &mut l.ssl_session_timeout),
        "5m",
        "How long a session may go on, also by a ticket.",
    ),
    Row::flag(
        "ssl_session_tickets",
        HEAD,
        |l| &mut l.ssl_session_tickets,
        "on",
        "Clients get tickets, by which their sessions go on.",
    )
    .differs("Keys change every twelve hours, are known for 24 more, and live on over reloads."),
    Row::one(
        "ssl_session_ticket_key",
        HEAD,
        Apply::Custom(|r, l, d| r.ssl_session_ticket_key(l, d)),
        "",
        "A file of 48 or 80 random bytes: a key that tickets are encrypted with, to have the same on many machines. The \
         first of several encrypts.",
    )
    .repeats()
    .differs("Tickets are not nginx's: machines that share them all run this program."),
    Row::flag(
        "ssl_early_data",
        HEAD,
        |l| &mut l.ssl_early_data,
        "off",
        "Clients whose session goes on may send requests before the end of the handshake (TLS 1.3, RFC 8470). Pass          `Early-Data $ssl_early_data` on to servers that know it: one that answers 425 is asked again later.",
    )
    .differs(
        "Sessions of such a server are remembered and have no tickets: each is good for one connection, so what          somebody copied runs no second time, whichever event loop it comes to. Only GET, HEAD, OPTIONS and TRACE          without `Upgrade` run before the end of the handshake; others wait for it, at most `client_header_timeout`,          and are answered with 425 then.",
    ),
    Row::one(
        "ssl_verify_client",
        HEAD,
        Apply::Custom(|r, l, d| r.ssl_verify_client(l, d)),
        "off",
        "Clients are asked for certificates: `on`, `optional`, `optional_no_ca`. Without a good one the answer is 400, 495 \
         or 496 to `error_page`.",
    )
    .differs("Authorities with name constraints, and signatures with SHA-1 or RSA keys under 2048 bits, are not taken."),
    Row::one(
        "ssl_client_certificate",
        HEAD,
        Apply::Custom(|r, l, d| l.ssl_client_certificate = r.conf_path(d)),
        "",
        "A file of authorities that are trusted to sign certificates of clients, and that clients are told of.",
    ),
    Row::one(
        "ssl_trusted_certificate",
        HEAD,
        Apply::Custom(|r, l, d| l.ssl_trusted_certificate = r.conf_path(d)),
        "",
        "The same, and clients are not told of them.",
    ),
    Row::one(
        "ssl_crl",
        HEAD,
        Apply::Custom(|r, l, d| l.ssl_crl = r.conf_path(d)),
        "",
        "A file of lists of revoked certificates of clients, one of each authority.",
    )
    .differs("No lists of a part only, and no changes to another list."),
    Row::one(
        "ssl_verify_depth",
        HEAD,
        Apply::Number(|l| &mut l.ssl_verify_depth),
        "1",
        "How many certificates may lie between a client's and a trusted one.",
    ),
    Row::one(
        "ssl_stapling_file",
        HEAD,
        Apply::Custom(|r, l, d| l.ssl_stapling_file = r.conf_path(d)),
        "",
        "The issuer's answer that the certificate is good (OCSP), DER; it is sent to clients that ask for it.",
    ),
    Row::one(
        "ssl_stapling",
        HEAD,
        Apply::Custom(|r, l, d| r.ssl_stapling(l, d)),
        "off",
        "The issuer's answers are sent to clients that ask for them.",
    )
    .differs("None are fetched: with `ssl_stapling_file` there is one, without it handshakes go without."),
    Row::one(
        "ssl_stapling_verify",
        HEAD,
        Apply::Quiet(Argument::Flag, "no answers are fetched"),
        "off",
        "Answers that were fetched are checked.",
    ),
    Row::one(
        "ssl_stapling_responder",
        HEAD,
        Apply::Quiet(Argument::Any, "no answers are fetched"),
        "",
        "Whom to ask for them.",
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
    by_files: HashMap<CertificateFiles, Option<u32>>,
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

    fn ssl_file(&mut self, files: &mut Option<Rc<Vec<NamedFile>>>, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let line_at = self.problems.line_at;
        if acme::is_variable(&word) {
            let path = word.text().into_owned().into();
            let file = NamedFile { path, value: None, at: word.span, line_at };
            Rc::make_mut(files.get_or_insert_default()).push(file);
            return;
        }
        let has_variables = word.value.contains(&b'$');
        let is_data = word.value.starts_with(b"data:");
        let is_special = word.value.starts_with(b"engine:") || word.value.starts_with(b"store:");
        if is_special || (is_data && !has_variables) {
            self.error(word.span, "what is no file is not there yet as a certificate or key")
                .help("name a file");
            return;
        }
        let value = has_variables.then(|| self.value(word));
        let path = self.conf_prefix.join(&*word.text());
        let file = NamedFile { path, value, at: word.span, line_at };
        Rc::make_mut(files.get_or_insert_default()).push(file);
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
        let mut protocols = Vec::new();
        let mut old = None;
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
                self.error(at, format!("{names} cannot be spoken")).help("write `TLSv1.2 TLSv1.3`");
            } else {
                self.warning(at, format!("not spoken: {names}; clients that know nothing newer are refused"));
            }
        }
        if !protocols.is_empty() {
            level.ssl_protocols = Some(protocols);
        }
    }

    fn ssl_verify_client(&mut self, level: &mut Level, directive: Directive<'a>) {
        const NAMES: [(&str, Verify); 4] = [
            ("off", Verify::Off),
            ("on", Verify::On),
            ("optional", Verify::Optional),
            ("optional_no_ca", Verify::OptionalNoCa),
        ];
        let Some(word) = directive.args.first() else { return };
        match NAMES.iter().find(|(name, _)| word.value.eq_ignore_ascii_case(name.as_bytes())) {
            Some((_, verify)) => level.ssl_verify_client = Some(*verify),
            None => self.not_one_of(word, &NAMES.map(|(name, _)| name)),
        }
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

    fn ssl_session_cache(&mut self, level: &mut Level, directive: Directive<'a>) {
        /// What one takes of memory, about.
        const EACH: u64 = 512;
        /// nginx's least size of shared memory.
        const LEAST: u64 = 8 * 4096;
        let mut cache = None;
        for word in directive.args {
            let text = word.text().into_owned();
            let parts: Vec<&str> = text.split(':').collect();
            let sessions = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
            let found = match parts.as_slice() {
                ["off" | "none"] => {
                    level.ssl_session_cache = Some(None);
                    return;
                }
                ["builtin"] => Some(SessionCache { name: "builtin".to_owned(), sessions: BUILTIN_SESSIONS }),
                ["builtin", n] => n
                    .parse()
                    .ok()
                    .filter(|n| *n > 0)
                    .map(|n| SessionCache { name: "builtin".to_owned(), sessions: sessions(n) }),
                ["shared", name, size] if !name.is_empty() => {
                    let size = super::units::size(size.as_bytes());
                    if size.is_some_and(|size| size < LEAST) {
                        self.error(word.span, format!("session cache \"{text}\" is too small"))
                            .help("32k is the least, 1m holds about 2000 sessions");
                        return;
                    }
                    size.map(|size| SessionCache {
                        name: format!("shared:{name}"),
                        sessions: sessions(size / EACH),
                    })
                }
                _ => None,
            };
            let Some(found) = found else {
                self.error(word.span, format!("invalid session cache \"{text}\""))
                    .help("write `off`, `none`, `builtin`, or `shared:NAME:SIZE` as `shared:SSL:10m`");
                return;
            };
            // Of both kinds the shared one has them all.
            if cache.is_none() || found.name.starts_with("shared:") {
                cache = Some(found);
            }
        }
        if let Some(cache) = &cache {
            let known = self.offers.caches.entry(cache.name.clone()).or_insert(cache.sessions);
            if *known != cache.sessions && cache.name.starts_with("shared:") {
                self.error(
                    directive.head(),
                    format!("the size of the session cache \"{}\" conflicts with an earlier one", cache.name),
                );
                return;
            }
        }
        level.ssl_session_cache = Some(cache);
    }

    fn ssl_session_ticket_key(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let path = self.conf_prefix.join(&*word.text());
        let shown = path.display();
        match self.vault.file(&path) {
            Ok(key) if matches!(key.len(), 48 | 80) => {
                Rc::make_mut(level.ssl_session_ticket_keys.get_or_insert_default()).push(Secret(key));
            }
            Ok(_) => {
                let message = format!("\"{shown}\" must be 48 or 80 bytes");
                self.error(word.span, message).help("`openssl rand 80 > ticket.key` makes one");
            }
            Err(why) => {
                self.error(word.span, format!("cannot load \"{shown}\": {why}"));
            }
        }
    }

    /// `off` is `None`.
    pub(super) fn certificate_cache(
        &mut self,
        directive: Directive<'a>,
        set: impl FnOnce(Option<CertificateCache>),
    ) {
        let mut cache =
            CertificateCache { max: 0, inactive: Duration::from_secs(10), valid: Duration::from_secs(60) };
        let mut is_off = false;
        for word in directive.args {
            let text = word.text().into_owned();
            let seconds = |text: &str| super::units::seconds(text.as_bytes());
            let is_known = match text.split_once('=') {
                None if text == "off" => {
                    is_off = true;
                    true
                }
                Some(("max", number)) => {
                    cache.max = number.parse().unwrap_or(0);
                    cache.max > 0
                }
                Some(("inactive", time)) => seconds(time).map(|time| cache.inactive = time).is_some(),
                Some(("valid", time)) => seconds(time).map(|time| cache.valid = time).is_some(),
                _ => false,
            };
            if !is_known {
                self.error(word.span, format!("invalid parameter \"{text}\""))
                    .help("write `max=1000 inactive=20s valid=1m`, or `off`");
                return;
            }
        }
        if !is_off && cache.max == 0 {
            let message = format!("\"{}\" must have the \"max\" parameter", directive.name.text());
            self.error(directive.head(), message);
            return;
        }
        set((!is_off).then_some(cache));
    }

    fn ssl_stapling(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        level.ssl_stapling = self.flag(word, "ssl_stapling");
        if level.ssl_stapling == Some(true) {
            self.note(directive.head(), "no answers about certificates are fetched: without `ssl_stapling_file` handshakes go without")
                .help("clients do not need them; some authorities do not give them any more");
        }
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

    fn ssl_conf_file(&mut self, files: &mut Option<Rc<Vec<NamedFile>>>, word: Word<'a>) {
        let path = self.conf_prefix.join(&*word.text());
        let file = NamedFile { path, value: None, at: word.span, line_at: self.problems.line_at };
        Rc::make_mut(files.get_or_insert_default()).push(file);
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

    /// What a server offers; `None`: it has no certificate and rejects nobody. `acme`: the certificate that is ordered
    /// for it.
    pub(super) fn offer(
        &mut self,
        level: &Level,
        acme: Option<u32>,
        on_demand: Option<u32>,
    ) -> Option<TlsId> {
        let reject = level.ssl_reject_handshake.unwrap_or(false);
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
        let of_early_data =
            || early_data.then(|| SessionCache { name: "early data".to_owned(), sessions: BUILTIN_SESSIONS });
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

    /// Which certificates of clients are good; `None`: something cannot be used.
    #[expect(clippy::option_option, reason = "an error, or none")]
    fn clients(&mut self, level: &Level) -> Option<Option<Box<Clients>>> {
        let mut trusted = Vec::new();
        let mut is_sound = true;
        let mut named = 0;
        for file in [&level.ssl_client_certificate, &level.ssl_trusted_certificate].into_iter().flatten() {
            match self.listed(file, Listed::Certificates) {
                Some(list) => trusted.extend(list.iter().cloned()),
                None => is_sound = false,
            }
            if level.ssl_client_certificate.as_ref().is_some_and(|told| told.path == file.path) {
                named = trusted.len() as u32;
            }
        }
        let revocations = level.ssl_crl.as_ref().map(|file| self.listed(file, Listed::Revocations));
        if matches!(revocations, Some(None)) || !is_sound {
            return None;
        }
        let verify = level.ssl_verify_client.unwrap_or_default();
        if verify == Verify::Off {
            return Some(None);
        }
        if trusted.is_empty() && verify != Verify::OptionalNoCa {
            let message = "no ssl_client_certificate or ssl_trusted_certificate for ssl_verify_client";
            let problem = self.problems.push(Severity::Error, None, message);
            problem.line_at = None;
            return None;
        }
        Some(Some(Box::new(Clients {
            verify,
            strict: false,
            trusted,
            file: None,
            named,
            depth: level.ssl_verify_depth.unwrap_or(1).min(MOST_DEPTH) as u32,
            revocations: revocations.flatten().map(|list| list.to_vec()),
        })))
    }

    /// What a file lists; `None`: it has been told what is wrong with it.
    fn listed(&mut self, file: &NamedFile, kind: Listed) -> Option<Rc<Vec<Der>>> {
        let key = (file.path.clone(), kind);
        if let Some(known) = self.offers.listed.get(&key) {
            return known.clone();
        }
        let list = match self.vault.list(&file.path, kind) {
            Ok(list) => Some(Rc::new(list)),
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

    /// The certificates of a server; `None`: one cannot be used.
    fn certificates(
        &mut self,
        level: &Level,
        acme: Option<u32>,
        is_on_demand: bool,
    ) -> Option<(Vec<u32>, Vec<ByVariable>)> {
        let Some(chains) = &level.ssl_certificates else { return Some(Default::default()) };
        let chains = level.ssl_conf_certificates.as_ref().unwrap_or(chains);
        let keys = level.ssl_conf_keys.as_ref().or(level.ssl_certificate_keys.as_ref());
        let keys = keys.map_or(&[][..], |keys| keys.as_slice());
        let (mut found, mut by_variable) = (Vec::new(), Vec::new());
        let mut all = true;
        for (at, chain) in chains.iter().enumerate() {
            let Some(key) = keys.get(at) else {
                let path = chain.path.display();
                let message = format!("no \"ssl_certificate_key\" is defined for certificate \"{path}\"");
                let problem = self.problems.push(Severity::Error, Some(chain.at), message);
                problem.line_at = chain.line_at;
                return None;
            };
            if chain.value.is_some() || key.value.is_some() {
                match self.by_variable(chain, key, level.ssl_password_file.as_ref()) {
                    Some(certificate) => by_variable.push(certificate),
                    None => all = false,
                }
                continue;
            }
            let stapled = level.ssl_stapling_file.as_ref().filter(|_| level.ssl_stapling == Some(true));
            let is_ordered = (chain.path.as_path(), key.path.as_path())
                == (Path::new(acme::CERTIFICATE), Path::new(acme::CERTIFICATE_KEY));
            if is_ordered && acme.is_none() && is_on_demand {
                continue;
            }
            let index = if is_ordered {
                if acme.is_none() && !self.problems.has_errors() {
                    let message = format!(
                        "\"{}\" is of a server with `acme_certificate` or `acme_on_demand`",
                        acme::CERTIFICATE
                    );
                    let problem = self.problems.push(Severity::Error, Some(chain.at), message);
                    problem.line_at = chain.line_at;
                }
                acme
            } else {
                self.certificate(chain, key, level.ssl_password_file.as_ref(), stapled)
            };
            match index {
                Some(index) => found.push(index),
                None => all = false,
            }
        }
        all.then_some((found, by_variable))
    }

    /// A certificate that only the handshake tells; `None`: its passwords cannot be used.
    pub(super) fn by_variable(
        &mut self,
        chain: &NamedFile,
        key: &NamedFile,
        passwords: Option<&NamedFile>,
    ) -> Option<ByVariable> {
        let value = |file: &NamedFile| {
            file.value.clone().unwrap_or_else(|| Value::text(file.path.as_os_str().as_bytes()))
        };
        let mut certificate = ByVariable {
            chain: value(chain),
            key: value(key),
            base: self.conf_prefix.clone(),
            passwords: Vec::new(),
        };
        if let Some(file) = passwords {
            match self.vault.file(&file.path) {
                Ok(text) => {
                    let lines = text.split(|byte| *byte == b'\n');
                    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
                    let lines = lines.filter(|line| !line.is_empty());
                    certificate.passwords = lines.map(|line| Secret(line.to_vec())).collect();
                }
                Err(why) => {
                    let message = format!("cannot load passwords \"{}\": {why}", file.path.display());
                    let problem = self.problems.push(Severity::Error, Some(file.at), message);
                    problem.line_at = file.line_at;
                    return None;
                }
            }
        }
        Some(certificate)
    }

    fn certificate(
        &mut self,
        chain: &NamedFile,
        key: &NamedFile,
        passwords: Option<&NamedFile>,
        stapled: Option<&NamedFile>,
    ) -> Option<u32> {
        let files = CertificateFiles {
            chain: chain.path.clone(),
            key: key.path.clone(),
            passwords: passwords.map(|file| file.path.clone()),
            ocsp: stapled.map(|file| file.path.clone()),
        };
        if let Some(known) = self.offers.by_files.get(&files) {
            return *known;
        }
        let index = match self.vault.certificate(&files) {
            Ok(contents) => {
                let certificates = &mut self.offers.model.certificates;
                let mut name = format!("{} {}", files.chain.display(), files.key.display());
                if let Some(ocsp) = &files.ocsp {
                    let _ = write!(name, " {}", ocsp.display());
                }
                certificates.push(Certificate { name, files: Some(files.clone()), contents: Some(contents) });
                Some(certificates.len() as u32 - 1)
            }
            Err(fault) => {
                let (what, file) = match (fault.which, passwords) {
                    (Which::Passwords, Some(file)) => ("cannot load passwords", file),
                    (Which::Ocsp, _) => ("cannot load the answer", stapled.unwrap_or(chain)),
                    (Which::Key, _) => ("cannot load certificate key", key),
                    _ => ("cannot load certificate", chain),
                };
                let message = format!("{what} \"{}\": {}", file.path.display(), fault.why);
                let problem = self.problems.push(Severity::Error, Some(file.at), message);
                problem.line_at = file.line_at;
                None
            }
        };
        self.offers.by_files.insert(files, index);
        index
    }
}
