//! Finds the lines of a section as its bytes arrive, looking at each byte once.

use memchr::memchr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineError {
    TooLong,
    BareLf,
}

/// Where the search for line ends stands. Every line ends in CRLF; a CR elsewhere is the business of
/// whoever parses the line.
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

    /// The next complete line of `window` as start and end without its CRLF, or `None` when more bytes are
    /// needed. `limit` is in bytes without the CRLF and holds for incomplete lines too.
    ///
    /// The order of the checks makes the outcome independent of how the bytes arrived: a line that is too
    /// long is that before anything else is wrong with it.
    #[inline]
    pub(crate) fn next(&mut self, window: &[u8], limit: usize) -> Result<Option<(usize, usize)>, LineError> {
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
        if lf == self.line || window[lf - 1] != b'\r' {
            return Err(LineError::BareLf);
        }
        let line = (self.line, lf - 1);
        self.scanned = lf + 1;
        self.line = lf + 1;
        Ok(Some(line))
    }
}
