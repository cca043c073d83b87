//! Lines by nginx's `log_format`.

use config::model::http::{LogEscape, LogFormat, Part};

use super::Lookup;
use crate::escape;

/// Appends one line and its end.
///
/// Only variables are escaped. With `escape=default` and `escape=json` no variable can end the line; with
/// `escape=none` every one can, as in nginx.
pub fn render(format: &LogFormat, lookup: &mut Lookup<'_>, out: &mut Vec<u8>) {
    for part in &format.line.0 {
        match part {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Variable(variable) => {
                let start = out.len();
                if lookup(variable, out) {
                    escape_from(format.escape, start, out);
                } else {
                    out.truncate(start);
                    if format.escape == LogEscape::Default {
                        out.push(b'-');
                    }
                }
            }
        }
    }
    out.push(b'\n');
}

/// Escapes what was appended. Most values have nothing to escape, and are not copied.
fn escape_from(escape: LogEscape, start: usize, out: &mut Vec<u8>) {
    let dirty = match escape {
        LogEscape::Default => escape::dirty(&out[start..]),
        LogEscape::Json => escape::dirty_json(&out[start..]),
        LogEscape::None => None,
    };
    let Some(at) = dirty else { return };
    let raw = out.split_off(start + at);
    match escape {
        LogEscape::Default => escape::nginx(out, &raw),
        LogEscape::Json => escape::json(out, &raw),
        LogEscape::None => {}
    }
}

#[cfg(test)]
mod tests;
