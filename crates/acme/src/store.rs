//! Certificates, keys and accounts in a directory.
//!
//! A file is written beside its place, brought to the disk and renamed, so that there is never half a file, and a
//! certificate and its key, which are one file, always belong together. The directory is for its owner only.
//!
//! | file | |
//! | --- | --- |
//! | `NAME-HASH.pem` | a key and the chain for it |
//! | `NAME-HASH.order` | an order that is finalized, and the key for it: to be gone on with after a crash |
//! | `NAME-HASH.json` | how often it failed, and when to try again |
//! | `NAME-HASH.lock` | locked by whoever orders |
//! | `account-HASH.json` | an account, and its key |

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::model::acme::Order;
use rcgen::{KeyPair, PublicKeyData};
use rustix::fs::{FlockOperation, OFlags};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::chain::{self, Leaf};
use crate::key::Pair;

/// What an order's files end in.
const KINDS: [&str; 4] = ["pem", "order", "json", "lock"];
/// The largest file that is read.
const FILE_SIZE: u64 = 512 * 1024;

/// A directory of certificates.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

/// A certificate out of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Chain and key.
    pub pair: Pair,
    /// What is known of the certificate.
    pub leaf: Leaf,
}

/// What is to be known of failures after a restart, by the authority's directory.
pub type Note = BTreeMap<String, Rest>;

/// An authority that is left alone for a while.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// Failures in a row.
    pub failures: u32,
    /// Not before, seconds since 1970.
    pub next: u64,
    /// The last one, for people.
    #[serde(default)]
    pub error: String,
}

/// An order that is finalized: what is left to do is to wait for the certificate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finalized {
    /// The directory of the authority.
    pub authority: String,
    /// The order.
    pub url: String,
    /// The key, PKCS#8, base64.
    pub key: String,
}

impl std::fmt::Debug for Finalized {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finalized").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Nobody else orders the same as long as this is held.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "holds the lock")] File);

/// What came of locking.
#[derive(Debug)]
pub enum Locked {
    /// It is ours.
    Yes(Lock),
    /// Somebody else has it; what is known of him.
    No(String),
}

impl Store {
    /// Opens a directory, or makes it.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|e| at(directory, &e))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// A directory that may not be there.
    pub fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The best certificate for an order: the one that was made for it, else the newest of those with the same first
    /// name that is still valid, because that is better than none. With it, whether it is the one.
    pub fn certificate(&self, order: &Order, now: u64) -> Option<(Stored, bool)> {
        if let Some(stored) = self.own(order) {
            return Some((stored, true));
        }
        let prefix = format!("{}-", file_name(&order.identifiers[0]));
        let entries = fs::read_dir(&self.directory).ok()?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let others = names.filter(|name| {
            let hash = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".pem"));
            hash.is_some_and(|hash| hash.len() == HASH_LENGTH && hash.bytes().all(|b| b.is_ascii_hexdigit()))
        });
        let valid = others
            .take(100)
            .filter_map(|name| self.read_pair(&name).ok())
            .filter(|stored| stored.leaf.validity.until > now);
        valid.max_by_key(|stored| stored.leaf.validity.from).map(|stored| (stored, false))
    }

    /// The certificate that was made for this order. One that cannot be read is none, and is told of.
    pub fn own(&self, order: &Order) -> Option<Stored> {
        let name = format!("{}.pem", stem(order));
        match self.read_pair(&name) {
            Ok(stored) => Some(stored),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                telemetry::error!("{}", error);
                None
            }
        }
    }

    fn read_pair(&self, name: &str) -> io::Result<Stored> {
        let path = self.directory.join(name);
        let text = self.read(name)?;
        let bad = |why: &str| at(&path, &io::Error::new(io::ErrorKind::InvalidData, why.to_owned()));
        let key = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|error| bad(&error.to_string()))?;
        let key = key.secret_pkcs8_der().to_vec();
        let chain = chain::parse(&text).map_err(|why| bad(&why))?;
        let leaf = chain::look(&chain).map_err(|why| bad(&why))?;
        let public = public_key(&key).ok_or_else(|| bad("a key of no use"))?;
        if leaf.public_key != public {
            return Err(bad("key and certificate do not belong together"));
        }
        Ok(Stored { pair: Pair { chain, key }, leaf })
    }

    /// Keeps a certificate.
    pub fn keep(&self, order: &Order, pair: &Pair) -> io::Result<()> {
        let mut text = pem("PRIVATE KEY", &pair.key);
        for certificate in &pair.chain {
            text.push_str(&pem("CERTIFICATE", certificate));
        }
        self.write(&format!("{}.pem", stem(order)), text.as_bytes())
    }

    /// What is known of failures.
    pub fn note(&self, order: &Order) -> Note {
        self.read_json(&format!("{}.json", stem(order))).unwrap_or_default()
    }

    /// Keeps what is known of failures.
    pub fn keep_note(&self, order: &Order, note: &Note) -> io::Result<()> {
        self.write_json(&format!("{}.json", stem(order)), note)
    }

    /// Forgets failures.
    pub fn forget_note(&self, order: &Order) {
        self.remove(&format!("{}.json", stem(order)));
    }

    /// An order that was finalized and not fetched.
    pub fn finalized(&self, order: &Order) -> Option<Finalized> {
        self.read_json(&format!("{}.order", stem(order)))
    }

    /// Keeps such an order.
    pub fn keep_finalized(&self, order: &Order, finalized: &Finalized) -> io::Result<()> {
        self.write_json(&format!("{}.order", stem(order)), finalized)
    }

    /// Forgets it.
    pub fn forget_finalized(&self, order: &Order) {
        self.remove(&format!("{}.order", stem(order)));
    }

    /// The account with an authority; `identity` is whatever makes it this one and no other.
    pub fn account<T: DeserializeOwned>(&self, identity: &[&str]) -> Option<T> {
        self.read_json(&account(identity))
    }

    /// Keeps an account.
    pub fn keep_account(&self, identity: &[&str], account_: &impl Serialize) -> io::Result<()> {
        self.write_json(&account(identity), account_)
    }

    /// Forgets an account.
    pub fn forget_account(&self, identity: &[&str]) {
        self.remove(&account(identity));
    }

    /// Locks an order, unless somebody else has done so.
    pub fn lock(&self, order: &Order) -> io::Result<Locked> {
        let path = self.directory.join(format!("{}.lock", stem(order)));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(|error| at(&path, &error))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                file.set_len(0)?;
                write!(file, "process {}", std::process::id())?;
                Ok(Locked::Yes(Lock(file)))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = file.take(100).read_to_string(&mut holder);
                Ok(Locked::No(format!("{} is locked by {}", path.display(), crate::failure::clean(&holder))))
            }
            Err(error) => Err(at(&path, &error.into())),
        }
    }

    /// How many orders have files here.
    pub fn count(&self) -> usize {
        self.stems().len()
    }

    /// Removes what certificates that have expired have left, and orders of which nothing came for a day.
    pub fn sweep(&self, now: u64) {
        for stem in self.stems() {
            let is_used = match self.read_pair(&format!("{stem}.pem")) {
                Ok(stored) => stored.leaf.validity.until > now,
                Err(_) => KINDS.iter().any(|kind| self.is_fresh(&format!("{stem}.{kind}"))),
            };
            if !is_used {
                for kind in KINDS {
                    self.remove(&format!("{stem}.{kind}"));
                }
            }
        }
    }

    fn is_fresh(&self, name: &str) -> bool {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let written = fs::metadata(self.directory.join(name)).and_then(|metadata| metadata.modified());
        // A time to come is none that has passed.
        written.is_ok_and(|written| written.elapsed().map_or(true, |age| age < DAY))
    }

    fn stems(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let stems = names.filter_map(|name| {
            let (stem, kind) = name.rsplit_once('.')?;
            let is_hidden = stem.is_empty() || stem.starts_with('.') || stem.starts_with("account-");
            (!is_hidden && KINDS.contains(&kind)).then(|| stem.to_owned())
        });
        stems.collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.directory.join(name);
        let open = || {
            let mut text = Vec::new();
            let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
            let file = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "no file"));
            }
            file.take(FILE_SIZE + 1).read_to_end(&mut text)?;
            if text.len() as u64 > FILE_SIZE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "too large"));
            }
            Ok(text)
        };
        open().map_err(|error| at(&path, &error))
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        match self.read(name) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(value) => return Some(value),
                Err(error) => telemetry::error!("{}: {}", self.directory.join(name).display(), error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => telemetry::error!("{}", error),
        }
        None
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.write(name, &serde_json::to_vec(value)?)
    }

    /// Writes beside the file's place, brings it to the disk, and renames it.
    fn write(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let path = self.directory.join(name);
        let beside = self.directory.join(format!(".{name}.new"));
        let write = || {
            // What is left of a process that was killed.
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(contents)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|error| at(&path, &error))
    }

    fn remove(&self, name: &str) {
        let path = self.directory.join(name);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            telemetry::error!("{}", at(&path, &error));
        }
    }
}

/// A key's public half, as SubjectPublicKeyInfo.
pub(crate) fn public_key(pkcs8: &[u8]) -> Option<Vec<u8>> {
    KeyPair::try_from(pkcs8).ok().map(|key| key.subject_public_key_info())
}

const HASH_LENGTH: usize = 12;

/// The name of an order's files: its first identifier for people, and a hash of all that makes it what it is.
fn stem(order: &Order) -> String {
    let mut names = order.identifiers.clone();
    names.sort_unstable();
    let text = format!("{}\n{}", names.join("\n"), order.key.name());
    format!("{}-{}", file_name(&order.identifiers[0]), hash(&text))
}

fn account(identity: &[&str]) -> String {
    format!("account-{}.json", hash(&identity.join("\n")))
}

fn hash(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    let first = hash.iter().take(HASH_LENGTH / 2).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{first:0HASH_LENGTH$x}")
}

/// An identifier as a part of a file's name.
fn file_name(identifier: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
    let name: String = identifier.chars().take(150).map(safe).collect();
    // Not a hidden file, nor a way out.
    name.trim_start_matches('.').to_owned()
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut lines = vec![format!("-----BEGIN {label}-----")];
    lines.extend(base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()));
    lines.push(format!("-----END {label}-----\n"));
    lines.join("\n")
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use config::model::acme::Key;

    use super::*;
    use crate::key;

    const NOW: u64 = 1_700_000_000;

    fn order(names: &[&str]) -> Order {
        Order {
            name: names[0].to_owned(),
            identifiers: names.iter().map(|&name| name.to_owned()).collect(),
            key: Key::P256,
            issuers: vec![0],
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("state/acme")).unwrap();
        (directory, store)
    }

    fn files(store: &Store) -> Vec<String> {
        let entries = fs::read_dir(&store.directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn certificates_come_back_and_only_their_owner_reads_them() {
        let (_directory, store) = store();
        let order = order(&["*.a.example", "a.example"]);
        assert!(store.certificate(&order, NOW).is_none());
        let pair = key::temporary(&order.identifiers, NOW).unwrap();
        store.keep(&order, &pair).unwrap();
        store.keep(&order, &pair).unwrap();
        let (stored, is_own) = store.certificate(&order, NOW).unwrap();
        assert_eq!((stored.pair, is_own), (pair, true));
        let names = files(&store);
        assert_eq!(names.len(), 1, "{names:?}");
        assert!(names[0].starts_with("_.a.example-"), "{names:?}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.directory.join(&names[0])), 0o600);
        assert_eq!(mode(&store.directory), 0o700);
    }

    #[test]
    fn with_a_name_more_the_old_certificate_goes_on() {
        let (_directory, store) = store();
        let before = order(&["a.example"]);
        let pair = key::temporary(&before.identifiers, NOW).unwrap();
        store.keep(&before, &pair).unwrap();
        let after = order(&["a.example", "www.a.example"]);
        let (stored, is_own) = store.certificate(&after, NOW).unwrap();
        assert_eq!((stored.pair, is_own), (pair, false));
        assert!(store.certificate(&after, NOW + 365 * 86400).is_none(), "not when it has expired");
        assert!(store.certificate(&order(&["b.example"]), NOW).is_none());
        // The order of names does not make another certificate, except that the first names the file.
        assert_eq!(stem(&order(&["a", "b", "c"])), stem(&order(&["a", "c", "b"])));
    }

    #[test]
    fn damaged_files_are_none() {
        let (_directory, store) = store();
        let order = order(&["a.example"]);
        let path = store.directory.join(format!("{}.pem", stem(&order)));
        let pair = key::temporary(&order.identifiers, NOW).unwrap();
        let other = key::temporary(&order.identifiers, NOW).unwrap();
        let whole = |key: &[u8]| format!("{}{}", pem("PRIVATE KEY", key), pem("CERTIFICATE", &pair.chain[0]));
        for text in
            [String::new(), "x".to_owned(), whole(&other.key), whole(b"x"), pem("PRIVATE KEY", &pair.key)]
        {
            fs::write(&path, text).unwrap();
            assert!(store.own(&order).is_none());
        }
        fs::write(&path, whole(&pair.key)).unwrap();
        assert!(store.own(&order).is_some());
        fs::write(&path, vec![b'\n'; FILE_SIZE as usize + 1]).unwrap();
        assert!(store.own(&order).is_none());
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(store.own(&order).is_none());
    }

    #[test]
    fn a_second_one_is_told_who_has_the_lock() {
        let (_directory, store) = store();
        let order = order(&["a.example"]);
        let Locked::Yes(lock) = store.lock(&order).unwrap() else { panic!("it is free") };
        let Locked::No(why) = store.lock(&order).unwrap() else { panic!("it is taken") };
        assert!(why.contains(&format!("process {}", std::process::id())), "{why}");
        drop(lock);
        assert!(matches!(store.lock(&order).unwrap(), Locked::Yes(_)));
    }

    #[test]
    fn notes_orders_and_accounts_are_kept() {
        let (_directory, store) = store();
        let order = order(&["a.example"]);
        assert_eq!(store.note(&order), Note::default());
        let note = Note::from([("d".into(), Rest { failures: 3, next: 99, error: "x".into() })]);
        store.keep_note(&order, &note).unwrap();
        assert_eq!(store.note(&order), note);
        store.forget_note(&order);
        store.forget_note(&order);
        assert_eq!(store.note(&order), Note::default());
        let finalized = Finalized { authority: "d".into(), url: "u".into(), key: "k".into() };
        store.keep_finalized(&order, &finalized).unwrap();
        assert_eq!(store.finalized(&order), Some(finalized));
        store.keep_account(&["a", "b"], &"secret").unwrap();
        assert_eq!(store.account::<String>(&["a", "b"]).as_deref(), Some("secret"));
        assert_eq!(store.account::<String>(&["a", "c"]), None);
    }

    #[test]
    fn what_is_of_no_use_is_swept() {
        let (_directory, store) = store();
        let (old, new, failed, given_up) = (
            order(&["old.example"]),
            order(&["new.example"]),
            order(&["failed.example"]),
            order(&["gone.example"]),
        );
        store.keep(&old, &key::temporary(&old.identifiers, NOW - 30 * 86400).unwrap()).unwrap();
        store.keep(&new, &key::temporary(&new.identifiers, NOW).unwrap()).unwrap();
        store.keep_note(&failed, &Note::default()).unwrap();
        store.keep_note(&given_up, &Note::default()).unwrap();
        let _ = store.lock(&given_up).unwrap();
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 86400);
        for kind in ["json", "lock"] {
            let path = store.directory.join(format!("{}.{kind}", stem(&given_up)));
            File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
        store.keep_account(&["a"], &"secret").unwrap();
        assert_eq!(store.count(), 4);
        store.sweep(NOW);
        assert_eq!(store.stems(), BTreeSet::from([stem(&new), stem(&failed)]));
        assert!(store.account::<String>(&["a"]).is_some());
    }

    #[test]
    fn names_of_files_lead_nowhere() {
        assert_eq!(file_name("../../etc/passwd"), "_.._etc_passwd");
        assert_eq!(file_name("::1"), "__1");
    }
}
