//! Frames from the edge to a worker.

use super::{BODY_FILE, Cursor, Encoder, Fields, REQUEST, REQUEST_END, TooLong};

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

impl Encoder<'_> {
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

    pub(crate) fn body_file(&mut self, length: u64) {
        self.header(BODY_FILE, 8);
        self.into.extend_from_slice(&length.to_le_bytes());
    }

    pub(crate) fn request_end(&mut self) {
        self.header(REQUEST_END, 0);
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

/// The length in a BODY_FILE frame.
pub(crate) fn parse_body_file(payload: &[u8]) -> Option<u64> {
    payload.try_into().ok().map(u64::from_le_bytes)
}
