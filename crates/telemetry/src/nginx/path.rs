//! Log files whose names contain variables.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use config::model::http::{LogFileCache, Part, Value};

use super::{Lookup, Way};
use crate::file::{LogFile, Target};

/// `open_log_file_cache`: names that are known, and files that stay open. All event loops share it.
#[derive(Debug)]
pub(super) struct OpenFiles {
    settings: LogFileCache,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    names: HashMap<Vec<u8>, Known>,
    /// Counts up: who was used the longest ago has the lowest.
    uses: u64,
    expired: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    /// With device and inode, by which it is known again.
    open: Option<(Arc<LogFile>, (u64, u64))>,
    checked: Instant,
    lines: u64,
    order: u64,
    used: Instant,
}

impl OpenFiles {
    pub(super) fn new(settings: LogFileCache) -> Self {
        Self { settings, table: Mutex::default() }
    }

    /// The file of this name, for one line. The directory must be there.
    pub(super) fn open(&self, path: &[u8], now: Instant, way: Option<&dyn Way>) -> io::Result<Arc<LogFile>> {
        let mut name = path.to_vec();
        if let Some(way) = way {
            name.push(0);
            name.extend_from_slice(way.name());
        }
        let mut table = self.table();
        table.uses += 1;
        let order = table.uses;
        let Some(known) = table.names.get_mut(&name) else {
            let file = open(path, way)?;
            table.make_room(self.settings.max);
            let open = (self.settings.min_uses <= 1).then(|| identity(path)).flatten();
            let open = open.map(|id| (Arc::clone(&file), id));
            table.names.insert(name, Known { open, checked: now, lines: 1, order, used: now });
            return Ok(file);
        };
        (known.order, known.used) = (order, now);
        known.lines += 1;
        if let Some((file, id)) = &known.open {
            let is_fresh = now.saturating_duration_since(known.checked) < self.settings.valid;
            if is_fresh || identity(path) == Some(*id) {
                if !is_fresh {
                    known.checked = now;
                }
                return Ok(Arc::clone(file));
            }
            known.open = None;
        }
        let file = open(path, way)?;
        if known.lines >= self.settings.min_uses {
            known.checked = now;
            known.open = identity(path).map(|id| (Arc::clone(&file), id));
        }
        Ok(file)
    }

    /// Forgets what was not used for long. Costs nothing when it is called more than once a second.
    pub(super) fn expire(&self, now: Instant) {
        let mut table = self.table();
        if table.expired.is_some_and(|last| now.saturating_duration_since(last) < Duration::from_secs(1)) {
            return;
        }
        table.expired = Some(now);
        let inactive = self.settings.inactive;
        table.names.retain(|_, known| now.saturating_duration_since(known.used) < inactive);
    }

    /// Closes all; the next line opens its file anew.
    pub(super) fn close(&self) {
        self.table().names.clear();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn make_room(&mut self, max: u32) {
        if self.names.len() >= max as usize
            && let Some(oldest) =
                self.names.iter().min_by_key(|(_, known)| known.order).map(|(path, _)| path.clone())
        {
            self.names.remove(&oldest);
        }
    }
}

/// The file of this name, opened for the caller alone.
pub(super) fn open(path: &[u8], way: Option<&dyn Way>) -> io::Result<Arc<LogFile>> {
    let target = Target::path(Path::new(OsStr::from_bytes(path)));
    match way {
        Some(way) => Ok(LogFile::with_file(way.append(path)?, target)),
        None => LogFile::open_alone(target),
    }
}

fn identity(path: &[u8]) -> Option<(u64, u64)> {
    let found = std::fs::metadata(OsStr::from_bytes(path)).ok()?;
    Some((found.dev(), found.ino()))
}

/// Why a name is not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the request's root is no directory")]
    NoRoot,
    #[error("{0}")]
    Open(#[from] io::Error),
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

    fn made(parts: &[&str], content: &[u8]) -> Result<Vec<u8>, String> {
        let part = |text: &&str| match *text {
            "$" => Part::Variable(Variable::Host),
            text => Part::Text(text.into()),
        };
        let mut out = Vec::new();
        let mut lookup = |_: &Variable, out: &mut Vec<u8>| {
            out.extend_from_slice(content);
            true
        };
        render(&Value(parts.iter().map(part).collect()), &mut lookup, &mut out)
            .map(|()| out)
            .map_err(|why| why.to_string())
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
            assert_eq!(made(parts, content), Err(Refused::Parent.to_string()), "{parts:?}");
        }
        assert_eq!(made(&["/logs/", "$"], b"a\0"), Err(Refused::Nul.to_string()));
        assert_eq!(made(&["$", "/x"], b"logs"), Err(Refused::Relative.to_string()));
    }

    fn lines(dir: &Path, name: &str) -> usize {
        std::fs::read_to_string(dir.join(name)).unwrap().lines().count()
    }

    #[test]
    fn files_stay_open_from_so_many_lines_on_and_so_long() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, moved) = (dir.path().join("logs"), dir.path().join("moved"));
        std::fs::create_dir(&logs).unwrap();
        let second = Duration::from_secs(1);
        let files =
            OpenFiles::new(LogFileCache { max: 3, inactive: 20 * second, valid: 60 * second, min_uses: 2 });
        let now = Instant::now();
        let write = |name: &str, now: Instant| {
            let file = files.open(logs.join(name).as_os_str().as_bytes(), now, None)?;
            file.write(crate::sink::Batch::Lines(b"/\n"));
            io::Result::Ok(())
        };
        for name in ["lru", "lru", "once", "first", "first", "second", "second"] {
            write(name, now).unwrap();
        }
        std::fs::rename(&logs, &moved).unwrap();
        // Forgotten for the fourth name, not open yet, open, open.
        let worked = ["lru", "once", "first", "second"].map(|name| write(name, now + 10 * second).is_ok());
        assert_eq!(worked, [false, false, true, true]);
        assert_eq!(["lru", "once", "first", "second"].map(|name| lines(&moved, name)), [2, 1, 3, 3]);
        // Once the name has to be looked at, it is gone.
        files.expire(now + 29 * second);
        assert!(write("first", now + 29 * second).is_ok());
        files.expire(now + 49 * second);
        assert!(write("first", now + 49 * second).is_err());
        std::fs::create_dir(&logs).unwrap();
        write("again", now).unwrap();
        write("again", now).unwrap();
        std::fs::rename(logs.join("again"), logs.join("before")).unwrap();
        write("again", now + 59 * second).unwrap();
        write("again", now + 61 * second).unwrap();
        assert_eq!((lines(&logs, "before"), lines(&logs, "again")), (3, 1));
        files.close();
    }
}
