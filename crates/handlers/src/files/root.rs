//! A directory and how files are opened in it so that nothing leads out.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Symlinks;

/// `openat2` is not there (before Linux 5.6, or forbidden by a container's filter).
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Not blocking: a FIFO or a device in the directory must not stop the loop.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// An open directory.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
    symlinks: Symlinks,
    /// Device and inode, by which a directory that was replaced under its name is noticed.
    identity: (u64, u64),
}

impl Root {
    /// Opens the directory; symlinks in `path` itself are followed.
    pub fn open(path: &Path, symlinks: Symlinks) -> io::Result<Self> {
        let fd =
            rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Self { fd, path: path.to_owned(), symlinks, identity: (stat.st_dev, stat.st_ino) })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks whether the path names another directory by now (a release was switched, a build wrote its
    /// output anew) and goes over to it; tells whether it did. Stays with the old one while there is none.
    pub fn refresh(&mut self) -> bool {
        let same =
            rustix::fs::stat(&self.path).map_or(true, |stat| (stat.st_dev, stat.st_ino) == self.identity);
        if same {
            return false;
        }
        let Ok(new) = Self::open(&self.path, self.symlinks) else { return false };
        *self = new;
        true
    }

    /// Opens what `relative` names, a file or a directory, for reading. It has no `..` segment, no NUL and
    /// no leading slash (see [`super::is_safe`]); empty is the directory itself.
    pub fn open_beneath(&self, relative: &[u8]) -> Result<File, Errno> {
        let relative = if relative.is_empty() { b"." } else { relative };
        let fd = match self.symlinks {
            Symlinks::Follow => rustix::fs::openat(&self.fd, relative, READ, Mode::empty()),
            Symlinks::Deny => self.open_plain(relative),
            Symlinks::Beneath => match openat2(&self.fd, relative, ResolveFlags::BENEATH) {
                // An absolute link is refused by the kernel even where it leads back inside; without
                // openat2, every link is.
                Err(Errno::XDEV) => self.open_canonical(relative),
                Err(Errno::NOSYS) => match self.walk(relative) {
                    Err(Errno::LOOP | Errno::NOTDIR) => self.open_canonical(relative),
                    result => result,
                },
                result => result,
            },
        }?;
        Ok(File::from(fd))
    }

    /// Through no symlink at all.
    fn open_plain(&self, relative: &[u8]) -> Result<OwnedFd, Errno> {
        match openat2(&self.fd, relative, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS) {
            Err(Errno::NOSYS) => self.walk(relative),
            result => result,
        }
    }

    /// Resolves links by name, and opens the result only if it is inside and has no link left in it. So it
    /// does not matter what changes between the two steps.
    fn open_canonical(&self, relative: &[u8]) -> Result<OwnedFd, Errno> {
        let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::NOENT);
        let root = self.path.canonicalize().map_err(errno)?;
        let target = root.join(OsStr::from_bytes(relative)).canonicalize().map_err(errno)?;
        let inside = target.strip_prefix(&root).map_err(|_| Errno::XDEV)?.as_os_str().as_bytes();
        self.open_plain(if inside.is_empty() { b"." } else { inside })
    }

    /// What `openat2` does, segment by segment.
    fn walk(&self, relative: &[u8]) -> Result<OwnedFd, Errno> {
        let must_be_directory = relative.ends_with(b"/");
        let mut segments = relative.split(|&b| b == b'/').filter(|s| !s.is_empty() && *s != b".").peekable();
        let mut at: Option<OwnedFd> = None;
        while let Some(segment) = segments.next() {
            if segment == b".." {
                return Err(Errno::XDEV);
            }
            let flags = if segments.peek().is_some() {
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC
            } else if must_be_directory {
                READ | OFlags::DIRECTORY
            } else {
                READ
            };
            let here = at.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            at = Some(rustix::fs::openat(here, segment, flags | OFlags::NOFOLLOW, Mode::empty())?);
        }
        at.map_or_else(|| rustix::fs::openat(&self.fd, ".", READ, Mode::empty()), Ok)
    }
}

/// `openat2` that answers `ENOSYS` wherever it cannot be used.
fn openat2(dir: &OwnedFd, relative: &[u8], resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    if NO_OPENAT2.load(Ordering::Relaxed) {
        return Err(Errno::NOSYS);
    }
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..8 {
        match rustix::fs::openat2(dir, relative, READ, Mode::empty(), resolve) {
            // Something was renamed meanwhile: the kernel could not be sure.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Old seccomp filters say EPERM for a call that they do not know; opening to read has no other
            // reason for it.
            Err(Errno::NOSYS | Errno::PERM) => {
                NO_OPENAT2.store(true, Ordering::Relaxed);
                return Err(Errno::NOSYS);
            }
            result => return result,
        }
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(result: Result<OwnedFd, Errno>) -> Result<String, Errno> {
        let mut text = String::new();
        File::from(result?).read_to_string(&mut text).map_err(|_| Errno::ISDIR)?;
        Ok(text)
    }

    fn tree() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(temp.path().join("secret"), "secret").unwrap();
        fs::write(root.join("sub/file"), "file").unwrap();
        symlink("sub/file", root.join("inside")).unwrap();
        symlink("sub", root.join("dir")).unwrap();
        symlink(root.join("sub/file"), root.join("absolute")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink(temp.path().join("secret"), root.join("absolute-out")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        temp
    }

    #[test]
    fn links_by_option_and_never_out() {
        let temp = tree();
        let path = temp.path().join("root");
        let open = |symlinks, relative: &str| {
            let root = Root::open(&path, symlinks).unwrap();
            read(root.open_beneath(relative.as_bytes()).map(OwnedFd::from)).ok()
        };
        for symlinks in [Symlinks::Beneath, Symlinks::Deny, Symlinks::Follow] {
            assert_eq!(open(symlinks, "sub/file").as_deref(), Some("file"), "{symlinks:?}");
            assert_eq!(open(symlinks, "sub/file/"), None);
            assert_eq!(open(symlinks, "none"), None);
        }
        for link in ["inside", "dir/file", "absolute"] {
            assert_eq!(open(Symlinks::Beneath, link).as_deref(), Some("file"), "{link}");
            assert_eq!(open(Symlinks::Follow, link).as_deref(), Some("file"), "{link}");
            assert_eq!(open(Symlinks::Deny, link), None, "{link}");
        }
        for link in ["out", "absolute-out", "up/secret", "magic/etc/passwd", "../secret", "dir/../../secret"]
        {
            assert_eq!(open(Symlinks::Beneath, link), None, "{link}");
            assert_eq!(open(Symlinks::Deny, link), None, "{link}");
        }
        assert_eq!(open(Symlinks::Follow, "out").as_deref(), Some("secret"));
    }

    #[test]
    fn walking_is_as_strict_as_openat2() {
        let temp = tree();
        let root = Root::open(&temp.path().join("root"), Symlinks::Deny).unwrap();
        assert_eq!(read(root.walk(b"sub/file")).as_deref(), Ok("file"));
        assert_eq!(read(root.walk(b"./sub//file")).as_deref(), Ok("file"));
        for path in
            [&b"inside"[..], b"dir/file", b"absolute", b"out", b"up/secret", b"../secret", b"sub/file/"]
        {
            assert!(root.walk(path).is_err(), "{:?}", String::from_utf8_lossy(path));
        }
        assert!(root.walk(b".").is_ok() && root.walk(b"sub/").is_ok());
        assert_eq!(read(root.open_canonical(b"absolute")).as_deref(), Ok("file"));
        assert!(root.open_canonical(b"absolute-out").is_err());
    }

    #[test]
    fn goes_over_to_a_directory_put_in_its_place() {
        let temp = tree();
        let path = temp.path().join("root");
        let mut root = Root::open(&path, Symlinks::Beneath).unwrap();
        assert!(!root.refresh());
        fs::rename(&path, temp.path().join("old")).unwrap();
        assert!(!root.refresh(), "stays while nothing is there");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("new"), "new").unwrap();
        assert!(root.refresh());
        assert_eq!(read(root.open_beneath(b"new").map(OwnedFd::from)).as_deref(), Ok("new"));
    }
}
