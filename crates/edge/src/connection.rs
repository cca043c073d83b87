//! One client connection, and the way of each of its requests.

use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use config::model::Address;
use exchange::{Name, Peer, Request, Response, Scheme};
use limits::proxy_protocol::{self, Proxied};
use listen::tls::{Encrypted, Negotiated};
use listen::{Socket, Stream};
use protocol::h1::{Connection, Idle};
use protocol::{Exchange, Refusal, WriteError, h2};
use telemetry::error_log::{self, Level};
use tokio::net::{TcpStream, UnixStream};

use crate::accept::Accepted;
use crate::challenges;
use crate::event_loop::{Count, EventLoop};
use crate::http2;
use crate::log::{self, Finished};
use crate::pages;
use crate::phases::Phases;
use crate::runtime::Runtime;
use crate::site::{self, Known};
use crate::tls;

/// Request objects that a loop keeps.
const REQUESTS: usize = 256;

/// What is known of the connection, whatever is asked on it.
#[derive(Clone)]
pub struct Ends {
    /// Their addresses.
    pub peer: Peer,
    /// Where it was accepted.
    pub address: Arc<Address>,
    /// Which listener of the site that is, as the site has found it.
    pub listener: Known,
    /// Its number among all.
    pub number: u64,
    /// When it was accepted.
    pub since: Instant,
    /// What a PROXY protocol header said.
    pub proxied: Option<Arc<Proxied>>,
    /// What TLS has agreed upon.
    pub tls: Option<Arc<Negotiated>>,
    /// The client speaks plain HTTP where TLS is spoken.
    pub plain: bool,
    /// `SERVER_NAME` and `SERVER_PORT`.
    pub server: (String, u16),
}

/// A connection, and what is known of it. In a box: an idle connection holds it once, and not once for each place of
/// its future that it passes through.
struct Client {
    connection: Connection,
    ends: Ends,
}

/// Serves a connection to its end. `refused`: there are too many, it is only told so.
pub async fn serve(event_loop: &Rc<EventLoop>, accepted: Box<Accepted>, refused: bool) {
    let Some(mut client) = begin(event_loop, accepted) else { return };
    // Whatever comes before the first request, another loop has done.
    let is_new = client.connection.requests() == 0;
    if refused {
        // In a box, as all that is rare: what stays in this future, every idle connection holds.
        return Box::pin(turn_away(event_loop, client)).await;
    }
    if is_new && is_proxied(event_loop, &client.ends) {
        let Client { connection, ends } = &mut *client;
        match Box::pin(proxy_header(connection, ends)).await {
            Some(header) => client.ends.proxied = header.proxied().map(Arc::new),
            None => return,
        }
    }
    if is_new && event_loop.runtime.borrow().begins_with_tls(&client.ends) {
        match Box::pin(secure(event_loop, client)).await {
            Some(Secured::Http1(secured)) => client = secured,
            Some(Secured::Http2(secured, own)) => return by_http2(event_loop, secured, own).await,
            None => return,
        }
    }
    loop {
        if client.connection.is_movable()
            && let Some(place) = event_loop.process.spread.move_to(event_loop.index)
        {
            return leave(event_loop, client, place);
        }
        let idle = client.connection.idle().await;
        if idle != Idle::Readable {
            ended(event_loop, &client.connection, &client.ends, idle == Idle::Late);
            break;
        }
        if let Some(own) = http2_of(event_loop, &client)
            && Box::pin(client.connection.begins_with(h2::PREFACE)).await
        {
            return by_http2(event_loop, client, own).await;
        }
        let runtime = event_loop.runtime();
        let mut request = event_loop.requests.borrow_mut().pop().unwrap_or_default();
        let mut all = Some((&mut *client, &mut *request));
        let later = poll_fn(|cx| match all.take() {
            Some((Client { connection, ends }, request)) => {
                Poll::Ready(exchange(event_loop, &runtime, connection, ends, request, cx))
            }
            None => Poll::Ready(None),
        });
        if let Some(later) = later.await {
            later.await;
        }
        give_back(event_loop, request);
        drop(runtime);
        if client.connection.is_departing() {
            exchange::others_first().await;
            if let Err(error) = client.connection.depart().await {
                lost(&client.ends, error);
            }
        }
        if client.connection.has_body_left() {
            Box::pin(client.connection.discard_body()).await;
        }
        if !client.connection.is_open() {
            break;
        }
    }
    // Whoever has seen the end finds the request in the log.
    event_loop.write_lines();
    close(client).await;
}

fn close(client: Box<Client>) -> Later<'static> {
    let Client { connection, .. } = *client;
    Box::pin(connection.close())
}

fn by_http2(event_loop: &Rc<EventLoop>, client: Box<Client>, own: h2::Settings) -> Later<'_> {
    let Client { connection, ends } = *client;
    Box::pin(http2::serve(event_loop, connection, own, ends))
}

/// What was accepted, as a connection.
fn begin(event_loop: &EventLoop, accepted: Box<Accepted>) -> Option<Box<Client>> {
    let local = local_address(&accepted);
    let peer = Peer { remote: accepted.peer, local };
    let Accepted { socket, address, number, since, requests, proxied, tls, .. } = *accepted;
    let socket = watch(socket, peer.remote).ok()?;
    let (stream, tls) = match tls {
        Some((session, negotiated)) => (Stream::Tls(Encrypted::resume(socket, session)), Some(negotiated)),
        None => (Stream::Plain(socket), None),
    };
    let settings = event_loop.runtime.borrow().head(&address);
    let pool = Rc::clone(&event_loop.pool);
    let connection = Connection::new(stream, settings, pool, &event_loop.deadlines, requests, since);
    let server = local.map_or_else(|| ("localhost".to_owned(), 80), |l| (name_of(l.ip()), l.port()));
    let listener = Known::default();
    let ends = Ends { peer, address, listener, number, since, proxied, tls, plain: false, server };
    Some(Box::new(Client { connection, ends }))
}

/// A connection after its handshake.
enum Secured {
    Http1(Box<Client>),
    Http2(Box<Client>, h2::Settings),
}

/// Shakes hands. `None`: the connection is over.
async fn secure(event_loop: &Rc<EventLoop>, client: Box<Client>) -> Option<Secured> {
    let Client { connection, mut ends } = *client;
    let settings = event_loop.runtime.borrow().head(&ends.address);
    let (stream, input) = connection.into_stream();
    let Stream::Plain(socket) = stream else { return None };
    let (stream, input) = tls::secure(event_loop, socket, input, &mut ends, settings.header_timeout).await?;
    let pool = Rc::clone(&event_loop.pool);
    let mut connection = Connection::new(stream, settings, pool, &event_loop.deadlines, 0, ends.since);
    connection.set_input(input);
    let negotiated = ends.tls.as_deref();
    if negotiated.is_some_and(|tls| tls.alpn.as_deref() == Some(challenges::PROTOCOL)) {
        // The handshake was all that it came for (RFC 8737 §3).
        connection.close().await;
        return None;
    }
    if negotiated.is_some_and(|tls| tls.alpn.as_deref() == Some(b"h2")) {
        let name = negotiated.and_then(|tls| tls.server_name.as_deref());
        let own = event_loop.runtime.borrow().http2_within_tls(&ends, name)?;
        return Some(Secured::Http2(Box::new(Client { connection, ends }), own));
    }
    Some(Secured::Http1(Box::new(Client { connection, ends })))
}

async fn turn_away(event_loop: &EventLoop, mut client: Box<Client>) {
    error_log::write_limited(
        &event_loop.accept_errors,
        Level::Warning,
        format_args!("edge_connections are all in use; a client is answered with 503"),
    );
    // A handshake would cost more than what is saved.
    if event_loop.runtime.borrow().begins_with_tls(&client.ends) {
        return;
    }
    let mut busy = pages::busy(1);
    busy.close = true;
    client.connection.respond(&mut busy, &event_loop.date()).await;
}

/// What HTTP/2 would be spoken with, where a connection may begin with it. By itself, so that nothing is borrowed while
/// a client is waited for.
fn http2_of(event_loop: &EventLoop, client: &Client) -> Option<h2::Settings> {
    let Client { connection, ends } = client;
    if connection.requests() > 0 || ends.tls.is_some() || ends.plain {
        return None;
    }
    event_loop.runtime.borrow().http2(ends)
}

fn is_proxied(event_loop: &EventLoop, ends: &Ends) -> bool {
    let local = ends.peer.local.map(|local| local.ip());
    event_loop.runtime.borrow().site.as_ref().is_some_and(|site| site.is_proxied(&ends.address, local))
}

/// What the PROXY protocol header before the first request says. `None`: there is none, and the connection is closed;
/// whoever sends no header must not choose its address.
async fn proxy_header(connection: &mut Connection, ends: &Ends) -> Option<proxy_protocol::Header> {
    let mut header = None;
    let read = connection.read_preamble(|bytes| {
        let parsed = proxy_protocol::parse(bytes)?;
        let length = parsed.as_ref().map(|(_, length)| *length);
        header = parsed.map(|(header, _)| header);
        Ok::<_, proxy_protocol::Invalid>(length)
    });
    if let Some(Err(error)) = read.await {
        log_client(ends, Level::Error, "reading PROXY protocol", format_args!("{error}"));
        return None;
    }
    header
}

/// A connection that has ended between two requests, or before the first.
#[inline]
fn ended(event_loop: &EventLoop, connection: &Connection, ends: &Ends, is_late: bool) {
    if error_log::enabled(Level::Info) {
        tell_end(event_loop, connection, ends, is_late);
    }
}

/// nginx's lines; gunicorn has none.
#[cold]
fn tell_end(event_loop: &EventLoop, connection: &Connection, ends: &Ends, is_late: bool) {
    let runtime = event_loop.runtime();
    let Some(site) = &runtime.site else { return };
    let client = ends.peer.remote.map_or_else(|| "unix:".to_owned(), |r| r.ip().to_canonical().to_string());
    let context = error_log::Context {
        log: site.error_log(ends),
        connection: ends.number,
        ..error_log::Context::default()
    };
    if connection.requests() > 0 {
        if !is_late {
            let words = format_args!("client {client} closed keepalive connection");
            error_log::write_with(Level::Info, &context, words);
        }
        return;
    }
    let server = match &*ends.address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Fd(number) => format!("fd:{number}"),
    };
    let context = error_log::Context {
        action: Some("waiting for request"),
        client: Some(client.as_bytes()),
        server: Some(server.as_bytes()),
        ..context
    };
    let words = match is_late {
        true if connection.is_ending() => return,
        true => "client timed out (110: Connection timed out)",
        false => "client closed connection",
    };
    error_log::write_with(Level::Info, &context, format_args!("{words}"));
}

/// A response that was written to the logs did not reach the client.
#[cold]
fn lost(ends: &Ends, error: WriteError) {
    let why = match error {
        WriteError::Gone | WriteError::Left => "client prematurely closed connection",
        WriteError::Timeout => "client timed out",
        WriteError::Broken(why) => why,
    };
    log_client(ends, Level::Info, "sending to client", format_args!("{why}"));
}

fn log_client(ends: &Ends, level: Level, action: &'static str, text: std::fmt::Arguments<'_>) {
    let client = ends.peer.remote.map_or_else(|| "unix:".to_owned(), |r| r.ip().to_canonical().to_string());
    let context = error_log::Context {
        connection: ends.number,
        action: Some(action),
        client: Some(client.as_bytes()),
        ..error_log::Context::default()
    };
    error_log::write_with(level, &context, text);
}

/// Gives a connection between two requests to another loop.
fn leave(event_loop: &Rc<EventLoop>, client: Box<Client>, place: usize) {
    let Client { connection, ends } = *client;
    let requests = connection.requests();
    let Ends { peer, address, number, since, proxied, tls, .. } = ends;
    // It fails when the runtime has ended, and the connection with it.
    if let Ok((socket, session)) = connection.into_parts() {
        let tls = session.zip(tls);
        let moved = Accepted { socket, peer: peer.remote, address, number, since, requests, proxied, tls };
        event_loop.hand_over(moved, Some(place));
    }
}

fn watch(socket: OwnedFd, peer: Option<SocketAddr>) -> std::io::Result<Socket> {
    if peer.is_some() {
        TcpStream::from_std(socket.into()).map(Socket::Tcp)
    } else {
        UnixStream::from_std(socket.into()).map(Socket::Unix)
    }
}

fn local_address(accepted: &Accepted) -> Option<SocketAddr> {
    accepted.peer?;
    rustix::net::getsockname(&accepted.socket).ok().and_then(|a| SocketAddr::try_from(a).ok())
}

fn name_of(ip: IpAddr) -> String {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string()),
        IpAddr::V4(v4) => v4.to_string(),
    }
}

/// What a request has to wait for, in a box: an idle connection is small so, and a request that waits for nothing
/// needs none.
pub type Later<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One request and its response. What it has to wait for is returned.
fn exchange<'a>(
    event_loop: &'a Rc<EventLoop>,
    runtime: &'a Rc<Runtime>,
    connection: &'a mut Connection,
    ends: &'a Ends,
    request: &'a mut Request,
    cx: &mut Context<'_>,
) -> Option<Later<'a>> {
    // The last request's location does not decide how the next one's head is read.
    if let Some(site) = &runtime.site
        && let Some(head) = site.head(ends)
    {
        connection.begin_with(Rc::clone(head));
    }
    let begun = exchange::now();
    connection.begin_head();
    match connection.poll_head(cx, request) {
        Poll::Ready(Ok(false)) => {
            connection.close_after();
            ended(event_loop, connection, ends, false);
            None
        }
        Poll::Ready(read) => {
            let exchange = Exchange::Http1(connection);
            answer(event_loop, runtime, exchange, ends, begun, request, read.err())
        }
        Poll::Pending => Some(Box::pin(async move {
            let read = rest_of_head(event_loop, connection, request).await;
            if read == Ok(false) {
                connection.close_after();
                ended(event_loop, connection, ends, false);
                return;
            }
            // What holds may be another since then.
            let runtime = event_loop.runtime();
            let exchange = Exchange::Http1(connection);
            if let Some(later) = answer(event_loop, &runtime, exchange, ends, begun, request, read.err()) {
                later.await;
            }
        })),
    }
}

/// Counts something for as long as it lives.
pub struct Counted<'a>(&'a Count);

impl<'a> Counted<'a> {
    fn new(count: &'a Count) -> Self {
        count.add();
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.take();
    }
}

/// Reads what is missing of a head.
async fn rest_of_head(
    event_loop: &EventLoop,
    connection: &mut Connection,
    request: &mut Request,
) -> Result<bool, Refusal> {
    let _counted = Counted::new(&event_loop.counts().reading);
    poll_fn(|cx| connection.poll_head(cx, request)).await
}

/// A request object, for the next request of any connection.
pub fn give_back(event_loop: &EventLoop, request: Box<Request>) {
    let mut requests = event_loop.requests.borrow_mut();
    if requests.len() < REQUESTS && request.fields.capacity() <= 16 * 1024 {
        requests.push(request);
    }
}

/// A request whose head has been read, or refused: its way, its response and its lines in the logs. What it has to
/// wait for is returned.
pub fn answer<'a>(
    event_loop: &'a Rc<EventLoop>,
    runtime: &'a Rc<Runtime>,
    exchange: Exchange<'a>,
    ends: &'a Ends,
    begun: Instant,
    request: &'a mut Request,
    refusal: Option<Refusal>,
) -> Option<Later<'a>> {
    request.in_early_data = exchange.is_in_early_data();
    if request.in_early_data && refusal.is_none() && !may_be_early(request) {
        return Some(Box::pin(settled(event_loop, runtime, exchange, ends, begun, request)));
    }
    request.peer = ends.peer;
    request.scheme = if ends.tls.is_some() { Scheme::Https } else { Scheme::Http };
    let process = &event_loop.process;
    let counts = event_loop.counts();
    counts.requests.add();
    let counted = Counted::new(&counts.writing);
    let for_authority = refusal.is_none().then(|| process.challenges.response(request)).flatten();
    if let Some(response) = for_authority {
        Some(Box::pin(by_authority(event_loop, exchange, ends, begun, request, response, counted)))
    } else if let Some(site) = &runtime.site {
        site::serve(event_loop, site, exchange, ends, begun, request, refusal, counted)
    } else {
        Some(Box::pin(by_command_line(event_loop, runtime, exchange, ends, begun, request, refusal, counted)))
    }
}

/// Whether a request that came in early data may be served before the handshake is over (RFC 8470 §3): it only looks at
/// something, and nothing follows it that could do more.
fn may_be_early(request: &Request) -> bool {
    request.method.is_safe() && !request.fields.has(Name::Upgrade)
}

/// A request that has to wait until it is known to be no copy of another client's.
async fn settled<'a>(
    event_loop: &'a Rc<EventLoop>,
    runtime: &'a Rc<Runtime>,
    mut exchange: Exchange<'a>,
    ends: &'a Ends,
    begun: Instant,
    request: &'a mut Request,
) {
    let refusal = exchange.settle().await.err();
    if refusal.is_some() {
        exchange.close_after();
    }
    if let Some(later) = answer(event_loop, runtime, exchange, ends, begun, request, refusal) {
        later.await;
    }
}

/// An authority looks for an answer: nothing of the configuration holds for it.
async fn by_authority(
    event_loop: &Rc<EventLoop>,
    mut exchange: Exchange<'_>,
    ends: &Ends,
    begun: Instant,
    request: &mut Request,
    mut response: Response,
    _counted: Counted<'_>,
) {
    exchange.close_after();
    let status = response.status;
    let logged = log::response_fields(event_loop, &response);
    let sent = exchange.respond(&mut response, &event_loop.date()).await;
    let finished = Finished { request, ends: &ends.peer, begun, outcome: None };
    log::finish(event_loop, &finished, status, logged.as_ref(), &sent);
}

#[expect(clippy::too_many_arguments, reason = "all that a request has")]
async fn by_command_line(
    event_loop: &Rc<EventLoop>,
    runtime: &Rc<Runtime>,
    mut exchange: Exchange<'_>,
    ends: &Ends,
    begun: Instant,
    request: &mut Request,
    refusal: Option<Refusal>,
    _counted: Counted<'_>,
) {
    let under_way = log::UnderWay { request, event_loop, begun };
    let request = &mut *under_way.request;
    let mut phases = Phases {
        event_loop,
        runtime: Rc::clone(runtime),
        exchange: exchange.reborrow(),
        ends,
        outcome: None,
    };
    let response = match refusal {
        None => phases.run(request).await,
        Some(refusal) => phases.refuse(request, refusal),
    };
    let outcome = phases.outcome.take();
    let finished = Finished { request, ends: &ends.peer, begun, outcome };
    if let Some(mut response) = response {
        exchange.adapt(&mut response);
        let logged = log::response_fields(event_loop, &response);
        let sent = exchange.respond(&mut response, &event_loop.date()).await;
        // One that could not leave as it was is another by now.
        log::finish(event_loop, &finished, response.status, logged.as_ref(), &sent);
    } else {
        exchange.close_after();
        log::gone(event_loop, &finished);
    }
}
