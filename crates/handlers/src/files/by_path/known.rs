//! What is remembered of paths: nginx's `open_file_cache`, and what is kept without it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use config::model::http::OpenFileCache;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::form::{Form, Looked, Memory, Open, identity, is};
use super::open::{self, Failed, Links};
use super::{Kind, Look, cache_rules};
use crate::files::cache::{Cache, Known, Weigh};

/// What nobody asks for is looked for at most this often.
const SWEEP: Duration = Duration::from_secs(10);

/// What a path names.
#[derive(Debug)]
pub enum Found {
    /// A file; open, unless it is in memory.
    File(Rc<Form>, Option<Rc<Open>>),
    /// A directory.
    Directory,
    /// Neither.
    Other,
}

#[derive(Debug)]
struct Entry {
    what: What,
    uses: u32,
}

#[derive(Debug)]
enum What {
    File(Rc<Form>, Option<Rc<Open>>),
    Directory,
}

impl Weigh for Entry {
    /// Counted by the form itself.
    fn memory(&self) -> u64 {
        0
    }
}

/// The paths that one place in the configuration has asked for.
#[derive(Debug)]
pub struct KnownFiles {
    rules: OpenFileCache,
    /// Files stay open and looks are believed: `open_file_cache` is on.
    keeps: bool,
    cache: Cache<Entry>,
    memory: Rc<Memory>,
    swept: Option<Instant>,
}

impl KnownFiles {
    pub fn new(settings: Option<&OpenFileCache>, memory: Rc<Memory>) -> Self {
        let rules = cache_rules(settings);
        let cache = Cache::new(rules.max as usize, rules.valid);
        Self { keeps: settings.is_some(), cache, rules, memory, swept: None }
    }

    /// Opens a path, or takes what is known of it. `variant` keeps apart what is made differently of the
    /// same file; no path holds the NUL that it begins with.
    pub fn find(
        &mut self,
        path: &[u8],
        variant: &[u8],
        links: Links,
        now: Instant,
        make: impl FnOnce(&Looked<'_>) -> Form,
    ) -> Result<Found, Failed> {
        let joined;
        let key = if variant.is_empty() {
            path
        } else {
            joined = [path, variant].concat();
            &joined[..]
        };
        self.sweep(now);
        let known = self.cache.find(key, now);
        match known {
            Known::Absent => return Err(Failed { call: "open", errno: Errno::NOENT }),
            Known::Fresh(place) if self.is_believed(place) => {
                self.cache.confirm_use(place);
                return Ok(self.cache.entry(place).found());
            }
            Known::Fresh(place) | Known::Stale(place) => {
                if let Some(found) = self.look_again(place, path, links, now) {
                    return Ok(found);
                }
            }
            Known::Unknown => {}
        }
        let place = match known {
            Known::Fresh(place) | Known::Stale(place) => Some(place),
            _ => None,
        };
        match self.load(path, place, links, make) {
            Ok(Found::Other) => Ok(Found::Other),
            Ok(found) => {
                self.remember(key, place, &found, now);
                Ok(found)
            }
            Err(failed) => {
                if failed.errno == Errno::NOENT && self.rules.errors && self.keeps {
                    self.cache.insert_absent(key, now);
                }
                Err(failed)
            }
        }
    }

    /// What a path names, without opening it.
    pub fn probe(&mut self, path: &[u8], links: Links, now: Instant) -> Result<Look, Failed> {
        if self.cache.find(path, now) == Known::Absent {
            return Err(Failed { call: "stat", errno: Errno::NOENT });
        }
        let stat = open::stat(path, links).inspect_err(|failed| {
            if failed.errno == Errno::NOENT && self.rules.errors && self.keeps {
                self.cache.insert_absent(path, now);
            }
        })?;
        Ok(Look { kind: kind(&stat), executable: stat.st_mode & 0o100 != 0 })
    }

    fn is_believed(&self, place: usize) -> bool {
        self.cache.entry(place).uses >= self.rules.min_uses
    }

    /// Looks whether the path still names the same; `None` when it has to be opened.
    fn look_again(&mut self, place: usize, path: &[u8], links: Links, now: Instant) -> Option<Found> {
        // What is not kept has to be opened anyway, and where links are checked, looking is opening.
        let entry = self.cache.entry(place);
        let still = match &entry.what {
            What::File(form, open) if links.is_free() && (open.is_some() || form.content().is_some()) => {
                match open::stat(path, links) {
                    Ok(stat) => is(&stat, FileType::RegularFile) && form.is_still(&identity(&stat)),
                    // Opening will say it in its own words.
                    Err(_) => false,
                }
            }
            _ => false,
        };
        if !still {
            return None;
        }
        self.cache.confirm(place, now);
        self.cache.confirm_use(place);
        Some(self.cache.entry(place).found())
    }

    fn load(
        &mut self,
        path: &[u8],
        place: Option<usize>,
        links: Links,
        make: impl FnOnce(&Looked<'_>) -> Form,
    ) -> Result<Found, Failed> {
        let (fd, stat) = match open_and_look(path, links) {
            // Files that are only remembered are the first to go.
            Err(Failed { errno: Errno::MFILE | Errno::NFILE, .. }) if place.is_none() => {
                self.cache.clear();
                open_and_look(path, links)?
            }
            result => result?,
        };
        if is(&stat, FileType::Directory) {
            return Ok(Found::Directory);
        }
        if !is(&stat, FileType::RegularFile) {
            return Ok(Found::Other);
        }
        let file = Rc::new(Open::new(fd));
        let identity = identity(&stat);
        let old = place.and_then(|place| match &self.cache.entry(place).what {
            What::File(form, _) if form.is_still(&identity) => Some(Rc::clone(form)),
            _ => None,
        });
        let form =
            old.unwrap_or_else(|| Rc::new(make(&Looked { file: &file, identity, memory: &self.memory })));
        let file = form.content().is_none().then_some(file);
        Ok(Found::File(form, file))
    }

    fn remember(&mut self, key: &[u8], place: Option<usize>, found: &Found, now: Instant) {
        let uses = place.map_or(1, |place| self.cache.entry(place).uses.saturating_add(1));
        // Without `open_file_cache` nothing stays open, so a file that is gone gives its space back.
        let keeps = self.keeps && uses >= self.rules.min_uses;
        let what = match found {
            Found::File(form, file) => What::File(Rc::clone(form), file.clone().filter(|_| keeps)),
            Found::Directory if self.keeps => What::Directory,
            Found::Directory | Found::Other => return,
        };
        match place {
            Some(place) => self.cache.renew(place, Entry { what, uses }, now),
            None => {
                self.cache.insert(key, Entry { what, uses }, now);
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        let since = *self.swept.get_or_insert(now);
        if now.saturating_duration_since(since) >= SWEEP.min(self.rules.inactive) {
            self.swept = Some(now);
            self.cache.sweep(now, self.rules.inactive);
        }
    }
}

impl Cache<Entry> {
    fn confirm_use(&mut self, place: usize) {
        let entry = self.entry_mut(place);
        entry.uses = entry.uses.saturating_add(1);
    }
}

impl Entry {
    fn found(&self) -> Found {
        match &self.what {
            What::File(form, file) => Found::File(Rc::clone(form), file.clone()),
            What::Directory => Found::Directory,
        }
    }
}

fn open_and_look(path: &[u8], links: Links) -> Result<(std::os::fd::OwnedFd, Stat), Failed> {
    let fd = open::open(path, links)?;
    let stat = rustix::fs::fstat(&fd).map_err(|errno| Failed { call: "fstat", errno })?;
    Ok((fd, stat))
}

fn kind(stat: &Stat) -> Kind {
    if is(stat, FileType::RegularFile) {
        Kind::File
    } else if is(stat, FileType::Directory) {
        Kind::Directory
    } else {
        Kind::Other
    }
}
