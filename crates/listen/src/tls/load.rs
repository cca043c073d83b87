//! Certificates and keys from files, checked: what the master does, who may read them.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use config::Vault;
use config::model::tls::{About, CertificateFiles, Contents, Der, Fault, KeyForm, Listed, Secret, Which};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::clients;
use super::key::{self, Wrong};
use super::ocsp;
use super::pem::{self, Section};

/// Larger files hold no certificates.
const LARGEST: u64 = 16 << 20;

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files;

impl Vault for Files {
    fn certificate(&self, files: &CertificateFiles) -> Result<Contents, Fault> {
        let passwords = match &files.passwords {
            Some(path) => passwords(path).map_err(|why| fault(Which::Passwords, why))?,
            None => Vec::new(),
        };
        let mut contents = pair(&files.chain, &files.key, &passwords, files.passwords.is_some())?;
        let ocsp = files.ocsp.as_ref().map(|path| self.file(path).map(Der)).transpose();
        contents.ocsp = ocsp.map_err(|why| fault(Which::Ocsp, why))?;
        Ok(contents)
    }

    fn list(&self, path: &Path, kind: Listed) -> Result<Vec<Der>, String> {
        let sections = sections(path)?;
        let found: Vec<Der> = match kind {
            Listed::Certificates => certificates(sections),
            Listed::Revocations => {
                let lists = sections.into_iter().filter(|section| section.label == "X509 CRL");
                lists.map(|section| Der(section.data)).collect()
            }
        };
        let what = match kind {
            Listed::Certificates => "certificate",
            Listed::Revocations => "list of revocations",
        };
        if found.is_empty() {
            return Err(format!("it holds no {what}"));
        }
        let is_sound = |der: &Der| match kind {
            Listed::Certificates => public_key(der).is_some(),
            Listed::Revocations => clients::is_list(&der.0),
        };
        match found.iter().position(|der| !is_sound(der)) {
            Some(at) => Err(format!("{what} {} in it cannot be made out", at + 1)),
            None => Ok(found),
        }
    }

    fn about(&self, chain: &[Der], trusted: Option<&[Der]>) -> About {
        let must_staple = chain.first().is_some_and(|leaf| ocsp::must_staple(&leaf.0));
        match trusted.map(|trusted| ocsp::inquiry(chain, trusted)) {
            Some(Ok(inquiry)) => About {
                responder: inquiry.responder().map(str::to_owned),
                issuer: Some(Der(inquiry.into_issuer())),
                must_staple,
            },
            _ => About { must_staple, ..About::default() },
        }
    }

    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        read(path).map_err(|error| errno(&error))
    }

    fn can_be_read(&self, path: &Path) -> Result<(), String> {
        match fs::metadata(path) {
            Ok(there) if there.file_type().is_fifo() => Ok(()),
            _ => self.file(path).map(drop),
        }
    }
}

/// A certificate and its key. Of names that begin with `data:` the rest is what a file would hold.
fn pair(chain: &Path, key: &Path, passwords: &[Vec<u8>], has_passwords: bool) -> Result<Contents, Fault> {
    let chain = sections(chain).map_err(|why| fault(Which::Chain, why))?;
    let chain: Vec<Der> = certificates(chain);
    let Some(leaf) = chain.first() else { return Err(fault(Which::Chain, "it holds no certificate")) };
    let Some(public) = public_key(leaf) else {
        return Err(fault(Which::Chain, "its first certificate cannot be made out"));
    };
    if let Some(at) = chain.iter().position(|der| public_key(der).is_none()) {
        return Err(fault(Which::Chain, format!("certificate {} in it cannot be made out", at + 1)));
    }
    let (form, der) = sections(key).map_err(|why| fault(Which::Key, why)).and_then(|sections| {
        key::find(&sections, passwords).map_err(|wrong| match wrong {
            Wrong::Password if !has_passwords => {
                fault(Which::Key, "it is encrypted, and there is no `ssl_password_file`")
            }
            Wrong::Password => fault(Which::Key, "none of the passwords opens it"),
            Wrong::Kind(why) => fault(Which::Key, why),
        })
    })?;
    let key =
        signing_key(form, &der).map_err(|error| fault(Which::Key, format!("it cannot be used: {error}")))?;
    match key.public_key() {
        Some(of_key) if of_key.as_ref() != public => {
            Err(fault(Which::Key, "key values mismatch: it is not the key of the certificate"))
        }
        _ => Ok(Contents { chain, key: Secret(der), form, ocsp: None }),
    }
}

/// A certificate that was read when a client asked for it, checked and ready to be shown.
#[derive(Debug, Clone)]
pub struct Loaded(pub(super) Arc<CertifiedKey>);

impl Loaded {
    /// One that has come from somewhere else. The error is for the log.
    pub fn of_contents(contents: &Contents) -> Result<Self, String> {
        super::store::certified(contents).map(Self).map_err(|why| format!("its key cannot be used: {why}"))
    }

    /// One that was read and checked before. The error is for the log.
    pub fn of(chain: &[Der], key: &Secret, form: KeyForm) -> Result<Self, String> {
        let contents = Contents { chain: chain.to_vec(), key: key.clone(), form, ocsp: None };
        super::store::certified(&contents).map(Self).map_err(|error| error.to_string())
    }

    /// As the library has it.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.0
    }

    /// Whether it shows the same. The key follows from that.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }

    /// Reads it. The names may be `data:` and what the file would hold.
    pub fn read(chain: &Path, key: &Path, passwords: &[Secret]) -> Result<Self, Fault> {
        let passwords: Vec<Vec<u8>> = passwords.iter().map(|password| password.0.clone()).collect();
        let contents = pair(chain, key, &passwords, !passwords.is_empty())?;
        super::store::certified(&contents).map(Self).map_err(|why| fault(Which::Key, why.to_string()))
    }
}

/// A key as the library takes it.
pub(super) fn signing_key(form: KeyForm, der: &[u8]) -> Result<Arc<dyn SigningKey>, rustls::Error> {
    let der = der.to_vec();
    any_supported_type(&match form {
        KeyForm::Pkcs8 => PrivateKeyDer::Pkcs8(der.into()),
        KeyForm::Pkcs1 => PrivateKeyDer::Pkcs1(der.into()),
        KeyForm::Sec1 => PrivateKeyDer::Sec1(der.into()),
    })
}

fn fault(which: Which, why: impl Into<String>) -> Fault {
    Fault { which, why: why.into() }
}

fn sections(path: &Path) -> Result<Vec<Section>, String> {
    let text = read(path).map_err(|error| errno(&error))?;
    pem::sections(&text).map_err(str::to_owned)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if let Some(data) = path.as_os_str().as_bytes().strip_prefix(b"data:") {
        return Ok(data.to_vec());
    }
    let metadata = fs::metadata(path)?;
    if metadata.len() > LARGEST {
        return Err(io::Error::other("the file is too large"));
    }
    fs::read(path)
}

/// The system's words, without the number.
fn errno(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn certificates(sections: Vec<Section>) -> Vec<Der> {
    let is_one = |section: &Section| matches!(section.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE");
    sections.into_iter().filter(is_one).map(|section| Der(section.data)).collect()
}

/// `SubjectPublicKeyInfo`
fn public_key(der: &Der) -> Option<&[u8]> {
    let (rest, certificate) = X509Certificate::from_der(&der.0).ok()?;
    rest.is_empty().then_some(certificate.tbs_certificate.subject_pki.raw)
}

fn passwords(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let text = read(path).map_err(|error| errno(&error))?;
    let lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    Ok(lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}
