//! Descriptors watched by an event loop.

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that is watched for being readable, and for nothing else: on a Unix socket every packet that the other
/// side reads would count as being writable.
#[derive(Debug)]
pub struct Watched(AsyncFd<OwnedFd>);

impl Watched {
    /// Watches it from now on. To be called on a thread that runs an event loop.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: an OwnedFd is open, and names the same descriptor, until it is dropped; the AsyncFd owns it until
        // then, and nobody gets it mutably.
        unsafe { Ok(Self(AsyncFd::register_with_interest(fd, Interest::READABLE)?)) }
    }

    /// Watches it no more.
    pub fn into_inner(self) -> OwnedFd {
        self.0.into_inner()
    }
}

impl Deref for Watched {
    type Target = AsyncFd<OwnedFd>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A time that is waited for again and again, by a descriptor of its own.
///
/// With a timer of the event loop's each wait of the loop begins a timer in the kernel and ends it again, whatever it is
/// woken by: that is a thirtieth of what a small request costs. This one the kernel is told of once.
#[derive(Debug)]
pub struct Alarm(Watched);

impl Alarm {
    /// One that is not set. To be called on a thread that runs an event loop.
    pub fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Watched::new(fd).map(Self)
    }

    /// Waits so long. One wait at a time: a new one takes the place of the one before.
    pub async fn after(&self, time: Duration) {
        if self.rings_after(time).await.is_err() {
            // The kernel refuses none of this. Should it, the time is to pass all the same.
            tokio::time::sleep(time).await;
        }
    }

    async fn rings_after(&self, time: Duration) -> io::Result<()> {
        // Zero would be never.
        let time = time.max(Duration::from_nanos(1));
        let value = Timespec::try_from(time).map_err(|_| io::ErrorKind::InvalidInput)?;
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            match rustix::io::read(ready.get_inner(), &mut [0; 8]) {
                Ok(_) => return Ok(()),
                // That was the one before.
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn an_alarm_rings_when_its_time_has_passed() {
        let alarm = Alarm::new().unwrap();
        for _ in 0..3 {
            let begun = Instant::now();
            alarm.after(Duration::from_millis(20)).await;
            assert!(begun.elapsed() >= Duration::from_millis(20));
        }
        alarm.after(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn one_that_was_given_up_does_not_ring_for_the_next() {
        let alarm = Alarm::new().unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(10), alarm.after(Duration::from_millis(1)));
        waited.await.unwrap();
        let given_up = tokio::time::timeout(Duration::ZERO, alarm.after(Duration::from_millis(5)));
        assert!(given_up.await.is_err());
        std::thread::sleep(Duration::from_millis(10));
        let begun = Instant::now();
        alarm.after(Duration::from_millis(50)).await;
        assert!(begun.elapsed() >= Duration::from_millis(50));
    }
}
