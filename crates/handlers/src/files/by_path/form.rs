//! A file, with all that answering with it needs made ready.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use exchange::{Coding, Fields, FileIdentity, Name, http_date};
use rustix::fs::{FileType, Stat};

/// Files of at most this many bytes are kept in memory.
pub const MAX_INLINE: u64 = 16 * 1024;

/// A file that was changed less than this ago can be changed again without its times showing it: the clock
/// of a file system may tick as slowly as this.
const UNSETTLED: Duration = Duration::from_secs(2);

/// Bytes of file content that a thread keeps in memory, counted.
#[derive(Debug)]
pub struct Memory {
    limit: u64,
    used: Cell<u64>,
}

impl Memory {
    /// At most `limit` bytes.
    pub fn new(limit: u64) -> Rc<Self> {
        Rc::new(Self { limit, used: Cell::new(0) })
    }

    /// Bytes that are in use.
    pub fn used(&self) -> u64 {
        self.used.get()
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.limit.saturating_sub(self.used.get()) >= bytes
    }
}

/// A piece of a thread's [`Memory`].
#[derive(Debug)]
struct Charge {
    memory: Rc<Memory>,
    bytes: u64,
}

impl Charge {
    fn new(memory: &Rc<Memory>, bytes: u64) -> Self {
        memory.used.set(memory.used.get() + bytes);
        Self { memory: Rc::clone(memory), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.used.set(self.memory.used.get() - self.bytes);
    }
}

/// An open file.
#[derive(Debug)]
pub struct Open(Arc<File>);

impl Open {
    pub fn new(fd: OwnedFd) -> Self {
        Self(Arc::new(File::from(fd)))
    }

    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.0)
    }
}

/// What tells that a file is still the same, bytes and all.
#[allow(clippy::unnecessary_cast, reason = "the types are other ones on other machines")]
pub fn identity(stat: &Stat) -> FileIdentity {
    FileIdentity {
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        size: stat.st_size as u64,
        modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
    }
}

/// Whether any later change will show.
fn is_settled(identity: &FileIdentity) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = Duration::from_secs(identity.changed.0.max(identity.modified.0).max(0) as u64);
    now.checked_sub(changed).is_some_and(|age| age >= UNSETTLED)
}

/// What kind of thing this is.
pub fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// A file that was just opened.
#[derive(Debug)]
pub struct Looked<'a> {
    /// It.
    pub file: &'a Open,
    /// What it is.
    pub identity: FileIdentity,
    /// Where its content is counted.
    pub memory: &'a Rc<Memory>,
}

/// A file as it was when it was opened.
#[derive(Debug)]
pub struct Form {
    identity: Rc<FileIdentity>,
    settled: bool,
    content: Option<(Bytes, Charge)>,
    extension: Box<[u8]>,
    /// The fields of a 200.
    pub fields: Fields,
}

impl Form {
    /// Makes the fields, and reads a small file into memory.
    pub fn new(
        looked: &Looked<'_>,
        extension: &[u8],
        media_type: &[u8],
        coding: Option<Coding>,
        etag: bool,
        ranges: bool,
    ) -> Self {
        let Looked { file, identity, memory } = looked;
        let content = read_small(&file.0, identity.size, memory);
        let mut fields = Fields::new();
        if !media_type.is_empty() {
            fields.push_known(Name::ContentType, media_type);
        }
        let (modified, size) = (identity.modified.0, identity.size);
        if let Ok(modified) = u64::try_from(modified) {
            fields.push_known(Name::LastModified, &http_date(modified));
        }
        if etag {
            fields.push_known(Name::ETag, format!("\"{modified:x}-{size:x}\"").as_bytes());
        }
        if let Some(coding) = coding {
            fields.push_known(Name::ContentEncoding, coding.as_str().as_bytes());
        }
        // As in nginx none are taken of a precompressed file.
        if ranges && coding.is_none() {
            fields.push_known(Name::AcceptRanges, b"bytes");
        }
        let settled = is_settled(identity);
        Self { identity: Rc::new(identity.clone()), settled, content, extension: extension.into(), fields }
    }

    /// Whether this is what a look at the path shows now, so that it can be sent again.
    pub fn is_still(&self, identity: &FileIdentity) -> bool {
        self.settled && *self.identity == *identity
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.identity.size
    }

    /// Which file's bytes these are, if that can be told.
    pub fn identity(&self) -> Option<Rc<FileIdentity>> {
        self.settled.then(|| Rc::clone(&self.identity))
    }

    /// The bytes, if they are kept.
    pub fn content(&self) -> Option<&Bytes> {
        self.content.as_ref().map(|(bytes, _)| bytes)
    }

    /// By which the media type was found.
    pub fn extension(&self) -> &[u8] {
        &self.extension
    }
}

/// The bytes of a small file; `None` when it is large, or is being truncated or cannot be read right now.
fn read_small(file: &File, size: u64, memory: &Rc<Memory>) -> Option<(Bytes, Charge)> {
    if size > MAX_INLINE || !memory.has_room(size) {
        return None;
    }
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some((bytes.into(), Charge::new(memory, size)))
}
