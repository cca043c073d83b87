//! Memory first, then an unlinked temporary file, under one cap.
#![forbid(unsafe_code)]
