//! A field section: names and values in one block of memory.

use std::ops::Range;

use crate::Name;

#[derive(Clone, Copy, Debug)]
struct Entry {
    name_start: u32,
    value_start: u32,
    value_len: u32,
    name_len: u16,
    name: Name,
}

/// A block of lines within [`Fields`].
#[derive(Clone, Copy, Debug)]
pub struct CopiedBlock {
    start: usize,
    length: usize,
}

impl CopiedBlock {
    fn entry(self, known: Name, name: Range<usize>, value: Range<usize>) -> Entry {
        assert!(name.end.max(value.end) <= self.length, "a name or value outside of its block");
        Entry {
            name_start: (self.start + name.start) as u32,
            value_start: (self.start + value.start) as u32,
            value_len: value.len() as u32,
            name_len: name.len() as u16,
            name: known,
        }
    }
}

/// An ordered list of field lines. Names keep the spelling they came with; look-ups ignore case.
///
/// All bytes stand in one block, so that a whole section costs two allocations at most, and none when the
/// object is used again after [`Fields::clear`].
#[derive(Clone, Debug, Default)]
pub struct Fields {
    block: Vec<u8>,
    entries: Vec<Entry>,
}

impl Fields {
    /// An empty section.
    pub const fn new() -> Self {
        Self { block: Vec::new(), entries: Vec::new() }
    }

    /// Empties the section and keeps its memory.
    pub fn clear(&mut self) {
        self.block.clear();
        self.entries.clear();
    }

    /// Bytes of memory held, used or not.
    pub fn capacity(&self) -> usize {
        self.block.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Number of field lines.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends a line. The caller has checked that name and value hold no CR, LF or NUL.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let known = Name::of(name);
        self.push_as(known, name, value);
    }

    /// Appends a line with a known name in its canonical spelling.
    pub fn push_known(&mut self, name: Name, value: &[u8]) {
        self.push_as(name, name.as_str().as_bytes(), value);
    }

    /// Appends field lines by which they are and where name and value stand in `block`, which is copied as a whole.
    ///
    /// # Panics
    ///
    /// If one stands outside.
    pub fn push_block(
        &mut self,
        block: &[u8],
        lines: impl Iterator<Item = (Name, Range<usize>, Range<usize>)>,
    ) {
        let start = self.block.len();
        self.block.extend_from_slice(block);
        self.entries.extend(lines.map(|(known, name, value)| {
            assert!(name.end.max(value.end) <= block.len(), "a name or value outside of its block");
            Entry {
                name_start: (start + name.start) as u32,
                value_start: (start + value.start) as u32,
                value_len: value.len() as u32,
                name_len: name.len() as u16,
                name: known,
            }
        }));
    }

    /// Copies a block in which lines stand that [`Fields::push_within`] appends.
    pub fn copy_block(&mut self, block: &[u8]) -> CopiedBlock {
        let start = self.block.len();
        self.block.extend_from_slice(block);
        CopiedBlock { start, length: block.len() }
    }

    /// Appends a line by where its name and value stand in a block that was copied before.
    ///
    /// # Panics
    ///
    /// If one stands outside.
    pub fn push_within(&mut self, block: CopiedBlock, known: Name, name: Range<usize>, value: Range<usize>) {
        self.entries.push(block.entry(known, name, value));
    }

    /// Makes room for so many field lines that have so many bytes together.
    pub fn reserve(&mut self, lines: usize, bytes: usize) {
        self.entries.reserve(lines);
        self.block.reserve(bytes);
    }

    /// Appends a field line whose name was looked at before: `known` is [`Name::of`] it.
    fn push_as(&mut self, known: Name, name: &[u8], value: &[u8]) {
        let name_start = self.block.len() as u32;
        self.block.reserve(name.len() + value.len());
        self.block.extend_from_slice(name);
        let value_start = self.block.len() as u32;
        self.block.extend_from_slice(value);
        self.entries.push(Entry {
            name_start,
            value_start,
            value_len: value.len() as u32,
            name_len: name.len() as u16,
            name: known,
        });
    }

    /// Replaces every line of that name by one, in the place of the first.
    pub fn set(&mut self, name: Name, value: &[u8]) {
        let Some(first) = self.entries.iter().position(|e| e.name == name) else {
            return self.push_known(name, value);
        };
        let value_start = self.block.len() as u32;
        self.block.extend_from_slice(value);
        let entry = &mut self.entries[first];
        (entry.value_start, entry.value_len) = (value_start, value.len() as u32);
        let mut is_first = true;
        self.entries.retain(|e| e.name != name || std::mem::take(&mut is_first));
    }

    /// Removes every line of that name; tells whether there was one.
    pub fn remove(&mut self, name: Name) -> bool {
        let before = self.entries.len();
        self.entries.retain(|e| e.name != name);
        self.entries.len() != before
    }

    /// Removes every line with that name, known or not.
    pub fn remove_named(&mut self, name: &[u8]) {
        self.remove_if(|other| other.eq_ignore_ascii_case(name));
    }

    /// Removes every line whose name is one of those.
    pub fn remove_if(&mut self, is_one: impl Fn(&[u8]) -> bool) {
        let block = &self.block;
        self.entries.retain(|e| !is_one(slice(block, e.name_start, u32::from(e.name_len))));
    }

    /// The value of the first line of that name.
    pub fn first(&self, name: Name) -> Option<&[u8]> {
        self.entries.iter().find(|e| e.name == name).map(|e| self.value(e))
    }

    /// The value, if exactly one line has the name.
    pub fn only(&self, name: Name) -> Option<&[u8]> {
        let mut all = self.all(name);
        let first = all.next()?;
        all.next().is_none().then_some(first)
    }

    /// The values of all lines of that name, in order.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().filter(move |e| e.name == name).map(|e| self.value(e))
    }

    /// Whether there is a line of that name.
    pub fn has(&self, name: Name) -> bool {
        self.entries.iter().any(|e| e.name == name)
    }

    /// The value of the first line with that name, known or not, whatever its case.
    pub fn named(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(_, n, _)| n.eq_ignore_ascii_case(name)).map(|(_, _, v)| v)
    }

    /// All lines in order: known name, spelling, value.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Name, &[u8], &[u8])> {
        self.entries
            .iter()
            .map(|e| (e.name, slice(&self.block, e.name_start, u32::from(e.name_len)), self.value(e)))
    }

    fn value(&self, entry: &Entry) -> &[u8] {
        slice(&self.block, entry.value_start, entry.value_len)
    }
}

fn slice(block: &[u8], start: u32, len: u32) -> &[u8] {
    &block[start as usize..start as usize + len as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_taken_with_its_lines() {
        let mut fields = Fields::new();
        fields.push(b"X-A", b"1");
        let block = b"Host: a.example\r\nEmpty:\r\n";
        let lines = [(Name::Host, 0..4, 6..15), (Name::Other, 17..22, 0..0)];
        fields.push_block(block, lines.into_iter());
        let all: Vec<_> = fields.iter().collect();
        assert_eq!(all[1], (Name::Host, b"Host".as_slice(), b"a.example".as_slice()));
        assert_eq!(all[2], (Name::Other, b"Empty".as_slice(), b"".as_slice()));
    }

    #[test]
    fn set_replaces_all_lines_of_the_name() {
        let mut fields = Fields::new();
        fields.push(b"vary", b"Cookie");
        fields.push(b"X-A", b"1");
        fields.push(b"Vary", b"Accept");
        assert_eq!(fields.all(Name::Vary).collect::<Vec<_>>(), [b"Cookie".as_slice(), b"Accept"]);
        assert_eq!(fields.only(Name::Vary), None);
        fields.set(Name::Vary, b"*");
        assert_eq!(fields.only(Name::Vary), Some(b"*".as_slice()));
        assert_eq!(fields.iter().map(|(name, ..)| name).collect::<Vec<_>>(), [Name::Vary, Name::Other]);
        assert_eq!(fields.named(b"x-a"), Some(b"1".as_slice()));
        fields.remove_named(b"X-a");
        assert_eq!(fields.len(), 1);
    }
}
