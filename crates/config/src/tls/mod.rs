//! Names of TLS's cipher suites and groups, and the languages in which they are chosen.

mod ciphers;
mod groups;
mod suites;

pub use ciphers::{Chosen, DEFAULT_12, DEFAULT_13, ciphers, suites_of_13};
pub use groups::{DEFAULT_GROUPS, group_name, groups};
pub use suites::suite_name;
