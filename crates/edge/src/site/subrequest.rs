//! Requests within a request: a location is asked on behalf of the client's request, and what it answers is part of
//! the response (`add_before_body`, `ssi`), decides about it (`auth_request`) or is thrown away (`mirror`).

use config::model::http::{SettingsId, Variable};
use exchange::{Fields, Method, Name, OfClient, Request, Response};
use routing::URI_CHANGES;
use telemetry::error_log::Level;

use super::slice::Slice;
use super::visit::Visit;

/// Requests that may lie within each other, as in nginx.
pub(super) const DEPTH: u32 = 50;
/// Requests that one of a client may lead to, all together.
const COUNT: u32 = 1000;

/// What is asked.
pub(super) struct Ask {
    /// A path, or `@name`.
    pub path: Vec<u8>,
    pub args: Vec<u8>,
    /// The client's; else GET.
    pub method: Option<Method>,
    /// The client's body comes along.
    pub body: bool,
    /// The answer's body is part of the response: filters change it, in the character set that the response is in.
    pub shown: Option<Shown>,
    /// `auth_request_set` stores what is known of it.
    pub sets: bool,
}

/// See [`Ask::shown`].
#[derive(Clone, Default)]
pub(super) struct Shown {
    /// The response's character set, if it names one.
    pub charset: Option<Vec<u8>>,
}

impl Ask {
    /// A path is asked with GET.
    pub(super) fn get(path: Vec<u8>) -> Self {
        Self { path, args: Vec::new(), method: None, body: false, shown: None, sets: false }
    }
}

impl Visit<'_, '_> {
    /// Asks. `None`: there is nobody left to answer, or requests lead to each other in a circle.
    pub(super) async fn ask(&mut self, request: &Request, ask: Ask) -> Option<Box<Response>> {
        if self.company().client_left {
            return None;
        }
        if self.depth == DEPTH || self.company().asked == COUNT {
            let path = String::from_utf8_lossy(&ask.path);
            let what = format_args!("subrequests cycle while processing \"{path}\"");
            self.facts.log(Level::Error, Some(request), what);
            return None;
        }
        self.company().asked += 1;
        // Where all answers are at hand, others on this loop must get their turn too.
        if self.company().asked.is_multiple_of(16) {
            tokio::task::yield_now().await;
        }
        let mut inner = inner_request(request, &ask);
        let outer = self.step_in();
        let made_page = std::mem::take(&mut self.company().made_page);
        let step = if ask.path.starts_with(b"@") {
            self.named(&mut inner, &ask.path)
        } else {
            inner.path.clone_from(&ask.path);
            inner.query.clone_from(&ask.args);
            inner.query_set = false;
            self.begin(&mut inner)
        };
        let mut answer = Box::pin(self.finish(&mut inner, step)).await;
        self.company().client_left |= answer.is_none();
        // A page for an error is one: `auth_request` would let everybody in otherwise.
        if let (Some(answer), Some(status)) = (&mut answer, self.status.take()) {
            answer.status = status;
        }
        // What is asked within it may fail without its being worth less.
        let failed = self.error_page || self.company().made_page;
        if let (Some(answer), Some(shown)) = (&mut answer, &ask.shown) {
            Box::pin(self.filter_inner(&mut inner, answer, shown)).await;
        }
        if let Some(answer) = answer.as_ref().filter(|_| self.settings().log_subrequest) {
            self.log_inner(&inner, answer);
        }
        if let Some(answer) = answer.as_ref().filter(|_| ask.sets) {
            self.store_for(outer.settings, &inner, answer);
        }
        let answer_limit = self.settings().subrequest_buffer;
        let company = self.company();
        (company.answer_limit, company.failed, company.made_page) = (answer_limit, failed, made_page);
        self.step_out(outer);
        answer
    }

    /// `auth_request_set` where it stands: its values are the asked request's.
    fn store_for(&mut self, settings: SettingsId, inner: &Request, answer: &Response) {
        let http = self.site.http();
        for (variable, value) in &http.settings[settings as usize].auth_request_set {
            let text = self.value_of(value, inner, answer);
            let name = http.defined.get(*variable as usize).map_or("", |defined| &defined.name);
            // As with `set`, what is there by itself is changed and not stored beside it.
            match Variable::built_in(name) {
                Some(Variable::Args) => self.company().args = Some(text),
                Some(Variable::LimitRate) => *self.facts.limit_rate.borrow_mut() = Some(text),
                _ => self.state.store(*variable, &text),
            }
        }
    }

    pub(super) fn step_in(&mut self) -> Outer {
        let facts = &self.facts;
        let outer = Outer {
            settings: self.place.id,
            content: self.content.clone(),
            internal: std::mem::replace(&mut self.internal, true),
            error_page: std::mem::take(&mut self.error_page),
            pages_ended: std::mem::take(&mut self.pages_ended),
            status: self.status.take(),
            error_status: facts.error_status.take(),
            uri_changes: std::mem::replace(&mut self.uri_changes, URI_CHANGES + 1),
            kept: self.kept.take(),
            ranges: facts.ranges.take(),
            adds_to_alias: facts.adds_to_alias.take(),
            retry_after: facts.retry_after.take(),
            outcome: facts.outcome.take(),
            pulled: facts.pulled.take(),
            answer: facts.answer.take(),
            app: facts.app.take(),
            upstream: facts.upstream.take(),
            passed: facts.passed.take(),
            keeps: facts.keeps.take(),
            slice: facts.slice.replace(Slice::Within),
            target_changed: std::mem::replace(&mut self.target_changed, true),
            location_valid: std::mem::replace(&mut self.location_valid, true),
            body_length: facts.body_length.get(),
            found_length: facts.found_length.take(),
            body: facts.body.borrow().clone(),
            captures: self.state.swap_captures(routing::Captures::default()),
        };
        self.depth += 1;
        facts.inner.set(true);
        outer
    }

    /// What holds is the outer request's again.
    pub(super) fn step_out(&mut self, outer: Outer) {
        self.depth -= 1;
        let facts = &self.facts;
        facts.inner.set(self.depth > 0);
        facts.ranges.set(outer.ranges);
        facts.adds_to_alias.set(outer.adds_to_alias);
        facts.retry_after.set(outer.retry_after);
        facts.outcome.set(outer.outcome);
        facts.pulled.set(outer.pulled);
        facts.answer.replace(outer.answer);
        facts.app.replace(outer.app);
        let asked = facts.upstream.replace(outer.upstream);
        if asked.is_some() {
            facts.rare().asked = asked;
        }
        facts.passed.set(outer.passed);
        facts.keeps.set(outer.keeps);
        facts.slice.set(outer.slice);
        self.target_changed = outer.target_changed;
        self.location_valid = outer.location_valid;
        facts.body_length.set(outer.body_length);
        facts.found_length.set(outer.found_length);
        facts.body.replace(outer.body);
        self.state.swap_captures(outer.captures);
        self.internal = outer.internal;
        self.error_page = outer.error_page;
        self.pages_ended = outer.pages_ended;
        self.status = outer.status;
        facts.error_status.set(outer.error_status);
        self.kept = outer.kept;
        self.uri_changes = outer.uri_changes;
        self.enter(outer.settings, outer.content);
    }

    /// Whether a location is asked on behalf of the client's request.
    pub(super) fn is_inner(&self) -> bool {
        self.depth > 0
    }
}

/// What is the outer request's own while an inner one is served.
pub(super) struct Outer {
    settings: SettingsId,
    content: config::model::http::Content,
    internal: bool,
    error_page: bool,
    pages_ended: bool,
    status: Option<u16>,
    error_status: u16,
    uri_changes: u32,
    captures: routing::Captures,
    kept: Option<Fields>,
    ranges: bool,
    adds_to_alias: bool,
    retry_after: Option<u64>,
    outcome: Option<handlers::app::Outcome>,
    pulled: Option<std::time::Instant>,
    answer: Option<std::rc::Rc<super::observed::Seen>>,
    app: Option<String>,
    upstream: Option<Box<super::proxy::Asked>>,
    passed: bool,
    keeps: bool,
    slice: Slice,
    target_changed: bool,
    location_valid: bool,
    body_length: u64,
    found_length: Option<u64>,
    body: Option<bytes::Bytes>,
}

/// The client's request with what concerns its own body and copy left out. Variables show that too, as in nginx, where
/// requests within each other have the same fields.
fn inner_request(request: &Request, ask: &Ask) -> Request {
    let mut inner = request.clone();
    if inner.within.is_none() {
        let method = ask.method.as_ref().unwrap_or(&request.method).clone();
        inner.within = Some(Box::new(OfClient { method, left_out: Fields::new() }));
    }
    inner.ask_with(ask.method.clone().unwrap_or(Method::Get));
    if !ask.body {
        inner.content_length = Some(0);
        inner.leave_out(Name::ContentLength);
        inner.leave_out(Name::TransferEncoding);
    }
    inner.leave_out(Name::Expect);
    // nginx passes them on here too, and puts the part that it is given, or the empty body of a 304, into the page.
    if ask.shown.is_some() {
        for name in [
            Name::IfMatch,
            Name::IfNoneMatch,
            Name::IfModifiedSince,
            Name::IfUnmodifiedSince,
            Name::Range,
            Name::IfRange,
        ] {
            inner.leave_out(name);
        }
    }
    inner
}
