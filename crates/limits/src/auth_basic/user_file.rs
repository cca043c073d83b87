//! `auth_basic_user_file`: `name:password[:comment]`, one user a line.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use config::model::http::LogLevel;

use super::{Password, UnsupportedPassword};

/// Bytes of the largest file that is read: some two hundred thousand users.
pub const LARGEST_FILE: u64 = 16 * 1024 * 1024;

/// Bytes of files that are kept at most; the one that was asked longest ago goes first.
const KEPT: u64 = 2 * LARGEST_FILE;
/// Files that are kept at most, whatever their size. Their paths may come from variables.
const MOST_KEPT: usize = 256;

/// Why a file does not tell what a user must prove.
#[derive(Debug, thiserror::Error)]
pub enum UserFileError {
    /// There is no such file.
    #[error("open() \"{}\" failed (2: No such file or directory)", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("open() \"{}\" failed ({})", path.display(), errno(source))]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a socket or the like.
    #[error("pread() \"{}\" failed (21: Is a directory), or it is no regular file", path.display())]
    NoFile {
        /// Which.
        path: PathBuf,
    },
    /// Larger than [`LARGEST_FILE`].
    #[error("auth_basic_user_file \"{}\" has more than {LARGEST_FILE} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// The user's password is stored in a form that is not supported.
    #[error("the password of user \"{user}\" in \"{}\": {source}", path.display())]
    Password {
        /// Which.
        path: PathBuf,
        /// Whose password.
        user: String,
        /// Why.
        source: UnsupportedPassword,
    },
}

/// An error of the system as nginx writes it.
fn errno(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => format!("{number}: {}", text.split(" (os error").next().unwrap_or(&text)),
        None => text,
    }
}

impl UserFileError {
    /// What the request is answered with, as nginx does.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Missing { .. } => 403,
            Self::Password { .. } => 401,
            _ => 500,
        }
    }

    /// How grave it is, as in nginx.
    pub const fn level(&self) -> LogLevel {
        if matches!(self, Self::Missing { .. }) { LogLevel::Error } else { LogLevel::Crit }
    }
}

/// The files that one event loop has read.
#[derive(Debug, Default)]
pub struct UserFiles {
    /// The one that was asked last is at the end.
    files: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    identity: Identity,
    file: UserFile,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Changes also where somebody set the time of the modification back.
    changed: (i64, i64),
}

impl UserFiles {
    /// What `user` must prove; `None`: there is no such user. Costs a stat(2), and reads the file when it has
    /// changed since.
    pub fn password(&mut self, path: &Path, user: &[u8]) -> Result<Option<Password>, UserFileError> {
        let Some(stored) = self.file(path)?.stored(user) else { return Ok(None) };
        Password::parse(stored).map(Some).map_err(|source| UserFileError::Password {
            path: path.to_owned(),
            user: user.escape_ascii().to_string(),
            source,
        })
    }

    fn file(&mut self, path: &Path) -> Result<&UserFile, UserFileError> {
        let kept = self.files.iter().position(|kept| kept.path == path).map(|at| self.files.remove(at));
        let metadata = std::fs::metadata(path).map_err(|source| unreadable(path, source))?;
        let kept = match kept {
            Some(kept) if kept.identity == Identity::of(&metadata) => kept,
            _ => read(path, &metadata)?,
        };
        self.make_room(kept.identity.size);
        self.files.push(kept);
        Ok(&self.files[self.files.len() - 1].file)
    }

    fn make_room(&mut self, size: u64) {
        let sum = |files: &[Kept]| files.iter().map(|kept| kept.identity.size).sum::<u64>();
        while !self.files.is_empty() && (self.files.len() >= MOST_KEPT || sum(&self.files) + size > KEPT) {
            self.files.remove(0);
        }
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn unreadable(path: &Path, source: io::Error) -> UserFileError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => UserFileError::Missing { path },
        _ => UserFileError::Unreadable { path, source },
    }
}

fn read(path: &Path, metadata: &Metadata) -> Result<Kept, UserFileError> {
    // Opening a FIFO would wait for whoever writes to it.
    if !metadata.is_file() {
        return Err(UserFileError::NoFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    // Taken before the content: what is written while it is read is read again.
    let metadata = file.metadata().map_err(|source| unreadable(path, source))?;
    let mut text = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut text).map_err(|source| unreadable(path, source))?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(UserFileError::TooLarge { path: path.to_owned() });
    }
    Ok(Kept { path: path.to_owned(), identity: Identity::of(&metadata), file: UserFile::parse(&text) })
}

/// A file, read.
#[derive(Debug, Default)]
pub struct UserFile {
    passwords: HashMap<Box<[u8]>, Box<[u8]>>,
}

impl UserFile {
    /// Reads the text of a file. A line that begins with `#`, or has no colon, is none; of two lines of one user
    /// the first holds.
    pub fn parse(text: &[u8]) -> Self {
        let mut passwords = HashMap::new();
        for line in text.split(|byte| *byte == b'\n') {
            if matches!(line.first(), None | Some(b'#' | b'\r')) {
                continue;
            }
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let rest = &line[colon + 1..];
            let end = rest.iter().position(|byte| matches!(byte, b':' | b'\r')).unwrap_or(rest.len());
            passwords.entry(line[..colon].into()).or_insert_with(|| rest[..end].into());
        }
        Self { passwords }
    }

    /// What is stored for a user.
    pub fn stored(&self, user: &[u8]) -> Option<&[u8]> {
        self.passwords.get(user).map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_are_read_as_nginx_does() {
        let file = UserFile::parse(
            b"# comment:x\nplain:{PLAIN}a\ncrlf:{PLAIN}b\r\nnoted:{PLAIN}c:a comment\n\r\n\nnone\n\
              twice:{PLAIN}first\ntwice:{PLAIN}second\n space:{PLAIN}d\nempty:\nlast:{PLAIN}e",
        );
        for (user, stored) in [
            ("plain", Some("{PLAIN}a")),
            ("crlf", Some("{PLAIN}b")),
            ("noted", Some("{PLAIN}c")),
            ("twice", Some("{PLAIN}first")),
            (" space", Some("{PLAIN}d")),
            ("empty", Some("")),
            ("last", Some("{PLAIN}e")),
            ("space", None),
            ("none", None),
            ("# comment", None),
            ("", None),
        ] {
            assert_eq!(file.stored(user.as_bytes()), stored.map(str::as_bytes), "{user:?}");
        }
    }

    #[test]
    fn a_file_that_changed_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let mut files = UserFiles::default();
        let mut proves = |user: &str, password: &str| {
            files.password(&path, user.as_bytes()).unwrap().map(|stored| stored.verify(password.as_bytes()))
        };
        fs::write(&path, "one:{PLAIN}secret\n").unwrap();
        assert_eq!(proves("one", "secret"), Some(true));
        assert_eq!(proves("two", "secret"), None);
        // Another inode, as htpasswd leaves it, though size and time are the same.
        let next = directory.path().join("next");
        fs::write(&next, "one:{PLAIN}sesame\n").unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        File::options().write(true).open(&next).unwrap().set_modified(time).unwrap();
        fs::rename(&next, &path).unwrap();
        assert_eq!(proves("one", "secret"), Some(false));
        assert_eq!(proves("one", "sesame"), Some(true));
        fs::write(&path, "two:{PLAIN}secret of another length\n").unwrap();
        assert_eq!(proves("one", "sesame"), None);
    }

    #[test]
    fn each_fault_has_nginx_status() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = UserFiles::default();
        let missing = files.password(&directory.path().join("none"), b"user").unwrap_err();
        assert_eq!((missing.status(), missing.level()), (403, LogLevel::Error));
        let none = files.password(directory.path(), b"user").unwrap_err();
        assert!(matches!(none, UserFileError::NoFile { .. }), "{none}");
        assert_eq!((none.status(), none.level()), (500, LogLevel::Crit));
        let path = directory.path().join("users");
        fs::write(&path, "new:$9$salt$hash\n").unwrap();
        let unknown = files.password(&path, b"new").unwrap_err();
        assert!(
            unknown.to_string().contains("\"new\"") && unknown.to_string().contains("no form"),
            "{unknown}"
        );
        assert_eq!(unknown.status(), 401);
        assert!(files.password(&path, b"other").unwrap().is_none());
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        File::create(&path).unwrap().set_len(LARGEST_FILE + 1).unwrap();
        let error = UserFiles::default().password(&path, b"user").unwrap_err();
        assert!(matches!(error, UserFileError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = UserFiles::default();
        for count in 0..=MOST_KEPT {
            let path = directory.path().join(count.to_string());
            fs::write(&path, "user:{PLAIN}a").unwrap();
            assert!(files.password(&path, b"user").unwrap().is_some());
        }
        assert_eq!(files.files.len(), MOST_KEPT);
        assert_eq!(files.files[0].path, directory.path().join("1"));
    }
}
