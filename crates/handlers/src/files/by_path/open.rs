//! Looking at and opening paths, with symbolic links followed as far as `disable_symlinks` lets them be.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use config::model::Symlinks;
use config::model::http::LogLevel;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::is_absence;
use crate::files::root::Root;

/// Not blocking, and never a terminal that becomes ours: a FIFO or a device must not stop the loop.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// To go through a directory.
const SEARCH: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How far symbolic links are followed in one path.
#[derive(Clone, Copy, Debug)]
pub struct Links {
    mode: Symlinks,
    /// So many bytes at the beginning of the path may hold any links; what follows them is a slash.
    free: usize,
}

/// Why a path cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The call that failed.
    pub call: &'static str,
    /// How.
    pub errno: Errno,
}

impl Links {
    /// Wherever they lead.
    pub const FOLLOW: Self = Self { mode: Symlinks::Follow, free: 0 };

    /// `from` counts when it is a directory at the beginning of the path; when it is all of the path,
    /// nothing is checked.
    pub fn new(mode: Symlinks, path: &[u8], from: Option<&[u8]>) -> Self {
        let Some(behind) = from.filter(|from| !from.is_empty()).and_then(|from| path.strip_prefix(from))
        else {
            return Self { mode, free: 0 };
        };
        let from = path.len() - behind.len();
        match behind.first() {
            None => Self::FOLLOW,
            Some(b'/') => Self { mode, free: from },
            Some(_) if path[from - 1] == b'/' => Self { mode, free: from - 1 },
            Some(_) => Self { mode, free: 0 },
        }
    }

    /// Whether every link is followed, so that a path can simply be looked at.
    pub fn is_free(self) -> bool {
        self.mode == Symlinks::Follow
    }
}

impl Failed {
    /// Whether it says that there is nothing.
    pub fn is_absence(self) -> bool {
        is_absence(self.errno)
    }

    /// The status for the client.
    pub fn status(self) -> u16 {
        match self.errno {
            errno if is_absence(errno) => 404,
            Errno::ACCESS | Errno::MLINK | Errno::LOOP | Errno::XDEV => 403,
            _ => 500,
        }
    }

    /// How the log is told.
    pub fn level(self) -> LogLevel {
        if self.status() == 500 { LogLevel::Crit } else { LogLevel::Error }
    }
}

/// `2: No such file or directory`
pub struct Words(pub Errno);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.0.raw_os_error();
        let text = std::io::Error::from_raw_os_error(code).to_string();
        let words = text.split(" (os error").next().unwrap_or_default();
        write!(f, "{code}: {words}")
    }
}

/// Opens a path for reading.
pub fn open(path: &[u8], links: Links) -> Result<OwnedFd, Failed> {
    if links.is_free() {
        return rustix::fs::openat(CWD, path, READ, Mode::empty())
            .map_err(|errno| Failed { call: "open", errno });
    }
    let failed = |errno| Failed { call: "openat", errno };
    if links.mode == Symlinks::Beneath {
        return beneath(path, links.free).map_err(failed);
    }
    let (start, rest) = begin(path, links)?;
    match links.mode {
        Symlinks::Deny => match openat2(&start, rest, ResolveFlags::NO_SYMLINKS) {
            // Segment by segment the kernel says what the matter is, or there is no such call.
            Err(Errno::LOOP | Errno::NOSYS | Errno::PERM) => walk(start, rest, false).map_err(failed),
            result => result.map_err(failed),
        },
        _ => walk(start, rest, true).map_err(failed),
    }
}

/// Through no link that leads out of the directory at the path's beginning.
fn beneath(path: &[u8], directory: usize) -> Result<OwnedFd, Errno> {
    let (directory, rest) = path.split_at(directory);
    let directory = Path::new(OsStr::from_bytes(if directory.is_empty() { b"/" } else { directory }));
    let root = Root::open(directory, crate::files::Symlinks::Beneath)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let slashes = rest.iter().take_while(|&&b| b == b'/').count();
    root.open_beneath(&rest[slashes..]).map(OwnedFd::from)
}

/// Opens a file for what is to be added at its end, and makes it if it is not there. As in nginx, none that is itself a
/// link, whoever owns that, unless links are followed wherever they lead.
pub fn append(path: &[u8], links: Links) -> Result<OwnedFd, Failed> {
    const ADD: OFlags = OFlags::WRONLY
        .union(OFlags::APPEND)
        .union(OFlags::CREATE)
        .union(OFlags::CLOEXEC)
        .union(OFlags::NOCTTY);
    let mode = Mode::from_raw_mode(0o644);
    if links.is_free() {
        return rustix::fs::openat(CWD, path, ADD, mode).map_err(|errno| Failed { call: "open", errno });
    }
    let failed = |errno| Failed { call: "openat", errno };
    let (start, rest) = begin(path, links)?;
    let name = rest.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let directories = &rest[..rest.len() - name.len()];
    let at = walk_by(start, directories, links.mode == Symlinks::IfNotOwner, SEARCH).map_err(failed)?;
    rustix::fs::openat(&at, name, ADD | OFlags::NOFOLLOW, mode).map_err(failed)
}

/// What a path names.
pub fn stat(path: &[u8], links: Links) -> Result<Stat, Failed> {
    if links.is_free() {
        return rustix::fs::stat(path).map_err(|errno| Failed { call: "stat", errno });
    }
    let fd = open(path, links)?;
    rustix::fs::fstat(&fd).map_err(|errno| Failed { call: "fstat", errno })
}

/// The directory from which on links are checked, and what follows it.
fn begin(path: &[u8], links: Links) -> Result<(OwnedFd, &[u8]), Failed> {
    let (start, rest) = match path {
        _ if links.free > 0 => (&path[..links.free], &path[links.free..]),
        [b'/', ..] => (&b"/"[..], path),
        _ => (&b"."[..], path),
    };
    let slashes = rest.iter().take_while(|&&b| b == b'/').count();
    let fd = rustix::fs::openat(CWD, start, SEARCH, Mode::empty())
        .map_err(|errno| Failed { call: "open", errno })?;
    let rest = &rest[slashes..];
    Ok((fd, if rest.is_empty() { b"." } else { rest }))
}

fn openat2(start: &OwnedFd, rest: &[u8], resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(start, rest, READ, Mode::empty(), resolve | ResolveFlags::NO_MAGICLINKS) {
            // Something was renamed meanwhile: the kernel could not be sure.
            Err(Errno::AGAIN | Errno::INTR) if tries < 8 => tries += 1,
            result => return result,
        }
    }
}

/// Opens segment by segment: through no link, or with `by_owner` only through those whose target has the
/// same owner.
fn walk(start: OwnedFd, rest: &[u8], by_owner: bool) -> Result<OwnedFd, Errno> {
    walk_by(start, rest, by_owner, READ)
}

/// The same; `last` is how the last one is opened.
fn walk_by(start: OwnedFd, rest: &[u8], by_owner: bool, last: OFlags) -> Result<OwnedFd, Errno> {
    let must_be_directory = rest.ends_with(b"/");
    let mut segments = rest.split(|&b| b == b'/').filter(|segment| !segment.is_empty()).peekable();
    let mut at = start;
    while let Some(segment) = segments.next() {
        let flags = match segments.peek() {
            Some(_) => SEARCH,
            None if must_be_directory => last | OFlags::DIRECTORY,
            None => last,
        };
        at = if by_owner { open_owned(&at, segment, flags)? } else { open_plain(&at, segment, flags)? };
    }
    Ok(at)
}

fn open_plain(at: &OwnedFd, segment: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(at, segment, flags | OFlags::NOFOLLOW, Mode::empty())
}

/// As nginx, it is what a link leads to in the end that must have the link's owner, not the links in between.
///
/// The link is held while its owner and text are read, so that nobody can put another one there between the two.
fn open_owned(at: &OwnedFd, segment: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let refusal = match open_plain(at, segment, flags) {
        // A link where a directory is wanted is "no directory".
        Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => errno,
        result => return result,
    };
    let link = open_plain(at, segment, OFlags::PATH | OFlags::CLOEXEC)?;
    let owner = rustix::fs::fstat(&link)?;
    if FileType::from_raw_mode(owner.st_mode) != FileType::Symlink {
        return Err(refusal);
    }
    let text = rustix::fs::readlinkat(&link, c"", Vec::new())?;
    let target = rustix::fs::openat(at, text, flags, Mode::empty())?;
    if rustix::fs::fstat(&target)?.st_uid == owner.st_uid { Ok(target) } else { Err(Errno::LOOP) }
}
