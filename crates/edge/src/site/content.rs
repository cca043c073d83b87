//! precontent and content: who makes the response.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use config::model::http::{Content, LogLevel, Regex as RegexModel, TryLast, Value, Variable};
use exchange::{AcceptEncoding, Body, Chunk, Fields, Method, Name, Request, Response};
use filters::nginx::{AtEnd, FilterContext};
use handlers::files::by_path::{FileContext, Kind, Outcome, Place as FilePlace};
use handlers::mp4::{self, Mp4Error, Wanted};
use routing::Scope;
use telemetry::error_log::Level;

use super::environment::{Sent, View};
use super::facts::level;
use super::slice::Whole;
use super::visit::{Args, Step, Visit};

impl Visit<'_, '_> {
    /// `try_files`
    pub(super) fn try_files(&mut self, request: &mut Request) -> Option<Step> {
        let tries = self.settings().try_files.as_ref()?;
        let place = Rc::clone(&self.place);
        // In a pattern location an `alias` is all of a path; what is tried comes behind it none the less.
        let is_whole = self.settings().alias_prefix == usize::MAX;
        for (value, wants_directory) in &tries.tries {
            let uri = self.value(value, request);
            self.facts.adds_to_alias.set(is_whole);
            let path = self.file_of(request, &uri);
            self.facts.adds_to_alias.set(false);
            let kind = place.files.probe(&path, exchange::now(), &mut self.eyes(request));
            let found = match kind.map(|look| look.kind) {
                Some(Kind::Directory) => *wants_directory,
                Some(Kind::File | Kind::Other) => !*wants_directory,
                None => false,
            };
            if found {
                // A directory is asked for without its slash: who serves it redirects, as in nginx.
                if !is_whole {
                    request.path = uri;
                } else if !*wants_directory {
                    request.path = uri;
                    self.facts.adds_to_alias.set(true);
                }
                return None;
            }
        }
        Some(match &tries.last {
            TryLast::Status(444) => Step::Close,
            TryLast::Status(status) => Step::Page(*status),
            TryLast::Uri(value) => {
                let target = self.value(value, request);
                if target.starts_with(b"@") {
                    Step::Named(target)
                } else {
                    // As in nginx, the arguments are those that are written here, and else none.
                    let (path, args) = split_args(&target);
                    Step::Redirect(path, Args::Said(args.unwrap_or_default()))
                }
            }
        })
    }

    /// The path in the file system for a path of the request's kind.
    pub(super) fn file_of(&mut self, request: &Request, uri: &[u8]) -> Vec<u8> {
        let view = View { facts: &self.facts, sent: Sent::default() };
        let scope = Scope { request, environment: &view };
        let mut path = Vec::new();
        self.site.routing.variables.file(uri, &mut self.state, scope, &mut path);
        path
    }

    /// content, where nobody is waited for; else `None`.
    pub(super) fn content_now(&mut self, request: &Request) -> Option<Step> {
        Some(match self.content {
            Content::Files if self.settings().dav.is_none() => self.files(request),
            Content::StubStatus => {
                let numbers = self.event_loop.process.connections();
                fixed(handlers::fixed::stub_status(request, &numbers))
            }
            Content::UpstreamStatus => {
                fixed(super::upstream_status::respond(request, &self.site.configuration))
            }
            Content::Flv => self.flv(request),
            Content::EmptyGif => fixed(handlers::fixed::empty_gif(request)),
            Content::Files | Content::Mp4 | Content::App(_) | Content::Bound(_) | Content::Proxy(_) => {
                return None;
            }
        })
    }

    /// content
    pub(super) async fn content(&mut self, request: &mut Request) -> Step {
        match self.content {
            Content::App(index) => self.application(request, index).await,
            Content::Bound(index) => self.bound(request, index).await,
            Content::Proxy(index) => self.proxy(request, index).await,
            Content::Mp4 => self.mp4(request).await,
            _ => match self.dav(request).await {
                Some(step) => step,
                None => self.files(request),
            },
        }
    }

    fn files(&mut self, request: &Request) -> Step {
        let path = self.file_of(request, &request.path);
        let place = Rc::clone(&self.place);
        let files = FilePlace { path: &path, uri: &request.path };
        match place.files.serve(request, files, exchange::now(), &mut self.eyes(request)) {
            Outcome::Response(response) => {
                // Not of listings and precompressed files.
                self.facts.ranges.set(response.fields.has(Name::AcceptRanges));
                Step::respond(response)
            }
            Outcome::Redirect(path) => Step::Redirect(path, Args::Kept),
            Outcome::Directory => {
                let to = handlers::files::by_path::directory_location(&request.path, &request.query);
                self.redirect(request, 301, to)
            }
            Outcome::Status(status) => Step::Page(status),
        }
    }

    /// `flv`: a file, of which an argument may leave out the beginning.
    fn flv(&mut self, request: &Request) -> Step {
        if !matches!(request.method, Method::Get | Method::Head) {
            return Step::Page(405);
        }
        let mut step = self.files(request);
        if let Step::Respond(response) = &mut step
            && !request.path.ends_with(b"/")
            && let Some(start) = self.value_or_none(&Variable::Arg(b"start".to_vec()), request)
            && let Some(start) = std::str::from_utf8(&start).ok().and_then(|start| start.parse().ok())
        {
            handlers::fixed::flv_from(response, start);
        }
        step
    }

    /// `mp4`: a file, of which arguments may choose a part.
    async fn mp4(&mut self, request: &Request) -> Step {
        if !matches!(request.method, Method::Get | Method::Head) {
            return Step::Page(405);
        }
        let mut step = self.files(request);
        let Step::Respond(response) = &mut step else { return step };
        if request.path.ends_with(b"/") || response.status != 200 {
            return step;
        }
        let start = self.milliseconds(b"start", request);
        let end = self.milliseconds(b"end", request).filter(|end| *end > start.unwrap_or(0));
        if start.is_none() && end.is_none() {
            return step;
        }
        let start = start.unwrap_or(0);
        let settings = self.settings().mp4;
        let wanted = Wanted {
            start,
            length: end.map(|end| end - start),
            key_frame: settings.start_key_frame,
            most: settings.max_buffer,
        };
        let length = response.body.len().unwrap_or(0);
        let file = match std::mem::take(&mut response.body) {
            Body::File(body) => Ok(body.file),
            Body::Full(bytes) => mp4::in_memory(&bytes).map(Arc::new),
            Body::Empty | Body::Stream(_) => Err(Mp4Error::Broken("there is nothing in it")),
        };
        // The index is read as a whole: others on this loop need not wait for the disk.
        let made = tokio::task::spawn_blocking(move || {
            let file = file?;
            mp4::cut(&file, length, wanted).map(|cut| (file, cut))
        });
        match made.await {
            Ok(Ok((file, cut))) => {
                let length = cut.head.len() as u64 + cut.length;
                response.fields.set(Name::ContentLength, length.to_string().as_bytes());
                response.of_file = None;
                let chunks =
                    [Chunk::Data(cut.head.into()), Chunk::File { file, start: cut.start, len: cut.length }];
                response.body = Body::Stream(Box::new(Whole(chunks.into())));
                step
            }
            Ok(Err(why)) => {
                self.facts.log(Level::Error, Some(request), format_args!("{why}"));
                Step::Page(500)
            }
            Err(_) => Step::Page(500),
        }
    }

    /// An argument in seconds, with three digits behind the point at most.
    fn milliseconds(&mut self, name: &[u8], request: &Request) -> Option<u64> {
        let text = self.value_or_none(&Variable::Arg(name.to_vec()), request)?;
        let text = std::str::from_utf8(&text).ok()?;
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || part.len() > 3 || !is_digits(whole) || !is_digits(part) {
            return None;
        }
        let millis = whole.parse::<u64>().ok()?.checked_mul(1000)?;
        let part = format!("{part:0<3}").parse::<u64>().ok()?;
        // More than any video lasts.
        millis.checked_add(part).filter(|millis| *millis < 1 << 40)
    }

    /// `X-Accel-Redirect`: the application names what is to be sent in its place.
    pub(super) fn accelerate(&mut self, request: &mut Request, response: &Response, target: &[u8]) -> Step {
        // What nginx keeps of the application's response.
        const KEPT: [Name; 6] = [
            Name::ContentType,
            Name::SetCookie,
            Name::CacheControl,
            Name::Expires,
            Name::AcceptRanges,
            Name::XAccelCharset,
        ];
        let mut kept = Fields::new();
        for (name, field, value) in response.fields.iter() {
            if KEPT.contains(&name) || field.eq_ignore_ascii_case(b"content-disposition") {
                kept.push(field, value);
            }
        }
        self.kept = Some(kept);
        if target.starts_with(b"@") {
            return Step::Named(target.to_vec());
        }
        let Some((path, args)) = safe_target(target) else {
            let shown = String::from_utf8_lossy(target).into_owned();
            let passed = self.facts.passed_on();
            let action = passed.then_some("reading response header from upstream");
            let words = format_args!("unsafe URI \"{shown}\" was detected");
            self.facts.log_about(Level::Error, Some(request), action, None, words);
            return Step::Page(404);
        };
        Self::ask_with_get(request);
        Step::Redirect(path, args.into())
    }

    /// For those that ask about variables while they work.
    pub(super) fn eyes<'b>(&'b mut self, request: &'b Request) -> Eyes<'b> {
        Eyes { facts: &self.facts, state: &mut self.state, place: &self.place, request }
    }
}

/// Path and arguments of a target that somebody else than the configuration names; `None` if it climbs, or is none.
pub(super) fn safe_target(target: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let (raw, args) = split_args(target);
    let mut path = Vec::new();
    let is_safe =
        raw.starts_with(b"/") && !climbs(&raw) && protocol::normalize(&raw, true, &mut path).is_ok();
    is_safe.then_some((path, args))
}

/// Whether a path has a segment `..`, in any spelling: nginx takes none from an application.
fn climbs(raw: &[u8]) -> bool {
    let mut path = Vec::new();
    protocol::decode(raw, &mut path).is_err()
        || path.split(|byte| *byte == b'/').any(|segment| segment == b"..")
}

fn fixed(made: Result<Response, u16>) -> Step {
    match made {
        Ok(response) => Step::respond(response),
        Err(status) => Step::Page(status),
    }
}

/// Path and arguments of a target.
pub(super) fn split_args(target: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (target[..at].to_vec(), Some(target[at + 1..].to_vec())),
        None => (target.to_vec(), None),
    }
}

/// See [`Visit::eyes`].
pub struct Eyes<'a> {
    facts: &'a super::Facts<'a>,
    state: &'a mut routing::State,
    place: &'a super::Place,
    request: &'a Request,
}

impl FileContext for Eyes<'_> {
    fn value(&mut self, value: &Value) -> Vec<u8> {
        let view = View { facts: self.facts, sent: Sent::default() };
        let scope = Scope { request: self.request, environment: &view };
        self.facts.site.routing.variables.text(value, self.state, scope).into_owned()
    }

    fn accepted(&mut self) -> AcceptEncoding {
        // What is put into another answer is wanted as text.
        if self.facts.inner.get() {
            return AcceptEncoding::IDENTITY;
        }
        let (place, request) = (self.place, self.request);
        place.filters.accepted(request, self)
    }

    fn utc_offset(&mut self) -> i32 {
        telemetry::utc_offset()
    }

    fn log(&mut self, at: LogLevel, text: fmt::Arguments<'_>) {
        self.facts.log(level(at), Some(self.request), text);
    }
}

impl FilterContext for Eyes<'_> {
    fn value(&mut self, value: &Value, request: &Request, response: &Response) -> Vec<u8> {
        let sent = Sent::of(response);
        let view = View { facts: self.facts, sent };
        let scope = Scope { request, environment: &view };
        self.facts.site.routing.variables.text(value, self.state, scope).into_owned()
    }

    fn trailer(&mut self, name: &[u8], value: &[u8]) {
        self.facts.rare().trailers.push(name, value);
    }

    fn at_end(&mut self, trailers: &Rc<AtEnd>) -> bool {
        self.facts.rare().at_end = Some(Rc::clone(trailers));
        true
    }

    fn gzip_disabled(&mut self, _: &[RegexModel], user_agent: &[u8]) -> bool {
        self.place.gzip_disable.iter().any(|regex| regex.is_match(user_agent).unwrap_or(false))
    }

    fn log(&mut self, at: LogLevel, text: fmt::Arguments<'_>) {
        self.facts.log(level(at), Some(self.request), text);
    }
}
