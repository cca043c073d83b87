//! precontent and content: who makes the response.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::Arc;

use buffering::{BufferedBody, Named, ResponseLimits, SpilledBody};
use bytes::Bytes;
use cache::{Freshness, Stored};
use config::model::http::{
    BodyFile, CacheKind, CacheSettings, Content, IgnoreHeaders, LogLevel, Regex as RegexModel, TryLast,
    Value, Variable,
};
use exchange::{AcceptEncoding, Body, Chunk, Fields, Leave, Method, Name, Request, Response};
use filters::nginx::{AtEnd, FilterContext};
use handlers::app::App;
use handlers::files::by_path::{FileContext, Kind, Outcome, Place as FilePlace};
use handlers::mp4::{self, Mp4Error, Wanted};
use routing::Scope;
use telemetry::error_log::Level;

use super::environment::{Sent, View};
use super::facts::level;
use super::kept::{self, Consulted, Keeping};
use super::observed;
use super::proxy::wants_next;
use super::slice::Whole;
use super::visit::{Args, Step, Visit};
use crate::{forwarded, intake};

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

    pub(super) async fn application(&mut self, request: &mut Request, index: u32) -> Step {
        // Of the configuration that the request began with: in another the number may be another application's.
        let Some(app) = self.site.apps.get(index as usize).map(Rc::clone) else { return Step::Page(500) };
        let name = self.site.app_name(index);
        if request.in_early_data {
            // RFC 8470 §5.1: an application that would rather not answers 425, and is asked again later.
            request.fields.remove_named(b"early-data");
            request.fields.push(b"Early-Data", b"1");
        }
        let told = match self.told(index, request) {
            Ok(told) => told,
            Err(step) => return step,
        };
        let mut keeping = None;
        if self.place.caches[CacheKind::App as usize].is_some() {
            // Where the client calls us nothing, the application makes addresses of what it is told instead.
            let called = request.authority.is_empty().then(|| self.server_address());
            let own = || own_key(&name, request, called);
            let authorized = request.fields.has(Name::Authorization);
            let asks = self.consult(request, told.as_ref(), CacheKind::App, own, authorized, |_, _| true);
            match Box::pin(asks).await {
                Consulted::Ask(asks) => keeping = asks,
                Consulted::Kept(stored) => return self.kept_of_app(&stored),
                Consulted::Step(step) => return step,
            }
        }
        *self.facts.app.borrow_mut() = Some(name);
        let body = match self.take_body(request).await {
            Ok(body) => body,
            Err(step) => return step,
        };
        let asking = told.as_ref().unwrap_or(request);
        let for_all = keeping.as_deref().and_then(|keeping| Self::for_all(asking, keeping));
        let is_for_all = for_all.is_some();
        let asking = for_all.as_ref().unwrap_or(asking);
        let called = self.run_app(&app, (request, asking), &body, is_for_all, None).await;
        let step = self.answered_by_app(request, &app, called, keeping);
        if request.has_body() {
            self.keep_body(body, &step);
        }
        step
    }

    fn answered_by_app(
        &mut self,
        request: &mut Request,
        app: &Rc<App>,
        called: Result<Response, u16>,
        mut keeping: Option<Box<Keeping>>,
    ) -> Step {
        let mut response = match called {
            Ok(response) => response,
            Err(status) => {
                let is_meant = |settings: &CacheSettings, stored: &Stored| match status {
                    499 => false,
                    504 => settings.use_stale.timeout || stored.may_fail(kept::seconds()),
                    _ => settings.use_stale.error || stored.may_fail(kept::seconds()),
                };
                if let Some(stored) = self.stale_for(keeping.as_mut(), is_meant) {
                    return self.kept_of_app(&stored);
                }
                return self.unanswered(app, status);
            }
        };
        let mut fresh = Freshness::default();
        if keeping.is_some() {
            let lines = response.fields.iter().map(|(_, name, value)| (name, value));
            fresh = cache::weigh(lines, IgnoreHeaders::default(), kept::seconds());
            let status = response.status;
            let is_meant = |settings: &CacheSettings, _: &Stored| wants_next(settings.use_stale, status);
            let stale = match self.stale_for(keeping.as_mut(), is_meant) {
                None if status == 304 => keeping
                    .as_mut()
                    .and_then(|keeping| self.renewed(request, keeping, &fresh, IgnoreHeaders::default())),
                stale => stale,
            };
            if let Some(stored) = stale {
                return self.kept_of_app(&stored);
            }
        }
        self.observe(&mut response);
        if let Some(rate) = response.fields.only(Name::XAccelLimitRate)
            && !rate.is_empty()
            && rate.iter().all(u8::is_ascii_digit)
        {
            *self.facts.limit_rate.borrow_mut() = Some(rate.to_vec());
        }
        if self.settings().intercept_errors && response.status >= 300 && self.has_error_page(response.status)
        {
            if let Some(keeping) = &keeping {
                Self::remember(keeping, response.status, Some(&fresh));
            }
            return Step::Page(response.status);
        }
        if let Some(target) = response.fields.first(Name::XAccelRedirect).map(<[u8]>::to_vec) {
            return self.accelerate(request, &response, &target);
        }
        // As nginx in front of gunicorn, which has none then.
        if response.fields.only(Name::ContentType) == Some(b"") {
            response.fields.remove(Name::ContentType);
        }
        self.take_own_type(&response.fields);
        response.charset =
            response.fields.first(Name::XAccelCharset).filter(|c| !c.is_empty()).map(Into::into);
        for name in [Name::XAccelBuffering, Name::XAccelCharset, Name::XAccelExpires, Name::XAccelLimitRate] {
            response.fields.remove(name);
        }
        let Some(keeping) = keeping else { return Step::respond(response) };
        let cacheable = keeping.cacheable && !fresh.forbidden;
        if cacheable {
            response.leave = Leave::Unseen;
        }
        self.facts.keeps.set(cacheable);
        let length = response
            .fields
            .only(Name::ContentLength)
            .and_then(|length| std::str::from_utf8(length).ok().and_then(|length| length.parse().ok()));
        let without_body = request.method == Method::Head && !keeping.settings.convert_head;
        let head = {
            let head = head_of(&response);
            move || head
        };
        let body = std::mem::take(&mut response.body);
        let memory = self.site.configuration.model.edge.buffers.response;
        let status = response.status;
        response.body =
            self.put_in_cache(request, *keeping, fresh, status, without_body, head, body, length, memory);
        Step::respond(response)
    }

    /// The request as the application is told it, if that is not as it came.
    fn told(&self, index: u32, request: &Request) -> Result<Option<Request>, Step> {
        let model = self.site.configuration.model.apps.get(index as usize);
        let Some(forwarded) = model.and_then(|app| app.forwarded.as_deref()) else { return Ok(None) };
        forwarded::pass_on(forwarded, request, self.ends.peer.remote).map_err(|why| {
            self.facts.log(Level::Info, Some(request), format_args!("{why}"));
            Step::Page(400)
        })
    }

    /// Where the application itself is asked, as gunicorn would be: whoever connects may say for whom it speaks, and what
    /// the application says goes to it as it is.
    pub(super) async fn bound(&mut self, request: &mut Request, index: u32) -> Step {
        let Some(app) = self.site.apps.get(index as usize).map(Rc::clone) else { return Step::Page(500) };
        let model = self.site.configuration.model.apps.get(index as usize);
        if let Some(forwarded) = model.and_then(|app| app.forwarded.as_deref())
            && let Err(why) = forwarded::arrive(forwarded, request)
        {
            self.facts.log(Level::Info, Some(request), format_args!("{why}"));
            return Step::Page(400);
        }
        *self.facts.app.borrow_mut() = Some(self.site.app_name(index));
        let body = match self.take_body(request).await {
            Ok(body) => body,
            Err(step) => return step,
        };
        match self.run_app(&app, (request, request), &body, false, None).await {
            Ok(mut response) => {
                self.observe(&mut response);
                Step::respond(response)
            }
            Err(status) => self.unanswered(&app, status),
        }
    }

    /// Has the application run what is made of the request. `alone`: whether or not the client stays. `Err`: the status that says why
    /// there is no answer, which has been logged. `limits` hold for the answer in place of the application's.
    pub(super) async fn run_app(
        &mut self,
        app: &Rc<App>,
        (request, asking): (&Request, &Request),
        body: &BufferedBody,
        alone: bool,
        limits: Option<ResponseLimits>,
    ) -> Result<Response, u16> {
        let asked = exchange::now();
        let server = self.server_address();
        let server = (&server.0[..], server.1);
        let called = if self.alone || alone {
            intake::call_alone(app, self.exchange.is_known(), asking, body, server, limits).await
        } else {
            let hints = self.depth == 0 && self.is_any(&self.settings().early_hints, request);
            intake::call(app, &mut self.exchange, asking, body, server, limits, hints).await
        };
        self.facts.outcome.set(Some(called.outcome));
        self.facts.pulled.set((called.outcome.pid != 0).then_some(asked + called.outcome.queued));
        called.result.map_err(|failure| {
            let (status, words) = intake::describe(failure, called.outcome);
            let log = if status == 499 { Level::Info } else { Level::Error };
            self.facts.log(log, Some(request), format_args!("{words} (worker {})", called.outcome.pid));
            status
        })
    }

    /// What becomes of a request without an answer.
    pub(super) fn unanswered(&self, app: &Rc<App>, status: u16) -> Step {
        match status {
            499 => Step::Gone,
            503 => {
                self.facts.retry_after.set(Some(app.retry_after(exchange::now())));
                Step::Page(503)
            }
            status => Step::Page(status),
        }
    }

    /// For the variables that tell of the application's answer.
    pub(super) fn observe(&self, response: &mut Response) {
        let (body, seen) = observed::watch(std::mem::take(&mut response.body));
        response.body = body;
        *self.facts.answer.borrow_mut() = Some(seen);
    }

    /// The request whose answer is for others too: without what its sender has already.
    fn for_all(request: &Request, keeping: &Keeping) -> Option<Request> {
        if !keeping.cacheable {
            return None;
        }
        let mut for_all = request.clone();
        for name in [
            Name::IfModifiedSince,
            Name::IfUnmodifiedSince,
            Name::IfNoneMatch,
            Name::IfMatch,
            Name::Range,
            Name::IfRange,
        ] {
            for_all.fields.remove(name);
        }
        if for_all.method == Method::Head && keeping.settings.convert_head {
            for_all.method = Method::Get;
        }
        if let Some(stored) = keeping.stale.as_ref().filter(|_| keeping.settings.revalidate) {
            if let Some(modified) = stored.meta.last_modified {
                for_all.fields.push_known(Name::IfModifiedSince, &exchange::http_date(modified));
            }
            if !stored.meta.etag.is_empty() {
                for_all.fields.push_known(Name::IfNoneMatch, &stored.meta.etag);
            }
        }
        Some(for_all)
    }

    /// What is kept of an application becomes the response.
    fn kept_of_app(&mut self, stored: &Stored) -> Step {
        let mut response = Response::new(stored.head.status);
        for (name, value) in stored.head.lines(&stored.meta.head) {
            if stored.meta.without_body || Name::of(name) != Name::ContentLength {
                response.fields.push(name, value);
            }
        }
        if !stored.meta.without_body {
            response.body = stored.body();
        }
        self.take_own_type(&response.fields);
        self.facts.keeps.set(true);
        self.facts.ranges.set(response.status == 200);
        Step::respond(response)
    }

    /// The client's body where there is none: nothing has to be waited for.
    pub(super) fn no_body(&self, request: &Request) -> Option<BufferedBody> {
        if request.has_body() {
            return None;
        }
        self.note_body(&BufferedBody::Empty);
        Some(BufferedBody::Empty)
    }

    /// The client's body, read if it was not yet.
    pub(super) async fn take_body(&mut self, request: &Request) -> Result<BufferedBody, Step> {
        let known = self.company.as_mut().filter(|_| request.has_body()).and_then(|c| c.body.take());
        let body = match known {
            Some(body) => body,
            None if request.has_body() && self.facts.body_spent.get() => {
                let what = "the body was passed on as it came, and cannot be passed on again";
                self.facts.log(Level::Error, Some(request), format_args!("{what}"));
                return Err(Step::Page(500));
            }
            None => self.read_body(request).await?,
        };
        self.note_body(&body);
        if request.content_length.is_none() {
            self.facts.found_length.set(Some(body.len()));
        }
        Ok(body)
    }

    /// Leaves the client's body to whoever needs it after this step: a page of `error_page`, a named location, a copy of
    /// the request, `post_action`.
    pub(super) fn keep_body(&mut self, body: BufferedBody, step: &Step) {
        let is_needed = self.company.is_some()
            || !matches!(step, Step::Respond(_))
            || self.settings().post_action.is_some();
        if is_needed {
            self.company().body = Some(body);
        }
    }

    /// For the variables that tell of it.
    pub(super) fn note_body(&self, body: &BufferedBody) {
        self.facts.body_length.set(body.len());
        match body {
            BufferedBody::Empty => {}
            BufferedBody::Memory(bytes) => *self.facts.body.borrow_mut() = Some(bytes.clone()),
            BufferedBody::File(file) => {
                self.facts.rare().body_file = Some(file.path().as_os_str().as_bytes().into());
            }
        }
    }

    /// Reads the client's body.
    pub(super) async fn read_body(&mut self, request: &Request) -> Result<BufferedBody, Step> {
        let memory = usize::try_from(self.settings().body_buffer).unwrap_or(usize::MAX);
        let named = self.settings().body_in_file.map(|file| match file {
            BodyFile::Keep => Named::Keep,
            BodyFile::Clean => Named::Remove,
        });
        let h1 = Rc::clone(&self.place.h1);
        match intake::buffer_body(self.event_loop, &mut self.exchange, request, memory, named, &h1).await {
            Ok(body) => {
                if let BufferedBody::File(file) = &body {
                    self.log_spilled(request, file, named.is_some());
                }
                Ok(body)
            }
            Err(intake::BodyFailure { status: Some(status), mut words, .. }) => {
                if status == 413 {
                    let limit = h1.max_body.unwrap_or_default();
                    words = format!(
                        "client intended to send too large chunked body: client_max_body_size is {limit} bytes"
                    );
                }
                self.facts.log(Level::Error, Some(request), format_args!("{words}"));
                self.exchange.close_after();
                Err(Step::Page(status))
            }
            Err(_) => {
                let words = format_args!("client prematurely closed connection");
                self.facts.log(Level::Info, Some(request), words);
                self.unanswered = 400;
                Err(Step::Gone)
            }
        }
    }

    /// Says that the client's body is in a file; which, if it has a name.
    fn log_spilled(&self, request: &Request, file: &SpilledBody, is_named: bool) {
        let path = file.path();
        let (level, at, path) = match path.parent() {
            Some(directory) if !is_named => (Level::Warning, "in ", directory),
            _ => (Level::Notice, "", path),
        };
        let path = path.display();
        let words = format_args!("a client request body is buffered to a temporary file {at}{path}");
        self.facts.log(level, Some(request), words);
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

    /// `SERVER_NAME` and `SERVER_PORT` of the application.
    fn server_address(&self) -> (String, u16) {
        let name = String::from_utf8_lossy(&self.facts.host.borrow()).into_owned();
        let port = self.facts.ends.local.map_or(80, |local| local.port());
        (if name.is_empty() { self.ends.server.0.clone() } else { name }, port)
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

/// What tells requests to an application apart where the configuration does not say.
fn own_key(name: &str, request: &Request, called: Option<(String, u16)>) -> Vec<u8> {
    let scheme = request.scheme.as_str().as_bytes();
    let called = called.map(|(name, port)| format!("{name}:{port}").into_bytes());
    let host = called.as_ref().unwrap_or(&request.authority);
    let parts: [&[u8]; 6] = [name.as_bytes(), scheme, host, &request.target, &request.path, &request.query];
    // No part can contain it.
    parts.join(&0)
}

/// The head of an application's answer, as it is kept.
fn head_of(response: &Response) -> Bytes {
    let mut head = format!("HTTP/1.1 {} \r\n", response.status).into_bytes();
    for (_, name, value) in response.fields.iter() {
        head.extend_from_slice(name);
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head.into()
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
