use super::*;

const TO: AnswerTo = AnswerTo { head: false, upgrade: false };

fn limits() -> Limits {
    let zero = std::time::Duration::ZERO;
    Limits {
        connect_timeout: zero,
        send_timeout: zero,
        read_timeout: zero,
        head: http1::Limits::default(),
        first_read: usize::MAX,
        route: crate::Route { family: Family::FastCgi, bind: None, keepalive: false, via: None },
        catch: [b"Fatal".to_vec()].into(),
    }
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    [&[1, kind, 0, 1, high, low, 0, 0], content].concat()
}

/// A status, the body unless that broke off, and whether it was as long as it should be.
type Said = (u16, Result<Vec<u8>, String>, bool);

/// What is said of an answer that comes in `pieces`: its status, and its body unless that broke off.
fn hear<'a>(family: Family, pieces: impl Iterator<Item = &'a [u8]>) -> Result<Said, String> {
    let (limits, attempt) = (limits(), Attempt::new(String::new()));
    let (mut incoming, mut head) = (Incoming::new(family), ResponseHead::default());
    let mut input = BytesMut::new();
    let mut has_head = false;
    let mut body = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        if !has_head {
            let found = incoming.head(&mut input, &limits, TO, &attempt, &mut head, &mut |_, _| ());
            has_head = found.map_err(|fault| fault.to_string())?.is_some();
            if let Incoming::Records(records) = &mut incoming
                && has_head
            {
                records.left = head.content_length;
            }
        }
        let Incoming::Records(records) = &mut incoming else { continue };
        if !has_head {
            continue;
        }
        loop {
            match records.take(&mut input, &attempt) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(data))) => body.extend_from_slice(&data),
                Poll::Ready(Some(Err(words))) => return Ok((head.status, Err(words.to_owned()), false)),
                Poll::Ready(None) => return Ok((head.status, Ok(body), records.exact)),
            }
        }
    }
    if !has_head {
        return Err("no head".to_owned());
    }
    Ok((head.status, Ok(if matches!(incoming, Incoming::Records(_)) { body } else { input.to_vec() }), false))
}

#[test]
fn an_answer_is_the_same_however_it_is_cut() {
    let end = record(3, &[0; 8]);
    let whole = [
        record(7, b"a complaint"),
        record(6, b"Status: 201 Made\r\nContent-"),
        record(6, b"Length: 6\r\n\r\nab"),
        record(7, b""),
        record(6, b"cdef"),
        record(6, b""),
        end.clone(),
    ]
    .concat();
    for size in 1..whole.len() {
        let heard = hear(Family::FastCgi, whole.chunks(size));
        assert_eq!(heard, Ok((201, Ok(b"abcdef".to_vec()), true)), "{size}");
    }
    let plain = b"HTTP/1.0 404 Gone\r\nA: b\r\n\r\nbody";
    for size in 1..plain.len() {
        let heard = hear(Family::Scgi, plain.chunks(size));
        assert_eq!(heard.map(|(status, ..)| status), Ok(404), "{size}");
    }
}

#[test]
fn what_ends_early_or_late_is_not_taken_for_whole() {
    let head = record(6, b"Content-Length: 3\r\n\r\n");
    let end = record(3, &[0; 8]);
    let hear = |parts: &[&[u8]]| hear(Family::FastCgi, std::iter::once(parts.concat().as_slice()));
    let short = hear(&[&head, &record(6, b"ab"), &end]).unwrap();
    assert_eq!(short.1.unwrap_err(), SHORT);
    let closed = hear(&[&head, &record(6, b"ab"), &record(6, b"")]).unwrap();
    assert_eq!(closed.1.unwrap_err(), "upstream prematurely closed FastCGI stdout while reading upstream");
    // What is too much is cut off, and the connection is of no use any more.
    assert_eq!(hear(&[&head, &record(6, b"abcd"), &end]), Ok((200, Ok(b"abc".to_vec()), false)));
    assert_eq!(
        hear(&[&head, &record(6, b"abc"), &record(6, b"d"), &end]),
        Ok((200, Ok(b"abc".to_vec()), false))
    );
    assert_eq!(hear(&[&head, &record(6, b"abc"), &end]), Ok((200, Ok(b"abc".to_vec()), true)));
}

#[test]
fn what_is_no_answer_is_refused() {
    let hear = |bytes: &[u8]| hear(Family::FastCgi, std::iter::once(bytes)).unwrap_err();
    assert_eq!(hear(&record(3, &[0; 8])), "upstream prematurely closed FastCGI stdout");
    assert_eq!(hear(&record(6, b"")), "upstream prematurely closed FastCGI stdout");
    assert_eq!(hear(&record(6, b"no field\r\n\r\n")), r#"upstream sent invalid header: "no\x20...""#);
    assert_eq!(hear(&record(6, b"Status: x\r\n\r\n")), "upstream sent invalid status");
    let flood = record(7, &vec![b'x'; 60_000]).repeat(100);
    assert_eq!(hear(&flood), "upstream sent too much in FastCGI stderr");
    assert!(hear(&record(7, b"a Fatal error")).contains("fastcgi_catch_stderr"));
}

#[test]
fn a_whole_answer_is_taken_at_once_or_not_at_all() {
    let (limits, attempt) = (limits(), Attempt::new(String::new()));
    let whole =
        [record(6, b"A: b\r\n\r\nab"), record(7, b"oh"), record(6, b"c"), record(3, &[0; 8])].concat();
    for (length, expected) in [(whole.len(), Some(b"abc".to_vec())), (whole.len() - 1, None)] {
        let (mut incoming, mut head) = (Incoming::new(Family::FastCgi), ResponseHead::default());
        let mut input = BytesMut::from(&whole[..length]);
        assert!(
            incoming.head(&mut input, &limits, TO, &attempt, &mut head, &mut |_, _| ()).unwrap().is_some()
        );
        let Incoming::Records(mut records) = incoming else { panic!() };
        let taken = records.whole(&input, 1 << 16);
        assert_eq!(taken.as_ref().map(|(body, _)| body.to_vec()), expected);
        if let Some((_, after)) = taken {
            assert_eq!((after.taken, after.exact), (input.len(), true));
        }
    }
}
