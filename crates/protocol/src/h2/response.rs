//! Writing a response.

use std::fs::File;
use std::future::poll_fn;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::task::{Context, Poll};

use ::h2::{Reason, SendStream};
use bytes::{Bytes, BytesMut};
use exchange::{Body, Chunk, ChunkStream, Fields, Leave, Name, Nothing, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http1::response_body_allowed;

use super::Exchange;
use crate::{Sent, WriteError};

/// Bytes of a stream that are collected before they are handed over.
const COLLECT_LIMIT: usize = 16 * 1024;
/// Bytes of a file that one call reads.
const FILE_BLOCK: u64 = 32 * 1024;

impl Exchange {
    /// Hands the response over to the connection. `date` is the value of `Date`.
    ///
    /// What the codec has been given counts as sent: it is within the client's windows, and the connection ends if
    /// the client does not take it in `send_timeout`.
    pub async fn respond(&mut self, response: &mut Response, date: &[u8]) -> Sent {
        let mut sent = Sent { body: 0, head: 0, outcome: Ok(()) };
        self.deadline.set(self.settings.send_timeout);
        sent.outcome = self.respond_inner(response, date, &mut sent).await;
        if sent.outcome.is_ok() {
            self.wire.served.set(self.wire.served.get() + 1);
        }
        sent
    }

    async fn respond_inner(
        &mut self,
        response: &mut Response,
        date: &[u8],
        sent: &mut Sent,
    ) -> Result<(), WriteError> {
        let has_body = response_body_allowed(response.status) && !self.is_head;
        let length = self.length(response);
        let mut ends = (!has_body || length == Some(0)) && !self.is_tunnel;
        let length = length.filter(|_| !self.is_tunnel);
        let mut encoded = self.encode(response, length, date);
        if encoded.is_none() {
            // As on HTTP/1: handlers check what they take from outside, so this is a fault of the program.
            *response = Response::text(500, "text/plain", "Internal Server Error\n");
            (ends, self.is_tunnel) = (self.is_head, false);
            encoded = self.encode(response, response.body.len(), date);
        }
        let (head, size) = encoded.ok_or(WriteError::Broken("no head could be made"))?;
        sent.head = size;
        self.is_answered = true;
        // An error means that the client has cancelled the request or is gone.
        let mut stream = self.respond.send_response(head, ends).map_err(|_| WriteError::Gone)?;
        if ends {
            return Ok(());
        }
        if self.is_tunnel {
            self.tunnel = Some(stream);
            return Ok(());
        }
        let outcome = match std::mem::take(&mut response.body) {
            Body::Empty => stream.send_data(Bytes::new(), true).map_err(|_| WriteError::Gone),
            Body::Full(body) => self.write(&mut stream, body, true, sent, &mut Nothing).await,
            Body::File(body) => {
                let mut left = body.len();
                let mut outcome = Ok(());
                for piece in body.pieces {
                    left -= piece.prefix.len() as u64 + piece.len;
                    outcome = self.write(&mut stream, piece.prefix, false, sent, &mut Nothing).await;
                    if outcome.is_ok() {
                        outcome = self
                            .write_file(
                                &mut stream,
                                &body.file,
                                piece.start..piece.start + piece.len,
                                left == 0,
                                sent,
                                &mut Nothing,
                            )
                            .await;
                    }
                    if outcome.is_err() {
                        break;
                    }
                }
                match outcome {
                    Ok(()) if left > 0 => {
                        self.write(&mut stream, body.suffix, true, sent, &mut Nothing).await
                    }
                    other => other,
                }
            }
            Body::Stream(body) => self.write_stream(&mut stream, body, length, response.leave, sent).await,
        };
        match outcome {
            Ok(()) | Err(WriteError::Gone | WriteError::Left) => {}
            // The client can tell that what it has is not the whole.
            Err(WriteError::Broken(_)) => stream.send_reset(Reason::INTERNAL_ERROR),
            Err(WriteError::Timeout) => stream.send_reset(Reason::CANCEL),
        }
        outcome
    }

    /// The length of the body, where it is known.
    fn length(&self, response: &Response) -> Option<u64> {
        let announced =
            || response.fields.only(Name::ContentLength).and_then(|v| str::from_utf8(v).ok()?.parse().ok());
        match &response.body {
            Body::Empty if self.is_head => announced(),
            body => body.len().or_else(announced),
        }
    }

    /// The head, and about how many bytes it is; `None` if a field is none that can be sent.
    fn encode(
        &self,
        response: &Response,
        length: Option<u64>,
        date: &[u8],
    ) -> Option<(http::Response<()>, u64)> {
        let mut head = http::Response::new(());
        // Handlers make no status beyond these.
        *head.status_mut() =
            StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let fields = head.headers_mut();
        fields.reserve(response.fields.len() + 3);
        let block = values(&response.fields);
        let mut end = 0;
        let (mut has_date, mut has_server) = (false, false);
        for (name, spelling, value) in response.fields.iter() {
            let start = end;
            end += value.len();
            match name {
                Name::ContentLength | Name::TransferEncoding | Name::Connection | Name::KeepAlive => continue,
                Name::Date => has_date = true,
                Name::Server => has_server = true,
                // Of connections that are not this one (RFC 9113 §8.2.2).
                _ if is_of_connection(spelling) => continue,
                _ => {}
            }
            push(fields, spelling, block.slice(start..end))?;
        }
        if !has_server && let Some(server) = &self.settings.server {
            push(fields, b"server", Bytes::copy_from_slice(server.as_bytes()))?;
        }
        if !has_date {
            push(fields, b"date", Bytes::copy_from_slice(date))?;
        }
        if let Some(length) = length.filter(|_| !matches!(response.status, 204 | 304)) {
            fields.insert(http::header::CONTENT_LENGTH, length.into());
        }
        let size = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 2).sum::<usize>();
        Some((head, size as u64))
    }

    async fn write_stream(
        &mut self,
        stream: &mut SendStream<Bytes>,
        mut body: Box<dyn ChunkStream>,
        length: Option<u64>,
        leave: Leave,
        sent: &mut Sent,
    ) -> Result<(), WriteError> {
        let mut collected = BytesMut::new();
        let left = |sent: &Sent, collected: &BytesMut| {
            length.map_or(u64::MAX, |length| length - sent.body - collected.len() as u64)
        };
        loop {
            // What has been collected leaves as soon as there is nothing more to collect.
            let mut gone = false;
            let chunk = poll_fn(|cx| match body.poll_chunk(cx) {
                Poll::Pending if !collected.is_empty() => Poll::Ready(Some(Ok(Chunk::Flush))),
                // A stream that was cancelled is never one that only sends nothing more.
                Poll::Pending if leave != Leave::Unseen && stream.poll_reset(cx).is_ready() => {
                    gone = true;
                    Poll::Ready(None)
                }
                other => other,
            })
            .await;
            match chunk {
                None if gone => return Err(WriteError::Left),
                None => break,
                Some(Ok(Chunk::Flush)) => {
                    self.write(stream, collected.split().freeze(), false, sent, &mut *body).await?;
                }
                Some(Ok(Chunk::Data(data))) => {
                    let room = usize::try_from(left(sent, &collected)).unwrap_or(usize::MAX);
                    let data = data.slice(..data.len().min(room));
                    if collected.is_empty() && data.len() >= COLLECT_LIMIT {
                        self.write(stream, data, false, sent, &mut *body).await?;
                        continue;
                    }
                    collected.extend_from_slice(&data);
                    if collected.len() >= COLLECT_LIMIT {
                        self.write(stream, collected.split().freeze(), false, sent, &mut *body).await?;
                    }
                }
                Some(Ok(Chunk::File { file, start, len })) => {
                    let len = len.min(left(sent, &collected));
                    self.write(stream, collected.split().freeze(), false, sent, &mut *body).await?;
                    self.write_file(stream, &file, start..start + len, false, sent, &mut *body).await?;
                }
                Some(Err(error)) => {
                    self.write(stream, collected.split().freeze(), false, sent, &mut *body).await?;
                    return Err(WriteError::Broken(error.0));
                }
            }
        }
        let trailers = body.trailers().map(|fields| section(&fields)).filter(|fields| !fields.is_empty());
        self.write(stream, collected.freeze(), false, sent, &mut *body).await?;
        if length.is_some_and(|length| sent.body < length) {
            return Err(WriteError::Broken("the body is shorter than its Content-Length"));
        }
        let ended = match trailers {
            Some(trailers) => stream.send_trailers(trailers),
            None => stream.send_data(Bytes::new(), true),
        };
        ended.map_err(|_| WriteError::Gone)
    }

    async fn write_file(
        &mut self,
        stream: &mut SendStream<Bytes>,
        file: &File,
        range: Range<u64>,
        ends: bool,
        sent: &mut Sent,
        ahead: &mut dyn ChunkStream,
    ) -> Result<(), WriteError> {
        let Range { start: mut offset, end } = range;
        while offset < end {
            // Not before there is a place for it: what waits for a slow client is on the disk.
            self.room(stream, 1, ahead).await?;
            let want = (end - offset).min(FILE_BLOCK) as usize;
            let mut block = BytesMut::zeroed(want);
            match file.read_at(&mut block, offset) {
                Ok(0) => return Err(WriteError::Broken("the file became shorter while it was sent")),
                Ok(count) => block.truncate(count),
                Err(_) => return Err(WriteError::Broken("the file could not be read")),
            }
            offset += block.len() as u64;
            self.write(stream, block.freeze(), ends && offset == end, sent, ahead).await?;
        }
        Ok(())
    }

    /// Hands over bytes as the client's windows, the response's pace and the other exchanges let it.
    async fn write(
        &mut self,
        stream: &mut SendStream<Bytes>,
        mut data: Bytes,
        ends: bool,
        sent: &mut Sent,
        ahead: &mut dyn ChunkStream,
    ) -> Result<(), WriteError> {
        while !data.is_empty() {
            let room = self.room(stream, data.len(), ahead).await?;
            let piece = data.split_to(room.min(data.len()));
            let count = piece.len();
            stream.send_data(piece, ends && data.is_empty()).map_err(|_| WriteError::Gone)?;
            self.round = self.wire.turns.give(count);
            if let Some(pace) = &mut self.pace {
                pace.wrote(count);
            }
            sent.body += count as u64;
            self.deadline.set(self.settings.send_timeout);
        }
        Ok(())
    }

    /// Waits until something may be handed over; what comes after may be taken in meanwhile.
    async fn room(
        &mut self,
        stream: &mut SendStream<Bytes>,
        want: usize,
        ahead: &mut dyn ChunkStream,
    ) -> Result<usize, WriteError> {
        poll_fn(|cx| {
            let room = self.poll_room(cx, stream, want);
            if room.is_pending() {
                ahead.poll_ahead(cx);
            }
            room
        })
        .await
    }

    /// Ready with how many bytes may be handed over.
    pub(super) fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
        want: usize,
    ) -> Poll<Result<usize, WriteError>> {
        let mut most = want.min(self.settings.http2_chunk);
        if let Some(pace) = &mut self.pace {
            let Poll::Ready(room) = pace.poll_room(cx) else {
                self.is_paced = true;
                return stream.poll_reset(cx).map(|_| Err(WriteError::Gone));
            };
            most = most.min(room);
        }
        if std::mem::take(&mut self.is_paced) {
            // It was not the client that took nothing.
            self.deadline.set(self.settings.send_timeout);
        }
        let id = self.id;
        let turn = self.wire.turns.poll_turn(cx, self.priority, id, self.round);
        let Poll::Ready(room) = turn else { return self.late(cx, stream) };
        most = most.min(room);
        stream.reserve_capacity(most);
        loop {
            let capacity = stream.capacity().min(most);
            if capacity > 0 {
                return Poll::Ready(Ok(capacity));
            }
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(Err(WriteError::Gone)),
                Poll::Pending => return self.late(cx, stream),
            }
        }
    }

    /// While it waits: the client may leave, or take nothing for too long.
    fn late<T>(&self, cx: &mut Context<'_>, stream: &mut SendStream<Bytes>) -> Poll<Result<T, WriteError>> {
        if stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(WriteError::Gone));
        }
        if self.deadline.is_past(cx) {
            return Poll::Ready(Err(WriteError::Timeout));
        }
        Poll::Pending
    }
}

/// One field of a response; `None` if it is none, or if there are more than anybody takes.
fn push(fields: &mut HeaderMap, name: &[u8], value: Bytes) -> Option<()> {
    let (name, value) = (HeaderName::from_bytes(name).ok()?, HeaderValue::from_maybe_shared(value).ok()?);
    fields.try_append(name, value).ok().map(|_| ())
}

/// The values one behind the other, so that all of them share one block of memory.
fn values(fields: &Fields) -> Bytes {
    let mut block = Vec::new();
    for (_, _, value) in fields.iter() {
        block.extend_from_slice(value);
    }
    block.into()
}

/// Fields as they can stand in an interim response or in trailers. Those that cannot are left out: the response itself
/// has left, or is not theirs to spoil.
pub(super) fn section(section: &Fields) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (_, name, value) in section.iter().filter(|(_, name, _)| !is_of_connection(name)) {
        let _ = push(&mut fields, name, Bytes::copy_from_slice(value));
    }
    fields
}

fn is_of_connection(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"upgrade") || name.eq_ignore_ascii_case(b"proxy-connection")
}
