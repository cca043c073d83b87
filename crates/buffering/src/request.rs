//! A request's body, collected until it is whole.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Named, SpillError, TempFile, TempSpace};

/// Collects a body: up to `memory_limit` bytes in memory, a longer one in a temporary file.
#[derive(Debug)]
pub struct BodyBuffer {
    memory: Vec<u8>,
    memory_limit: usize,
    file: Option<TempFile>,
    /// The body goes to a file whatever its length, and the file has a name.
    named: Option<Named>,
    space: Arc<TempSpace>,
}

impl BodyBuffer {
    /// An empty buffer; `memory_limit` is nginx's `client_body_buffer_size`.
    pub const fn new(memory_limit: usize, space: Arc<TempSpace>) -> Self {
        Self { memory: Vec::new(), memory_limit, file: None, named: None, space }
    }

    /// The same, but that every body goes to a file that has a name.
    pub const fn in_file(memory_limit: usize, space: Arc<TempSpace>, named: Named) -> Self {
        Self { memory: Vec::new(), memory_limit, file: None, named: Some(named), space }
    }

    /// Reserves memory for a body whose length was announced. No more than a buffer of the memory limit
    /// is ever reserved, so an announcement alone costs little.
    pub fn expect(&mut self, length: u64) {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(self.memory_limit);
        self.memory.reserve_exact(length.saturating_sub(self.memory.len()));
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.file.as_ref().map_or(0, TempFile::len) + self.memory.len() as u64
    }

    /// Whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a piece.
    ///
    /// # Errors
    /// The body is lost then; answer with [`SpillError::status`].
    pub fn push(&mut self, data: &[u8]) -> Result<(), SpillError> {
        if self.memory.len() + data.len() <= self.memory_limit {
            self.memory.extend_from_slice(data);
            return Ok(());
        }
        // Memory is from now on what gathers small pieces (a chunk may be one byte long) for one write.
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.space.create_for_body(self.named)?),
        };
        if !self.memory.is_empty() {
            file.append(&self.memory)?;
            self.memory.clear();
        }
        if data.len() > self.memory_limit {
            file.append(data)
        } else {
            self.memory.extend_from_slice(data);
            Ok(())
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// The last bytes found no space.
    pub fn finish(mut self) -> Result<BufferedBody, SpillError> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None if self.memory.is_empty() => return Ok(BufferedBody::Empty),
            None if self.named.is_none() => return Ok(BufferedBody::Memory(self.memory.into())),
            None => self.space.create_for_body(self.named)?,
        };
        if !self.memory.is_empty() {
            file.append(&self.memory)?;
        }
        Ok(BufferedBody::File(SpilledBody(file)))
    }
}

/// A whole body.
#[derive(Debug, Default)]
pub enum BufferedBody {
    /// None.
    #[default]
    Empty,
    /// In memory; never empty.
    Memory(Bytes),
    /// In a temporary file.
    File(SpilledBody),
}

impl BufferedBody {
    /// Length in bytes.
    pub const fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(spilled) => spilled.len(),
        }
    }

    /// Whether there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A body in a temporary file, whose space is given back when this is dropped (the file itself lives as
/// long as any [`Arc`] or duplicate of its descriptor).
#[derive(Debug)]
pub struct SpilledBody(TempFile);

impl SpilledBody {
    /// The file. Its offset stands at the end; read with positioned reads, or seek in a duplicate's user.
    pub const fn file(&self) -> &Arc<File> {
        self.0.file()
    }

    /// Its path, which is gone already unless the body is [`BodyBuffer::in_file`].
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Length in bytes; never 0.
    pub const fn len(&self) -> u64 {
        self.0.len()
    }

    /// Never.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;

    use super::*;

    fn bytes_of(body: &BufferedBody) -> Vec<u8> {
        match body {
            BufferedBody::Empty => Vec::new(),
            BufferedBody::Memory(bytes) => bytes.to_vec(),
            BufferedBody::File(spilled) => {
                let mut read = vec![0; spilled.len() as usize];
                spilled.file().read_exact_at(&mut read, 0).unwrap();
                assert_eq!(spilled.file().metadata().unwrap().len(), spilled.len());
                read
            }
        }
    }

    proptest! {
        #[test]
        fn any_pieces_arrive_whole(pieces: Vec<Vec<u8>>, limit in 0usize..300, announced: u64) {
            let dir = tempfile::tempdir().unwrap();
            let space = TempSpace::new(dir.path(), u64::MAX);
            let mut buffer = BodyBuffer::new(limit, Arc::clone(&space));
            buffer.expect(announced);
            for piece in &pieces {
                buffer.push(piece).unwrap();
            }
            let whole = pieces.concat();
            prop_assert_eq!(buffer.len(), whole.len() as u64);
            let body = buffer.finish().unwrap();
            prop_assert_eq!(matches!(body, BufferedBody::File(_)), whole.len() > limit);
            prop_assert_eq!(bytes_of(&body), whole);
            drop(body);
            prop_assert_eq!(space.used(), 0);
        }
    }

    #[test]
    fn an_announcement_reserves_no_more_than_the_limit() {
        let mut buffer = BodyBuffer::new(1000, TempSpace::new("/nonexistent", 0));
        buffer.expect(u64::MAX);
        assert!(buffer.memory.capacity() < 2000);
        buffer.push(&[0; 1000]).unwrap();
        assert_eq!(buffer.push(b"x").unwrap_err().status(), 500);
    }

    #[test]
    fn a_body_in_a_file_of_its_own_has_a_name_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let space = TempSpace::new(dir.path(), 50);
        let body_of = |bytes: &[u8], named| {
            let mut buffer = BodyBuffer::in_file(10, Arc::clone(&space), named);
            buffer.push(bytes).unwrap();
            buffer.finish().unwrap()
        };
        let path_of = |body: &BufferedBody| match body {
            BufferedBody::File(spilled) => spilled.path().to_owned(),
            other => panic!("{other:?}"),
        };
        assert!(body_of(b"", Named::Keep).is_empty());
        let removed = body_of(b"short", Named::Remove);
        let kept = body_of(b"longer than memory", Named::Keep);
        let (removed_path, kept_path) = (path_of(&removed), path_of(&kept));
        assert_eq!(std::fs::read(&removed_path).unwrap(), b"short");
        assert_eq!(std::fs::read(&kept_path).unwrap(), b"longer than memory");
        drop((removed, kept));
        assert!(!removed_path.exists());
        assert!(kept_path.exists());
        assert_eq!(space.used(), 0);
        // Another process that begins to count, too, takes none that is there.
        let other = TempSpace::new(dir.path(), 50);
        let mut buffer = BodyBuffer::in_file(10, other, Named::Keep);
        buffer.push(b"another").unwrap();
        assert_ne!(path_of(&buffer.finish().unwrap()), kept_path);
    }

    #[test]
    fn the_cap_is_an_error_and_space_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let space = TempSpace::new(dir.path(), 50);
        let mut buffer = BodyBuffer::new(10, Arc::clone(&space));
        let error = (0..100).find_map(|_| buffer.push(b"1234567").err()).expect("a cap");
        assert_eq!(error.status(), 503);
        assert!(space.used() > 30);
        drop(buffer);
        assert_eq!(space.used(), 0);
    }
}
