//! `mp4`: a video from some time on, and up to some time: its index is written anew for the samples between.
//!
//! A file is `ftyp`, `moov` (the index) and `mdat` (the samples). The index has for each track tables of how long samples
//! last (`stts`), which are key frames (`stss`), how they are shifted (`ctts`), how many lie in each chunk (`stsc`), how
//! large they are (`stsz`) and where chunks begin (`stco`, `co64`): ISO/IEC 14496-12 §8. What is sent is `ftyp`, the new
//! `moov`, and of the samples the bytes between the first that is wanted and the last.
#![expect(clippy::trivially_copy_pass_by_ref, reason = "names of boxes are written as `b\"moov\"`")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of `ftyp` at most.
const TYPE: u64 = 1024;
/// Boxes at the top of a file that are looked at.
const TOP: usize = 1000;

/// Which part of a video is wanted, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where it begins.
    pub start: u64,
    /// How long it is; `None` is up to the end.
    pub length: Option<u64>,
    /// It begins with the key frame before (`mp4_start_key_frame`), of which the player is told to show nothing.
    pub key_frame: bool,
    /// `mp4_max_buffer_size`: bytes of an index at most.
    pub most: u64,
}

/// A part of a video: these bytes, then a range of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Cut {
    /// What comes first.
    pub head: Vec<u8>,
    /// First byte of the file.
    pub start: u64,
    /// Bytes of it.
    pub length: u64,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum Mp4Error {
    /// It is no such video, or a broken one.
    #[error("mp4: {0}")]
    Broken(&'static str),
    /// The index is larger than may be read.
    #[error("mp4 moov atom is too large: {0}, you may want to increase mp4_max_buffer_size")]
    Large(u64),
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Most of what is done here may find that it is no video.
pub type Made<T> = Result<T, Mp4Error>;

fn broken<T>(words: &'static str) -> Made<T> {
    Err(Mp4Error::Broken(words))
}

/// Finds out what to send of a file of this length.
pub fn cut(file: &File, length: u64, wanted: Wanted) -> Made<Cut> {
    let (mut kind, mut index, mut has_data) = (Vec::new(), None, false);
    let mut at = 0;
    for _ in 0..TOP {
        if at >= length {
            break;
        }
        let top = top_box(file, at, length)?;
        match &top.name {
            b"ftyp" if top.length > TYPE => return broken("the ftyp atom is too large"),
            b"ftyp" => kind = read(file, at, top.length)?,
            b"moov" if top.length > wanted.most => return Err(Mp4Error::Large(top.length)),
            b"moov" => index = Some(read(file, at + top.head, top.length - top.head)?),
            b"mdat" => has_data = true,
            _ => {}
        }
        at += top.length;
    }
    let Some(index) = index else { return broken("no moov atom was found") };
    if !has_data {
        return broken("no mdat atom was found");
    }
    let mut movie = Movie::parse(&index, wanted)?;
    let (start, end) = movie.range(length)?;
    let data_head = if end - start > u64::from(u32::MAX) - 8 { 16 } else { 8 };
    // The chunks move by what stands before the samples now; how long that is does not depend on where they are.
    let before = kind.len() as u64 + movie.write(0, 0)?.len() as u64 + data_head;
    let mut head = kind;
    head.extend(movie.write(start, before)?);
    let whole = end - start + data_head;
    if data_head == 16 {
        head.extend_from_slice(&1_u32.to_be_bytes());
        head.extend_from_slice(b"mdat");
        head.extend_from_slice(&whole.to_be_bytes());
    } else {
        head.extend_from_slice(&(whole as u32).to_be_bytes());
        head.extend_from_slice(b"mdat");
    }
    Ok(Cut { head, start, length: end - start })
}

/// A file with these bytes: small ones are in memory.
pub fn in_memory(bytes: &[u8]) -> Made<File> {
    use std::io::Write;
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    Ok(file)
}

struct Top {
    name: [u8; 4],
    head: u64,
    length: u64,
}

fn top_box(file: &File, at: u64, length: u64) -> Made<Top> {
    let mut bytes = [0; 16];
    let have = 16.min(length - at) as usize;
    if have < 8 {
        return broken("an atom at the end is cut off");
    }
    file.read_exact_at(&mut bytes[..have], at)?;
    let short = u64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let name = [bytes[4], bytes[5], bytes[6], bytes[7]];
    let (head, own) = match short {
        // Up to the end of the file.
        0 => (8, length - at),
        1 if have == 16 => (16, bytes[8..].try_into().map_or(0, u64::from_be_bytes)),
        short => (8, short),
    };
    if own < head || own > length - at {
        return broken("an atom is longer than the file, or shorter than its head");
    }
    Ok(Top { name, head, length: own })
}

fn read(file: &File, at: u64, length: u64) -> Made<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

/// The boxes in a piece of an index: names and contents.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = Made<([u8; 4], &[u8])>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let Some((head, _)) = bytes.split_first_chunk::<8>() else {
            bytes = &[];
            return Some(broken("an atom of the index is cut off"));
        };
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let name = [head[4], head[5], head[6], head[7]];
        let Some(content) = bytes.get(8..length) else {
            bytes = &[];
            return Some(broken("an atom of the index has a wrong length"));
        };
        bytes = &bytes[length..];
        Some(Ok((name, content)))
    })
}

fn find<'b>(bytes: &'b [u8], wanted: &[u8; 4]) -> Made<Option<&'b [u8]>> {
    for one in boxes(bytes) {
        let (name, content) = one?;
        if name == *wanted {
            return Ok(Some(content));
        }
    }
    Ok(None)
}

fn need<'b>(bytes: &'b [u8], wanted: &[u8; 4]) -> Made<&'b [u8]> {
    find(bytes, wanted)?.ok_or(Mp4Error::Broken("an atom that every track has is missing"))
}

fn word(bytes: &[u8], at: usize) -> Made<u32> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map(|word| u32::from_be_bytes(*word)).ok_or(Mp4Error::Broken("an atom of the index is too short"))
}

fn long(bytes: &[u8], at: usize) -> Made<u64> {
    Ok(u64::from(word(bytes, at)?) << 32 | u64::from(word(bytes, at + 4)?))
}

/// The entries of a table: `N` numbers each, behind their count at `at`.
fn table<const N: usize>(bytes: &[u8], at: usize) -> Made<Vec<[u32; N]>> {
    let count = word(bytes, at)? as usize;
    let Some(entries) = count.checked_mul(4 * N).and_then(|length| bytes[at + 4..].get(..length)) else {
        return broken("a table of the index is shorter than it says");
    };
    Ok(entries
        .chunks_exact(4 * N)
        .map(|entry| {
            let mut words = [0; N];
            for (word, bytes) in words.iter_mut().zip(entry.chunks_exact(4)) {
                *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            words
        })
        .collect())
}

fn put(out: &mut Vec<u8>, name: &[u8; 4], fill: impl FnOnce(&mut Vec<u8>) -> Made<()>) -> Made<()> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(name);
    fill(out)?;
    let length = u32::try_from(out.len() - at).map_err(|_| Mp4Error::Broken("the index is too long"))?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// A table of the index with its count.
fn put_table<const N: usize>(
    out: &mut Vec<u8>,
    name: &[u8; 4],
    version: u32,
    entries: &[[u32; N]],
) -> Made<()> {
    put(out, name, |out| {
        out.extend_from_slice(&version.to_be_bytes());
        out.extend_from_slice(&(entries.len() as u32).to_be_bytes());
        entries.iter().flatten().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
        Ok(())
    })
}

/// A box with a time scale and a duration in it: `mvhd` and `mdhd`; `tkhd` has a duration only.
fn with_duration(content: &[u8], scale: bool, change: impl Fn(u64, u64) -> u64, of: u64) -> Made<Vec<u8>> {
    let is_long = content.first() == Some(&1);
    let at = match (is_long, scale) {
        (false, true) => 16,
        (true, true) => 24,
        (false, false) => 20,
        (true, false) => 28,
    };
    let scale = if scale { u64::from(word(content, at - 4)?) } else { of };
    let mut changed = content.to_vec();
    if is_long {
        let duration = change(long(content, at)?, scale);
        changed[at..at + 8].copy_from_slice(&duration.to_be_bytes());
    } else {
        let duration = change(u64::from(word(content, at)?), scale);
        changed[at..at + 4].copy_from_slice(&u32::try_from(duration).unwrap_or(u32::MAX).to_be_bytes());
    }
    Ok(changed)
}

/// The time scale of `mvhd` or `mdhd`.
fn scale_of(content: &[u8]) -> Made<u64> {
    let at = if content.first() == Some(&1) { 20 } else { 12 };
    match word(content, at)? {
        0 => broken("a time scale is 0"),
        scale => Ok(u64::from(scale)),
    }
}

struct Movie<'b> {
    head: Vec<u8>,
    tracks: Vec<Track<'b>>,
}

impl<'b> Movie<'b> {
    fn parse(index: &'b [u8], wanted: Wanted) -> Made<Self> {
        let head = need(index, b"mvhd")?;
        let scale = scale_of(head)?;
        let shortened = |duration: u64, scale: u64| {
            let rest = duration.saturating_sub(in_scale(wanted.start, scale));
            wanted.length.map_or(rest, |length| rest.min(in_scale(length, scale)))
        };
        let (mut tracks, mut ended) = (Vec::new(), false);
        for one in boxes(index) {
            let (name, content) = one?;
            if name != *b"trak" {
                continue;
            }
            // One that is over by then is left out.
            if has_ended(content, wanted.start, scale)? {
                ended = true;
            } else {
                tracks.push(Track::parse(content, wanted, scale, &shortened)?);
            }
        }
        if tracks.is_empty() {
            return broken(if ended { "start time exceeds file duration" } else { "there is no track" });
        }
        Ok(Self { head: with_duration(head, true, shortened, 0)?, tracks })
    }

    /// The bytes of the file that are needed.
    fn range(&mut self, length: u64) -> Made<(u64, u64)> {
        let start = self.tracks.iter().map(|track| track.start).min().unwrap_or(0);
        let end = self.tracks.iter().map(|track| track.end).max().unwrap_or(0);
        if start >= end || end > length {
            return broken("the samples are outside of the file");
        }
        Ok((start, end))
    }

    /// The index, with chunks moved from `from` to `to`.
    fn write(&self, from: u64, to: u64) -> Made<Vec<u8>> {
        let mut out = Vec::new();
        put(&mut out, b"moov", |out| {
            put(out, b"mvhd", |out| {
                out.extend_from_slice(&self.head);
                Ok(())
            })?;
            self.tracks.iter().try_for_each(|track| track.write(out, from, to))
        })?;
        Ok(out)
    }
}

/// Whether a track is over at that time.
fn has_ended(track: &[u8], start: u64, movie_scale: u64) -> Made<bool> {
    let duration = track_duration(need(track, b"tkhd")?)?;
    Ok(start > 0 && duration <= in_scale(start, movie_scale))
}

/// Milliseconds in another scale.
fn in_scale(millis: u64, scale: u64) -> u64 {
    u64::try_from(u128::from(millis) * u128::from(scale) / 1000).unwrap_or(u64::MAX)
}

/// A track, for the samples that are wanted.
struct Track<'b> {
    head: Vec<u8>,
    media_head: Vec<u8>,
    /// `hdlr`, and what stands beside the tables.
    handler: Option<&'b [u8]>,
    information: Vec<([u8; 4], &'b [u8])>,
    description: &'b [u8],
    times: Vec<[u32; 2]>,
    keys: Option<Vec<[u32; 1]>>,
    shifts: Option<(u32, Vec<[u32; 2]>)>,
    chunks: Vec<[u32; 3]>,
    /// The size of all, else 0; and how many there are.
    sizes: (u32, u32, Vec<u32>),
    places: Vec<u64>,
    are_long: bool,
    /// How much of the beginning is not shown, and how long the rest is, in the movie's scale.
    edit: Option<(u64, u64)>,
    start: u64,
    end: u64,
}

impl<'b> Track<'b> {
    fn parse(
        content: &'b [u8],
        wanted: Wanted,
        movie_scale: u64,
        shortened: &impl Fn(u64, u64) -> u64,
    ) -> Made<Self> {
        let head = with_duration(need(content, b"tkhd")?, false, shortened, movie_scale)?;
        let media = need(content, b"mdia")?;
        let media_head = need(media, b"mdhd")?;
        let scale = scale_of(media_head)?;
        let information = need(media, b"minf")?;
        let tables = need(information, b"stbl")?;
        let times: Vec<[u32; 2]> = table(need(tables, b"stts")?, 4)?;
        let keys: Option<Vec<[u32; 1]>> = find(tables, b"stss")?.map(|keys| table(keys, 4)).transpose()?;

        let begin = in_scale(wanted.start, scale);
        let Some(mut first) = sample_at(&times, begin) else {
            return broken("start time is out of the samples");
        };
        let mut hidden = 0;
        if wanted.key_frame
            && let Some(keys) = &keys
        {
            let key =
                keys.iter().map(|[key]| u64::from(key.saturating_sub(1))).take_while(|key| *key <= first);
            let key = key.last().unwrap_or(0);
            hidden = begin.saturating_sub(time_of(&times, key));
            first = key;
        }
        let all: u64 = times.iter().map(|[count, _]| u64::from(*count)).sum();
        let last = match wanted.length {
            Some(length) => {
                // As long as was asked for from what is shown first, which without a key frame is the sample's beginning.
                let from = if hidden > 0 { begin } else { time_of(&times, first) };
                let end = from.saturating_add(in_scale(length, scale));
                // The sample in which the end lies is the first that is not there; one at least is.
                sample_at(&times, end).unwrap_or(all).max(first + 1)
            }
            None => all,
        };
        let places = Places::parse(tables)?;
        let (sizes, size_of_all) = sizes(need(tables, b"stsz")?)?;
        let chunks = Chunks::parse(&table(need(tables, b"stsc")?, 4)?, places.list.len())?;
        let size = |samples: std::ops::Range<u64>| -> Made<u64> {
            if size_of_all > 0 {
                let bytes = (samples.end - samples.start).checked_mul(u64::from(size_of_all));
                return bytes.ok_or(Mp4Error::Broken("a chunk is too large"));
            }
            let range = usize::try_from(samples.start).ok().zip(usize::try_from(samples.end).ok());
            let range = range.and_then(|(start, end)| sizes.get(start..end));
            let range = range.ok_or(Mp4Error::Broken("the sizes of samples are missing"))?;
            Ok(range.iter().map(|size| u64::from(*size)).sum())
        };
        let (head_chunk, tail_chunk) = (chunks.of(first)?, chunks.of(last - 1)?);
        let start = places.at(head_chunk.number)?.checked_add(size(head_chunk.first..first)?);
        let end = places.at(tail_chunk.number)?.checked_add(size(tail_chunk.first..last)?);
        let (Some(start), Some(end)) = (start, end) else { return broken("a chunk is outside of the file") };
        let mut moved = places.list[head_chunk.number..=tail_chunk.number].to_vec();
        moved[0] = start;
        let samples = (first, last);
        let chunks = chunks.cut(head_chunk, tail_chunk, samples);
        let taken = if size_of_all > 0 {
            Vec::new()
        } else {
            size(first..last)?;
            sizes[first as usize..last as usize].to_vec()
        };
        let count = u32::try_from(last - first).map_err(|_| Mp4Error::Broken("too many samples"))?;
        let shifts = match find(tables, b"ctts")? {
            Some(shifts) => Some((word(shifts, 0)?, crop(&table(shifts, 4)?, samples))),
            None => None,
        };
        // The duration with what is hidden, in the track's own scale.
        let with_hidden = |duration: u64, scale: u64| shortened(duration, scale).saturating_add(hidden);
        let mut beside = Vec::new();
        for one in boxes(information) {
            let (name, content) = one?;
            if matches!(&name, b"vmhd" | b"smhd" | b"dinf" | b"hmhd" | b"nmhd") {
                beside.push((name, content));
            }
        }
        let original = track_duration(need(content, b"tkhd")?)?;
        Ok(Self {
            edit: (hidden > 0).then(|| (hidden, shortened(original, movie_scale))),
            head,
            media_head: with_duration(media_head, true, with_hidden, 0)?,
            handler: find(media, b"hdlr")?,
            information: beside,
            description: need(tables, b"stsd")?,
            times: crop(&times, samples),
            keys: keys.map(|keys| {
                let within = |key: &u64| *key > first && *key <= last;
                let moved = keys.iter().map(|[key]| u64::from(*key)).filter(within);
                moved.map(|key| [(key - first) as u32]).collect()
            }),
            shifts,
            chunks,
            sizes: (size_of_all, count, taken),
            places: moved,
            are_long: places.are_long,
            start,
            end,
        })
    }

    fn write(&self, out: &mut Vec<u8>, from: u64, to: u64) -> Made<()> {
        let raw = |out: &mut Vec<u8>, name: &[u8; 4], bytes: &[u8]| {
            put(out, name, |out| {
                out.extend_from_slice(bytes);
                Ok(())
            })
        };
        put(out, b"trak", |out| {
            raw(out, b"tkhd", &self.head)?;
            if let Some((hidden, shown)) = self.edit {
                put(out, b"edts", |out| {
                    put(out, b"elst", |out| {
                        // Version 1: long numbers. One entry, at the usual pace.
                        out.extend_from_slice(&0x0100_0000_u32.to_be_bytes());
                        out.extend_from_slice(&1_u32.to_be_bytes());
                        out.extend_from_slice(&shown.to_be_bytes());
                        out.extend_from_slice(&hidden.to_be_bytes());
                        out.extend_from_slice(&0x0001_0000_u32.to_be_bytes());
                        Ok(())
                    })
                })?;
            }
            put(out, b"mdia", |out| {
                raw(out, b"mdhd", &self.media_head)?;
                if let Some(handler) = self.handler {
                    raw(out, b"hdlr", handler)?;
                }
                put(out, b"minf", |out| {
                    for (name, content) in &self.information {
                        raw(out, name, content)?;
                    }
                    put(out, b"stbl", |out| self.write_tables(out, from, to))
                })
            })
        })
    }

    fn write_tables(&self, out: &mut Vec<u8>, from: u64, to: u64) -> Made<()> {
        put(out, b"stsd", |out| {
            out.extend_from_slice(self.description);
            Ok(())
        })?;
        put_table(out, b"stts", 0, &self.times)?;
        if let Some(keys) = &self.keys {
            put_table(out, b"stss", 0, keys)?;
        }
        if let Some((version, shifts)) = &self.shifts {
            put_table(out, b"ctts", *version, shifts)?;
        }
        put_table(out, b"stsc", 0, &self.chunks)?;
        let (size_of_all, count, sizes) = &self.sizes;
        put(out, b"stsz", |out| {
            for number in [0, *size_of_all, *count].iter().chain(sizes) {
                out.extend_from_slice(&number.to_be_bytes());
            }
            Ok(())
        })?;
        put(out, if self.are_long { b"co64" } else { b"stco" }, |out| {
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&(self.places.len() as u32).to_be_bytes());
            for place in &self.places {
                let Some(moved) = place.checked_sub(from).and_then(|place| place.checked_add(to)) else {
                    return broken("a chunk lies before the first sample");
                };
                if self.are_long {
                    out.extend_from_slice(&moved.to_be_bytes());
                } else {
                    // Only the length is asked for where nothing is moved yet.
                    let moved = u32::try_from(moved);
                    let moved = moved.map_err(|_| Mp4Error::Broken("a chunk is too far behind"))?;
                    out.extend_from_slice(&moved.to_be_bytes());
                }
            }
            Ok(())
        })
    }
}

fn track_duration(head: &[u8]) -> Made<u64> {
    if head.first() == Some(&1) { long(head, 28) } else { word(head, 20).map(u64::from) }
}

/// The number of the sample that is there at a time; `None` behind the last.
fn sample_at(times: &[[u32; 2]], mut time: u64) -> Option<u64> {
    let mut sample = 0;
    for [count, duration] in times {
        let (count, duration) = (u64::from(*count), u64::from(*duration));
        if time < count * duration {
            return Some(sample + time / duration);
        }
        sample += count;
        time -= count * duration;
    }
    None
}

/// When a sample begins.
fn time_of(times: &[[u32; 2]], mut sample: u64) -> u64 {
    let mut time = 0_u64;
    for [count, duration] in times {
        let taken = sample.min(u64::from(*count));
        time = time.saturating_add(taken * u64::from(*duration));
        sample -= taken;
    }
    time
}

/// Of a table of how many samples have what, the part for these.
fn crop(entries: &[[u32; 2]], (first, last): (u64, u64)) -> Vec<[u32; 2]> {
    let mut at = 0;
    let mut cropped = Vec::new();
    for [count, what] in entries {
        let end = at + u64::from(*count);
        let (from, to) = (first.max(at), last.min(end));
        if from < to {
            cropped.push([(to - from) as u32, *what]);
        }
        at = end;
    }
    cropped
}

fn sizes(content: &[u8]) -> Made<(Vec<u32>, u32)> {
    let all = word(content, 4)?;
    if all > 0 {
        return Ok((Vec::new(), all));
    }
    Ok((table::<1>(content, 8)?.into_iter().flatten().collect(), 0))
}

/// Where chunks begin.
struct Places {
    list: Vec<u64>,
    are_long: bool,
}

impl Places {
    fn parse(tables: &[u8]) -> Made<Self> {
        if let Some(short) = find(tables, b"stco")? {
            let list = table::<1>(short, 4)?.into_iter().map(|[place]| u64::from(place)).collect();
            return Ok(Self { list, are_long: false });
        }
        let list = table::<2>(need(tables, b"co64")?, 4)?;
        let list = list.into_iter().map(|[high, low]| u64::from(high) << 32 | u64::from(low)).collect();
        Ok(Self { list, are_long: true })
    }

    fn at(&self, chunk: usize) -> Made<u64> {
        self.list.get(chunk).copied().ok_or(Mp4Error::Broken("the place of a chunk is missing"))
    }
}

/// A chunk, and its first sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chunk {
    number: usize,
    first: u64,
}

/// Which samples are in which chunk: for runs of equal chunks their first, how many there are, the samples of each, and
/// which description these have.
struct Chunks(Vec<(usize, usize, u32, u32)>);

impl Chunks {
    fn parse(entries: &[[u32; 3]], count: usize) -> Made<Self> {
        let mut runs = Vec::with_capacity(entries.len());
        for (at, [first, samples, description]) in entries.iter().enumerate() {
            let start = (*first as usize).checked_sub(1);
            let end = entries.get(at + 1).map_or(Some(count), |next| (next[0] as usize).checked_sub(1));
            match (start, end) {
                (Some(start), Some(end)) if start < end && end <= count && *samples > 0 => {
                    runs.push((start, end - start, *samples, *description));
                }
                _ => return broken("the table of chunks is in disorder"),
            }
        }
        if runs.first().is_none_or(|(first, ..)| *first != 0) {
            return broken("the table of chunks has no beginning");
        }
        Ok(Self(runs))
    }

    fn of(&self, sample: u64) -> Made<Chunk> {
        let mut first = 0;
        for (start, count, samples, _) in &self.0 {
            let samples = u64::from(*samples);
            let end = first + samples * *count as u64;
            if sample < end {
                let within = (sample - first) / samples;
                return Ok(Chunk { number: start + within as usize, first: first + within * samples });
            }
            first = end;
        }
        broken("a sample is in no chunk")
    }

    /// The table for what is left: chunks from `head` to `tail`, and of these only the samples that are wanted.
    fn cut(&self, head: Chunk, tail: Chunk, (first, last): (u64, u64)) -> Vec<[u32; 3]> {
        let mut table: Vec<[u32; 3]> = Vec::new();
        let mut add = |number: usize, samples: u64, description: u32| {
            let entry = [(number - head.number + 1) as u32, samples as u32, description];
            if table.last().is_none_or(|last| last[1..] != entry[1..]) {
                table.push(entry);
            }
        };
        for (start, count, samples, description) in &self.0 {
            let (from, to) = (head.number.max(*start), (tail.number + 1).min(start + count));
            if from >= to {
                continue;
            }
            // All of a run is equal but for what is cut at its ends.
            let whole = u64::from(*samples);
            for number in [from, from + 1, to - 1] {
                if number < from || number >= to {
                    continue;
                }
                let mut samples = whole;
                if number == tail.number {
                    samples = last - tail.first;
                }
                if number == head.number {
                    samples -= first - head.first;
                }
                add(number, samples, *description);
            }
        }
        table
    }
}

#[cfg(test)]
mod tests;
