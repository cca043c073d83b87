//! The lines of one thread for one file, on their way to few writes.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::file::LogFile;
use crate::sink::Batch;

/// What a buffer of no size of its own gathers before it is written.
pub(crate) const FLUSH_BYTES: usize = 32 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Buffer {
    lines: Vec<u8>,
    count: u64,
    oldest: Option<Instant>,
}

impl Buffer {
    /// Where to append one more line.
    pub(crate) fn line(&mut self, now: Instant) -> &mut Vec<u8> {
        self.oldest.get_or_insert(now);
        self.count += 1;
        &mut self.lines
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// When the first of its lines came.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.oldest
    }

    /// Whether its first line came so long ago.
    pub(crate) fn is_due(&self, now: Instant, after: Duration) -> bool {
        self.oldest.is_some_and(|oldest| now.saturating_duration_since(oldest) >= after)
    }

    /// Writes everything; with a level, as a gzip member.
    pub(crate) fn flush(&mut self, file: &LogFile, gzip: Option<u32>) {
        self.oldest = None;
        let lines = std::mem::take(&mut self.count);
        if self.lines.is_empty() {
            return;
        }
        match gzip {
            None => file.write(Batch::Lines(&self.lines)),
            Some(level) => file.write(Batch::Member(&member(&self.lines, level), lines)),
        }
        // One burst of very long lines is no reason to hold their memory for ever.
        let usual = self.lines.len().max(FLUSH_BYTES);
        self.lines.clear();
        if self.lines.capacity() > usual * 4 {
            self.lines.shrink_to(usual * 2);
        }
    }
}

fn member(lines: &[u8], level: u32) -> Vec<u8> {
    let mut encoder =
        GzEncoder::new(Vec::with_capacity(lines.len() / 4), Compression::new(level.clamp(1, 9)));
    // Neither fails: what it writes to is a vector.
    let _ = encoder.write_all(lines);
    encoder.finish().unwrap_or_default()
}
