//! TLS: what servers offer, and the certificates that they share.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Address;
use super::http::{Resolver, Value};

/// Index into [`Model::offers`].
pub type TlsId = u32;

/// All of TLS.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Certificates, no two of one name.
    pub certificates: Vec<Certificate>,
    /// What servers offer, no two alike.
    pub offers: Vec<Tls>,
    /// What all listeners of gunicorn's command line offer; `None` is no TLS.
    pub everywhere: Option<TlsId>,
    /// Those among them that speak plain HTTP all the same.
    #[serde(default)]
    pub plain: Vec<Address>,
    /// Clients of these are sent to this port.
    #[serde(default)]
    pub redirect: Option<u16>,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// By which it is known and replaced.
    pub name: String,
    /// Where it was read from, and is read again when that changes; `None`: it comes from somewhere else.
    pub files: Option<CertificateFiles>,
    /// What was read.
    pub contents: Option<Contents>,
    /// Answers about it are fetched and sent along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stapling: Option<Box<Stapling>>,
}

/// How answers about a certificate are fetched (RFC 6960).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stapling {
    /// Who is asked, in the place of the one that the certificate names.
    pub responder: Option<String>,
    /// Only the issuer, or whom it has certified for it, may answer.
    pub verify: bool,
    /// Where the issuer is, if not in the chain.
    pub issuers: Vec<Der>,
    /// Who is asked for the responder's address; `None`: the system.
    pub resolver: Option<Resolver>,
    /// How long that may take.
    pub resolver_timeout: Duration,
}

/// Where somebody answers for an issuer: an `http` URL in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponderUrl {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    path: String,
}

impl ResponderUrl {
    /// `None`: it is not one that can be asked.
    pub fn parse(url: &str) -> Option<Self> {
        const LONGEST: usize = 2048;
        let is_clean = url.len() <= LONGEST && url.bytes().all(|byte| byte.is_ascii_graphic());
        let scheme = url.get(..7).filter(|scheme| is_clean && scheme.eq_ignore_ascii_case("http://"))?;
        let rest = &url[scheme.len()..];
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let is_host = |host: &str| !host.is_empty() && !host.contains(['@', '[', ']']);
        let port = port.map_or(Some(80), |port| port.parse().ok().filter(|port| *port > 0))?;
        let path = path.split('#').next().unwrap_or_default();
        (is_host(host) && !path.contains('?')).then(|| Self {
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    /// The path that a request is put behind; ends with a slash.
    pub fn base(&self) -> String {
        let path = self.path.trim_end_matches('/');
        format!("{path}/")
    }

    /// The value of `Host`.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 80 { host } else { format!("{host}:{}", self.port) }
    }
}

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CertificateFiles {
    /// The certificate, then those that lead to the root.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Passwords that the key may have, one a line.
    pub passwords: Option<PathBuf>,
    /// An answer of the issuer's that the certificate is good, DER.
    pub ocsp: Option<PathBuf>,
}

/// A certificate and its key, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The certificate, then those that lead to the root.
    pub chain: Vec<Der>,
    /// Its key.
    pub key: Secret,
    /// How the key is written.
    pub form: KeyForm,
    /// An answer of the issuer's that the certificate is good (RFC 6960).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp: Option<Der>,
}

/// How a private key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyForm {
    /// RFC 5958
    Pkcs8,
    /// RFC 8017
    Pkcs1,
    /// RFC 5915
    Sec1,
}

/// Bytes that cross as base64.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Der(pub Vec<u8>);

impl fmt::Debug for Der {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Der({} bytes)", self.0.len())
    }
}

/// Bytes that nobody is to see.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

macro_rules! base64 {
    ($type:ident) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&STANDARD.encode(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                STANDARD.decode(text).map(Self).map_err(|_| serde::de::Error::custom("no base64"))
            }
        }
    };
}

base64!(Der);
base64!(Secret);

/// What a server offers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tls {
    /// Indices of [`Model::certificates`]: of different kinds, the client's signature schemes choose.
    pub certificates: Vec<u32>,
    /// More of them, whose files only the handshake tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_variable: Vec<ByVariable>,
    /// Those of them that were read are kept; `None`: every handshake reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<CertificateCache>,
    /// Names that no certificate is for get one: index of [`super::acme::Model::on_demand`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand: Option<u32>,
    /// Certificates are sent compressed to clients that take them so (RFC 8879).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compress: bool,
    /// `ssl_reject_handshake`
    pub reject: bool,
    /// At least one.
    pub protocols: Vec<Protocol>,
    /// IANA's numbers of cipher suites, the best first.
    pub suites: Vec<u16>,
    /// That order counts, not the client's.
    pub server_order: bool,
    /// IANA's numbers of groups for the key exchange, the best first.
    pub groups: Vec<u16>,
    /// Bytes of one record at most.
    pub record_size: u32,
    /// How long a session may go on after it began.
    pub session_timeout: Duration,
    /// Sessions are remembered; `None`: only clients remember theirs, by tickets.
    pub session_cache: Option<SessionCache>,
    /// Clients get tickets.
    pub tickets: bool,
    /// Clients whose session goes on may send before the end of the handshake. There is a session cache, and no tickets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub early_data: bool,
    /// Clients are asked for certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<Box<Clients>>,
    /// Keys of tickets, nginx's 48 or 80 bytes; the first encrypts. Empty: the process makes its own.
    pub ticket_keys: Vec<Secret>,
}

/// A certificate whose files variables name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ByVariable {
    /// The file of the certificate and those that lead to the root, or `data:` and what would be in it.
    pub chain: Value,
    /// The same of its key.
    pub key: Value,
    /// The directory that names begin in which are not absolute.
    pub base: PathBuf,
    /// Passwords that the key may have.
    pub passwords: Vec<Secret>,
}

/// How long certificates whose files variables name are kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CertificateCache {
    /// So many at most, in each event loop.
    pub max: u32,
    /// Those that nobody has asked for so long are forgotten.
    pub inactive: Duration,
    /// After that a file is read again.
    pub valid: Duration,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verify {
    /// They are not asked.
    #[default]
    Off,
    /// They must have one that is good.
    On,
    /// They may have one, which must be good.
    Optional,
    /// They may have one that nobody knows.
    OptionalNoCa,
}

/// Which certificates of clients are good.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Clients {
    /// Whether they need one; never [`Verify::Off`].
    pub verify: Verify,
    /// A handshake without a good one fails; else requests are refused.
    pub strict: bool,
    /// Authorities.
    pub trusted: Vec<Der>,
    /// Where they are still to be read from.
    pub file: Option<PathBuf>,
    /// How many of them, the first, are named to clients.
    pub named: u32,
    /// How many certificates may lie between a client's and that of a trusted authority.
    pub depth: u32,
    /// Lists of revoked certificates: with them each certificate of a chain must be in the scope of one.
    pub revocations: Option<Vec<Der>>,
}

/// Where sessions are remembered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionCache {
    /// Servers that name the same share it.
    pub name: String,
    /// How many.
    pub sessions: u32,
}

/// A version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}

/// Who reads certificates and keys, and checks that they can be used. The crates that know how are above this one.
pub trait Vault {
    /// A certificate and its key.
    fn certificate(&self, files: &CertificateFiles) -> Result<Contents, Fault>;

    /// The certificates, or lists of revocations, of a file in PEM. The error says what is wrong with it.
    fn list(&self, path: &Path, kind: Listed) -> Result<Vec<Der>, String>;

    /// What a certificate says of itself, its own the first of `chain`; its issuer may be among `trusted`. Without those
    /// nobody looks for the issuer, which takes time.
    fn about(&self, chain: &[Der], trusted: Option<&[Der]>) -> About;

    /// A file as it is. The error says what is wrong with it.
    fn file(&self, path: &Path) -> Result<Vec<u8>, String>;

    /// Whether [`Vault::file`] would do. What is in a pipe stays there, for whoever needs it.
    fn can_be_read(&self, path: &Path) -> Result<(), String>;
}

/// Who can be asked about a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Its issuer, where it was found.
    pub issuer: Option<Der>,
    /// The URL at which the issuer is asked, as the certificate has it.
    pub responder: Option<String>,
    /// It asks for an answer in each handshake (RFC 7633).
    pub must_staple: bool,
}

/// What a file lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listed {
    /// Certificates.
    Certificates,
    /// Lists of revoked certificates.
    Revocations,
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which of the files.
    pub which: Which,
    /// What is wrong with it, to follow its name.
    pub why: String,
}

/// Which file of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The certificate.
    Chain,
    /// The key.
    Key,
    /// The passwords.
    Passwords,
    /// The issuer's answer.
    Ocsp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_is_asked_by_plain_http() {
        let parts = |url| {
            ResponderUrl::parse(url).map(|url| (url.host.clone(), url.port, url.base(), url.authority()))
        };
        let known = |host: &str, port, base: &str, authority: &str| {
            Some((host.to_owned(), port, base.to_owned(), authority.to_owned()))
        };
        assert_eq!(parts("http://a.example"), known("a.example", 80, "/", "a.example"));
        assert_eq!(parts("HTTP://a.example:8080/x/"), known("a.example", 8080, "/x/", "a.example:8080"));
        assert_eq!(parts("http://[::1]:81/x"), known("::1", 81, "/x/", "[::1]:81"));
        for wrong in [
            "https://a.example/",
            "a.example",
            "http://",
            "http:///x",
            "http://a:0/",
            "http://a:x/",
            "http://u@a/",
            "http://a/x y",
            "http://a/\r\nHost: b",
            "http://[::1",
            "http://[x]/",
            "http://a/?x",
            "ftp://a/",
            "http://\u{e4}/",
        ] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_shown_and_cross_whole() {
        let contents = Contents {
            chain: vec![Der(vec![1, 2, 3])],
            key: Secret(b"hidden".to_vec()),
            form: KeyForm::Pkcs8,
            ocsp: None,
        };
        assert!(!format!("{contents:?}").contains("104"));
        let text = serde_json::to_string(&contents).unwrap();
        assert_eq!(serde_json::from_str::<Contents>(&text).unwrap(), contents);
    }
}
