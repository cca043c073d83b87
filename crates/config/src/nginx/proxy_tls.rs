//! `proxy_ssl_…`, `uwsgi_ssl_…`, `grpc_ssl_…`: TLS to other servers.

use std::path::PathBuf;
use std::rc::Rc;

use conf_syntax::Directive;

use super::level::Level;
use super::pass::{PassLevel, pass};
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};
use super::tls::NamedFile;
use crate::model::http::{Family, Identity, ProxyTls};
use crate::model::tls::{CertificateFiles, Contents, Der, Listed, Which};
use crate::report::Severity;

const ALL: Context = Context::ALL;

/// The rows of one beginning.
macro_rules! rows {
    ($prefix:literal, $family:expr) => {
        &[
            Row::flag(
                concat!($prefix, "_ssl_server_name"),
                ALL,
                |l| &mut pass(l, $family).ssl_server_name,
                "off",
                "The server's name is told in the handshake.",
            ),
            Row::one(
                concat!($prefix, "_ssl_name"),
                ALL,
                Apply::Value(|l| &mut pass(l, $family).ssl_name),
                "$proxy_host",
                "The name that is told, and that the certificate must have.",
            ),
            Row::one(
                concat!($prefix, "_ssl_verify"),
                ALL,
                Apply::Custom(|r, l, d| r.pass_verify(pass(l, $family), d)),
                "off",
                "The server's certificate must be good.",
            )
            .differs("Names count only where certificates have them today: in their alternative names, not in the common name."),
            Row::one(
                concat!($prefix, "_ssl_trusted_certificate"),
                ALL,
                Apply::Custom(|r, l, d| {
                    let names_one = d.args.first().is_some_and(|word| !word.value.is_empty());
                    pass(l, $family).ssl_trusts = Some(names_one);
                    if let Some((list, unread)) = r.pass_list(d, Listed::Certificates) {
                        let own = pass(l, $family);
                        (own.ssl_trusted, own.ssl_trusted_unread) = (Some(list), Some(unread));
                    }
                }),
                "",
                "A file of certificates that are trusted.",
            ),
            Row::one(
                concat!($prefix, "_ssl_crl"),
                ALL,
                Apply::Custom(|r, l, d| {
                    if let Some((list, unread)) = r.pass_list(d, Listed::Revocations) {
                        let own = pass(l, $family);
                        (own.ssl_crl, own.ssl_crl_unread) = (Some(list), Some(unread));
                    }
                }),
                "",
                "A file of lists of certificates that are revoked.",
            ),
            Row::one(
                concat!($prefix, "_ssl_certificate"),
                ALL,
                Apply::Custom(|r, l, d| pass(l, $family).ssl_certificate = r.pass_file(d)),
                "",
                "The certificate that is shown to servers, and those that sign it; the name may have variables, with \
                 nothing for no certificate, or be `data:` and what a file would hold.",
            )
            .differs("With variables the files are read by the edge, which needs the right to."),
            Row::one(
                concat!($prefix, "_ssl_certificate_key"),
                ALL,
                Apply::Custom(|r, l, d| pass(l, $family).ssl_key = r.pass_file(d)),
                "",
                "Its key.",
            ),
            Row::new(
                concat!($prefix, "_ssl_protocols"),
                ALL,
                Count::at_least(1),
                Apply::Custom(|r, l, d| r.pass_protocols(pass(l, $family), d)),
                "TLSv1.2 TLSv1.3",
                "The versions that may be spoken.",
            )
.repeats(),
            Row::flag(
                concat!($prefix, "_ssl_session_reuse"),
                ALL,
                |l| &mut pass(l, $family).ssl_session_reuse,
                "on",
                "A session goes on with the next connection.",
            ),
            Row::one(
                concat!($prefix, "_ssl_verify_depth"),
                ALL,
                Apply::Quiet(Argument::Number, "a chain may be as long as the library takes it"),
                "1",
                "How many certificates may lie between.",
            ),
            Row::one(
                concat!($prefix, "_ssl_ciphers"),
                ALL,
                Apply::Quiet(Argument::Any, "all suites that are spoken are good ones; the server chooses"),
                "DEFAULT",
                "The suites that may be spoken.",
            ),
            Row::new(
                concat!($prefix, "_ssl_certificate_cache"),
                ALL,
                Count::between(1, 3),
                Apply::Custom(|r, l, d| {
                    r.certificate_cache(d, |cache| pass(l, $family).ssl_kept = Some(cache));
                }),
                "off",
                "Certificates whose files variables name are kept: `max=N`, `inactive=TIME` (10s), `valid=TIME` (60s).",
            )
            .differs("Each event loop keeps its own."),
            Row::one(
                concat!($prefix, "_ssl_password_file"),
                ALL,
                Apply::Custom(|r, l, d| pass(l, $family).ssl_passwords = r.password_file(d)),
                "",
                "A file of passwords for the key, one a line; each is tried.",
            ),
            Row::new(
                concat!($prefix, "_ssl_conf_command"),
                ALL,
                Count::exactly(2),
                Apply::NotYet("commands of OpenSSL come later"),
                "",
                "Commands of OpenSSL.",
            )
            .repeats(),
        ]
    };
}

pub(super) const PROXY: &[Row] = rows!("proxy", Family::Proxy);
pub(super) const UWSGI: &[Row] = rows!("uwsgi", Family::Uwsgi);
pub(super) const GRPC: &[Row] = rows!("grpc", Family::Grpc);

impl<'a> Reader<'a> {
    fn pass_verify(&mut self, level: &mut PassLevel, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        if let Some(on) = self.flag(word, &directive.name.text()) {
            let line = self.problems.line_at.unwrap_or(word.span);
            level.ssl_verify = Some(on.then_some((directive.head(), line)));
        }
    }

    /// What a file lists, which those who need it may not be allowed to read; an empty name is no file. One that
    /// cannot be read is an error only where servers are verified, as in nginx.
    fn pass_list(
        &mut self,
        directive: Directive<'a>,
        kind: Listed,
    ) -> Option<(Rc<Vec<Der>>, Option<NamedFile>)> {
        let word = directive.args.first()?;
        if word.value.is_empty() {
            return Some((Rc::default(), None));
        }
        let path = self.conf_prefix.join(word.text().as_ref());
        let file = NamedFile { path, value: None, at: word.span, line_at: self.problems.line_at };
        Some(match self.list_of(&file, kind) {
            Ok(list) => (list, None),
            Err(_) => (Rc::default(), Some(file)),
        })
    }

    /// The name of a certificate or key.
    fn pass_file(&mut self, directive: Directive<'a>) -> Option<NamedFile> {
        let word = directive.args.first()?;
        if word.value.starts_with(b"engine:") || word.value.starts_with(b"store:") {
            self.error(word.span, "what is no file is not there yet as a certificate or key")
                .help("name a file");
            return None;
        }
        let value = word.value.contains(&b'$').then(|| self.value(word));
        let path = match word.value {
            [] => PathBuf::new(),
            data if data.starts_with(b"data:") => PathBuf::from(&*word.text()),
            _ => self.conf_prefix.join(&*word.text()),
        };
        Some(NamedFile { path, value, at: word.span, line_at: self.problems.line_at })
    }

    /// Settles who we are to servers, where a block says something of it.
    pub(super) fn settle_identities(&mut self, level: &mut Level, parent: Option<&Level>) {
        for family in [Family::Proxy, Family::Uwsgi, Family::Grpc] {
            let Some(own) = level.passes[family as usize].clone() else { continue };
            let is_said =
                own.ssl_certificate.is_some() || own.ssl_key.is_some() || own.ssl_passwords.is_some();
            if !is_said && own.used.is_none() {
                continue;
            }
            let around = parent.and_then(|level| level.passes[family as usize].clone());
            let of = |file: fn(&PassLevel) -> &Option<NamedFile>| {
                let found = file(&own).as_ref().or_else(|| around.as_deref().and_then(|p| file(p).as_ref()));
                found.filter(|file| file.value.is_some() || !file.path.as_os_str().is_empty()).cloned()
            };
            let (chain, key) = (of(|p| &p.ssl_certificate), of(|p| &p.ssl_key));
            let passwords = of(|p| &p.ssl_passwords);
            let identity = match (chain, key) {
                (Some(chain), Some(key)) if is_said => self.identity(&chain, &key, passwords.as_ref()),
                (Some(chain), None) if own.used.is_some() => {
                    let prefix = family.prefix();
                    let message = format!(
                        "no \"{prefix}_ssl_certificate_key\" is defined for certificate \"{}\"",
                        chain.path.display()
                    );
                    self.problems.push(Severity::Error, Some(chain.at), message).line_at = chain.line_at;
                    None
                }
                _ if is_said => None,
                _ => continue,
            };
            pass(level, family).identity = Some(identity);
        }
    }

    /// Whoever is to be verified must be somebody whom a certificate can verify.
    pub(super) fn check_trusted(&mut self, level: &Level, parent: Option<&Level>) {
        for family in [Family::Proxy, Family::Uwsgi, Family::Grpc] {
            let Some(own) = level.passes[family as usize].as_deref().filter(|own| own.tls.is_some()) else {
                continue;
            };
            let around = parent.and_then(|level| level.passes[family as usize].as_deref());
            let verify = own.ssl_verify.or_else(|| around.and_then(|p| p.ssl_verify)).flatten();
            let unread = |file: fn(&PassLevel) -> &Option<Option<NamedFile>>| {
                let said = file(own).as_ref().or_else(|| around.and_then(|p| file(p).as_ref()));
                said.cloned().flatten().filter(|_| verify.is_some())
            };
            let trusted = unread(|p| &p.ssl_trusted_unread).map(|file| (file, Listed::Certificates));
            let revoked = unread(|p| &p.ssl_crl_unread).map(|file| (file, Listed::Revocations));
            let trusts = own.ssl_trusts.or_else(|| around.and_then(|p| p.ssl_trusts));
            for (file, kind) in [trusted, revoked].into_iter().flatten() {
                self.listed(&file, kind);
            }
            // Where it holds for many, it is told once.
            if let Some((at, line)) = verify.filter(|_| trusts != Some(true))
                && self.unverifiable.insert(at)
            {
                let prefix = family.prefix();
                let message = format!("no {prefix}_ssl_trusted_certificate for {prefix}_ssl_verify");
                let problem = self.problems.push(Severity::Error, Some(at), message);
                problem.line_at = Some(line);
                problem.help(format!(
                    "name the authorities: `{prefix}_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;`"
                ));
            }
        }
    }

    fn identity(
        &mut self,
        chain: &NamedFile,
        key: &NamedFile,
        passwords: Option<&NamedFile>,
    ) -> Option<Identity> {
        if chain.value.is_some() || key.value.is_some() {
            return self.by_variable(chain, key, passwords).map(Identity::Named);
        }
        let files = CertificateFiles {
            chain: chain.path.clone(),
            key: key.path.clone(),
            passwords: passwords.map(|file| file.path.clone()),
            ocsp: None,
        };
        if let Some(known) = self.identities.get(&files) {
            return known.clone();
        }
        let identity = match self.vault.certificate(&files) {
            Ok(Contents { chain, key, form, .. }) => Some(Identity::Fixed { chain, key, form }),
            Err(fault) => {
                let (what, file) = match (fault.which, passwords) {
                    (Which::Passwords, Some(file)) => ("cannot load passwords", file),
                    (Which::Key, _) => ("cannot load certificate key", key),
                    _ => ("cannot load certificate", chain),
                };
                let message = format!("{what} \"{}\": {}", file.path.display(), fault.why);
                self.problems.push(Severity::Error, Some(file.at), message).line_at = file.line_at;
                None
            }
        };
        self.identities.insert(files, identity.clone());
        identity
    }

    fn pass_protocols(&mut self, level: &mut PassLevel, directive: Directive<'a>) {
        const NAMES: [&str; 6] = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
        let mut protocols = level.ssl_protocols.unwrap_or_default();
        let mut are_known = true;
        for word in directive.args {
            match NAMES.iter().find(|name| word.value.eq_ignore_ascii_case(name.as_bytes())) {
                Some(&"TLSv1.2") => protocols.0 = true,
                Some(&"TLSv1.3") => protocols.1 = true,
                Some(name) => {
                    let message = format!("{name} is not spoken here: it is not safe");
                    self.note(word.span, message);
                }
                None => {
                    are_known = false;
                    self.not_one_of(word, &NAMES);
                }
            }
        }
        if protocols == (false, false) && are_known {
            self.error(directive.head(), "none of these protocols is spoken here")
                .help("write `TLSv1.2 TLSv1.3`");
        }
        level.ssl_protocols = Some(protocols);
    }
}

/// How TLS is spoken to servers.
pub(super) fn settle(p: &PassLevel) -> ProxyTls {
    let list = |all: &Option<Rc<Vec<Der>>>| all.as_deref().cloned().unwrap_or_default();
    let (tls12, tls13) = p.ssl_protocols.unwrap_or((true, true));
    ProxyTls {
        server_name: p.ssl_server_name.unwrap_or(false),
        name: p.ssl_name.clone(),
        verify: p.ssl_verify.flatten().is_some(),
        trusted: list(&p.ssl_trusted),
        revocations: Some(list(&p.ssl_crl)).filter(|lists| !lists.is_empty()),
        identity: p.identity.clone().flatten(),
        kept: p.ssl_kept.clone().flatten(),
        tls12,
        tls13,
        session_reuse: p.ssl_session_reuse.unwrap_or(true),
    }
}
