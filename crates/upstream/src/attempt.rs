//! What one server's part in a request was, for variables and logs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exchange::Fields;

/// One server that was asked. It changes while its answer is read; whoever serves the request looks at it.
#[derive(Debug)]
pub struct Attempt {
    /// The server's address; if there was none to ask, the group's name.
    pub address: Arc<str>,
    /// When it began.
    pub begun: Instant,
    /// The status that it answered with, or that its failure means; 0 as long as there is none.
    pub status: Cell<u16>,
    /// How long connecting took.
    pub connect_time: Cell<Option<Duration>>,
    /// Until the head of the answer was there.
    pub header_time: Cell<Option<Duration>>,
    /// Until the end of the answer, or of the attempt.
    pub response_time: Cell<Option<Duration>>,
    /// Bytes of the answer's body.
    pub length: Cell<u64>,
    /// Bytes that came.
    pub received: Cell<u64>,
    /// Bytes that were sent.
    pub sent: Cell<u64>,
    /// The fields behind the body.
    pub trailers: RefCell<Option<Fields>>,
    /// What came behind the answer's end, in nginx's words.
    pub excess: Cell<Option<&'static str>>,
    /// Some of the answer had to wait for the client in a temporary file.
    pub spilled: Cell<bool>,
    /// What a FastCGI application complains of, and nobody has taken yet.
    pub complaints: RefCell<Complaints>,
    /// Why another was asked for the rest of the answer, or why that was not to be had from this one.
    pub gave_up: RefCell<Option<String>>,
    /// Who was asked for the rest.
    pub next: RefCell<Option<Rc<Self>>>,
}

/// See [`Attempt::complaints`]. There is a bound to what is kept of them.
#[derive(Debug, Default)]
pub struct Complaints {
    /// Each record one.
    pub texts: Vec<Vec<u8>>,
    /// Bytes of all, those that were taken included.
    total: usize,
}

/// Bytes of complaints that are kept of one answer.
const COMPLAINTS: usize = 64 * 1024;
/// Bytes of one of them.
const COMPLAINT: usize = 2048;

impl Complaints {
    pub(crate) fn add(&mut self, text: &[u8], begins: bool) {
        if begins || self.texts.is_empty() {
            if self.total >= COMPLAINTS {
                return;
            }
            // An empty one counts too.
            self.total += 16;
            self.texts.push(Vec::new());
        }
        if let Some(last) = self.texts.last_mut() {
            let room = COMPLAINT.saturating_sub(last.len()).min(COMPLAINTS.saturating_sub(self.total));
            let text = &text[..text.len().min(room)];
            last.extend_from_slice(text);
            self.total += text.len();
        }
    }
}

impl Attempt {
    /// This one, and those that were asked for the rest of its answer, in order.
    pub fn chain(self: &Rc<Self>) -> impl Iterator<Item = Rc<Self>> {
        std::iter::successors(Some(Rc::clone(self)), |attempt| attempt.next.borrow().clone())
    }

    /// One that begins now.
    pub fn new(address: impl Into<Arc<str>>) -> Self {
        Self {
            address: address.into(),
            begun: exchange::now(),
            status: Cell::new(0),
            connect_time: Cell::new(None),
            header_time: Cell::new(None),
            response_time: Cell::new(None),
            length: Cell::new(0),
            received: Cell::new(0),
            sent: Cell::new(0),
            trailers: RefCell::new(None),
            excess: Cell::new(None),
            spilled: Cell::new(false),
            complaints: RefCell::default(),
            gave_up: RefCell::default(),
            next: RefCell::default(),
        }
    }

    /// It is over.
    pub fn end(&self) {
        if self.response_time.get().is_none() {
            self.response_time.set(Some(exchange::now().duration_since(self.begun)));
        }
    }

    pub(crate) fn add(counter: &Cell<u64>, bytes: usize) {
        counter.set(counter.get() + bytes as u64);
    }
}
