//! The sending of a request, as a whole or as its client sends it.

use std::io::IoSlice;
use std::os::unix::fs::FileExt;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use config::model::http::Family;
use exchange::{BodyError, BodySource};

use crate::connection::{Client, Connection, Limits, Outgoing, OutgoingBody};
use crate::{Attempt, Fault, Stream};

/// Bytes of a body that are read at once.
const BLOCK: usize = 64 * 1024;

/// How far a request has been sent.
pub(crate) struct Sender<'a> {
    outgoing: Outgoing<'a>,
    /// The body leaves in records.
    records: bool,
    /// Bytes of the head, and of a body in memory behind it, that have left.
    at: usize,
    /// Of a file: how far it was read.
    offset: u64,
    /// What of a file or the client's body is on its way.
    block: BytesMut,
    /// The client's body has ended.
    ended: bool,
    /// The client's body is awaited.
    reading: bool,
    /// It is, and all that came before has left.
    pub(crate) is_dry: bool,
    pub(crate) done: bool,
}

impl<'a> Sender<'a> {
    pub(crate) fn new(outgoing: Outgoing<'a>, family: Family) -> Self {
        Self {
            outgoing,
            records: family == Family::FastCgi,
            at: 0,
            offset: 0,
            block: BytesMut::new(),
            ended: false,
            reading: false,
            is_dry: false,
            done: false,
        }
    }

    /// The client is asked for its body: whether it is gone shows there.
    pub(crate) fn is_reading(&self) -> bool {
        self.reading
    }

    pub(crate) fn poll(
        &mut self,
        connection: &mut Connection,
        limits: &Limits,
        client: &mut dyn Client,
        attempt: &Attempt,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        loop {
            let more = if self.block.is_empty() { self.fill(client, cx)? } else { Poll::Ready(()) };
            let head = self.outgoing.head;
            let rest = head.get(self.at..).unwrap_or_default();
            let body = match &self.outgoing.body {
                OutgoingBody::Bytes(bytes) if !self.records => &bytes[self.at.saturating_sub(head.len())..],
                _ => &self.block[..],
            };
            if rest.is_empty() && body.is_empty() {
                if more.is_pending() {
                    self.is_dry = true;
                    return Poll::Pending;
                }
                self.is_dry = false;
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            if std::mem::take(&mut self.is_dry) {
                connection.deadline.set(limits.send_timeout);
            }
            match connection.stream.poll_write(cx, &[IoSlice::new(rest), IoSlice::new(body)]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Io("send", error))),
                Poll::Ready(Ok(written)) => {
                    Attempt::add(&attempt.sent, written);
                    connection.deadline.set(limits.send_timeout);
                    let of_head = written.min(rest.len());
                    if matches!(self.outgoing.body, OutgoingBody::Bytes(_)) && !self.records {
                        self.at += written;
                    } else {
                        self.at += of_head;
                        self.block.advance(written - of_head);
                    }
                }
            }
        }
    }

    /// The next of a body that is not in memory. Pending: the client has not sent it yet.
    fn fill(&mut self, client: &mut dyn Client, cx: &mut Context<'_>) -> Result<Poll<()>, Fault> {
        self.reading = false;
        if self.ended {
            return Ok(Poll::Ready(()));
        }
        match &self.outgoing.body {
            OutgoingBody::Bytes(_) if !self.records => self.ended = true,
            OutgoingBody::Bytes(bytes) => {
                let rest = &bytes[usize::try_from(self.offset).unwrap_or(usize::MAX).min(bytes.len())..];
                let part = &rest[..rest.len().min(BLOCK)];
                self.offset += part.len() as u64;
                self.ended = part.len() == rest.len();
                records(&mut self.block, part);
            }
            OutgoingBody::File(file, length) => {
                let want = usize::try_from(*length - self.offset).unwrap_or(usize::MAX).min(BLOCK);
                let mut part = vec![0; want];
                file.read_exact_at(&mut part, self.offset).map_err(|error| Fault::Io("pread", error))?;
                self.offset += want as u64;
                self.ended = self.offset == *length;
                if self.records {
                    records(&mut self.block, &part);
                } else {
                    self.block.extend_from_slice(&part);
                }
            }
            OutgoingBody::Stream { chunked } => {
                let form = Form::new(self.records, *chunked);
                let taken =
                    form.take(&mut self.block, &mut self.ended, &mut |cx| client.poll_body(cx), cx)?;
                self.reading = taken.is_pending();
                return Ok(taken);
            }
        }
        if self.ended && self.records {
            self.block.extend_from_slice(&gateway::fastcgi::stdin(0));
        }
        Ok(Poll::Ready(()))
    }

    /// What is left to be sent while the answer comes. `None`: nothing, or what is left makes no sense to anybody, because
    /// the answer was there before all that is known here had left.
    pub(crate) fn rest(&mut self, client: &mut dyn Client) -> Option<Box<Rest>> {
        let OutgoingBody::Stream { chunked } = self.outgoing.body else { return None };
        if self.done {
            return None;
        }
        let mut block = BytesMut::from(self.outgoing.head.get(self.at..).unwrap_or_default());
        block.unsplit(std::mem::take(&mut self.block));
        let source = if self.ended { None } else { Some(client.hand_over_body()?) };
        Some(Box::new(Rest {
            form: Form::new(self.records, chunked),
            block,
            source,
            is_sent: false,
            is_cut: false,
        }))
    }
}

/// What is left of a request whose answer has begun.
pub(crate) struct Rest {
    form: Form,
    block: BytesMut,
    /// Who has what follows; `None` once all has come.
    source: Option<Box<dyn BodySource>>,
    /// All has left.
    pub(crate) is_sent: bool,
    /// The rest never will.
    is_cut: bool,
}

impl Rest {
    fn cut(&mut self) {
        self.is_cut = true;
        self.source = None;
    }

    /// Sends what is there. Tells whether some of it has left.
    pub(crate) fn poll(&mut self, stream: &mut Stream, attempt: &Attempt, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while !self.is_sent && !self.is_cut {
            if let Some(source) = &mut self.source
                && self.block.is_empty()
            {
                let mut ended = false;
                match self.form.take(&mut self.block, &mut ended, &mut |cx| source.poll_data(cx), cx) {
                    Ok(Poll::Pending) => break,
                    Ok(Poll::Ready(())) if ended => self.source = None,
                    Ok(Poll::Ready(())) => {}
                    // Half a request is none, and the server is to know.
                    Err(_) => {
                        self.cut();
                        stream.shutdown_write();
                        break;
                    }
                }
            }
            if self.block.is_empty() {
                self.is_sent = self.source.is_none();
                continue;
            }
            match stream.poll_write(cx, &[IoSlice::new(&self.block)]) {
                Poll::Pending => break,
                Poll::Ready(Ok(written)) => {
                    Attempt::add(&attempt.sent, written);
                    self.block.advance(written);
                    moved = true;
                }
                // It wants no more of it; why, the answer tells.
                Poll::Ready(Err(_)) => self.cut(),
            }
        }
        moved
    }
}

/// Asks whoever has a body for the next of it.
type Next<'a> = &'a mut dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>;

/// How a body that is passed on as it comes is framed.
#[derive(Clone, Copy)]
enum Form {
    Plain,
    Chunks,
    Records,
}

impl Form {
    const fn new(records: bool, chunked: bool) -> Self {
        match (records, chunked) {
            (true, _) => Self::Records,
            (false, true) => Self::Chunks,
            (false, false) => Self::Plain,
        }
    }

    /// Takes what is there of a body, and its end if that is. Pending: nothing.
    fn take(
        self,
        block: &mut BytesMut,
        ended: &mut bool,
        next: Next<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, Fault> {
        // Small pieces that are there already leave as one.
        let (mut pieces, mut length) = (Vec::new(), 0);
        while length < BLOCK && !*ended {
            match next(cx) {
                Poll::Pending if pieces.is_empty() => return Ok(Poll::Pending),
                Poll::Pending => break,
                Poll::Ready(None) => *ended = true,
                Poll::Ready(Some(Ok(data))) => {
                    length += data.len();
                    pieces.push(data);
                }
                Poll::Ready(Some(Err(error))) => {
                    return Err(error.status().map_or(Fault::Gone, Fault::Body));
                }
            }
        }
        let in_chunks = matches!(self, Self::Chunks);
        if in_chunks && length > 0 {
            block.extend_from_slice(http1::ChunkHeader::new(length as u64).as_ref());
        }
        for data in pieces {
            match self {
                Self::Records => records(block, &data),
                Self::Plain | Self::Chunks => block.extend_from_slice(&data),
            }
        }
        if in_chunks && length > 0 {
            block.extend_from_slice(http1::CRLF);
        }
        match self {
            Self::Chunks if *ended => block.extend_from_slice(http1::LAST_CHUNK),
            Self::Records if *ended => block.extend_from_slice(&gateway::fastcgi::stdin(0)),
            _ => {}
        }
        Ok(Poll::Ready(()))
    }
}

/// A part of a body in as many records as it takes.
fn records(block: &mut BytesMut, part: &[u8]) {
    for part in part.chunks(gateway::fastcgi::RECORD) {
        block.extend_from_slice(&gateway::fastcgi::stdin(part.len() as u16));
        block.extend_from_slice(part);
    }
}
