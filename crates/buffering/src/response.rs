//! A response on its way from a fast worker to a slow client.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use exchange::Chunk;

use crate::{TempFile, TempSpace};

/// How much of one response is held.
#[derive(Clone, Copy, Debug)]
pub struct ResponseLimits {
    /// Bytes in memory before a temporary file is begun (nginx: `proxy_buffers`).
    pub memory: usize,
    /// Bytes in its temporary file (nginx: `proxy_max_temp_file_size`); 0: never a file.
    pub temp_file: u64,
}

/// First in, first out; each buffer belongs to one response on one thread.
///
/// Pushing never fails. When [`ResponseBuffer::has_room`] says no, the caller stops taking from the worker;
/// what it pushes none the less stays in memory. An empty buffer owns no memory but itself.
///
/// A file is made only for a client that was seen to take nothing ([`ResponseBuffer::set_slow`]): for one that takes what
/// comes it would be made, written, read and thrown away in the time that it costs to wait for a turn of the event loop.
#[derive(Debug)]
pub struct ResponseBuffer {
    queue: VecDeque<Item>,
    in_memory: usize,
    waiting: u64,
    spill: Option<TempFile>,
    /// The disk refused; this response stays in memory from then on.
    disk_refused: bool,
    /// The last piece found no room in the file; set until memory has room again.
    full: bool,
    /// The client took nothing when something was last offered to it.
    is_slow: bool,
    limits: ResponseLimits,
    space: Arc<TempSpace>,
}

#[derive(Debug)]
enum Item {
    Bytes(Bytes),
    /// A file that somebody else made.
    File {
        file: Arc<File>,
        start: u64,
        len: u64,
    },
    /// A range of the temporary file.
    Spilled {
        start: u64,
        len: u64,
    },
}

impl Item {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { len, .. } | Self::Spilled { len, .. } => *len,
        }
    }

    fn in_memory(&self) -> usize {
        if let Self::Bytes(bytes) = self { bytes.len() } else { 0 }
    }
}

impl ResponseBuffer {
    /// An empty buffer.
    pub const fn new(limits: ResponseLimits, space: Arc<TempSpace>) -> Self {
        Self {
            queue: VecDeque::new(),
            in_memory: 0,
            waiting: 0,
            spill: None,
            disk_refused: false,
            full: false,
            is_slow: false,
            limits,
            space,
        }
    }

    /// Bytes that wait, those of files too.
    pub const fn len(&self) -> u64 {
        self.waiting
    }

    /// Whether all that waits is in memory.
    pub fn is_in_memory(&self) -> bool {
        self.waiting == self.in_memory as u64
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The client takes nothing just now. Until it does, a file takes what is more than memory may hold, of what is there
    /// and of what comes.
    pub fn set_slow(&mut self) {
        self.is_slow = true;
        if self.in_memory <= self.limits.memory {
            return;
        }
        let mut stays = 0;
        let too_much = self.queue.iter().position(|item| {
            stays += item.in_memory();
            stays > self.limits.memory
        });
        // As long as a range of it waits among the rest, the file is not spent.
        let spill = self.spill.as_ref().filter(|spill| !self.is_spent(spill));
        let _file = spill.map(|spill| Arc::clone(spill.file()));
        let rest = self.queue.split_off(too_much.unwrap_or(self.queue.len()));
        for item in &rest {
            self.in_memory -= item.in_memory();
            self.waiting -= item.len();
        }
        for item in rest {
            match item {
                Item::Bytes(bytes) => self.push(bytes),
                Item::File { file, start, len } => self.push_file(file, start, len),
                Item::Spilled { len, .. } => {
                    self.waiting += len;
                    self.queue.push_back(item);
                }
            }
        }
    }

    /// Whether the client took nothing when something was last offered to it.
    pub const fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// Whether the caller may push more. Memory may be exceeded by the one piece that was pushed while this
    /// still said yes.
    pub fn has_room(&self) -> bool {
        self.in_memory < self.limits.memory.max(1)
            || (self.is_slow
                && !self.disk_refused
                && !self.full
                && self.space.has_room()
                && self.spilled() < self.limits.temp_file)
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.waiting += bytes.len() as u64;
        if self.is_slow && self.in_memory + bytes.len() > self.limits.memory {
            if self.spill(&bytes) {
                return;
            }
            self.full = true;
        }
        self.in_memory += bytes.len();
        self.queue.push_back(Item::Bytes(bytes));
    }

    /// Whether some of what was pushed is in a temporary file.
    pub const fn has_file(&self) -> bool {
        self.spill.is_some()
    }

    /// Appends a range of a file, which takes no space here.
    pub fn push_file(&mut self, file: Arc<File>, start: u64, len: u64) {
        if len > 0 {
            self.waiting += len;
            self.queue.push_back(Item::File { file, start, len });
        }
    }

    /// Takes the next piece. What was spilled in one go comes back as one range, for sendfile.
    pub fn pop(&mut self) -> Option<Chunk> {
        let chunk = match self.queue.pop_front()? {
            Item::Bytes(bytes) => {
                self.in_memory -= bytes.len();
                self.waiting -= bytes.len() as u64;
                self.full &= self.in_memory >= self.limits.memory;
                Chunk::Data(bytes)
            }
            Item::File { file, start, len } => {
                self.waiting -= len;
                Chunk::File { file, start, len }
            }
            Item::Spilled { start, len } => {
                self.waiting -= len;
                let file = Arc::clone(self.spill.as_ref()?.file());
                Chunk::File { file, start, len }
            }
        };
        self.is_slow = false;
        Some(chunk)
    }

    fn spilled(&self) -> u64 {
        match &self.spill {
            // Consumed to its end and nobody is sending from it: the next spill begins a new file. (The old
            // one is not written over: the kernel may still be sending its pages.)
            Some(file) if self.is_spent(file) => 0,
            Some(file) => file.len(),
            None => 0,
        }
    }

    fn is_spent(&self, file: &TempFile) -> bool {
        Arc::strong_count(file.file()) == 1
            && !self.queue.iter().any(|item| matches!(item, Item::Spilled { .. }))
    }

    fn spill(&mut self, bytes: &Bytes) -> bool {
        let len = bytes.len() as u64;
        if self.disk_refused || self.spilled() + len > self.limits.temp_file || !self.space.has_room() {
            return false;
        }
        if self.spill.as_ref().is_some_and(|file| self.is_spent(file)) {
            self.spill = None;
        }
        let start = self.spill.as_ref().map_or(0, TempFile::len);
        match self.append(bytes) {
            Ok(()) => {
                match self.queue.back_mut() {
                    Some(Item::Spilled { start: first, len: before }) if *first + *before == start => {
                        *before += len;
                    }
                    _ => self.queue.push_back(Item::Spilled { start, len }),
                }
                true
            }
            // Others will be done; until then memory is what there is.
            Err(crate::SpillError::CapReached { .. }) => false,
            Err(error) => {
                self.disk_refused = true;
                telemetry::error_limited!(
                    "response not buffered on disk, its worker waits for the client: {error}"
                );
                false
            }
        }
    }

    fn append(&mut self, bytes: &Bytes) -> Result<(), crate::SpillError> {
        let file = match &mut self.spill {
            Some(file) => file,
            none => none.insert(self.space.create()?),
        };
        file.append(bytes)
    }
}

#[cfg(test)]
mod tests;
