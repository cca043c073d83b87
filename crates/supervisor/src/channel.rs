//! A control channel that never makes the master wait: what the other side does not take yet is queued.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bridge::control::{ControlSocket, Received};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Beyond this the other side is not slow but stuck.
const MOST_WAITING: usize = 10_000;

#[derive(Debug)]
struct Letter<T> {
    message: T,
    body: Option<Value>,
    fds: Vec<OwnedFd>,
}

/// One end of a control channel; sends `T`.
#[derive(Debug)]
pub(crate) struct Channel<T> {
    socket: ControlSocket,
    waiting: VecDeque<Letter<T>>,
}

impl<T: Serialize> Channel<T> {
    pub(crate) fn new(socket: ControlSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, waiting: VecDeque::new() })
    }

    /// Sends, now or later. Errors that say that the other side is gone are left to whoever reads.
    pub(crate) fn send(&mut self, message: T, body: Option<Value>, fds: Vec<OwnedFd>) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back(Letter { message, body, fds });
        }
        self.flush();
    }

    /// Sends what waits, as far as the other side takes it.
    pub(crate) fn flush(&mut self) {
        while let Some(letter) = self.waiting.front() {
            let fds: Vec<BorrowedFd<'_>> = letter.fds.iter().map(AsFd::as_fd).collect();
            let sent = match &letter.body {
                Some(body) => self.socket.send_with_body(&letter.message, body, &fds),
                None => self.socket.send(&letter.message, &fds),
            };
            if sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Whether something waits for room.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next message.
    pub(crate) fn receive<R: DeserializeOwned>(&self) -> Incoming<R> {
        match self.socket.recv() {
            Ok(Some(received)) => Incoming::Message(received),
            Ok(None) => Incoming::Gone,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Incoming::Nothing,
            Err(error) => Incoming::Broken(error),
        }
    }
}

impl<T> AsFd for Channel<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What came in.
#[derive(Debug)]
pub(crate) enum Incoming<R> {
    /// A message.
    Message(Received<R>),
    /// Nothing now.
    Nothing,
    /// The other side has closed.
    Gone,
    /// The other side speaks another language.
    Broken(io::Error),
}
