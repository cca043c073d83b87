//! Answers about a server's own certificates, sent along with them (OCSP).

use conf_syntax::Directive;

use super::super::level::Level;
use super::super::reader::Reader;
use super::super::resolver;
use super::super::table::{Apply, Row};
use super::{HEAD, NamedFile};
use crate::model::tls::{Der, Listed, ResponderUrl, Stapling};
use crate::report::Severity;

pub(in crate::nginx) const ROWS: &[Row] = &[
    Row::flag(
        "ssl_stapling",
        HEAD,
        |l| &mut l.ssl_stapling,
        "off",
        "The issuer is asked whether the certificate is good, and clients that ask for it get the answer along with the \
         certificate.",
    )
    .differs(
        "Answers are fetched ahead and in the background, from the start on: no client has to come first. Without \
         `resolver` the system is asked for names. Not for certificates whose files variables name.",
    ),
    Row::one(
        "ssl_stapling_file",
        HEAD,
        Apply::Custom(|r, l, d| l.ssl_stapling_file = r.conf_path(d)),
        "",
        "The issuer's answer that the certificate is good (OCSP), DER; it is sent to clients that ask for it.",
    ),
    Row::flag(
        "ssl_stapling_verify",
        HEAD,
        |l| &mut l.ssl_stapling_verify,
        "off",
        "Only the issuer, or whom it has certified to answer for it, may have signed an answer.",
    )
    .differs(
        "The issuer is the one that has signed the certificate: it need not be a trusted one. Nobody else is taken for \
         a responder because `ssl_trusted_certificate` has it. Signatures with SHA-1 are not taken, also without this.",
    ),
    Row::one(
        "ssl_stapling_responder",
        HEAD,
        Apply::Custom(|r, l, d| r.ssl_stapling_responder(l, d)),
        "",
        "Who is asked, an `http` URL, in the place of the one that the certificate names.",
    ),
];

/// Answers that a server wants for its certificates.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    stapling: Stapling,
    /// Among them may be the issuer.
    trusted: Vec<Der>,
}

impl<'a> Reader<'a> {
    fn ssl_stapling_responder(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let text = word.text().into_owned();
        if ResponderUrl::parse(&text).is_some() {
            level.ssl_stapling_responder = Some(text);
        } else {
            self.error(
                word.span,
                format!("invalid URL prefix in OCSP responder \"{text}\" in \"ssl_stapling_responder\""),
            )
            .help("it is asked by plain HTTP: `http://ocsp.example/`");
        }
    }

    /// What a server wants; `None`: nothing, or a file has the answer.
    pub(super) fn wanted_answers(&mut self, level: &Level) -> Option<Wanted> {
        if level.ssl_stapling != Some(true) || level.ssl_stapling_file.is_some() {
            return None;
        }
        let trusted = level.ssl_trusted_certificate.as_ref();
        let trusted = trusted.and_then(|file| self.listed(file, Listed::Certificates));
        let (resolver, resolver_timeout) = resolver::settle(level);
        let stapling = Stapling {
            responder: level.ssl_stapling_responder.clone(),
            verify: level.ssl_stapling_verify.unwrap_or(false),
            issuers: Vec::new(),
            resolver,
            resolver_timeout,
        };
        Some(Wanted { stapling, trusted: trusted.map_or_else(Vec::new, |list| list.to_vec()) })
    }

    /// How answers about this certificate are got; nginx's words if they cannot be. `has_file`: there is one already.
    pub(super) fn stapling(
        &mut self,
        file: &NamedFile,
        chain: &[Der],
        wanted: Option<&Wanted>,
        has_file: bool,
    ) -> Option<Box<Stapling>> {
        let path = file.path.display();
        let about = self.vault.about(chain, wanted.map(|wanted| &wanted.trusted[..]));
        if about.must_staple && wanted.is_none() && !has_file {
            let message = format!(
                "certificate \"{path}\" asks for an OCSP answer in each handshake, and there is none"
            );
            let problem = self.problems.push(Severity::Warning, Some(file.at), message);
            problem.line_at = file.line_at;
            problem.help("clients that know \"must staple\" refuse it: write `ssl_stapling on;`");
        }
        let wanted = wanted?;
        let responder = wanted.stapling.responder.as_ref().or(about.responder.as_ref());
        let wrong = match (&about.issuer, responder) {
            (None, _) => format!("issuer certificate not found for certificate \"{path}\""),
            (_, None) => format!("no OCSP responder URL in the certificate \"{path}\""),
            (_, Some(url)) if ResponderUrl::parse(url).is_none() => {
                format!("invalid URL prefix in OCSP responder \"{url}\" in the certificate \"{path}\"")
            }
            (Some(issuer), _) => {
                let mut stapling = wanted.stapling.clone();
                // Where the chain has it, it comes with each renewal.
                stapling.issuers =
                    Some(issuer).filter(|issuer| !chain.contains(issuer)).cloned().into_iter().collect();
                return Some(Box::new(stapling));
            }
        };
        let message = format!("\"ssl_stapling\" ignored, {wrong}");
        let problem = self.problems.push(Severity::Warning, Some(file.at), message);
        problem.line_at = file.line_at;
        None
    }
}

impl Wanted {
    /// Of a certificate that is not there yet.
    pub(super) fn later(&self) -> Stapling {
        self.stapling.clone()
    }
}
