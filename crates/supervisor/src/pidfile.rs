//! The pid file: refuses to run beside a living master, replaces a stale one, is gone at the end.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::Pid;

use crate::listen::errno;

/// A pid file that holds our process id; removed when dropped, if it still does.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    /// It has been renamed for a successor: this is where it is.
    aside: Option<PathBuf>,
    is_forgotten: bool,
}

impl PidFile {
    /// Writes the file in one step. An error is a sentence for the user.
    pub(crate) fn create(path: &Path) -> Result<Self, String> {
        write_beside_nobody(path)?;
        Ok(Self { path: path.to_owned(), aside: None, is_forgotten: false })
    }

    /// Writes the file again where it does not hold our process id any more. One that stepped aside stays there. An error
    /// is a sentence for the user.
    pub(crate) fn renew(&self) -> Result<(), String> {
        if self.aside.is_some() || read(&self.path) == Some(rustix::process::getpid()) {
            return Ok(());
        }
        write_beside_nobody(&self.path)
    }

    /// Writes the file whatever it holds, as nginx does. An error is in nginx's words.
    pub(crate) fn replace(path: &Path) -> Result<Self, String> {
        write(path).map_err(|error| unopened(path, &error))?;
        Ok(Self { path: path.to_owned(), aside: None, is_forgotten: false })
    }

    /// Whether [`PidFile::replace`] could write it.
    pub(crate) fn test(path: &Path) -> Result<(), String> {
        let tried = if path.is_dir() {
            Err(Errno::ISDIR.into())
        } else if is_device(path) {
            fs::OpenOptions::new().write(true).open(path).map(drop)
        } else {
            temporary(path).and_then(|(file, _)| fs::remove_file(file))
        };
        tried.map_err(|error| unopened(path, &error))
    }

    /// Renames the file as nginx does (`.oldbin`), so that a successor's can stand beside it.
    pub(crate) fn step_aside(&mut self) -> io::Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(".oldbin");
        fs::rename(&self.path, &name)?;
        self.aside = Some(name.into());
        Ok(())
    }

    /// Gives the file its name back.
    pub(crate) fn step_back(&mut self) -> io::Result<()> {
        match self.aside.take() {
            Some(aside) => fs::rename(aside, &self.path),
            None => Ok(()),
        }
    }

    /// Leaves the file where it is: another one holds it, whose path leads there, too.
    pub(crate) fn forget_if_same(mut self, other: &Self) {
        let identity = |path: &Path| fs::metadata(path).map(|there| (there.dev(), there.ino())).ok();
        let own = self.aside.as_ref().unwrap_or(&self.path);
        self.is_forgotten = identity(own) == identity(&other.path);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let path = self.aside.as_ref().unwrap_or(&self.path);
        if !self.is_forgotten && read(path) == Some(rustix::process::getpid()) {
            let _ = fs::remove_file(path);
        }
    }
}

fn unopened(path: &Path, error: &io::Error) -> String {
    format!("open() \"{}\" failed ({})", path.display(), errno(error))
}

/// A file beside it, which is to take its place.
fn temporary(path: &Path) -> io::Result<(PathBuf, fs::File)> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    // Never what somebody else has put there, nor where a link leads.
    if let Err(error) = fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
    Ok((temporary, file))
}

/// Not where it names another process that lives.
fn write_beside_nobody(path: &Path) -> Result<(), String> {
    if let Some(pid) = living(path) {
        return Err(format!("Already running with pid {pid}, says the pid file {}", path.display()));
    }
    write(path).map_err(|error| format!("The pid file {} cannot be written: {error}", path.display()))
}

fn write(path: &Path) -> io::Result<()> {
    // A device stays what it is: in its place there would be a file of that name for all others.
    if is_device(path) {
        return writeln!(fs::OpenOptions::new().write(true).open(path)?, "{}", std::process::id());
    }
    let (temporary, mut file) = temporary(path)?;
    let written = writeln!(file, "{}", std::process::id()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// As `/dev/null`, for no pid file at all.
fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| there.file_type().is_char_device())
}

fn read(path: &Path) -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(path).ok()?.trim().parse().ok()?)
}

/// The pid in the file, if it is that of another process that lives.
fn living(path: &Path) -> Option<i32> {
    let pid = read(path)?;
    if pid == rustix::process::getpid() {
        return None;
    }
    match rustix::process::test_kill_process(pid) {
        Ok(()) | Err(Errno::PERM) => Some(pid.as_raw_nonzero().get()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_replaces_a_stale_one_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        fs::write(&path, format!("{}\n", child.id())).unwrap();
        let file = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn refuses_beside_a_living_one_and_leaves_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        fs::write(&path, "1\n").unwrap();
        assert!(PidFile::create(&path).unwrap_err().contains("Already running with pid 1"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn steps_aside_for_a_successor() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("pid"), dir.path().join("pid.oldbin"));
        let mut file = PidFile::replace(&path).unwrap();
        file.step_aside().unwrap();
        assert!(aside.exists() && !path.exists());
        file.step_back().unwrap();
        assert!(path.exists() && !aside.exists());
        file.step_aside().unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists() && !aside.exists());
    }

    #[test]
    fn what_somebody_else_wrote_since_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let file = PidFile::create(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn a_device_is_written_to_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        PidFile::test(&path).unwrap();
        let file = PidFile::replace(&path).unwrap();
        assert!(is_device(&path));
        drop(file);
        assert!(is_device(&path));
    }
}
