//! `proxy_pass`, `fastcgi_pass` and so on: the request is passed on to another server, and its answer becomes the
//! response. Which protocol the server speaks shows in [`Family`], in the making of the request, and nowhere else.

mod answer;
mod asked;
mod cgi;
mod identity;
mod outgoing;
mod place;
mod queue;
mod sticky;
mod straight;
mod tunnel;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use buffering::BufferedBody;
use bytes::Bytes;
use cache::Stored;
use config::model::http::{CacheSettings, Family, NextUpstream, ProxyPass, ProxySettings, Variable};
use exchange::{BodyError, BodySource, Fields, Method, Name, Request, Version};
use http1::{AnswerTo, ResponseHead};
use protocol::{ClientEvent, Exchange};
use telemetry::error_log::Level;
use upstream::{
    Again, Answer, Attempt, Client, Connection, Failure, Fault, Held, Lease, Limits, Outgoing, OutgoingBody,
    Route, Successor, Via,
};

use super::kept::{self, Consulted, Keeping};
use super::visit::{Step, Visit};

pub use asked::{Asked, add_forwarded};
pub use place::ProxyPlace;
pub use tunnel::Tunnel;

use outgoing::{Head, Target};
use straight::Answered;

impl Visit<'_, '_> {
    /// Passes the request on.
    pub(super) async fn proxy(&mut self, request: &mut Request, index: u32) -> Step {
        let site = self.site;
        let Some(pass) = site.http().proxies.get(index as usize) else { return Step::Page(500) };
        let family = pass.family;
        let Some(place) = self.place.passes[family as usize].clone() else { return Step::Page(500) };
        let settings = &place.settings;
        let mut target = match self.target(request, pass) {
            Ok(target) => target,
            Err(status) => return Step::Page(status),
        };
        let mut keeping = None;
        if let Some(kind) = family.cache()
            && self.place.caches[kind as usize].is_some()
        {
            self.note_target(&target, None, false);
            let own = self.own_key(request, &place, &target);
            let passed = settings.pass_headers && place.passes_on(Name::Authorization, b"authorization");
            let fields = settings.set_headers.iter().map(|(name, value)| (name, value));
            let params = settings.gateway.params.iter().map(|param| (&param.name, &param.value));
            let is_it =
                |name: &[u8]| name.eq_ignore_ascii_case(b"authorization") || name == b"HTTP_AUTHORIZATION";
            let set = fields.chain(params).filter(|(name, _)| is_it(name)).map(|(_, value)| value);
            let authorized = self.is_authorized(request, kind, passed, set);
            let passes_on = |known, name: &[u8]| settings.pass_headers && place.passes_on(known, name);
            match Box::pin(self.consult(request, None, kind, || own, authorized, passes_on)).await {
                // A gateway is told HEAD as it is; what it answers is nothing for GET.
                Consulted::Ask(asks) => {
                    keeping = asks.filter(|asks| {
                        family == Family::Proxy
                            || request.method != Method::Head
                            || asks.settings.is_keyed_by(&Variable::RequestMethod)
                    });
                }
                Consulted::Kept(stored) => return self.kept(request, &place, pass, &stored),
                Consulted::Step(step) => return step,
            }
        }
        // An application gets its requests whole.
        let streams = pass.app.is_none() && self.streams_body(request, &place);
        let mut body = BufferedBody::Empty;
        let mut set = Vec::new();
        let outgoing = if streams {
            let chunked = request.content_length.is_none();
            self.note_target(&target, request.content_length.filter(|_| !chunked), chunked);
            OutgoingBody::Stream { chunked }
        } else {
            body = match self.no_body(request) {
                Some(none) => none,
                None => match Box::pin(self.take_body(request)).await {
                    Ok(body) => body,
                    Err(step) => return step,
                },
            };
            if let Some(value) = &settings.set_body {
                self.note_target(&target, None, false);
                set = self.value(value, request);
                self.note_target(&target, Some(set.len() as u64), false);
                OutgoingBody::Bytes(&set)
            } else if settings.pass_body {
                let is_said = request.has_body() || request.fields.has(Name::ContentLength);
                self.note_target(&target, is_said.then_some(body.len()), false);
                match &body {
                    BufferedBody::Empty => OutgoingBody::Bytes(&[]),
                    BufferedBody::Memory(bytes) => OutgoingBody::Bytes(bytes),
                    BufferedBody::File(file) => OutgoingBody::File(file.file(), file.len()),
                }
            } else {
                self.note_target(&target, None, false);
                OutgoingBody::Bytes(&[])
            }
        };
        let made = match family {
            Family::Proxy | Family::Grpc => self.head(request, &place, &target.uri, keeping.as_deref()),
            Family::FastCgi | Family::Uwsgi | Family::Scgi => {
                self.variables(request, &place, keeping.as_deref())
            }
        };
        let head = match made {
            Ok(head) => head,
            Err(status) => return Step::Page(status),
        };
        let found = if target.unresolved.is_some() {
            Box::pin(self.find_server(request, &place, &mut target)).await
        } else {
            Ok(())
        };
        let asked = match (found, pass.app) {
            (Ok(()), Some(app)) => {
                let own = match outgoing {
                    OutgoingBody::Bytes(_) if settings.set_body.is_some() => BufferedBody::Memory(set.into()),
                    _ => BufferedBody::Empty,
                };
                let passed = settings.set_body.is_none() && settings.pass_body;
                let body = if passed { &body } else { &own };
                let asking = self.ask_app(app, &place, (&target, &head), request, body, keeping.as_deref());
                Box::pin(asking).await
            }
            (Ok(()), None) => {
                let asking = self.ask_servers(request, &place, &target, &head, outgoing, keeping.as_deref());
                Box::pin(asking).await.map(Answered::from)
            }
            (Err(status), _) => Err((Step::Page(status), Unanswered::Error)),
        };
        if let Some(asked) = &mut *self.facts.upstream.borrow_mut() {
            asked.url = (target.scheme, target.uri);
        }
        let step = match asked {
            Ok(answer) => self.answered(request, &place, pass, &head, answer, keeping),
            Err((step, why)) => self.instead(request, (&place, pass), keeping, step, why),
        };
        if streams && let Some(bytes) = &*self.facts.body.borrow() {
            body = BufferedBody::Memory(bytes.clone());
        }
        if request.has_body() && !self.facts.body_spent.get() && !(streams && body.is_empty()) {
            self.keep_body(body, &step);
        }
        step
    }

    /// What is sent where no server has answered.
    fn instead(
        &mut self,
        request: &Request,
        (place, pass): (&ProxyPlace, &ProxyPass),
        mut keeping: Option<Box<Keeping>>,
        step: Step,
        why: Unanswered,
    ) -> Step {
        let is_meant = |settings: &CacheSettings, stored: &Stored| match why {
            Unanswered::Error => settings.use_stale.error || stored.may_fail(kept::seconds()),
            Unanswered::Timeout => settings.use_stale.timeout || stored.may_fail(kept::seconds()),
            Unanswered::Invalid => settings.use_stale.invalid_header || stored.may_fail(kept::seconds()),
            Unanswered::Client => false,
        };
        if let Some(stored) = self.stale_for(keeping.as_mut(), is_meant) {
            return self.kept(request, place, pass, &stored);
        }
        if let (Some(keeping), Step::Page(status @ (502 | 504))) = (&keeping, &step) {
            Self::remember(keeping, *status, None);
        }
        step
    }

    /// What tells requests apart where the configuration does not say: whom is asked, and what for. A host or scheme that
    /// the server is told in a field is part of it, for it may be another's page.
    fn own_key(&mut self, request: &Request, place: &ProxyPlace, target: &Target) -> Vec<u8> {
        let cache = place.family.cache().and_then(|kind| self.place.caches[kind as usize].as_ref());
        if cache.is_some_and(|cache| cache.key.is_some()) {
            return Vec::new();
        }
        if place.family != Family::Proxy {
            return cgi::own_key(target, request);
        }
        let mut key = [target.scheme.as_bytes(), &target.host, &target.uri].concat();
        for (name, value) in &place.settings.set_headers {
            let is_own = |part: &Variable| matches!(part, Variable::ProxyHost | Variable::ProxyPort);
            if value.variables().all(is_own) {
                continue;
            }
            let value = self.value(value, request);
            if name.eq_ignore_ascii_case(b"host") || kept::is_telling(name, &value) {
                for part in [b" ", &name[..], b": ", &value] {
                    key.extend_from_slice(part);
                }
            }
        }
        key
    }

    /// Whether the client's body is passed on as it comes.
    fn streams_body(&self, request: &Request, place: &ProxyPlace) -> bool {
        let settings = &place.settings;
        !settings.request_buffering
            && settings.set_body.is_none()
            && settings.pass_body
            && request.has_body()
            && (request.content_length.is_some() || place.takes_chunks())
            && !self.is_inner()
            && !self.facts.body_spent.get()
            && self.company.as_ref().is_none_or(|company| company.body.is_none())
    }

    /// For the variables that the request is made with.
    fn note_target(&self, target: &Target, body_length: Option<u64>, chunked: bool) {
        let mut asked = self.facts.upstream.borrow_mut();
        let asked = asked.get_or_insert_default();
        asked.family = target.family;
        asked.host.clone_from(&target.host);
        asked.port.clone_from(&target.port);
        (asked.body_length, asked.chunked) = (body_length, chunked);
    }

    /// Asks one server after the other, until one answers.
    async fn ask_servers(
        &mut self,
        request: &mut Request,
        place: &ProxyPlace,
        target: &Target,
        head: &Head,
        mut body: OutgoingBody<'_>,
        keeping: Option<&Keeping>,
    ) -> Result<Answer, (Step, Unanswered)> {
        let settings = &place.settings;
        let via =
            self.via(request, place, target).map_err(|status| (Step::Page(status), Unanswered::Client))?;
        let limits = self.limits(request, place, via);
        let pool = match target.pool.and_then(|at| self.site.pools.get(at as usize)) {
            Some(pool) if !head.odd_framing => Rc::clone(pool),
            _ => Rc::clone(&self.site.no_pool),
        };
        let to = AnswerTo {
            head: head.without_body,
            // On HTTP/2 the field is only where a WebSocket is to begin.
            upgrade: matches!(request.version, Version::Http11 | Version::Http2)
                && request.fields.has(Name::Upgrade)
                && !self.is_inner(),
        };
        let streams = matches!(body, OutgoingBody::Stream { .. });
        let body_memory = usize::try_from(self.settings().body_buffer).unwrap_or(usize::MAX);
        let deadlines = Rc::clone(&self.event_loop.deadlines);
        let begun = exchange::now();
        let is_in_time = || {
            settings.next_timeout.is_zero() || exchange::now().duration_since(begun) < settings.next_timeout
        };
        let mut choice = target.group.choose(target.key.clone(), settings.next_tries);
        self.lead(request, target.group.sticky.as_ref(), &mut choice);
        let mut is_first = true;
        let mut taken = None;
        loop {
            let lease = match choice.lease() {
                Some(lease) => lease,
                None => {
                    Box::pin(self.wait_for_server(request, place, target, &mut choice, keeping, is_first))
                        .await?
                }
            };
            let attempt = self.begin_attempt(lease.peer.name.clone(), std::mem::take(&mut is_first));
            let is_main = self.depth == 0 && !self.alone;
            let hints = is_main && self.is_any(&self.settings().early_hints, request);
            let mut client = ClientSide {
                exchange: &mut self.exchange,
                // What is answered already, or is to be finished in any case, needs no client.
                // What is kept is for others too.
                alone: self.alone || settings.ignore_client_abort || Keeping::is_cacheable(keeping),
                kept: Some(Bytes::new()),
                limit: body_memory,
                received: 0,
                asked: false,
                again: taken.take(),
                hints: hints.then_some(place),
            };
            let outgoing = Outgoing { head: &head.bytes, body: again(&mut body), to, keep: head.keeps };
            let address = &lease.peer.address;
            let connected = match pool.take(address, &limits.route, head.is_idempotent) {
                Some(kept) => Ok((kept, true)),
                // In a box: a request that finds a kept connection does not pay for the size of a handshake.
                None => Box::pin(Connection::connect(address, &limits, &deadlines, &mut client))
                    .await
                    .map(|new| (new, false)),
            };
            let asked = match connected {
                Ok((connection, reused)) => {
                    attempt.connect_time.set(Some(exchange::now().duration_since(attempt.begun)));
                    connection.ask(reused, outgoing, &limits, &mut client, &attempt, lease, &pool).await
                }
                Err(failure) => Err((failure, lease)),
            };
            if streams {
                // What of it fits into memory is known to `$request_body`.
                let is_over = client.is_body_over();
                let ClientSide { kept, received, again: left, .. } = client;
                // Of what a server before this one had, this one may have been given nothing, or not all.
                taken = left.filter(|_| {
                    received == 0 || matches!(&asked, Err((failure, _)) if failure.again.is_some())
                });
                self.facts.body_spent.set(kept.is_none() || (received > 0 && !is_over));
                self.facts.body_length.set(received);
                *self.facts.body.borrow_mut() = kept.filter(|kept| !kept.is_empty());
            }
            self.facts.log_complaints(request, &attempt, "reading response header from upstream");
            let in_time = is_in_time();
            let (mut failure, lease) = match asked {
                Ok(mut answer) => {
                    let status = answer.head.status;
                    // Many a server says so before it closes a connection on which nobody asks anything; it means this
                    // request no more than a closed connection would (RFC 9110 §15.5.9).
                    let is_stale = status == 408 && answer.reused && !answer.head.keep_alive;
                    if is_stale && settings.next.error && in_time && !streams && head.is_idempotent {
                        if let Some(lease) = answer.body.give_up() {
                            choice.give_back(&lease);
                        }
                        choice.use_up();
                        continue;
                    }
                    let may_follow = choice.has_more()
                        && in_time
                        && !streams
                        && (head.is_idempotent || settings.next.non_idempotent);
                    if !may_follow || !wants_next(settings.next, status) {
                        let held = if may_follow {
                            self.hold(&mut answer, settings, keeping, head.without_body).await
                        } else {
                            Held::Ready
                        };
                        let broken = match held {
                            Held::Ready => {
                                let is_bare = matches!(body, OutgoingBody::Bytes(body) if body.is_empty());
                                if may_follow && is_bare && may_hold(settings, head.without_body, &answer) {
                                    let timeout = settings.next_timeout;
                                    answer.body.follow(&answer.head, &answer.bytes, || Successor {
                                        choice,
                                        pool,
                                        limits,
                                        deadlines,
                                        request: Bytes::copy_from_slice(&head.bytes),
                                        to,
                                        keep: head.keeps,
                                        after: (settings.next.error, settings.next.timeout),
                                        until: (!timeout.is_zero()).then(|| begun + timeout),
                                    });
                                }
                                return Ok(answer);
                            }
                            Held::Broken(broken) => Some(broken),
                            Held::Gone => None,
                        };
                        let Some(lease) = answer.body.give_up() else {
                            return Err((Step::Page(502), Unanswered::Error));
                        };
                        let Some(broken) = broken else {
                            let action = "reading upstream";
                            let failure = Failure {
                                fault: Fault::Gone,
                                action,
                                sent: true,
                                reused: false,
                                again: None,
                            };
                            let step = self.ended_by_client(request, target, &lease, &failure);
                            return Err((step.unwrap_or(Step::Gone), Unanswered::Client));
                        };
                        let (status, may, why) = if broken.is_timeout {
                            (504, settings.next.timeout, Unanswered::Timeout)
                        } else {
                            (502, settings.next.error, Unanswered::Error)
                        };
                        attempt.status.set(status);
                        let (server, words) = (&lease.peer.name, format_args!("{}", broken.words));
                        self.log_upstream(Level::Error, request, target, server, None, words);
                        if !may || !is_in_time() || !choice.use_up() {
                            return Err((Step::Page(status), why));
                        }
                        continue;
                    }
                    if let Some(lease) = answer.body.give_up()
                        && !matches!(status, 403 | 404)
                    {
                        self.note_failed(request, target, &lease);
                    }
                    choice.use_up();
                    continue;
                }
                Err(failed) => failed,
            };
            // As in nginx, a client that leaves says nothing of the server.
            if !matches!(failure.fault, Fault::Gone | Fault::Body(_)) {
                attempt.status.set(failure.fault.status());
            }
            attempt.end();
            if let Some(step) = self.ended_by_client(request, target, &lease, &failure) {
                return Err((step, Unanswered::Client));
            }
            self.log_upstream(
                if failure.fault.is_critical() { Level::Critical } else { Level::Error },
                request,
                target,
                &lease.peer.name,
                Some(failure.action),
                format_args!("{}", failure.fault),
            );
            taken = match (failure.again.take(), taken) {
                (Some(mut had), Some(left)) => {
                    had.given.extend(left.given);
                    Some(Again { given: had.given, rest: had.rest.or(left.rest) })
                }
                (had, left) => had.or(left),
            };
            // Whatever has reached that server, nothing has been done with it.
            let is_refused = matches!(failure.fault, Fault::Refused(_));
            let may = match failure.fault {
                Fault::Timeout => settings.next.timeout,
                Fault::Refused(_) => settings.next.error || settings.next.invalid_header,
                _ if failure.fault.is_invalid() && !failure.reused => settings.next.invalid_header,
                _ => settings.next.error,
            };
            let may_be_sent = if is_refused {
                !streams || taken.is_some()
            } else {
                !(failure.sent && streams)
                    && (!failure.sent || head.is_idempotent || settings.next.non_idempotent)
            };
            let may = may && in_time && may_be_sent;
            if failure.is_of_kept() {
                pool.forget(&lease.peer.address);
                if may {
                    choice.give_back(&lease);
                }
            } else {
                self.note_failed(request, target, &lease);
            }
            if !may || !choice.use_up() {
                let why = match failure.fault {
                    Fault::Timeout => Unanswered::Timeout,
                    _ if failure.fault.is_invalid() => Unanswered::Invalid,
                    _ => Unanswered::Error,
                };
                return Err((Step::Page(failure.fault.status()), why));
            }
        }
    }

    /// As long as the client has seen nothing, an answer that breaks off can be replaced.
    async fn hold(
        &mut self,
        answer: &mut Answer,
        settings: &ProxySettings,
        keeping: Option<&Keeping>,
        without_body: bool,
    ) -> Held {
        if !may_hold(settings, without_body, answer) {
            return Held::Ready;
        }
        let is_alone = self.alone || settings.ignore_client_abort || Keeping::is_cacheable(keeping);
        let exchange = &mut self.exchange;
        let gone = |cx: &mut Context<'_>| {
            if is_alone { Poll::Pending } else { exchange.poll_client(cx).map(|_: ClientEvent| ()) }
        };
        answer.body.hold(HOLD, gone).await
    }

    fn begin_attempt(&self, address: impl Into<Arc<str>>, is_first: bool) -> Rc<Attempt> {
        let attempt = Rc::new(Attempt::new(address));
        let mut asked = self.facts.upstream.borrow_mut();
        asked.get_or_insert_default().attempts.push((is_first, Rc::clone(&attempt)));
        attempt
    }

    /// The client is to blame, or gone.
    fn ended_by_client(
        &mut self,
        request: &Request,
        target: &Target,
        lease: &Lease,
        failure: &Failure,
    ) -> Option<Step> {
        let step = match failure.fault {
            Fault::Gone => Step::Gone,
            Fault::Body(status) => Step::Page(status),
            _ => return None,
        };
        self.exchange.close_after();
        let what = format_args!("{}", failure.fault);
        self.log_upstream(Level::Info, request, target, &lease.peer.name, Some(failure.action), what);
        Some(step)
    }

    fn note_failed(&self, request: &Request, target: &Target, lease: &Lease) {
        if lease.failed() {
            self.log_upstream(
                Level::Warning,
                request,
                target,
                &lease.peer.name,
                Some("connecting to upstream"),
                format_args!("upstream server temporarily disabled"),
            );
        }
    }

    fn limits(&mut self, request: &Request, place: &ProxyPlace, via: Option<Via>) -> Limits {
        let settings = &place.settings;
        let head = usize::try_from(settings.head_size).unwrap_or(usize::MAX);
        Limits {
            connect_timeout: settings.connect_timeout,
            send_timeout: settings.send_timeout,
            read_timeout: settings.read_timeout,
            head: head_limits(settings),
            first_read: if settings.limit_rate.is_some() { head } else { usize::MAX },
            route: Route {
                // What is spoken is the same.
                family: if place.is_http2() { Family::Grpc } else { place.family },
                bind: self.bind(request, place),
                keepalive: settings.socket_keepalive,
                via,
            },
            catch: Rc::clone(&place.catch),
        }
    }

    /// A line for the error log that names the server.
    fn log_upstream(
        &self,
        level: Level,
        request: &Request,
        target: &Target,
        server: &str,
        action: Option<&'static str>,
        message: std::fmt::Arguments<'_>,
    ) {
        if !telemetry::error_log::enabled(level) {
            return;
        }
        let url = asked::url(target.scheme, server, &target.uri);
        self.facts.log_about(level, Some(request), action, Some(&url), message);
    }
}

/// What the head of an answer may be large.
fn head_limits(settings: &ProxySettings) -> http1::Limits {
    let head = usize::try_from(settings.head_size).unwrap_or(usize::MAX);
    http1::Limits {
        fields: (head / 4).clamp(100, 10_000),
        field_size: head,
        head,
        ..http1::Limits::default()
    }
}

/// How long an answer that has come in part is held back, while another server could be asked in its place, and it does
/// not say that it is short. (One that does is passed on as a whole.)
const HOLD: Duration = Duration::from_millis(20);

/// Whether an answer is kept from the client for the sake of its end, or followed for it: it is no stream, and has no
/// speed.
fn may_hold(settings: &ProxySettings, without_body: bool, answer: &Answer) -> bool {
    settings.buffering
        && !without_body
        && settings.limit_rate.is_none()
        && (settings.next.error || settings.next.timeout)
        && !is_stream(answer)
}

fn is_stream(answer: &Answer) -> bool {
    answer.head.fields.iter().any(|line| {
        let value = line.value.of(&answer.bytes);
        match line.known {
            Name::XAccelBuffering => value.eq_ignore_ascii_case(b"no"),
            // Who reads events comes again by itself, and wants to know when.
            Name::ContentType => {
                let media = value.split(|byte| *byte == b';').next().unwrap_or_default();
                media.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
            }
            _ => false,
        }
    })
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug)]
enum Unanswered {
    Error,
    Timeout,
    Invalid,
    /// Nobody is to blame but the client, or the configuration.
    Client,
}

/// Whether another server is asked after this status.
pub(super) fn wants_next(next: NextUpstream, status: u16) -> bool {
    match status {
        500 => next.http_500,
        502 => next.http_502,
        503 => next.http_503,
        504 => next.http_504,
        403 => next.http_403,
        404 => next.http_404,
        429 => next.http_429,
        _ => false,
    }
}

/// The same body for one more server. One that is passed on as it comes is only sent once.
fn again<'b>(body: &mut OutgoingBody<'b>) -> OutgoingBody<'b> {
    match body {
        OutgoingBody::Bytes(bytes) => OutgoingBody::Bytes(bytes),
        OutgoingBody::File(file, length) => OutgoingBody::File(file, *length),
        OutgoingBody::Stream { chunked } => OutgoingBody::Stream { chunked: *chunked },
    }
}

/// The client, as the server's side sees it.
struct ClientSide<'a, 'e> {
    exchange: &'a mut Exchange<'e>,
    /// It does not matter whether it is there.
    alone: bool,
    /// The body so far, as long as it is no longer than `limit`.
    kept: Option<Bytes>,
    limit: usize,
    /// Bytes of the body so far.
    received: u64,
    /// It was asked for its body.
    asked: bool,
    /// What a server that refused the request has had of the body.
    again: Option<Again>,
    /// It is given early hints, without the fields that this place hides.
    hints: Option<&'a ProxyPlace>,
}

/// A body of which some was taken already.
struct Replayed {
    given: VecDeque<Bytes>,
    rest: Box<dyn BodySource>,
}

impl BodySource for Replayed {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self.given.pop_front() {
            Some(data) => Poll::Ready(Some(Ok(data))),
            None => self.rest.poll_data(cx),
        }
    }

    fn is_over(&self) -> bool {
        self.given.is_empty() && self.rest.is_over()
    }
}

impl Client for ClientSide<'_, '_> {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.alone {
            return Poll::Pending;
        }
        // As in nginx, one that sends nothing more has left.
        self.exchange.poll_client(cx).map(|_: ClientEvent| ())
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !std::mem::replace(&mut self.asked, true) {
            // The time for the first piece begins.
            let _ = self.exchange.body();
        }
        let given = self.again.as_mut().and_then(|again| again.given.pop_front());
        let polled = given.map_or_else(|| self.exchange.poll_body(cx), |data| Poll::Ready(Some(Ok(data))));
        if let Poll::Ready(Some(Ok(data))) = &polled {
            self.received += data.len() as u64;
            self.kept = match self.kept.take() {
                Some(kept) if kept.len() + data.len() > self.limit => None,
                Some(kept) if kept.is_empty() => Some(data.clone()),
                Some(kept) => Some([&kept[..], data].concat().into()),
                None => None,
            };
        }
        polled
    }

    fn is_body_over(&self) -> bool {
        self.again.as_ref().is_none_or(|again| again.given.is_empty()) && self.exchange.is_body_over()
    }

    fn take_body(&mut self) -> Option<Box<dyn BodySource>> {
        let body = match self.again.take() {
            Some(Again { given, rest: Some(rest) }) => Some(Box::new(Replayed { given, rest }) as Box<_>),
            again => {
                self.again = again;
                self.exchange.detach_body()
            }
        };
        if body.is_some() {
            // How long it was nobody here gets to know.
            self.kept = None;
        }
        body
    }

    fn hand_over_body(&mut self) -> Option<Box<dyn BodySource>> {
        let rest = self.exchange.hand_over_body()?;
        self.kept = None;
        match self.again.take() {
            Some(Again { given, .. }) if !given.is_empty() => Some(Box::new(Replayed { given, rest })),
            _ => Some(rest),
        }
    }

    fn interim(&mut self, head: &ResponseHead, bytes: &[u8]) {
        let Some(place) = self.hints.filter(|_| head.status == 103) else { return };
        let mut fields = Fields::new();
        for line in &head.fields {
            let (known, name) = (line.known, line.name.of(bytes));
            let is_of_message = matches!(
                known,
                Name::Connection
                    | Name::KeepAlive
                    | Name::TransferEncoding
                    | Name::ContentLength
                    | Name::Upgrade
                    | Name::Trailer
            );
            if !is_of_message && !place.hides(known, name) {
                fields.push(name, line.value.of(bytes));
            }
        }
        self.exchange.early_hints(&fields);
    }
}
