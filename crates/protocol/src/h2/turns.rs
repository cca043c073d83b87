//! Which exchange hands over its data next (RFC 9218).
//!
//! What the codec has cannot be taken back or overtaken, so it is only given as much as leaves soon. Who wants to
//! give it more waits; when all has left, those that wait are woken, the most urgent first.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// Bytes that the codec is given before it has written them.
const BUDGET: usize = 64 * 1024;

/// A client's wish about a response (RFC 9218 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Priority {
    /// 0 is the most urgent, 7 the least.
    pub(super) urgency: u8,
    /// Of use in parts: it shares with others of its kind. Else one follows the other.
    pub(super) incremental: bool,
}

impl Default for Priority {
    /// Of a client that says nothing. RFC 9218 would have such responses follow each other; clients that know
    /// nothing of it, such as curl, expect that they share, as with nginx.
    fn default() -> Self {
        Self { urgency: 3, incremental: true }
    }
}

impl Priority {
    /// Of the field `Priority`, a dictionary (RFC 8941 §3.2). What cannot be understood says nothing.
    pub(super) fn parse(value: &[u8]) -> Self {
        let mut priority = Self { incremental: false, ..Self::default() };
        for member in value.split(|byte| *byte == b',') {
            match member.trim_ascii() {
                [b'u', b'=', digit @ b'0'..=b'7'] => priority.urgency = digit - b'0',
                b"i" | b"i=?1" => priority.incremental = true,
                b"i=?0" => priority.incremental = false,
                _ => {}
            }
        }
        priority
    }
}

/// The order of one connection.
#[derive(Default)]
pub(super) struct Turns {
    /// Bytes that the codec was given since it last had nothing.
    given: Cell<usize>,
    /// How often it has had nothing.
    round: Cell<u64>,
    waiting: RefCell<Vec<Waiting>>,
}

struct Waiting {
    priority: Priority,
    stream: u32,
    /// The round of its last turn.
    last: u64,
    waker: Waker,
}

impl Waiting {
    fn order(&self) -> (u8, u64, u32) {
        let last = if self.priority.incremental { self.last } else { 0 };
        (self.priority.urgency, last, self.stream)
    }
}

impl Turns {
    /// Ready with how many bytes the codec may be given. `last`: the round of the exchange's last turn.
    pub(super) fn poll_turn(
        &self,
        cx: &Context<'_>,
        priority: Priority,
        stream: u32,
        last: u64,
    ) -> Poll<usize> {
        let room = BUDGET.saturating_sub(self.given.get());
        let mut waiting = self.waiting.borrow_mut();
        // One that shares lets those that wait go first, when it has had its turn in this round.
        let has_had = priority.incremental && last == self.round.get() && !waiting.is_empty();
        if room > 0 && !has_had {
            return Poll::Ready(room);
        }
        match waiting.iter_mut().find(|other| other.stream == stream) {
            Some(own) => own.waker.clone_from(cx.waker()),
            None => waiting.push(Waiting { priority, stream, last, waker: cx.waker().clone() }),
        }
        Poll::Pending
    }

    /// The codec was given so much; the round of this turn.
    pub(super) fn give(&self, bytes: usize) -> u64 {
        self.given.set(self.given.get() + bytes);
        self.round.get()
    }

    /// The codec has nothing more.
    pub(super) fn all_has_left(&self) {
        self.given.set(0);
        self.round.set(self.round.get() + 1);
        if self.waiting.borrow().is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.sort_by_key(Waiting::order);
        for one in waiting {
            one.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::task::Wake;

    use super::*;

    #[test]
    fn priorities_are_read() {
        let of = |urgency, incremental| Priority { urgency, incremental };
        for (text, priority) in [
            ("", of(3, false)),
            ("u=0", of(0, false)),
            ("u=7, i", of(7, true)),
            ("i=?1,u=1", of(1, true)),
            ("u=8", of(3, false)),
            ("u=-1, x=\"y\"", of(3, false)),
            ("i, i=?0", of(3, false)),
        ] {
            assert_eq!(Priority::parse(text.as_bytes()), priority, "{text}");
        }
    }

    struct Named(u32, Arc<Mutex<Vec<u32>>>);

    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn the_most_urgent_is_woken_first_and_those_that_share_take_turns() {
        let turns = Turns::default();
        turns.give(BUDGET);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let wait = |stream, urgency, incremental, last| {
            let waker = Waker::from(Arc::new(Named(stream, Arc::clone(&woken))));
            let priority = Priority { urgency, incremental };
            turns.poll_turn(&Context::from_waker(&waker), priority, stream, last)
        };
        for (stream, urgency, incremental, last) in
            [(1, 3, true, 9), (3, 3, true, 2), (5, 1, false, 0), (7, 7, false, 0), (9, 1, false, 5)]
        {
            assert!(wait(stream, urgency, incremental, last).is_pending());
        }
        turns.all_has_left();
        assert_eq!(*woken.lock().unwrap(), [5, 9, 3, 1, 7]);
        assert_eq!(wait(1, 3, true, 0), Poll::Ready(BUDGET));
        turns.give(BUDGET - 5);
        assert_eq!(wait(3, 3, true, 0), Poll::Ready(5));
    }
}
