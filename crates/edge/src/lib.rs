//! One edge process: accept loop, connection, phases, drain.
#![forbid(unsafe_code)]
