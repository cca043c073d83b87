//! Settings, their table, merge, checks and diagnostics; the typed model.
#![forbid(unsafe_code)]
