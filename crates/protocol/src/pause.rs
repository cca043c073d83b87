//! Doing something several times a second without being the reason that an event loop wakes.
//!
//! A timer that is over while a loop sleeps between two requests wakes it, and the scheduler takes a processor for it
//! that nobody has, away from the one on which its only client runs; there it stays, and every request costs the waking of
//! another processor, five times of what it did. A loop that has requests looks at the clock anyway. So before it sleeps
//! it is seen whose time has come, and timers go off only where nothing else happens.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// A loop that sleeps so often within one pause has something to do, and probably will in the next.
const LIVELY: u32 = 20;

thread_local! {
    /// How often the thread's loop has gone to sleep.
    static SLEEPS: Cell<u32> = const { Cell::new(0) };
    static WAITING: RefCell<Vec<Option<(Instant, Waker)>>> = const { RefCell::new(Vec::new()) };
    /// Of all who wait, when the first wants to be woken.
    static EARLIEST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The thread's loop is about to sleep: wakes those whose time has come.
pub fn before_sleep() {
    SLEEPS.set(SLEEPS.get().wrapping_add(1));
    let Some(earliest) = EARLIEST.get() else { return };
    let now = exchange::now();
    if now < earliest {
        return;
    }
    WAITING.with_borrow_mut(|waiting| {
        for place in waiting.iter_mut() {
            if let Some((_, waker)) = place.take_if(|(due, _)| *due <= now) {
                waker.wake();
            }
        }
        note_earliest(waiting);
    });
}

fn note_earliest(waiting: &[Option<(Instant, Waker)>]) {
    EARLIEST.set(waiting.iter().flatten().map(|(due, _)| *due).min());
}

/// The pauses of somebody on a loop who does something now and then.
pub struct Pauses {
    place: usize,
    /// The loop had something to do during the last pause.
    is_lively: bool,
}

impl Pauses {
    /// On the loop's thread, where it has to stay.
    #[expect(clippy::new_without_default, reason = "it takes a place on this thread")]
    pub fn new() -> Self {
        let place = WAITING.with_borrow_mut(|waiting| {
            waiting.push(None);
            waiting.len() - 1
        });
        Self { place, is_lively: false }
    }

    /// Waits for so long; once, when a loop that had much to do has nothing more, for up to twice as long.
    pub async fn take(&mut self, time: Duration) {
        let before = SLEEPS.get();
        let due = exchange::now() + time;
        let at_the_latest = if self.is_lively { time * 2 } else { time };
        let mut timer = pin!(tokio::time::sleep(at_the_latest));
        poll_fn(|cx| {
            if exchange::now() >= due || timer.as_mut().poll(cx).is_ready() {
                self.wait(None);
                return Poll::Ready(());
            }
            self.wait(Some((due, cx.waker().clone())));
            Poll::Pending
        })
        .await;
        self.is_lively = SLEEPS.get().wrapping_sub(before) >= LIVELY;
    }

    fn wait(&self, until: Option<(Instant, Waker)>) {
        WAITING.with_borrow_mut(|waiting| {
            waiting[self.place] = until;
            note_earliest(waiting);
        });
    }
}

impl Drop for Pauses {
    fn drop(&mut self) {
        self.wait(None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Rings(AtomicU32);

    impl Wake for Rings {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn it_is_noticed_before_the_loop_sleeps() {
        let rings = Arc::new(Rings::default());
        let waker = Waker::from(Arc::clone(&rings));
        let mut cx = Context::from_waker(&waker);
        let (mut soon, mut late) = (Pauses::new(), Pauses::new());
        (soon.is_lively, late.is_lively) = (true, true);
        let mut second = Box::pin(late.take(Duration::from_secs(3600)));
        let mut first = Box::pin(soon.take(Duration::from_millis(10)));
        assert!(first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending());
        assert!(EARLIEST.get().is_some_and(|earliest| earliest < Instant::now() + Duration::from_secs(1)));
        std::thread::sleep(Duration::from_millis(10));
        for _ in 0..LIVELY {
            before_sleep();
        }
        assert_eq!(rings.0.load(Ordering::Relaxed), 1, "once, and only who is due");
        assert!(first.as_mut().poll(&mut cx).is_ready() && second.as_mut().poll(&mut cx).is_pending());
        drop(first);
        assert!(soon.is_lively);
        drop(second);
        drop(late);
        assert_eq!(EARLIEST.get(), None);
    }

    #[tokio::test]
    async fn without_a_loop_that_says_when_it_sleeps_it_is_a_timer() {
        let begin = Instant::now();
        let mut pauses = Pauses::new();
        pauses.take(Duration::from_millis(5)).await;
        pauses.take(Duration::from_millis(5)).await;
        assert!(begin.elapsed() >= Duration::from_millis(10));
        assert!(!pauses.is_lively);
    }
}
