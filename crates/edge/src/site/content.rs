//! precontent and content: who makes the response.

use std::fmt;
use std::rc::Rc;

use buffering::BufferedBody;
use config::model::http::{Content, LogLevel, Regex as RegexModel, TryLast, Value, Variable};
use exchange::{AcceptEncoding, Fields, Method, Name, Request, Response};
use filters::nginx::FilterContext;
use handlers::files::by_path::{FileContext, Kind, Outcome, Place as FilePlace};
use routing::Scope;
use telemetry::error_log::Level;

use super::environment::{Sent, View};
use super::facts::level;
use super::observed;
use super::visit::{Step, Visit};
use crate::intake;

impl Visit<'_, '_> {
    /// `try_files`
    pub(super) fn try_files(&mut self, request: &mut Request) -> Option<Step> {
        let tries = self.settings().try_files.as_ref()?;
        let place = Rc::clone(&self.place);
        for (value, wants_directory) in &tries.tries {
            let uri = self.value(value, request);
            let path = self.file_of(request, &uri);
            let kind = place.files.probe(&path, exchange::now(), &mut self.eyes(request));
            let found = match kind.map(|look| look.kind) {
                Some(Kind::Directory) => *wants_directory,
                Some(Kind::File | Kind::Other) => !*wants_directory,
                None => false,
            };
            if found {
                // A directory is asked for without its slash: who serves it redirects, as in nginx.
                request.path = uri;
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
                    let (path, args) = split_args(&target);
                    Step::Redirect(path, args)
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

    pub(super) async fn content(&mut self, request: &mut Request) -> Step {
        match self.content.clone() {
            Content::Files => {
                if self.settings().dav.is_some()
                    && let Some(step) = Box::pin(self.dav(request)).await
                {
                    return step;
                }
                self.files(request)
            }
            Content::App(index) => Box::pin(self.application(request, index)).await,
            Content::Proxy(index) => Box::pin(self.proxy(request, index)).await,
            Content::StubStatus => {
                let numbers = self.event_loop.process.connections();
                fixed(handlers::fixed::stub_status(request, &numbers))
            }
            Content::Flv => self.flv(request),
            Content::EmptyGif => fixed(handlers::fixed::empty_gif(request)),
        }
    }

    fn files(&mut self, request: &Request) -> Step {
        let path = self.file_of(request, &request.path);
        let place = Rc::clone(&self.place);
        let files = FilePlace { path: &path, uri: &request.path };
        match place.files.serve(request, files, exchange::now(), &mut self.eyes(request)) {
            Outcome::Response(response) => {
                self.facts.ranges.set(true);
                Step::Respond(response)
            }
            Outcome::Redirect(path) => Step::Redirect(path, None),
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

    async fn application(&mut self, request: &mut Request, index: u32) -> Step {
        // Of the configuration that the request began with: in another the number may be another application's.
        let Some(app) = self.site.apps.get(index as usize).map(Rc::clone) else { return Step::Page(500) };
        let name = self.site.app_name(index);
        *self.facts.app.borrow_mut() = Some(name);
        let body = match self.take_body(request).await {
            Ok(body) => body,
            Err(step) => return step,
        };
        let asked = exchange::now();
        let server = self.server_address();
        let server = (&server.0[..], server.1);
        let called = if self.alone {
            intake::call_alone(&app, request, &body, server).await
        } else {
            intake::call(&app, &mut self.exchange, request, &body, server).await
        };
        if let Some(company) = self.company.as_mut().filter(|_| request.has_body()) {
            company.body = Some(body);
        }
        self.facts.outcome.set(Some(called.outcome));
        self.facts.pulled.set((called.outcome.pid != 0).then_some(asked + called.outcome.queued));
        let mut response = match called.result {
            Ok(response) => response,
            Err(failure) => {
                let (status, words) = intake::describe(failure, called.outcome);
                let log = if status == 499 { Level::Info } else { Level::Error };
                self.facts.log(log, Some(request), format_args!("{words} (worker {})", called.outcome.pid));
                return match status {
                    499 => Step::Gone,
                    503 => {
                        self.facts.retry_after.set(Some(app.retry_after(exchange::now())));
                        Step::Page(503)
                    }
                    status => Step::Page(status),
                };
            }
        };
        let (body, seen) = observed::watch(response.body);
        response.body = body;
        *self.facts.answer.borrow_mut() = Some(seen);
        if let Some(rate) = response.fields.only(Name::XAccelLimitRate)
            && !rate.is_empty()
            && rate.iter().all(u8::is_ascii_digit)
        {
            *self.facts.limit_rate.borrow_mut() = Some(rate.to_vec());
        }
        if let Some(target) = response.fields.first(Name::XAccelRedirect).map(<[u8]>::to_vec) {
            return self.accelerate(request, &response, &target);
        }
        if self.settings().intercept_errors && response.status >= 300 && self.has_error_page(response.status)
        {
            return Step::Page(response.status);
        }
        for name in [Name::XAccelBuffering, Name::XAccelCharset, Name::XAccelExpires, Name::XAccelLimitRate] {
            response.fields.remove(name);
        }
        Step::Respond(response)
    }

    /// The client's body, read if it was not yet.
    pub(super) async fn take_body(&mut self, request: &Request) -> Result<BufferedBody, Step> {
        let known = self.company.as_mut().filter(|_| request.has_body()).and_then(|c| c.body.take());
        let body = match known {
            Some(body) => body,
            None => self.read_body(request).await?,
        };
        self.facts.body_length.set(body.len());
        if let BufferedBody::Memory(bytes) = &body {
            *self.facts.body.borrow_mut() = Some(bytes.clone());
        }
        Ok(body)
    }

    /// Reads the client's body.
    pub(super) async fn read_body(&mut self, request: &Request) -> Result<BufferedBody, Step> {
        let memory = usize::try_from(self.settings().body_buffer).unwrap_or(usize::MAX);
        match intake::buffer_body(self.event_loop, &mut self.exchange, request, memory).await {
            Ok(body) => Ok(body),
            Err(intake::BodyFailure { status: Some(status), words, .. }) => {
                self.facts.log(Level::Error, Some(request), format_args!("{words}"));
                self.exchange.close_after();
                Err(Step::Page(status))
            }
            Err(_) => Err(Step::Gone),
        }
    }

    /// `X-Accel-Redirect`: the application names what is to be sent in its place.
    pub(super) fn accelerate(&mut self, request: &mut Request, response: &Response, target: &[u8]) -> Step {
        // What nginx keeps of the application's response.
        const KEPT: [Name; 5] =
            [Name::ContentType, Name::SetCookie, Name::CacheControl, Name::Expires, Name::AcceptRanges];
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
            self.facts.log(Level::Error, Some(request), format_args!("unsafe URI \"{shown}\" was detected"));
            return Step::Page(404);
        };
        Self::ask_with_get(request);
        Step::Redirect(path, Some(args.unwrap_or_default()))
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
        Ok(response) => Step::Respond(response),
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

    fn gzip_disabled(&mut self, _: &[RegexModel], user_agent: &[u8]) -> bool {
        self.place.gzip_disable.iter().any(|regex| regex.is_match(user_agent).unwrap_or(false))
    }

    fn log(&mut self, at: LogLevel, text: fmt::Arguments<'_>) {
        self.facts.log(level(at), Some(self.request), text);
    }
}
