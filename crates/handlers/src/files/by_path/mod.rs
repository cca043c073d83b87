//! Files by their whole path, as nginx serves them: the caller has joined `root` or `alias` and the path.
//!
//! A [`PathFiles`] belongs to one place in the configuration and one thread. What it answers is a whole 200:
//! conditions, ranges and added fields are the filters' part. Everything else is told as an [`Outcome`] that
//! the caller acts on.
//!
//! Without `open_file_cache` every request looks at the file system, as nginx does; but while `stat` shows
//! the same file, a small one is answered from memory, and no descriptor stays open.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::hash::RandomState;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use config::model::Symlinks;
use config::model::http::{Autoindex, Charset, LogLevel, OpenFileCache, Precompressed, Settings, Value};
use exchange::{AcceptEncoding, Body, Coding, FileBody, Method, Name, Piece, Request, Response};
use rustix::fs::FileType;
use rustix::io::Errno;

mod autoindex;
mod escape;
mod form;
mod index;
mod known;
mod open;
#[cfg(test)]
mod tests;

pub use escape::directory_location;
pub use form::Memory;

use form::Form;
use known::{Found, KnownFiles};
use open::{Failed, Links};

/// Tables of media types by extension (lower case, without the dot).
pub type Types = BTreeMap<Vec<u8>, Vec<u8>>;

/// What serving files asks of whoever knows the request's variables.
pub trait FileContext {
    /// The text of a value that contains variables.
    fn value(&mut self, value: &Value) -> Vec<u8>;

    /// Which codings the client takes: asked where there may be precompressed files.
    fn accepted(&mut self) -> AcceptEncoding;

    /// Seconds that the local time is ahead of UTC.
    fn utc_offset(&mut self) -> i32;

    /// A line for the error log.
    fn log(&mut self, level: LogLevel, text: fmt::Arguments<'_>);
}

/// Where a request leads.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The file's path: `root` or `alias` with the path behind it.
    pub path: &'a [u8],
    /// The request's path, as rewrites left it; its extension gives the media type.
    pub uri: &'a [u8],
}

/// What came of a request for a file.
#[derive(Debug)]
pub enum Outcome {
    /// 200, whole.
    Response(Response),
    /// An internal redirect to this path, with the request's arguments.
    Redirect(Vec<u8>),
    /// A directory without its slash: 301 to the same path with one (see [`directory_location`]).
    Directory,
    /// The page of this status.
    Status(u16),
}

/// What a path names, for `try_files` and `if (-f …)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// `-f`, `-d`
    pub kind: Kind,
    /// `-x`: its owner may execute it.
    pub executable: bool,
}

/// What kind of thing a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A socket, a device …
    Other,
}

/// Serves the files of one place in the configuration, on one thread.
#[derive(Debug)]
pub struct PathFiles {
    types: Rc<Types>,
    default_type: Vec<u8>,
    index: Vec<Value>,
    random_index: bool,
    autoindex: Option<Autoindex>,
    charset: Option<Charset>,
    symlinks: Symlinks,
    symlinks_from: Option<Value>,
    etag: bool,
    ranges: bool,
    log_not_found: bool,
    precompressed: [(Coding, Precompressed); 3],
    vary: bool,
    known: RefCell<KnownFiles>,
    random: RandomState,
    drawn: Cell<u64>,
}

impl PathFiles {
    /// Compiles what the settings say of files. `types` is the table that they name; `memory` is shared by
    /// all of a thread.
    pub fn new(settings: &Settings, types: Rc<Types>, memory: Rc<Memory>) -> Self {
        Self {
            types,
            default_type: settings.default_type.clone(),
            index: settings.index.clone(),
            random_index: settings.random_index,
            autoindex: settings.autoindex.clone(),
            charset: settings.charset.clone(),
            symlinks: settings.symlinks,
            symlinks_from: settings.symlinks_from.clone(),
            etag: settings.etag,
            ranges: settings.max_ranges != Some(0),
            log_not_found: settings.log_not_found,
            precompressed: [
                (Coding::Zstd, settings.zstd_static),
                (Coding::Br, settings.brotli_static),
                (Coding::Gzip, settings.gzip_static),
            ],
            vary: settings.compression.vary,
            known: RefCell::new(KnownFiles::new(settings.open_file_cache.as_ref(), memory)),
            random: RandomState::new(),
            drawn: Cell::new(0),
        }
    }

    /// Answers a request: for a path with a slash at its end by `random_index`, `index` or `autoindex`, for
    /// any other with the file.
    pub fn serve(
        &self,
        request: &Request,
        place: Place<'_>,
        now: Instant,
        context: &mut dyn FileContext,
    ) -> Outcome {
        if !matches!(request.method, Method::Get | Method::Head | Method::Post) {
            return Outcome::Status(405);
        }
        let mut outcome = self.find(request, place, now, context);
        // Of an answer to HEAD without a body only the field can say that GET's has none either.
        if request.method == Method::Head
            && let Outcome::Response(response) = &mut outcome
            && matches!(response.body, Body::Empty)
        {
            response.fields.set(Name::ContentLength, b"0");
        }
        outcome
    }

    fn find(
        &self,
        request: &Request,
        place: Place<'_>,
        now: Instant,
        context: &mut dyn FileContext,
    ) -> Outcome {
        if place.uri.ends_with(b"/") {
            return self.directory(request, place, now, context);
        }
        if request.method != Method::Post
            && self.precompressed.iter().any(|(_, mode)| *mode != Precompressed::Off)
        {
            self.serve_precompressed(request, place, now, context)
        } else {
            self.serve_plain(request, place, now, false, context)
        }
    }

    /// What a path names: for `try_files` and `if`. What cannot be looked at for another reason than that
    /// there is nothing is told to the log.
    pub fn probe(&self, path: &[u8], now: Instant, context: &mut dyn FileContext) -> Option<Look> {
        let links = self.links(path, context);
        match self.known.borrow_mut().probe(path, links, now) {
            Ok(look) => Some(look),
            Err(failed) => {
                if !failed.is_absence() {
                    complain(LogLevel::Crit, failed, path, context);
                }
                None
            }
        }
    }

    fn serve_plain(
        &self,
        request: &Request,
        place: Place<'_>,
        now: Instant,
        varies: bool,
        context: &mut dyn FileContext,
    ) -> Outcome {
        let links = self.links(place.path, context);
        let make = |looked: &form::Looked<'_>| self.form(place.uri, None, looked);
        let found = self.known.borrow_mut().find(place.path, b"", links, now, make);
        match found {
            Ok(Found::Directory) => Outcome::Directory,
            Ok(Found::Other) => irregular(place.path, context),
            Ok(Found::File(..)) if request.method == Method::Post => Outcome::Status(405),
            Ok(Found::File(form, file)) => {
                let mut response = self.content(&form, file, place.uri);
                if varies {
                    response.fields.push_known(Name::Vary, b"Accept-Encoding");
                }
                Outcome::Response(response)
            }
            Err(failed) => Outcome::Status(self.refused(failed, place.path, context)),
        }
    }

    fn serve_precompressed(
        &self,
        request: &Request,
        place: Place<'_>,
        now: Instant,
        context: &mut dyn FileContext,
    ) -> Outcome {
        let accepted = context.accepted();
        let mut varies = false;
        let mut found = Vec::new();
        for (coding, mode) in self.precompressed {
            let wanted = match mode {
                Precompressed::Off => false,
                // Whether there is one matters to `Vary` even for those who do not get it.
                Precompressed::On => self.vary || accepted.weight(coding) > 0,
                Precompressed::Always => true,
            };
            if !wanted {
                continue;
            }
            let path = [place.path, coding.extension().as_bytes()].concat();
            let links = self.links(&path, context);
            let make = |looked: &form::Looked<'_>| self.form(place.uri, Some(coding), looked);
            let looked = self.known.borrow_mut().find(&path, b"\0coded", links, now, make);
            match looked {
                Ok(Found::File(form, file)) => {
                    varies |= self.vary && mode == Precompressed::On;
                    found.push((coding, mode, form, file));
                }
                Ok(Found::Directory) => {}
                Ok(Found::Other) => return irregular(&path, context),
                Err(failed) if failed.is_absence() => {}
                Err(failed) => {
                    complain(failed.level(), failed, &path, context);
                }
            }
        }
        let by_choice = |mode: &Precompressed| *mode == Precompressed::On;
        let offer = found.iter().filter(|(_, mode, ..)| by_choice(mode)).map(|(coding, ..)| *coding);
        let chosen = accepted.choose(offer);
        let place_of_chosen = found.iter().position(|(coding, mode, ..)| match chosen {
            Some(chosen) => *coding == chosen,
            None => *mode == Precompressed::Always,
        });
        let Some(at) = place_of_chosen else {
            return self.serve_plain(request, place, now, varies, context);
        };
        let (_, _, form, file) = found.swap_remove(at);
        let mut response = self.content(&form, file, place.uri);
        if varies {
            response.fields.push_known(Name::Vary, b"Accept-Encoding");
        }
        Outcome::Response(response)
    }

    fn form(&self, uri: &[u8], coding: Option<Coding>, looked: &form::Looked<'_>) -> Form {
        let media_type = self.media_type(uri);
        Form::new(looked, escape::extension(uri), media_type, coding, self.etag, self.ranges)
    }

    /// The media type that a path's extension has here.
    pub fn media_type(&self, uri: &[u8]) -> &[u8] {
        let extension = escape::extension(uri);
        let known = if extension.is_empty() {
            None
        } else if extension.iter().any(u8::is_ascii_uppercase) {
            self.types.get(&extension.to_ascii_lowercase())
        } else {
            self.types.get(extension)
        };
        known.map_or(&self.default_type, Vec::as_slice)
    }

    fn content(&self, form: &Form, file: Option<Rc<form::Open>>, uri: &[u8]) -> Response {
        let mut response = Response {
            status: 200,
            fields: form.fields.clone(),
            of_file: form.identity(),
            ..Response::default()
        };
        if form.extension() != escape::extension(uri) {
            response.fields.remove(Name::ContentType);
            let media_type = self.media_type(uri);
            if !media_type.is_empty() {
                response.fields.push_known(Name::ContentType, media_type);
            }
        }
        response.body = match (form.content(), file) {
            _ if form.size() == 0 => Body::Empty,
            (Some(bytes), _) => Body::Full(bytes.clone()),
            (None, Some(file)) => Body::File(FileBody {
                file: file.file(),
                pieces: vec![Piece { prefix: Bytes::new(), start: 0, len: form.size() }],
                suffix: Bytes::new(),
            }),
            (None, None) => Body::Empty,
        };
        response
    }

    /// The status for a path that cannot be opened, which is told to the log.
    fn refused(&self, failed: Failed, path: &[u8], context: &mut dyn FileContext) -> u16 {
        let status = failed.status();
        if status != 404 || self.log_not_found {
            complain(failed.level(), failed, path, context);
        }
        status
    }

    /// Whether links lead wherever they lead.
    pub fn follows_links(&self) -> bool {
        self.symlinks == Symlinks::Follow
    }

    /// What `disable_symlinks … from=` is worth.
    pub fn links_from(&self, text: impl FnOnce(&Value) -> Vec<u8>) -> Option<Vec<u8>> {
        self.symlinks_from.as_ref().map(|from| from.as_text().map_or_else(|| text(from), <[u8]>::to_vec))
    }

    /// Opens a file for what is to be added at its end, as far as links are followed here. `from`: see
    /// [`PathFiles::links_from`].
    pub fn append(&self, path: &[u8], from: Option<&[u8]>) -> io::Result<File> {
        let opened = open::append(path, Links::new(self.symlinks, path, from));
        opened.map(File::from).map_err(|failed| failed.errno.into())
    }

    /// Whether there is a directory of this name, as far as links are followed here.
    pub fn is_directory(&self, path: &[u8], from: Option<&[u8]>) -> bool {
        let looked = open::stat(path, Links::new(self.symlinks, path, from));
        looked.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// How far symbolic links are followed in a path.
    fn links(&self, path: &[u8], context: &mut dyn FileContext) -> Links {
        if self.symlinks == Symlinks::Follow {
            return Links::FOLLOW;
        }
        let from = self.symlinks_from.as_ref().map(|from| evaluated(from, context));
        Links::new(self.symlinks, path, from.as_deref())
    }
}

fn irregular(path: &[u8], context: &mut dyn FileContext) -> Outcome {
    let path = String::from_utf8_lossy(path);
    context.log(LogLevel::Crit, format_args!("\"{path}\" is not a regular file"));
    Outcome::Status(404)
}

/// `open() "/path" failed (2: No such file or directory)`
fn complain(level: LogLevel, failed: Failed, path: &[u8], context: &mut dyn FileContext) {
    let path = String::from_utf8_lossy(path);
    context.log(level, format_args!("{}() \"{path}\" failed ({})", failed.call, open::Words(failed.errno)));
}

/// Nothing is believed for any time, and what nobody asks for is forgotten after this.
const UNUSED: Duration = Duration::from_secs(60);

/// Paths remembered at most where `open_file_cache` does not say.
const MAX_KNOWN: usize = 1000;

/// The text of a value; only what contains variables is asked for.
fn evaluated<'v>(value: &'v Value, context: &mut dyn FileContext) -> Cow<'v, [u8]> {
    value.as_text().map_or_else(|| Cow::Owned(context.value(value)), Cow::Borrowed)
}

/// What `open_file_cache` says, or what holds without it.
fn cache_rules(settings: Option<&OpenFileCache>) -> OpenFileCache {
    settings.cloned().unwrap_or(OpenFileCache {
        max: MAX_KNOWN as u32,
        inactive: UNUSED,
        valid: Duration::ZERO,
        min_uses: 1,
        errors: false,
    })
}

/// Numbers of errors that say that there is nothing.
fn is_absence(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG)
}
