//! The body of a request in the hands of somebody else, who reads it while the response is written.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use exchange::{BodyError, BodySource};

/// Bytes that wait to be taken; while there are more, no more are read of the client.
const ROOM: usize = 64 * 1024;

/// Where the connection puts what it reads of the body.
#[derive(Default)]
pub(super) struct Handover {
    /// Copied together: a piece by itself would keep the whole buffer that it was read into.
    data: RefCell<BytesMut>,
    /// Nothing follows: all has come, or this is wrong with it.
    end: Cell<Option<Result<(), BodyError>>>,
    /// Nobody takes it any more.
    is_abandoned: Cell<bool>,
    taker: Cell<Option<Waker>>,
    giver: Cell<Option<Waker>>,
}

impl Handover {
    /// The other end.
    pub(super) fn taker(self: &Rc<Self>) -> HandedBody {
        HandedBody(Rc::clone(self))
    }

    /// Somebody wants more of the body.
    pub(super) fn is_wanted(&self) -> bool {
        !self.is_abandoned.get() && self.end.get().is_none()
    }

    /// Ready when there is room for more.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.data.borrow().len() < ROOM {
            return Poll::Ready(());
        }
        self.giver.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// The next piece.
    pub(super) fn give(&self, data: &[u8]) {
        self.data.borrow_mut().extend_from_slice(data);
        wake(&self.taker);
    }

    /// Nothing follows.
    pub(super) fn end(&self, how: Result<(), BodyError>) {
        if self.end.get().is_none() {
            self.end.set(Some(how));
            wake(&self.taker);
        }
    }
}

/// See [`Handover`].
pub struct HandedBody(Rc<Handover>);

impl BodySource for HandedBody {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let data = self.0.data.borrow_mut().split().freeze();
        if !data.is_empty() {
            wake(&self.0.giver);
            return Poll::Ready(Some(Ok(data)));
        }
        match self.0.end.get() {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                self.0.taker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    fn is_over(&self) -> bool {
        self.0.end.get() == Some(Ok(())) && self.0.data.borrow().is_empty()
    }
}

impl Drop for HandedBody {
    fn drop(&mut self) {
        self.0.is_abandoned.set(true);
        self.0.data.borrow_mut().clear();
        wake(&self.0.giver);
    }
}

fn wake(waker: &Cell<Option<Waker>>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
