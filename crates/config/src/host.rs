//! What the checks ask the machine: files, users, names. Behind a trait, so that tests answer instead.

use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the checks ask the machine. Nothing here changes anything.
pub trait Host {
    /// The directory that the program was started in; absolute.
    fn current_dir(&self) -> PathBuf;
    /// What is at `path`, links followed.
    fn entry(&self, path: &Path) -> Entry;
    /// The text of a settings file, for messages that show the line.
    fn source(&self, path: &Path) -> Option<String>;
    /// A user by name.
    fn user(&self, name: &str) -> Option<User>;
    /// A user by number.
    fn user_of(&self, uid: u32) -> Option<User>;
    /// A group's number by name.
    fn group(&self, name: &str) -> Option<u32>;
    /// The effective user and group of this process.
    fn identity(&self) -> (u32, u32);
    /// Addresses of a host name.
    fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Nothing, or nothing that may be looked at.
    Missing,
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// A row of the user database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The number of the user's own group.
    pub gid: u32,
}

/// The machine that the program runs on. Users and groups are those of `/etc/passwd` and `/etc/group`; one that
/// only a directory service knows is given by its number.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Host for System {
    fn current_dir(&self) -> PathBuf {
        std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
    }

    fn entry(&self, path: &Path) -> Entry {
        match fs::metadata(path) {
            Ok(m) if m.is_dir() => Entry::Directory,
            Ok(_) => Entry::File,
            Err(_) => Entry::Missing,
        }
    }

    fn source(&self, path: &Path) -> Option<String> {
        const LARGEST: u64 = 1 << 20;
        let metadata = fs::metadata(path).ok()?;
        if !metadata.is_file() || metadata.len() > LARGEST {
            return None;
        }
        fs::read_to_string(path).ok()
    }

    fn user(&self, name: &str) -> Option<User> {
        user_row(|fields| fields.first() == Some(&name))
    }

    fn user_of(&self, uid: u32) -> Option<User> {
        user_row(|fields| fields.get(2).and_then(|f| f.parse().ok()) == Some(uid))
    }

    fn group(&self, name: &str) -> Option<u32> {
        rows(
            "/etc/group",
            |fields| if fields.first() == Some(&name) { fields.get(2)?.parse().ok() } else { None },
        )
    }

    fn identity(&self) -> (u32, u32) {
        // The owner of /proc/self is the effective user and group of a process that may be dumped.
        fs::metadata("/proc/self").map_or((u32::MAX, u32::MAX), |m| (m.uid(), m.gid()))
    }

    fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((name, port).to_socket_addrs()?.collect())
    }
}

fn user_row(wanted: impl Fn(&[&str]) -> bool) -> Option<User> {
    rows("/etc/passwd", |fields| {
        if !wanted(fields) {
            return None;
        }
        Some(User { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
    })
}

fn rows<T>(file: &str, find: impl Fn(&[&str]) -> Option<T>) -> Option<T> {
    let text = fs::read(file).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| find(&line.split(':').collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_knows_root_and_files() {
        let root = User { uid: 0, gid: 0 };
        assert_eq!(
            (System.user("root"), System.user_of(0), System.group("root")),
            (Some(root), Some(root), Some(0))
        );
        assert_eq!(System.user("no-such-user-here"), None);
        assert_eq!(System.entry(Path::new("/")), Entry::Directory);
        assert_eq!(System.entry(Path::new("/proc/self/stat")), Entry::File);
        assert_eq!(System.entry(Path::new("/proc/self/nothing")), Entry::Missing);
        assert!(System.current_dir().is_absolute());
        assert!(System.resolve("localhost", 80).unwrap().iter().all(|a| a.ip().is_loopback()));
        let own = fs::read_to_string("/proc/self/status").unwrap();
        let effective = own.lines().find_map(|l| l.strip_prefix("Uid:")).unwrap().split_whitespace().nth(1);
        assert_eq!(effective.unwrap().parse(), Ok(System.identity().0));
    }
}
