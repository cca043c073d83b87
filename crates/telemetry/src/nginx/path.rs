//! Log files whose names contain variables.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::model::http::{Part, Value};

use super::Lookup;
use crate::file::{LogFile, Target};

/// So many files are held open; the one that was used the longest ago is closed for another.
pub(super) const MOST_OPEN: usize = 64;

/// The files that are open.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    files: HashMap<Vec<u8>, (Arc<LogFile>, u64)>,
    uses: u64,
}

impl OpenFiles {
    /// The open file of this name. The directory must be there.
    pub(super) fn open(&self, path: &[u8]) -> io::Result<Arc<LogFile>> {
        let mut table = self.table();
        table.uses += 1;
        let now = table.uses;
        if let Some((file, used)) = table.files.get_mut(path) {
            *used = now;
            return Ok(Arc::clone(file));
        }
        let name = PathBuf::from(OsString::from_vec(path.to_vec()));
        let file = LogFile::open(Target::path(&name))?;
        if table.files.len() >= MOST_OPEN
            && let Some(oldest) =
                table.files.iter().min_by_key(|(_, (_, used))| *used).map(|(path, _)| path.clone())
        {
            table.files.remove(&oldest);
        }
        table.files.insert(path.to_vec(), (Arc::clone(&file), now));
        Ok(file)
    }

    /// Closes all; the next line opens its file anew.
    pub(super) fn close(&self) {
        self.table().files.clear();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a name is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("a variable made a `..` in it")]
    Parent,
    #[error("it contains a NUL byte")]
    Nul,
    #[error("it does not begin with a slash")]
    Relative,
}

/// Makes the name of a file. Clients have a say in variables: they may choose a directory below, never one above.
pub(super) fn render(path: &Value, lookup: &mut Lookup<'_>, out: &mut Vec<u8>) -> Result<(), Refused> {
    let mut from_variables = Vec::with_capacity(4);
    for part in &path.0 {
        let start = out.len();
        match part {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Variable(variable) => {
                if !lookup(variable, out) {
                    out.truncate(start);
                }
                from_variables.push(start..out.len());
            }
        }
    }
    if out.contains(&0) {
        return Err(Refused::Nul);
    }
    if out.first() != Some(&b'/') {
        return Err(Refused::Relative);
    }
    if has_parent(out, &from_variables) { Err(Refused::Parent) } else { Ok(()) }
}

/// Whether a component `..` touches a variable. One that the configuration wrote itself is its own business.
fn has_parent(path: &[u8], from_variables: &[Range<usize>]) -> bool {
    let mut start = 0;
    path.split(|&byte| byte == b'/').any(|component| {
        let range = start..start + component.len();
        start = range.end + 1;
        component == b".."
            && from_variables
                .iter()
                .any(|variable| variable.start <= range.end && range.start <= variable.end)
    })
}

#[cfg(test)]
mod tests {
    use config::model::http::Variable;

    use super::*;

    fn made(parts: &[&str], content: &[u8]) -> Result<Vec<u8>, Refused> {
        let part = |text: &&str| match *text {
            "$" => Part::Variable(Variable::Host),
            text => Part::Text(text.into()),
        };
        let mut out = Vec::new();
        let mut lookup = |_: &Variable, out: &mut Vec<u8>| {
            out.extend_from_slice(content);
            true
        };
        render(&Value(parts.iter().map(part).collect()), &mut lookup, &mut out).map(|()| out)
    }

    #[test]
    fn a_variable_chooses_a_file_below() {
        assert_eq!(made(&["/logs/", "$", ".log"], b"a/b..c"), Ok(b"/logs/a/b..c.log".to_vec()));
        assert_eq!(made(&["/logs/../x/", "$"], b"a"), Ok(b"/logs/../x/a".to_vec()));
        assert_eq!(made(&["/logs/", "$", ".", "$", "/x"], b""), Ok(b"/logs/./x".to_vec()));
    }

    #[test]
    fn a_variable_leads_nowhere_above() {
        for (parts, content) in [
            (&["/logs/", "$", ".log"][..], &b"../../etc/x"[..]),
            (&["/logs/", "$"], b".."),
            (&["/logs/", "$", "/x"], b"a/.."),
            (&["/logs/.", "$", "/x"], b"."),
            (&["/logs/", "$", "./x"], b"."),
            (&["/logs/..", "$"], b"/etc/x"),
        ] {
            assert_eq!(made(parts, content), Err(Refused::Parent), "{parts:?}");
        }
        assert_eq!(made(&["/logs/", "$"], b"a\0"), Err(Refused::Nul));
        assert_eq!(made(&["$", "/x"], b"logs"), Err(Refused::Relative));
    }
}
