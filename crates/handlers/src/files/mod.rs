//! Static files.
//!
//! A [`FileServer`] belongs to one thread. It opens files beneath one directory, remembers what it opened for
//! a moment, and answers without formatting anything when it knows the file already. Files whose name begins
//! with a dot are served like any other, as nginx does.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use exchange::{Fields, Method, Name, Precondition, Request, Response};
use rustix::io::Errno;

mod accel;
pub mod by_path;
mod cache;
mod entry;
mod mime;
mod range;
mod respond;
mod root;
#[cfg(test)]
mod tests;

pub use accel::{Accel, AccelAnswer};

use cache::{Cache, Known};
use entry::{Entry, Resource};
use root::Root;

/// Longer paths name nothing on Linux.
const PATH_MAX: usize = 4095;

/// What was not asked for that long is closed, looked for at most every [`SWEEP`].
const INACTIVE: Duration = Duration::from_secs(60);
const SWEEP: Duration = Duration::from_secs(10);

/// Symbolic links inside a served directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// Followed as long as they stay inside the directory.
    #[default]
    Beneath,
    /// Followed wherever they lead.
    Follow,
    /// Never followed: 404.
    Deny,
}

/// How a directory is served.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Symbolic links.
    pub symlinks: Symlinks,
    /// File names tried, in order, for a path that ends in `/`.
    pub index: Vec<String>,
    /// Serve `NAME.zst`, `NAME.br` and `NAME.gz` in place of NAME to clients that take them, unless they are
    /// older than NAME.
    pub precompressed: bool,
    /// `Content-Type` by extension (lower case, without the dot), before the built-in table.
    pub types: HashMap<String, String>,
    /// Paths remembered at most, each with its open files (nginx's `open_file_cache max=`).
    pub max_entries: usize,
    /// How long a look at the file system is believed (nginx's `open_file_cache_valid`); zero looks each time.
    pub valid: Duration,
    /// Files of at most this many bytes are kept in memory and not open.
    pub max_inline: u64,
    /// Bytes of file content kept in memory at most.
    pub max_memory: u64,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            symlinks: Symlinks::default(),
            index: vec!["index.html".into()],
            precompressed: true,
            types: HashMap::new(),
            max_entries: 1000,
            valid: Duration::from_secs(1),
            max_inline: 16 * 1024,
            max_memory: 8 * 1024 * 1024,
        }
    }
}

/// What came of a request for a file.
#[derive(Debug)]
pub enum Outcome {
    /// Answered.
    Response(Response),
    /// There is no such file: 404, or somebody else's turn.
    NotFound,
}

/// Serves one directory, on one thread.
#[derive(Debug)]
pub struct FileServer {
    options: FileOptions,
    state: RefCell<State>,
    boundaries: RandomState,
    boundary: Cell<u64>,
}

#[derive(Debug)]
struct State {
    root: Root,
    root_checked: Instant,
    swept: Instant,
    cache: Cache,
}

impl FileServer {
    /// Opens the directory. Fails when it is none or may not be entered.
    pub fn new(dir: &Path, options: FileOptions) -> io::Result<Self> {
        let root = Root::open(dir, options.symlinks)?;
        let cache = Cache::new(options.max_entries, options.valid);
        let now = Instant::now();
        Ok(Self {
            options,
            state: RefCell::new(State { root, root_checked: now, swept: now, cache }),
            boundaries: RandomState::new(),
            boundary: Cell::new(0),
        })
    }

    /// Answers for the file at `path`: relative to the directory, percent-decoded once, dot segments
    /// resolved. Only GET and HEAD; what exists answers 405 to anything else.
    ///
    /// Reads from the file system on this thread, when the path was not looked at within the valid period.
    pub fn serve(&self, request: &Request, path: &[u8], now: Instant) -> Outcome {
        self.with_entry(path, now, |entry| {
            if !matches!(request.method, Method::Get | Method::Head) {
                let mut response = respond::error(405);
                response.fields.push_known(Name::Allow, b"GET, HEAD");
                return Outcome::Response(response);
            }
            Outcome::Response(match entry {
                Entry::File(resource) => self.answer(request, resource),
                Entry::Directory => respond::redirect_to_directory(request),
                Entry::Forbidden => respond::error(403),
            })
        })
    }

    fn answer(&self, request: &Request, resource: &Resource) -> Response {
        let form = resource.form(&request.fields);
        match form.validators().evaluate(request) {
            Precondition::Met => respond::content(request, form, None, || self.next_boundary()),
            Precondition::NotModified => respond::not_modified(form),
            Precondition::Failed => respond::error(412),
        }
    }

    /// Answers for a file that the application pointed at: no redirect, no index, no 405. `media_type` goes
    /// before that of the file. With `negotiate` a precompressed form may be sent.
    fn serve_internal(
        &self,
        request: &Request,
        path: &[u8],
        now: Instant,
        media_type: Option<&[u8]>,
        negotiate: bool,
    ) -> Outcome {
        self.with_entry(path, now, |entry| {
            let Entry::File(resource) = entry else { return Outcome::NotFound };
            let form = if negotiate { resource.form(&request.fields) } else { resource.plain() };
            // The answer to a POST is the whole file, whatever ranges and conditions it came with.
            let whole = !matches!(request.method, Method::Get | Method::Head);
            let verdict = if whole { Precondition::Met } else { form.validators().evaluate(request) };
            Outcome::Response(match verdict {
                Precondition::Met => respond::content(request, form, media_type, || self.next_boundary()),
                Precondition::NotModified => respond::not_modified(form),
                Precondition::Failed => respond::error(412),
            })
        })
    }

    fn with_entry(&self, path: &[u8], now: Instant, answer: impl FnOnce(&Entry) -> Outcome) -> Outcome {
        let mut state = self.state.borrow_mut();
        match state.look_up(path, now, &self.options) {
            Ok(place) => answer(state.cache.entry(place)),
            Err(Errno::NOENT) => Outcome::NotFound,
            // Out of descriptors or memory, which passes.
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Outcome::Response(respond::error(503)),
            Err(_) => Outcome::Response(respond::error(500)),
        }
    }

    /// A delimiter that the content cannot be made to contain: nobody outside knows the key.
    fn next_boundary(&self) -> String {
        let n = self.boundary.get();
        self.boundary.set(n.wrapping_add(1));
        format!("{:016x}{:016x}", self.boundaries.hash_one((n, 0)), self.boundaries.hash_one((n, 1)))
    }
}

impl State {
    /// The slot of a path, looked at again where that is due.
    fn look_up(&mut self, path: &[u8], now: Instant, options: &FileOptions) -> Result<usize, Errno> {
        let mut known = self.cache.find(path, now);
        match known {
            Known::Fresh(place) => return Ok(place),
            Known::Absent => return Err(Errno::NOENT),
            Known::Stale(_) | Known::Unknown => {}
        }
        if !is_safe(path) {
            return Err(Errno::NOENT);
        }
        if now.saturating_duration_since(self.root_checked) >= options.valid {
            self.root_checked = now;
            if self.root.refresh() {
                self.cache.clear();
                known = Known::Unknown;
            }
        }
        if now.saturating_duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.cache.sweep(now, INACTIVE);
            // Places may have moved.
            known = self.cache.find(path, now);
        }
        let loaded = match self.load(path, options, known) {
            // Files that are only remembered are the first to go.
            Err(Errno::MFILE | Errno::NFILE) => {
                self.cache.clear();
                known = Known::Unknown;
                self.load(path, options, known)
            }
            loaded => loaded,
        };
        match (loaded, known) {
            (Ok(entry), Known::Stale(place)) => {
                self.cache.renew(place, entry, now);
                Ok(place)
            }
            (Ok(entry), _) => Ok(self.cache.insert(path, entry, now)),
            (Err(error), _) => {
                if error == Errno::NOENT {
                    self.cache.insert_absent(path, now);
                }
                Err(error)
            }
        }
    }

    fn load(&self, path: &[u8], options: &FileOptions, known: Known) -> Result<Entry, Errno> {
        let old = match known {
            Known::Stale(place) => Some(self.cache.entry(place)),
            _ => None,
        };
        // Up to four forms may be read at once.
        let inline = options.max_inline.min(options.max_memory.saturating_sub(self.cache.memory()) / 4);
        Entry::load(&self.root, path, options, inline, old)
    }
}

/// Whether a path can be handed to the kernel: no NUL, no segment that climbs, not absolute, not too long.
/// Whoever decoded it has resolved dot segments; what is still there was encoded twice or slipped through.
fn is_safe(path: &[u8]) -> bool {
    path.len() <= PATH_MAX
        && !path.contains(&0)
        && !path.starts_with(b"/")
        && path.split(|&b| b == b'/').all(|segment| segment != b"..")
}

/// Names that make a response one of a file; the application's own values give way.
fn is_of_the_file(name: Name, spelling: &[u8]) -> bool {
    matches!(
        name,
        Name::ContentLength
            | Name::ETag
            | Name::LastModified
            | Name::AcceptRanges
            | Name::ContentRange
            | Name::TransferEncoding
            | Name::XAccelRedirect
            | Name::XSendfile
    ) || spelling.eq_ignore_ascii_case(b"content-md5")
}

/// Adds a member to `Vary`.
fn vary_on(fields: &mut Fields, member: &[u8]) {
    let there = fields.all(Name::Vary).any(|value| {
        value
            .split(|&b| b == b',')
            .map(<[u8]>::trim_ascii)
            .any(|m| m == b"*" || m.eq_ignore_ascii_case(member))
    });
    if !there {
        fields.push_known(Name::Vary, member);
    }
}
