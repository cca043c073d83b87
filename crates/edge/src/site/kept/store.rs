//! `proxy_store`: an answer becomes a file of its own, in the place where the configuration looks for such files.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

/// A file on its way to its place. Dropped before [`StoreWriter::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct StoreWriter {
    file: Arc<File>,
    /// Its name until it is whole.
    temporary: Option<PathBuf>,
    path: PathBuf,
    access: u32,
    modified: Option<u64>,
    length: u64,
}

impl StoreWriter {
    /// Begins a file beside `path`, and makes the directories of that. `access`: who may do what, as the system's modes
    /// have it. `modified`: what its time is to be, in seconds since 1970.
    pub fn begin(path: &[u8], access: u32, modified: Option<u64>) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        let temporary = PathBuf::from(name);
        let open = || OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&temporary);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_directories(&path, access)?;
                open()
            }
            opened => opened,
        }?;
        Ok(Self { file: Arc::new(file), temporary: Some(temporary), path, access, modified, length: 0 })
    }

    pub fn push(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, self.length)?;
        self.length += data.len() as u64;
        Ok(())
    }

    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// It is whole: whoever looks sees it from now on.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(self.access))?;
        if let Some(time) = self.modified.and_then(|time| UNIX_EPOCH.checked_add(Duration::from_secs(time))) {
            self.file.set_modified(time)?;
        }
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, &self.path)?;
        }
        self.temporary = None;
        Ok(())
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Whoever may read a file may look into its directories.
fn make_directories(path: &Path, access: u32) -> io::Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    let mode = access | (access & 0o444) >> 2;
    fs::DirBuilder::new().recursive(true).mode(mode).create(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_whole_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/c");
        let begin = || StoreWriter::begin(path.as_os_str().as_bytes(), 0o640, Some(1_000_000_000)).unwrap();
        let count = || fs::read_dir(path.parent().unwrap()).unwrap().count();
        let mut writer = begin();
        writer.push(b"some").unwrap();
        assert!(!path.exists());
        drop(writer);
        assert_eq!(count(), 0);
        let mut writer = begin();
        writer.push(b"all ").unwrap();
        writer.push(b"of it").unwrap();
        writer.finish().unwrap();
        assert_eq!((fs::read(&path).unwrap(), count()), (b"all of it".to_vec(), 1));
        let looked = fs::metadata(&path).unwrap();
        assert_eq!(looked.permissions().mode() & 0o777, 0o640);
        assert_eq!(looked.modified().unwrap(), UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    }
}
