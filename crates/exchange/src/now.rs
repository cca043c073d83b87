//! The time of an event loop: asked for once a turn, as nginx does.
//!
//! A request wants to know what time it is some ten times, and all answers within one turn of the loop are the same to
//! it. The loop says when a turn begins; a turn that lasts asks again after some answers. A thread that has no loop
//! always gets the time itself.

use std::cell::Cell;
use std::time::Instant;

/// So many answers are the same at most.
const ANSWERS: u8 = 64;

thread_local! {
    static NOW: Cell<Option<(Instant, u8)>> = const { Cell::new(None) };
    static HAS_TURNS: Cell<bool> = const { Cell::new(false) };
}

/// What time it is, or was when this turn of the thread's event loop began. Never goes back.
pub fn now() -> Instant {
    if let Some((now, left)) = NOW.get()
        && left > 0
    {
        NOW.set(Some((now, left - 1)));
        return now;
    }
    let now = Instant::now();
    if HAS_TURNS.get() {
        NOW.set(Some((now, ANSWERS)));
    }
    now
}

/// A turn of this thread's event loop begins: it has waited, and what time it was no longer holds.
pub fn begin_turn() {
    HAS_TURNS.set(true);
    NOW.set(None);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_turn_has_one_time_and_a_long_one_several() {
        let before = now();
        assert!(now() >= before);
        begin_turn();
        let begin = now();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(now(), begin);
        for _ in 0..ANSWERS {
            now();
        }
        assert!(now() >= begin + Duration::from_millis(2));
        begin_turn();
        assert!(now() > begin);
    }
}
