//! How often one place in the code may write.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

/// How often one place in the code may write: [`Limit::BURST`] messages in [`Limit::SECONDS`] seconds, for a
/// place that a client or a fault can make write without end. One per place, so its memory is bounded.
#[derive(Debug)]
pub struct Limit {
    window: AtomicI64,
    count: AtomicU32,
}

impl Limit {
    /// Messages per window.
    pub const BURST: u32 = 10;
    /// Length of a window.
    pub const SECONDS: i64 = 10;

    /// A limit that has let nothing through yet.
    #[allow(clippy::new_without_default, reason = "only ever a static")]
    pub const fn new() -> Self {
        Self { window: AtomicI64::new(i64::MIN), count: AtomicU32::new(0) }
    }

    /// `None`: hold the message back. `Some(n)`: write it, and say that n were held back before it.
    pub(super) fn pass(&self, now: i64) -> Option<u32> {
        let window = now.div_euclid(Self::SECONDS);
        let mut held = 0;
        let before = self.window.load(Ordering::Relaxed);
        // Whoever wins the exchange opens the window; the others count in it.
        if before != window
            && self.window.compare_exchange(before, window, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            held = self.count.swap(0, Ordering::Relaxed).saturating_sub(Self::BURST);
        }
        (self.count.fetch_add(1, Ordering::Relaxed) < Self::BURST).then_some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_held_back_and_counted() {
        let limit = Limit::new();
        let passed = (0..100).filter(|_| limit.pass(1000).is_some()).count();
        assert_eq!(passed, Limit::BURST as usize);
        assert_eq!(limit.pass(1000 + Limit::SECONDS), Some(90));
        assert_eq!(limit.pass(1000 + Limit::SECONDS), Some(0));
    }
}
