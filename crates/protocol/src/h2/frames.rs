//! The client's frames before the codec has them: what they cost us, and what is wrong with them that the codec has no
//! right name for.
//!
//! The codec calls nearly all errors PROTOCOL_ERROR. Lengths of frames, windows that are too large, and frames on streams
//! that are closed have codes of their own (RFC 9113 §4.2, §5.1, §6.5.2), and so have header sections that cannot be
//! decompressed: those are given to the codec by themselves, so that it is known what it finds fault with.
//!
//! Each frame of these kinds makes the server work and the client not: CVE-2019-9511 to 9518, CVE-2023-44487 and
//! their like. The codec answers them one by one; here they are counted against an allowance that comes back with
//! time, and with what the client takes of our responses.

use std::collections::VecDeque;
use std::time::Instant;

use ::h2::Reason;

use super::section;

/// Bytes of the preface in front of the first frame (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// Bytes of a frame's header (RFC 9113 §4.1).
const HEADER: usize = 9;

/// Frames that only cost, such as PING: so many at once, and then so many a second.
const CONTROL: (u32, u32) = (500, 50);
/// Streams that the client ends itself.
const RESETS: (u32, u32) = (1000, 33);
/// WINDOW_UPDATE: beside these one for each [`BYTES_PER_UPDATE`] bytes that were written.
const UPDATES: (u32, u32) = (1000, 50);
/// Streams without an end that are remembered; what is sent on older ones is an error.
const OPEN: usize = 1024;
/// Gaps between the numbers of streams that are remembered.
const SKIPPED: usize = 16;
/// Bytes of a header section that are looked at; of a longer one it is not known whether it is malformed.
const BLOCK: usize = 64 * 1024;
/// A window is opened for this many bytes at least, by a client that means it.
const BYTES_PER_UPDATE: u64 = 256;

/// Why the connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The client broke the protocol.
    Error(Reason),
    /// Too many frames that only cost.
    Flood,
}

/// A stretch of the client's bytes that the codec may have at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// How many bytes.
    pub(super) length: usize,
    /// It is (a part of) a header section that begins a stream, and nothing else is wrong with its frames: if the codec
    /// finds fault with it, then with its compression.
    pub(super) is_section: bool,
}

/// Follows the client's frames.
pub(super) struct Frames {
    at: At,
    /// The header of the current frame.
    header: [u8; HEADER],
    /// A header section has begun and its last frame is not there.
    section: Option<Section>,
    /// What has come of the last section, without framing.
    block: Vec<u8>,
    /// Where the current frame's part of it begins.
    part: usize,
    /// How much padding a frame with a priority says that it has.
    padding: Option<u8>,
    has_settings: bool,
    fault: Option<Fault>,
    streams: Streams,
    control: Bucket,
    resets: Bucket,
    updates: Bucket,
    written: u64,
}

#[derive(Clone, Copy)]
struct Section {
    stream: u32,
    /// It begins the stream, and nothing is wrong with its frames.
    begins: bool,
    /// It ends the stream that another has begun.
    is_trailers: bool,
}

enum At {
    Preface(usize),
    Header(usize),
    /// The first bytes of a payload say something, or the next entry of a SETTINGS frame does.
    Begin {
        bytes: [u8; 6],
        have: usize,
        want: usize,
        left: usize,
    },
    Payload(usize),
}

impl Frames {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            at: At::Preface(PREFACE),
            header: [0; HEADER],
            section: None,
            block: Vec::new(),
            part: 0,
            padding: None,
            has_settings: false,
            fault: None,
            streams: Streams::default(),
            control: Bucket::new(CONTROL, now),
            resets: Bucket::new(RESETS, now),
            updates: Bucket::new(UPDATES, now),
            written: 0,
        }
    }

    /// Whether the next byte of the client belongs to a request's head that has begun.
    pub(super) fn is_within_head(&self) -> bool {
        self.section.is_some()
    }

    /// Whether the last header section has fields that cannot be there, as far as it can be decompressed.
    pub(super) fn is_malformed(&self) -> bool {
        self.block.len() <= BLOCK && section::is_malformed(&self.block, false)
    }

    /// Gives back memory that an idle connection does not need.
    pub(super) fn release(&mut self) {
        self.block = Vec::new();
    }

    /// So many bytes were written to the client.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
        if self.written >= BYTES_PER_UPDATE {
            self.updates.give(self.written / BYTES_PER_UPDATE);
            self.written %= BYTES_PER_UPDATE;
        }
    }

    /// How many of the next bytes of the client (some) the codec may have. A frame that is wrong is not among them; it
    /// is the next call's error, and every further one's.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<Stretch, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        // Where the last frame begins that has begun within these bytes.
        let (mut at, mut begin) = (0, 0);
        let stretch = |length, is_section| Ok(Stretch { length, is_section });
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.at {
                At::Preface(left) => {
                    let taken = rest.len().min(*left);
                    *left -= taken;
                    if *left == 0 {
                        self.at = At::Header(0);
                    }
                    return stretch(taken, false);
                }
                At::Header(have) => {
                    let taken = rest.len().min(HEADER - *have);
                    if *have == 0 {
                        begin = at;
                    }
                    self.header[*have..*have + taken].copy_from_slice(&rest[..taken]);
                    *have += taken;
                    at += taken;
                    if *have == HEADER {
                        // A header section stands for itself.
                        if is_section(kind(&self.header)) && begin > 0 {
                            self.at = At::Header(0);
                            return stretch(begin, false);
                        }
                        if let Err(fault) = self.frame() {
                            self.fault = Some(fault);
                            return if begin > 0 { stretch(begin, false) } else { Err(fault) };
                        }
                        self.begin_payload();
                    }
                }
                At::Begin { bytes: entry, have, want, left } => {
                    let taken = rest.len().min(*want - *have);
                    entry[*have..*have + taken].copy_from_slice(&rest[..taken]);
                    *have += taken;
                    at += taken;
                    if have == want {
                        let (entry, left) = (*entry, *left - *want);
                        self.padding = Some(entry[0]);
                        if let Err(fault) = self.check(entry) {
                            self.fault = Some(fault);
                            return if begin > 0 { stretch(begin, false) } else { Err(fault) };
                        }
                        self.at = match left {
                            0 => At::Header(0),
                            left if kind(&self.header) == kind::SETTINGS => {
                                At::Begin { bytes: entry, have: 0, want: 6, left }
                            }
                            left => At::Payload(left),
                        };
                    }
                }
                At::Payload(left) => {
                    let taken = rest.len().min(*left);
                    *left -= taken;
                    at += taken;
                    if is_section(kind(&self.header)) {
                        let room = (BLOCK + 1).saturating_sub(self.block.len());
                        self.block.extend_from_slice(&rest[..taken.min(room)]);
                    }
                    if *left == 0 {
                        self.at = At::Header(0);
                    }
                }
            }
            if is_section(kind(&self.header)) && matches!(self.at, At::Header(0)) {
                let section = self.section;
                self.end_part();
                if flags(&self.header) & END_HEADERS != 0 {
                    self.section = None;
                    if section.is_some_and(|section| section.is_trailers)
                        && self.block.len() <= BLOCK
                        && section::is_malformed(&self.block, true)
                    {
                        let fault = Fault::Error(Reason::PROTOCOL_ERROR);
                        self.fault = Some(fault);
                        return Err(fault);
                    }
                }
                return stretch(at, section.is_some_and(|section| section.begins));
            }
        }
        stretch(at, self.section.is_some_and(|section| section.begins))
    }

    /// Takes the padding out of the part of a header section that a frame has brought (RFC 9113 §6.2).
    fn end_part(&mut self) {
        let flags = flags(&self.header);
        if kind(&self.header) != kind::HEADERS || flags & PADDED == 0 || self.block.len() > BLOCK {
            return;
        }
        let padding = match self.padding {
            Some(padding) => padding,
            None if self.block.len() > self.part => self.block.remove(self.part),
            None => return,
        };
        // If there is more of it than there can be, the codec says so.
        let end = self.block.len().saturating_sub(usize::from(padding)).max(self.part);
        self.block.truncate(end);
    }

    /// What a frame's header tells.
    fn frame(&mut self) -> Result<(), Fault> {
        let header = &self.header;
        let (length, kind, flags, stream) = (length(header), kind(header), flags(header), stream(header));
        let is_first = !self.has_settings;
        if is_first {
            // That of a client may acknowledge ours, as nginx takes it, and its test suite's client sends it.
            if kind != kind::SETTINGS {
                return Err(Fault::Error(Reason::PROTOCOL_ERROR));
            }
            self.has_settings = true;
        }
        if kind == kind::PUSH_PROMISE {
            // Of a client it is never right, whatever it promises (RFC 9113 §8.4).
            return Err(Fault::Error(Reason::PROTOCOL_ERROR));
        }
        let is_right = match kind {
            kind::SETTINGS if flags & ACK != 0 => length == 0,
            kind::SETTINGS => length.is_multiple_of(6),
            kind::PRIORITY => length == 5,
            kind::RST_STREAM | kind::WINDOW_UPDATE => length == 4,
            kind::PING => length == 8,
            kind::GOAWAY => length >= 8,
            _ => true,
        };
        if !is_right {
            return Err(Fault::Error(Reason::FRAME_SIZE_ERROR));
        }
        // A section is not interrupted, and nothing else is continued (RFC 9113 §4.3, §6.10).
        let continues = self.section.map(|section| (kind::CONTINUATION, section.stream));
        if continues != (kind == kind::CONTINUATION).then_some((kind, stream)) {
            return Err(Fault::Error(Reason::PROTOCOL_ERROR));
        }
        self.streams.frame(kind, flags, stream).map_err(Fault::Error)?;
        let has_room = match kind {
            kind::DATA => length > 0 || flags & END_STREAM != 0 || self.control.take(1),
            kind::HEADERS | kind::CONTINUATION => {
                // Padding may be wrong as well: then the codec's word stands.
                let begins = self.streams.has_begun && flags & PADDED == 0;
                let is_trailers = !self.streams.has_begun;
                if self.section.is_none() {
                    self.block.clear();
                }
                self.part = self.block.len();
                self.padding = None;
                self.section.get_or_insert(Section { stream, begins, is_trailers });
                // A section in many small pieces is the CONTINUATION flood; one piece is usual.
                flags & END_HEADERS != 0 || self.control.take(1)
            }
            kind::RST_STREAM => self.resets.take(1),
            kind::WINDOW_UPDATE => self.updates.take(1),
            kind::SETTINGS | kind::PING if flags & ACK != 0 => true,
            // Each may change the window of every stream.
            kind::SETTINGS => is_first || self.control.take(5),
            // PRIORITY, PING, and what nobody knows.
            _ => self.control.take(1),
        };
        has_room.then_some(()).ok_or(Fault::Flood)
    }

    fn begin_payload(&mut self) {
        let (length, flags) = (length(&self.header), flags(&self.header));
        let want = match kind(&self.header) {
            kind::SETTINGS => 6,
            kind::PRIORITY => 5,
            kind::HEADERS if flags & PRIORITY != 0 && flags & PADDED != 0 => 6,
            kind::HEADERS if flags & PRIORITY != 0 => 5,
            _ => 0,
        };
        self.at = match length {
            0 => At::Header(0),
            left if want > 0 && want <= left => At::Begin { bytes: [0; 6], have: 0, want, left },
            left => At::Payload(left),
        };
    }

    /// What the beginning of a payload, or an entry of SETTINGS, tells.
    fn check(&self, bytes: [u8; 6]) -> Result<(), Fault> {
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        match kind(&self.header) {
            // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
            kind::SETTINGS if bytes[..2] == [0, 4] && number(2) > i32::MAX as u32 => {
                Err(Fault::Error(Reason::FLOW_CONTROL_ERROR))
            }
            // A stream that depends on itself (RFC 7540 §5.3.1); of the connection, as in nginx.
            kind::PRIORITY | kind::HEADERS => {
                let at =
                    usize::from(kind(&self.header) == kind::HEADERS && flags(&self.header) & PADDED != 0);
                let depends = number(at) & 0x7fff_ffff;
                let depends_on_itself = depends == stream(&self.header) && depends != 0;
                if depends_on_itself { Err(Fault::Error(Reason::PROTOCOL_ERROR)) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }
}

/// Streams by what the client has sent on them.
#[derive(Default)]
struct Streams {
    /// The highest that it has begun.
    highest: u32,
    /// Those that it has begun and not ended, the oldest first.
    open: VecDeque<u32>,
    /// Numbers that it has left out, from and to: nobody may begin them any more.
    skipped: Vec<(u32, u32)>,
    /// The last HEADERS frame began a stream.
    has_begun: bool,
}

impl Streams {
    fn frame(&mut self, kind: u8, flags: u8, stream: u32) -> Result<(), Reason> {
        let ends = flags & END_STREAM != 0;
        match kind {
            kind::HEADERS => {
                self.has_begun = stream > self.highest && !stream.is_multiple_of(2);
                if self.has_begun {
                    if stream - self.highest > 2 && self.skipped.len() < SKIPPED {
                        self.skipped.push((self.highest + 1, stream - 1));
                    }
                    self.highest = stream;
                    if !ends {
                        self.open.push_back(stream);
                    }
                    if self.open.len() > OPEN {
                        self.open.pop_front();
                    }
                    return Ok(());
                }
                // The codec's affair, as all that has no right number.
                if stream.is_multiple_of(2)
                    || self.skipped.iter().any(|(from, to)| (*from..=*to).contains(&stream))
                {
                    return Ok(());
                }
                self.sent(stream, ends)
            }
            kind::DATA if stream > 0 && stream <= self.highest => self.sent(stream, ends),
            kind::RST_STREAM => {
                self.open.retain(|open| *open != stream);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A frame on a stream that the client has ended is one of a stream that is closed (RFC 9113 §5.1).
    fn sent(&mut self, stream: u32, ends: bool) -> Result<(), Reason> {
        let Some(at) = self.open.iter().position(|open| *open == stream) else {
            return Err(Reason::STREAM_CLOSED);
        };
        if ends {
            self.open.remove(at);
        }
        Ok(())
    }
}

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Frame types (RFC 9113 §6).
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const PRIORITY: u8 = 2;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PUSH_PROMISE: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

fn is_section(kind: u8) -> bool {
    matches!(kind, kind::HEADERS | kind::CONTINUATION)
}

fn length(header: &[u8; HEADER]) -> usize {
    usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2])
}

fn kind(header: &[u8; HEADER]) -> u8 {
    header[3]
}

fn flags(header: &[u8; HEADER]) -> u8 {
    header[4]
}

fn stream(header: &[u8; HEADER]) -> u32 {
    u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & 0x7fff_ffff
}

/// An allowance that comes back with time.
struct Bucket {
    left: u32,
    most: u32,
    per_second: u32,
    since: Instant,
}

impl Bucket {
    fn new((most, per_second): (u32, u32), now: Instant) -> Self {
        Self { left: most, most, per_second, since: now }
    }

    fn take(&mut self, count: u32) -> bool {
        if self.left < count {
            // The clock is only asked when it matters.
            let back = self.since.elapsed().as_secs().saturating_mul(u64::from(self.per_second));
            if back > 0 {
                self.since = Instant::now();
                self.give(back);
            }
        }
        let has_room = self.left >= count;
        self.left = self.left.saturating_sub(count);
        has_room
    }

    fn give(&mut self, count: u64) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(count).min(self.most);
    }
}

#[cfg(test)]
mod tests;
