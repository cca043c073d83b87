//! The binary: argv → master, edge; nothing else.
#![forbid(unsafe_code)]

fn main() {}
