//! Answers that need nothing but the request: `empty_gif`, `stub_status`; and the beginning of `flv`.

use bytes::Bytes;
use exchange::{Body, Method, Name, Request, Response, http_date};

/// A transparent picture of one pixel (GIF89a).
const GIF: &[u8] = &[
    b'G', b'I', b'F', b'8', b'9', b'a', // version
    1, 0, 1, 0, 0x80, 1, 0, // 1 × 1, a table of two colours, the second is the background
    0, 0, 0, 0xff, 0xff, 0xff, // black, white
    0x21, 0xf9, 4, 1, 0, 0, 1, 0, // graphic control: the second colour is transparent
    0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, // the picture: all of the screen, no table of its own
    2, 2, 0x4c, 1, 0,    // LZW of 2 bits: clear, colour 1, end
    0x3b, // end
];

/// nginx dates the picture so, and clients that have it ask by that date.
const GIF_DATE: u64 = 23_349_600;

/// The numbers of `stub_status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Open now.
    pub active: u64,
    /// Accepted so far.
    pub accepted: u64,
    /// Of those, served: less than accepted when there was no room.
    pub handled: u64,
    /// Requests so far.
    pub requests: u64,
    /// Whose request is being read.
    pub reading: u64,
    /// Whose request is being answered.
    pub writing: u64,
    /// Idle.
    pub waiting: u64,
}

/// `empty_gif`; only GET and HEAD, the error is the status for all others.
pub fn empty_gif(request: &Request) -> Result<Response, u16> {
    only_reading(request)?;
    let mut response = Response::new(200);
    response.fields.push_known(Name::ContentType, b"image/gif");
    response.fields.push_known(Name::LastModified, &http_date(GIF_DATE));
    response.body = Body::Full(Bytes::from_static(GIF));
    Ok(response)
}

/// Leaves out the beginning of a Flash video, and puts a head in its place. A place that is none changes nothing.
pub fn flv_from(response: &mut Response, start: u64) {
    const HEAD: &[u8] = b"FLV\x01\x05\0\0\0\x09\0\0\0\0";
    if start == 0 || response.body.len().is_none_or(|length| start >= length) {
        return;
    }
    match &mut response.body {
        Body::Full(bytes) => {
            let whole = [HEAD, &bytes[start as usize..]].concat();
            response.body = Body::Full(whole.into());
        }
        Body::File(body) => match &mut body.pieces[..] {
            [piece] if piece.prefix.is_empty() => {
                piece.prefix = Bytes::from_static(HEAD);
                piece.start += start;
                piece.len -= start;
                // Nobody takes ranges of what is a file only in part.
                response.fields.remove(Name::AcceptRanges);
            }
            _ => return,
        },
        Body::Empty | Body::Stream(_) => return,
    }
    response.fields.remove(Name::ContentLength);
    response.of_file = None;
}

/// `stub_status`; only GET and HEAD, the error is the status for all others.
pub fn stub_status(request: &Request, connections: &Connections) -> Result<Response, u16> {
    only_reading(request)?;
    let Connections { active, accepted, handled, requests, reading, writing, waiting } = connections;
    let text = format!(
        "Active connections: {active} \nserver accepts handled requests\n {accepted} {handled} {requests} \n\
         Reading: {reading} Writing: {writing} Waiting: {waiting} \n"
    );
    Ok(Response::text(200, "text/plain", text))
}

fn only_reading(request: &Request) -> Result<(), u16> {
    if matches!(request.method, Method::Get | Method::Head) { Ok(()) } else { Err(405) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_one_pixel_and_dated() {
        let response = empty_gif(&Request::default()).unwrap();
        assert_eq!(response.body.len(), Some(43));
        assert_eq!(response.fields.first(Name::LastModified), Some(&b"Mon, 28 Sep 1970 06:00:00 GMT"[..]));
        assert_eq!(empty_gif(&Request { method: Method::Post, ..Request::default() }).err(), Some(405));
    }

    #[test]
    fn a_video_begins_where_it_is_asked_to() {
        let from = |start| {
            let mut response = Response::text(200, "video/x-flv", "0123456789");
            flv_from(&mut response, start);
            let Body::Full(text) = response.body else { panic!("in memory") };
            text
        };
        assert_eq!(from(0), "0123456789");
        assert_eq!(from(10), "0123456789");
        assert_eq!(from(7)[..3], b"FLV"[..]);
        assert_eq!(from(7)[13..], b"789"[..]);
    }

    #[test]
    fn the_status_is_as_monitoring_parses_it() {
        let numbers = Connections {
            active: 7,
            accepted: 10,
            handled: 9,
            requests: 31,
            reading: 1,
            writing: 2,
            waiting: 4,
        };
        let response = stub_status(&Request::default(), &numbers).unwrap();
        let Body::Full(text) = response.body else { panic!("in memory") };
        assert_eq!(
            &text[..],
            b"Active connections: 7 \nserver accepts handled requests\n 10 9 31 \n\
              Reading: 1 Writing: 2 Waiting: 4 \n"
        );
    }
}
