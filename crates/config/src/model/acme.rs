//! Certificates that come by themselves: who issues them, for which names.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Logs;
use super::tls::Contents;

/// Let's Encrypt's directory.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// All of ACME.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// No two of one name.
    pub issuers: Vec<Issuer>,
    /// No two of one name.
    pub certificates: Vec<Order>,
    /// A certificate that an authority of one's own gives.
    #[serde(default)]
    pub local: Option<Local>,
    /// No two of one name.
    #[serde(default)]
    pub on_demand: Vec<OnDemand>,
}

/// Certificates for names that only clients name, each after somebody has said that it may have one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnDemand {
    /// What both processes call it.
    pub name: String,
    /// Who says so.
    pub ask: Ask,
    /// The kind of key.
    pub key: Key,
    /// Indices of [`Model::issuers`], at least one; who fails is followed by the next. Below the first one's directory
    /// is that of the certificates.
    pub issuers: Vec<u32>,
    /// How many names may have one at once.
    pub names: u32,
}

/// Who says whether a name may have a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// An HTTP server: a status of 200 to 299 for `URL?domain=NAME` is a yes.
    Url(String),
    /// A program, run as `PROGRAM NAME`: an exit status of 0 is a yes.
    Program(PathBuf),
}

impl Ask {
    /// Reads a URL or the path of a program.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        match rest {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Err("the URL names no host"),
            Some(rest) if rest.contains(|c: char| c.is_control() || c == ' ' || c == '#') => {
                Err("the URL has characters that no URL has, or a fragment")
            }
            Some(_) => Ok(Self::Url(text.to_owned())),
            None if text.contains("://") => Err("only http:// and https:// are spoken"),
            None if text.is_empty() => Err("there is nobody to ask"),
            None => Ok(Self::Program(text.into())),
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Program(path) => path.display().fmt(f),
        }
    }
}

/// How many names have certificates on demand at most, if nobody says otherwise.
pub const ON_DEMAND_NAMES: u32 = 1000;

/// Whether somebody's word for a name can be one that an authority would issue for: a name of the public DNS, in lower
/// case, without the dot at its end, no wildcard and no address (CA/B Baseline Requirements §7.1.4.2.1).
pub fn is_public_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let Some((_, last)) = name.rsplit_once('.') else { return false };
    // A last label of digits is an address's.
    name.len() <= 253 && name.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

/// A certificate for development, signed by an authority of one's own; both are made when they are not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// By which servers know it.
    pub name: String,
    /// Where both are kept.
    pub state: PathBuf,
    /// What it is valid for.
    pub identifiers: Vec<String>,
}

/// A certification authority, and the account with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// What messages call it.
    pub name: String,
    /// The URL of its directory (RFC 8555 §7.1.1).
    pub directory: String,
    /// URLs by which it may reach somebody about the account.
    pub contact: Vec<String>,
    /// The file of the account's key; without one, a key is made and kept.
    pub account_key: Option<PathBuf>,
    /// How control over a name is shown; a wildcard's always by DNS.
    pub challenge: Challenge,
    /// `external_account_key`
    pub external_account: Option<ExternalAccount>,
    /// `profile`
    pub profile: Option<String>,
    /// Certificates by which the authority's own server is verified; without them, the system's.
    pub trusted: Option<PathBuf>,
    /// `ssl_verify`
    pub verify: bool,
    /// The directory in which accounts, certificates and keys are kept.
    pub state: PathBuf,
    /// `accept_terms_of_service`
    pub accepted_terms: bool,
    /// The program that puts and takes a TXT record, and its first arguments.
    pub dns_hook: Vec<String>,
}

/// How control over a name is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Challenge {
    /// `http-01` (RFC 8555 §8.3)
    Http01,
    /// `tls-alpn-01` (RFC 8737)
    TlsAlpn01,
    /// `dns-01` (RFC 8555 §8.4)
    Dns01,
}

impl Challenge {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }
}

/// An account that exists with the authority already (RFC 8555 §7.3.4).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalAccount {
    /// The key's identifier.
    pub id: String,
    /// The key, base64url.
    pub key: String,
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A certificate that is to be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// By which servers know it.
    pub name: String,
    /// What it is to be valid for, at least one: names, wildcards, addresses. Lower case.
    pub identifiers: Vec<String>,
    /// The kind of key.
    pub key: Key,
    /// Indices of [`Model::issuers`], at least one; who fails is followed by the next. The first one's directory keeps
    /// the certificate.
    pub issuers: Vec<u32>,
}

/// A kind of private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Key {
    /// `ecdsa:256`
    P256,
    /// `ecdsa:384`
    P384,
    /// `ecdsa:521`
    P521,
    /// `rsa:2048`
    Rsa2048,
    /// `rsa:3072`
    Rsa3072,
    /// `rsa:4096`
    Rsa4096,
}

impl Key {
    /// As nginx writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "ecdsa:256",
            Self::P384 => "ecdsa:384",
            Self::P521 => "ecdsa:521",
            Self::Rsa2048 => "rsa:2048",
            Self::Rsa3072 => "rsa:3072",
            Self::Rsa4096 => "rsa:4096",
        }
    }

    /// Reads nginx's words.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "ecdsa" | "ecdsa:256" => Self::P256,
            "ecdsa:384" => Self::P384,
            "ecdsa:521" => Self::P521,
            "rsa" | "rsa:2048" => Self::Rsa2048,
            "rsa:3072" => Self::Rsa3072,
            "rsa:4096" => Self::Rsa4096,
            _ => return None,
        })
    }
}

/// What answers a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// At `/.well-known/acme-challenge/TOKEN`.
    Http {
        /// Letters, digits, `-` and `_`.
        token: String,
        /// What is to be there.
        content: String,
    },
    /// For those who speak `acme-tls/1`.
    TlsAlpn {
        /// The name that they ask for.
        server_name: String,
        /// The certificate and its key.
        contents: Contents,
    },
}

/// All that the process that orders certificates is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mandate {
    /// What is wanted.
    pub acme: Model,
    /// The user that the process becomes.
    pub uid: Option<u32>,
    /// And the group.
    pub gid: Option<u32>,
    /// Where messages go.
    pub logs: Logs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_public_dns_are_ordered_on_demand() {
        for name in ["a.example", "xn--shp-sna.example", "a-b.c2.example", "1.example"] {
            assert!(is_public_name(name), "{name}");
        }
        let long = format!("{}.example", "a".repeat(64));
        let many = "a.".repeat(130) + "example";
        for name in [
            "",
            "localhost",
            "a.example.",
            ".a.example",
            "a..example",
            "*.a.example",
            "A.example",
            "-a.example",
            "a-.example",
            "192.0.2.1",
            "2001:db8::1",
            "a_b.example",
            "../x.example",
            "a.example\n",
            "a/b.example",
            "a b.example",
            "sh\u{f6}p.example",
            &long,
            &many,
        ] {
            assert!(!is_public_name(name), "{name}");
        }
    }

    #[test]
    fn a_url_or_a_program_is_asked() {
        assert_eq!(
            Ask::parse("http://127.0.0.1:8000/a?b=c"),
            Ok(Ask::Url("http://127.0.0.1:8000/a?b=c".into()))
        );
        assert_eq!(Ask::parse("/usr/bin/may"), Ok(Ask::Program("/usr/bin/may".into())));
        for text in
            ["", "http://", "https:///x", "ftp://x/", "http://a b/", "http://a/#x", "http://a/\r\nX: y"]
        {
            assert!(Ask::parse(text).is_err(), "{text}");
        }
    }
}
