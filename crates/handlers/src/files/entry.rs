//! What a path turned out to be, with everything that answering needs made ready.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use exchange::{AcceptEncoding, Coding, Fields, FileIdentity, Name, Validators, http_date};
use rustix::io::Errno;

use super::FileOptions;
use super::mime::content_type;
use super::root::Root;

/// What a path names.
#[derive(Debug)]
pub enum Entry {
    /// A regular file, or the index file of a directory.
    File(Resource),
    /// A directory, named without its slash.
    Directory,
    /// A directory without an index file, or what may not be read.
    Forbidden,
}

/// A file and its precompressed forms.
#[derive(Debug)]
pub struct Resource {
    plain: Rc<Representation>,
    coded: Vec<(Coding, Rc<Representation>)>,
}

/// One form of a file.
#[derive(Debug)]
pub struct Representation {
    /// Its bytes.
    pub content: Content,
    /// Number of bytes.
    pub size: u64,
    /// The fields of a 200.
    pub fields: Fields,
    /// The fields of a 304.
    pub validators: Fields,
    etag: Box<[u8]>,
    modified: Option<u64>,
    date_is_strong: bool,
    stamp: Stamp,
    /// For [`exchange::Response::of_file`].
    pub identity: Option<Rc<FileIdentity>>,
}

/// Where the bytes are.
#[derive(Debug)]
pub enum Content {
    /// In memory: head and body leave in one write, and no descriptor is held.
    Memory(Bytes),
    /// In the file.
    File(Arc<File>),
}

/// What tells that a file is still the same, bytes and all, and that what was made of it still holds.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    varies: bool,
}

impl Entry {
    /// Looks at the file system. What `old` knows is used again where the file is unchanged. Files of at
    /// most `inline` bytes are read into memory. `ENOENT` for whatever is to look like nothing.
    pub fn load(
        root: &Root,
        path: &[u8],
        options: &FileOptions,
        inline: u64,
        old: Option<&Self>,
    ) -> Result<Self, Errno> {
        let old = match old {
            Some(Self::File(resource)) => Some(resource),
            _ => None,
        };
        match Self::open(root, path, options, inline, old) {
            Err(Errno::ACCESS | Errno::PERM) => Ok(Self::Forbidden),
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO)) => Err(error),
            // Missing, a link out of the directory, a name too long, a socket: all the same to the client.
            Err(_) => Err(Errno::NOENT),
            Ok(entry) => Ok(entry),
        }
    }

    fn open(
        root: &Root,
        path: &[u8],
        options: &FileOptions,
        inline: u64,
        old: Option<&Resource>,
    ) -> Result<Self, Errno> {
        if !path.is_empty() && !path.ends_with(b"/") {
            let (file, stat) = open(root, path)?;
            if stat.is_dir() {
                return Ok(Self::Directory);
            }
            return Resource::new(root, path, file, &stat, options, inline, old).map(Self::File);
        }
        for name in &options.index {
            let path = [path, name.as_bytes()].concat();
            match open(root, &path) {
                Ok((file, stat)) if stat.is_file() => {
                    return Resource::new(root, &path, file, &stat, options, inline, old).map(Self::File);
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        open(root, path).map(|_| Self::Forbidden)
    }

    /// Bytes of file content held in memory.
    pub fn memory(&self) -> u64 {
        let held = |form: &Rc<Representation>| match &form.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(_) => 0,
        };
        match self {
            Self::File(resource) => {
                held(&resource.plain) + resource.coded.iter().map(|(_, form)| held(form)).sum::<u64>()
            }
            _ => 0,
        }
    }
}

fn open(root: &Root, path: &[u8]) -> Result<(File, std::fs::Metadata), Errno> {
    let file = root.open_beneath(path)?;
    let stat = file.metadata().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    Ok((file, stat))
}

impl Resource {
    fn new(
        root: &Root,
        path: &[u8],
        file: File,
        stat: &std::fs::Metadata,
        options: &FileOptions,
        inline: u64,
        old: Option<&Self>,
    ) -> Result<Self, Errno> {
        if !stat.is_file() {
            return Err(Errno::NOENT);
        }
        let mut forms = Vec::new();
        if options.precompressed {
            for coding in Coding::ALL {
                let Ok((file, form)) = open(root, &[path, coding.extension().as_bytes()].concat()) else {
                    continue;
                };
                // An older one was made of something else. Whole seconds: archives and copies often keep no more.
                if form.is_file() && form.mtime() >= stat.mtime() {
                    forms.push((coding, file, form));
                }
            }
        }
        let varies = !forms.is_empty();
        let media_type = content_type(path, &options.types);
        let old_plain = old.map(|old| &old.plain);
        let plain = Representation::new(file, stat, None, &media_type, varies, inline, old_plain)?;
        let mut coded = Vec::with_capacity(forms.len());
        for (coding, file, stat) in forms {
            let old = old.and_then(|old| old.coded.iter().find(|(c, _)| *c == coding)).map(|(_, form)| form);
            let form = Representation::new(file, &stat, Some(coding), &media_type, varies, inline, old)?;
            coded.push((coding, form));
        }
        Ok(Self { plain, coded })
    }

    /// The form to send to a client.
    pub fn form(&self, fields: &Fields) -> &Representation {
        if self.coded.is_empty() || !fields.has(Name::AcceptEncoding) {
            return &self.plain;
        }
        let chosen = AcceptEncoding::of(fields).choose(self.coded.iter().map(|(coding, _)| *coding));
        self.coded.iter().find(|(coding, _)| Some(*coding) == chosen).map_or(&self.plain, |(_, form)| form)
    }

    /// The file itself.
    pub fn plain(&self) -> &Representation {
        &self.plain
    }
}

impl Representation {
    fn new(
        file: File,
        stat: &std::fs::Metadata,
        coding: Option<Coding>,
        media_type: &str,
        varies: bool,
        inline: u64,
        old: Option<&Rc<Self>>,
    ) -> Result<Rc<Self>, Errno> {
        let stamp = Stamp {
            device: stat.dev(),
            inode: stat.ino(),
            size: stat.len(),
            modified: (stat.mtime(), stat.mtime_nsec()),
            changed: (stat.ctime(), stat.ctime_nsec()),
            varies,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified = u64::try_from(stat.mtime()).ok();
        // A file written within this second can be written again without its date showing it.
        let date_is_strong = modified.is_some_and(|modified| modified < now.as_secs());
        if let Some(old) = old
            && old.stamp == stamp
            && old.date_is_strong == date_is_strong
        {
            return Ok(Rc::clone(old));
        }
        let size = stat.len();
        let content = match read_small(&file, size, inline)? {
            Some(bytes) => Content::Memory(bytes),
            None => Content::File(Arc::new(file)),
        };

        let (seconds, nanos) = stamp.modified;
        let mut etag = format!("\"{seconds:x}.{nanos:x}-{size:x}");
        if let Some(coding) = coding {
            etag.push('-');
            etag.push_str(coding.as_str());
        }
        etag.push('"');

        let mut validators = Fields::new();
        validators.push_known(Name::ETag, etag.as_bytes());
        if let Some(modified) = modified {
            validators.push_known(Name::LastModified, &http_date(modified));
        }
        if varies {
            validators.push_known(Name::Vary, b"Accept-Encoding");
        }
        let mut fields = Fields::new();
        fields.push_known(Name::ContentType, media_type.as_bytes());
        if let Some(coding) = coding {
            fields.push_known(Name::ContentEncoding, coding.as_str().as_bytes());
        }
        for (name, _, value) in validators.iter() {
            fields.push_known(name, value);
        }
        fields.push_known(Name::AcceptRanges, b"bytes");
        let etag = etag.into_bytes().into_boxed_slice();
        let identity = date_is_strong.then(|| {
            Rc::new(FileIdentity {
                device: stamp.device,
                inode: stamp.inode,
                size,
                modified: stamp.modified,
                changed: stamp.changed,
            })
        });
        Ok(Rc::new(Self {
            content,
            size,
            fields,
            validators,
            etag,
            modified,
            date_is_strong,
            stamp,
            identity,
        }))
    }

    /// What preconditions are held against.
    pub fn validators(&self) -> Validators<'_> {
        Validators {
            etag: Some(&self.etag),
            last_modified: self.modified,
            date_is_strong: self.date_is_strong,
        }
    }

    /// `Content-Type`.
    pub fn media_type(&self) -> &[u8] {
        self.fields.first(Name::ContentType).unwrap_or_default()
    }
}

/// The bytes of a file of at most `inline` bytes; `None` when it is larger or being truncated right now.
fn read_small(file: &File, size: u64, inline: u64) -> Result<Option<Bytes>, Errno> {
    if size > inline {
        return Ok(None);
    }
    let mut bytes = vec![0; size as usize];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}
