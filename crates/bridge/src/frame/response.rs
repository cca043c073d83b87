//! Frames from a worker to the edge.

use bytes::Bytes;

use super::{BODY, Cursor, END, Encoder, FILE, Fields, HEAD, LOG, TooLong};

impl Encoder<'_> {
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

    pub(crate) fn log<'a>(
        &mut self,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), TooLong> {
        let start = self.open(LOG);
        self.fields(fields)?;
        self.close(start);
        Ok(())
    }

    pub(crate) fn end(&mut self, failed: bool) {
        self.header(END, 1);
        self.into.push(u8::from(failed));
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

/// What the access log is to say otherwise than the head did. The lengths in it were checked.
#[derive(Debug, Clone)]
pub struct ResponseLog {
    payload: Bytes,
    fields: (usize, u16),
}

impl ResponseLog {
    fn parse(payload: &Bytes) -> Option<Self> {
        let fields = Cursor { all: payload, at: 0 }.fields()?;
        Some(Self { payload: payload.clone(), fields })
    }

    /// The variables, each with a `:` before its name.
    pub fn fields(&self) -> Fields<'_> {
        Fields { cursor: Cursor { all: &self.payload, at: self.fields.0 }, left: self.fields.1 }
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
    /// For the access log alone: variables that have changed since the head. At most one, behind all that the application
    /// had iterated over; what it writes while it is closed comes later.
    Log(ResponseLog),
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
            LOG => ResponseLog::parse(payload).map(Self::Log),
            END => match payload[..] {
                [flags @ (0 | 1)] => Some(Self::End { failed: flags == 1 }),
                _ => None,
            },
            _ => None,
        }
    }
}
