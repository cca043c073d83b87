//! Whether clients show certificates, and which are good.

use conf_syntax::Directive;

use super::super::level::Level;
use super::super::reader::Reader;
use super::super::table::{Apply, Row};
use super::HEAD;
use crate::model::tls::{Clients, Listed, Verify};
use crate::report::Severity;

/// No chain is longer: messages of a handshake have a limit.
const MOST_DEPTH: u64 = 100;

pub(in crate::nginx) const ROWS: &[Row] = &[
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
];

impl<'a> Reader<'a> {
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

    /// Which certificates of clients are good; `None`: something cannot be used.
    #[expect(clippy::option_option, reason = "an error, or none")]
    pub(super) fn clients(&mut self, level: &Level) -> Option<Option<Box<Clients>>> {
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
}
