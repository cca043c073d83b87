//! `error_log memory:SIZE`: the last messages, in a file that is only in memory.
//!
//! nginx's is read with a debugger. This one shows in `/proc/PID/fd` as `memfd:error_log`, so that `cat` reads it. As
//! nginx's it begins anew when it is full: what is newest ends where the time jumps back.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{MemfdFlags, memfd_create};

#[derive(Debug)]
pub(super) struct Ring {
    file: OwnedFd,
    /// Bytes that it holds at most.
    size: u64,
    /// Where the next line goes.
    at: Mutex<u64>,
}

impl Ring {
    pub(super) fn new(size: u64) -> io::Result<Self> {
        Ok(Self { file: memfd_create("error_log", MemfdFlags::CLOEXEC)?, size, at: Mutex::new(0) })
    }

    /// Of a line that is longer than all of it, the end stays.
    pub(super) fn write(&self, line: &[u8]) {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let mut rest = &line[line.len().saturating_sub(size)..];
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        while !rest.is_empty() {
            let room = usize::try_from(self.size - *at).unwrap_or(usize::MAX);
            let fits = &rest[..rest.len().min(room)];
            match rustix::io::pwrite(&self.file, fits, *at) {
                Ok(0) => return,
                Ok(written) => {
                    rest = &rest[written..];
                    *at = (*at + written as u64) % self.size;
                }
                Err(rustix::io::Errno::INTR) => {}
                // There is nowhere to say that there is no memory.
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    fn text(ring: &Ring) -> String {
        let file = File::from(ring.file.try_clone().unwrap());
        let mut text = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut text, 0).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_last_bytes_stay() {
        let ring = Ring::new(10).unwrap();
        for (line, expected) in [
            ("one\n", "one\n"),
            ("two\n", "one\ntwo\n"),
            ("three\n", "ree\ntwo\nth"),
            ("4\n", "ree\n4\no\nth"),
            ("longer than that\n", " that\nthan"),
        ] {
            ring.write(line.as_bytes());
            assert_eq!(text(&ring), expected, "{line}");
        }
    }
}
