//! How much of everything a peer may send.

/// Limits of one message head and of what surrounds a chunked body. A message that needs more is refused
/// as soon as the byte too many has arrived, before its line or section is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line without its CRLF (gunicorn's `limit_request_line`); past it 414.
    pub request_line: usize,
    /// Field lines of a head, and of a trailer section (gunicorn's `limit_request_fields`); past it 431.
    pub fields: usize,
    /// Bytes of one field line without its CRLF (gunicorn's `limit_request_field_size`); past it 431.
    pub field_size: usize,
    /// Bytes of a whole head, from the first byte of its request line to its last CRLF; past it 431. The
    /// counterpart of nginx's `large_client_header_buffers` taken together. At most
    /// [`Limits::HEAD_MAX`] is heeded.
    pub head: usize,
    /// Bytes of a trailer section; past it 431. At most [`Limits::HEAD_MAX`] is heeded.
    pub trailers: usize,
    /// Bytes of the extensions of one chunk; past it 400.
    pub chunk_extension: usize,
    /// Bytes of all chunk extensions of one body together: without it, chunks of one byte each with a
    /// long extension cost a thousand times what they carry. Past it 400.
    pub chunk_extensions_total: usize,
}

impl Limits {
    /// The longest head or trailer section that can be allowed: positions in it are `u32`.
    pub const HEAD_MAX: usize = 1 << 30;

    pub(crate) fn head_effective(&self) -> usize {
        self.head.min(Self::HEAD_MAX)
    }

    pub(crate) fn trailers_effective(&self) -> usize {
        self.trailers.min(Self::HEAD_MAX)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line: 4094,
            fields: 100,
            field_size: 8190,
            head: 64 * 1024,
            trailers: 8 * 1024,
            chunk_extension: 1024,
            chunk_extensions_total: 16 * 1024,
        }
    }
}
