//! What is done without a client: names of servers are asked for again, servers are looked at, answers about
//! certificates are fetched.
//!
//! One event loop does it for all. A reload ends what was begun for the configuration before.

mod require;

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::model::http::{
    Family, HeaderIs, HealthCheck, HealthMatch, Http, Keepalive, ProxySettings, Resolve, ServerVersion,
    Upstream, UpstreamAddress,
};
use http1::AnswerTo;
use protocol::Deadlines;
use routing::Regex;
use telemetry::error_log::{self, Level};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use upstream::{
    Answer, Attempt, Connection, Failure, Found, Group, Limits, Nobody, Outgoing, OutgoingBody, Peer, Pool,
    Resolver, Route, Tls, Unresolved, Via,
};

use crate::configuration::Configuration;
use require::Require;

/// A name is not asked for more often, whatever DNS says of how long it holds.
const SHORTEST: Duration = Duration::from_secs(1);
/// How often it is seen whether a group has other servers than before.
const LOOK_AROUND: Duration = Duration::from_millis(500);
/// Of servers that are looked at for the first time, one begins so long after another.
const APART: Duration = Duration::from_millis(2);
/// Bytes of an answer's body that `match` sees, as in nginx.
const BODY: usize = 256 * 1024;

/// Tasks that end with what has begun them.
#[derive(Default)]
pub struct Watch(Vec<Task>);

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watch {
    /// Begins all that the configuration wants.
    pub fn begin(configuration: &Arc<Configuration>, deadlines: &Rc<Deadlines>) -> Self {
        let mut tasks = vec![spawn(crate::ocsp::keep(Arc::clone(configuration)))];
        let Some(http) = configuration.model.http.as_deref() else { return Self(tasks) };
        for (upstream, group) in http.upstreams.iter().zip(&configuration.groups) {
            let Some(resolver) = &upstream.resolver else { continue };
            let resolver = Rc::new(Resolver::new(resolver));
            for (of, server) in upstream.servers.iter().enumerate() {
                let Some(resolve) = server.resolve.clone() else { continue };
                let (group, resolver) = (Arc::clone(group), Rc::clone(&resolver));
                let name = Name { resolve, weight: server.weight, limit: upstream.resolver_timeout };
                tasks.push(spawn(async move { name.keep(&group, of, &resolver).await }));
            }
        }
        for (index, check) in http.health_checks.iter().enumerate() {
            let group = configuration.groups.get(check.upstream as usize);
            let upstream = http.upstreams.get(check.upstream as usize);
            let (Some(group), Some(upstream)) = (group, upstream) else { continue };
            match Checker::new(http, upstream, index, check, group, deadlines) {
                Ok(checker) => {
                    let checker = Rc::new(checker);
                    tasks.push(spawn(async move { checker.run().await }));
                }
                Err(why) => {
                    let name = &upstream.name;
                    error_log::write(
                        Level::Error,
                        format_args!("health_check of upstream \"{name}\": {why}"),
                    );
                }
            }
        }
        Self(tasks)
    }

    /// Ends it all.
    pub fn end(&mut self) {
        self.0.clear();
    }
}

fn spawn(task: impl Future<Output = ()> + 'static) -> Task {
    Task(tokio::task::spawn_local(task))
}

/// The bit of a health check.
pub fn bit(index: usize) -> u64 {
    1 << (index % 64)
}

/// The name of a server that is asked for while serving.
struct Name {
    resolve: Resolve,
    weight: u32,
    limit: Duration,
}

impl Name {
    async fn keep(&self, group: &Group, of: usize, resolver: &Resolver) {
        loop {
            let wait = match self.look_up(resolver).await {
                Ok((found, valid)) => {
                    group.set_addresses(of, &found);
                    valid.max(SHORTEST)
                }
                Err(why) => {
                    let (name, group_name) = (&self.resolve.host, &group.name);
                    error_log::write(
                        Level::Error,
                        format_args!(
                            "{name} could not be resolved ({}) in upstream \"{group_name}\"",
                            why.as_str()
                        ),
                    );
                    // There is nobody any more. If it only was not to be found out, what was known holds.
                    if matches!(why, Unresolved::NotFound | Unresolved::Format) {
                        group.set_addresses(of, &[]);
                    }
                    SHORTEST
                }
            };
            sleep(wait).await;
        }
    }

    async fn look_up(&self, resolver: &Resolver) -> Result<(Vec<Found>, Duration), Unresolved> {
        let Resolve { host, port, service } = &self.resolve;
        if let Some(service) = service {
            let (services, valid) = resolver.services(host, service, self.limit).await?;
            let found = services.iter().map(|service| Found {
                address: UpstreamAddress::Ip(service.address),
                weight: u32::from(service.weight).max(1),
                backup: service.backup,
            });
            return Ok((found.collect(), valid));
        }
        let (addresses, valid) = resolver.look_up(host, self.limit).await?;
        let mut addresses = addresses.to_vec();
        addresses.sort_unstable();
        addresses.dedup();
        let found = addresses.iter().map(|ip| Found {
            address: UpstreamAddress::Ip((*ip, *port).into()),
            weight: self.weight,
            backup: false,
        });
        Ok((found.collect(), valid))
    }
}

/// A health check of a group.
struct Checker {
    check: HealthCheck,
    bit: u64,
    group: Arc<Group>,
    request: Vec<u8>,
    limits: Limits,
    matches: Option<Matcher>,
    deadlines: Rc<Deadlines>,
}

/// `match`, compiled.
struct Matcher {
    model: HealthMatch,
    /// The patterns of fields, where they have one.
    headers: Vec<Option<Regex>>,
    body: Option<Regex>,
    require: Require,
}

impl Checker {
    fn new(
        http: &Http,
        upstream: &Upstream,
        index: usize,
        check: &HealthCheck,
        group: &Arc<Group>,
        deadlines: &Rc<Deadlines>,
    ) -> Result<Self, String> {
        let settings = http
            .settings
            .get(check.settings as usize)
            .and_then(|settings| http.proxy_settings.get(settings.passes[Family::Proxy as usize]? as usize))
            .ok_or("its location passes nothing on")?;
        let host = if check.host.is_empty() { upstream.name.as_bytes() } else { &check.host };
        let is_http2 = settings.version == ServerVersion::Http2;
        let via = if check.https {
            let own = settings.tls.name.as_ref().and_then(|name| name.as_text());
            let name = String::from_utf8_lossy(own.unwrap_or(host)).into_owned();
            Some(Via { tls: Tls::new(&settings.tls, is_http2)?, name })
        } else {
            None
        };
        let head = usize::try_from(settings.head_size).unwrap_or(usize::MAX);
        Ok(Self {
            check: check.clone(),
            bit: bit(index),
            group: Arc::clone(group),
            request: request(check, settings, host),
            limits: Limits {
                connect_timeout: settings.connect_timeout,
                send_timeout: settings.send_timeout,
                read_timeout: settings.read_timeout,
                head: http1::Limits { field_size: head, head, ..http1::Limits::default() },
                catch: Rc::default(),
                first_read: usize::MAX,
                route: Route {
                    family: if is_http2 { Family::Grpc } else { Family::Proxy },
                    bind: None,
                    keepalive: settings.socket_keepalive,
                    via,
                },
            },
            matches: check
                .matches
                .and_then(|at| http.matches.get(at as usize))
                .map(|model| Matcher::compile(model, http))
                .transpose()?,
            deadlines: Rc::clone(deadlines),
        })
    }

    /// Has a task for each server that the group has.
    async fn run(self: Rc<Self>) {
        let mut tasks: HashMap<*const Peer, (Arc<Peer>, Task)> = HashMap::new();
        loop {
            let peers = self.group.peers();
            let mut before = std::mem::take(&mut tasks);
            let mut delay = Duration::ZERO;
            for peer in peers {
                let key = Arc::as_ptr(&peer);
                let task = before.remove(&key).map_or_else(
                    || {
                        let (this, peer, wait) = (Rc::clone(&self), Arc::clone(&peer), delay);
                        delay = (delay + APART).min(self.check.interval);
                        spawn(async move {
                            sleep(wait).await;
                            this.watch(&peer).await;
                        })
                    },
                    |(_, task)| task,
                );
                tasks.insert(key, (peer, task));
            }
            drop(before);
            sleep(LOOK_AROUND).await;
        }
    }

    /// Looks at a server again and again.
    async fn watch(&self, peer: &Arc<Peer>) {
        let pool = Rc::new(Pool::new(self.check.keepalive_time.map(|time| Keepalive {
            connections: 1,
            requests: u64::MAX,
            time,
            timeout: time,
        })));
        let (mut fails, mut passes, mut is_well) = (0_u32, 0_u32, None);
        loop {
            let looked = self.look(peer, &pool).await;
            self.group.count_check(peer, looked.is_ok());
            let now = if looked.is_ok() {
                (fails, passes) = (0, passes.saturating_add(1));
                // The first look decides alone: nothing else is known.
                (passes >= self.check.passes || is_well.is_none()).then_some(true)
            } else {
                (fails, passes) = (fails.saturating_add(1), 0);
                (fails >= self.check.fails || (is_well.is_none() && self.check.mandatory)).then_some(false)
            };
            if let Some(now) = now.filter(|now| is_well != Some(*now)) {
                self.tell(peer, is_well.is_some(), &looked);
                is_well = Some(now);
                self.group.found_to_be(peer, self.bit, now);
            }
            sleep(self.check.interval + chance(self.check.jitter)).await;
        }
    }

    fn tell(&self, peer: &Peer, is_known: bool, looked: &Result<(), String>) {
        let (name, group) = (&peer.name, &self.group.name);
        match looked {
            Ok(()) if is_known => error_log::write(
                Level::Notice,
                format_args!("peer is healthy, health check of peer {name} in upstream \"{group}\""),
            ),
            Ok(()) => {}
            Err(why) => error_log::write(
                Level::Error,
                format_args!("peer is unhealthy: {why}, health check of peer {name} in upstream \"{group}\""),
            ),
        }
    }

    async fn look(&self, peer: &Arc<Peer>, pool: &Rc<Pool>) -> Result<(), String> {
        let address = match (&peer.address, self.check.port) {
            (UpstreamAddress::Ip(ip), Some(port)) => UpstreamAddress::Ip((ip.ip(), port).into()),
            (address, _) => address.clone(),
        };
        let fresh = Rc::new(Pool::new(None));
        let answer = match self.ask(peer, &address, pool).await {
            // It was kept too long.
            Err(failure) if failure.reused => self.ask(peer, &address, &fresh).await,
            asked => asked,
        };
        let (answer, attempt) = answer.map_err(|failure| failure.fault.to_string())?;
        let Answer { head, bytes, mut body, .. } = answer;
        let Some(matcher) = &self.matches else {
            if !(200..400).contains(&head.status) {
                return Err(format!("status {}", head.status));
            }
            let _ = body.take_whole();
            return Ok(());
        };
        matcher.head(head.status, || head.lines(&bytes))?;
        let mut seen = Vec::new();
        if matcher.body.is_some() || self.check.keepalive_time.is_some() {
            while let Some(more) = poll_fn(|cx| body.poll_next(cx)).await {
                let more = more.map_err(str::to_owned)?;
                seen.extend_from_slice(&more[..more.len().min(BODY - seen.len())]);
                if seen.len() >= BODY {
                    break;
                }
            }
        }
        matcher.body(&seen)?;
        matcher.require.holds(attempt, bytes)
    }

    async fn ask(
        &self,
        peer: &Arc<Peer>,
        address: &UpstreamAddress,
        pool: &Rc<Pool>,
    ) -> Result<(Answer, Rc<Attempt>), Failure> {
        let attempt = Rc::new(Attempt::new(peer.name.clone()));
        let connected = Connection::to(address, pool, &self.limits, &self.deadlines, &mut Nobody).await;
        let (connection, reused) = connected?;
        let outgoing = Outgoing {
            head: &self.request,
            body: OutgoingBody::Bytes(&[]),
            to: AnswerTo { head: false, upgrade: false },
            keep: self.check.keepalive_time.is_some(),
        };
        let lease = self.group.look(peer);
        let asked = connection.ask(reused, outgoing, &self.limits, &mut Nobody, &attempt, lease, pool).await;
        asked.map(|answer| (answer, attempt)).map_err(|(failure, _)| failure)
    }
}

impl Matcher {
    fn compile(model: &HealthMatch, http: &Http) -> Result<Self, String> {
        let compiled = |regex| Regex::compile(regex).map_err(|error| error.to_string());
        let headers = model.headers.iter().map(|header| match &header.is {
            HeaderIs::Regex(regex) => compiled(regex).map(Some),
            HeaderIs::There | HeaderIs::Equal(_) => Ok(None),
        });
        Ok(Self {
            headers: headers.collect::<Result<_, _>>()?,
            body: model.body.as_ref().map(|(_, regex)| compiled(regex)).transpose()?,
            require: Require::compile(&model.require, http)?,
            model: model.clone(),
        })
    }

    fn head<'h, L: Iterator<Item = (&'h [u8], &'h [u8])>>(
        &self,
        status: u16,
        lines: impl Fn() -> L,
    ) -> Result<(), String> {
        if let Some((not, ranges)) = &self.model.status
            && ranges.iter().any(|(first, last)| (*first..=*last).contains(&status)) == *not
        {
            return Err(format!("status {status}"));
        }
        for (header, regex) in self.model.headers.iter().zip(&self.headers) {
            let mut values = lines().filter(|(name, _)| name.eq_ignore_ascii_case(&header.name));
            let holds = match (&header.is, regex) {
                (HeaderIs::Equal(wanted), _) => values.any(|(_, value)| value == wanted),
                (_, Some(regex)) => values.any(|(_, value)| regex.is_match(value).unwrap_or(false)),
                _ => values.next().is_some(),
            };
            if holds == header.not {
                return Err(format!("header \"{}\"", String::from_utf8_lossy(&header.name)));
            }
        }
        Ok(())
    }

    fn body(&self, seen: &[u8]) -> Result<(), String> {
        match (&self.model.body, &self.body) {
            (Some((not, _)), Some(regex)) if regex.is_match(seen).unwrap_or(false) == *not => {
                Err("the body".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// What is asked: of the location's fields those that depend on no client.
fn request(check: &HealthCheck, settings: &ProxySettings, host: &[u8]) -> Vec<u8> {
    let version: &[u8] = match settings.version {
        ServerVersion::Http10 => b" HTTP/1.0\r\n",
        ServerVersion::Http11 => b" HTTP/1.1\r\n",
        ServerVersion::Http2 => b" HTTP/2.0\r\n",
    };
    let mut out = [b"GET ", &check.uri[..], version].concat();
    let has = |name: &str| {
        settings.set_headers.iter().any(|(set, value)| {
            set.eq_ignore_ascii_case(name.as_bytes()) && value.as_text().is_some_and(|text| !text.is_empty())
        })
    };
    let (own_host, own_agent) = (!has("host"), !has("user-agent"));
    let mut add = |name: &[u8], value: &[u8]| {
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    };
    if own_host {
        add(b"Host", host);
    }
    if own_agent {
        add(b"User-Agent", b"monoceros health check");
    }
    if settings.version != ServerVersion::Http2 {
        add(b"Connection", if check.keepalive_time.is_some() { b"keep-alive" } else { b"close" });
    }
    for (name, value) in &settings.set_headers {
        let framing = [
            &b"connection"[..],
            b"content-length",
            b"transfer-encoding",
            b"upgrade",
            b"keep-alive",
            b"proxy-connection",
            b"te",
        ];
        if let Some(text) = value.as_text()
            && !text.is_empty()
            && http1::is_field_value(text)
            && !framing.iter().any(|own| own.eq_ignore_ascii_case(name))
        {
            add(name, text);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Some time below this.
fn chance(most: Duration) -> Duration {
    let number = RandomState::new().hash_one(0) % 1000;
    most * u32::try_from(number).unwrap_or(0) / 1000
}
