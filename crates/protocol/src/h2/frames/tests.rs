use super::*;

const START: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, (payload.len() >> 8) as u8, payload.len() as u8, kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// All that the codec gets, and the fault.
fn read_by(frames: &mut Frames, bytes: &[u8], step: usize) -> (Vec<u8>, Option<Fault>) {
    let (mut fed, mut input) = (Vec::new(), Vec::new());
    for part in bytes.chunks(step) {
        input.extend_from_slice(part);
        while !input.is_empty() {
            match frames.next(&input) {
                Ok(Stretch { length, .. }) => {
                    assert!(length > 0);
                    fed.extend(input.drain(..length));
                }
                Err(fault) => return (fed, Some(fault)),
            }
        }
    }
    (fed, None)
}

fn read(bytes: &[u8], step: usize) -> (Vec<u8>, Option<Fault>) {
    let (mut fed, fault) = read_by(&mut Frames::new(Instant::now()), &[START, bytes].concat(), step);
    fed.drain(..START.len().min(fed.len()));
    (fed, fault)
}

const STEPS: [usize; 8] = [1, 2, 5, 8, 9, 10, 33, 4096];

#[test]
fn counts_the_same_however_the_bytes_are_split() {
    let usual: Vec<u8> = (0..900)
        .flat_map(|n| {
            let body = frame(kind::DATA, END_STREAM, 2 * n + 1, &[6; 700]);
            [frame(kind::HEADERS, END_HEADERS, 2 * n + 1, b"abc"), body].concat()
        })
        .collect();
    let flood = frame(kind::PING, 0, 0, &[0; 8]).repeat(501);
    for step in STEPS {
        assert_eq!(read(&usual, step), (usual.clone(), None), "{step}");
        assert_eq!(read(&flood, step).1, Some(Fault::Flood), "{step}");
        assert_eq!(read(&flood[..flood.len() - 17], step).1, None, "{step}");
    }
}

#[test]
fn wrong_frames_have_their_codes_and_what_is_before_them_arrives() {
    let get = frame(kind::HEADERS, END_HEADERS | END_STREAM, 5, b"abc");
    let post = frame(kind::HEADERS, END_HEADERS, 5, b"abc");
    let data = frame(kind::DATA, END_STREAM, 5, b"abc");
    let depends = frame(kind::HEADERS, END_HEADERS | PRIORITY, 5, &[0, 0, 0, 5, 9, 1, 1]);
    let padded = frame(kind::HEADERS, END_HEADERS | PRIORITY | PADDED, 5, &[0, 0, 0, 0, 5, 9, 1, 1]);
    for (before, wrong, reason) in [
        (vec![], frame(kind::PING, 0, 0, &[0; 7]), Reason::FRAME_SIZE_ERROR),
        (get.clone(), frame(kind::RST_STREAM, 0, 5, &[0; 3]), Reason::FRAME_SIZE_ERROR),
        (vec![], frame(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]), Reason::FLOW_CONTROL_ERROR),
        (
            vec![],
            frame(kind::SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0, 0, 4, 0x80, 0, 0, 0]),
            Reason::FLOW_CONTROL_ERROR,
        ),
        (vec![], depends, Reason::PROTOCOL_ERROR),
        (vec![], padded, Reason::PROTOCOL_ERROR),
        (get.clone(), frame(kind::PRIORITY, 0, 7, &[0, 0, 0, 7, 1]), Reason::PROTOCOL_ERROR),
        (get.clone(), data.clone(), Reason::STREAM_CLOSED),
        (get.clone(), get.clone(), Reason::STREAM_CLOSED),
        ([post.clone(), data.clone()].concat(), data.clone(), Reason::STREAM_CLOSED),
        ([post.clone(), frame(kind::RST_STREAM, 0, 5, &[0; 4])].concat(), data, Reason::STREAM_CLOSED),
    ] {
        for step in STEPS {
            let (fed, fault) = read(&[before.clone(), wrong.clone()].concat(), step);
            assert_eq!(fault, Some(Fault::Error(reason)), "{wrong:?} by {step}");
            assert!(
                fed.starts_with(&before) && fed.len() < before.len() + wrong.len(),
                "{wrong:?} by {step}"
            );
        }
    }
}

#[test]
fn sections_stand_for_themselves() {
    let get = frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, b"abc");
    let ping = frame(kind::PING, 0, 0, &[0; 8]);
    let mut frames = Frames::new(Instant::now());
    assert_eq!(read_by(&mut frames, START, 99).1, None);
    let mut input = [ping.clone(), get.clone(), ping.clone(), ping.clone()].concat();
    let mut stretches = Vec::new();
    while !input.is_empty() {
        let stretch = frames.next(&input).unwrap();
        input.drain(..stretch.length);
        stretches.push((stretch.length, stretch.is_section));
    }
    assert_eq!(stretches, [(ping.len(), false), (get.len(), true), (2 * ping.len(), false)]);
}

#[test]
fn malformed_sections_are_known_however_they_are_padded_and_split() {
    // A literal name with a capital; a good field.
    let (bad, good) = (b"\0\x01X\x01y", b"\0\x01x\x01y");
    let head = frame(kind::HEADERS, END_HEADERS, 1, b"\x82");
    for step in STEPS {
        for (field, is_malformed) in [(bad, true), (good, false)] {
            let padded = [&[3][..], &field[..2], &[0; 3]].concat();
            let weighted = [&[3][..], &[0, 0, 0, 0, 9], &field[..2], &[0; 3]].concat();
            for (flags, first) in [(0, field[..2].to_vec()), (PADDED, padded), (PADDED | PRIORITY, weighted)]
            {
                let section = |flags, stream| {
                    let rest = frame(kind::CONTINUATION, END_HEADERS, stream, &field[2..]);
                    [frame(kind::HEADERS, flags, stream, &first), rest].concat()
                };
                let mut frames = Frames::new(Instant::now());
                let all = [START, &section(flags, 1)].concat();
                assert_eq!(read_by(&mut frames, &all, step).1, None, "{flags} by {step}");
                assert_eq!(frames.is_malformed(), is_malformed, "{flags} by {step}");
                let trailers = [&head[..], &section(flags | END_STREAM, 1)].concat();
                let fault = is_malformed.then_some(Fault::Error(Reason::PROTOCOL_ERROR));
                assert_eq!(read(&trailers, step).1, fault, "{flags} by {step}");
            }
        }
    }
}

#[test]
fn the_first_frame_is_settings() {
    let mut frames = Frames::new(Instant::now());
    let bytes = [&START[..PREFACE], &frame(kind::PING, 0, 0, &[0; 8])].concat();
    let (fed, fault) = read_by(&mut frames, &bytes, 100);
    assert_eq!((fed.len(), fault), (PREFACE, Some(Fault::Error(Reason::PROTOCOL_ERROR))));
}

#[test]
fn knows_when_a_head_is_not_complete() {
    for (last, within) in [(0, true), (END_HEADERS, false)] {
        for step in STEPS {
            let mut frames = Frames::new(Instant::now());
            let head =
                [frame(kind::HEADERS, 0, 1, b"abc"), frame(kind::CONTINUATION, last, 1, b"d")].concat();
            assert_eq!(read_by(&mut frames, &[START, &head].concat(), step).1, None);
            assert_eq!(frames.is_within_head(), within, "{last} by {step}");
        }
    }
}

#[test]
fn windows_may_be_opened_for_what_was_written() {
    let update = frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
    let mut frames = Frames::new(Instant::now());
    assert_eq!(read_by(&mut frames, &[START, &update.repeat(1000)].concat(), 4096).1, None);
    frames.wrote(256);
    assert_eq!(read_by(&mut frames, &update, 99).1, None);
    assert_eq!(read_by(&mut frames, &update, 99).1, Some(Fault::Flood));
}
