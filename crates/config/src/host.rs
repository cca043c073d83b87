//! What the checks ask the machine: files, users, names. Behind a trait, so that tests answer instead.

use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

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
    /// The machine's own name.
    fn hostname(&self) -> String {
        fs::read_to_string("/proc/sys/kernel/hostname").map(|n| n.trim().to_owned()).unwrap_or_default()
    }
    /// Where this user's programs keep what has to be there next time.
    fn state_dir(&self) -> PathBuf {
        if self.identity().0 == 0 {
            return PathBuf::from("/var/lib/monoceros");
        }
        let of = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state = of("XDG_STATE_HOME").or_else(|| Some(of("HOME")?.join(".local/state")));
        state.unwrap_or_else(|| self.current_dir()).join("monoceros")
    }
    /// Whether there are addresses of IPv6.
    fn has_ipv6(&self) -> bool {
        Path::new("/proc/net/if_inet6").exists()
    }
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

/// How long the name service may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The machine that the program runs on. Users and groups are those of `/etc/passwd` and `/etc/group`, then those that
/// the system's name service knows (LDAP, SSSD, systemd), as far as there is the program `getent` to ask it.
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
        let known =
            rows("/etc/passwd", |fields| if fields.first() == Some(&name) { user(fields) } else { None });
        known.or_else(|| getent("passwd", name, user))
    }

    fn user_of(&self, uid: u32) -> Option<User> {
        let of = |fields: &[&str]| user(fields).filter(|user| user.uid == uid);
        rows("/etc/passwd", of).or_else(|| getent("passwd", &uid.to_string(), of))
    }

    fn group(&self, name: &str) -> Option<u32> {
        let number = |fields: &[&str]| fields.get(2)?.parse().ok();
        let known =
            rows("/etc/group", |fields| if fields.first() == Some(&name) { number(fields) } else { None });
        known.or_else(|| getent("group", name, number))
    }

    fn identity(&self) -> (u32, u32) {
        // The owner of /proc/self is the effective user and group of a process that may be dumped.
        fs::metadata("/proc/self").map_or((u32::MAX, u32::MAX), |m| (m.uid(), m.gid()))
    }

    fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((name, port).to_socket_addrs()?.collect())
    }
}

fn user(fields: &[&str]) -> Option<User> {
    Some(User { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
}

fn rows<T>(file: &str, find: impl Fn(&[&str]) -> Option<T>) -> Option<T> {
    let text = fs::read(file).ok()?;
    find_row(&text, find)
}

fn find_row<T>(text: &[u8], find: impl Fn(&[&str]) -> Option<T>) -> Option<T> {
    let text = String::from_utf8_lossy(text);
    text.lines().find_map(|line| find(&line.split(':').collect::<Vec<_>>()))
}

/// Asks the name service.
fn getent<T>(database: &str, key: &str, find: impl Fn(&[&str]) -> Option<T>) -> Option<T> {
    // What would be taken for an option is no name.
    if key.is_empty() || key.starts_with('-') {
        return None;
    }
    let mut command = Command::new("getent");
    command.args([database, key]);
    find_row(&output_of(command, PATIENCE)?, find)
}

/// What a program prints, if it is there and prints it in time.
fn output_of(mut command: Command, patience: Duration) -> Option<Vec<u8>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let (sender, receiver) = mpsc::channel();
    let stdout = child.stdout.take();
    thread::spawn(move || {
        let mut output = Vec::new();
        let read = stdout.map(|mut stdout| stdout.read_to_end(&mut output));
        // Fails where nobody waits any more.
        let _ = sender.send(if matches!(read, Some(Ok(_))) { Some(output) } else { None });
    });
    let output = receiver.recv_timeout(patience).ok().flatten();
    // It has said all that is wanted, or hangs.
    let _ = child.kill();
    let _ = child.wait();
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_name_service_is_asked_for_a_bounded_time() {
        let row = output_of(shell("echo far-away:x:5001:5002::/:/bin/false"), PATIENCE).unwrap();
        assert_eq!(find_row(&row, user), Some(User { uid: 5001, gid: 5002 }));
        assert_eq!(output_of(shell("exit 2"), PATIENCE).and_then(|row| find_row(&row, user)), None);
        assert_eq!(output_of(shell("exec sleep 60"), Duration::from_millis(100)), None);
        assert_eq!(output_of(Command::new("no-such-program-here"), PATIENCE), None);
        assert_eq!(getent("passwd", "--help", |_| Some(())), None);
    }

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
