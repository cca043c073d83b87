//! Certificates without files.

use std::path::Path;

use config::Vault;
use config::model::tls::{About, CertificateFiles, Contents, Der, Fault, KeyForm, Listed, Secret, Which};

/// Certificates that can be used, but for those whose names say what is wrong with them.
pub struct Certificates;

impl Vault for Certificates {
    fn certificate(&self, files: &CertificateFiles) -> Result<Contents, Fault> {
        let fault = |which, why: &str| Err(Fault { which, why: why.to_owned() });
        let name = |path: &Path| path.display().to_string();
        if name(&files.chain).contains("missing") {
            return fault(Which::Chain, "No such file or directory");
        }
        if name(&files.key).contains("other") {
            return fault(Which::Key, "key values mismatch: it is not the key of the certificate");
        }
        if files.passwords.as_ref().is_some_and(|path| name(path).contains("missing")) {
            return fault(Which::Passwords, "No such file or directory");
        }
        Ok(Contents {
            chain: vec![Der(name(&files.chain).into_bytes())],
            key: Secret(name(&files.key).into_bytes()),
            form: KeyForm::Pkcs8,
            ocsp: files.ocsp.as_ref().map(|path| Der(name(path).into_bytes())),
        })
    }

    fn list(&self, path: &Path, _: Listed) -> Result<Vec<Der>, String> {
        match path.display().to_string() {
            name if name.contains("missing") => Err("No such file or directory".to_owned()),
            name => Ok(vec![Der(name.into_bytes())]),
        }
    }

    fn about(&self, chain: &[Der], trusted: Option<&[Der]>) -> About {
        let has = |word: &str| chain.iter().any(|der| String::from_utf8_lossy(&der.0).contains(word));
        About {
            issuer: trusted.and_then(|trusted| trusted.first().cloned()),
            responder: (!has("silent"))
                .then(|| if has("ldap") { "ldap://ocsp" } else { "http://ocsp.example/" }.to_owned()),
            must_staple: has("must"),
        }
    }

    fn file(&self, path: &Path) -> Result<Vec<u8>, String> {
        match path.display().to_string() {
            name if name.contains("missing") => Err("No such file or directory".to_owned()),
            name if name.contains("short") => Ok(vec![0; 47]),
            _ => Ok(vec![0; 48]),
        }
    }

    fn can_be_read(&self, path: &Path) -> Result<(), String> {
        self.file(path).map(drop)
    }
}
