//! What the groups of the last pattern matched.

/// What `$1` to `$9` stand for: the groups of the last regular expression that matched, and the text that it matched.
#[derive(Debug, Clone, Default)]
pub struct Captures {
    subject: Vec<u8>,
    spans: [(u32, u32); Self::MOST],
    count: usize,
}

impl Captures {
    /// The last group that has a number of one digit.
    pub const MOST: usize = 9;

    /// What group `number` (from 1) matched; empty if it took no part or does not exist.
    pub fn group(&self, number: u8) -> &[u8] {
        let index = usize::from(number).wrapping_sub(1);
        if index >= self.count {
            return b"";
        }
        let (start, end) = self.spans[index];
        &self.subject[start as usize..end as usize]
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.subject.clear();
    }

    pub(super) fn fill(
        &mut self,
        subject: &[u8],
        groups: usize,
        span: impl Fn(usize) -> Option<(usize, usize)>,
    ) {
        self.subject.clear();
        self.count = groups.min(Self::MOST);
        if self.count == 0 {
            return;
        }
        self.subject.extend_from_slice(subject);
        for (index, slot) in self.spans[..self.count].iter_mut().enumerate() {
            *slot = span(index + 1).map_or((0, 0), |(start, end)| (start as u32, end as u32));
        }
    }
}
