//! Descriptors watched by an event loop.

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;

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
