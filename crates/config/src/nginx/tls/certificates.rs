//! Which certificates a server shows.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use conf_syntax::Directive;

use super::super::acme;
use super::super::level::Level;
use super::super::reader::Reader;
use super::super::table::{Apply, Count, Row};
use super::stapling::Wanted;
use super::{HEAD, NamedFile};
use crate::model::http::Value;
use crate::model::tls::{ByVariable, Certificate, CertificateCache, CertificateFiles, Secret, Which};
use crate::report::Severity;

pub(in crate::nginx) const ROWS: &[Row] = &[
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
        Apply::Custom(|r, l, d| l.ssl_password_file = r.password_file(d)),
        "",
        "A file of passwords for keys, one a line; each is tried.",
    )
    .differs(
        "Keys that are encrypted with AES-CBC only; of PKCS#8 with PBKDF2. A pipe is read for each certificate with such a \
         key, not once.",
    ),
];

impl<'a> Reader<'a> {
    /// The name of a file of passwords, which must be there whether or not a key needs it.
    pub(in crate::nginx) fn password_file(&mut self, directive: Directive<'a>) -> Option<NamedFile> {
        let file = self.conf_path(directive)?;
        let Err(why) = self.vault.can_be_read(&file.path) else { return Some(file) };
        let message = format!("cannot load passwords \"{}\": {why}", file.path.display());
        self.problems.push(Severity::Error, Some(file.at), message).line_at = file.line_at;
        None
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

    /// `off` is `None`.
    pub(in crate::nginx) fn certificate_cache(
        &mut self,
        directive: Directive<'a>,
        set: impl FnOnce(Option<CertificateCache>),
    ) {
        let mut cache =
            CertificateCache { max: 0, inactive: Duration::from_secs(10), valid: Duration::from_secs(60) };
        let mut is_off = false;
        for word in directive.args {
            let text = word.text().into_owned();
            let seconds = |text: &str| super::super::units::seconds(text.as_bytes());
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

    /// The certificates of a server; `None`: one cannot be used.
    pub(super) fn certificates(
        &mut self,
        level: &Level,
        acme: Option<u32>,
        is_on_demand: bool,
    ) -> Option<(Vec<u32>, Vec<ByVariable>)> {
        let wanted = self.wanted_answers(level);
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
                let all = &mut self.offers.model.certificates;
                if let (Some(wanted), Some(one)) = (&wanted, acme.and_then(|at| all.get_mut(at as usize))) {
                    one.stapling.get_or_insert_with(|| Box::new(wanted.later()));
                }
                acme
            } else {
                self.certificate(chain, key, level.ssl_password_file.as_ref(), stapled, wanted.as_ref())
            };
            match index {
                Some(index) => found.push(index),
                None => all = false,
            }
        }
        all.then_some((found, by_variable))
    }

    /// A certificate that only the handshake tells; `None`: its passwords cannot be used.
    pub(in crate::nginx) fn by_variable(
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
        wanted: Option<&Wanted>,
    ) -> Option<u32> {
        let files = CertificateFiles {
            chain: chain.path.clone(),
            key: key.path.clone(),
            passwords: passwords.map(|file| file.path.clone()),
            ocsp: stapled.map(|file| file.path.clone()),
        };
        let asked = (files.clone(), wanted.map(Wanted::later));
        if let Some(known) = self.offers.by_files.get(&asked) {
            return *known;
        }
        let index = match self.vault.certificate(&files) {
            Ok(contents) => {
                let stapling = self.stapling(chain, &contents.chain, wanted, stapled.is_some());
                let certificates = &mut self.offers.model.certificates;
                let mut name = format!("{} {}", files.chain.display(), files.key.display());
                if let Some(ocsp) = &files.ocsp {
                    let _ = write!(name, " {}", ocsp.display());
                }
                if stapling.is_some() {
                    name.push_str(" stapled");
                }
                let alike = self.offers.named.entry(name.clone()).or_default();
                if *alike > 0 {
                    let _ = write!(name, " {alike}");
                }
                *alike += 1;
                certificates.push(Certificate {
                    name,
                    files: Some(files),
                    contents: Some(contents),
                    stapling,
                });
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
        self.offers.by_files.insert(asked, index);
        index
    }
}
