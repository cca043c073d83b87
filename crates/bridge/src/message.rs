//! The messages on a worker's socket.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// The version of PROTOCOL.md.
pub(crate) const VERSION: u32 = 1;

pub(crate) const HELLO: u8 = 1;
pub(crate) const WELCOME: u8 = 2;
pub(crate) const READY: u8 = 3;
pub(crate) const STOP: u8 = 4;
pub(crate) const FILE: u8 = 5;
pub(crate) const GIVE: u8 = 6;
pub(crate) const BODY: u8 = 7;
pub(crate) const PURGE: u8 = 8;
pub(crate) const PURGED: u8 = 9;

/// Bytes of a PURGE message's tags.
pub(crate) const TAGS: usize = 2048;
/// Longer than any message.
const SIZE: usize = TAGS + 64;

/// A message as it came, not yet understood.
pub(crate) struct Packet {
    pub(crate) kind: u8,
    fields: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Packet {
    /// Exactly these many u32 after the kind.
    pub(crate) fn words<const N: usize>(&self) -> io::Result<[u32; N]> {
        if self.fields.len() != 4 * N {
            return Err(invalid());
        }
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(self.fields.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Ok(words)
    }

    /// A number, and the bytes behind it.
    pub(crate) fn number_and_text(self) -> io::Result<(u32, Vec<u8>)> {
        let (number, text) = self.fields.split_first_chunk().ok_or_else(invalid)?;
        Ok((u32::from_le_bytes(*number), text.to_vec()))
    }

    /// Slot and ticket.
    pub(crate) fn slot(&self) -> io::Result<(u16, u64)> {
        let [slot, low, high] = self.words::<3>()?;
        let slot = u16::try_from(slot).map_err(|_| invalid())?;
        Ok((slot, u64::from(high) << 32 | u64::from(low)))
    }

    /// The one descriptor that came along.
    pub(crate) fn fd(self) -> io::Result<OwnedFd> {
        let mut fds = self.fds.into_iter();
        match (fds.next(), fds.next()) {
            (Some(fd), None) => Ok(fd),
            _ => Err(invalid()),
        }
    }
}

pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

pub(crate) fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message that the bridge's protocol does not have")
}

pub(crate) fn send(socket: impl AsFd, kind: u8, words: &[u32], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut bytes = [0; 64];
    bytes[0] = kind;
    for (place, word) in bytes[1..].chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    sys::send_with_fds(socket, &[IoSlice::new(&bytes[..=4 * words.len()])], fds)?;
    Ok(())
}

/// A message of a number and a text of at most [`TAGS`] bytes.
pub(crate) fn send_text(socket: impl AsFd, kind: u8, number: u32, text: &[u8]) -> io::Result<()> {
    let number = number.to_le_bytes();
    sys::send_with_fds(socket, &[IoSlice::new(&[kind]), IoSlice::new(&number), IoSlice::new(text)], &[])?;
    Ok(())
}

pub(crate) fn send_slot(
    socket: impl AsFd,
    kind: u8,
    (slot, ticket): (u16, u64),
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send(socket, kind, &[u32::from(slot), ticket as u32, (ticket >> 32) as u32], fds)
}

/// The next message; `None` when the other side is gone.
pub(crate) fn recv(socket: impl AsFd) -> io::Result<Option<Packet>> {
    let mut bytes = [0; SIZE];
    let received = match sys::recv_with_fds(socket, &mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        other => other?,
    };
    match bytes[..received.length].split_first() {
        None => Ok(None),
        Some((&kind, fields)) => Ok(Some(Packet { kind, fields: fields.to_vec(), fds: received.fds })),
    }
}
