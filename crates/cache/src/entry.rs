//! The file of what is kept: a block of fixed length with times, lengths and checksums, then key, `Vary`, validators
//! and the head as it came, then the body.
//!
//! The fixed block is written last, so that a file without a whole one is none; all else is covered by its checksums.
//! Numbers are little-endian.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use exchange::{Body, FileBody, Piece};
use http1::{AnswerTo, Limits, ResponseHead, parse_response_head};

use crate::checksum::Checksum;
use crate::key::{Id, VARY};

const MAGIC: &[u8; 8] = b"MONOCAC1";
/// Length of the fixed block.
pub const FIXED: usize = 128;
/// Key, fields and all between the fixed block and the body, bytes at most.
const META: usize = 4 << 20;
/// A body up to this length is read with its head, and stays in memory.
pub const SMALL: u64 = 16 * 1024;
/// What is read of a file at first.
const FIRST: usize = FIXED + 4096 + SMALL as usize;

/// All that is known of what is kept but its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// When the answer came. All times are seconds since 1970.
    pub date: u64,
    /// Until when it holds.
    pub valid: u64,
    /// Seconds behind that for which it may be sent while it is fetched anew.
    pub updating: u64,
    /// The same, if it cannot be.
    pub error: u64,
    /// `Last-Modified`
    pub last_modified: Option<u64>,
    /// It is the answer to HEAD: the head speaks of a body that is not here.
    pub without_body: bool,
    /// The form of it, where it says `Vary`.
    pub variant: Id,
    /// The key's text.
    pub key: Vec<u8>,
    /// `Vary`
    pub vary: Vec<u8>,
    /// `ETag`
    pub etag: Vec<u8>,
    /// What it can be purged by, spaces between.
    pub tags: Vec<u8>,
    /// Status line and fields, with the empty line.
    pub head: Bytes,
}

impl Meta {
    /// Where the body begins.
    pub fn body_start(&self) -> u64 {
        (FIXED + self.key.len() + self.vary.len() + self.etag.len() + self.tags.len() + self.head.len())
            as u64
    }

    /// What stands behind the fixed block.
    pub fn texts(&self) -> Vec<u8> {
        [&self.key[..], &self.vary, &self.etag, &self.tags, &self.head].concat()
    }

    /// The fixed block.
    pub fn fixed(&self, texts: u32, body_length: u64, body: u32) -> [u8; FIXED] {
        let mut block = [0; FIXED];
        let mut at = 12;
        let mut put = |bytes: &[u8]| {
            block[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&texts.to_le_bytes());
        put(&body.to_le_bytes());
        for text in [&self.key[..], &self.vary, &self.etag, &self.tags, &self.head] {
            put(&(text.len() as u32).to_le_bytes());
        }
        let modified = self.last_modified.unwrap_or(u64::MAX);
        for number in [body_length, self.date, self.valid, self.updating, self.error, modified] {
            put(&number.to_le_bytes());
        }
        put(&self.variant);
        put(&[u8::from(self.without_body)]);
        let sum = Checksum::of(&block[12..]);
        block[..8].copy_from_slice(MAGIC);
        block[8..12].copy_from_slice(&sum.to_le_bytes());
        block
    }
}

/// What the fixed block says.
struct Fixed {
    meta: Meta,
    lengths: [usize; 5],
    texts: u32,
    body: u32,
    body_length: u64,
}

impl Fixed {
    fn parse(block: &[u8]) -> Option<Self> {
        let block: &[u8; FIXED] = block.get(..FIXED)?.try_into().ok()?;
        if &block[..8] != MAGIC || block[8..12] != Checksum::of(&block[12..]).to_le_bytes() {
            return None;
        }
        let short = |at: usize| block[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        let long = |at: usize| block[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
        let lengths = [20, 24, 28, 32, 36].map(|at| short(at) as usize);
        if lengths.iter().any(|length| *length > META)
            || lengths.iter().sum::<usize>() > META
            || lengths[1] > VARY
        {
            return None;
        }
        Some(Self {
            lengths,
            texts: short(12),
            body: short(16),
            body_length: long(40),
            meta: Meta {
                date: long(48),
                valid: long(56),
                updating: long(64),
                error: long(72),
                last_modified: Some(long(80)).filter(|time| *time != u64::MAX),
                variant: block[88..104].try_into().unwrap_or_default(),
                without_body: block[104] == 1,
                ..Meta::default()
            },
        })
    }
}

/// Which file it is, as it was looked at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity([u64; 4], [i64; 2]);

impl Identity {
    /// Of what the system says of it.
    pub fn of(file: &Metadata) -> Self {
        Self([file.dev(), file.ino(), file.size(), file.mtime() as u64], [file.mtime_nsec(), file.ctime()])
    }
}

/// What is kept, opened.
#[derive(Debug)]
pub struct Stored {
    /// What is known of it.
    pub meta: Meta,
    /// The head, parsed.
    pub head: ResponseHead,
    /// Bytes of the body.
    pub body_length: u64,
    pub(crate) identity: Identity,
    body_start: u64,
    sum: u32,
    texts: u32,
    body: Where,
    verified: AtomicBool,
}

#[derive(Debug)]
enum Where {
    Memory(Bytes),
    File(Arc<File>),
}

impl Stored {
    /// Reads it. `Ok(None)`: that is no file of ours, or not a whole one.
    pub(crate) fn read(file: File) -> io::Result<Option<Self>> {
        let looked = file.metadata()?;
        if !looked.is_file() {
            return Ok(None);
        }
        let length = looked.len();
        let mut bytes = vec![0; FIRST.min(usize::try_from(length).unwrap_or(FIRST))];
        if !read_all(&file, &mut bytes, 0)? {
            return Ok(None);
        }
        let Some(mut fixed) = Fixed::parse(&bytes) else { return Ok(None) };
        let start = FIXED + fixed.lengths.iter().sum::<usize>();
        if (start as u64).checked_add(fixed.body_length) != Some(length) {
            return Ok(None);
        }
        let is_small = fixed.body_length <= SMALL;
        let wanted = if is_small { start + fixed.body_length as usize } else { start };
        if wanted > bytes.len() {
            let have = bytes.len();
            bytes.resize(wanted, 0);
            if !read_all(&file, &mut bytes[have..], have as u64)? {
                return Ok(None);
            }
        }
        if Checksum::of(&bytes[FIXED..start]) != fixed.texts {
            return Ok(None);
        }
        let bytes = Bytes::from(bytes);
        let mut at = FIXED;
        let mut take = |length: usize| {
            at += length;
            bytes.slice(at - length..at)
        };
        let lengths = fixed.lengths;
        fixed.meta.key = take(lengths[0]).to_vec();
        fixed.meta.vary = take(lengths[1]).to_vec();
        fixed.meta.etag = take(lengths[2]).to_vec();
        fixed.meta.tags = take(lengths[3]).to_vec();
        fixed.meta.head = take(lengths[4]);
        let Some(head) = parse_head(&fixed.meta) else { return Ok(None) };
        let body = if is_small {
            let body = bytes.slice(start..wanted);
            if Checksum::of(&body) != fixed.body {
                return Ok(None);
            }
            // The file is not needed any more, nor what was read of it beyond.
            Where::Memory(Bytes::copy_from_slice(&body))
        } else {
            Where::File(Arc::new(file))
        };
        if is_small {
            fixed.meta.head = Bytes::copy_from_slice(&fixed.meta.head);
        }
        Ok(Some(Self {
            meta: fixed.meta,
            head,
            body_length: fixed.body_length,
            identity: Identity::of(&looked),
            body_start: start as u64,
            sum: fixed.body,
            texts: fixed.texts,
            body,
            verified: AtomicBool::new(is_small),
        }))
    }

    /// What has just been written.
    pub(crate) fn written(
        meta: Meta,
        sums: (u32, u32),
        file: File,
        body_length: u64,
        small: Option<Bytes>,
    ) -> io::Result<Option<Self>> {
        let Some(head) = parse_head(&meta) else { return Ok(None) };
        let identity = Identity::of(&file.metadata()?);
        let body_start = meta.body_start();
        let body = small.map_or_else(|| Where::File(Arc::new(file)), Where::Memory);
        let (texts, sum) = sums;
        let verified = AtomicBool::new(true);
        Ok(Some(Self { meta, head, body_length, identity, body_start, sum, texts, body, verified }))
    }

    /// The block for the same with other times.
    pub(crate) fn fixed(&self, meta: &Meta) -> [u8; FIXED] {
        meta.fixed(self.texts, self.body_length, self.sum)
    }

    /// The body as it is sent.
    pub fn body(&self) -> Body {
        match &self.body {
            _ if self.body_length == 0 => Body::Empty,
            Where::Memory(bytes) => Body::Full(bytes.clone()),
            Where::File(file) => Body::File(FileBody {
                file: Arc::clone(file),
                pieces: vec![Piece { prefix: Bytes::new(), start: self.body_start, len: self.body_length }],
                suffix: Bytes::new(),
            }),
        }
    }

    /// Whether its body is known to be what was written.
    pub fn is_verified(&self) -> bool {
        self.verified.load(Ordering::Relaxed)
    }

    pub(crate) fn set_verified(&self) {
        self.verified.store(true, Ordering::Relaxed);
    }

    /// Reads all of the body, and says whether it is what was written. To be called where waiting does no harm.
    pub fn verify(&self) -> bool {
        let Where::File(file) = &self.body else { return true };
        let mut sum = Checksum::new();
        let mut piece = vec![0; 128 * 1024];
        let (mut at, end) = (self.body_start, self.body_start + self.body_length);
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(piece.len()).min(piece.len());
            if !matches!(read_all(file, &mut piece[..length], at), Ok(true)) {
                return false;
            }
            sum.add(&piece[..length]);
            at += length as u64;
        }
        let is_good = sum.finish() == self.sum;
        if is_good {
            self.set_verified();
        }
        is_good
    }

    /// Bytes of memory that it takes; `None` for what holds a file open.
    pub(crate) fn memory(&self) -> Option<u64> {
        match &self.body {
            Where::Memory(body) => {
                Some((body.len() + self.meta.head.len() + self.meta.key.len() + 512) as u64)
            }
            Where::File(_) => None,
        }
    }

    /// Whether nothing has to be fetched at this time.
    pub fn is_fresh(&self, now: u64) -> bool {
        self.meta.valid >= now
    }

    /// It may be sent while it is fetched anew, by its own word.
    pub fn may_update(&self, now: u64) -> bool {
        self.meta.valid.saturating_add(self.meta.updating) >= now
    }

    /// It may be sent because it cannot be fetched anew, by its own word.
    pub fn may_fail(&self, now: u64) -> bool {
        self.meta.valid.saturating_add(self.meta.error) >= now
    }
}

/// Key and tags of a file, for those that look through many. The head and the body are not looked at.
pub fn peek(file: &File) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut bytes = vec![0; 2048];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let Some(fixed) = Fixed::parse(&bytes) else { return Ok(None) };
    let [key, vary, etag, tags, _] = fixed.lengths;
    let wanted = FIXED + key + vary + etag + tags;
    if wanted > bytes.len() {
        bytes.resize(wanted, 0);
        if !read_all(file, &mut bytes, 0)? {
            return Ok(None);
        }
    }
    let tags = bytes[FIXED + key + vary + etag..wanted].to_vec();
    bytes.truncate(FIXED + key);
    Ok(Some((bytes.split_off(FIXED), tags)))
}

fn parse_head(meta: &Meta) -> Option<ResponseHead> {
    let mut head = ResponseHead::default();
    // What was taken once is taken again, however long.
    let limits = Limits { fields: 10_000, field_size: META, head: META, ..Limits::default() };
    let to = AnswerTo { head: false, upgrade: false };
    let taken = parse_response_head(&meta.head, &limits, true, to, &mut head).ok()??;
    (taken == meta.head.len()).then_some(head)
}

fn read_all(file: &File, bytes: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(bytes, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn meta() -> Meta {
        Meta {
            date: 1,
            valid: 2,
            updating: 3,
            error: 4,
            last_modified: Some(5),
            without_body: false,
            variant: [7; 16],
            key: b"the key".to_vec(),
            vary: b"accept".to_vec(),
            etag: b"\"tag\"".to_vec(),
            tags: b"a b".to_vec(),
            head: Bytes::from_static(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"),
        }
    }

    fn file(body: &[u8]) -> Vec<u8> {
        let meta = meta();
        let texts = meta.texts();
        let fixed = meta.fixed(Checksum::of(&texts), body.len() as u64, Checksum::of(body));
        [&fixed[..], &texts, body].concat()
    }

    fn read(bytes: &[u8]) -> Option<Stored> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Stored::read(file).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 10, 16 * 1024, 16 * 1024 + 1, 300_000] {
            let body = vec![b'x'; length];
            let stored = read(&file(&body)).unwrap();
            assert_eq!(stored.meta, meta());
            assert_eq!((stored.head.status, stored.body_length), (200, length as u64));
            assert!(stored.verify() && stored.is_verified());
        }
    }

    #[test]
    fn of_a_large_body_the_checksum_is_looked_at_when_told() {
        let mut bytes = file(&vec![b'x'; 300_000]);
        *bytes.last_mut().unwrap() = b'y';
        let stored = read(&bytes).unwrap();
        assert!(!stored.is_verified() && !stored.verify() && !stored.is_verified());
    }

    #[test]
    fn key_and_tags_are_found_without_the_rest() {
        let temp = tempfile::tempfile().unwrap();
        temp.write_all_at(&file(b"body"), 0).unwrap();
        assert_eq!(peek(&temp).unwrap(), Some((b"the key".to_vec(), b"a b".to_vec())));
    }

    proptest! {
        #[test]
        fn a_torn_file_is_none(at in 0_usize..200) {
            let bytes = file(b"a body of some bytes");
            let at = at.min(bytes.len() - 1);
            prop_assert!(read(&bytes[..at]).is_none());
        }

        #[test]
        fn one_wrong_bit_and_it_is_none(at in 0_usize..400, bit in 0_u8..8) {
            let mut bytes = file(b"a body of some bytes");
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(read(&bytes).is_none());
        }

        #[test]
        fn what_is_foreign_is_none(bytes: Vec<u8>) {
            prop_assert!(read(&bytes).is_none());
        }
    }
}
