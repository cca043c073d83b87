//! nginx's access logs: [`log_format`] renders lines, [`logs`] opens what the configuration names, [`writer`] is an
//! event loop's end of them, [`path`] makes the names that contain variables.

pub(crate) mod log_format;
pub(crate) mod logs;
mod path;
pub(crate) mod writer;

use std::fs::File;
use std::io;

use config::model::http::{Part, Value, Variable};

/// Answers what a variable is: appends it as nginx writes it, or says `false` when there is no such thing here.
pub type Lookup<'a> = dyn FnMut(&Variable, &mut Vec<u8>) -> bool + 'a;

/// How files whose names have variables are found where links are not simply followed (`disable_symlinks`).
pub trait Way {
    /// Whether there is a directory of this name.
    fn is_directory(&self, path: &[u8]) -> bool;

    /// Opens a file for what is to be added at its end, and makes it if it is not there.
    fn append(&self, path: &[u8]) -> io::Result<File>;

    /// What tells this way from others: what was opened by one is not for another.
    fn name(&self) -> &[u8];
}

/// Appends a value as it is; a variable that is not found is empty.
fn evaluate(value: &Value, lookup: &mut Lookup<'_>, out: &mut Vec<u8>) {
    for part in &value.0 {
        match part {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Variable(variable) => {
                let start = out.len();
                if !lookup(variable, out) {
                    out.truncate(start);
                }
            }
        }
    }
}
