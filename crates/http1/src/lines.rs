//! Finds the lines of a section as its bytes arrive, looking at each byte once.

use memchr::memchr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineError {
    TooLong,
    BareLf,
}

/// A complete line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where it begins.
    pub(crate) start: usize,
    /// Where its end begins.
    pub(crate) end: usize,
    /// Where the next one begins.
    pub(crate) next: usize,
}

impl Line {
    /// Whether there is nothing in it.
    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// Where the search for line ends stands. A line ends in CRLF, or in a bare LF where that is allowed; a CR elsewhere
/// is the business of whoever parses the line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LineScanner {
    /// First byte not yet looked at.
    scanned: usize,
    /// First byte of the line that is not yet complete.
    line: usize,
}

impl LineScanner {
    /// How much of the buffer has been looked at.
    pub(crate) fn scanned(self) -> usize {
        self.scanned
    }

    /// The next complete line of `window`, or `None` when more bytes are needed. `limit` is in bytes without the
    /// line's end and holds for incomplete lines too.
    ///
    /// The order of the checks makes the outcome independent of how the bytes arrived: a line that is too
    /// long is that before anything else is wrong with it.
    #[inline]
    pub(crate) fn next(
        &mut self,
        window: &[u8],
        limit: usize,
        bare_lf: bool,
    ) -> Result<Option<Line>, LineError> {
        let rest = window.get(self.scanned..).unwrap_or_default();
        let Some(offset) = memchr(b'\n', rest) else {
            self.scanned = self.scanned.max(window.len());
            // The carriage return may be there already.
            let partial = self.scanned - self.line;
            return if partial > limit.saturating_add(1) { Err(LineError::TooLong) } else { Ok(None) };
        };
        let lf = self.scanned + offset;
        if lf - self.line > limit.saturating_add(1) {
            return Err(LineError::TooLong);
        }
        let start = self.line;
        let end = if lf > start && window[lf - 1] == b'\r' {
            lf - 1
        } else if !bare_lf {
            return Err(LineError::BareLf);
        } else if lf - start > limit {
            return Err(LineError::TooLong);
        } else {
            lf
        };
        self.scanned = lf + 1;
        self.line = lf + 1;
        Ok(Some(Line { start, end, next: lf + 1 }))
    }
}
