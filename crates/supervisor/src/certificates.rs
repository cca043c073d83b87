//! Watches the files of certificates, so that a renewed one is used without an order.
//!
//! By their times and not by inotify: names such as certbot's are links to links, and directories may be on the network.
//! A pair that does not fit (yet) replaces nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bridge::control::ToEdge;
use config::Vault;
use config::model::tls::{Certificate, CertificateFiles, Contents, Which};

use crate::master::Master;
use crate::state::Time;

/// How often files are looked at; more rarely when there are many of them.
const ROUND: Duration = Duration::from_secs(2);
/// What looking at one certificate may take of that, and more.
const EACH: Duration = Duration::from_millis(2);
/// Files that were written less than this ago may not be whole.
const FRESH: Duration = Duration::from_secs(1);
/// Files may have changed while the configuration was read.
const SETTLED: Duration = Duration::from_secs(60);

/// What the master knows of the files.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// Of the cycle whose certificates these are.
    cycle: u64,
    /// By name.
    stamps: BTreeMap<String, Stamp>,
    next: Time,
}

/// What a change of a certificate's files changes: device, inode, size, and when each was written and renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    files: Vec<Option<[u64; 4]>>,
    /// Nanoseconds since the epoch.
    newest: u64,
}

impl Stamp {
    fn of(files: &CertificateFiles) -> Self {
        let paths = [Some(&files.chain), Some(&files.key), files.passwords.as_ref(), files.ocsp.as_ref()];
        let files: Vec<_> = paths.into_iter().flatten().map(|path| file(path)).collect();
        let newest = files.iter().flatten().map(|file| file[3]).max().unwrap_or(0);
        Self { files, newest }
    }

    /// Whether something was written so short a time ago.
    fn is_younger_than(&self, age: Duration) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
        now.checked_sub(self.newest).is_some_and(|passed| u128::from(passed) < age.as_nanos())
    }
}

fn file(path: &Path) -> Option<[u64; 4]> {
    let metadata = std::fs::metadata(path).ok()?;
    let nanoseconds = |seconds: i64, rest: i64| (seconds as u64) * 1_000_000_000 + rest as u64;
    let written = nanoseconds(metadata.mtime(), metadata.mtime_nsec());
    let changed = nanoseconds(metadata.ctime(), metadata.ctime_nsec());
    Some([metadata.ino() ^ metadata.dev() << 48, metadata.size(), written, written.max(changed)])
}

impl Watched {
    /// When to look again.
    pub(crate) fn next(&self) -> Time {
        self.next
    }
}

impl Master {
    /// Whether there are files to look at.
    pub(crate) fn watches_certificates(&self) -> bool {
        self.edge.is_some() && self.files().next().is_some()
    }

    fn files(&self) -> impl Iterator<Item = (&Certificate, &CertificateFiles)> {
        let certificates = self.prepared().into_iter().flat_map(|prepared| &prepared.model.tls.certificates);
        certificates.filter_map(|certificate| Some((certificate, certificate.files.as_ref()?)))
    }

    /// Looks at the files, if it is time to, and replaces certificates that have changed.
    pub(crate) fn watch_certificates(&mut self) {
        let now = self.begin.elapsed();
        if now < self.watched.next || !self.watches_certificates() {
            return;
        }
        let is_known = self.watched.cycle == self.configured;
        let mut stamps = BTreeMap::new();
        let mut replaced = Vec::new();
        for (certificate, files) in self.files() {
            let name = &certificate.name;
            let stamp = Stamp::of(files);
            let known = self.watched.stamps.get(name).filter(|_| is_known);
            let is_old = match known {
                Some(known) => *known == stamp,
                None => !stamp.is_younger_than(SETTLED),
            };
            if is_old {
                stamps.insert(name.clone(), stamp);
                continue;
            }
            if stamp.is_younger_than(FRESH) {
                // Looked at again in the next round, by what was known before.
                stamps.extend(known.map(|known| (name.clone(), known.clone())));
                continue;
            }
            match ::listen::tls::Files.certificate(files) {
                Ok(contents) if certificate.contents.as_ref() == Some(&contents) => {}
                Ok(contents) => replaced.push((name.clone(), files.chain.clone(), contents)),
                Err(fault) => {
                    let path = match fault.which {
                        Which::Key => &files.key,
                        Which::Passwords => files.passwords.as_ref().unwrap_or(&files.key),
                        Which::Ocsp => files.ocsp.as_ref().unwrap_or(&files.chain),
                        Which::Chain => &files.chain,
                    };
                    telemetry::error!(
                        "the files of a certificate have changed, but \"{}\" cannot be used: {}; the certificate stays as it was",
                        path.display(),
                        fault.why
                    );
                }
            }
            stamps.insert(name.clone(), stamp);
        }
        let count = u32::try_from(stamps.len()).unwrap_or(u32::MAX);
        self.watched =
            Watched { cycle: self.configured, stamps, next: now + ROUND.max(EACH.saturating_mul(count)) };
        for (name, path, contents) in replaced {
            if self.replace_certificate(&name, &contents, |certificate| certificate.files.is_some()) {
                telemetry::log!(
                    telemetry::error_log::Level::Notice,
                    "the certificate \"{}\" has changed and is used from now on",
                    path.display()
                );
            }
        }
    }

    /// Gives the edge a certificate, now and when it starts anew; whether there is one of that name and kind.
    pub(crate) fn replace_certificate(
        &mut self,
        name: &str,
        contents: &Contents,
        is_it: impl Fn(&Certificate) -> bool,
    ) -> bool {
        let configuration = self.configurations.get_mut(&self.configured);
        let Some(prepared) = configuration.and_then(|c| c.prepared.as_mut()) else { return false };
        let mut is_known = false;
        for certificate in &mut prepared.model.tls.certificates {
            if certificate.name == name && is_it(certificate) {
                certificate.contents = Some(contents.clone());
                is_known = true;
            }
        }
        if is_known && let Ok(body) = serde_json::to_value(contents) {
            self.pass_on(ToEdge::Certificate { name: name.to_owned() }, Some(body));
        }
        is_known
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_stamp_tells_what_was_written_replaced_or_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("a.pem"), "1").unwrap();
        fs::write(at("b.pem"), "1").unwrap();
        std::os::unix::fs::symlink(at("a.pem"), at("live.pem")).unwrap();
        let files = CertificateFiles { chain: at("live.pem"), key: at("key"), passwords: None, ocsp: None };
        let first = Stamp::of(&files);
        assert_eq!(first, Stamp::of(&files));
        assert!(first.is_younger_than(Duration::from_secs(3600)));
        assert!(!first.is_younger_than(Duration::ZERO));
        // A link to another file, as certbot renews.
        fs::remove_file(at("live.pem")).unwrap();
        std::os::unix::fs::symlink(at("b.pem"), at("live.pem")).unwrap();
        let second = Stamp::of(&files);
        assert_ne!(first, second);
        fs::write(at("key"), "1").unwrap();
        let third = Stamp::of(&files);
        assert_ne!(second, third);
        fs::remove_file(at("b.pem")).unwrap();
        assert_ne!(third, Stamp::of(&files));
    }
}
