//! One call of the application, from the queue to the response.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use bridge::edge::{BodyPart, PublishError, RequestFrame, ResponseHead, SlotState};
use buffering::{BodyBuffer, BufferedBody, ResponseBuffer, ResponseLimits, SpillError};
use bytes::BytesMut;
use exchange::{
    Body, Chunk, ChunkStream, Fields, Name, Request, Response, Scheme, SendForeign, StreamError, Version,
};

use super::reply::{End, Outcome, Pending, Phase, announced_length, is_for_log};
use super::{App, Options};

/// A response whose body has ended by the time its head is read, up to this size, is handed on in one piece.
const WHOLE_LIMIT: u64 = 64 * 1024;

/// Why there is no response. The edge makes one of it and a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The queue is full: 503.
    QueueFull,
    /// No worker was free for `queue_timeout`: 503.
    QueueTimeout,
    /// All ends, and no process of the application is left: 503.
    Abandoned,
    /// The worker died, and the request may not run again, or has run twice: 502.
    WorkerDied,
    /// The worker overran `timeout`: 504.
    Overran,
    /// The application failed before there was a head: 500.
    AppFailed,
    /// The worker's answer broke the bridge's protocol: 502.
    Protocol,
    /// Its head does not fit a slot: 431.
    TooLarge,
    /// Its body, which fits memory and no slot, found no room in a file: 503.
    NoSpace,
    /// The client left while the request was queued; it never ran.
    GoneQueued,
    /// The client left while the request ran.
    Gone,
}

/// A response, and how it came about.
pub struct Answer {
    /// What to send.
    pub result: Result<Response, Failure>,
    /// For the log; grows as the response goes on.
    pub outcome: Outcome,
}

/// The watch over the client while the request waits.
pub trait Watch {
    /// Ready when the client is gone. `queued` tells whether no worker has the request yet.
    fn poll_gone(&mut self, cx: &mut Context<'_>, queued: bool) -> Poll<()>;

    /// Whether its connection was served before. It goes before new ones.
    fn is_known(&self) -> bool;

    /// Tells the client of what the response will want (103).
    fn early_hints(&mut self, fields: &Fields);
}

impl App {
    /// Runs the request. Its body is complete. `limits` hold for the response in place of the application's.
    pub async fn call(
        self: &Rc<Self>,
        request: &Request,
        body: &BufferedBody,
        server: (&str, u16),
        watch: &mut dyn Watch,
        limits: Option<ResponseLimits>,
    ) -> Answer {
        let options = Rc::clone(&self.options.borrow());
        let mut attempts = 0;
        let mut spilled = None;
        loop {
            attempts += 1;
            let buffer = match limits {
                Some(limits) => ResponseBuffer::new(limits, Arc::clone(&self.temp)),
                None => self.new_buffer(),
            };
            let pending = Rc::new(Pending::new(buffer, watch.is_known()));
            let guard = Guard { app: self, pending, request, armed: true };
            let kept = spilled.as_ref().unwrap_or(body);
            let mut result = self.attempt(&guard.pending, request, kept, server, &options, watch).await;
            // A body that memory held but a slot does not: the worker gets it as a file.
            if result == Err(Failure::TooLarge)
                && let BufferedBody::Memory(bytes) = kept
            {
                if let Ok(file) = self.in_file(bytes) {
                    spilled = Some(file);
                    attempts -= 1;
                    continue;
                }
                result = Err(Failure::NoSpace);
            }
            self.note_who(&guard.pending);
            let mut outcome = guard.pending.outcome.get();
            outcome.attempts = attempts;
            if result == Err(Failure::Overran)
                && let Some(worker) = guard.pending.overran_by.get()
            {
                self.report_overrun(worker, label_of(request), &options);
            }
            if result == Err(Failure::WorkerDied) && attempts < 2 && request.method.is_idempotent() {
                continue;
            }
            let response = match &mut result {
                Ok(()) => Ok(self.response(guard)),
                Err(failure) => Err(*failure),
            };
            return Answer { result: response, outcome };
        }
    }

    fn in_file(&self, bytes: &[u8]) -> Result<BufferedBody, SpillError> {
        let mut buffer = BodyBuffer::new(0, Arc::clone(&self.temp));
        buffer.push(bytes)?;
        buffer.finish()
    }

    /// Keeps who answers, for the log; a response that goes on tells it only at its end.
    fn note_who(&self, pending: &Pending) {
        if pending.outcome.get().pid == 0
            && let Some(id) = pending.slot.get()
            && let SlotState::Claimed { claimer, .. } = self.thread.borrow().state(id)
        {
            pending.note_claim(claimer, Instant::now());
            if let Some(worker) = self.shared.worker_of(claimer) {
                pending.note_worker(&worker);
            }
        }
    }

    /// Queues the request once and waits for the head of its response.
    async fn attempt(
        self: &Rc<Self>,
        pending: &Rc<Pending>,
        request: &Request,
        body: &BufferedBody,
        server: (&str, u16),
        options: &Options,
        watch: &mut dyn Watch,
    ) -> Result<(), Failure> {
        if self.shared.is_full(options.queue_size) {
            return Err(Failure::QueueFull);
        }
        let is_known = pending.is_known;
        if !self.has_slot(is_known) || !self.backlog.borrow().has_none_before(is_known) {
            pending.queued.set(true);
            self.backlog.borrow_mut().push(Rc::clone(pending), is_known);
            self.shared.backlog.fetch_add(1, Ordering::Relaxed);
            poll_fn(|cx| {
                let mut reply = pending.reply.borrow_mut();
                if pending.granted.get() {
                    return Poll::Ready(Ok(()));
                }
                match reply.phase {
                    Phase::QueueTimeout => return Poll::Ready(Err(Failure::QueueTimeout)),
                    Phase::Abandoned => return Poll::Ready(Err(Failure::Abandoned)),
                    Phase::Going | Phase::WorkerDied | Phase::Overran => {}
                }
                reply.waker = Some(cx.waker().clone());
                drop(reply);
                watch.poll_gone(cx, true).map(|()| Err(Failure::GoneQueued))
            })
            .await?;
            pending.granted.set(false);
            self.promised.set(self.promised.get() - 1);
        }
        self.count(pending);
        if let Err(failure) = self.send(pending, request, body, server, options) {
            // The slot is for somebody else.
            self.uncount(pending);
            self.grant(&mut self.backlog.borrow_mut());
            return Err(failure);
        }
        poll_fn(|cx| self.poll_head(cx, pending, watch)).await
    }

    fn send(
        &self,
        pending: &Rc<Pending>,
        request: &Request,
        body: &BufferedBody,
        server: (&str, u16),
        options: &Options,
    ) -> Result<(), Failure> {
        let mut decoded = Vec::new();
        let path: &[u8] = if is_another(request) {
            &request.path
        } else if request.raw_path.contains(&b'%') {
            // It was decoded once already, to find its location, so it is well-formed.
            let _ = protocol::decode(&request.raw_path, &mut decoded);
            &decoded
        } else {
            &request.raw_path
        };
        let remote = request.peer.remote;
        let mut address = String::new();
        if let Some(remote) = remote {
            use std::fmt::Write;
            let _ = write!(address, "{}", remote.ip());
        }
        let (length, part) = match body {
            BufferedBody::Empty => (request.has_body().then_some(0), BodyPart::None),
            BufferedBody::Memory(bytes) => (Some(bytes.len() as u64), BodyPart::Bytes(bytes)),
            BufferedBody::File(file) => (Some(file.len()), BodyPart::File(file.len())),
        };
        let frame = RequestFrame {
            version: match request.version {
                Version::Http10 => 10,
                Version::Http11 => 11,
                Version::Http2 => 20,
            },
            is_https: request.scheme == Scheme::Https,
            server_port: server.1,
            remote_port: remote.map_or(0, |r| r.port()),
            content_length: length,
            method: request.method.as_bytes(),
            target: &request.target,
            path,
            query: &request.query,
            script_name: if request.script_name.is_empty() {
                options.root_path.as_bytes()
            } else {
                &request.script_name
            },
            remote_address: address.as_bytes(),
            server_name: server.0.as_bytes(),
            fields: &mut request.fields.iter().map(|(_, name, value)| (name, value)),
        };
        let file = match body {
            BufferedBody::File(file) => Some(file.file()),
            BufferedBody::Empty | BufferedBody::Memory(_) => None,
        };
        match self.publish(frame, part, file, pending) {
            Ok(_) => Ok(()),
            Err(PublishError::TooLarge) => Err(Failure::TooLarge),
            Err(PublishError::Full) => Err(Failure::QueueFull),
        }
    }

    fn poll_head(
        &self,
        cx: &mut Context<'_>,
        pending: &Rc<Pending>,
        watch: &mut dyn Watch,
    ) -> Poll<Result<(), Failure>> {
        {
            let mut reply = pending.reply.borrow_mut();
            for head in reply.hints.drain(..) {
                let mut fields = Fields::new();
                for (name, value) in head.fields() {
                    fields.push(name, value);
                }
                // It has no body, and is no word about the connection.
                for name in [Name::ContentLength, Name::TransferEncoding, Name::Connection, Name::Upgrade] {
                    fields.remove(name);
                }
                watch.early_hints(&fields);
            }
            if reply.head.is_some() {
                match (reply.phase, reply.end) {
                    // Nothing of it has left, so the client need not learn of the death.
                    (Phase::WorkerDied, None) => return Poll::Ready(Err(Failure::WorkerDied)),
                    // The rest will not come. The word of it is on the way, and wakes this.
                    (Phase::Going, None) if self.is_worker_gone(pending) => {}
                    _ => return Poll::Ready(Ok(())),
                }
            }
            match (reply.phase, reply.end) {
                (Phase::QueueTimeout, _) => return Poll::Ready(Err(Failure::QueueTimeout)),
                (Phase::Abandoned, _) => return Poll::Ready(Err(Failure::Abandoned)),
                (Phase::WorkerDied, _) => return Poll::Ready(Err(Failure::WorkerDied)),
                (Phase::Overran, _) => return Poll::Ready(Err(Failure::Overran)),
                (Phase::Going, Some(End::AppFailed)) => return Poll::Ready(Err(Failure::AppFailed)),
                (Phase::Going, Some(_)) => return Poll::Ready(Err(Failure::Protocol)),
                (Phase::Going, None) => {}
            }
            if !reply.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                reply.waker = Some(cx.waker().clone());
            }
        }
        let queued =
            pending.slot.get().is_some_and(|id| matches!(self.thread.borrow().state(id), SlotState::Ready));
        watch.poll_gone(cx, queued).map(|()| Err(if queued { Failure::GoneQueued } else { Failure::Gone }))
    }

    fn is_worker_gone(&self, pending: &Pending) -> bool {
        let state = pending.slot.get().map(|id| self.thread.borrow().state(id));
        let Some(SlotState::Claimed { claimer, .. }) = state else { return false };
        // Of a removed one the word is on the way too.
        self.shared.worker_of(claimer).is_none_or(|worker| worker.is_gone())
    }

    fn response(self: &Rc<Self>, mut guard: Guard<'_>) -> Response {
        let pending = Rc::clone(&guard.pending);
        let (head, logged, whole) = {
            let mut reply = pending.reply.borrow_mut();
            let head = reply.head.take();
            reply.head_taken = true;
            let whole = reply.end == Some(End::Whole) && reply.buffer.len() <= WHOLE_LIMIT;
            let logged = if !whole && self.options.borrow().told {
                // The application may yet say something.
                Some(Rc::clone(reply.logged.get_or_insert_default()))
            } else {
                reply.logged.take()
            };
            (head, logged, whole)
        };
        guard.armed = false;
        if !whole {
            pending.length.set(head.as_ref().and_then(announced_length));
        }
        let mut response = head.map_or_else(|| Response::new(502), |head| response_of(&head));
        response.logged = logged;
        let collected = if whole { collect(&pending) } else { None };
        if let Some(body) = collected {
            response.body = body;
        } else {
            *pending.label.borrow_mut() = Some(label_of(guard.request));
            response.body =
                Body::Stream(Box::new(AppStream { app: Rc::clone(self), pending, unflushed: false }));
        }
        response
    }
}

/// All that has come as one body in memory, if it lies there.
fn collect(pending: &Pending) -> Option<Body> {
    let mut reply = pending.reply.borrow_mut();
    if !reply.buffer.is_in_memory() {
        return None;
    }
    let Some(Chunk::Data(first)) = reply.buffer.pop() else { return Some(Body::Empty) };
    if reply.buffer.is_empty() {
        return Some(Body::Full(first));
    }
    let mut all = BytesMut::from(first.as_ref());
    while let Some(Chunk::Data(more)) = reply.buffer.pop() {
        all.extend_from_slice(&more);
    }
    Some(Body::Full(all.freeze()))
}

fn response_of(head: &ResponseHead) -> Response {
    let mut response = Response::new(head.status());
    let reason = head.reason();
    if !reason.is_empty() && reason != http1_reason(head.status()) {
        response.reason = Some(head.bytes(reason));
    }
    for (name, value) in head.fields().filter(|(name, _)| !is_for_log(name)) {
        response.fields.push(name, value);
    }
    response
}

fn http1_reason(status: u16) -> &'static [u8] {
    http1::reason_phrase(status).unwrap_or_default().as_bytes()
}

/// Gives a request up when its call is dropped before the response is there.
struct Guard<'a> {
    app: &'a Rc<App>,
    pending: Rc<Pending>,
    request: &'a Request,
    armed: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.armed {
            *self.pending.label.borrow_mut() = Some(label_of(self.request));
            self.app.abandon(&self.pending);
        }
    }
}

/// The body of a response that has not ended yet, or is too large to be handed on in one piece.
struct AppStream {
    app: Rc<App>,
    pending: Rc<Pending>,
    /// Something was handed on since the last flush.
    unflushed: bool,
}

impl ChunkStream for AppStream {
    fn send_foreign(&mut self, most: u64, send: &mut SendForeign<'_>) -> Option<io::Result<usize>> {
        self.app.send_foreign(&self.pending, most, send)
    }

    fn poll_ahead(&mut self, _: &mut Context<'_>) {
        self.app.client_is_slow(&self.pending);
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Chunk, StreamError>>> {
        if let Some(chunk) = self.app.pop_chunk(&self.pending) {
            self.unflushed = true;
            return Poll::Ready(Some(Ok(chunk)));
        }
        let mut reply = self.pending.reply.borrow_mut();
        match (reply.phase, reply.end) {
            (Phase::WorkerDied, _) => {
                Poll::Ready(Some(Err(StreamError("the worker died while it answered"))))
            }
            (Phase::Overran, _) => {
                Poll::Ready(Some(Err(StreamError("the worker overran its timeout while it answered"))))
            }
            (_, Some(End::Whole)) => Poll::Ready(None),
            (_, Some(End::AppFailed)) => {
                Poll::Ready(Some(Err(StreamError("the application failed while it answered"))))
            }
            (_, Some(End::Protocol)) => {
                Poll::Ready(Some(Err(StreamError("the worker broke the bridge's protocol"))))
            }
            // The application pauses: what it has said so far is to be seen.
            (_, None) if std::mem::take(&mut self.unflushed) => Poll::Ready(Some(Ok(Chunk::Flush))),
            (_, None) => {
                if !reply.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                    reply.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for AppStream {
    fn drop(&mut self) {
        self.app.abandon(&self.pending);
    }
}

/// Whether the path is no longer the one that the client asked for: a rewrite, an internal redirect, a subrequest.
fn is_another(request: &Request) -> bool {
    let mut asked = Vec::new();
    // Slashes may have been merged or not.
    let mut is_asked = |merge_slashes| {
        protocol::normalize(&request.raw_path, merge_slashes, &mut asked).is_ok() && asked == request.path
    };
    request.raw_path != request.path && !is_asked(true) && !is_asked(false)
}

/// Method and target, for the log.
fn label_of(request: &Request) -> (String, String) {
    (
        String::from_utf8_lossy(request.method.as_bytes()).into_owned(),
        String::from_utf8_lossy(&request.target).into_owned(),
    )
}
