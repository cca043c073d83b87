//! The temporary files of a process and the space they take together.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

/// Why bytes could not go to a temporary file.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// All temporary files together have reached their cap. Passes when others are done: 503.
    #[error("temporary files have reached their cap of {cap} bytes")]
    CapReached {
        /// The cap, bytes.
        cap: u64,
    },
    /// The disk is full (or a quota, or a limit on file size): 507.
    #[error("no space for a temporary file in {}: {error}", .dir.display())]
    DiskFull {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Something else is wrong with the directory: 500.
    #[error("temporary file in {}: {error}", .dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl SpillError {
    /// The status to answer with.
    pub const fn status(&self) -> u16 {
        match self {
            Self::CapReached { .. } => 503,
            Self::DiskFull { .. } => 507,
            Self::Io { .. } => 500,
        }
    }
}

/// What becomes of a file with a name when its [`TempFile`] is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// It stays. Its bytes no longer count as temporary then.
    Keep,
    /// It is removed.
    Remove,
}

/// So many numbers are tried for a name.
const TRIES: usize = 100;

/// Where temporary files are made, and how much they may hold together.
#[derive(Debug)]
pub struct TempSpace {
    dir: PathBuf,
    cap: u64,
    used: AtomicU64,
    /// The last number that a body's file was given.
    number: AtomicU64,
}

impl TempSpace {
    /// Files in `dir`, together at most `cap` bytes.
    pub fn new(dir: impl Into<PathBuf>, cap: u64) -> Arc<Self> {
        Arc::new(Self { dir: dir.into(), cap, used: AtomicU64::new(0), number: AtomicU64::new(0) })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes in use now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether a byte more would fit under the cap.
    pub fn has_room(&self) -> bool {
        self.used() < self.cap
    }

    /// Makes an empty file that has no name (`O_TMPFILE`; where the file system lacks it, a name that is
    /// unlinked at once), mode 0600.
    pub fn create(self: &Arc<Self>) -> Result<TempFile, SpillError> {
        let file = nameless(&self.dir).map_err(|error| self.error(error))?;
        Ok(self.temp_file(file, PathBuf::new(), None))
    }

    /// The same for a body, whose file has a number; with `named` it is a name in the directory.
    pub(crate) fn create_for_body(self: &Arc<Self>, named: Option<Named>) -> Result<TempFile, SpillError> {
        let mut path = self.numbered();
        if named.is_none() {
            let file = nameless(&self.dir).map_err(|error| self.error(error))?;
            return Ok(self.temp_file(file, path, None));
        }
        for _ in 0..TRIES {
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(self.temp_file(file, path, named)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // Of an earlier process: far away from those that it made.
                    let far = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), &path);
                    self.number.fetch_add(far % 1_000_000_000, Ordering::Relaxed);
                    path = self.numbered();
                }
                Err(error) => return Err(self.error(error)),
            }
        }
        Err(self.error(io::ErrorKind::AlreadyExists.into()))
    }

    /// A path as nginx makes them.
    fn numbered(&self) -> PathBuf {
        let number = self.number.fetch_add(1, Ordering::Relaxed).wrapping_add(1) % 10_000_000_000;
        self.dir.join(format!("{number:010}"))
    }

    fn temp_file(self: &Arc<Self>, file: File, path: PathBuf, named: Option<Named>) -> TempFile {
        let lease = Lease { space: Arc::clone(self), bytes: 0 };
        TempFile { file: Arc::new(file), len: 0, path, named, lease }
    }

    fn take(&self, bytes: u64) -> Result<(), SpillError> {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= self.cap)
            })
            .map_or(Err(SpillError::CapReached { cap: self.cap }), |_| Ok(()))
    }

    fn error(&self, error: io::Error) -> SpillError {
        let dir = self.dir.clone();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                SpillError::DiskFull { dir, error }
            }
            _ => SpillError::Io { dir, error },
        }
    }
}

fn nameless(dir: &Path) -> io::Result<File> {
    let flag = rustix::fs::OFlags::TMPFILE.bits() as i32;
    match OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flag).open(dir) {
        // Some file systems (overlays of old kernels, NFS) lack it, and say so in one of three ways.
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL)
            ) =>
        {
            Ok(tempfile::Builder::new().prefix("monoceros-").tempfile_in(dir)?.into_file())
        }
        other => other,
    }
}

/// Space that is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    space: Arc<TempSpace>,
    bytes: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.space.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A temporary file that is only appended to. Its space is given back when it is dropped.
#[derive(Debug)]
pub struct TempFile {
    file: Arc<File>,
    len: u64,
    path: PathBuf,
    named: Option<Named>,
    lease: Lease,
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if self.named == Some(Named::Remove) {
            // Somebody may have removed or renamed it before.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl TempFile {
    /// Bytes in it.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was appended yet.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it lies, if it has a name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file; read it with positioned reads only.
    pub const fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Appends all of `data`.
    ///
    /// # Errors
    /// After an error the file holds what it held before, and appending may be tried again.
    pub fn append(&mut self, data: &[u8]) -> Result<(), SpillError> {
        let bytes = data.len() as u64;
        self.lease.space.take(bytes)?;
        self.lease.bytes += bytes;
        // The offset of the open file is nobody else's: readers read at positions.
        if let Err(error) = (&*self.file).write_all(data) {
            self.lease.bytes -= bytes;
            self.lease.space.used.fetch_sub(bytes, Ordering::Relaxed);
            let cut = self
                .file
                .set_len(self.len)
                .and_then(|()| io::Seek::seek(&mut &*self.file, io::SeekFrom::Start(self.len)).map(drop));
            return Err(self.lease.space.error(cut.err().unwrap_or(error)));
        }
        self.len += bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn space_is_shared_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let space = TempSpace::new(dir.path(), 10);
        let mut one = space.create().unwrap();
        one.append(b"123456").unwrap();
        let mut two = space.create().unwrap();
        assert_eq!(two.append(b"12345").unwrap_err().status(), 503);
        assert!(two.is_empty());
        two.append(b"1234").unwrap();
        assert!(!space.has_room());
        drop(one);
        assert_eq!(space.used(), 4);
        two.append(b"567890").unwrap();
        assert_eq!(two.len(), 10);
        let mut read = [0; 10];
        two.file().read_exact_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"1234567890");
        drop(two);
        assert_eq!(space.used(), 0);
    }

    #[test]
    fn a_file_has_no_name_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let file = TempSpace::new(dir.path(), 10).create().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(file.file().metadata().unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_directory_that_is_gone_is_named() {
        let error = TempSpace::new("/nonexistent/here", 10).create().unwrap_err();
        assert_eq!(error.status(), 500);
        assert!(error.to_string().contains("/nonexistent/here"), "{error}");
    }
}
