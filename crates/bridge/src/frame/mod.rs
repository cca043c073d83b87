//! Frames: what the rings carry.

use std::ops::Range;

mod request;
mod response;
#[cfg(test)]
mod tests;

pub(crate) use request::parse_body_file;
pub use request::{RequestFrame, RequestView};
pub use response::{ResponseFrame, ResponseHead, ResponseLog};

pub(crate) const REQUEST: u8 = 1;
pub(crate) const REQUEST_BODY: u8 = 2;
pub(crate) const BODY_FILE: u8 = 3;
pub(crate) const REQUEST_END: u8 = 4;
pub(crate) const HEAD: u8 = 16;
pub(crate) const BODY: u8 = 17;
pub(crate) const FILE: u8 = 18;
pub(crate) const END: u8 = 19;
pub(crate) const LOG: u8 = 20;

/// Length and kind before each payload.
pub(crate) const FRAME_HEADER: usize = 8;

/// What does not fit into a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Writes frames one after the other into a buffer.
pub(crate) struct Encoder<'a> {
    pub(crate) into: &'a mut Vec<u8>,
}

impl Encoder<'_> {
    /// Begins a frame; [`Encoder::close`] with what this returns ends it.
    fn open(&mut self, kind: u8) -> usize {
        let start = self.into.len();
        self.into.extend_from_slice(&[0, 0, 0, 0, kind, 0, 0, 0]);
        start
    }

    fn close(&mut self, start: usize) {
        let length = (self.into.len() - start - FRAME_HEADER) as u32;
        self.into[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn str16(&mut self, text: &[u8]) -> Result<(), TooLong> {
        let length = u16::try_from(text.len()).map_err(|_| TooLong)?;
        self.into.extend_from_slice(&length.to_le_bytes());
        self.into.extend_from_slice(text);
        Ok(())
    }

    fn str32(&mut self, text: &[u8]) -> Result<(), TooLong> {
        let length = u32::try_from(text.len()).map_err(|_| TooLong)?;
        self.into.extend_from_slice(&length.to_le_bytes());
        self.into.extend_from_slice(text);
        Ok(())
    }

    fn fields<'a>(&mut self, fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), TooLong> {
        let place = self.into.len();
        self.into.extend_from_slice(&[0, 0]);
        let mut count = 0_u16;
        for (name, value) in fields {
            count = count.checked_add(1).ok_or(TooLong)?;
            self.str16(name)?;
            self.str32(value)?;
        }
        self.into[place..place + 2].copy_from_slice(&count.to_le_bytes());
        Ok(())
    }

    /// Only the header of a frame whose payload goes elsewhere.
    pub(crate) fn header(&mut self, kind: u8, length: u32) {
        self.into.extend_from_slice(&frame_header(kind, length));
    }
}

pub(crate) fn frame_header(kind: u8, length: u32) -> [u8; FRAME_HEADER] {
    let [a, b, c, d] = length.to_le_bytes();
    [a, b, c, d, kind, 0, 0, 0]
}

/// Kind and payload length; `None` if these bytes are no frame's header.
pub(crate) fn read_header(bytes: &[u8]) -> Option<(u8, usize)> {
    let &[a, b, c, d, kind, 0, 0, 0] = bytes.get(..FRAME_HEADER)? else { return None };
    Some((kind, u32::from_le_bytes([a, b, c, d]) as usize))
}

/// Reads a payload from the front; `None` where it is too short.
#[derive(Clone)]
struct Cursor<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.all.len())?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let range = self.take(N)?;
        self.all[range].try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn str16(&mut self) -> Option<Range<usize>> {
        let length = self.u16()?;
        self.take(length.into())
    }

    fn str32(&mut self) -> Option<Range<usize>> {
        let length = self.array().map(u32::from_le_bytes)?;
        self.take(length as usize)
    }

    /// A count and so many fields, up to the end.
    fn fields(&mut self) -> Option<(usize, u16)> {
        let count = self.u16()?;
        let start = self.at;
        for _ in 0..count {
            self.str16()?;
            self.str32()?;
        }
        (self.at == self.all.len()).then_some((start, count))
    }

    fn field(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let all = self.all;
        let name = self.str16()?;
        let value = self.str32()?;
        Some((&all[name], &all[value]))
    }
}

/// Header fields in the order in which they were sent.
#[derive(Clone)]
pub struct Fields<'a> {
    cursor: Cursor<'a>,
    left: u16,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.cursor.field()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Fields<'_> {}

impl std::fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fields").field("left", &self.left).finish_non_exhaustive()
    }
}
