//! Access log formats and the error log.
#![forbid(unsafe_code)]
