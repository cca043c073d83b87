//! Descriptors: inherited, sealed in memory, sent over sockets.

use std::collections::BTreeSet;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use bytes::BytesMut;
use rustix::fs::{MemfdFlags, OFlags, SealFlags};
use rustix::io::{Errno, FdFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// How many descriptors one message carries at most (the kernel's SCM_MAX_FD).
pub const MOST_DESCRIPTORS: usize = 253;

/// Receives what a socket has, behind what `buf` holds and within its spare capacity. 0 is the end.
///
/// A call of the system and nothing else: the C library's would first look whether its thread is to be cancelled.
pub fn recv_behind(socket: impl AsFd, buf: &mut BytesMut) -> io::Result<usize> {
    let ((received, _), _) = rustix::net::recv(socket, buf.spare_capacity_mut(), RecvFlags::empty())?;
    let received = received.len();
    // SAFETY: so many bytes behind the length have been written.
    unsafe { buf.set_len(buf.len() + received) };
    Ok(received)
}

/// Takes ownership of a descriptor that this process was started with, and sets close-on-exec on it.
///
/// Each number is given out once, and the standard streams never: a second owner would close it under the first.
pub fn inherited_fd(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());
    if number <= 2 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the standard streams are not given away"));
    }
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: only asks for and sets a flag; an invalid number is an error.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    if !taken.insert(number) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "this descriptor was taken before"));
    }
    // SAFETY: it is open, and this is the only place that gives it an owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Most descriptors that room is made for in advance.
const MOST_ROOM: u64 = 1 << 16;

/// Makes the table of descriptors as large as it has to be for so many, or for as many as the process may have.
///
/// The kernel doubles a table that is full. With several threads it then waits until none can be looking at the old one,
/// some ten milliseconds, and `accept` with it: five times while a thousand clients come.
pub fn make_room_for_fds(count: usize) {
    let may = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let highest = (count as u64).min(MOST_ROOM).min(may).saturating_sub(1);
    // A table never shrinks.
    drop(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), highest as RawFd));
}

/// An anonymous file in memory with these contents that nobody can change again. Its offset is at the beginning.
pub fn sealed_memfd(name: &str, contents: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(contents)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
    )?;
    Ok(file.into())
}

/// The contents of a [`sealed_memfd`], which is closed. Anything else, also a longer one, is an error.
pub fn read_sealed_memfd(fd: OwnedFd, most: u64) -> io::Result<Vec<u8>> {
    // Only files in memory have seals.
    if !rustix::fs::fcntl_get_seals(&fd)?.contains(SealFlags::WRITE | SealFlags::GROW) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a file that others may change"));
    }
    let mut file = std::fs::File::from(fd);
    if file.metadata()?.len() > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    file.rewind()?;
    let mut contents = Vec::new();
    file.read_to_end(&mut contents)?;
    Ok(contents)
}

/// MFD_NOEXEC_SEAL is from Linux 6.3 and the only kind that `vm.memfd_noexec=2` allows; it does not hinder mapping
/// the file's code.
pub(crate) fn memfd(name: &str, flags: MemfdFlags) -> io::Result<OwnedFd> {
    match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => Ok(rustix::fs::memfd_create(name, flags)?),
        other => Ok(other?),
    }
}

/// Makes reads and writes of the open file description return instead of waiting, or the other way round.
pub fn set_nonblocking(fd: impl AsFd, on: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(&fd)?;
    flags.set(OFlags::NONBLOCK, on);
    Ok(rustix::fs::fcntl_setfl(&fd, flags)?)
}

/// Sends one message with descriptors over a Unix socket. Never raises SIGPIPE; begins again after a signal.
pub fn send_with_fds(
    socket: impl AsFd,
    message: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if fds.len() > MOST_DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    loop {
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match rustix::net::sendmsg(&socket, message, &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// What arrived in one message.
#[derive(Debug)]
pub struct Received {
    /// Bytes of the message; 0 also means that the other side is gone.
    pub length: usize,
    /// The descriptors that came along, close-on-exec, in order.
    pub fds: Vec<OwnedFd>,
}

/// Receives one message with its descriptors from a Unix socket. Begins again after a signal.
///
/// A message that does not fit, in bytes or in descriptors, is an error (InvalidData), and its descriptors are closed.
pub fn recv_with_fds(socket: impl AsFd, into: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(into)];
    let message = loop {
        match rustix::net::recvmsg(&socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is longer than agreed"));
    }
    Ok(Received { length: message.bytes, fds })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::fd::IntoRawFd;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn only_a_sealed_file_in_memory_is_read() {
        let read = |fd| read_sealed_memfd(fd, 8);
        assert_eq!(read(sealed_memfd("test", b"contents").unwrap()).unwrap(), b"contents");
        let moved = sealed_memfd("test", b"contents").unwrap();
        rustix::fs::seek(&moved, rustix::fs::SeekFrom::End(0)).unwrap();
        assert_eq!(read(moved).unwrap(), b"contents");
        assert!(read(sealed_memfd("test", b"too long.").unwrap()).is_err());
        assert!(read(memfd("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap()).is_err());
        assert!(read(std::fs::File::open("/dev/null").unwrap().into()).is_err());
        assert!(read(io::pipe().unwrap().0.into()).is_err());
    }

    #[test]
    fn descriptors_cross_a_socket() {
        let (a, b) = pair();
        let memfd = sealed_memfd("test", b"contents").unwrap();
        send_with_fds(&a, &[IoSlice::new(b"he"), IoSlice::new(b"llo")], &[memfd.as_fd(), a.as_fd()]).unwrap();
        let mut bytes = [0; 16];
        let received = recv_with_fds(&b, &mut bytes).unwrap();
        assert_eq!((&bytes[..received.length], received.fds.len()), (&b"hello"[..], 2));
        assert!(rustix::io::fcntl_getfd(&received.fds[0]).unwrap().contains(FdFlags::CLOEXEC));
        let mut file = std::fs::File::from(received.fds.into_iter().next().unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "contents");
        file.rewind().unwrap();
        assert!(file.write_all(b"x").is_err(), "sealed");
        drop(a);
        assert_eq!(recv_with_fds(&b, &mut bytes).unwrap().length, 0);
    }

    #[test]
    fn a_message_that_does_not_fit_leaks_nothing() {
        let (a, b) = pair();
        let (passed, other) = pair();
        send_with_fds(&a, &[IoSlice::new(&[1; 64])], &[passed.as_fd()]).unwrap();
        drop(passed);
        let error = recv_with_fds(&b, &mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // The only copy was the received one: its peer is at the end now.
        assert_eq!(recv_with_fds(&other, &mut [0; 8]).unwrap().length, 0);
    }

    #[test]
    fn what_is_received_stands_behind_what_was_there() {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let mut buf = BytesMut::with_capacity(64);
        buf.extend_from_slice(b"one ");
        rustix::io::write(&a, b"two").unwrap();
        assert_eq!(recv_behind(&b, &mut buf).unwrap(), 3);
        assert_eq!(&buf[..], b"one two");
        drop(a);
        assert_eq!(recv_behind(&b, &mut buf).unwrap(), 0);
        assert_eq!(&buf[..], b"one two");
    }

    #[test]
    fn nonblocking_says_so_instead_of_waiting() {
        let (a, _b) = pair();
        set_nonblocking(&a, true).unwrap();
        assert_eq!(recv_with_fds(&a, &mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn room_is_made_and_nothing_left_open() {
        let size = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
            line.trim().parse::<usize>().unwrap()
        };
        make_room_for_fds(usize::MAX);
        let may = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(MOST_ROOM);
        let highest = may.min(MOST_ROOM) as usize;
        assert!(size() >= highest, "{} for {highest}", size());
        assert!(!std::path::Path::new(&format!("/proc/self/fd/{}", highest - 1)).exists());
        make_room_for_fds(0);
    }

    #[test]
    fn an_inherited_descriptor_has_one_owner() {
        let number = pair().0.into_raw_fd();
        let owned = inherited_fd(number).unwrap();
        assert_eq!(owned.as_raw_fd(), number);
        assert!(inherited_fd(number).is_err());
        assert!(inherited_fd(1).is_err());
        assert!(inherited_fd(900_000).is_err());
    }
}
