//! One request's way through a site: nginx's phases.
//!
//! A request may go round several times: `rewrite` and `try_files` lead to other locations, `error_page` and
//! `X-Accel-Redirect` to other paths. [`Visit::serve`] is that round; each phase says by a [`Step`] how it goes on.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use config::model::http::{Content, ServerId, Settings, Variable};
use config::model::tls::Verify;
use exchange::{Browser, Method, Name, Request, Response};
use listen::tls::Negotiated;
use protocol::{Exchange, Refusal};
use routing::{Answer, Outcome, Scope, State, URI_CHANGES};
use telemetry::error_log::Level;

use super::after::Company;
use super::environment::{Sent, View};
use super::facts::Facts;
use super::slice::Slice;
use super::{Place, Site};
use crate::connection::Ends;
use crate::event_loop::EventLoop;

/// How a request goes on.
pub enum Step {
    /// With its body, which is read before the phases (`client_body_early_read`).
    Early,
    /// With this response.
    Respond(Response),
    /// With the page for this status: what `error_page` says, else a small one.
    Page(u16),
    /// With another path, from the beginning: an internal redirect. The arguments are those given, if any.
    Redirect(Vec<u8>, Option<Vec<u8>>),
    /// With the page for the status of this response, and its fields: a challenge, a redirect.
    Special(Response),
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

/// The phase in which a request has to wait: that of the [`Step`] of this name.
enum Wait {
    Early,
    InAnswer,
    InContent,
}

/// How rewrite directives ended.
enum Ran {
    /// The next phase follows.
    On,
    /// The path has changed: another search for a location follows.
    Again,
    /// The request goes on so.
    Step(Step),
}

/// What became of a request.
pub struct Visited<'a> {
    /// `None`: the connection ends without.
    pub response: Option<Response>,
    /// For the log.
    pub facts: Box<Facts<'a>>,
    /// For the log's variables.
    pub state: Box<State>,
    /// What is to be done once the response has left.
    pub(super) after: Option<Box<Company>>,
    /// It counts for `limit_conn` until it has been sent.
    _guards: limits::connections::Guards,
}

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
    /// The status that the page is for.
    pub(super) error_status: Option<u16>,
    pub(super) uri_changes: u32,
    /// Limits count a request once.
    pub(super) rate_counted: bool,
    pub(super) connections_counted: bool,
    pub(super) guards: limits::connections::Guards,
    /// What `X-Accel-Redirect` keeps of the application's fields.
    pub(super) kept: Option<exchange::Fields>,
}

/// How far a request has come without waiting for anybody.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made; a box would be for most requests"
)]
pub enum Served<'v, 's> {
    /// There is a response, or will be none.
    Now(Visited<'s>, Exchange<'v>),
    /// Somebody has to be waited for.
    Later(Later<'v, 's>),
}

/// A request that has to wait; see [`Later::serve`].
pub struct Later<'v, 's>(Box<(Visit<'v, 's>, Step, End)>);

/// What becomes of the response that a step leads to.
enum End {
    /// It goes through the filters.
    Filtered,
    /// It is the last on its connection, and stays as it is.
    Last,
    /// It is the last on its connection, and goes through the filters.
    LastFiltered,
}

impl<'v, 's> Later<'v, 's> {
    /// Goes on.
    pub async fn serve(self, request: &mut Request) -> (Visited<'s>, Exchange<'v>) {
        let (mut visit, step, end) = *self.0;
        let response = visit.finish(request, step).await;
        let response = match visit.slice_of(&end, request, response) {
            Some(response) if matches!(end, End::Filtered) && visit.settings().composes() => {
                Some(Box::pin(visit.compose(request, response)).await)
            }
            response => visit.filter_for(&end, request, response),
        };
        visit.visited(&end, request, response)
    }
}

/// Serves one request whose head has been read, as far as that is possible without waiting. `begun`: when its first
/// byte came.
pub fn serve<'v, 's>(
    event_loop: &'s Rc<EventLoop>,
    site: &'s Site,
    exchange: Exchange<'v>,
    ends: &'v Ends,
    begun: Instant,
    request: &mut Request,
    refusal: Option<Refusal>,
) -> Served<'v, 's> {
    let mut state = site.take_state();
    if let Some(refusal) = refusal {
        return refuse(event_loop, site, exchange, ends, begun, request, refusal, state);
    }
    let (server, host, port) = match which_server(site, ends, request, &mut state) {
        Ok(found) => found,
        Err(default) => {
            let facts = facts(event_loop, site, &exchange, ends, begun, default);
            facts.log(Level::Info, Some(request), format_args!("client sent invalid host header"));
            let visit = visit(event_loop, site, exchange, ends, facts, state);
            return visit.go(request, Step::Page(400), End::Last);
        }
    };
    let facts = facts(event_loop, site, &exchange, ends, begun, server);
    *facts.host.borrow_mut() = host;
    facts.port.set(port);
    let mut visit = visit(event_loop, site, exchange, ends, facts, state);
    let (step, end) = visit.begin_whole(request);
    visit.go(request, step, end)
}

impl<'v, 's> Visit<'v, 's> {
    /// What is looked at before the phases, and the first of them.
    fn begin_whole(&mut self, request: &mut Request) -> (Step, End) {
        if let Err(words) = self.check_head(request) {
            self.facts.log(Level::Info, Some(request), format_args!("{words}"));
            return (Step::Page(400), End::Last);
        }
        let tell = |words: std::fmt::Arguments<'_>| self.facts.log(Level::Info, Some(request), words);
        if self.ends.plain {
            tell(format_args!("client sent plain HTTP request to HTTPS port"));
            return (Step::Page(497), End::Last);
        }
        if matches!(request.method, Method::Trace | Method::Connect) {
            let method = if request.method == Method::Trace { "TRACE" } else { "CONNECT" };
            tell(format_args!("client sent {method} method"));
            // What follows a CONNECT is not for us: whoever sent it may take it for the inside of a tunnel.
            return (Step::Page(405), End::Last);
        }
        if let Some(tls) = &self.ends.tls
            && let Some(status) = self.check_client(request, tls)
        {
            return (Step::Page(status), End::LastFiltered);
        }
        self.real_ip(request);
        self.facts.debug(format_args!(
            "http request line: \"{} {} {}\"",
            request.method.as_bytes().escape_ascii(),
            request.target.escape_ascii(),
            request.version.as_str()
        ));
        let step = if self.reads_early(request) { Step::Early } else { self.begin(request) };
        (step, End::Filtered)
    }

    /// Goes as far as it can without waiting.
    #[inline]
    fn go(mut self, request: &mut Request, step: Step, end: End) -> Served<'v, 's> {
        match self.finish_now(request, step) {
            Ok(Some(response)) if matches!(end, End::Filtered) && self.settings().composes() => {
                Served::Later(Later(Box::new((self, Step::Respond(response), end))))
            }
            Ok(response) => {
                let response = self.slice_of(&end, request, response);
                let response = self.filter_for(&end, request, response);
                let (visited, exchange) = self.visited(&end, request, response);
                Served::Now(visited, exchange)
            }
            Err(Wait::Early) => Served::Later(Later(Box::new((self, Step::Early, end)))),
            Err(Wait::InAnswer) => Served::Later(Later(Box::new((self, Step::Answer, end)))),
            Err(Wait::InContent) => Served::Later(Later(Box::new((self, Step::Content, end)))),
        }
    }

    /// What `slice` makes of a response.
    fn slice_of(&mut self, end: &End, request: &mut Request, response: Option<Response>) -> Option<Response> {
        match self.facts.slice.get() {
            Slice::At(part) if matches!(end, End::Filtered) => {
                response.and_then(|response| self.sliced(request, response, part))
            }
            _ => response,
        }
    }

    fn filter_for(
        &mut self,
        end: &End,
        request: &mut Request,
        response: Option<Response>,
    ) -> Option<Response> {
        let mut response = match (response, end) {
            (Some(response), End::Filtered | End::LastFiltered) => self.filter(request, response),
            (response, _) => response?,
        };
        response.close |= !matches!(end, End::Filtered);
        Some(response)
    }

    #[inline]
    fn visited(
        mut self,
        end: &End,
        request: &Request,
        response: Option<Response>,
    ) -> (Visited<'s>, Exchange<'v>) {
        let mut after = None;
        if matches!(end, End::Filtered) {
            if let Some(response) = &response {
                self.pace(request, response);
            }
            after = self.take_after();
        }
        self.into_visited(response, after)
    }

    /// What is left of it when there is a response, or will be none.
    #[inline]
    pub(super) fn into_visited(
        self,
        response: Option<Response>,
        after: Option<Box<Company>>,
    ) -> (Visited<'s>, Exchange<'v>) {
        let Self { facts, state, guards, exchange, .. } = self;
        (Visited { response, facts, state, after, _guards: guards }, exchange)
    }
}

impl Visit<'_, '_> {
    /// Whether the client may talk to this server, by its certificate; else the status that says that it may not.
    fn check_client(&self, request: &Request, tls: &Negotiated) -> Option<u16> {
        let verify = self.site.http().servers.get(self.server as usize)?.head.verify_client;
        if verify == Verify::Off {
            return None;
        }
        let tell = |message: std::fmt::Arguments<'_>| self.facts.log(Level::Info, Some(request), message);
        // The handshake has looked at what the server of its name trusts; nginx lets a certificate that the default
        // server trusts pass with another, if the client has named none.
        let is_another = match tls.server_name.as_deref() {
            Some(name) => name.as_bytes() != *self.facts.host.borrow(),
            None => tls.client.is_some() && !self.site.trusts_as_default(self.ends, self.server),
        };
        if is_another {
            tell(format_args!(
                "client attempted to request the server name different from the one that was negotiated"
            ));
            return Some(421);
        }
        match tls.client.as_ref().map(|client| client.verdict) {
            Some(Err(flaw)) if verify != Verify::OptionalNoCa || !flaw.is_missing_trust() => {
                tell(format_args!("client SSL certificate verify error: ({}:{flaw})", flaw.number()));
                Some(495)
            }
            None if verify == Verify::On => {
                tell(format_args!("client sent no required SSL certificate"));
                Some(496)
            }
            _ => None,
        }
    }
}

/// A head that is refused is answered by the default server.
#[expect(clippy::too_many_arguments, reason = "all that a request has")]
fn refuse<'v, 's>(
    event_loop: &'s Rc<EventLoop>,
    site: &'s Site,
    exchange: Exchange<'v>,
    ends: &'v Ends,
    begun: Instant,
    request: &mut Request,
    refusal: Refusal,
    state: Box<State>,
) -> Served<'v, 's> {
    let local = ends.peer.local.map(|local| local.ip());
    let listen = site.routing.listens.listen(site.listener(&ends.address).unwrap_or_default(), local);
    let facts = facts(event_loop, site, &exchange, ends, begun, listen.map_or(0, |l| l.default_server));
    let (status, words) = match refusal {
        Refusal::Gone => (None, "client closed connection while it sent its request".to_owned()),
        Refusal::Timeout => (Some(408), "client timed out while it sent its request".to_owned()),
        Refusal::Head(error) => (Some(error.status()), error.to_string()),
        Refusal::Path(error) => (Some(400), error.as_str().to_owned()),
        Refusal::TooEarly => (Some(425), "the TLS handshake did not come to its end".to_owned()),
        Refusal::TooLarge => (Some(413), "client intended to send too large body".to_owned()),
    };
    facts.log(Level::Info, Some(request), format_args!("{words}"));
    let visit = visit(event_loop, site, exchange, ends, facts, state);
    let Some(status) = status else {
        let (visited, exchange) = visit.into_visited(None, None);
        return Served::Now(visited, exchange);
    };
    // nginx's own number for heads that are too large; the client sees 400.
    let status = if status == 431 { 494 } else { status };
    visit.go(request, Step::Page(status), End::Last)
}

/// A field that stands more than once and has room for one value, as in nginx. `Host`, `Content-Length` and
/// `Transfer-Encoding` are the protocol's.
fn repeated(request: &Request) -> Option<&[u8]> {
    let mut seen = 0_u8;
    for (name, field, _) in request.fields.iter() {
        let bit = match name {
            Name::IfModifiedSince => 1,
            Name::IfUnmodifiedSince => 2,
            Name::IfMatch => 4,
            Name::IfNoneMatch => 8,
            Name::IfRange => 16,
            Name::ContentRange => 32,
            Name::Expect => 64,
            Name::Authorization => 128,
            _ => continue,
        };
        if seen & bit != 0 {
            return Some(field);
        }
        seen |= bit;
    }
    None
}

type Chosen = (ServerId, Vec<u8>, Option<u16>);

/// The server for the address and the name; the default server when the name is none.
fn which_server(site: &Site, ends: &Ends, request: &Request, state: &mut State) -> Result<Chosen, ServerId> {
    let local = ends.peer.local.map(|local| local.ip());
    let listener = site.listener(&ends.address).unwrap_or_default();
    let Some(listen) = site.routing.listens.listen(listener, local) else { return Err(0) };
    if request.authority.is_empty() {
        let server = listen.find(b"", state).unwrap_or(listen.default_server);
        let name = site.routing.server(server).map(|server| server.name.clone()).unwrap_or_default();
        return Ok((server, name, None));
    }
    let Ok(host) = routing::validate_host(&request.authority) else { return Err(listen.default_server) };
    let server = listen.find(&host.name, state).unwrap_or(listen.default_server);
    Ok((server, host.name.into_owned(), (host.port > 0).then_some(host.port)))
}

pub(super) fn facts<'a>(
    event_loop: &'a EventLoop,
    site: &'a Site,
    exchange: &Exchange<'_>,
    ends: &Ends,
    begun: Instant,
    server: ServerId,
) -> Box<Facts<'a>> {
    let mut facts = facts_of_connection(event_loop, site, exchange.socket(), ends, begun, server);
    facts.requests = exchange.requests();
    facts.pipelined = exchange.is_pipelined();
    facts
}

/// What is known before there is a request.
pub(super) fn facts_of_connection<'a>(
    event_loop: &'a EventLoop,
    site: &'a Site,
    socket: std::os::fd::RawFd,
    ends: &Ends,
    begun: Instant,
    server: ServerId,
) -> Box<Facts<'a>> {
    let settings = site.routing.server(server).map_or(0, |server| server.settings);
    Box::new(Facts {
        process: &event_loop.process,
        site,
        connection: ends.number,
        connected: ends.since,
        requests: 0,
        begun,
        pipelined: false,
        socket,
        proxied: ends.proxied.as_deref().copied(),
        tls: ends.tls.clone(),
        ends: ends.peer,
        server: Cell::new(server),
        settings: Cell::new(settings),
        host: RefCell::default(),
        port: Cell::new(None),
        closed: Cell::new(false),
        ranges: Cell::new(false),
        retry_after: Cell::new(None),
        user: RefCell::default(),
        limit_rate: RefCell::default(),
        id: Cell::new(None),
        rate_status: Cell::new(""),
        connections_status: Cell::new(""),
        original: Cell::new(None),
        outcome: Cell::new(None),
        pulled: Cell::new(None),
        answer: RefCell::default(),
        compressed: RefCell::default(),
        link_expires: RefCell::default(),
        link_busy: Cell::new(false),
        app: RefCell::default(),
        body_length: Cell::new(0),
        body: RefCell::default(),
        upstream: RefCell::default(),
        passed: Cell::new(false),
        adds_to_alias: Cell::new(false),
        keeps: Cell::new(false),
        slice: Cell::default(),
        rare: RefCell::default(),
    })
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
        error_status: None,
        uri_changes: URI_CHANGES + 1,
        rate_counted: false,
        connections_counted: false,
        guards: limits::connections::Guards::default(),
        kept: None,
    }
}

impl<'s> Visit<'_, 's> {
    /// What nginx looks at before the phases and the protocol does not.
    fn check_head(&self, request: &mut Request) -> Result<(), String> {
        if let Some(name) = repeated(request) {
            let name = String::from_utf8_lossy(name);
            return Err(format!("client sent duplicate header line: \"{name}\""));
        }
        let server = &self.site.http().servers[self.server as usize];
        // The path was read by the listener's default server, which may see slashes otherwise.
        let merge = server.head.merge_slashes;
        let has_both = || request.path.windows(2).any(|pair| pair == b"//");
        if request.raw_path.starts_with(b"/") && (!merge || has_both()) {
            protocol::normalize(&request.raw_path, merge, &mut request.path)
                .map_err(|error| error.as_str().to_owned())?;
        }
        Ok(())
    }

    /// Goes round until there is a response.
    pub(super) async fn finish(&mut self, request: &mut Request, mut step: Step) -> Option<Response> {
        loop {
            step = match self.finish_now(request, step) {
                Ok(response) => return response,
                Err(Wait::Early) => Box::pin(self.read_early(request)).await,
                Err(Wait::InAnswer) => Box::pin(self.answer(request)).await,
                Err(Wait::InContent) => Box::pin(self.content(request)).await,
            };
        }
    }

    /// Goes round until there is a response, or somebody has to be waited for. Most requests wait for nobody, and
    /// need no future of their own.
    fn finish_now(&mut self, request: &mut Request, mut step: Step) -> Result<Option<Response>, Wait> {
        loop {
            step = match step {
                Step::Respond(response) => return Ok(Some(response)),
                Step::Close if self.is_inner() => return Ok(Some(Response::new(444))),
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
                Step::Page(status) => match self.error_page_for(request, status) {
                    Some(step) => step,
                    None => return Ok(Some(self.special(request, status))),
                },
                Step::Special(mut response) => {
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

    fn go_to(&mut self, request: &mut Request, path: Vec<u8>, args: Option<Vec<u8>>) -> Step {
        if let Some(step) = self.count_change(request) {
            return step;
        }
        request.path = path;
        if let Some(args) = args {
            request.query = args;
        }
        self.internal = true;
        self.target_changed = true;
        self.location_valid = true;
        self.facts.adds_to_alias.set(false);
        self.begin(request)
    }

    fn go_to_named(&mut self, request: &mut Request, name: &[u8]) -> Step {
        if let Some(step) = self.count_change(request) {
            return step;
        }
        self.internal = true;
        self.facts.adds_to_alias.set(false);
        self.named(request, name)
    }

    fn count_change(&mut self, request: &Request) -> Option<Step> {
        self.uri_changes = self.uri_changes.saturating_sub(1);
        (self.uri_changes == 0).then(|| {
            let path = String::from_utf8_lossy(&request.path);
            self.facts.log(
                Level::Error,
                Some(request),
                format_args!("rewrite or internal redirection cycle while processing \"{path}\""),
            );
            // No page of the configuration could be reached any more.
            Step::Respond(self.special(request, 500))
        })
    }

    /// server_rewrite, then the search for a location.
    pub(super) fn begin(&mut self, request: &mut Request) -> Step {
        let site = self.site;
        let Some(server) = site.routing.server(self.server) else { return Step::Page(500) };
        self.enter(server.settings, Content::Files);
        let ops = match site.routing.ops(self.server) {
            Ok(ops) => ops,
            Err(error) => return self.failed(request, &error),
        };
        // A path that changes here needs no second search: there was none yet. Nor does an `if` of a server say what
        // holds in its locations.
        if let Some(ops) = ops
            && let Ran::Step(step) = self.run(request, ops)
        {
            return step;
        }
        self.locate(request)
    }

    /// find_config, rewrite, post_rewrite.
    fn locate(&mut self, request: &mut Request) -> Step {
        let site = self.site;
        loop {
            let found = match site.routing.find(self.server, &request.path, &mut self.state) {
                Ok(found) => found,
                Err(error) => return self.failed(request, &error),
            };
            let Some(found) = found else { break };
            let Some(location) = site.routing.location(found.location) else { break };
            self.enter(location.settings, location.content.clone());
            self.facts.debug(format_args!(
                "using configuration \"{}{}\" for \"{}\"",
                modifier(location.kind),
                location.name.escape_ascii(),
                request.path.escape_ascii()
            ));
            self.keep_alive_or_not(request);
            if self.settings().internal && !self.internal {
                return Step::Page(404);
            }
            if let Some(step) = self.check_length(request) {
                return step;
            }
            if found.redirect {
                let mut to = location.redirect.clone();
                if !request.query.is_empty() {
                    to.push(b'?');
                    to.extend_from_slice(&request.query);
                }
                return self.redirect(request, 301, to);
            }
            match self.rewrite(request, found.location) {
                Ran::On => break,
                Ran::Again => {
                    if let Some(step) = self.count_change(request) {
                        return step;
                    }
                }
                Ran::Step(step) => return step,
            }
        }
        Step::Answer
    }

    /// From a named location on.
    pub(super) fn named(&mut self, request: &mut Request, name: &[u8]) -> Step {
        let site = self.site;
        let found = match site.routing.named(self.server, name) {
            Ok(found) => found,
            Err(error) => return self.failed(request, &error),
        };
        let Some((id, location)) = found.and_then(|id| Some((id, site.routing.location(id)?))) else {
            let name = String::from_utf8_lossy(name);
            self.facts.log(
                Level::Error,
                Some(request),
                format_args!("could not find named location \"{name}\""),
            );
            return Step::Respond(self.special(request, 500));
        };
        self.enter(location.settings, location.content.clone());
        self.keep_alive_or_not(request);
        match self.rewrite(request, id) {
            Ran::On => Step::Answer,
            Ran::Again => match self.count_change(request) {
                Some(step) => step,
                None => self.locate(request),
            },
            Ran::Step(step) => step,
        }
    }

    /// A location's rewrite phase, and its `limit_except`.
    fn rewrite(&mut self, request: &mut Request, id: routing::LocationId) -> Ran {
        let site = self.site;
        let Some(location) = site.routing.location(id) else { return Ran::On };
        let ran = self.run(request, &location.ops);
        if matches!(ran, Ran::On)
            && let Some(limit) = &location.limit_except
            && limit.concerns(request.method.as_bytes())
        {
            let content = limit.content.clone().unwrap_or_else(|| self.content.clone());
            self.enter(limit.settings, content);
        }
        ran
    }

    /// Runs rewrite directives.
    fn run(&mut self, request: &mut Request, ops: &routing::Ops) -> Ran {
        let view = View { facts: &self.facts, sent: Sent::default() };
        let ran = self.site.routing.variables.run(ops, request, &mut self.state, &view);
        let ran = match ran {
            Ok(ran) => ran,
            Err(error) => return Ran::Step(self.failed(request, &error)),
        };
        // As in nginx, an `internal` location is open to what was rewritten.
        self.internal |= ran.rewritten;
        self.target_changed |= ran.target_changed;
        // A path that was replaced without another search need not begin as the location's any more.
        self.location_valid &= !(ran.rewritten && ran.outcome == Outcome::Continue);
        if ran.settings.is_some() || ran.content.is_some() {
            let settings = ran.settings.unwrap_or(self.place.id);
            let content = ran.content.unwrap_or_else(|| self.content.clone());
            self.enter(settings, content);
        }
        Ran::Step(match ran.outcome {
            Outcome::Continue => return Ran::On,
            Outcome::Again => return Ran::Again,
            Outcome::Return { status: 444, .. } => Step::Close,
            Outcome::Return { status, answer: Answer::Page } => Step::Page(status),
            Outcome::Return { status, answer: Answer::Text(text) } => {
                Step::Respond(self.text(request, status, text))
            }
            Outcome::Return { status, answer: Answer::Location(to) } => self.redirect(request, status, to),
        })
    }

    fn failed(&self, request: &Request, error: &dyn std::fmt::Display) -> Step {
        self.facts.log(Level::Error, Some(request), format_args!("{error}"));
        Step::Page(500)
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
    fn keep_alive_or_not(&mut self, request: &Request) {
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

    /// What holds now.
    pub(super) fn settings(&self) -> &'s Settings {
        &self.site.http().settings[self.place.id as usize]
    }

    /// `client_max_body_size`, for a body whose length is said.
    fn check_length(&self, request: &Request) -> Option<Step> {
        let (limit, length) = (self.settings().max_body?, request.content_length?);
        (length > limit && !self.error_page).then(|| {
            self.facts.log(
                Level::Error,
                Some(request),
                format_args!("client intended to send too large body: {length} bytes"),
            );
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
            request.method = Method::Get;
        }
    }
}

/// How nginx writes it before a location's path.
const fn modifier(kind: routing::Kind) -> &'static str {
    match kind {
        routing::Kind::Exact => "=",
        routing::Kind::Prefix | routing::Kind::Named => "",
        routing::Kind::PrefixWithoutRegex => "^~ ",
        routing::Kind::Regex => "~ ",
    }
}
