//! What is written about a request.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use exchange::{Fields, Peer, Request, Response};
use handlers::app::Outcome;
use protocol::{Sent, WriteError};
use telemetry::error_log::{self, Level};
use telemetry::{AccessEvent, FieldSource};

use crate::event_loop::EventLoop;

/// A request that is over.
pub struct Finished<'a> {
    /// Its head.
    pub request: &'a Request,
    /// The ends of its connection.
    pub ends: &'a Peer,
    /// When its head was asked for.
    pub begun: Instant,
    /// Its way through the application.
    pub outcome: Option<Outcome>,
}

/// The fields of a response, kept for the access log while the response is sent.
pub fn response_fields(event_loop: &EventLoop, response: &Response) -> Option<Logged> {
    event_loop.access.borrow().as_ref()?;
    Some(Logged { fields: response.fields.clone(), own: response.logged.clone() })
}

/// What the access log is to have of a response.
#[derive(Debug)]
pub struct Logged {
    fields: Fields,
    /// What only the log is told, and what may change as long as the body has not ended.
    own: Option<Rc<RefCell<Fields>>>,
}

/// Writes the access line, and an error line when the response did not reach the client whole.
pub fn finish(
    event_loop: &EventLoop,
    finished: &Finished<'_>,
    status: u16,
    logged: Option<&Logged>,
    sent: &Sent,
) {
    match sent.outcome {
        Ok(()) => {}
        Err(WriteError::Gone | WriteError::Left) => {
            fault(
                Level::Debug,
                finished.request,
                status,
                "the client left before the response's end",
                finished.outcome,
            );
        }
        Err(WriteError::Timeout) => {
            fault(
                Level::Info,
                finished.request,
                status,
                "the client took nothing for send_timeout",
                finished.outcome,
            );
        }
        Err(WriteError::Broken(why)) => fault(Level::Error, finished.request, status, why, finished.outcome),
    }
    access(event_loop, finished, status, logged, sent.body);
}

/// Writes the access line of a request whose client left before there was a response: nginx's 499.
pub fn gone(event_loop: &EventLoop, finished: &Finished<'_>) {
    if !finished.request.method.as_bytes().is_empty() && !finished.request.target.is_empty() {
        access(event_loop, finished, 499, None, 0);
    }
}

/// What is said of a request that was still under way when all ended, or of what comes behind its response.
pub fn cut(begun: Instant, is_answered: bool) -> String {
    let what = if is_answered { "what comes behind the response" } else { "the request" };
    format!("{what} was cut at the end, after {:.1} s", begun.elapsed().as_secs_f64())
}

/// A request that may be cut at the end of all, which is then said.
pub struct UnderWay<'a> {
    /// The request.
    pub request: &'a mut Request,
    /// Where it is served.
    pub event_loop: &'a EventLoop,
    /// When its head was asked for.
    pub begun: Instant,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        // One whose head was refused has no target.
        if self.event_loop.is_cutting() && !self.request.target.is_empty() {
            fault(Level::Warning, self.request, 0, &cut(self.begun, false), None);
        }
    }
}

/// Bytes of a request line that is no good.
const SHOWN: usize = 100;

static NO_FIELDS: Fields = Fields::new();

/// Fields as the access log asks for them, and those that are its own. Of several lines gunicorn writes the last.
struct Section<'a>(&'a Fields, &'a Fields);

impl FieldSource for Section<'_> {
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        let all = self.0.iter().chain(self.1.iter());
        all.filter(|(_, n, _)| n.eq_ignore_ascii_case(name)).map(|(.., value)| value).last()
    }
}

fn access(event_loop: &EventLoop, finished: &Finished<'_>, status: u16, logged: Option<&Logged>, bytes: u64) {
    let mut writer = event_loop.access.borrow_mut();
    let Some(writer) = &mut *writer else { return };
    let now = Instant::now();
    let request = finished.request;
    let own = logged.and_then(|logged| Some(logged.own.as_ref()?.borrow()));
    let event = AccessEvent {
        remote: request.peer.remote,
        local: finished.ends.local,
        scheme: request.scheme.as_str(),
        method: if request.target.is_empty() { b"" } else { request.method.as_bytes() },
        target: &request.target,
        path: &request.path,
        query: &request.query,
        version: request.version.as_str(),
        status,
        bytes,
        duration: now.saturating_duration_since(finished.begun),
        queued: finished.outcome.map(|o| o.queued),
        attempts: finished.outcome.map_or(0, |o| u8::try_from(o.attempts).unwrap_or(u8::MAX)),
        pid: finished.outcome.map(|o| o.pid).filter(|&pid| pid != 0).unwrap_or_else(std::process::id),
        time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64),
        request_fields: &Section(&request.fields, &NO_FIELDS),
        response_fields: &Section(
            logged.map_or(&NO_FIELDS, |logged| &logged.fields),
            own.as_deref().unwrap_or(&NO_FIELDS),
        ),
    };
    if writer.log(&event, now) {
        event_loop.lines.notify_one();
    }
}

/// One line about a request that failed: what (000 is no status), which, whose, why.
pub fn fault(level: Level, request: &Request, status: u16, why: &str, outcome: Option<Outcome>) {
    if !error_log::enabled(level) {
        return;
    }
    let method = String::from_utf8_lossy(request.method.as_bytes());
    let target = String::from_utf8_lossy(&request.target);
    let host = String::from_utf8_lossy(&request.authority);
    let client = request.peer.remote.map_or_else(|| "unix".to_owned(), |r| r.ip().to_string());
    match outcome.filter(|o| o.pid != 0) {
        Some(outcome) => error_log::write(
            level,
            format_args!(
                "{status:03} {method} {target}: {why} (client {client}, host {host}, worker {})",
                outcome.pid
            ),
        ),
        None => error_log::write(
            level,
            format_args!("{status:03} {method} {target}: {why} (client {client}, host {host})"),
        ),
    }
}

/// One line about bytes that are no request, or one that is not read to its end: as far as it is known, which.
pub fn refused(peer: Option<SocketAddr>, request: &Request, status: u16, why: &str) {
    let client = peer.map_or_else(|| "unix".to_owned(), |r| r.ip().to_string());
    let mut which = String::new();
    if request.target.is_empty() {
        let shown = &request.line[..request.line.len().min(SHOWN)];
        which.push_str(&String::from_utf8_lossy(shown));
        which.push_str(if shown.len() < request.line.len() { "..." } else { "" });
    } else {
        which.push_str(&String::from_utf8_lossy(request.method.as_bytes()));
        which.push(' ');
        which.push_str(&String::from_utf8_lossy(&request.target));
    }
    let host = if request.authority.is_empty() { "" } else { ", host " };
    let authority = String::from_utf8_lossy(&request.authority);
    error_log::write(Level::Info, format_args!("{status} {which}: {why} (client {client}{host}{authority})"));
}
