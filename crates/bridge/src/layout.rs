//! Where things are in the region, and how its words are read.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use sys::{Foreign, SharedRegion};

/// How many claimers (threads of workers) a region has room for: those of two generations.
pub const MOST_CLAIMERS: u16 = 8192;
/// How many slots an edge thread can have.
pub const MOST_SLOTS: u16 = 1024;
/// How many edge threads a region serves; what one message can carry of eventfds.
pub const MOST_THREADS: u16 = 64;
/// Size of a slot's request ring in bytes.
pub const REQUEST_RING: u32 = 128 * 1024;
/// Size of a slot's response ring in bytes: a worker whose whole answer fits is free at once.
pub const RESPONSE_RING: u32 = 512 * 1024;

/// "MONOCRS1"
const MAGIC: u64 = u64::from_le_bytes(*b"MONOCRS1");
const PAGE: usize = 4096;
const HEADER_SLOT: usize = 128;
/// How many words the bitmaps of claimers have, and those of an edge thread's slots.
pub(crate) const CLAIMER_WORDS: usize = MOST_CLAIMERS as usize / 64;
const SLOT_WORDS: usize = MOST_SLOTS as usize / 64;
const PARKED: usize = 128;
const WOKEN: usize = PARKED + 8 * CLAIMER_WORDS;
const _: () = assert!(WOKEN + 8 * CLAIMER_WORDS <= PAGE && MOST_CLAIMERS <= 1 << 14);
/// Both rings of a slot.
const RINGS: usize = (REQUEST_RING + RESPONSE_RING) as usize;

/// The kind of a slot's state.
pub(crate) const FREE: u64 = 0;
pub(crate) const READY: u64 = 1;
pub(crate) const CLAIMED: u64 = 2;
/// Tickets have 48 bits.
pub(crate) const TICKET_MASK: u64 = (1 << 48) - 1;

/// A slot's flag: the edge no longer wants the answer.
pub(crate) const CANCELLED: u32 = 1;

/// A slot's state word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) ticket: u64,
    pub(crate) kind: u64,
    pub(crate) claimer: u16,
}

impl State {
    pub(crate) const fn word(ticket: u64, kind: u64, claimer: u16) -> u64 {
        (ticket & TICKET_MASK) << 16 | kind << 14 | claimer as u64
    }

    pub(crate) const fn read(word: u64) -> Self {
        Self { ticket: word >> 16, kind: word >> 14 & 3, claimer: (word & 0x3fff) as u16 }
    }
}

/// The region with its parameters, checked.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) memory: SharedRegion,
    pub(crate) threads: u16,
    pub(crate) slots_per_thread: u16,
    /// Entries of the ring of tickets, a power of two.
    pub(crate) tickets: u64,
    places: Places,
}

#[derive(Debug, Clone, Copy)]
struct Places {
    claimers: usize,
    tickets: usize,
    slots: usize,
    rings: usize,
    end: usize,
}

impl Places {
    fn new(threads: u16, slots_per_thread: u16, tickets: u64) -> Self {
        let slots = usize::from(threads) * usize::from(slots_per_thread);
        let page = |at: usize| at.next_multiple_of(PAGE);
        let claimers = PAGE * (1 + usize::from(threads));
        let tickets_at = claimers + 64 * usize::from(MOST_CLAIMERS);
        let slots_at = page(tickets_at + 8 * tickets as usize);
        let rings = page(slots_at + HEADER_SLOT * slots);
        Self { claimers, tickets: tickets_at, slots: slots_at, rings, end: rings + RINGS * slots }
    }
}

/// One direction of a slot: positions count bytes since the request was published.
pub(crate) struct Ring<'a> {
    layout: &'a Layout,
    header: usize,
    data: usize,
    /// Power of two.
    size: usize,
}

impl<'a> Ring<'a> {
    /// How far was written.
    pub(crate) fn tail(&self) -> &AtomicU32 {
        self.layout.memory.atomic_u32(self.header)
    }

    /// How far was read.
    pub(crate) fn head(&self) -> &AtomicU32 {
        self.layout.memory.atomic_u32(self.header + 4)
    }

    /// What the side that waits sleeps on.
    pub(crate) fn word(&self) -> &AtomicU32 {
        self.layout.memory.atomic_u32(self.header + 8)
    }

    /// Whether it waits.
    pub(crate) fn waiting(&self) -> &AtomicU32 {
        self.layout.memory.atomic_u32(self.header + 12)
    }

    /// Copies bytes in at a position, over the ring's end where need be.
    pub(crate) fn write(&self, position: u32, bytes: &[u8]) {
        let size = self.size;
        let at = position as usize & (size - 1);
        let first = bytes.len().min(size - at);
        self.layout.memory.copy_in(self.data + at, &bytes[..first]);
        self.layout.memory.copy_in(self.data, &bytes[first..]);
    }

    /// Appends the `length` bytes at a position to `into`.
    pub(crate) fn read(&self, position: u32, length: usize, into: &mut Vec<u8>) {
        let size = self.size;
        let at = position as usize & (size - 1);
        let first = length.min(size - at);
        self.layout.memory.append_to(self.data + at, first, into);
        self.layout.memory.append_to(self.data, length - first, into);
    }

    /// The `length` bytes at a position, for the kernel: one piece, or two where they go over the ring's end.
    pub(crate) fn foreign(&self, position: u32, length: usize) -> [Foreign<'a>; 2] {
        let at = position as usize & (self.size - 1);
        let first = length.min(self.size - at);
        let memory = &self.layout.memory;
        [memory.foreign(self.data + at, first), memory.foreign(self.data, length - first)]
    }

    /// Gives the memory behind the first `keep` bytes back: only while nobody uses the slot.
    pub(crate) fn trim(&self, keep: u32) {
        let keep = keep as usize;
        // An error means that the memory stays.
        let _ = self.layout.memory.discard(self.data + keep, self.size - keep);
    }

    /// Both positions back to the beginning: only while nobody else uses the slot.
    pub(crate) fn reset(&self) {
        self.tail().store(0, Ordering::Relaxed);
        self.head().store(0, Ordering::Relaxed);
        self.waiting().store(0, Ordering::Relaxed);
    }
}

impl Layout {
    /// How many entries the ring of tickets has for so many slots.
    fn tickets(threads: u16, slots_per_thread: u16) -> u64 {
        (u64::from(threads) * u64::from(slots_per_thread)).next_power_of_two()
    }

    fn valid(threads: u16, slots_per_thread: u16) -> bool {
        (1..=MOST_THREADS).contains(&threads)
            && (1..=MOST_SLOTS).contains(&slots_per_thread)
            && u32::from(threads) * u32::from(slots_per_thread) <= 1 << 16
    }

    /// The size of a region for so many slots; `None` if there cannot be as many.
    pub(crate) fn size(threads: u16, slots_per_thread: u16) -> Option<usize> {
        Self::valid(threads, slots_per_thread).then(|| {
            let tickets = Self::tickets(threads, slots_per_thread);
            Places::new(threads, slots_per_thread, tickets).end
        })
    }

    /// Writes the header of a fresh region of the right size.
    pub(crate) fn create(memory: SharedRegion, threads: u16, slots_per_thread: u16) -> Self {
        let tickets = Self::tickets(threads, slots_per_thread);
        let words = [crate::message::VERSION, threads.into(), slots_per_thread.into(), MOST_CLAIMERS.into()];
        for (i, word) in words.into_iter().chain([REQUEST_RING, RESPONSE_RING, tickets as u32]).enumerate() {
            memory.atomic_u32(8 + 4 * i).store(word, Ordering::Relaxed);
        }
        memory.atomic_u64(0).store(MAGIC, Ordering::Release);
        let places = Places::new(threads, slots_per_thread, tickets);
        Self { memory, threads, slots_per_thread, tickets, places }
    }

    /// Reads the header of a region that somebody else made; `None` when it does not fit itself or this program.
    pub(crate) fn open(memory: SharedRegion) -> Option<Self> {
        let word = |i: usize| memory.atomic_u32(8 + 4 * i).load(Ordering::Relaxed);
        if memory.len() < PAGE || memory.atomic_u64(0).load(Ordering::Acquire) != MAGIC {
            return None;
        }
        let (threads, slots_per_thread) = (u16::try_from(word(1)).ok()?, u16::try_from(word(2)).ok()?);
        let known = word(0) == crate::message::VERSION
            && word(3) == u32::from(MOST_CLAIMERS)
            && word(4) == REQUEST_RING
            && word(5) == RESPONSE_RING;
        if !known || Self::size(threads, slots_per_thread)? != memory.len() {
            return None;
        }
        let tickets = Self::tickets(threads, slots_per_thread);
        let places = Places::new(threads, slots_per_thread, tickets);
        (u64::from(word(6)) == tickets).then_some(Self { memory, threads, slots_per_thread, tickets, places })
    }

    /// From which ticket on there may be something to claim: a hint.
    pub(crate) fn head(&self) -> &AtomicU64 {
        self.memory.atomic_u64(64)
    }

    /// Which claimers sleep, 64 to a word.
    pub(crate) fn parked(&self, word: usize) -> &AtomicU64 {
        debug_assert!(word < CLAIMER_WORDS);
        self.memory.atomic_u64(PARKED + 8 * word)
    }

    /// Which claimers were woken and have not looked yet.
    pub(crate) fn woken(&self, word: usize) -> &AtomicU64 {
        debug_assert!(word < CLAIMER_WORDS);
        self.memory.atomic_u64(WOKEN + 8 * word)
    }

    /// Whether an edge thread wants its eventfd written.
    pub(crate) fn sleeping(&self, thread: u16) -> &AtomicU32 {
        self.memory.atomic_u32(PAGE * (1 + usize::from(thread)))
    }

    /// Which of an edge thread's slots have something to read, 64 to a word.
    pub(crate) fn dirty(&self, thread: u16, word: usize) -> &AtomicU64 {
        debug_assert!(word < SLOT_WORDS);
        self.memory.atomic_u64(PAGE * (1 + usize::from(thread)) + 64 + 8 * word)
    }

    /// What a claimer sleeps on.
    pub(crate) fn claimer_word(&self, claimer: u16) -> &AtomicU32 {
        self.memory.atomic_u32(self.places.claimers + 64 * usize::from(claimer))
    }

    /// Not 0: it is to claim no more.
    pub(crate) fn claimer_stop(&self, claimer: u16) -> &AtomicU32 {
        self.memory.atomic_u32(self.places.claimers + 64 * usize::from(claimer) + 4)
    }

    /// Whose it is.
    pub(crate) fn claimer_pid(&self, claimer: u16) -> &AtomicU32 {
        self.memory.atomic_u32(self.places.claimers + 64 * usize::from(claimer) + 8)
    }

    /// The entry of the ring of tickets where a ticket goes: `(ticket + 1) << 16 | slot`.
    pub(crate) fn entry(&self, ticket: u64) -> &AtomicU64 {
        self.memory.atomic_u64(self.places.tickets + 8 * (ticket & (self.tickets - 1)) as usize)
    }

    /// How many slots there are.
    pub(crate) fn slots(&self) -> u32 {
        u32::from(self.threads) * u32::from(self.slots_per_thread)
    }

    fn slot(&self, slot: u16) -> usize {
        self.places.slots + HEADER_SLOT * usize::from(slot)
    }

    /// A slot's state word.
    pub(crate) fn state(&self, slot: u16) -> &AtomicU64 {
        self.memory.atomic_u64(self.slot(slot))
    }

    /// When it was claimed, in nanoseconds of CLOCK_MONOTONIC.
    pub(crate) fn claimed_at(&self, slot: u16) -> &AtomicU64 {
        self.memory.atomic_u64(self.slot(slot) + 8)
    }

    /// What the edge wants the worker to know.
    pub(crate) fn flags(&self, slot: u16) -> &AtomicU32 {
        self.memory.atomic_u32(self.slot(slot) + 16)
    }

    /// Not 0: the worker has let go of a cancelled exchange without an END frame.
    pub(crate) fn left(&self, slot: u16) -> &AtomicU32 {
        self.memory.atomic_u32(self.slot(slot) + 20)
    }

    pub(crate) fn request(&self, slot: u16) -> Ring<'_> {
        let size = REQUEST_RING as usize;
        Ring { layout: self, header: self.slot(slot) + 32, data: self.data(slot), size }
    }

    pub(crate) fn response(&self, slot: u16) -> Ring<'_> {
        let (data, size) = (self.data(slot) + REQUEST_RING as usize, RESPONSE_RING as usize);
        Ring { layout: self, header: self.slot(slot) + 64, data, size }
    }

    fn data(&self, slot: u16) -> usize {
        self.places.rings + RINGS * usize::from(slot)
    }
}

/// The ring's entry for a ticket of a slot.
pub(crate) const fn entry(ticket: u64, slot: u16) -> u64 {
    ((ticket + 1) & TICKET_MASK) << 16 | slot as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_words_read_as_written() {
        for (ticket, kind, claimer) in
            [(0, FREE, 0), (7, READY, 0), (TICKET_MASK, CLAIMED, MOST_CLAIMERS - 1)]
        {
            assert_eq!(State::read(State::word(ticket, kind, claimer)), State { ticket, kind, claimer });
        }
    }

    #[test]
    fn both_sides_agree_on_the_layout() {
        let size = Layout::size(3, 100).unwrap();
        let (fd, memory) = SharedRegion::create("test", size).unwrap();
        let ours = Layout::create(memory, 3, 100);
        let theirs = Layout::open(SharedRegion::map(&fd, size).unwrap()).unwrap();
        ours.response(299).write(RESPONSE_RING - 3, b"wrapped");
        let mut seen = Vec::new();
        theirs.response(299).read(RESPONSE_RING - 3, 7, &mut seen);
        assert_eq!(seen, b"wrapped");
        ours.memory.atomic_u32(12).store(4, Ordering::Relaxed);
        assert!(Layout::open(SharedRegion::map(&fd, size).unwrap()).is_none());
        assert_eq!(Layout::size(0, 1), None);
        assert_eq!(Layout::size(65, 1), None);
        assert_eq!(Layout::size(64, 1025), None);
    }
}
