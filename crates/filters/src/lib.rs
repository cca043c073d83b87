//! Transform a response: not-modified, range, headers, compress.
#![forbid(unsafe_code)]
