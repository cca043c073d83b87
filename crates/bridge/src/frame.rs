//! Frames: what the rings carry.

use std::ops::Range;

use bytes::Bytes;

pub(crate) const REQUEST: u8 = 1;
pub(crate) const REQUEST_BODY: u8 = 2;
pub(crate) const BODY_FILE: u8 = 3;
pub(crate) const REQUEST_END: u8 = 4;
pub(crate) const HEAD: u8 = 16;
pub(crate) const BODY: u8 = 17;
pub(crate) const FILE: u8 = 18;
pub(crate) const END: u8 = 19;

/// Length and kind before each payload.
pub(crate) const FRAME_HEADER: usize = 8;
/// Content length of a request that has none.
const NO_LENGTH: u64 = u64::MAX;

/// A request as the edge hands it over.
pub struct RequestFrame<'a> {
    /// 10 or 11.
    pub version: u8,
    /// Whether the client came by https.
    pub is_https: bool,
    /// The port that the request was for.
    pub server_port: u16,
    /// The client's port.
    pub remote_port: u16,
    /// How long the body is, `None` without one.
    pub content_length: Option<u64>,
    /// The method.
    pub method: &'a [u8],
    /// The request target as received.
    pub target: &'a [u8],
    /// The path, percent-decoded.
    pub path: &'a [u8],
    /// The query, without its question mark.
    pub query: &'a [u8],
    /// WSGI's SCRIPT_NAME.
    pub script_name: &'a [u8],
    /// The client's address, in text.
    pub remote_address: &'a [u8],
    /// The name that the request was for.
    pub server_name: &'a [u8],
    /// The header fields, names as received.
    pub fields: &'a mut dyn Iterator<Item = (&'a [u8], &'a [u8])>,
}

impl std::fmt::Debug for RequestFrame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestFrame").field("target", &self.target.escape_ascii()).finish_non_exhaustive()
    }
}

/// What does not fit into a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Writes frames one after the other into a buffer.
pub(crate) struct Encoder<'a> {
    pub(crate) into: &'a mut Vec<u8>,
}

impl Encoder<'_> {
    /// Begins a frame; [`Encoder::close`] with what this returns ends it.
    fn open(&mut self, kind: u8) -> usize {
        let start = self.into.len();
        self.into.extend_from_slice(&[0, 0, 0, 0, kind, 0, 0, 0]);
        start
    }

    fn close(&mut self, start: usize) {
        let length = (self.into.len() - start - FRAME_HEADER) as u32;
        self.into[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn str16(&mut self, text: &[u8]) -> Result<(), TooLong> {
        let length = u16::try_from(text.len()).map_err(|_| TooLong)?;
        self.into.extend_from_slice(&length.to_le_bytes());
        self.into.extend_from_slice(text);
        Ok(())
    }

    fn str32(&mut self, text: &[u8]) -> Result<(), TooLong> {
        let length = u32::try_from(text.len()).map_err(|_| TooLong)?;
        self.into.extend_from_slice(&length.to_le_bytes());
        self.into.extend_from_slice(text);
        Ok(())
    }

    fn fields<'a>(&mut self, fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), TooLong> {
        let place = self.into.len();
        self.into.extend_from_slice(&[0, 0]);
        let mut count = 0_u16;
        for (name, value) in fields {
            count = count.checked_add(1).ok_or(TooLong)?;
            self.str16(name)?;
            self.str32(value)?;
        }
        self.into[place..place + 2].copy_from_slice(&count.to_le_bytes());
        Ok(())
    }

    pub(crate) fn request(&mut self, request: RequestFrame<'_>) -> Result<(), TooLong> {
        let start = self.open(REQUEST);
        self.into.extend_from_slice(&[request.version, u8::from(request.is_https)]);
        self.into.extend_from_slice(&request.server_port.to_le_bytes());
        self.into.extend_from_slice(&request.remote_port.to_le_bytes());
        self.into.extend_from_slice(&request.content_length.unwrap_or(NO_LENGTH).to_le_bytes());
        self.str16(request.method)?;
        self.str32(request.target)?;
        self.str32(request.path)?;
        self.str32(request.query)?;
        self.str16(request.script_name)?;
        self.str16(request.remote_address)?;
        self.str16(request.server_name)?;
        self.fields(request.fields)?;
        self.close(start);
        Ok(())
    }

    /// Only the header of a frame whose payload goes elsewhere.
    pub(crate) fn header(&mut self, kind: u8, length: u32) {
        self.into.extend_from_slice(&frame_header(kind, length));
    }

    pub(crate) fn body_file(&mut self, length: u64) {
        self.header(BODY_FILE, 8);
        self.into.extend_from_slice(&length.to_le_bytes());
    }

    pub(crate) fn request_end(&mut self) {
        self.header(REQUEST_END, 0);
    }

    pub(crate) fn head<'a>(
        &mut self,
        status: u16,
        reason: &[u8],
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), TooLong> {
        let start = self.open(HEAD);
        self.into.extend_from_slice(&status.to_le_bytes());
        self.str16(reason)?;
        self.fields(fields)?;
        self.close(start);
        Ok(())
    }

    pub(crate) fn file(&mut self, offset: u64, length: u64) {
        self.header(FILE, 16);
        self.into.extend_from_slice(&offset.to_le_bytes());
        self.into.extend_from_slice(&length.to_le_bytes());
    }

    pub(crate) fn end(&mut self, failed: bool) {
        self.header(END, 1);
        self.into.push(u8::from(failed));
    }
}

pub(crate) fn frame_header(kind: u8, length: u32) -> [u8; FRAME_HEADER] {
    let [a, b, c, d] = length.to_le_bytes();
    [a, b, c, d, kind, 0, 0, 0]
}

/// Kind and payload length; `None` if these bytes are no frame's header.
pub(crate) fn read_header(bytes: &[u8]) -> Option<(u8, usize)> {
    let &[a, b, c, d, kind, 0, 0, 0] = bytes.get(..FRAME_HEADER)? else { return None };
    Some((kind, u32::from_le_bytes([a, b, c, d]) as usize))
}

/// Reads a payload from the front; `None` where it is too short.
#[derive(Clone)]
struct Cursor<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.all.len())?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let range = self.take(N)?;
        self.all[range].try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn str16(&mut self) -> Option<Range<usize>> {
        let length = self.u16()?;
        self.take(length.into())
    }

    fn str32(&mut self) -> Option<Range<usize>> {
        let length = self.array().map(u32::from_le_bytes)?;
        self.take(length as usize)
    }

    /// A count and so many fields, up to the end.
    fn fields(&mut self) -> Option<(usize, u16)> {
        let count = self.u16()?;
        let start = self.at;
        for _ in 0..count {
            self.str16()?;
            self.str32()?;
        }
        (self.at == self.all.len()).then_some((start, count))
    }

    fn field(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let all = self.all;
        let name = self.str16()?;
        let value = self.str32()?;
        Some((&all[name], &all[value]))
    }
}

/// Header fields in the order in which they were sent.
#[derive(Clone)]
pub struct Fields<'a> {
    cursor: Cursor<'a>,
    left: u16,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.cursor.field()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Fields<'_> {}

impl std::fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fields").field("left", &self.left).finish_non_exhaustive()
    }
}

/// A request as the worker reads it: a copy of the frame, and where its parts are.
#[derive(Debug, Clone)]
pub struct RequestView {
    payload: Vec<u8>,
    version: u8,
    scheme: u8,
    server_port: u16,
    remote_port: u16,
    content_length: u64,
    parts: [(u32, u32); 7],
    fields: (usize, u16),
}

impl RequestView {
    /// Takes the payload of a REQUEST frame.
    pub(crate) fn parse(payload: Vec<u8>) -> Option<Self> {
        let mut cursor = Cursor { all: &payload, at: 0 };
        let [version, scheme] = cursor.array()?;
        let (server_port, remote_port, content_length) = (cursor.u16()?, cursor.u16()?, cursor.u64()?);
        let ranges = [
            cursor.str16()?,
            cursor.str32()?,
            cursor.str32()?,
            cursor.str32()?,
            cursor.str16()?,
            cursor.str16()?,
            cursor.str16()?,
        ];
        let fields = cursor.fields()?;
        let parts = ranges.map(|range| (range.start as u32, range.end as u32));
        Some(Self { payload, version, scheme, server_port, remote_port, content_length, parts, fields })
    }

    /// In place of a request that could not be read.
    pub(crate) fn empty() -> Self {
        Self {
            payload: Vec::new(),
            version: 11,
            scheme: 0,
            server_port: 0,
            remote_port: 0,
            content_length: NO_LENGTH,
            parts: [(0, 0); 7],
            fields: (0, 0),
        }
    }

    fn part(&self, i: usize) -> &[u8] {
        let (start, end) = self.parts[i];
        &self.payload[start as usize..end as usize]
    }

    /// 10 or 11.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// 0 http, 1 https.
    pub fn scheme(&self) -> u8 {
        self.scheme
    }

    /// The port that the request was for.
    pub fn server_port(&self) -> u16 {
        self.server_port
    }

    /// The client's port.
    pub fn remote_port(&self) -> u16 {
        self.remote_port
    }

    /// How long the body is, `None` without one.
    pub fn content_length(&self) -> Option<u64> {
        (self.content_length != NO_LENGTH).then_some(self.content_length)
    }

    /// The method.
    pub fn method(&self) -> &[u8] {
        self.part(0)
    }

    /// The request target as received.
    pub fn target(&self) -> &[u8] {
        self.part(1)
    }

    /// The path, percent-decoded.
    pub fn path(&self) -> &[u8] {
        self.part(2)
    }

    /// The query, without its question mark.
    pub fn query(&self) -> &[u8] {
        self.part(3)
    }

    /// WSGI's SCRIPT_NAME.
    pub fn script_name(&self) -> &[u8] {
        self.part(4)
    }

    /// The client's address, in text.
    pub fn remote_address(&self) -> &[u8] {
        self.part(5)
    }

    /// The name that the request was for.
    pub fn server_name(&self) -> &[u8] {
        self.part(6)
    }

    /// The header fields, names as received.
    pub fn headers(&self) -> Fields<'_> {
        Fields { cursor: Cursor { all: &self.payload, at: self.fields.0 }, left: self.fields.1 }
    }
}

/// The head of a response. The lengths in it were checked; whether its bytes are fit for HTTP was not.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    status: u16,
    reason: (usize, usize),
    payload: Bytes,
    fields: (usize, u16),
}

impl ResponseHead {
    fn parse(payload: &Bytes) -> Option<Self> {
        let mut cursor = Cursor { all: payload, at: 0 };
        let status = cursor.u16().filter(|status| (100..=999).contains(status))?;
        let reason = cursor.str16()?;
        let fields = cursor.fields()?;
        Some(Self { status, reason: (reason.start, reason.end), payload: payload.clone(), fields })
    }

    /// 100 to 999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase; may be empty.
    pub fn reason(&self) -> &[u8] {
        &self.payload[self.reason.0..self.reason.1]
    }

    /// The header fields in order.
    pub fn fields(&self) -> Fields<'_> {
        Fields { cursor: Cursor { all: &self.payload, at: self.fields.0 }, left: self.fields.1 }
    }

    /// Makes a name or a value that [`ResponseHead::fields`] gave stand on its own, without a copy.
    pub fn bytes(&self, part: &[u8]) -> Bytes {
        self.payload.slice_ref(part)
    }
}

/// What a worker has sent.
#[derive(Debug, Clone)]
pub enum ResponseFrame {
    /// The head. Any number with a status of 1xx may come before the final one.
    Head(ResponseHead),
    /// A piece of the body.
    Body(Bytes),
    /// A piece of the body that is a piece of a file; its descriptor comes over the worker's socket.
    File {
        /// From where in the file.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// The end. `failed`: what was sent is not the whole; there may not even have been a head.
    End {
        /// Whether the application failed.
        failed: bool,
    },
}

impl ResponseFrame {
    /// Reads a frame; `None` for anything that PROTOCOL.md does not have.
    pub(crate) fn parse(kind: u8, payload: &Bytes) -> Option<Self> {
        match kind {
            HEAD => ResponseHead::parse(payload).map(Self::Head),
            BODY => Some(Self::Body(payload.clone())),
            FILE => {
                let mut cursor = Cursor { all: payload, at: 0 };
                let (offset, length) = (cursor.u64()?, cursor.u64()?);
                let fits = cursor.at == payload.len() && i64::try_from(offset.checked_add(length)?).is_ok();
                fits.then_some(Self::File { offset, length })
            }
            END => match payload[..] {
                [flags @ (0 | 1)] => Some(Self::End { failed: flags == 1 }),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The length in a BODY_FILE frame.
pub(crate) fn parse_body_file(payload: &[u8]) -> Option<u64> {
    payload.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..most)
    }

    fn fields() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
        proptest::collection::vec((bytes(20), bytes(50)), 0..10)
    }

    fn pairs(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<(&[u8], &[u8])> {
        fields.iter().map(|(name, value)| (&name[..], &value[..])).collect()
    }

    proptest! {
        #[test]
        fn requests_read_as_written(
            parts in proptest::collection::vec(bytes(40), 7),
            ports in any::<(u16, u16)>(),
            length in proptest::option::of(0..u64::MAX),
            fields in fields(),
        ) {
            let listed = pairs(&fields);
            let request = RequestFrame {
                version: 11, is_https: true, server_port: ports.0, remote_port: ports.1, content_length: length,
                method: &parts[0], target: &parts[1], path: &parts[2], query: &parts[3], script_name: &parts[4],
                remote_address: &parts[5], server_name: &parts[6], fields: &mut listed.iter().copied(),
            };
            let mut into = Vec::new();
            Encoder { into: &mut into }.request(request).unwrap();
            prop_assert_eq!(read_header(&into), Some((REQUEST, into.len() - FRAME_HEADER)));
            let view = RequestView::parse(into[FRAME_HEADER..].to_vec()).unwrap();
            prop_assert_eq!((view.version(), view.scheme()), (11, 1));
            prop_assert_eq!((view.server_port(), view.remote_port()), ports);
            prop_assert_eq!(view.content_length(), length);
            let seen = [view.method(), view.target(), view.path(), view.query(), view.script_name(),
                view.remote_address(), view.server_name()];
            prop_assert_eq!(seen.map(<[u8]>::to_vec).to_vec(), parts.clone());
            prop_assert_eq!(view.headers().collect::<Vec<_>>(), pairs(&fields));
            for cut in FRAME_HEADER..into.len() {
                prop_assert!(RequestView::parse(into[FRAME_HEADER..cut].to_vec()).is_none());
            }
        }

        #[test]
        fn heads_read_as_written(status in 100..1000_u16, reason in bytes(30), fields in fields()) {
            let mut into = Vec::new();
            Encoder { into: &mut into }.head(status, &reason, pairs(&fields)).unwrap();
            let payload = Bytes::from(into).slice(FRAME_HEADER..);
            let Some(ResponseFrame::Head(head)) = ResponseFrame::parse(HEAD, &payload) else { panic!("no head") };
            prop_assert_eq!((head.status(), head.reason()), (status, &reason[..]));
            prop_assert_eq!(head.fields().collect::<Vec<_>>(), pairs(&fields));
            for (_, value) in head.fields() {
                prop_assert_eq!(&head.bytes(value)[..], value);
            }
            for cut in 0..payload.len() {
                prop_assert!(ResponseFrame::parse(HEAD, &payload.slice(..cut)).is_none());
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(kind in any::<u8>(), payload in bytes(200)) {
            let _ = ResponseFrame::parse(kind, &Bytes::from(payload.clone()));
            let _ = RequestView::parse(payload.clone());
            let _ = read_header(&payload);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut into = Vec::new();
        assert_eq!(Encoder { into: &mut into }.head(200, &vec![b'x'; 65536], []), Err(TooLong));
        assert!(ResponseFrame::parse(END, &Bytes::from_static(&[2])).is_none());
        assert!(ResponseFrame::parse(FILE, &Bytes::from_static(&[0xff; 16])).is_none());
    }
}
