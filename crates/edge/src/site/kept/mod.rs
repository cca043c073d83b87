//! The cache between the client and who answers: what is looked for before anybody is asked, and what becomes of an
//! answer. The same for all kinds of servers; who they are shows in [`CacheKind`] only.

mod store;
mod tee;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use buffering::BufferedBody;
use bytes::Bytes;
use cache::{Ask, Found, Freshness, Key, Look, Meta, Purge, Renewed, Stored, Ticket, Writer, Zone};
use config::model::http::{
    CacheKind, CacheName, CacheSettings, Content, IgnoreHeaders, SettingsId, Store, Value, Variable,
};
use exchange::{Body, Method, Name, Request, Response};
use routing::Captures;
use telemetry::error_log::Level;

use self::store::StoreWriter;
use self::tee::Sink;
use super::visit::{Step, Visit};

/// What a request has to do with the cache while somebody else is asked.
pub(super) struct Keeping {
    pub settings: Rc<CacheSettings>,
    zone: Arc<Zone>,
    key: Key,
    ticket: Option<Ticket>,
    /// What holds no more, and would do if there is nothing better.
    pub stale: Option<Arc<Stored>>,
    /// The answer may be kept: the request is made so that it is for others too.
    pub cacheable: bool,
    /// The request has `Authorization`.
    authorized: bool,
}

/// How a request goes on.
pub(super) enum Consulted {
    /// With what is kept.
    Kept(Arc<Stored>),
    /// So.
    Step(Step),
    /// By asking.
    Ask(Option<Box<Keeping>>),
}

/// What is fetched anew when the response has left.
pub(super) struct Renewal {
    request: Box<Request>,
    settings: SettingsId,
    content: Content,
    /// `internal`, `target_changed` and `location_valid` of the visit.
    way: [bool; 3],
    /// What the place's pattern matched.
    captures: Captures,
    pub part: Box<(Ticket, Arc<Stored>)>,
}

impl Visit<'_, '_> {
    /// Looks for what is kept. `told` is the request as whoever answers is told it, if that is another; `own` is the key where the configuration names none; `authorized` tells that a client's
    /// `Authorization` has to do with the answer, `passes_on` which of its fields can have.
    pub(super) async fn consult(
        &mut self,
        request: &Request,
        told: Option<&Request>,
        kind: CacheKind,
        own: impl FnOnce() -> Vec<u8>,
        authorized: bool,
        passes_on: impl Fn(Name, &[u8]) -> bool,
    ) -> Consulted {
        let Some(settings) = self.place.caches[kind as usize].clone() else { return Consulted::Ask(None) };
        let is_meant = match request.method {
            // Who answers may look at the body of a GET, although it has no meaning (RFC 9110 §9.3.1): what comes of it
            // is for its sender alone.
            Method::Get | Method::Head => !request.has_body() || settings.is_keyed_by(&Variable::RequestBody),
            Method::Post => settings.post,
            _ => false,
        };
        let purges = self.is_any(&settings.purge, request);
        if !is_meant && !purges {
            return Consulted::Ask(None);
        }
        if is_meant && request.has_body() {
            // The key may be made of it.
            let body = match self.take_body(request).await {
                Ok(body) => body,
                Err(step) => return Consulted::Step(step),
            };
            let is_in_file = matches!(body, BufferedBody::File(_));
            self.company().body = Some(body);
            let is_of_body = |key| self.site.routing.variables.is_of_body(key);
            if is_in_file && settings.key.as_ref().is_some_and(is_of_body) {
                // `$request_body` is empty then, for whatever body, and what a `map` makes of it the same for all: one
                // would get another's answer.
                return Consulted::Ask(None);
            }
        }
        let zone = match &settings.zone {
            CacheName::Fixed(at) => self.site.configuration.caches.zone(*at).map(Arc::clone),
            CacheName::Variable(name) => {
                let name = self.value(name, request);
                if name.is_empty() || name == b"off" {
                    return Consulted::Ask(None);
                }
                let named = self.site.configuration.caches.named(&name).map(Arc::clone);
                if named.is_none() {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    self.facts.log(Level::Error, Some(request), format_args!("cache \"{name}\" not found"));
                }
                named
            }
        };
        let Some(zone) = zone else { return Consulted::Step(Step::Page(500)) };
        let key = match &settings.key {
            Some(key) => self.value(key, request),
            None => own(),
        };
        if purges {
            return Consulted::Step(purge(zone, what_to_purge(request, key)).await);
        }
        let asked = told.unwrap_or(request);
        let fields = asked.fields.iter();
        let telling =
            fields.filter(|(known, name, value)| is_telling(name, value) && passes_on(*known, name));
        let telling = telling.map(|(_, name, value)| (name, value));
        // What the fields of a proxy were taken for.
        let scheme = (asked.scheme != request.scheme).then(|| asked.scheme.as_str().as_bytes());
        let mount = (asked.script_name != request.script_name).then_some(&asked.script_name[..]);
        let believed = [(&b"scheme"[..], scheme), (b"script_name", mount)];
        let believed = believed.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let key = Key::new(key).apart(telling.chain(believed));
        let apart = settings.key.iter().flat_map(Value::variables).any(tells_users_apart);
        let mut keeping = Box::new(Keeping {
            authorized: authorized && !apart,
            zone,
            key,
            ticket: None,
            stale: None,
            cacheable: true,
            settings,
        });
        if let Some(part) = self.company.as_mut().and_then(|company| company.renewal.take()) {
            let (ticket, stored) = *part;
            keeping.ticket = Some(ticket);
            self.note_cache(&keeping.zone, "EXPIRED");
            self.note_stale(&keeping, &stored);
            keeping.stale = Some(stored);
            return Consulted::Ask(Some(keeping));
        }
        if self.is_any(&keeping.settings.bypass, request) {
            self.note_cache(&keeping.zone, "BYPASS");
            return Consulted::Ask(Some(keeping));
        }
        self.look(request, kind, keeping).await
    }

    /// Whether whoever answers is told by `Authorization` who a client is: by its own, if that is passed on, or by one that
    /// the configuration makes of what it has sent and the key does not name. What else the configuration sets is nobody's
    /// secret.
    pub(super) fn is_authorized<'v>(
        &mut self,
        request: &Request,
        kind: CacheKind,
        passed: bool,
        set: impl Iterator<Item = &'v Value>,
    ) -> bool {
        let mut set = set.peekable();
        if set.peek().is_none() {
            return passed && request.fields.has(Name::Authorization);
        }
        let key = self.place.caches[kind as usize].as_ref().and_then(|settings| settings.key.clone());
        let tells = |variable: &Variable| match &key {
            Some(key) => key.variables().any(|named| named == variable),
            // The arguments are in each key that is not named.
            None => matches!(variable, Variable::Arg(_)),
        };
        let sent =
            set.flat_map(Value::variables).filter(|variable| is_of_client(variable) && !tells(variable));
        sent.into_iter()
            .any(|variable| self.value_or_none(variable, request).is_some_and(|value| !value.is_empty()))
    }

    async fn look(&mut self, request: &Request, kind: CacheKind, mut keeping: Box<Keeping>) -> Consulted {
        let settings = Rc::clone(&keeping.settings);
        let until = Instant::now() + settings.lock_timeout;
        let mut waits = !settings.lock_timeout.is_zero();
        let mut ticket = None;
        loop {
            let lock = settings.lock.then_some(settings.lock_age);
            let ask = Ask { key: &keeping.key, request, min_uses: settings.min_uses, lock };
            let Look { found, ticket: own } = keeping.zone.look(ask, ticket.take());
            if let Found::Hit(stored) | Found::Stale(stored) | Found::Updating(stored) = &found
                && !stored.is_verified()
            {
                let reader = Arc::clone(stored);
                let read = tokio::task::spawn_blocking(move || reader.verify()).await;
                let is_good = read.unwrap_or(false);
                keeping.zone.verified(&own, stored, is_good);
                if !is_good {
                    let what =
                        format_args!("cache file of \"{}\" is damaged", keeping.key.text.escape_ascii());
                    self.facts.log(Level::Critical, Some(request), what);
                    drop(own);
                    continue;
                }
            }
            let now = seconds();
            match found {
                Found::Locked => {
                    if waits && own.wait(until).await {
                        ticket = Some(own);
                        continue;
                    }
                    if std::mem::take(&mut waits) {
                        self.facts.log(Level::Info, Some(request), format_args!("cache lock timeout"));
                    }
                    keeping.cacheable = false;
                    self.note_cache(&keeping.zone, "MISS");
                }
                Found::Hit(stored) => {
                    self.note_cache(&keeping.zone, "HIT");
                    return Consulted::Kept(stored);
                }
                Found::Status(status) => {
                    self.note_cache(&keeping.zone, "HIT");
                    return Consulted::Step(Step::Page(status));
                }
                Found::Stale(stored) => {
                    let may = settings.stale_updating || stored.may_update(now);
                    // Behind the response there is nobody who would fetch it, and no body to ask with.
                    if may && settings.background_update && !self.alone && !request.has_body() {
                        self.note_cache(&keeping.zone, "STALE");
                        let by_get = matches!(kind, CacheKind::FastCgi | CacheKind::Uwsgi | CacheKind::Scgi)
                            && !settings.is_keyed_by(&Variable::RequestMethod);
                        self.renew_later(request, by_get, own, &stored);
                        return Consulted::Kept(stored);
                    }
                    self.expired(&mut keeping, stored);
                    keeping.ticket = Some(own);
                }
                Found::Updating(stored) => {
                    if settings.stale_updating || stored.may_update(now) {
                        self.note_cache(&keeping.zone, "UPDATING");
                        return Consulted::Kept(stored);
                    }
                    self.expired(&mut keeping, stored);
                    keeping.ticket = Some(own);
                }
                Found::Scarce => {
                    keeping.cacheable = false;
                    self.note_cache(&keeping.zone, "MISS");
                }
                Found::Nothing => {
                    keeping.ticket = Some(own);
                    self.note_cache(&keeping.zone, "MISS");
                }
            }
            if let (Some(most), Some(range)) = (settings.max_range_offset, request.fields.first(Name::Range))
            {
                keeping.cacheable &= begins_before(range, most);
            }
            return Consulted::Ask(Some(keeping));
        }
    }

    fn expired(&mut self, keeping: &mut Keeping, stored: Arc<Stored>) {
        self.note_cache(&keeping.zone, "EXPIRED");
        self.note_stale(keeping, &stored);
        keeping.stale = Some(stored);
    }

    fn note_stale(&self, keeping: &Keeping, stored: &Arc<Stored>) {
        if keeping.settings.revalidate {
            self.facts.upstream.borrow_mut().get_or_insert_default().revalidates = Some(Arc::clone(stored));
        }
    }

    /// `$upstream_cache_status`
    fn note_cache(&self, zone: &Zone, status: &'static str) {
        let mut asked = self.facts.upstream.borrow_mut();
        let asked = asked.get_or_insert_default();
        // A request that was sent on within has a status of its own each time.
        let is_same = matches!((asked.cache_status, status), ("EXPIRED", "STALE" | "REVALIDATED"));
        zone.count(status, if is_same { asked.cache_status } else { "" });
        asked.cache_status = status;
    }

    /// `by_get`: what comes of HEAD would not be kept.
    fn renew_later(&mut self, request: &Request, by_get: bool, ticket: Ticket, stored: &Arc<Stored>) {
        let mut request = Box::new(request.clone());
        if by_get && request.method == Method::Head {
            request.method = Method::Get;
        }
        let renewal = Renewal {
            request,
            settings: self.place.id,
            content: self.content.clone(),
            way: [self.internal, self.target_changed, self.location_valid],
            captures: self.state.captures().clone(),
            part: Box::new((ticket, Arc::clone(stored))),
        };
        self.company().renewals.push(renewal);
    }

    /// Fetches anew what was sent although it held no more.
    pub(super) async fn renew(&mut self, renewal: Renewal) {
        let Renewal { mut request, settings, content, way, captures, part } = renewal;
        let outer = self.step_in();
        self.state.swap_captures(captures);
        [self.internal, self.target_changed, self.location_valid] = way;
        self.enter(settings, content);
        request.content_length = Some(0);
        self.company().renewal = Some(part);
        // What comes is kept whether or not somebody takes it.
        let _ = Box::pin(self.content(&mut request)).await;
        self.company().renewal = None;
        self.step_out(outer);
    }

    /// Whether one of the values is neither empty nor `0`.
    pub(super) fn is_any(&mut self, values: &[Value], request: &Request) -> bool {
        values.iter().any(|value| {
            let text = self.value(value, request);
            !text.is_empty() && text != b"0"
        })
    }

    /// What is sent in place of an answer that did not come, or is an error.
    pub(super) fn stale_for(
        &mut self,
        keeping: Option<&mut Box<Keeping>>,
        is_meant: impl FnOnce(&CacheSettings, &Stored) -> bool,
    ) -> Option<Arc<Stored>> {
        let keeping = keeping?;
        let stored = keeping.stale.take_if(|stored| is_meant(&keeping.settings, stored))?;
        self.note_cache(&keeping.zone, "STALE");
        Some(stored)
    }

    /// The server says that what is kept is still the same.
    pub(super) fn renewed(
        &mut self,
        request: &Request,
        keeping: &mut Keeping,
        fresh: &Freshness,
        ignore: IgnoreHeaders,
    ) -> Option<Arc<Stored>> {
        if !keeping.settings.revalidate {
            return None;
        }
        let stored = keeping.stale.take()?;
        self.note_cache(&keeping.zone, "REVALIDATED");
        let now = seconds();
        // What the new answer does not say, the kept one did.
        let said = if fresh.valid.is_some() {
            fresh.clone()
        } else {
            cache::weigh(stored.head.lines(&stored.meta.head), ignore, now)
        };
        let rules = &keeping.settings.valid;
        let valid = said.valid.or_else(|| cache::valid_for(rules, stored.head.status).map(|time| now + time));
        if let (Some(valid), Some(ticket)) = (valid.filter(|_| !fresh.forbidden), &keeping.ticket) {
            let renewed = Renewed { date: now, valid, updating: said.updating, error: said.error };
            if let Err(error) = keeping.zone.renew(ticket, &stored, renewed) {
                let what = format_args!("cache file could not be written: {error}");
                self.facts.log(Level::Critical, Some(request), what);
            }
        }
        Some(stored)
    }

    /// An answer that is no more than its status is remembered as such.
    pub(super) fn remember(keeping: &Keeping, status: u16, fresh: Option<&Freshness>) {
        if !keeping.cacheable || keeping.authorized || fresh.is_some_and(|fresh| fresh.forbidden) {
            return;
        }
        let now = seconds();
        let valid = fresh.and_then(|fresh| fresh.valid);
        let valid =
            valid.or_else(|| cache::valid_for(&keeping.settings.valid, status).map(|time| now + time));
        if let (Some(valid), Some(ticket)) = (valid, &keeping.ticket) {
            ticket.remember(status, valid);
        }
    }

    /// `proxy_store`: makes an answer a file of its own: its body then comes by way of that file.
    pub(super) fn put_in_store(
        &mut self,
        request: &Request,
        store: &Store,
        modified: Option<u64>,
        body: Body,
        length: Option<u64>,
        memory: u64,
    ) -> Body {
        let path = match &store.path {
            Some(path) => self.value(path, request),
            None => self.file_of(request, &request.path),
        };
        if path.ends_with(b"/") || path.contains(&0) {
            return body;
        }
        match StoreWriter::begin(&path, store.access, modified) {
            Ok(writer) => tee::tee(body, Sink::Store(writer), length, memory),
            Err(error) => {
                let what = format_args!("\"{}\" could not be written: {error}", path.escape_ascii());
                self.facts.log(Level::Critical, Some(request), what);
                body
            }
        }
    }

    /// Keeps an answer, if that may be: its body then comes by way of the file. `head` makes what is kept of its head.
    #[expect(clippy::too_many_arguments, reason = "all that an answer has")]
    pub(super) fn put_in_cache(
        &mut self,
        request: &Request,
        mut keeping: Keeping,
        fresh: Freshness,
        status: u16,
        without_body: bool,
        head: impl FnOnce() -> Bytes,
        body: Body,
        length: Option<u64>,
        memory: u64,
    ) -> Body {
        if !keeping.cacheable
            || (keeping.authorized && !fresh.shared)
            || self.is_any(&keeping.settings.no_cache, request)
        {
            return body;
        }
        let now = seconds();
        let valid =
            fresh.valid.or_else(|| cache::valid_for(&keeping.settings.valid, status).map(|time| now + time));
        let is_partial = || {
            let range = Variable::Http(b"range".to_vec());
            !keeping.settings.is_keyed_by(&Variable::SliceRange) && !keeping.settings.is_keyed_by(&range)
        };
        let forbidden = match status {
            // An answer to conditions that others do not have.
            304 | 412 | 416 => true,
            206 => fresh.forbidden || is_partial(),
            _ => fresh.forbidden,
        };
        let Some(valid) = valid.filter(|_| !forbidden) else {
            // Whoever asks for the same need not wait for each other.
            if let Some(ticket) = keeping.ticket.as_ref().filter(|_| keeping.settings.lock) {
                ticket.pass();
            }
            return body;
        };
        let mut ticket = match keeping.ticket.take() {
            Some(ticket) => ticket,
            None => keeping.zone.ticket(&keeping.key),
        };
        let variant = cache::variant(&keeping.key, &fresh.vary, request);
        ticket.settle(variant);
        let is_whole = matches!(status, 200 | 206);
        let meta = Meta {
            date: now,
            valid,
            updating: fresh.updating,
            error: fresh.error,
            last_modified: fresh.last_modified.filter(|_| is_whole),
            without_body,
            variant,
            key: keeping.key.text,
            vary: fresh.vary,
            etag: if is_whole { fresh.etag } else { Vec::new() },
            tags: fresh.tags,
            head: head(),
        };
        match Writer::begin(ticket, meta) {
            Ok(writer) => {
                tee::tee(body, Sink::Cache(Box::new(writer)), length.filter(|_| !without_body), memory)
            }
            Err(error) => {
                let what = format_args!("cache file could not be written: {error}");
                self.facts.log(Level::Critical, Some(request), what);
                body
            }
        }
    }
}

impl Keeping {
    /// Whether the request is made so that its answer may be kept.
    pub(super) fn is_cacheable(keeping: Option<&Self>) -> bool {
        keeping.is_some_and(|keeping| keeping.cacheable)
    }
}

/// What a request is to remove: what has the tags that it names, else what has its key. A `*` at the end of the key
/// stands for any end.
fn what_to_purge(request: &Request, mut key: Vec<u8>) -> Purge {
    let mut tags = Vec::new();
    for (_, name, value) in request.fields.iter() {
        if name.eq_ignore_ascii_case(b"cache-tag") || name.eq_ignore_ascii_case(b"surrogate-key") {
            tags.extend_from_slice(value);
            tags.push(b' ');
        }
    }
    if !tags.is_empty() {
        return Purge::Tags(tags);
    }
    if key.ends_with(b"*") {
        key.pop();
        return Purge::Start(key);
    }
    Purge::Key(key)
}

/// `proxy_cache_purge`
async fn purge(zone: Arc<Zone>, purge: Purge) -> Step {
    match tokio::task::spawn_blocking(move || zone.purge(purge)).await {
        Ok(0) => Step::Page(404),
        Ok(_) => Step::respond(Response::new(204)),
        Err(_) => Step::Page(500),
    }
}

/// Fields by which frameworks and servers make a page another one, and which hardly any key names: a client that sends
/// one gets what was kept for those that send the same.
const TELLING: [&[u8]; 18] = [
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-forwarded-protocol",
    b"x-forwarded-scheme",
    b"x-forwarded-ssl",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-forwarded-path",
    b"x-forwarded-server",
    b"x-host",
    b"x-original-host",
    b"x-original-url",
    b"x-rewrite-url",
    b"x-script-name",
    b"x-http-host-override",
    b"x-http-method",
    b"x-http-method-override",
    b"x-method-override",
];

/// Whether a field is one of those; `Forwarded` is, if it tells host or scheme.
pub(super) fn is_telling(name: &[u8], value: &[u8]) -> bool {
    let says = |word: &[u8]| value.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    match name.first() {
        Some(b'x' | b'X') => TELLING.iter().any(|telling| name.eq_ignore_ascii_case(telling)),
        Some(b'f' | b'F') => name.eq_ignore_ascii_case(b"forwarded") && (says(b"host=") || says(b"proto=")),
        _ => false,
    }
}

/// Whether a value with this variable is the client's own.
fn is_of_client(variable: &Variable) -> bool {
    matches!(variable, Variable::Http(_) | Variable::Cookie(_) | Variable::Arg(_))
}

/// Whether a key with this variable is another for each user.
fn tells_users_apart(variable: &Variable) -> bool {
    match variable {
        Variable::RemoteUser => true,
        Variable::Http(name) => name == b"authorization",
        _ => false,
    }
}

/// `proxy_cache_max_range_offset`
fn begins_before(range: &[u8], most: u64) -> bool {
    if most == 0 {
        return false;
    }
    let Some((unit, set)) = range.split_at_checked(6) else { return true };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return true;
    }
    let set = set.trim_ascii_start();
    let end = set.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(set.len());
    let start = std::str::from_utf8(&set[..end]).ok().and_then(|digits| digits.parse::<u64>().ok());
    // The last bytes are behind every other.
    !set.starts_with(b"-") && start.is_some_and(|start| start < most)
}

/// Seconds since 1970.
pub(super) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
