//! A file that takes whole lines, and what happens when it does not take them.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, Write};

/// What a reader that does not read may leave waiting before lines are dropped.
const MOST_WAITING: usize = 1024 * 1024;

/// What is written at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Batch<'a> {
    /// Whole lines; part of them is better than none.
    Lines(&'a [u8]),
    /// So many lines as a gzip member, of which a part is worse than nothing.
    Member(&'a [u8], u64),
}

/// What a write changed.
#[derive(Debug)]
pub(crate) enum Change {
    /// Nothing: it works, or still does not.
    None,
    /// It was the first that failed.
    Failed(io::Error),
    /// It was the first that worked again; so many lines were lost since the file was first opened.
    Recovered(u64),
}

#[derive(Debug)]
pub(crate) struct Sink {
    file: File,
    /// Accepted, not written; begins at a line or with the rest of one.
    waiting: Vec<u8>,
    /// The last byte written was not a line end.
    torn: bool,
    lost: u64,
    failing: bool,
    /// The lines in the gzip member that is being written; `None` when lines are written as they are.
    member: Option<u64>,
}

impl Sink {
    pub(crate) fn new(file: File) -> Self {
        Self { file, waiting: Vec::new(), torn: false, lost: 0, failing: false, member: None }
    }

    /// Lines that were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Goes on with another file.
    pub(crate) fn replace(&mut self, file: File) {
        self.drain();
        self.file = file;
        // Half a line stays in the old file; its rest, if any waits, must not begin the new one.
        if std::mem::take(&mut self.torn)
            && let Some(end) = self.waiting.iter().position(|&byte| byte == b'\n')
        {
            self.waiting.drain(..=end);
        }
    }

    pub(crate) fn accept(&mut self, batch: Batch<'_>) -> Change {
        let mut why = self.drain();
        // A disk that filled up in the middle of a line: the next line must not stick to that half.
        if why.is_none() && self.torn && self.waiting.is_empty() {
            why = self.write(b"\n");
        }
        let (bytes, member) = match batch {
            Batch::Lines(lines) => (lines, None),
            Batch::Member(member, lines) => (member, Some(lines)),
        };
        self.member = member;
        if why.is_some() {
            self.lose(bytes);
        } else if self.waiting.is_empty() {
            why = self.write(bytes);
        } else {
            why = self.keep(bytes, false);
        }
        match why {
            Some(why) if !self.failing => {
                self.failing = true;
                Change::Failed(why)
            }
            None if self.failing && self.waiting.is_empty() => {
                self.failing = false;
                Change::Recovered(self.lost)
            }
            _ => Change::None,
        }
    }

    /// Writes what waits, as far as it goes.
    fn drain(&mut self) -> Option<io::Error> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() { None } else { self.write(&waiting) }
    }

    fn write(&mut self, bytes: &[u8]) -> Option<io::Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Some(self.fail(bytes, rest, ErrorKind::WriteZero.into())),
                Ok(written) => {
                    let (done, left) = rest.split_at(written.min(rest.len()));
                    self.torn = self.member.is_none() && done.last() != Some(&b'\n');
                    rest = left;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.keep(rest, rest.len() < bytes.len());
                }
                Err(error) => return Some(self.fail(bytes, rest, error)),
            }
        }
        None
    }

    fn fail(&mut self, bytes: &[u8], rest: &[u8], error: io::Error) -> io::Error {
        if self.member.is_some() {
            self.cut((bytes.len() - rest.len()) as u64);
        }
        if rest != b"\n" {
            self.lose(rest);
        }
        error
    }

    /// Takes back the beginning of a member that did not get its end: with it, nothing behind could be unpacked.
    fn cut(&mut self, written: u64) {
        // Only while it is the end of the file: another process may have appended. A pipe has no length to change.
        if let Ok(at) = self.file.stream_position()
            && self.file.metadata().is_ok_and(|file| file.is_file() && file.len() == at)
        {
            // What cannot be taken back stays.
            let _ = self.file.set_len(at.saturating_sub(written));
        }
    }

    fn keep(&mut self, bytes: &[u8], begun: bool) -> Option<io::Error> {
        let room = MOST_WAITING.saturating_sub(self.waiting.len());
        // Only whole lines or members; the first may be the rest of one that is half out already.
        let fits = match (bytes.get(..room), self.member) {
            (None, _) => bytes.len(),
            (Some(_), Some(_)) => {
                if begun {
                    bytes.len()
                } else {
                    0
                }
            }
            (Some(head), None) => head.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1),
        };
        self.waiting.extend_from_slice(&bytes[..fits]);
        if fits == bytes.len() {
            return None;
        }
        self.lose(&bytes[fits..]);
        Some(io::Error::new(ErrorKind::WouldBlock, "its reader does not read"))
    }

    fn lose(&mut self, bytes: &[u8]) {
        self.lost += self.member.unwrap_or_else(|| bytes.split(|&byte| byte == b'\n').count() as u64 - 1);
    }
}

#[cfg(test)]
mod tests;
