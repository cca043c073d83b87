//! nginx's access logs: [`log_format`] renders lines, [`logs`] opens what the configuration names, [`writer`] is an
//! event loop's end of them, [`path`] makes the names that contain variables.

pub(crate) mod log_format;
pub(crate) mod logs;
mod path;
pub(crate) mod writer;

use config::model::http::{Part, Value, Variable};

/// Answers what a variable is: appends it as nginx writes it, or says `false` when there is no such thing here.
pub type Lookup<'a> = dyn FnMut(&Variable, &mut Vec<u8>) -> bool + 'a;

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
