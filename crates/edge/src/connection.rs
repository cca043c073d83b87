//! One client connection, and the phases of each of its requests.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use buffering::{BodyBuffer, BufferedBody};
use config::model::Address;
use exchange::{BodyError, Method, Name, Peer, Request, Response};
use handlers::app::{Answer, Failure, Outcome, Watch};
use handlers::files::{AccelAnswer, Outcome as FileOutcome};
use protocol::Stream;
use protocol::h1::{ClientEvent, Connection, Idle, Refusal};
use telemetry::error_log::{self, Level};
use tokio::net::{TcpStream, UnixStream};

use crate::accept::Accepted;
use crate::event_loop::EventLoop;
use crate::log::{self, Finished};
use crate::runtime::Runtime;
use crate::{forwarded, pages};

/// Request objects that a loop keeps.
const REQUESTS: usize = 256;

/// What is known of the connection, whatever is asked on it.
struct Ends {
    peer: Peer,
    /// Where it was accepted.
    address: Arc<Address>,
    /// Its number among all.
    number: u64,
    /// When it was accepted.
    since: Instant,
    /// `SERVER_NAME` and `SERVER_PORT`.
    server: (String, u16),
}

/// Serves a connection to its end. `refused`: there are too many, it is only told so.
pub async fn serve(event_loop: &Rc<EventLoop>, accepted: Accepted, refused: bool) {
    let local = local_address(&accepted);
    let peer = Peer { remote: accepted.peer, local };
    let Accepted { socket, address, number, since, requests, .. } = accepted;
    let Ok(stream) = stream(socket, peer.remote) else { return };
    let settings = Rc::clone(&event_loop.runtime.borrow().h1);
    let pool = Rc::clone(&event_loop.pool);
    let mut connection = Connection::new(stream, settings, pool, &event_loop.deadlines, requests);
    if refused {
        error_log::write_limited(
            &event_loop.accept_errors,
            Level::Warning,
            format_args!("edge_connections are all in use; a client is answered with 503"),
        );
        let mut busy = pages::busy(1);
        busy.close = true;
        connection.respond(busy, &event_loop.date()).await;
        return;
    }
    let server = local.map_or_else(|| ("localhost".to_owned(), 80), |l| (name_of(l.ip()), l.port()));
    let ends = Ends { peer, address, number, since, server };
    loop {
        if connection.is_movable()
            && let Some(place) = event_loop.process.spread.move_to(event_loop.index)
        {
            return leave(event_loop, connection, ends, place);
        }
        if connection.idle().await == Idle::Over {
            break;
        }
        // In a box, so that an idle connection is small.
        Box::pin(exchange(event_loop, &mut connection, &ends)).await;
        if !connection.is_open() {
            break;
        }
    }
    connection.close().await;
}

/// Gives a connection between two requests to another loop.
fn leave(event_loop: &Rc<EventLoop>, connection: Connection, ends: Ends, place: usize) {
    let requests = connection.requests();
    let Ends { peer, address, number, since, .. } = ends;
    // It fails when the runtime has ended, and the connection with it.
    if let Ok(socket) = connection.into_socket() {
        let moved = Accepted { socket, peer: peer.remote, address, number, since, requests };
        event_loop.hand_over(moved, Some(place));
    }
}

fn stream(socket: OwnedFd, peer: Option<SocketAddr>) -> std::io::Result<Stream> {
    if peer.is_some() {
        TcpStream::from_std(socket.into()).map(Stream::Tcp)
    } else {
        UnixStream::from_std(socket.into()).map(Stream::Unix)
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

/// One request and its response.
async fn exchange(event_loop: &Rc<EventLoop>, connection: &mut Connection, ends: &Ends) {
    let mut request = event_loop.requests.borrow_mut().pop().unwrap_or_default();
    let begun = Instant::now();
    let read = connection.read_head(&mut request).await;
    if read == Ok(false) {
        connection.close_after();
        return;
    }
    request.peer = ends.peer;
    let runtime = Rc::clone(&event_loop.runtime.borrow());
    let mut phases = Phases { event_loop, runtime, connection, ends, outcome: None };
    let response = match read {
        Ok(_) => phases.run(&mut request).await,
        Err(refusal) => phases.refuse(&request, refusal),
    };
    let outcome = phases.outcome.take();
    let finished = Finished { request: &request, ends: &ends.peer, begun, outcome };
    if let Some(response) = response {
        let status = response.status;
        let logged = log::response_fields(event_loop, &response);
        let sent = connection.respond(response, &event_loop.date()).await;
        log::finish(event_loop, &finished, status, logged.as_ref(), &sent);
    } else {
        connection.close_after();
        log::gone(event_loop, &finished);
    }
    let mut requests = event_loop.requests.borrow_mut();
    if requests.len() < REQUESTS && request.fields.capacity() <= 16 * 1024 {
        requests.push(request);
    }
}

/// nginx's phases, as far as there is something to do in them.
struct Phases<'a> {
    event_loop: &'a Rc<EventLoop>,
    runtime: Rc<Runtime>,
    connection: &'a mut Connection,
    ends: &'a Ends,
    outcome: Option<Outcome>,
}

impl Phases<'_> {
    /// From the head to the response; `None` when nobody is left to answer.
    async fn run(&mut self, request: &mut Request) -> Option<Response> {
        // post_read: who is it really.
        drop_underscores(&self.runtime.forwarded, request, self.ends.peer.remote);
        if let Err(why) = forwarded::apply(&self.runtime.forwarded, request) {
            log::refused(self.ends.peer.remote, request, 400, why);
            return Some(pages::closing(400));
        }
        // preaccess: what no location is asked for.
        if let Some(response) = refuse_method(request) {
            return Some(response);
        }
        // content
        let mut response = self.content(request).await?;
        // The filters, in their order.
        self.runtime.filters.apply(request, &mut response);
        Some(response)
    }

    async fn content(&mut self, request: &mut Request) -> Option<Response> {
        let runtime = Rc::clone(&self.runtime);
        if let Some((server, rest)) = runtime.static_for(&request.path) {
            return Some(match server.serve(request, rest, Instant::now()) {
                FileOutcome::Response(response) => response,
                FileOutcome::NotFound => pages::page(404),
            });
        }
        let body = match self.buffer_body(request).await {
            Ok(body) => body,
            Err(failed) => return failed,
        };
        let response = self.application(request, &body).await?;
        Some(self.accelerate(request, response))
    }

    /// The whole body, before a worker hears of the request.
    async fn buffer_body(&mut self, request: &Request) -> Result<BufferedBody, Option<Response>> {
        if !request.has_body() {
            return Ok(BufferedBody::Empty);
        }
        let mut buffer = BodyBuffer::new(self.runtime.body_memory, self.event_loop.process.temp.clone());
        if let Some(length) = request.content_length {
            buffer.expect(length);
        }
        let body = self.connection.body();
        loop {
            match std::future::poll_fn(|cx| body.poll_data(cx)).await {
                None => break,
                Some(Ok(data)) => {
                    if let Err(error) = buffer.push(&data) {
                        return Err(Some(no_space(request, &error)));
                    }
                }
                Some(Err(error)) => return Err(bad_body(request, error)),
            }
        }
        buffer.finish().map_err(|error| Some(no_space(request, &error)))
    }

    async fn application(&mut self, request: &Request, body: &BufferedBody) -> Option<Response> {
        let app = Rc::clone(&self.runtime.apps[0]);
        let server = (self.ends.server.0.as_str(), self.ends.server.1);
        let mut watch = ClientWatch { connection: self.connection, probed: false };
        let Answer { result, outcome } = app.call(request, body, server, &mut watch).await;
        self.outcome = Some(outcome);
        match result {
            Ok(response) => Some(response),
            Err(failure) => self.failed(request, failure, outcome),
        }
    }

    fn failed(&self, request: &Request, failure: Failure, outcome: Outcome) -> Option<Response> {
        let (status, words) = match failure {
            Failure::QueueFull => (503, "the queue is full (queue_size)"),
            Failure::QueueTimeout => (503, "no worker was free in time (queue_timeout)"),
            Failure::WorkerDied if outcome.attempts > 1 => (502, "two workers died while they ran it"),
            Failure::WorkerDied => (502, "its worker died, and the method does not allow a second run"),
            Failure::Overran => (504, "its worker overran the timeout"),
            Failure::AppFailed => (500, "the application failed before it answered"),
            Failure::Protocol => (502, "its worker broke the bridge's protocol"),
            Failure::TooLarge => (431, "its head does not fit a slot of the bridge"),
            Failure::GoneQueued => (499, "the client left while it was queued; it never ran"),
            Failure::Gone => (499, "the client left while it ran"),
        };
        let level = if status == 499 { Level::Info } else { Level::Error };
        log::fault(level, request, status, words, Some(outcome));
        match status {
            499 => None,
            503 => Some(pages::busy(self.runtime.apps[0].retry_after(Instant::now()))),
            status => Some(pages::page(status)),
        }
    }

    /// `X-Accel-Redirect` and `X-Sendfile` of the application.
    fn accelerate(&self, request: &Request, response: Response) -> Response {
        match self.runtime.accel.apply(request, response, Instant::now()) {
            AccelAnswer::Untouched(response) | AccelAnswer::File(response) => response,
            AccelAnswer::Refused(response, why) => {
                log::fault(Level::Error, request, response.status, why, self.outcome);
                response
            }
        }
    }

    fn refuse(&self, request: &Request, refusal: Refusal) -> Option<Response> {
        let status = refusal.status()?;
        let words = match refusal {
            Refusal::Gone => return None,
            Refusal::Timeout => "the head did not arrive within client_header_timeout".to_owned(),
            Refusal::Head(error) => error.to_string(),
            Refusal::Path(error) => error.as_str().to_owned(),
            Refusal::TooLarge => "the body is announced larger than client_max_body_size".to_owned(),
        };
        log::refused(self.ends.peer.remote, request, status, &words);
        Some(pages::closing(status))
    }
}

/// Methods that no location is asked for: a tunnel and an echo are not offered, and `OPTIONS *` asks about
/// the server itself.
fn refuse_method(request: &Request) -> Option<Response> {
    match request.method {
        Method::Connect => Some(pages::closing(405)),
        Method::Trace => Some(pages::page(405)),
        Method::Options if request.path == b"*" => {
            let mut response = Response::new(200);
            response.fields.push_known(Name::Allow, b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH");
            Some(response)
        }
        _ => None,
    }
}

/// Fields with an underscore, where the codec had to keep them for the sake of trusted proxies.
fn drop_underscores(settings: &config::model::Forwarded, request: &mut Request, peer: Option<SocketAddr>) {
    if settings.header_map != config::model::HeaderMap::Drop || settings.forwarder_headers.is_empty() {
        return;
    }
    let trusted = peer.is_none_or(|p| settings.trusted.contains(p.ip()));
    let unwanted: Vec<Vec<u8>> = request
        .fields
        .iter()
        .filter(|(_, name, _)| name.contains(&b'_'))
        .filter(|(_, name, _)| {
            !trusted || !settings.forwarder_headers.iter().any(|h| h.as_bytes().eq_ignore_ascii_case(name))
        })
        .map(|(_, name, _)| name.to_vec())
        .collect();
    for name in unwanted {
        request.fields.remove_named(&name);
    }
}

fn no_space(request: &Request, error: &buffering::SpillError) -> Response {
    log::fault(
        Level::Error,
        request,
        error.status(),
        &format!("its body could not be buffered: {error}"),
        None,
    );
    let mut response = pages::page(error.status());
    response.close = true;
    response
}

fn bad_body(request: &Request, error: BodyError) -> Option<Response> {
    let words = match error {
        BodyError::Gone => "the client left while it sent the body",
        BodyError::Timeout => "the body stopped for client_body_timeout",
        BodyError::Malformed(words) => words,
        BodyError::TooLarge => "the body is larger than client_max_body_size",
    };
    let status = error.status();
    log::fault(Level::Info, request, status.unwrap_or(499), words, None);
    status.map(pages::closing)
}

/// Tells the application's queue when the client is gone.
struct ClientWatch<'a> {
    connection: &'a mut Connection,
    probed: bool,
}

impl Watch for ClientWatch<'_> {
    fn poll_gone(&mut self, cx: &mut Context<'_>, queued: bool) -> Poll<()> {
        loop {
            match self.connection.poll_client(cx) {
                Poll::Ready(ClientEvent::Gone) => return Poll::Ready(()),
                // Has it left, or does it only send nothing more? What is queued need not run for nobody.
                Poll::Ready(ClientEvent::HalfClosed) if queued && !self.probed => {
                    self.probed = true;
                    self.connection.probe();
                }
                Poll::Ready(ClientEvent::HalfClosed) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
