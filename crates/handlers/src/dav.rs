//! `dav_methods`: PUT, DELETE, MKCOL, COPY and MOVE on files.
//!
//! The caller has joined root and path, so that no path here climbs, and calls from where it may block. What is written
//! is written beside its place and takes it when it is whole.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use buffering::BufferedBody;
use config::model::http::LogLevel;
use rustix::io::Errno;

/// Directories that may lie within each other in what is copied.
const DEPTH: u32 = 256;

/// Why something was not done.
#[derive(Debug)]
pub struct Failed {
    /// The page to answer with.
    pub status: u16,
    /// For the log.
    pub level: LogLevel,
    /// For the log.
    pub words: String,
}

impl Failed {
    /// The client asks for what cannot be.
    pub fn refused(status: u16, words: impl Into<String>) -> Self {
        Self { status, level: LogLevel::Error, words: words.into() }
    }

    /// What nginx makes of a system's error; what is not there is `absent`.
    fn of(error: &io::Error, absent: u16, call: &str, path: &Path) -> Self {
        let (status, level) = match Errno::from_io_error(error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => (absent, LogLevel::Error),
            Some(Errno::ACCESS | Errno::PERM) => (403, LogLevel::Error),
            Some(Errno::EXIST) => (405, LogLevel::Error),
            Some(Errno::NOSPC | Errno::DQUOT) => (507, LogLevel::Crit),
            _ => (500, LogLevel::Crit),
        };
        Self { status, level, words: format!("{call} \"{}\" failed ({error})", path.display()) }
    }
}

/// How what is made may be used by others.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// The mode of files: `dav_access`.
    pub mode: u32,
}

impl Access {
    /// Who may read a directory may go through it.
    const fn of_directories(self) -> u32 {
        self.mode | (self.mode & 0o444) >> 2
    }
}

/// What a path of the caller is to the system.
pub fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// PUT; tells whether the file is a new one. `full_path` makes directories that are not there.
pub fn put(
    path: &Path,
    body: &BufferedBody,
    access: Access,
    full_path: bool,
    modified: Option<u64>,
) -> Result<bool, Failed> {
    let is_new = match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(Failed::refused(
                409,
                format!("\"{}\" could not be created (Is a directory)", path.display()),
            ));
        }
        Ok(_) => false,
        Err(_) => true,
    };
    if full_path {
        make_parents(path, access)?;
    }
    let times = modified.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    write_beside(path, access.mode, times, |out| write_body(body, out))?;
    Ok(is_new)
}

/// DELETE: a file, or with `directory` all that is in a directory, and itself.
pub fn delete(path: &Path, directory: bool) -> Result<(), Failed> {
    let (deleted, call) =
        if directory { (fs::remove_dir_all(path), "rmdir()") } else { (fs::remove_file(path), "unlink()") };
    deleted.map_err(|error| Failed::of(&error, 404, call, path))
}

/// MKCOL
pub fn make_collection(path: &Path, access: Access) -> Result<(), Failed> {
    make_directory(path, access.of_directories()).map_err(|error| Failed::of(&error, 409, "mkdir()", path))
}

/// Whether a directory is there, links not followed.
pub fn is_collection(path: &Path, absent: u16) -> Result<bool, Failed> {
    let found = fs::symlink_metadata(path);
    found.map(|found| found.is_dir()).map_err(|error| {
        // A file in the place of a directory is a conflict.
        let absent = if error.kind() == io::ErrorKind::NotADirectory { 409 } else { absent };
        Failed::of(&error, absent, "lstat()", path)
    })
}

/// What COPY and MOVE do.
#[derive(Debug)]
pub struct Transfer {
    /// What is copied, without a slash at its end.
    pub from: PathBuf,
    /// Where to, likewise.
    pub to: PathBuf,
    /// Both are directories.
    pub collection: bool,
    /// MOVE
    pub moves: bool,
    /// What is there already may be replaced.
    pub overwrite: bool,
    /// For directories that have to be made.
    pub access: Access,
}

impl Transfer {
    /// Does it; the status to answer with.
    pub fn run(&self) -> Result<u16, Failed> {
        let Self { from, to, .. } = self;
        let there = match fs::symlink_metadata(to) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failed::of(&error, 404, "lstat()", to)),
        };
        if let Some(there) = &there {
            if there.is_dir() && !self.collection {
                let (from, to) = (from.display(), to.display());
                return Err(Failed::refused(
                    409,
                    format!("\"{from}\" could not be put on collection \"{to}\""),
                ));
            }
            if !self.overwrite {
                let words = format!("\"{}\" could not be created (File exists)", to.display());
                return Err(Failed::refused(412, words));
            }
        }
        let source = fs::symlink_metadata(from).map_err(|error| Failed::of(&error, 404, "lstat()", from))?;
        if !source.is_dir() {
            return self.file(&source);
        }
        if !self.collection {
            return Err(Failed::refused(400, format!("\"{}\" is collection", from.display())));
        }
        if let Some(there) = there {
            delete(to, there.is_dir())?;
        }
        if self.moves && fs::rename(from, to).is_ok() {
            return Ok(201);
        }
        copy_tree(from, to, &source, 0)?;
        if self.moves {
            delete(from, true)?;
        }
        Ok(201)
    }

    fn file(&self, source: &fs::Metadata) -> Result<u16, Failed> {
        if self.moves {
            make_parents(&self.to, self.access)?;
            if fs::rename(&self.from, &self.to).is_ok() {
                return Ok(204);
            }
        }
        copy_file(&self.from, &self.to, source)?;
        if self.moves {
            delete(&self.from, false)?;
        }
        Ok(204)
    }
}

/// Links and what is neither file nor directory are left out.
fn copy_tree(from: &Path, to: &Path, source: &fs::Metadata, depth: u32) -> Result<(), Failed> {
    if depth == DEPTH {
        return Err(Failed::refused(500, format!("\"{}\" is too deep to be copied", from.display())));
    }
    let mode = source.permissions().mode() & 0o7777;
    make_directory(to, mode | 0o700).map_err(|error| Failed::of(&error, 404, "mkdir()", to))?;
    let unread = |error: &io::Error| Failed::of(error, 404, "readdir()", from);
    for entry in fs::read_dir(from).map_err(|error| unread(&error))? {
        let entry = entry.map_err(|error| unread(&error))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let found = entry.metadata().map_err(|error| Failed::of(&error, 404, "lstat()", &from))?;
        if found.is_dir() {
            copy_tree(&from, &to, &found, depth + 1)?;
        } else if found.is_file() {
            copy_file(&from, &to, &found)?;
        }
    }
    let times = source.modified().and_then(|time| File::open(to)?.set_modified(time));
    let permissions = fs::set_permissions(to, Permissions::from_mode(mode));
    times.and(permissions).map_err(|error| Failed::of(&error, 404, "utimes()", to))
}

fn copy_file(from: &Path, to: &Path, source: &fs::Metadata) -> Result<(), Failed> {
    let mut file = File::open(from).map_err(|error| Failed::of(&error, 404, "open()", from))?;
    // It may have become another one since it was looked at.
    let opened = file.metadata().map_err(|error| Failed::of(&error, 404, "fstat()", from))?;
    if (opened.dev(), opened.ino()) != (source.dev(), source.ino()) {
        return Err(Failed::refused(500, format!("\"{}\" has changed while it was copied", from.display())));
    }
    let mode = source.permissions().mode() & 0o777;
    write_beside(to, mode, source.modified().ok(), |out| io::copy(&mut file, out).map(|_| ()))
}

/// Writes a file beside its place and puts it there.
fn write_beside(
    path: &Path,
    mode: u32,
    modified: Option<SystemTime>,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), Failed> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let failed = |error: &io::Error, call| Failed::of(error, 500, call, path);
    let mut made = tempfile::Builder::new()
        .prefix(".monoceros-")
        .tempfile_in(parent)
        .map_err(|error| failed(&error, "open()"))?;
    write(made.as_file_mut()).map_err(|error| failed(&error, "write()"))?;
    let file = made.as_file();
    file.set_permissions(Permissions::from_mode(mode)).map_err(|error| failed(&error, "chmod()"))?;
    if let Some(time) = modified {
        file.set_modified(time).map_err(|error| failed(&error, "utimes()"))?;
    }
    made.persist(path).map_err(|error| failed(&error.error, "rename()"))?;
    Ok(())
}

fn write_body(body: &BufferedBody, out: &mut File) -> io::Result<()> {
    match body {
        BufferedBody::Empty => Ok(()),
        BufferedBody::Memory(bytes) => out.write_all(bytes),
        BufferedBody::File(spilled) => {
            let mut source = From { file: spilled.file(), at: 0, left: spilled.len() };
            io::copy(&mut source, out).map(|_| ())
        }
    }
}

/// A file that others read too, from its beginning.
struct From<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for From<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

fn make_parents(path: &Path, access: Access) -> Result<(), Failed> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let missing: Vec<_> = parent.ancestors().take_while(|directory| !directory.exists()).collect();
    for directory in missing.into_iter().rev() {
        match make_directory(directory, access.of_directories()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failed::of(&error, 500, "mkdir()", directory)),
        }
    }
    Ok(())
}

/// As in nginx the process's mask holds for directories, and for files it does not.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path)
}
