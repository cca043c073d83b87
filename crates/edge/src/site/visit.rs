//! One request's way through a site: nginx's phases.
//!
//! A request may go round several times: `rewrite` and `try_files` lead to other locations, `error_page` and
//! `X-Accel-Redirect` to other paths. [`Visit::serve`] is that round; each phase says by a [`Step`] how it goes on.

use std::rc::Rc;
use std::time::Instant;

use config::model::http::{Content, ServerId, Settings, Variable};
use exchange::{Browser, Method, Name, Request, Response};
use protocol::{Exchange, Refusal};
use routing::{Scope, State, URI_CHANGES};
use telemetry::error_log::Level;

use super::after::Company;
use super::arrival::{facts, which_server};
use super::environment::{Sent, View};
use super::facts::Facts;
use super::refused::too_large;
use super::slice::Slice;
use super::{Place, Site};
use crate::connection::Ends;
use crate::event_loop::EventLoop;

/// The arguments behind an internal redirect.
pub enum Args {
    /// Those that were there before.
    Kept,
    /// None.
    Missing,
    /// These, though there may be nothing in them.
    Said(Vec<u8>),
}

impl From<Option<Vec<u8>>> for Args {
    fn from(args: Option<Vec<u8>>) -> Self {
        args.map_or(Self::Missing, Self::Said)
    }
}

/// How a request goes on.
pub enum Step {
    /// With its body, which is read before the phases (`client_body_early_read`).
    Early,
    /// With this response. In a box, as the next: they go through many hands.
    Respond(Box<Response>),
    /// With the page for this status: what `error_page` says, else a small one.
    Page(u16),
    /// With another path, from the beginning: an internal redirect.
    Redirect(Vec<u8>, Args),
    /// With the page for the status of this response, and its fields: a challenge, a redirect.
    Special(Box<Response>),
    /// With a named location.
    Named(Vec<u8>),
    /// With the phases behind the search for a location.
    Answer,
    /// With who makes the response.
    Content,
    /// Not at all: the connection is closed, 444.
    Close,
    /// Nobody is left to answer.
    Gone,
}

impl Step {
    pub(super) fn respond(response: Response) -> Self {
        Self::Respond(Box::new(response))
    }

    pub(super) fn special(response: Response) -> Self {
        Self::Special(Box::new(response))
    }
}

/// The phase in which a request has to wait: that of the [`Step`] of this name.
enum Wait {
    Early,
    InAnswer,
    InContent,
}

/// A request has to wait there; see [`Visit::serve_rest`].
pub struct Waiting(Step);

/// The request on its way.
pub struct Visit<'v, 's> {
    pub(super) event_loop: &'s Rc<EventLoop>,
    pub(super) site: &'s Site,
    pub(super) exchange: Exchange<'v>,
    pub(super) ends: &'v Ends,
    /// In a box, as it goes from hand to hand.
    pub(super) facts: Box<Facts<'s>>,
    pub(super) state: Box<State>,
    pub(super) server: ServerId,
    pub(super) place: Rc<Place>,
    pub(super) content: Content,
    /// What began inside: `internal` locations are open to it.
    pub(super) internal: bool,
    /// Path or arguments are no longer those that were received.
    pub(super) target_changed: bool,
    /// The location's path is the beginning of the request's.
    pub(super) location_valid: bool,
    /// How many requests within each other are being served, the client's not counted.
    pub(super) depth: u32,
    /// The response has left: whether the client is still there does not matter.
    pub(super) alone: bool,
    /// What few requests need.
    pub(super) company: Option<Box<Company>>,
    /// A page for an error is being made.
    pub(super) error_page: bool,
    /// No page is looked for any more: one was, where `recursive_error_pages` is off.
    pub(super) pages_ended: bool,
    /// What the response's status is to be, by `error_page … =`.
    pub(super) status: Option<u16>,
    pub(super) uri_changes: u32,
    /// Limits count a request once.
    pub(super) rate_counted: bool,
    pub(super) connections_counted: bool,
    pub(super) guards: limits::connections::Guards,
    /// What `X-Accel-Redirect` keeps of the application's fields.
    pub(super) kept: Option<exchange::Fields>,
    /// The status in the log where nobody is left to answer.
    pub(super) unanswered: u16,
    end: End,
    /// What is sent, once it is known; `None`: the connection ends without.
    pub(super) response: Option<Box<Response>>,
    /// What is to be done once the response has left.
    pub(super) after: Option<Box<Company>>,
}

/// What comes behind the response that a step leads to.
#[derive(Clone, Copy)]
enum End {
    /// Others may follow.
    Open,
    /// It is the last on its connection.
    Last,
}

impl<'v, 's> Visit<'v, 's> {
    /// For a request whose head has been read, or refused. `begun`: when its first byte came.
    pub fn new(
        event_loop: &'s Rc<EventLoop>,
        site: &'s Site,
        exchange: Exchange<'v>,
        ends: &'v Ends,
        begun: Instant,
        request: &Request,
        refused: bool,
    ) -> Self {
        let mut state = site.take_state();
        // A head that is refused before it says whom it is for is answered by the default server.
        let chosen = if refused && request.authority.is_empty() {
            Err(site.listen(ends).map_or(0, |listen| listen.default_server))
        } else {
            which_server(site, ends, request, &mut state)
        };
        let (server, host) = match chosen {
            Ok((server, host, port)) => (server, Some((host, port))),
            Err(default) => (default, None),
        };
        let facts = facts(event_loop, site, &exchange, ends, begun, server);
        let mut visit = visit(event_loop, site, exchange, ends, facts, state);
        match host {
            Some((host, port)) => {
                *visit.facts.host.get_mut() = host;
                visit.facts.port.set(port);
            }
            None => visit.end = End::Last,
        }
        if refused {
            visit.end = End::Last;
        }
        visit
    }

    /// Serves the request as far as that is possible without waiting. `None`: there is a response, or will be none.
    pub fn serve(&mut self, request: &mut Request, refusal: Option<Refusal>) -> Option<Waiting> {
        let step = match refusal {
            Some(refusal) => {
                let step = self.refuse(request, refusal)?;
                // Its server's pages are for those whom that server talks to.
                let stranger = self.ends.tls.as_ref().and_then(|tls| self.check_client(request, tls));
                stranger.map_or(step, Step::Page)
            }
            None if matches!(self.end, End::Last) => {
                self.log_invalid_host(request);
                Step::Page(400)
            }
            None => {
                let (step, end) = self.begin_whole(request);
                self.end = end;
                step
            }
        };
        match self.finish_now(request, step) {
            Ok(Some(response)) if matches!(self.end, End::Open) && self.settings().composes() => {
                Some(Waiting(Step::Respond(response)))
            }
            Ok(response) => {
                let response = self.slice_of(request, response);
                self.filter_for(request, response).map(Waiting)
            }
            Err(Wait::Early) => Some(Waiting(Step::Early)),
            Err(Wait::InAnswer) => Some(Waiting(Step::Answer)),
            Err(Wait::InContent) => Some(Waiting(Step::Content)),
        }
    }

    /// Goes on.
    pub async fn serve_rest(&mut self, request: &mut Request, waiting: Waiting) {
        let mut waiting = Some(waiting);
        while let Some(Waiting(step)) = waiting.take() {
            let response = self.finish(request, step).await;
            waiting = match self.slice_of(request, response) {
                Some(response) if matches!(self.end, End::Open) && self.settings().composes() => {
                    match Box::pin(self.compose(request, response)).await {
                        Err(step) => Some(Waiting(step)),
                        Ok(_) if self.company().client_left => return self.note_after(),
                        Ok(response) => {
                            self.conclude_with(request, response);
                            None
                        }
                    }
                }
                response => self.filter_for(request, response).map(Waiting),
            };
        }
    }

    /// What is looked at before the phases, and the first of them.
    fn begin_whole(&mut self, request: &mut Request) -> (Step, End) {
        if !request.flaw.is_empty() {
            self.log_left_out(request);
        }
        let tell = |visit: &Self, request: &Request, words: std::fmt::Arguments<'_>| {
            let action = visit.reading(request, false);
            visit.facts.log_about(Level::Info, Some(request), Some(action), None, words);
        };
        if let Err((words, is_line)) = self.check_head(request) {
            let action = self.reading(request, is_line);
            self.facts.log_about(Level::Info, Some(request), Some(action), None, format_args!("{words}"));
            return (Step::Page(400), End::Last);
        }
        if self.ends.plain {
            tell(self, request, format_args!("client sent plain HTTP request to HTTPS port"));
            return (Step::Page(497), End::Last);
        }
        if matches!(request.method, Method::Trace | Method::Connect) {
            let method = if request.method == Method::Trace { "TRACE" } else { "CONNECT" };
            tell(self, request, format_args!("client sent {method} method"));
            // What follows a CONNECT is not for us: whoever sent it may take it for the inside of a tunnel.
            return (Step::Page(405), End::Last);
        }
        if let Some(tls) = &self.ends.tls
            && let Some(status) = self.check_client(request, tls)
        {
            return (Step::Page(status), End::Last);
        }
        self.real_ip(request);
        self.facts.debug(format_args!(
            "http request line: \"{} {} {}\"",
            request.method.as_bytes().escape_ascii(),
            request.target.escape_ascii(),
            request.version.as_str()
        ));
        let step = if self.reads_early(request) { Step::Early } else { self.begin(request) };
        (step, End::Open)
    }

    /// What `slice` makes of a response.
    fn slice_of(&mut self, request: &mut Request, response: Option<Box<Response>>) -> Option<Box<Response>> {
        match self.facts.slice.get() {
            Slice::At(part) if matches!(self.end, End::Open) => {
                response.and_then(|response| self.sliced(request, response, part))
            }
            _ => response,
        }
    }

    /// Filters the response and concludes with it, unless `error_page` leads on from what the filters make of it.
    fn filter_for(&mut self, request: &mut Request, response: Option<Box<Response>>) -> Option<Step> {
        let Some(response) = response else {
            self.note_after();
            return None;
        };
        match self.filter(request, response) {
            Ok(response) => {
                self.conclude_with(request, response);
                None
            }
            Err(step) => Some(step),
        }
    }

    /// The response that leaves.
    fn conclude_with(&mut self, request: &Request, mut response: Box<Response>) {
        if matches!(self.end, End::Open) {
            self.pace(request, &response);
        } else {
            response.close = true;
        }
        self.response = Some(response);
        self.note_after();
    }

    fn note_after(&mut self) {
        if matches!(self.end, End::Open) {
            self.after = self.take_after();
        }
    }
}

pub(super) fn visit<'v, 's>(
    event_loop: &'s Rc<EventLoop>,
    site: &'s Site,
    mut exchange: Exchange<'v>,
    ends: &'v Ends,
    facts: Box<Facts<'s>>,
    state: Box<State>,
) -> Visit<'v, 's> {
    let server = facts.server.get();
    let head = &site.http().servers[server as usize].head;
    let place = site.place(facts.settings.get(), head);
    exchange.set_settings(Rc::clone(&place.h1));
    Visit {
        event_loop,
        site,
        exchange,
        ends,
        facts,
        state,
        server,
        place,
        content: Content::Files,
        internal: false,
        target_changed: false,
        location_valid: true,
        depth: 0,
        alone: false,
        company: None,
        error_page: false,
        pages_ended: false,
        status: None,
        uri_changes: URI_CHANGES + 1,
        rate_counted: false,
        connections_counted: false,
        guards: limits::connections::Guards::default(),
        kept: None,
        unanswered: 499,
        end: End::Open,
        response: None,
        after: None,
    }
}

impl<'s> Visit<'_, 's> {
    /// Goes round until there is a response.
    pub(super) async fn finish(&mut self, request: &mut Request, mut step: Step) -> Option<Box<Response>> {
        loop {
            step = match self.finish_now(request, step) {
                Ok(response) => return response,
                Err(Wait::Early) => Box::pin(self.read_early(request)).await,
                Err(Wait::InAnswer) => Box::pin(self.answer(request)).await,
                // Each by itself: whoever goes through `content` is moved with it once more.
                Err(Wait::InContent) => match self.content {
                    Content::App(index) => Box::pin(self.application(request, index)).await,
                    Content::Bound(index) => Box::pin(self.bound(request, index)).await,
                    Content::Proxy(index) => Box::pin(self.proxy(request, index)).await,
                    _ => Box::pin(self.content(request)).await,
                },
            };
        }
    }

    /// Goes round until there is a response, or somebody has to be waited for. Most requests wait for nobody, and
    /// need no future of their own.
    fn finish_now(&mut self, request: &mut Request, mut step: Step) -> Result<Option<Box<Response>>, Wait> {
        loop {
            step = match step {
                Step::Respond(response) => return Ok(Some(response)),
                Step::Close if self.is_inner() => return Ok(Some(Box::new(Response::new(444)))),
                Step::Close => {
                    self.facts.closed.set(true);
                    self.exchange.abandon(self.settings().reset_timedout);
                    return Ok(None);
                }
                Step::Gone => return Ok(None),
                Step::Early => return Err(Wait::Early),
                Step::Answer => match self.answer_now(request) {
                    Some(step) => step,
                    None => return Err(Wait::InAnswer),
                },
                Step::Content => match self.content_now(request) {
                    Some(step) => step,
                    None => return Err(Wait::InContent),
                },
                Step::Page(status) => {
                    self.forget_type();
                    match self.error_page_for(request, status) {
                        Some(step) => step,
                        None => return Ok(Some(self.special(request, status))),
                    }
                }
                Step::Special(mut response) => {
                    self.forget_type();
                    let Some(step) = self.error_page_for(request, response.status) else {
                        let status = response.status;
                        self.make_page(request, &mut response, status);
                        return Ok(Some(response));
                    };
                    self.kept = Some(response.fields);
                    step
                }
                Step::Redirect(path, args) => self.go_to(request, path, args),
                Step::Named(name) => self.go_to_named(request, &name),
            };
        }
    }

    /// Forgets how the response came about, for what follows it: that is limited and led on by itself.
    pub(super) fn begin_again(&mut self) {
        self.enter(self.facts.settings.get(), Content::Files);
        (self.internal, self.target_changed, self.location_valid) = (false, false, true);
        (self.error_page, self.pages_ended) = (false, false);
        self.status = None;
        self.facts.error_status.set(0);
        self.uri_changes = URI_CHANGES + 1;
        (self.rate_counted, self.connections_counted) = (false, false);
        self.guards = limits::connections::Guards::default();
        self.kept = None;
    }

    /// From now on these settings hold.
    pub(super) fn enter(&mut self, settings: config::model::http::SettingsId, content: Content) {
        self.content = content;
        if self.place.id != settings {
            let head = &self.site.http().servers[self.server as usize].head;
            self.place = self.site.place(settings, head);
            self.facts.settings.set(settings);
            // What is asked within the client's request is not the connection's affair.
            if !self.is_inner() {
                self.exchange.set_settings(Rc::clone(&self.place.h1));
            }
        }
    }

    /// `keepalive_disable`
    pub(super) fn keep_alive_or_not(&mut self, request: &Request) {
        if self.is_inner() {
            return;
        }
        let disable = self.settings().keepalive_disable;
        let msie6 = disable.msie6 && request.method == Method::Post;
        if (msie6 || disable.safari)
            && let Some(agent) = request.fields.first(Name::UserAgent)
        {
            let browser = Browser::of(agent);
            if (msie6 && browser.msie6) || (disable.safari && browser.safari) {
                self.exchange.close_after();
            }
        }
    }

    /// Who answers here is a server or an application.
    pub(super) const fn is_passed_on(&self) -> bool {
        matches!(self.content, Content::App(_) | Content::Bound(_) | Content::Proxy(_))
    }

    /// What holds now.
    pub(super) fn settings(&self) -> &'s Settings {
        &self.site.http().settings[self.place.id as usize]
    }

    /// `client_max_body_size`, for a body whose length is said.
    pub(super) fn check_length(&self, request: &Request) -> Option<Step> {
        let (limit, length) = (self.settings().max_body?, request.content_length?);
        (length > limit && !self.error_page).then(|| {
            self.facts.log(Level::Error, Some(request), format_args!("{}", too_large(length, limit)));
            Step::Page(413)
        })
    }

    /// `client_body_early_read`
    fn reads_early(&mut self, request: &Request) -> bool {
        let values = &self.settings().body_early;
        !values.is_empty() && request.has_body() && self.is_any(values, request)
    }

    /// Reads the body before anything is done with the request.
    async fn read_early(&mut self, request: &mut Request) -> Step {
        if let Some(step) = self.check_length(request) {
            self.exchange.close_after();
            return step;
        }
        match self.read_body(request).await {
            Ok(body) => {
                self.note_body(&body);
                self.company().body = Some(body);
                self.begin(request)
            }
            Err(step) => step,
        }
    }

    /// preaccess, access, precontent, where nobody is waited for; else `None`.
    fn answer_now(&mut self, request: &mut Request) -> Option<Step> {
        let place = &self.place;
        let waits = place.connections.is_some()
            || place.rate.is_some()
            || self.is_guarded()
            || (self.settings().mirror.is_some() && !self.is_inner());
        if waits {
            return None;
        }
        self.real_ip(request);
        Some(self.try_files(request).unwrap_or(Step::Content))
    }

    /// preaccess, access, precontent.
    async fn answer(&mut self, request: &mut Request) -> Step {
        self.real_ip(request);
        if (self.place.connections.is_some() || self.place.rate.is_some())
            && let Some(step) = self.preaccess(request).await
        {
            return step;
        }
        if self.is_guarded()
            && let Some(step) = Box::pin(self.access(request)).await
        {
            return step;
        }
        if self.settings().mirror.is_some()
            && !self.is_inner()
            && let Some(step) = Box::pin(self.mirror(request)).await
        {
            return step;
        }
        self.try_files(request).unwrap_or(Step::Content)
    }

    /// The text of a value.
    pub(super) fn value(&mut self, value: &config::model::http::Value, request: &Request) -> Vec<u8> {
        let view = View { facts: &self.facts, sent: Sent::default() };
        let scope = Scope { request, environment: &view };
        self.site.routing.variables.text(value, &mut self.state, scope).into_owned()
    }

    /// Appends what a text with variables is worth.
    pub(super) fn append(
        &mut self,
        value: &config::model::http::Value,
        request: &Request,
        out: &mut Vec<u8>,
    ) {
        let view = View { facts: &self.facts, sent: Sent::default() };
        let scope = Scope { request, environment: &view };
        self.site.routing.variables.evaluate(value, &mut self.state, scope, out);
    }

    /// What a variable is worth; `None` if there is no such thing in this request.
    pub(super) fn value_or_none(&mut self, variable: &Variable, request: &Request) -> Option<Vec<u8>> {
        let view = View { facts: &self.facts, sent: Sent::default() };
        let scope = Scope { request, environment: &view };
        let mut out = Vec::new();
        self.site.routing.variables.variable(variable, &mut self.state, scope, &mut out).then_some(out)
    }

    /// What an internal redirect asks with.
    pub(super) fn ask_with_get(request: &mut Request) {
        if request.method != Method::Head {
            request.ask_with(Method::Get);
        }
    }
}
