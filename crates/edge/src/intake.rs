//! What every way of a request shares: its body, and the call of the application.

use std::rc::Rc;
use std::task::{Context, Poll};

use buffering::{BodyBuffer, BufferedBody, Named, ResponseLimits};
use exchange::{Body, BodyError, Fields, Leave, Name, Request, Response};
use handlers::app::{Answer, App, Failure, Outcome, Watch};
use protocol::{ClientEvent, Exchange, h1};

use crate::event_loop::EventLoop;

/// Why a body did not come whole.
pub struct BodyFailure {
    /// The status to answer with; `None`: nobody is left to answer.
    pub status: Option<u16>,
    /// For the log.
    pub words: String,
    /// It is ours and not the client's.
    pub ours: bool,
}

/// The whole body, before a worker hears of the request: `memory` bytes in memory, the rest in a file; all of it in one
/// that is `named`. `settings` are those that hold for it.
pub async fn buffer_body(
    event_loop: &EventLoop,
    exchange: &mut Exchange<'_>,
    request: &Request,
    memory: usize,
    named: Option<Named>,
    settings: &h1::Settings,
) -> Result<BufferedBody, BodyFailure> {
    if !request.has_body() {
        return Ok(BufferedBody::Empty);
    }
    let space = event_loop.process.temp.clone();
    let mut buffer = match named {
        None => BodyBuffer::new(memory, space),
        Some(named) => BodyBuffer::in_file(memory, space, named),
    };
    if let Some(length) = request.content_length {
        buffer.expect(length);
    }
    let body = exchange.body();
    let mut received = 0;
    loop {
        match std::future::poll_fn(|cx| body.poll_data(cx)).await {
            None => break,
            Some(Ok(data)) => {
                received += data.len();
                buffer.push(&data).map_err(|error| no_space(&error))?;
            }
            Some(Err(error)) => return Err(bad_body(error, settings, received, request.content_length)),
        }
    }
    buffer.finish().map_err(|error| no_space(&error))
}

fn no_space(error: &buffering::SpillError) -> BodyFailure {
    BodyFailure {
        status: Some(error.status()),
        words: format!("its body could not be buffered: {error}"),
        ours: true,
    }
}

fn bad_body(error: BodyError, settings: &h1::Settings, received: usize, length: Option<u64>) -> BodyFailure {
    let of = || {
        length.map_or_else(|| format!("{received} bytes"), |length| format!("{received} of {length} bytes"))
    };
    let words = match error {
        BodyError::Gone => format!("the client left while it sent the body, after {}", of()),
        BodyError::Timeout => {
            let seconds = settings.body_timeout.as_secs_f64();
            format!("the body stopped for client_body_timeout ({seconds} s), after {}", of())
        }
        BodyError::Malformed(words) => words.to_owned(),
        BodyError::TooLarge => {
            let limit = settings.max_body.unwrap_or_default();
            format!("the body, sent in chunks, is larger than client_max_body_size ({limit} bytes)")
        }
    };
    BodyFailure { status: error.status(), words, ours: false }
}

/// Gives the request to the application and waits for its answer, or until the client has left. `limits` hold for the
/// answer in place of the application's. `hints`: what the application says before it answers goes on to the client.
pub async fn call(
    app: &Rc<App>,
    exchange: &mut Exchange<'_>,
    request: &Request,
    body: &BufferedBody,
    server: (&str, u16),
    limits: Option<ResponseLimits>,
    hints: bool,
) -> Answer {
    let mut watch = ClientWatch { exchange, probed: false, hints };
    let mut answer = app.call(request, body, server, &mut watch, limits).await;
    if let Ok(response) = &mut answer.result
        && matches!(response.body, Body::Stream(_))
    {
        response.leave = leave(response);
    }
    answer
}

/// When the client of an application's answer counts as gone while nothing comes. One that only sends nothing more still
/// listens; but of events there may be none for hours, and nobody waits for them who has ended its side.
fn leave(response: &Response) -> Leave {
    const EVENTS: &[u8] = b"text/event-stream";
    let kind = response.fields.first(Name::ContentType).and_then(|value| value.get(..EVENTS.len()));
    match kind {
        Some(kind) if kind.eq_ignore_ascii_case(EVENTS) => Leave::Ended,
        _ => Leave::Broken,
    }
}

/// The same for what goes on without the client. `is_known`: it was served before.
pub async fn call_alone(
    app: &Rc<App>,
    is_known: bool,
    request: &Request,
    body: &BufferedBody,
    server: (&str, u16),
    limits: Option<ResponseLimits>,
) -> Answer {
    app.call(request, body, server, &mut Nobody { is_known }, limits).await
}

/// The status for a failure of the application's side, and the words for the log. 499: nobody is left to answer.
pub fn describe(failure: Failure, outcome: Outcome) -> (u16, &'static str) {
    match failure {
        Failure::QueueFull => (503, "the queue is full (queue_size)"),
        Failure::QueueTimeout => (503, "no worker was free in time (queue_timeout)"),
        Failure::Abandoned => (503, "all ends, and no process of its application is left"),
        Failure::WorkerDied if outcome.attempts > 1 => (502, "two workers died while they ran it"),
        Failure::WorkerDied => (502, "its worker died, and the method does not allow a second run"),
        Failure::Overran => (504, "its worker overran the timeout"),
        Failure::AppFailed => (500, "the application failed before it answered"),
        Failure::Protocol => (502, "its worker broke the bridge's protocol"),
        Failure::NoSpace => (503, "its body found no room in a temporary file (max_temp_space)"),
        Failure::TooLarge => (431, "its head does not fit a slot of the bridge"),
        Failure::GoneQueued => (499, "the client left while it was queued; it never ran"),
        Failure::Gone => (499, "the client left while it ran"),
    }
}

/// Ready when the client has left. One that only sends nothing more has not.
pub fn poll_gone(exchange: &mut Exchange<'_>, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        match exchange.poll_client(cx) {
            Poll::Ready(ClientEvent::Gone) => return Poll::Ready(()),
            Poll::Ready(ClientEvent::HalfClosed) => {}
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Nobody waits, so nobody leaves.
struct Nobody {
    is_known: bool,
}

impl Watch for Nobody {
    fn poll_gone(&mut self, _: &mut Context<'_>, _: bool) -> Poll<()> {
        Poll::Pending
    }

    fn is_known(&self) -> bool {
        self.is_known
    }

    fn early_hints(&mut self, _: &Fields) {}
}

/// Tells the application's queue when the client is gone.
struct ClientWatch<'a, 'e> {
    exchange: &'a mut Exchange<'e>,
    probed: bool,
    hints: bool,
}

impl Watch for ClientWatch<'_, '_> {
    fn poll_gone(&mut self, cx: &mut Context<'_>, queued: bool) -> Poll<()> {
        loop {
            match self.exchange.poll_client(cx) {
                Poll::Ready(ClientEvent::Gone) => return Poll::Ready(()),
                // Has it left, or does it only send nothing more? What is queued need not run for nobody.
                Poll::Ready(ClientEvent::HalfClosed) if queued && !self.probed => {
                    self.probed = true;
                    self.exchange.probe();
                }
                Poll::Ready(ClientEvent::HalfClosed) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_known(&self) -> bool {
        self.exchange.is_known()
    }

    fn early_hints(&mut self, fields: &Fields) {
        if self.hints {
            self.exchange.early_hints(fields);
        }
    }
}
