//! What is known and looked at before the phases: which server is meant, what the connection is, whether its client
//! may ask.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use config::model::http::ServerId;
use config::model::tls::Verify;
use exchange::{Name, Request};
use listen::tls::Negotiated;
use protocol::Exchange;
use routing::State;
use telemetry::error_log::Level;

use super::Site;
use super::facts::Facts;
use super::visit::Visit;
use crate::connection::Ends;
use crate::event_loop::EventLoop;

impl Visit<'_, '_> {
    /// Whether the client may talk to this server, by its certificate; else the status that says that it may not.
    pub(super) fn check_client(&self, request: &Request, tls: &Negotiated) -> Option<u16> {
        let verify = self.site.http().servers.get(self.server as usize)?.head.verify_client;
        if verify == Verify::Off {
            return None;
        }
        let tell = |message: std::fmt::Arguments<'_>| {
            let action = self.reading(request, false);
            self.facts.log_about(Level::Info, Some(request), Some(action), None, message);
        };
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

    /// What nginx looks at before the phases and the protocol does not. An error is for the log; `true`: it is the
    /// request line's.
    pub(super) fn check_head(&self, request: &mut Request) -> Result<(), (String, bool)> {
        if let Some([before, again]) = repeated(request) {
            let line = |(name, value): (&[u8], &[u8])| {
                format!("\"{}: {}\"", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
            };
            let (again, before) = (line(again), line(before));
            return Err((
                format!("client sent duplicate header line: {again}, previous value: {before}"),
                false,
            ));
        }
        let server = &self.site.http().servers[self.server as usize];
        // The path was read by the listener's default server, which may see slashes otherwise.
        let merge = server.head.merge_slashes;
        let has_both = || request.path.windows(2).any(|pair| pair == b"//");
        if request.raw_path.starts_with(b"/") && (!merge || has_both()) {
            protocol::normalize(&request.raw_path, merge, &mut request.path)
                .map_err(|_| ("client sent invalid request".to_owned(), true))?;
        }
        Ok(())
    }
}

/// A field that stands more than once and has room for one value, as in nginx: its first two lines. `Host`,
/// `Content-Length` and `Transfer-Encoding` are the protocol's.
fn repeated(request: &Request) -> Option<[(&[u8], &[u8]); 2]> {
    let mut seen = 0_u8;
    for (name, field, value) in request.fields.iter() {
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
            let mut first = request.fields.iter().filter(|(known, ..)| *known == name);
            let (_, name, before) = first.next()?;
            return Some([(name, before), (field, value)]);
        }
        seen |= bit;
    }
    None
}

/// The server, its host's name and port.
pub(super) type Chosen = (ServerId, Vec<u8>, Option<u16>);

/// The server for the address and the name; the default server when the name is none.
pub(super) fn which_server(
    site: &Site,
    ends: &Ends,
    request: &Request,
    state: &mut State,
) -> Result<Chosen, ServerId> {
    let local = ends.peer.local.map(|local| local.ip());
    let listener = site.listener(ends).unwrap_or_default();
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
        proxied: ends.proxied.clone(),
        tls: ends.tls.clone(),
        ends: ends.peer,
        server: Cell::new(server),
        settings: Cell::new(settings),
        inner: Cell::new(false),
        host: RefCell::default(),
        port: Cell::new(None),
        closed: Cell::new(false),
        ranges: Cell::new(false),
        retry_after: Cell::new(None),
        user: RefCell::default(),
        limit_rate: RefCell::default(),
        id: Cell::new(None),
        error_status: Cell::new(0),
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
        found_length: Cell::new(None),
        body: RefCell::default(),
        body_spent: Cell::new(false),
        upstream: RefCell::default(),
        passed: Cell::new(false),
        adds_to_alias: Cell::new(false),
        keeps: Cell::new(false),
        slice: Cell::default(),
        rare: RefCell::default(),
    })
}
