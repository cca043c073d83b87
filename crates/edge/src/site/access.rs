//! post_read, preaccess and access: who asks, how often, and whether they may.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use config::model::http::{LogLevel, RealIpHeader, Satisfy};
use exchange::{Name, Request, Response};
use limits::access::Verdict;
use limits::auth_basic::{self, Credentials, UserFileError};
use limits::{connections, rate};
use telemetry::error_log::Level;

use super::facts::level;
use super::subrequest::Ask;
use super::visit::{Step, Visit};

/// What one kind of access control says.
enum Says {
    Nothing,
    Yes,
    No(Step),
}

impl Visit<'_, '_> {
    /// The client's true address, where a proxy is believed.
    ///
    /// As in nginx it is looked for a second time when a location is known, if the server's own settings found none.
    pub(super) fn real_ip(&mut self, request: &mut Request) {
        let Some(real_ip) = self.place.real_ip.as_ref().filter(|_| self.facts.original.get().is_none())
        else {
            return;
        };
        let peer = request.peer.remote;
        let found = match real_ip.header() {
            RealIpHeader::XRealIp => real_ip.forwarded(peer, &named(request, b"x-real-ip")),
            RealIpHeader::XForwardedFor => real_ip.forwarded(peer, &named(request, b"x-forwarded-for")),
            RealIpHeader::Field(name) => real_ip.forwarded(peer, &named(request, name)),
            RealIpHeader::ProxyProtocol => self
                .facts
                .proxied
                .as_ref()
                .and_then(|proxied| real_ip.proxied(peer, proxied.addresses.source)),
        };
        if let Some(found) = found {
            self.facts.original.set(peer);
            request.peer.remote = Some(found);
        }
    }

    /// `limit_conn`, then `limit_req`.
    pub(super) async fn preaccess(&mut self, request: &Request) -> Option<Step> {
        let place = std::rc::Rc::clone(&self.place);
        let zones = &self.site.http().zones;
        if let Some(limits) = place.connections.as_ref().filter(|_| !self.connections_counted) {
            let keys: Vec<_> = self
                .settings()
                .limit_conn
                .iter()
                .map(|limit| self.value(&zones[limit.zone as usize].key, request))
                .collect();
            let outcome = limits.enter(&keys);
            if let Some(notice) = &outcome.notice {
                self.facts.log(level(notice.level), Some(request), format_args!("{notice}"));
            }
            if let Some(status) = outcome.status {
                self.connections_counted = true;
                self.facts.connections_status.set(status.as_str());
            }
            match outcome.decision {
                connections::Decision::Passed(guards) => self.guards = guards,
                connections::Decision::Rejected => return Some(Step::Page(limits.status())),
            }
        }
        let limits = place.rate.as_ref().filter(|_| !self.rate_counted)?;
        let keys: Vec<_> = self
            .settings()
            .limit_req
            .iter()
            .map(|limit| self.value(&zones[limit.zone as usize].key, request))
            .collect();
        let outcome = limits.check(&keys, self.event_loop.process.millis());
        if let Some(notice) = &outcome.notice {
            self.facts.log(level(notice.level), Some(request), format_args!("{notice}"));
        }
        if let Some(status) = outcome.status {
            self.rate_counted = true;
            self.facts.rate_status.set(status.as_str());
        }
        match outcome.decision {
            rate::Decision::Passed => None,
            rate::Decision::Delayed(time) => self.wait(time).await,
            rate::Decision::Rejected => Some(Step::Page(limits.status())),
        }
    }

    /// Waits, unless the client leaves meanwhile.
    async fn wait(&mut self, time: Duration) -> Option<Step> {
        if self.alone {
            tokio::time::sleep(time).await;
            return None;
        }
        let exchange = &mut self.exchange;
        let gone = std::future::poll_fn(|cx| crate::intake::poll_gone(exchange, cx));
        tokio::select! {
            () = tokio::time::sleep(time) => None,
            () = gone => Some(Step::Gone),
        }
    }

    /// Whether anything has to be asked in the access phase.
    pub(super) fn is_guarded(&self) -> bool {
        let settings = self.settings();
        self.place.access.is_some() || settings.auth_basic.is_some() || settings.auth_request.is_some()
    }

    /// The access phase; a 401 waits for `auth_delay`.
    pub(super) async fn access(&mut self, request: &mut Request) -> Option<Step> {
        // What is asked on behalf of a request needs no right of its own.
        if self.is_inner() {
            return None;
        }
        let refused = self.judge(request).await?;
        let delay = self.settings().auth_delay;
        if !delay.is_zero() && (is_challenge(&refused) || matches!(refused, Step::Page(401))) {
            self.facts.log(Level::Info, Some(request), format_args!("delaying unauthorized request"));
            if let Some(gone) = self.wait(delay).await {
                return Some(gone);
            }
        }
        Some(refused)
    }

    /// `allow`/`deny`, `auth_basic`, `auth_request`, by `satisfy`.
    async fn judge(&mut self, request: &mut Request) -> Option<Step> {
        let any = self.settings().satisfy == Satisfy::Any;
        let mut refusal = None;
        let verdict = self.by_address(request);
        if let Some(end) = weigh(any, verdict, &mut refusal) {
            return end;
        }
        let verdict = self.by_password(request).await;
        if let Some(end) = weigh(any, verdict, &mut refusal) {
            return end;
        }
        let verdict = self.by_request(request).await;
        if let Some(end) = weigh(any, verdict, &mut refusal) {
            return end;
        }
        let refused = refusal?;
        self.facts.log(Level::Error, Some(request), format_args!("access forbidden by rule"));
        Some(refused)
    }

    fn by_address(&self, request: &Request) -> Says {
        let Some(access) = &self.place.access else { return Says::Nothing };
        match access.verdict(request.peer.remote.map(|remote: SocketAddr| remote.ip())) {
            Verdict::Undecided => Says::Nothing,
            Verdict::Allowed => Says::Yes,
            Verdict::Denied => {
                if self.settings().satisfy == Satisfy::All {
                    self.facts.log(Level::Error, Some(request), format_args!("access forbidden by rule"));
                }
                Says::No(Step::Page(403))
            }
        }
    }

    async fn by_password(&mut self, request: &Request) -> Says {
        let Some(auth) = &self.settings().auth_basic else { return Says::Nothing };
        let realm = self.value(&auth.realm, request);
        if auth_basic::is_off(&realm) {
            return Says::Nothing;
        }
        let asked = request.fields.first(Name::Authorization).and_then(Credentials::parse);
        let Some(credentials) = asked else {
            self.facts.log(
                Level::Info,
                Some(request),
                format_args!("no user/password was provided for basic authentication"),
            );
            return Says::No(challenge(&realm));
        };
        *self.facts.user.borrow_mut() = Some(credentials.user().to_vec());
        let path = self.value(&auth.user_file, request);
        let path = Path::new(OsStr::from_bytes(&auth.below)).join(OsStr::from_bytes(&path));
        let user = String::from_utf8_lossy(credentials.user()).into_owned();
        let password = match self.site.user_files.borrow_mut().password(&path, credentials.user()) {
            Ok(password) => password,
            // A hash that is none is nobody's.
            Err(UserFileError::Password { source, .. }) => {
                let words = format_args!("user \"{user}\": password mismatch ({source})");
                self.facts.log(Level::Error, Some(request), words);
                return Says::No(challenge(&realm));
            }
            Err(error) => {
                self.facts.log(level(error.level()), Some(request), format_args!("{error}"));
                return Says::No(Step::Page(error.status()));
            }
        };
        let Some(password) = password else {
            self.facts.log(
                Level::Error,
                Some(request),
                format_args!("user \"{user}\" was not found in \"{}\"", path.display()),
            );
            return Says::No(challenge(&realm));
        };
        let now = self.event_loop.process.millis();
        if self.site.verified.borrow_mut().contains(&credentials, &password, now) {
            return Says::Yes;
        }
        let right = if password.is_slow() {
            // Tens of milliseconds of computing: others on this loop must not wait for that.
            let (asked, stored) = (credentials.clone(), password.clone());
            tokio::task::spawn_blocking(move || stored.verify(asked.password())).await.unwrap_or(false)
        } else {
            password.verify(credentials.password())
        };
        if right {
            self.site.verified.borrow_mut().remember(&credentials, &password, now);
            return Says::Yes;
        }
        self.facts.log(Level::Error, Some(request), format_args!("user \"{user}\": password mismatch"));
        Says::No(challenge(&realm))
    }

    /// `auth_request`: what another location says to the request's head.
    async fn by_request(&mut self, request: &mut Request) -> Says {
        let Some(target) = &self.settings().auth_request else { return Says::Nothing };
        let path = self.value(target, request);
        let counted = self.rate_counted;
        let answer = self.ask(request, Ask { sets: true, ..Ask::get(path) }).await;
        self.rate_counted = counted;
        let Some(answer) = answer else { return Says::No(Step::Gone) };
        if let Some(args) = self.company().args.take() {
            (request.query, request.query_set) = (args, true);
        }
        match answer.status {
            200..=299 => Says::Yes,
            401 => {
                let mut refusal = Response::new(401);
                for value in answer.fields.all(Name::WwwAuthenticate) {
                    refusal.fields.push_known(Name::WwwAuthenticate, value);
                }
                Says::No(Step::special(refusal))
            }
            403 => Says::No(Step::Page(403)),
            status => {
                self.facts.log(
                    level(LogLevel::Error),
                    Some(request),
                    format_args!("auth request unexpected status: {status}"),
                );
                Says::No(Step::Page(500))
            }
        }
    }
}

/// `Some` ends the access phase.
#[expect(clippy::option_option, reason = "whether it ends, and with what")]
fn weigh(any: bool, says: Says, refusal: &mut Option<Step>) -> Option<Option<Step>> {
    match says {
        Says::Nothing => None,
        Says::Yes => any.then_some(None),
        // A fault of the server is no refusal that somebody else could make good.
        Says::No(step) if !any || !matches!(&step, Step::Page(401 | 403)) && !is_challenge(&step) => {
            Some(Some(step))
        }
        Says::No(step) => {
            // 401 tells the client what it can do; it goes before 403.
            if refusal.is_none() || is_challenge(&step) {
                *refusal = Some(step);
            }
            None
        }
    }
}

fn is_challenge(step: &Step) -> bool {
    matches!(step, Step::Special(response) if response.status == 401)
}

fn challenge(realm: &[u8]) -> Step {
    let mut response = Response::new(401);
    response.fields.push_known(Name::WwwAuthenticate, &auth_basic::challenge(realm));
    Step::special(response)
}

fn named(request: &Request, name: &[u8]) -> Vec<Vec<u8>> {
    let of_name = request.fields.iter().filter(|(_, field, _)| field.eq_ignore_ascii_case(name));
    of_name.map(|(_, _, value)| value.to_vec()).collect()
}
