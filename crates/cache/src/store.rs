//! Writing what is kept: into a file beside its place, which is moved there when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::checksum::Checksum;
use crate::entry::{FIXED, Identity, Meta, SMALL, Stored};
use crate::zone::{Ticket, Zone};

/// Other times for what is kept already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// When it was asked for.
    pub date: u64,
    /// Until when it holds.
    pub valid: u64,
    /// See [`Meta::updating`].
    pub updating: u64,
    /// See [`Meta::error`].
    pub error: u64,
}

/// An answer on its way into the cache. Dropped before [`Writer::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    ticket: Ticket,
    file: Arc<File>,
    name: TempName,
    path: PathBuf,
    meta: Meta,
    texts: u32,
    start: u64,
    length: u64,
    sum: Checksum,
    /// The body, as long as it is small.
    small: Option<Vec<u8>>,
}

impl Writer {
    /// Begins. The error is one of the disk: then the answer is not kept.
    pub fn begin(ticket: Ticket, meta: Meta) -> io::Result<Self> {
        let path = ticket.path();
        let (file, name) = create(ticket.zone(), &path)?;
        let texts = meta.texts();
        file.write_all_at(&texts, FIXED as u64)?;
        Ok(Self {
            ticket,
            file: Arc::new(file),
            name,
            path,
            start: meta.body_start(),
            meta,
            texts: Checksum::of(&texts),
            length: 0,
            sum: Checksum::new(),
            small: Some(Vec::new()),
        })
    }

    /// The next bytes of the body.
    pub fn push(&mut self, data: &[u8]) -> io::Result<()> {
        let most = self.ticket.zone().model().max_size;
        if most.is_some_and(|most| self.length + data.len() as u64 > most) {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "it is larger than all of the cache may be",
            ));
        }
        self.file.write_all_at(data, self.start + self.length)?;
        self.length += data.len() as u64;
        self.sum.add(data);
        if let Some(small) = &mut self.small {
            if self.length <= SMALL {
                small.extend_from_slice(data);
            } else {
                self.small = None;
            }
        }
        Ok(())
    }

    /// The file that is written, and where the body begins in it: what was pushed can be read there.
    pub fn file(&self) -> (&Arc<File>, u64) {
        (&self.file, self.start)
    }

    /// The body has ended: from now on it is there for all.
    pub fn finish(mut self) -> io::Result<()> {
        let sum = self.sum.finish();
        self.file.write_all_at(&self.meta.fixed(self.texts, self.length, sum), 0)?;
        self.name.place(&self.path)?;
        let size = self.file.metadata()?.blocks() * 512;
        let small = self.small.take().map(Bytes::from);
        let meta = std::mem::take(&mut self.meta);
        let file = self.file.try_clone()?;
        let stored = Stored::written(meta.clone(), (self.texts, sum), file, self.length, small)?;
        self.ticket.stored(stored.map(Arc::new).as_ref(), size.max(self.start + self.length), &meta);
        Ok(())
    }
}

impl Zone {
    /// What is kept holds anew. Whoever reads meanwhile sees the one or the other; of a torn block the checksum is
    /// wrong.
    pub fn renew(&self, ticket: &Ticket, stored: &Stored, renewed: Renewed) -> io::Result<()> {
        let Renewed { date, valid, updating, error } = renewed;
        let meta = Meta { date, valid, updating, error, ..stored.meta.clone() };
        let file = match OpenOptions::new().write(true).open(ticket.path()) {
            // It was purged meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        // Another may lie there by now.
        if Identity::of(&file.metadata()?) == stored.identity {
            file.write_all_at(&stored.fixed(&meta), 0)?;
            ticket.renewed(stored.is_verified().then_some(Identity::of(&file.metadata()?)));
        }
        Ok(())
    }
}

/// A file with a name that goes when nobody has given it another.
#[derive(Debug)]
struct TempName(Option<PathBuf>);

impl TempName {
    fn place(&mut self, path: &Path) -> io::Result<()> {
        if let Some(name) = &self.0 {
            fs::rename(name, path)?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for TempName {
    fn drop(&mut self) {
        if let Some(name) = &self.0 {
            let _ = fs::remove_file(name);
        }
    }
}

/// Makes a file beside its place, and the directories of that.
fn create(zone: &Zone, path: &Path) -> io::Result<(File, TempName)> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.{}", std::process::id(), zone.number()));
    let name = PathBuf::from(name);
    let open = || OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&name);
    let file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            }
            open()
        }
        opened => opened,
    };
    Ok((file?, TempName(Some(name))))
}
