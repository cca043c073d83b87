//! A request by gunicorn's command line: directories, and everything else is the application's.

use std::rc::Rc;
use std::sync::Once;

use buffering::BufferedBody;
use exchange::{Method, Name, Request, Response, Scheme};
use handlers::app::{Answer, Outcome};
use handlers::files::{AccelAnswer, Outcome as FileOutcome};
use http1::{HeadError, Limits};
use protocol::{Exchange, Refusal};
use telemetry::error_log::Level;

use crate::connection::Ends;
use crate::event_loop::EventLoop;
use crate::intake::{self, BodyFailure};
use crate::runtime::Runtime;
use crate::{forwarded, log, pages};

/// nginx's phases, as far as there is something to do in them.
pub struct Phases<'a> {
    /// The loop.
    pub event_loop: &'a Rc<EventLoop>,
    /// What holds.
    pub runtime: Rc<Runtime>,
    /// The client.
    pub exchange: Exchange<'a>,
    /// Who is at its two ends.
    pub ends: &'a Ends,
    /// What the application's part was.
    pub outcome: Option<Outcome>,
}

impl Phases<'_> {
    /// From the head to the response; `None` when nobody is left to answer.
    pub async fn run(&mut self, request: &mut Request) -> Option<Response> {
        // post_read: who is it really.
        forwarded::drop_underscores(&self.runtime.forwarded, request);
        if let Err(why) = forwarded::apply(&self.runtime.forwarded, request) {
            log::refused(self.ends.peer.remote, request, 400, why);
            return Some(pages::closing(400));
        }
        if self.ends.plain {
            let why = "the client speaks plain HTTP to a port of TLS";
            log::refused(self.ends.peer.remote, request, 400, why);
            return Some(pages::not_tls());
        }
        if request.scheme == Scheme::Http
            && let Some(port) = self.runtime.redirect(self.ends)
        {
            return Some(pages::to_tls(request, port));
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
            return Some(match server.serve(request, rest, exchange::now()) {
                FileOutcome::Response(response) => response,
                FileOutcome::NotFound => pages::page(404),
            });
        }
        let body = match self.body(request).await {
            Ok(body) => body,
            Err(failed) => return failed,
        };
        let response = self.application(request, &body).await?;
        Some(self.accelerate(request, response))
    }

    /// The whole body, before a worker hears of the request.
    async fn body(&mut self, request: &Request) -> Result<BufferedBody, Option<Response>> {
        let memory = self.runtime.body_memory;
        let runtime = Rc::clone(&self.runtime);
        let buffered =
            intake::buffer_body(self.event_loop, &mut self.exchange, request, memory, None, &runtime.h1)
                .await;
        buffered.map_err(|BodyFailure { status, words, ours }| {
            let level = if ours { Level::Error } else { Level::Info };
            log::fault(level, request, status.unwrap_or(499), &words, None);
            status.map(pages::closing)
        })
    }

    async fn application(&mut self, request: &Request, body: &BufferedBody) -> Option<Response> {
        let app = Rc::clone(&self.runtime.apps[0]);
        let called = if self.ends.peer.local.is_none() { called(request) } else { None };
        let server = called.unwrap_or((self.ends.server.0.as_str(), self.ends.server.1));
        let Answer { result, outcome } =
            intake::call(&app, &mut self.exchange, request, body, server, None, true).await;
        self.outcome = Some(outcome);
        match result {
            Ok(response) => Some(response),
            Err(failure) => {
                let (status, words) = intake::describe(failure, outcome);
                let level = if status == 499 { Level::Info } else { Level::Error };
                log::fault(level, request, status, words, Some(outcome));
                match status {
                    499 => None,
                    503 => Some(pages::busy(app.retry_after(exchange::now()))),
                    status => Some(pages::page(status)),
                }
            }
        }
    }

    /// `X-Accel-Redirect` and `X-Sendfile` of the application.
    fn accelerate(&self, request: &Request, mut response: Response) -> Response {
        // What the application has told the log stays true of the file in its place.
        let logged = response.logged.take();
        let mut response = self.accelerated(request, response);
        response.logged = logged;
        response
    }

    fn accelerated(&self, request: &Request, response: Response) -> Response {
        match self.runtime.accel.apply(request, response, exchange::now()) {
            AccelAnswer::Untouched(response) => {
                self.tell_of_accel(request, &response);
                response
            }
            AccelAnswer::File(response) => response,
            AccelAnswer::Refused(response, why) => {
                log::fault(Level::Error, request, response.status, why, self.outcome);
                response
            }
        }
    }

    /// Says once that what the application points at is not sent: who stood in front of it before may have done that.
    fn tell_of_accel(&self, request: &Request, response: &Response) {
        static TOLD: Once = Once::new();
        let fields = [Name::XAccelRedirect, Name::XSendfile];
        let Some(name) = fields.into_iter().find(|name| response.fields.has(*name)) else { return };
        if self.runtime.accel.is_empty() {
            let words = format!(
                "the application answers with `{}`, which goes to the client as it is; to send the file in its place, \
                 say where it may point, as `--accel /internal/=/srv/files` (told once)",
                if name == Name::XSendfile { "X-Sendfile" } else { "X-Accel-Redirect" },
            );
            TOLD.call_once(|| log::fault(Level::Warning, request, response.status, &words, self.outcome));
        }
    }

    /// What a head that is refused is answered with.
    pub fn refuse(&self, request: &Request, refusal: Refusal) -> Option<Response> {
        let status = refusal.status()?;
        let h1 = &self.runtime.h1;
        let seconds = h1.header_timeout.as_secs_f64();
        let words = match refusal {
            Refusal::Gone | Refusal::Reset => return None,
            Refusal::Timeout => {
                format!("the head did not arrive within client_header_timeout ({seconds} s)")
            }
            Refusal::Head(error) => match exceeded(error, &h1.limits) {
                Some((setting, limit)) => format!("{error} ({setting} is {limit})"),
                None => error.to_string(),
            },
            Refusal::Path(error) => error.as_str().to_owned(),
            Refusal::TooEarly => {
                format!("the handshake did not come to its end within client_header_timeout ({seconds} s)")
            }
            Refusal::TooLarge => format!(
                "a body of {} bytes is announced, client_max_body_size is {}",
                request.content_length.unwrap_or_default(),
                h1.max_body.unwrap_or_default()
            ),
        };
        log::refused(self.ends.peer.remote, request, status, &words);
        Some(pages::closing(status))
    }
}

/// The setting that a head goes beyond, and what it allows.
fn exceeded(error: HeadError, limits: &Limits) -> Option<(&'static str, usize)> {
    Some(match error {
        HeadError::RequestLineTooLong => ("limit_request_line", limits.request_line),
        HeadError::TooManyFields => ("limit_request_fields", limits.fields),
        HeadError::FieldTooLong => ("limit_request_field_size", limits.field_size),
        HeadError::HeadTooLong => ("limit_request_head", limits.head),
        _ => return None,
    })
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

/// `SERVER_NAME` and `SERVER_PORT` where the connection has neither, as over a Unix socket: what the request calls us, as
/// with gunicorn.
fn called(request: &Request) -> Option<(&str, u16)> {
    let authority = std::str::from_utf8(&request.authority).ok().filter(|text| !text.is_empty())?;
    let usual = match request.scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => Some((name, port.parse().unwrap_or(usual))),
        _ => Some((authority, usual)),
    }
}
