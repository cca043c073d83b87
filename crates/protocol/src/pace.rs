//! A response that may only leave so fast.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// At most so many bytes (not 0).
    Bytes(u64),
    /// Nothing before so much time has gone by.
    Wait(Duration),
}

/// How fast a response may leave.
pub trait Pace {
    /// What may be written now, when `sent` bytes of the response have been, its head among them.
    fn room(&mut self, sent: u64) -> Room;

    /// How long to pause after a write that brought the bytes sent from `before` to `after`.
    fn pause(&mut self, before: u64, after: u64) -> Duration;
}

/// A response on its way.
pub(crate) struct Paced {
    pace: Box<dyn Pace>,
    sent: u64,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(crate) fn new(pace: Box<dyn Pace>) -> Self {
        Self { pace, sent: 0, sleep: None }
    }

    /// Ready with how many bytes may be written.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.sleep = None;
            }
            match self.pace.room(self.sent) {
                Room::Bytes(bytes) => return Poll::Ready(usize::try_from(bytes).unwrap_or(usize::MAX)),
                Room::Wait(time) => self.sleep_for(time),
            }
        }
    }

    pub(crate) fn wrote(&mut self, bytes: usize) {
        let before = self.sent;
        self.sent += bytes as u64;
        let pause = self.pace.pause(before, self.sent);
        if !pause.is_zero() {
            self.sleep_for(pause);
        }
    }

    fn sleep_for(&mut self, time: Duration) {
        // A time that no clock can show is as good as for ever.
        let far = Duration::from_secs(365 * 24 * 60 * 60);
        self.sleep = Some(Box::pin(sleep_until(Instant::now() + time.min(far))));
    }
}
