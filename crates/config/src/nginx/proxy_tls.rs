//! `proxy_ssl_…`, `uwsgi_ssl_…`: TLS to other servers.

use conf_syntax::{Directive, Word};

use super::level::Level;
use super::pass::{PassLevel, pass};
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row, Slot};
use crate::model::http::{Family, ProxyTls, Secret};

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
            Row::flag(
                concat!($prefix, "_ssl_verify"),
                ALL,
                |l| &mut pass(l, $family).ssl_verify,
                "off",
                "The server's certificate must be good.",
            )
            .differs("Names count only where certificates have them today: in their alternative names, not in the common name."),
            Row::one(
                concat!($prefix, "_ssl_trusted_certificate"),
                ALL,
                Apply::Custom(|r, l, d| r.pem_file(l, d, |l| &mut pass(l, $family).ssl_trusted)),
                "",
                "A file of certificates that are trusted.",
            ),
            Row::one(
                concat!($prefix, "_ssl_crl"),
                ALL,
                Apply::Custom(|r, l, d| r.pem_file(l, d, |l| &mut pass(l, $family).ssl_crl)),
                "",
                "A file of lists of certificates that are revoked.",
            ),
            Row::one(
                concat!($prefix, "_ssl_certificate"),
                ALL,
                Apply::Custom(|r, l, d| r.pem_file(l, d, |l| &mut pass(l, $family).ssl_certificate)),
                "",
                "The certificate that is shown to servers, and those that sign it.",
            ),
            Row::one(
                concat!($prefix, "_ssl_certificate_key"),
                ALL,
                Apply::Custom(|r, l, d| r.pem_file(l, d, |l| &mut pass(l, $family).ssl_key)),
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
            ),
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
                Apply::Quiet(Argument::Any, "certificates are read when the configuration is"),
                "off",
                "How long certificates with variables are kept.",
            ),
            Row::one(
                concat!($prefix, "_ssl_password_file"),
                ALL,
                Apply::NotYet("keys with passwords come later here"),
                "",
                "Passwords of keys.",
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

impl<'a> Reader<'a> {
    /// What a file holds: those who need it may not be allowed to read it.
    fn pem_file(&mut self, level: &mut Level, directive: Directive<'a>, slot: Slot<Vec<u8>>) {
        let Some(word) = directive.args.first() else { return };
        *slot(level) = self.pem_text(word);
    }

    fn pem_text(&mut self, word: Word<'a>) -> Option<Vec<u8>> {
        if word.value.is_empty() {
            return Some(Vec::new());
        }
        if self.value(word).as_text().is_none() {
            self.error(word.span, "certificates with variables are not there yet (they come later)");
            return None;
        }
        let path = self.conf_prefix.join(word.text().as_ref());
        let Some(text) = self.machine.source(&path) else {
            self.error(word.span, format!("cannot load certificate \"{}\"", path.display()));
            return None;
        };
        if !text.contains("-----BEGIN ") {
            self.error(word.span, format!("there is no PEM in \"{}\"", path.display()));
            return None;
        }
        Some(text.into_bytes())
    }

    fn pass_protocols(&mut self, level: &mut PassLevel, directive: Directive<'a>) {
        const NAMES: [&str; 6] = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
        let mut protocols = (false, false);
        for word in directive.args {
            match NAMES.iter().find(|name| word.value.eq_ignore_ascii_case(name.as_bytes())) {
                Some(&"TLSv1.2") => protocols.0 = true,
                Some(&"TLSv1.3") => protocols.1 = true,
                Some(name) => {
                    let message = format!("{name} is not spoken here: it is not safe");
                    self.note(word.span, message);
                }
                None => self.not_one_of(word, &NAMES),
            }
        }
        if protocols == (false, false) && !self.problems.has_errors() {
            self.error(directive.head(), "none of these protocols is spoken here")
                .help("write `TLSv1.2 TLSv1.3`");
        }
        level.ssl_protocols = Some(protocols);
    }
}

/// How TLS is spoken to servers.
pub(super) fn settle(p: &PassLevel) -> ProxyTls {
    let some = |text: &Option<Vec<u8>>| text.clone().filter(|text| !text.is_empty());
    let (tls12, tls13) = p.ssl_protocols.unwrap_or((true, true));
    ProxyTls {
        server_name: p.ssl_server_name.unwrap_or(false),
        name: p.ssl_name.clone(),
        verify: p.ssl_verify.unwrap_or(false),
        trusted: p.ssl_trusted.clone().unwrap_or_default(),
        crl: some(&p.ssl_crl),
        certificate: some(&p.ssl_certificate).map(|chain| {
            let key = some(&p.ssl_key).unwrap_or_else(|| chain.clone());
            (chain, Secret(key))
        }),
        tls12,
        tls13,
        session_reuse: p.ssl_session_reuse.unwrap_or(true),
    }
}
