//! What answers for a path with a slash at its end: `random_index`, `index`, `autoindex`, in this order.

use std::ffi::OsStr;
use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use config::model::http::LogLevel;
use exchange::{Method, Request};
use rustix::io::Errno;

use super::open::{Failed, Words};
use super::{FileContext, Kind, Outcome, PathFiles, Place, autoindex, complain, evaluated};

impl PathFiles {
    pub(super) fn directory(
        &self,
        request: &Request,
        place: Place<'_>,
        now: Instant,
        context: &mut dyn FileContext,
    ) -> Outcome {
        if self.random_index
            && let Some(outcome) = self.random_index(place, now, context)
        {
            return outcome;
        }
        if let Some(outcome) = self.index(place, now, context) {
            return outcome;
        }
        if let Some(settings) = &self.autoindex
            && matches!(request.method, Method::Get | Method::Head)
        {
            let utf8 = self.is_utf8(context);
            return autoindex::list(settings, utf8, request, place, context);
        }
        let path = String::from_utf8_lossy(place.path);
        context.log(LogLevel::Error, format_args!("directory index of \"{path}\" is forbidden"));
        Outcome::Status(403)
    }

    /// Goes to the first of the `index` files that is there; `None` when none is.
    fn index(&self, place: Place<'_>, now: Instant, context: &mut dyn FileContext) -> Option<Outcome> {
        let mut directory_seen = false;
        for value in &self.index {
            let name = &evaluated(value, context)[..];
            if name.starts_with(b"/") {
                return Some(Outcome::Redirect(name.to_vec()));
            }
            let path = [place.path, name].concat();
            let links = self.links(&path, context);
            let looked = self.known.borrow_mut().probe(&path, links, now);
            let Err(failed) = looked else {
                return Some(Outcome::Redirect([place.uri, name].concat()));
            };
            match failed.errno {
                Errno::LOOP | Errno::MLINK => return Some(Outcome::Status(403)),
                Errno::NOTDIR | Errno::NAMETOOLONG | Errno::ACCESS => {
                    return Some(self.index_fails(failed.errno, &path, context));
                }
                _ => {}
            }
            if !directory_seen {
                if let Some(outcome) = self.directory_is_missing(place.path, &path, now, context) {
                    return Some(outcome);
                }
                directory_seen = true;
            }
            if failed.errno != Errno::NOENT {
                complain(LogLevel::Crit, failed, &path, context);
                return Some(Outcome::Status(500));
            }
        }
        None
    }

    /// Whether it is the directory that is missing, not its index file.
    fn directory_is_missing(
        &self,
        path: &[u8],
        index: &[u8],
        now: Instant,
        context: &mut dyn FileContext,
    ) -> Option<Outcome> {
        let bare = path.strip_suffix(b"/").filter(|bare| !bare.is_empty()).unwrap_or(path);
        let links = self.links(bare, context);
        let looked = self.known.borrow_mut().probe(bare, links, now);
        match looked {
            Ok(look) if look.kind == Kind::Directory => None,
            Ok(_) => {
                let bare = String::from_utf8_lossy(bare);
                context.log(LogLevel::Alert, format_args!("\"{bare}\" is not a directory"));
                Some(Outcome::Status(500))
            }
            Err(Failed { errno: Errno::LOOP | Errno::MLINK, .. }) => Some(Outcome::Status(403)),
            Err(Failed { errno: Errno::NOENT, .. }) => Some(self.index_fails(Errno::NOENT, index, context)),
            // It could be searched, or looking for the file would have said so.
            Err(Failed { errno: Errno::ACCESS, .. }) => None,
            Err(failed) => {
                complain(LogLevel::Crit, failed, bare, context);
                Some(Outcome::Status(500))
            }
        }
    }

    fn index_fails(&self, errno: Errno, path: &[u8], context: &mut dyn FileContext) -> Outcome {
        let path = String::from_utf8_lossy(path);
        let why = Words(errno);
        if errno == Errno::ACCESS {
            context.log(LogLevel::Error, format_args!("\"{path}\" is forbidden ({why})"));
            return Outcome::Status(403);
        }
        if self.log_not_found {
            context.log(LogLevel::Error, format_args!("\"{path}\" is not found ({why})"));
        }
        Outcome::Status(404)
    }

    /// Goes to any of the files in the directory; `None` when there is none.
    fn random_index(&self, place: Place<'_>, now: Instant, context: &mut dyn FileContext) -> Option<Outcome> {
        let path = place.path.strip_suffix(b"/").unwrap_or(place.path);
        let names = match file_names(path) {
            Ok(names) => names,
            Err(error) => return Some(directory_fails(&error, path, context)),
        };
        let random = self.random.hash_one((now, self.next_random()));
        let name = names.get((random % (names.len() as u64).max(1)) as usize)?;
        Some(Outcome::Redirect([place.uri, name].concat()))
    }

    fn next_random(&self) -> u64 {
        let n = self.drawn.get();
        self.drawn.set(n.wrapping_add(1));
        n
    }

    /// Whether names are shown as UTF-8, by `charset`.
    fn is_utf8(&self, context: &mut dyn FileContext) -> bool {
        let charset = self.charset.as_ref();
        charset
            .and_then(|c| c.charset.as_ref())
            .is_some_and(|charset| evaluated(charset, context).eq_ignore_ascii_case(b"utf-8"))
    }
}

/// The names of the regular files in a directory, links to such among them; none that begins with a dot.
fn file_names(path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(on_disk(path))? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        let kind = entry.file_type()?;
        let is_file = if kind.is_symlink() {
            match fs::metadata(entry.path()) {
                Ok(target) => target.is_file(),
                // A link that leads nowhere is no file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            }
        } else {
            kind.is_file()
        };
        if is_file {
            names.push(name.into_encoded_bytes());
        }
    }
    Ok(names)
}

/// The path of a directory for the library; the root's is not empty.
pub fn on_disk(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(if path.is_empty() { b"/" } else { path }))
}

/// The answer when a directory cannot be read, which is told to the log.
pub fn directory_fails(error: &io::Error, path: &[u8], context: &mut dyn FileContext) -> Outcome {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    let failed = Failed { call: "opendir", errno };
    // Here, links do not matter.
    let status = if errno == Errno::LOOP { 500 } else { failed.status() };
    complain(if status == 500 { LogLevel::Crit } else { LogLevel::Error }, failed, path, context);
    Outcome::Status(status)
}
