//! One request on its way through the application.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bridge::edge::{ResponseFrame, ResponseHead, SlotId};
use buffering::ResponseBuffer;
use exchange::Fields;

use super::Worker;

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Whole.
    Whole,
    /// The application failed after its head.
    AppFailed,
    /// The worker wrote what the protocol does not allow.
    Protocol,
}

/// Why a request is not on its way any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// All is well.
    Going,
    /// It waited too long for a worker.
    QueueTimeout,
    /// No worker will ever take it.
    Abandoned,
    /// Its worker died.
    WorkerDied,
    /// Its worker overran its time-out.
    Overran,
}

/// How many early hints a request may have. One is usual.
const MOST_HINTS: u8 = 16;

/// What has come back so far.
pub(super) struct Reply {
    /// Heads of 103 that are to go on to the client.
    pub hints: Vec<ResponseHead>,
    hinted: u8,
    pub head: Option<ResponseHead>,
    pub head_taken: bool,
    /// What is the access log's alone.
    pub logged: Option<Rc<RefCell<Fields>>>,
    pub buffer: ResponseBuffer,
    pub end: Option<End>,
    /// Bytes of the body so far, those of files too.
    pub received: u64,
    /// A FILE frame whose descriptor has not come yet.
    pub awaited_file: Option<(u64, u64)>,
    pub phase: Phase,
    pub waker: Option<Waker>,
}

impl Reply {
    /// Takes a frame; says whether another may come. `unwanted`: nobody will read the body.
    pub fn take(&mut self, frame: ResponseFrame, unwanted: bool) -> ControlFlow<()> {
        match frame {
            ResponseFrame::Head(head) if head.status() < 200 => {
                // No other interim response is the application's to send.
                if head.status() == 103 && self.head.is_none() && self.hinted < MOST_HINTS {
                    self.hinted += 1;
                    self.hints.push(head);
                }
            }
            ResponseFrame::Head(head) => {
                self.log(head.fields().filter(|(name, _)| is_for_log(name)));
                self.head = Some(head);
            }
            ResponseFrame::Body(bytes) => {
                self.received += bytes.len() as u64;
                if !unwanted {
                    self.buffer.push(bytes);
                }
            }
            ResponseFrame::File { offset, length } => {
                self.awaited_file = Some((offset, length));
                return ControlFlow::Break(());
            }
            ResponseFrame::Log(log) => self.log(log.fields()),
            ResponseFrame::End { failed } => {
                self.end = Some(if failed { End::AppFailed } else { End::Whole });
            }
        }
        if self.buffer.has_room() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn log<'a>(&mut self, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
        for (name, value) in fields {
            self.logged.get_or_insert_default().borrow_mut().push(name, value);
        }
    }
}

/// Whether a field of a head is none, but the access log's.
pub(super) fn is_for_log(name: &[u8]) -> bool {
    name.first() == Some(&b':')
}

/// What the log says of a request's way through the application.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// The worker's process id; 0 if none had it.
    pub pid: u32,
    /// Time in the queue.
    pub queued: Duration,
    /// How often it was handed to a worker.
    pub attempts: u32,
}

pub(super) struct Pending {
    pub reply: RefCell<Reply>,
    /// Its connection was served before.
    pub is_known: bool,
    /// It waits for a slot.
    pub queued: Cell<bool>,
    /// It is one of the new clients that have a slot.
    pub counted: Cell<bool>,
    /// It waits for its answer to be taken in.
    pub unread: Cell<bool>,
    pub slot: Cell<Option<SlotId>>,
    /// When it was queued.
    pub since: Cell<Instant>,
    /// When the worker last did something that could be seen.
    pub progress: Cell<Instant>,
    pub granted: Cell<bool>,
    pub stalled: Cell<bool>,
    /// Whoever takes the body sends what is large from where it is, as far as is known.
    pub leaves_large: Cell<bool>,
    pub overran: Cell<bool>,
    /// Nobody wants the answer.
    pub abandoned: Cell<bool>,
    pub claimer: Cell<Option<u16>>,
    /// The `Content-Length` of a response that was handed on before its end.
    pub length: Cell<Option<u64>>,
    pub outcome: Cell<Outcome>,
    /// Method and path, for the log of an overrun.
    pub label: RefCell<Option<(String, String)>>,
    /// The worker that overran.
    pub overran_by: Cell<Option<u64>>,
}

impl Pending {
    pub fn new(buffer: ResponseBuffer, is_known: bool) -> Self {
        let now = Instant::now();
        Self {
            reply: RefCell::new(Reply {
                hints: Vec::new(),
                hinted: 0,
                head: None,
                head_taken: false,
                logged: None,
                buffer,
                end: None,
                received: 0,
                awaited_file: None,
                phase: Phase::Going,
                waker: None,
            }),
            is_known,
            queued: Cell::new(false),
            counted: Cell::new(false),
            unread: Cell::new(false),
            slot: Cell::new(None),
            since: Cell::new(now),
            progress: Cell::new(now),
            granted: Cell::new(false),
            stalled: Cell::new(false),
            leaves_large: Cell::new(true),
            overran: Cell::new(false),
            abandoned: Cell::new(false),
            claimer: Cell::new(None),
            length: Cell::new(None),
            outcome: Cell::default(),
            label: RefCell::default(),
            overran_by: Cell::new(None),
        }
    }

    pub fn is_stalled(&self) -> bool {
        self.stalled.get()
    }

    /// The worker will write nothing more. If all bytes that it announced are there, only the word that they
    /// are all is missing, and the response is whole.
    pub fn lose_worker(&self) {
        let mut reply = self.reply.borrow_mut();
        let announced = self.length.get().or_else(|| reply.head.as_ref().and_then(announced_length));
        let is_going = reply.phase == Phase::Going && reply.end.is_none();
        if is_going && announced.is_some_and(|length| reply.received >= length) {
            reply.end = Some(End::Whole);
        } else {
            reply.phase = Phase::WorkerDied;
        }
        drop(reply);
        self.wake();
    }

    pub fn fail(&self, phase: Phase) {
        self.reply.borrow_mut().phase = phase;
        self.wake();
    }

    pub fn wake(&self) {
        let waker = self.reply.borrow_mut().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The first look at the request after a worker pulled it: from here its run time counts.
    pub fn note_claim(&self, claimer: u16, now: Instant) {
        if self.claimer.get() != Some(claimer) {
            self.claimer.set(Some(claimer));
            self.progress.set(now);
            let mut outcome = self.outcome.get();
            outcome.queued = now.saturating_duration_since(self.since.get());
            self.outcome.set(outcome);
        }
    }

    pub fn note_worker(&self, worker: &Worker) {
        let mut outcome = self.outcome.get();
        outcome.pid = worker.pid;
        self.outcome.set(outcome);
    }
}

/// The value of the only `Content-Length` of a head.
pub(super) fn announced_length(head: &ResponseHead) -> Option<u64> {
    let mut lines = head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"content-length"));
    let (_, value) = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
