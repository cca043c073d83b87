//! Responses that nobody but the edge makes: redirects, texts, pages of errors; and the filters' end.

use std::rc::Rc;

use config::model::http::{ErrorPage, Value};
use exchange::{Body, Browser, Fields, Name, Request, Response, Scheme};
use filters::nginx::{How, Verdict};
use routing::Scope;

use super::content::split_args;
use super::environment::{Sent, View};
use super::observed::{self, Seen};
use super::slice::Slice;
use super::visit::{Step, Visit};

impl Visit<'_, '_> {
    /// `return` with a text. Its type is that of a file of this name.
    pub(super) fn text(&self, request: &Request, status: u16, text: Vec<u8>) -> Box<Response> {
        let mut response = Box::new(Response::new(status));
        // What `error_page` has asked for another status has its text, as in nginx.
        let is_bare = |status| matches!(status, 204 | 304);
        if !is_bare(status) || self.status.is_some_and(|asked| !is_bare(asked)) {
            // `default_type ""` is none.
            let media_type = self.place.files.media_type(&request.path);
            if !media_type.is_empty() {
                response.fields.push_known(Name::ContentType, media_type);
            }
            response.body = Body::Full(text.into());
        }
        response
    }

    /// A redirect, which is a status that `error_page` may speak of, as any other.
    pub(super) fn redirect(&self, request: &Request, status: u16, to: Vec<u8>) -> Step {
        Step::Special(self.located(request, status, to))
    }

    /// A status and where to go. What is no URL is made one, by `absolute_redirect` and its company.
    fn located(&self, request: &Request, status: u16, to: Vec<u8>) -> Box<Response> {
        let mut response = Box::new(Response::new(status));
        let to = if to.starts_with(b"/") && self.settings().absolute_redirect {
            self.absolute(request, &to)
        } else {
            to
        };
        response.fields.push_known(Name::Location, &fit_for_a_field(to));
        response
    }

    pub(super) fn absolute(&self, request: &Request, path: &[u8]) -> Vec<u8> {
        let settings = self.settings();
        let host = if settings.server_name_in_redirect {
            self.site.routing.server(self.server).map(|server| server.name.clone()).unwrap_or_default()
        } else if request.authority.is_empty() {
            // Who names no host is told the address, not the name of the server that happens to be there.
            Vec::new()
        } else {
            self.facts.host.borrow().clone()
        };
        let host = if host.is_empty() {
            self.facts.ends.local.map(|local| local.ip().to_string().into_bytes()).unwrap_or_default()
        } else {
            host
        };
        let mut url = [request.scheme.as_str().as_bytes(), b"://", &host].concat();
        let usual = if request.scheme == Scheme::Https { 443 } else { 80 };
        let port = self.facts.ends.local.map_or(usual, |local| local.port());
        if settings.port_in_redirect && port != usual {
            url.extend_from_slice(format!(":{port}").as_bytes());
        }
        url.extend_from_slice(path);
        url
    }

    /// The page for a status when the configuration has none.
    pub(super) fn special(&mut self, request: &Request, status: u16) -> Box<Response> {
        if let Some(company) = &mut self.company {
            company.made_page = true;
        }
        let mut response = Box::new(Response::new(status));
        self.make_page(request, &mut response, status);
        if let Some(seconds) = self.facts.retry_after.get().filter(|_| status == 503) {
            response.fields.push_known(Name::RetryAfter, seconds.to_string().as_bytes());
        }
        response
    }

    /// Makes the page for a status out of a response. A status that ends a request goes before the one that
    /// an `error_page` on the way has set.
    pub(super) fn make_page(&mut self, request: &Request, response: &mut Response, status: u16) {
        self.status = None;
        let settings = self.settings();
        if settings.msie_refresh
            && matches!(status, 301 | 302)
            && request.fields.first(Name::UserAgent).is_some_and(|agent| Browser::of(agent).msie)
        {
            return handlers::special::refresh(response);
        }
        let signature = self.place.h1.server.as_deref().unwrap_or("monoceros");
        handlers::special::page(request, response, status, signature.as_bytes(), settings.msie_padding);
    }

    /// As in nginx the type that `X-Accel-Redirect` came with is that of a file, not that of a page for an error.
    pub(super) fn forget_type(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.remove(Name::ContentType);
        }
    }

    /// Who answers says what it is.
    pub(super) fn take_own_type(&mut self, fields: &Fields) {
        if fields.has(Name::ContentType) {
            self.forget_type();
        }
    }

    /// Whether `error_page` speaks of this status here.
    pub(super) fn has_error_page(&self, status: u16) -> bool {
        self.settings().error_pages.iter().any(|page| page.statuses.contains(&status))
    }

    /// What `error_page` makes of a status; `None`: the small page.
    pub(super) fn error_page_for(&mut self, request: &mut Request, status: u16) -> Option<Step> {
        let settings = self.settings();
        if self.pages_ended || settings.error_pages.is_empty() {
            return None;
        }
        // As in nginx it is the place that looks first which decides, whether or not it finds something.
        self.pages_ended = !settings.recursive_error_pages;
        let page: &ErrorPage = settings.error_pages.iter().find(|page| page.statuses.contains(&status))?;
        self.error_page = true;
        let target = self.value(&page.target, request);
        if target.starts_with(b"/") {
            self.ask_for_page(page.status.unwrap_or(status));
            Self::ask_with_get(request);
            let (path, args) = split_args(&target);
            return Some(Step::Redirect(path, args.or_else(|| page.args.clone()).into()));
        }
        if target.starts_with(b"@") {
            self.ask_for_page(page.status.unwrap_or(status));
            return Some(Step::Named(target));
        }
        let redirect =
            page.status.filter(|status| matches!(status, 301 | 302 | 303 | 307 | 308)).unwrap_or(302);
        let mut response = self.located(request, redirect, target);
        self.make_page(request, &mut response, redirect);
        Some(Step::Respond(response))
    }

    /// Another location is to answer with this status; 0: with its own.
    fn ask_for_page(&mut self, status: u16) {
        self.status = Some(status).filter(|status| *status != 0);
        self.facts.error_status.set(status);
    }

    /// What the filters make of a response.
    ///
    /// # Errors
    /// They refuse it, and `error_page` says where to go from there.
    pub(super) fn filter(
        &mut self,
        request: &mut Request,
        mut response: Box<Response>,
    ) -> Result<Box<Response>, Step> {
        let how = self.how(&mut response);
        let place = Rc::clone(&self.place);
        let seen = self.watch_coding(&mut response);
        let verdict = place.filters.apply(request, &mut response, how, &mut self.eyes(request));
        self.note_coding(&response, seen);
        self.conclude(request, response, how, verdict)
    }

    /// Puts on what was said of the response on the way to it, and tells how it is to be filtered.
    pub(super) fn how(&mut self, response: &mut Response) -> How {
        let asked = self.status.take();
        // A page that is answered as 200 is like any other: it may be cached, and parts of it asked for.
        let is_error = self.error_page && asked.unwrap_or(response.status) != 200;
        if is_error && self.facts.ranges.get() {
            // A file's.
            response.fields.remove(Name::AcceptRanges);
            response.fields.remove(Name::LastModified);
        }
        if let Some(kept) = self.kept.take() {
            for (name, field, value) in kept.iter() {
                match name {
                    Name::ContentType if asked.unwrap_or(response.status) == 204 => continue,
                    Name::ContentType => {
                        response.fields.remove(Name::ContentType);
                    }
                    Name::Location | Name::AcceptRanges if response.fields.has(name) => continue,
                    Name::XAccelCharset => {
                        response.charset = Some(value.into());
                        continue;
                    }
                    _ => {}
                }
                response.fields.push(field, value);
            }
        }
        if let Some(status) = asked {
            response.status = status;
            if status == 204 {
                response.fields.remove(Name::ContentType);
            }
        }
        How {
            clock: || {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                (since.map_or(0, |since| since.as_secs()), telemetry::utc_offset())
            },
            ranges: self.facts.ranges.get() && !is_error,
            // An application has weighed them itself, and so has another server.
            conditions: !is_error
                && (self.facts.keeps.get()
                    || (self.facts.outcome.get().is_none() && !self.facts.passed.get())),
        }
    }

    /// Watches the body of what may be compressed, for `$gzip_ratio`.
    pub(super) fn watch_coding(&self, response: &mut Response) -> Option<Rc<Seen>> {
        let compression = &self.settings().compression;
        let compresses = compression.gzip || compression.brotli || compression.zstd;
        if !compresses || response.fields.has(Name::ContentEncoding) {
            return None;
        }
        let (body, watched) = observed::watch(std::mem::take(&mut response.body));
        response.body = body;
        Some(watched)
    }

    /// Remembers it, if it was compressed.
    pub(super) fn note_coding(&self, response: &Response, seen: Option<Rc<Seen>>) {
        if seen.is_some() && response.fields.has(Name::ContentEncoding) {
            *self.facts.compressed.borrow_mut() = seen;
        }
    }

    /// Sends the response, or what stands in its place.
    ///
    /// # Errors
    /// Where `error_page` leads from there.
    pub(super) fn conclude(
        &mut self,
        request: &mut Request,
        mut response: Box<Response>,
        how: How,
        verdict: Verdict,
    ) -> Result<Box<Response>, Step> {
        match verdict {
            Verdict::Send => {
                self.identify(request, &mut response);
                Ok(response)
            }
            Verdict::Refuse(status) => {
                let fields = std::mem::take(&mut response.fields);
                if let Some(step) = self.error_page_for(request, status) {
                    self.facts.slice.set(Slice::Unasked);
                    self.kept = Some(fields);
                    return Err(step);
                }
                let mut page = self.special(request, status);
                for (name, field, value) in fields.iter() {
                    if page.fields.first(name).is_none() {
                        page.fields.push(field, value);
                    }
                }
                let how = How { ranges: false, conditions: false, ..how };
                let place = Rc::clone(&self.place);
                let _ = place.filters.apply(request, &mut page, how, &mut self.eyes(request));
                self.identify(request, &mut page);
                Ok(page)
            }
        }
    }

    /// The text of a value that may speak of a response.
    pub(super) fn value_of(&mut self, value: &Value, request: &Request, response: &Response) -> Vec<u8> {
        let sent = Sent::of(response);
        let view = View { facts: &self.facts, sent };
        let scope = Scope { request, environment: &view };
        self.site.routing.variables.text(value, &mut self.state, scope).into_owned()
    }
}

/// Where to go, with what may not stand in a field as a URL writes it: `return 301 https://$host$uri;` has a control
/// character wherever the client has a `%0a`.
fn fit_for_a_field(to: Vec<u8>) -> Vec<u8> {
    if http1::is_field_value(&to) {
        return to;
    }
    let mut fit = Vec::with_capacity(to.len() + 16);
    for byte in to {
        if byte.is_ascii_control() || byte == b' ' {
            fit.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            fit.push(byte);
        }
    }
    fit
}
