//! What the binary carries for Python, as descriptors that every mold gets.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::Embedded;

/// The descriptors; they live as long as the master.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) loader: &'static str,
    pub(crate) package: OwnedFd,
    pub(crate) extension: OwnedFd,
}

impl Payload {
    pub(crate) fn new(embedded: &Embedded) -> io::Result<Self> {
        let payload = Self {
            loader: embedded.loader,
            package: file("monoceros-python", embedded.package)?,
            extension: file("monoceros-extension", embedded.extension)?,
        };
        // Some megabytes, of which only the copies are used from here on.
        sys::page_out(embedded.extension);
        Ok(payload)
    }
}

/// A sealed file in memory; where the kernel or a sandbox has none, a file on disk that has no name.
fn file(name: &str, contents: &[u8]) -> io::Result<OwnedFd> {
    sys::sealed_memfd(name, contents).or_else(|memfd_error| {
        let directory = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&directory, flags, Mode::RUSR | Mode::XUSR).map_err(|error| {
            let shown = directory.display();
            io::Error::other(format!("no file in memory ({memfd_error}), nor one in {shown} ({error})"))
        })?;
        let mut file = File::from(fd);
        file.write_all(contents)?;
        Ok(file.into())
    })
}
