//! The edge's end of a worker's socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::region::Region;
use crate::message;

/// The socket to one worker: non-blocking, to be driven by the edge's event loop.
#[derive(Debug)]
pub struct WorkerSocket {
    socket: OwnedFd,
}

/// What a worker says.
#[derive(Debug)]
pub enum Message {
    /// It is there, and how many threads it will claim with.
    Hello {
        /// The process.
        pid: u32,
        /// Its threads.
        claimers: u32,
    },
    /// It has booted.
    Ready,
    /// The file of a FILE frame that it has sent or is about to send.
    File {
        /// The slot.
        slot: u16,
        /// The ticket, for [`super::EdgeThread::resolve`].
        ticket: u64,
        /// The file.
        fd: OwnedFd,
    },
    /// It wants the body of a request that is a file.
    Give {
        /// The slot.
        slot: u16,
        /// The ticket, for [`super::EdgeThread::resolve`].
        ticket: u64,
    },
    /// What carries one of these tags is to go from the cache.
    Purge {
        /// For the answer.
        number: u32,
        /// The tags, spaces between.
        tags: Vec<u8>,
    },
}

impl WorkerSocket {
    /// Takes the edge's end of a `SOCK_SEQPACKET` pair and makes it non-blocking.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        sys::set_nonblocking(&socket, true)?;
        Ok(Self { socket })
    }

    /// The next message; `None` when the worker is gone; `WouldBlock` when there is none yet. Any other error means
    /// that the worker breaks the protocol and has to be ended.
    pub fn recv(&self) -> io::Result<Option<Message>> {
        let Some(packet) = message::recv(&self.socket)? else { return Ok(None) };
        if packet.kind != message::FILE && !packet.fds.is_empty() {
            return Err(message::invalid());
        }
        Ok(Some(match packet.kind {
            message::HELLO => {
                let [version, pid, claimers] = packet.words()?;
                if version != message::VERSION {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("a worker that speaks version {version} of the bridge's protocol"),
                    ));
                }
                Message::Hello { pid, claimers }
            }
            message::READY => {
                packet.words::<0>()?;
                Message::Ready
            }
            message::FILE => {
                let (slot, ticket) = packet.slot()?;
                Message::File { slot, ticket, fd: packet.fd()? }
            }
            message::GIVE => {
                let (slot, ticket) = packet.slot()?;
                Message::Give { slot, ticket }
            }
            message::PURGE => {
                let (number, tags) = packet.number_and_text()?;
                Message::Purge { number, tags }
            }
            _ => return Err(message::invalid()),
        }))
    }

    /// Answers HELLO: the region, and which claimers are the worker's.
    pub fn send_welcome(&self, region: &Region, first_claimer: u16) -> io::Result<()> {
        let mut fds = vec![region.memfd()];
        fds.extend(region.eventfds());
        message::send(&self.socket, message::WELCOME, &[first_claimer.into()], &fds)
    }

    /// Answers GIVE. `slot` and `ticket` are those of the message, `body` a file that reads from its beginning.
    pub fn send_body(&self, slot: u16, ticket: u64, body: BorrowedFd<'_>) -> io::Result<()> {
        message::send_slot(&self.socket, message::BODY, (slot, ticket), &[body])
    }

    /// Answers PURGE: so much was removed.
    pub fn send_purged(&self, number: u32, removed: u64) -> io::Result<()> {
        message::send(&self.socket, message::PURGED, &[number, removed.try_into().unwrap_or(u32::MAX)], &[])
    }

    /// Asks the worker to finish what it has and end.
    pub fn send_stop(&self) -> io::Result<()> {
        message::send(&self.socket, message::STOP, &[], &[])
    }
}

impl AsFd for WorkerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for WorkerSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
