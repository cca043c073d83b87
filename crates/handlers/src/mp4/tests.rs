use std::io::Write;

use proptest::prelude::*;

use super::*;

fn full(name: &[u8; 4], fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, name, |out| {
        fill(out);
        Ok(())
    })
    .unwrap();
    out
}

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A video of 100 samples of a tenth of a second, each of one byte with its number; five in each chunk, chunks with
/// three other bytes between; every tenth is a key frame.
fn video(index_first: bool) -> Vec<u8> {
    let kind = full(b"ftyp", |out| out.extend_from_slice(b"isom0000"));
    let data: Vec<u8> =
        (0..20_u8).flat_map(|chunk| (0..5).map(move |n| chunk * 5 + n).chain([255; 3])).collect();
    let index = |first: u32| {
        let head = |at: usize, length: usize| {
            let mut head = vec![0; length];
            if at == 16 {
                head[12..16].copy_from_slice(&1000_u32.to_be_bytes());
            }
            head[at..at + 4].copy_from_slice(&10_000_u32.to_be_bytes());
            head
        };
        let tables = [
            full(b"stsd", |out| out.extend(words(&[0, 0]))),
            full(b"stts", |out| out.extend(words(&[0, 2, 50, 100, 50, 100]))),
            full(b"stss", |out| out.extend(words(&[0, 10, 1, 11, 21, 31, 41, 51, 61, 71, 81, 91]))),
            full(b"ctts", |out| out.extend(words(&[0, 1, 100, 7]))),
            full(b"stsc", |out| out.extend(words(&[0, 2, 1, 5, 1, 11, 5, 2]))),
            full(b"stsz", |out| {
                out.extend(words(&[0, 0, 100]));
                out.extend(words(&[1; 100]));
            }),
            full(b"stco", |out| {
                out.extend(words(&[0, 20]));
                out.extend((0..20).flat_map(|chunk| (first + chunk * 8).to_be_bytes()));
            }),
        ]
        .concat();
        let tables = full(b"stbl", |out| out.extend(tables));
        let information = full(b"minf", |out| out.extend(tables));
        let media = full(b"mdia", |out| {
            out.extend(full(b"mdhd", |out| out.extend(head(16, 24))));
            out.extend(information);
        });
        let track = full(b"trak", |out| {
            out.extend(full(b"tkhd", |out| out.extend(head(20, 84))));
            out.extend(media);
        });
        full(b"moov", |out| {
            out.extend(full(b"mvhd", |out| out.extend(head(16, 100))));
            out.extend(full(b"udta", |out| out.extend_from_slice(b"of no use")));
            out.extend(track);
        })
    };
    let data = full(b"mdat", |out| out.extend(data));
    if index_first {
        let length = (kind.len() + index(0).len()) as u32;
        [kind, index(length + 8), data].concat()
    } else {
        let first = kind.len() as u32 + 8;
        [kind, data, index(first)].concat()
    }
}

fn cut_of(bytes: &[u8], wanted: Wanted) -> Made<Vec<u8>> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let made = cut(&file, bytes.len() as u64, wanted)?;
    let (start, end) = (made.start as usize, (made.start + made.length) as usize);
    Ok([&made.head[..], &bytes[start..end]].concat())
}

/// The samples of a video, by its index.
fn samples(video: &[u8]) -> Vec<u8> {
    let index = need(video, b"moov").unwrap();
    let media = need(need(index, b"trak").unwrap(), b"mdia").unwrap();
    let tables = need(need(media, b"minf").unwrap(), b"stbl").unwrap();
    let places = Places::parse(tables).unwrap();
    let chunks =
        Chunks::parse(&table(need(tables, b"stsc").unwrap(), 4).unwrap(), places.list.len()).unwrap();
    let count = word(need(tables, b"stsz").unwrap(), 8).unwrap();
    (0..u64::from(count))
        .map(|sample| {
            let chunk = chunks.of(sample).unwrap();
            video[(places.list[chunk.number] + sample - chunk.first) as usize]
        })
        .collect()
}

fn wanted(start: u64, end: Option<u64>) -> Wanted {
    Wanted { start, length: end.map(|end| end - start), most: 1 << 20, ..Wanted::default() }
}

#[test]
fn what_is_cut_has_the_samples_between() {
    for index_first in [true, false] {
        let video = video(index_first);
        for (start, end, from, to) in [
            (0, None, 0, 100),
            (250, None, 2, 100),
            (5_000, None, 50, 100),
            (9_950, None, 99, 100),
            (0, Some(1_000), 0, 10),
            (1_300, Some(1_700), 13, 17),
            (1_300, Some(4_900), 13, 49),
            (4_900, Some(5_200), 49, 52),
            (5_000, Some(99_000), 50, 100),
            (1_300, Some(1_301), 13, 14),
            // Not longer than asked for, from the sample in which the beginning lies.
            (1_350, Some(4_920), 13, 48),
        ] {
            let made = cut_of(&video, wanted(start, end)).unwrap();
            let expected: Vec<u8> = (from..to).collect();
            assert_eq!(samples(&made), expected, "{start} {end:?}");
        }
    }
}

#[test]
fn a_track_that_has_ended_is_left_out() {
    let whole = video(false);
    let index = need(&whole, b"moov").unwrap();
    let mut short = need(index, b"trak").unwrap().to_vec();
    // The duration of `tkhd`, its first box.
    short[28..32].copy_from_slice(&1_000_u32.to_be_bytes());
    let data = &whole[..whole.len() - index.len() - 8];
    let index = full(b"moov", |out| {
        out.extend(full(b"trak", |out| out.extend(short)));
        out.extend_from_slice(index);
    });
    let video = [data, &index].concat();
    let tracks = |start| {
        let made = cut_of(&video, wanted(start, None)).unwrap();
        let index = need(&made, b"moov").unwrap();
        (boxes(index).filter(|one| one.as_ref().unwrap().0 == *b"trak").count(), samples(&made).len())
    };
    assert_eq!(tracks(500), (2, 95));
    assert_eq!(tracks(1_000), (1, 90));
}

#[test]
fn tables_and_durations_are_those_of_the_part() {
    let made = cut_of(&video(true), wanted(1_300, Some(4_900))).unwrap();
    let index = need(&made, b"moov").unwrap();
    assert!(find(index, b"udta").unwrap().is_none());
    assert_eq!(word(need(index, b"mvhd").unwrap(), 16).unwrap(), 3_600);
    let track = need(index, b"trak").unwrap();
    assert_eq!(word(need(track, b"tkhd").unwrap(), 20).unwrap(), 3_600);
    let media = need(track, b"mdia").unwrap();
    assert_eq!(word(need(media, b"mdhd").unwrap(), 16).unwrap(), 3_600);
    let tables = need(need(media, b"minf").unwrap(), b"stbl").unwrap();
    let of = |name| table::<1>(need(tables, name).unwrap(), 4).unwrap();
    assert_eq!(of(b"stss"), [[8], [18], [28]]);
    assert_eq!(table::<2>(need(tables, b"stts").unwrap(), 4).unwrap(), [[36, 100]]);
    assert_eq!(table::<2>(need(tables, b"ctts").unwrap(), 4).unwrap(), [[36, 7]]);
}

#[test]
fn a_part_may_begin_with_the_key_frame_before() {
    let made = cut_of(&video(true), Wanted { key_frame: true, ..wanted(1_350, Some(2_000)) }).unwrap();
    assert_eq!(samples(&made), (10..20).collect::<Vec<u8>>());
    let track = need(need(&made, b"moov").unwrap(), b"trak").unwrap();
    let edit = need(need(track, b"edts").unwrap(), b"elst").unwrap();
    assert_eq!((long(edit, 8).unwrap(), long(edit, 16).unwrap()), (650, 350));
}

#[test]
fn what_is_no_video_or_behind_its_end_is_an_error() {
    let good = video(true);
    assert!(cut_of(&good, wanted(10_000, None)).is_err());
    assert!(matches!(cut_of(&good, Wanted { most: 100, ..wanted(0, None) }), Err(Mp4Error::Large(_))));
    for length in (0..good.len() - 8).step_by(3) {
        let _ = cut_of(&good[..length], wanted(1_000, None));
    }
    for bytes in
        [&b""[..], b"abc", b"\0\0\0\x08moov\0\0\0\x08mdat", b"\0\0\0\x01ftyp\xff\xff\xff\xff\xff\xff\xff\xff"]
    {
        assert!(cut_of(bytes, wanted(0, None)).is_err());
    }
}

proptest! {
    #[test]
    fn whatever_the_bytes_are_nothing_breaks(
        changes in proptest::collection::vec((0usize..2000, any::<u8>()), 1..8),
        start in 0u64..12_000,
        length in proptest::option::of(0u64..12_000),
        key_frame: bool,
    ) {
        let mut bytes = video(true);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = cut_of(&bytes, Wanted { start, length, key_frame, most: 1 << 20 });
    }
}
