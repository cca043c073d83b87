//! Where texts come from: the disk, or memory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::glob;

// The same numbers on every Unix. An error made from them has the system's words.
const ENOENT: i32 = 2;
const EISDIR: i32 = 21;

/// Reads files and expands patterns.
pub trait Loader {
    /// The whole file; [`io::ErrorKind::FileTooLarge`] if it has more than `limit` bytes.
    fn read(&mut self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;

    /// The paths that match the shell pattern, in the order of their bytes. That none does is no error.
    fn glob(&mut self, pattern: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskLoader;

impl Loader for DiskLoader {
    fn read(&mut self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::from_raw_os_error(EISDIR));
        }
        // The size is a hint only: a pipe has none, and a file may grow.
        let mut text = Vec::with_capacity(metadata.len().min(limit as u64) as usize);
        file.take(limit as u64 + 1).read_to_end(&mut text)?;
        if text.len() > limit {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(text)
    }

    /// As glob(3): directories that cannot be read hold nothing that matches.
    fn glob(&mut self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern = pattern.as_os_str().as_bytes();
        let root: &[u8] = if pattern.starts_with(b"/") { b"/" } else { b"" };
        let mut found = vec![root.to_vec()];
        for component in pattern.split(|&b| b == b'/').filter(|c| !c.is_empty()) {
            found = if glob::has_wildcard(component) {
                found.iter().flat_map(|directory| entries(directory, component)).collect()
            } else {
                let name = glob::unescape(component);
                found.iter().map(|directory| [directory, name.as_slice(), b"/"].concat()).collect()
            };
        }
        for path in &mut found {
            path.pop();
        }
        found.retain(|path| fs::symlink_metadata(OsStr::from_bytes(path)).is_ok());
        found.sort_unstable();
        Ok(found.into_iter().map(|path| PathBuf::from(OsStr::from_bytes(&path))).collect())
    }
}

/// The entries of a directory that match, each with a slash behind it.
fn entries(directory: &[u8], pattern: &[u8]) -> Vec<Vec<u8>> {
    let path = if directory.is_empty() { b"." } else { directory };
    let Ok(entries) = fs::read_dir(OsStr::from_bytes(path)) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok().map(|e| e.file_name()));
    let matching = names.filter(|name| glob::matches(pattern, name.as_bytes()));
    matching.map(|name| [directory, name.as_bytes(), b"/"].concat()).collect()
}

/// Files in memory, for tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryLoader {
    files: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryLoader {
    /// Adds a file, or replaces it.
    pub fn insert(&mut self, path: impl AsRef<Path>, text: impl Into<Vec<u8>>) {
        self.files.insert(path.as_ref().as_os_str().as_bytes().to_vec(), text.into());
    }
}

impl Loader for MemoryLoader {
    /// A path that others lie below is a directory.
    fn read(&mut self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let path = path.as_os_str().as_bytes();
        match self.files.get(path) {
            Some(text) if text.len() > limit => Err(io::ErrorKind::FileTooLarge.into()),
            Some(text) => Ok(text.clone()),
            None => {
                let below = [path, b"/"].concat();
                let is_directory = self.files.keys().any(|other| other.starts_with(&below));
                Err(io::Error::from_raw_os_error(if is_directory { EISDIR } else { ENOENT }))
            }
        }
    }

    fn glob(&mut self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern: Vec<&[u8]> = pattern.as_os_str().as_bytes().split(|&b| b == b'/').collect();
        let matching = self.files.keys().filter(|path| {
            let components: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
            components.len() == pattern.len()
                && pattern.iter().zip(components).all(|(pattern, name)| glob::matches(pattern, name))
        });
        Ok(matching.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_globbed_over_directories_and_sorted() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b/1.conf", "a/2.conf", "a/1.conf", "a/.hidden.conf", "a/1.txt", "c.conf", "a-b/1.conf"]
        {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink("nowhere", root.path().join("b/dangling.conf")).unwrap();
        let glob = |pattern: &str| {
            let found = DiskLoader.glob(&root.path().join(pattern)).unwrap();
            found
                .iter()
                .map(|p| p.strip_prefix(root.path()).unwrap().display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(glob("*/*.conf"), ["a-b/1.conf", "a/1.conf", "a/2.conf", "b/1.conf", "b/dangling.conf"]);
        assert_eq!(glob("[ab]/1.conf"), ["a/1.conf", "b/1.conf"]);
        assert_eq!(glob("a/.*.conf"), ["a/.hidden.conf"]);
        assert_eq!(glob("?.conf"), ["c.conf"]);
        assert!(glob("c.conf/*").is_empty());
        assert!(glob("none/*.conf").is_empty());
    }

    #[test]
    fn the_disk_is_read_up_to_the_limit() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        fs::write(&path, "12345").unwrap();
        assert_eq!(DiskLoader.read(&path, 5).unwrap(), b"12345");
        assert_eq!(DiskLoader.read(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(DiskLoader.read(root.path(), 4).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(DiskLoader.read(&root.path().join("y"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
