//! What time it is, and waiting: a trait, so that tests need not wait.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A clock.
pub trait Clock {
    /// Seconds since 1970.
    fn now(&self) -> u64;

    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()>;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep(time)
    }
}
