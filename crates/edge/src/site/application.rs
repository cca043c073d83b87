//! content of `app_pass`: an application's answer, run now or kept from before.

use std::rc::Rc;

use buffering::{BufferedBody, ResponseLimits};
use bytes::Bytes;
use cache::{Freshness, Stored};
use config::model::http::{CacheKind, CacheSettings, IgnoreHeaders};
use exchange::{Leave, Method, Name, Request, Response};
use handlers::app::App;
use telemetry::error_log::Level;

use super::kept::{self, Consulted, Keeping};
use super::observed;
use super::proxy::wants_next;
use super::visit::{Step, Visit};
use crate::{forwarded, intake};

impl Visit<'_, '_> {
    /// `app_pass`
    pub(super) async fn application(&mut self, request: &mut Request, index: u32) -> Step {
        // Of the configuration that the request began with: in another the number may be another application's.
        let Some(app) = self.site.apps.get(index as usize).map(Rc::clone) else { return Step::Page(500) };
        let name = self.site.app_name(index);
        if request.in_early_data {
            // RFC 8470 §5.1: an application that would rather not answers 425, and is asked again later.
            request.fields.remove_named(b"early-data");
            request.fields.push(b"Early-Data", b"1");
        }
        let mut told = match self.told(index, request) {
            Ok(told) => told,
            Err(step) => return step,
        };
        let mut keeping = None;
        // What is set may be of the body, but what is kept is looked for before there is one.
        let is_cached = self.place.caches[CacheKind::App as usize].is_some();
        if is_cached {
            told = match self.with_set_fields(index, request, told) {
                Ok(told) => told,
                Err(step) => return step,
            };
            let set = told.as_ref().and_then(|told| told.fields.first(Name::Host));
            let host = set.unwrap_or(&request.authority);
            // Where the client calls us nothing, the application makes addresses of what it is told instead.
            let server = host.is_empty().then(|| self.server_address());
            let server = server.map(|(name, port)| format!("{name}:{port}").into_bytes());
            let own = || own_key(&name, request, server.as_deref().unwrap_or(host));
            let set = self.settings().app_set_headers.iter();
            let set =
                set.filter(|(name, _)| name.eq_ignore_ascii_case(b"authorization")).map(|(_, value)| value);
            let authorized = self.is_authorized(request, CacheKind::App, true, set);
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
        if !is_cached {
            told = match self.with_set_fields(index, request, told) {
                Ok(told) => told,
                Err(step) => return step,
            };
        }
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

    /// The request with what `app_set_header` sets.
    fn with_set_fields(
        &mut self,
        index: u32,
        request: &Request,
        told: Option<Request>,
    ) -> Result<Option<Request>, Step> {
        let settings = self.settings();
        if settings.app_set_headers.is_empty() {
            return Ok(told);
        }
        let mut told = told.unwrap_or_else(|| request.clone());
        for (name, value) in &settings.app_set_headers {
            let value = self.value(value, request);
            if !http1::is_field_value(&value) {
                let name = String::from_utf8_lossy(name);
                let what = format_args!("invalid value of \"{name}\" in app_set_header");
                self.facts.log(Level::Error, Some(request), what);
                return Err(Step::Page(400));
            }
            // In an environ both are one variable.
            let same =
                |other: &[u8]| other.len() == name.len() && other.iter().zip(name).all(is_same_in_environ);
            told.fields.remove_if(same);
            let is_mount = same(b"script_name");
            if is_mount {
                told.script_name.clone_from(&request.script_name);
            }
            if !value.is_empty() {
                told.fields.push(name, &value);
            }
            let model = self.site.configuration.model.apps.get(index as usize);
            if is_mount && let Some(forwarded) = model.and_then(|app| app.forwarded.as_deref()) {
                forwarded::believe_mount(forwarded, &mut told);
            }
        }
        Ok(Some(told))
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

    /// `SERVER_NAME` and `SERVER_PORT` of the application.
    fn server_address(&self) -> (String, u16) {
        let name = String::from_utf8_lossy(&self.facts.host.borrow()).into_owned();
        let port = self.facts.ends.local.map_or(80, |local| local.port());
        (if name.is_empty() { self.ends.server.0.clone() } else { name }, port)
    }
}

/// Whether names of fields with these bytes are the same variable of an environ.
fn is_same_in_environ((a, b): (&u8, &u8)) -> bool {
    let of = |byte: &u8| if *byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
    of(a) == of(b)
}

/// What tells requests to an application apart where the configuration does not say. `host`: what it is told that it is
/// called.
fn own_key(name: &str, request: &Request, host: &[u8]) -> Vec<u8> {
    let scheme = request.scheme.as_str().as_bytes();
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
