//! Memory shared with another process.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use crate::fds::memfd;

/// A mapping of a file of fixed length, shared with every other process that maps it.
///
/// Nothing in it can be trusted: another process may write any byte at any time. It is therefore never seen as a
/// slice, only through atomics and through copies.
#[derive(Debug)]
pub struct SharedRegion {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to no thread; all access goes through atomics or through copies of bytes.
unsafe impl Send for SharedRegion {}
// SAFETY: as above.
unsafe impl Sync for SharedRegion {}

impl SharedRegion {
    /// Makes an anonymous file of `length` bytes (sparse: it takes memory as it is touched) whose size can never
    /// change, and maps it.
    pub fn create(name: &str, length: usize) -> io::Result<(OwnedFd, Self)> {
        let fd = memfd(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, length as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let region = Self::map(&fd, length)?;
        Ok((fd, region))
    }

    /// Maps the first `length` bytes of `fd`, which must not be shorter and must be sealed against shrinking: an
    /// access behind the end of a file that was cut would kill the process.
    pub fn map(fd: impl AsFd, length: usize) -> io::Result<Self> {
        let fd = fd.as_fd();
        let seals = rustix::fs::fcntl_get_seals(fd)?;
        let size = File::from(fd.try_clone_to_owned()?).metadata()?.len();
        if length == 0 || size < length as u64 || !seals.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "shared memory is too short or not sealed",
            ));
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of ours.
        let start = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                fd,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// How many bytes are mapped.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Never: a region has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The atomic at `offset`. Panics where that is outside or not aligned.
    #[inline]
    pub fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        let at = self.at(offset, 4);
        assert!(offset.is_multiple_of(4), "atomic at an odd offset");
        // SAFETY: in bounds and aligned (mappings begin at a page); lives as long as `self`; only ever seen as atomic
        // or, by a peer that breaks the protocol, overwritten with other bytes, which any u32 survives.
        unsafe { AtomicU32::from_ptr(at.cast().as_ptr()) }
    }

    /// The atomic at `offset`. Panics where that is outside or not aligned.
    #[inline]
    pub fn atomic_u64(&self, offset: usize) -> &AtomicU64 {
        let at = self.at(offset, 8);
        assert!(offset.is_multiple_of(8), "atomic at an odd offset");
        // SAFETY: as in `atomic_u32`.
        unsafe { AtomicU64::from_ptr(at.cast().as_ptr()) }
    }

    /// Copies bytes out. Panics where the range is not inside.
    #[inline]
    pub fn copy_out(&self, offset: usize, into: &mut [u8]) {
        let at = self.at(offset, into.len());
        // SAFETY: in bounds; `into` is ours alone. A peer that writes at the same time gives us any bytes, and any
        // bytes are valid ones; they are looked at only in the copy.
        unsafe { ptr::copy_nonoverlapping(at.as_ptr(), into.as_mut_ptr(), into.len()) }
    }

    /// Appends `length` bytes at `offset` to `into`, without clearing the space first. Panics where the range is not
    /// inside.
    #[inline]
    pub fn append_to(&self, offset: usize, length: usize, into: &mut Vec<u8>) {
        let at = self.at(offset, length);
        into.reserve(length);
        let old = into.len();
        // SAFETY: in bounds of the mapping and of what was reserved, which is then initialised.
        unsafe {
            ptr::copy_nonoverlapping(at.as_ptr(), into.as_mut_ptr().add(old), length);
            into.set_len(old + length);
        }
    }

    /// Copies bytes in. Panics where the range is not inside.
    #[inline]
    pub fn copy_in(&self, offset: usize, from: &[u8]) {
        let at = self.at(offset, from.len());
        // SAFETY: in bounds; no reference to these bytes exists but atomics, which survive any value.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), at.as_ptr(), from.len()) }
    }

    /// Bytes for the kernel to read, which nobody here sees. Panics where the range is not inside.
    pub fn foreign(&self, offset: usize, length: usize) -> Foreign<'_> {
        Foreign { start: self.at(offset, length), length, region: PhantomData }
    }

    /// Gives the memory of these bytes back, of whole pages; whoever reads them finds zeros. Panics where the range is
    /// not inside.
    pub fn discard(&self, offset: usize, length: usize) -> io::Result<()> {
        let page = rustix::param::page_size();
        let (first, end) = (offset.next_multiple_of(page), (offset + length) / page * page);
        self.at(offset, length);
        if first >= end {
            return Ok(());
        }
        // SAFETY: whole pages inside of the mapping; no reference to their bytes exists but atomics, which survive any
        // value.
        unsafe {
            let start = self.start.add(first).as_ptr().cast();
            rustix::mm::madvise(start, end - first, rustix::mm::Advice::LinuxRemove)?;
        }
        Ok(())
    }

    #[inline]
    fn at(&self, offset: usize, length: usize) -> NonNull<u8> {
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.length);
        assert!(fits, "{length} bytes at {offset} are outside of the region");
        // SAFETY: `offset` is inside of the mapping.
        unsafe { self.start.add(offset) }
    }
}

impl Drop for SharedRegion {
    fn drop(&mut self) {
        // SAFETY: nothing borrowed from the mapping outlives `self`.
        // An error would mean that it was not mapped; there is nothing left to do about it.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// So many pieces one call of [`send_foreign`] takes.
pub const MOST_FOREIGN: usize = 16;

/// Bytes of a [`SharedRegion`]. What they are can change at any time.
#[derive(Clone, Copy, Debug)]
pub struct Foreign<'a> {
    start: NonNull<u8>,
    length: usize,
    region: PhantomData<&'a SharedRegion>,
}

impl Foreign<'_> {
    /// How many they are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// Sends some of `head`, and of `pieces` behind it, with one copy: the kernel's. Panics where there are more than
/// [`MOST_FOREIGN`].
pub fn send_foreign(socket: impl AsFd, head: &[u8], pieces: &[Foreign<'_>]) -> io::Result<usize> {
    assert!(pieces.len() <= MOST_FOREIGN, "too many pieces");
    let none = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
    let mut parts = [none; MOST_FOREIGN + 1];
    parts[0] = libc::iovec { iov_base: head.as_ptr().cast_mut().cast(), iov_len: head.len() };
    for (part, piece) in parts[1..].iter_mut().zip(pieces) {
        *part = libc::iovec { iov_base: piece.start.as_ptr().cast(), iov_len: piece.length };
    }
    let first = usize::from(head.is_empty());
    // SAFETY: all zero is a message of nothing to nobody.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts[first..].as_mut_ptr();
    message.msg_iovlen = (pieces.len() + 1 - first) as _;
    // SAFETY: the kernel only reads: `head` is borrowed, the pieces are parts of a mapping that outlives them, and no
    // reference to their bytes exists. What a peer writes there meanwhile is sent as it is found.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Tells the kernel that nobody will read these bytes soon. A wish: pages that are a file's leave memory if they can.
pub fn page_out(bytes: &'static [u8]) {
    let page = rustix::param::page_size();
    let begin = bytes.as_ptr().align_offset(page);
    let Some(length) = bytes.len().checked_sub(begin).map(|l| l / page * page).filter(|l| *l > 0) else {
        return;
    };
    let first = bytes[begin..].as_ptr().cast_mut().cast();
    // SAFETY: whole pages within the bytes; what they hold does not change, wherever it is kept.
    let _ = unsafe { rustix::mm::madvise(first, length, rustix::mm::Advice::LinuxPageOut) };
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn two_mappings_see_the_same_bytes() {
        let (fd, ours) = SharedRegion::create("test", 8192).unwrap();
        let theirs = SharedRegion::map(&fd, 8192).unwrap();
        ours.copy_in(4090, b"across a page");
        let mut seen = [0; 13];
        theirs.copy_out(4090, &mut seen);
        assert_eq!(&seen, b"across a page");
        let mut appended = b">".to_vec();
        theirs.append_to(4090, 6, &mut appended);
        assert_eq!(appended, b">across");
        theirs.atomic_u64(64).store(7, Ordering::Relaxed);
        assert_eq!(ours.atomic_u64(64).load(Ordering::Relaxed), 7);
    }

    #[test]
    fn the_kernel_sends_from_the_region() {
        let (_fd, region) = SharedRegion::create("test", 4096).unwrap();
        region.copy_in(4090, b"world!");
        region.copy_in(0, b"hello ");
        let pieces = [region.foreign(0, 6), region.foreign(4090, 6)];
        let sent = |head: &[u8]| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let count = send_foreign(&ours, head, &pieces).unwrap();
            drop(ours);
            let mut seen = String::new();
            (&theirs).read_to_string(&mut seen).unwrap();
            assert_eq!(seen.len(), count);
            seen
        };
        assert_eq!(sent(b"> "), "> hello world!");
        assert_eq!(sent(b""), "hello world!");
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(send_foreign(&ours, b"", &pieces).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn memory_is_given_back() {
        let (fd, region) = SharedRegion::create("test", 1 << 20).unwrap();
        let taken = || rustix::fs::fstat(&fd).unwrap().st_blocks * 512;
        region.copy_in(0, &vec![7; 1 << 20]);
        assert_eq!(taken(), 1 << 20);
        region.discard(4095, (1 << 19) + 2).unwrap();
        assert_eq!(taken(), 1 << 19, "whole pages of it");
        let mut edges = [1; 2];
        region.copy_out(4095, &mut edges);
        assert_eq!(edges, [7, 0]);
        region.discard(4097, 4090).unwrap();
    }

    #[test]
    fn bounds_and_alignment_are_checked() {
        let (fd, region) = SharedRegion::create("test", 4096).unwrap();
        let refused = |f: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err();
        assert!(refused(&|| region.copy_in(4090, b"1234567")));
        assert!(refused(&|| region.copy_out(usize::MAX, &mut [0; 2])));
        assert!(refused(&|| _ = region.foreign(4090, 7)));
        assert!(refused(&|| _ = send_foreign(&fd, b"", &[region.foreign(0, 1); MOST_FOREIGN + 1])));
        assert!(refused(&|| _ = region.atomic_u64(4)));
        assert!(refused(&|| _ = region.atomic_u32(4096)));
        assert!(SharedRegion::map(&fd, 4097).is_err());
        assert!(rustix::fs::ftruncate(&fd, 0).is_err(), "the size is sealed");
    }

    #[test]
    fn what_could_shrink_is_not_mapped() {
        let fd = memfd("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&fd, 4096).unwrap();
        assert!(SharedRegion::map(&fd, 4096).is_err());
    }
}
