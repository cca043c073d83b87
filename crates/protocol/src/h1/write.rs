//! Writing a response.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::task::{Context, Poll, ready};

use exchange::{Body, Chunk, ChunkStream, Fields, Leave, Name, Nothing, Response};
use http1::{EncodeError, ResponseEncoder, Version, response_body_allowed};

use super::Connection;
use crate::{ClientEvent, Sent, WriteError};

/// A body up to this size is copied behind the head and leaves with it in one write.
const COPY_LIMIT: usize = 16 * 1024;
/// Bytes of a stream that are collected before a write.
const COLLECT_LIMIT: usize = 64 * 1024;
/// Bytes that one response sends before others on the loop get their turn.
const TURN: u64 = 512 * 1024;
/// The same for a file that the kernel sends, which takes a fraction of the time; one call of sendfile asks for no more.
/// With half of it throughput is a fiftieth less, with twice as much the same.
const SENDFILE_LIMIT: u64 = 1024 * 1024;

/// What most heads have room in.
const HEAD_SIZE: usize = 512;

const SHORTER: &str = "the file became shorter while it was sent";

/// How the end of the body is told to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

/// How far a response has come that did not leave at once: nowhere, or so many bytes of its body.
#[derive(Debug)]
pub struct Left(Option<(Framing, u64)>);

impl Left {
    /// Nothing was done.
    pub const WHOLE: Self = Self(None);
}

impl Connection {
    /// Writes the response of the current request and settles what becomes of the connection: afterwards
    /// [`Connection::is_open`] tells whether it can take another. `date` is the value of `Date`. The body is used up.
    pub async fn respond(&mut self, response: &mut Response, date: &[u8]) -> Sent {
        let sent = match self.try_respond(response, date) {
            Ok(sent) => sent,
            // In a box: most responses leave at once, and every request pays for the size of what it may have to
            // wait for.
            Err(left) => Box::pin(self.respond_rest(response, date, left)).await,
        };
        match self.depart().await {
            Ok(()) => sent,
            Err(error) => Sent { outcome: Err(error), ..sent },
        }
    }

    /// The same as far as nothing has to be waited for; the rest is for [`Connection::respond_rest`]. What is small is
    /// only made ready to leave, which [`Connection::depart`] lets it.
    pub fn try_respond(&mut self, response: &mut Response, date: &[u8]) -> Result<Sent, Left> {
        if response.close || self.worn || self.is_last() || self.deadline.is_ending() {
            self.keep_alive = false;
        }
        if self.keep_alive && !self.body_is_done() {
            return Err(Left(None));
        }
        let mut sent = 0;
        let outcome = match self.begin_response(response, date) {
            Err(error) => Err(error),
            Ok(framing) => match self.respond_now(response, framing, &mut sent) {
                Some(outcome) => outcome,
                None => return Err(Left(Some((framing, sent)))),
            },
        };
        self.replace_broken(response, date, outcome);
        Ok(self.end_response(sent, outcome))
    }

    /// See [`Exchange::early_hints`](crate::Exchange::early_hints).
    pub fn early_hints(&mut self, fields: &Fields) {
        // HTTP/1.0 knows no interim responses (RFC 9110 §15.2).
        if self.is_http10 || self.response_begun || self.departing {
            return;
        }
        let output = &mut self.buffers.get_or_insert_with(|| self.pool.take()).output;
        let before = output.len();
        let encoded = ResponseEncoder::new(output, Version::Http11, 103, None).and_then(|mut head| {
            fields.iter().try_for_each(|(name, spelling, value)| head.field_of(name, spelling, value))?;
            head.finish();
            Ok(())
        });
        if encoded.is_err() {
            output.truncate(before);
            return;
        }
        if let Ok(written) = self.stream.try_write(output) {
            self.wrote += written as u64;
            output.drain(..written);
        }
        // What is left leaves before the response, and nothing may take it away.
        self.response_begun = !output.is_empty();
    }

    /// What [`Connection::try_respond`] has left.
    pub async fn respond_rest(&mut self, response: &mut Response, date: &[u8], left: Left) -> Sent {
        let mut sent = 0;
        let begun = if let Some((framing, before)) = left.0 {
            sent = before;
            Ok(framing)
        } else {
            self.settle_body();
            self.begin_response(response, date)
        };
        let outcome = match begun {
            Err(error) => Err(error),
            Ok(framing) => self.respond_later(response, framing, &mut sent).await,
        };
        self.replace_broken(response, date, outcome);
        self.end_response(sent, outcome)
    }

    /// Whether a response is ready to leave.
    pub fn is_departing(&self) -> bool {
        self.departing
    }

    /// Sends the response that is ready to leave, if there is one.
    pub async fn depart(&mut self) -> Result<(), WriteError> {
        if !std::mem::take(&mut self.departing) {
            return Ok(());
        }
        let outcome = match self.send_now(false) {
            Some(outcome) => outcome,
            None => Box::pin(self.flush()).await,
        };
        self.end_response(0, outcome).outcome
    }

    fn end_response(&mut self, sent: u64, outcome: Result<(), WriteError>) -> Sent {
        if outcome.is_err() {
            self.keep_alive = false;
            let resets = match outcome {
                // Whatever the framing is, a reset can't be taken for the end of the page. But it would take from a client
                // that pipelines, or is slow, the rest of earlier pages, which are whole; where there are such, the
                // framing has to tell.
                Err(WriteError::Broken(_)) => self.ends_with_close || !self.owes_earlier_responses(),
                Err(WriteError::Timeout) => self.settings.reset_timedout || self.ends_with_close,
                _ => false,
            };
            if resets && self.response_begun {
                self.reset_on_close();
            } else if matches!(outcome, Err(WriteError::Broken(_))) && self.response_begun {
                self.stream.say_no_farewell();
            }
        }
        self.pace = None;
        if !self.departing
            && let Some(buffers) = &mut self.buffers
        {
            buffers.output.clear();
        }
        Sent { body: sent, head: self.head_length, outcome }
    }

    /// Whether another request may come.
    pub fn is_open(&self) -> bool {
        self.keep_alive && !self.worn
    }

    /// Writes the head to the output. Tells how the end of the body is told; nothing more follows a head alone.
    fn begin_response(&mut self, response: &mut Response, date: &[u8]) -> Result<Framing, WriteError> {
        let mut framing = self.framing(response);
        self.ends_with_close = framing == Framing::Close;
        if self.ends_with_close {
            self.keep_alive = false;
        }
        self.set_nodelay(self.settings.nodelay);
        if self.encode_head(response, framing, date).is_err() {
            // Handlers check what they take from outside, so this is a fault of the program; nothing has left.
            framing = self.fail_head(response, date)?;
            self.ends_with_close = false;
        }
        self.deadline.set(self.settings.send_timeout);
        if framing == Framing::None || self.is_head {
            response.body = Body::Empty;
        }
        Ok(framing)
    }

    /// The head of a 500 in the place of the response's, and how its body ends.
    fn fail_head(&mut self, response: &mut Response, date: &[u8]) -> Result<Framing, WriteError> {
        *response = Response::text(500, "text/plain", "Internal Server Error\n");
        self.keep_alive = false;
        let length = Framing::Length(response.body.len().unwrap_or(0));
        self.encode_head(response, length, date).map_err(|_| WriteError::Broken("no head could be made"))?;
        Ok(length)
    }

    /// A response that broke off before any of it has left, such as a small file that became shorter: a 500 leaves.
    fn replace_broken(&mut self, response: &mut Response, date: &[u8], outcome: Result<(), WriteError>) {
        if self.response_begun || !matches!(outcome, Err(WriteError::Broken(_))) {
            return;
        }
        self.buffers().output.clear();
        if self.fail_head(response, date).is_ok()
            && let Body::Full(body) = std::mem::take(&mut response.body)
        {
            self.buffers().output.extend_from_slice(&body);
            self.departing = true;
        }
    }

    /// Writes what can be written without waiting, or has it ready to leave. `None`: something is left, in the output
    /// and in the response.
    fn respond_now(
        &mut self,
        response: &mut Response,
        framing: Framing,
        sent: &mut u64,
    ) -> Option<Result<(), WriteError>> {
        if self.pace.is_some() {
            return None;
        }
        match &mut response.body {
            Body::Full(body) if body.len() <= COPY_LIMIT => {
                *sent = body.len() as u64;
                self.buffers().output.extend_from_slice(body);
                response.body = Body::Empty;
            }
            Body::Empty => {}
            Body::File(body) => {
                let [piece] = &mut body.pieces[..] else { return None };
                if piece.prefix.is_empty() && body.suffix.is_empty() && piece.len <= COPY_LIMIT as u64 {
                    let output = &mut self.buffers().output;
                    let (from, length) = (output.len(), piece.len as usize);
                    output.resize(from + length, 0);
                    if let Err(error) = body.file.read_exact_at(&mut output[from..], piece.start) {
                        let is_short = error.kind() == io::ErrorKind::UnexpectedEof;
                        let why = if is_short { SHORTER } else { "the file could not be read" };
                        return Some(Err(WriteError::Broken(why)));
                    }
                    *sent = piece.len;
                    self.departing = true;
                    return Some(Ok(()));
                }
                if !self.settings.sendfile
                    || self.stream.is_encrypted()
                    || !piece.prefix.is_empty()
                    || !body.suffix.is_empty()
                    || piece.len > SENDFILE_LIMIT
                {
                    return None;
                }
                if let Err(error) = self.send_now(piece.len > 0)? {
                    return Some(Err(error));
                }
                while piece.len > 0 {
                    let written = self.stream.try_send_file(&body.file, &mut piece.start, piece.len as usize);
                    match self.written(written) {
                        Ok(Some(0)) => return Some(Err(WriteError::Broken(SHORTER))),
                        Ok(Some(n)) => {
                            piece.len -= n as u64;
                            *sent += n as u64;
                        }
                        Ok(None) => return None,
                        Err(error) => return Some(Err(error)),
                    }
                }
                return Some(Ok(()));
            }
            _ => return None,
        }
        debug_assert!(framing != Framing::Chunked || self.is_head, "a body in memory has a length");
        // Behind it another protocol begins.
        if response.status == 101 {
            return self.send_now(false);
        }
        self.departing = true;
        Some(Ok(()))
    }

    /// Writes the output. `None`: some of it is left. `more`: something follows at once.
    fn send_now(&mut self, more: bool) -> Option<Result<(), WriteError>> {
        let mut buffers = self.buffers.take()?;
        let mut done = 0;
        let outcome = loop {
            let rest = &buffers.output[done..];
            if rest.is_empty() {
                break Some(Ok(()));
            }
            let written = if more { self.stream.try_write_more(rest) } else { self.stream.try_write(rest) };
            match self.written(written) {
                Ok(Some(n)) => done += n,
                Ok(None) => break None,
                Err(error) => break Some(Err(error)),
            }
        };
        buffers.output.drain(..done);
        self.buffers = Some(buffers);
        outcome
    }

    /// Writes what [`Connection::respond_now`] has left.
    async fn respond_later(
        &mut self,
        response: &mut Response,
        framing: Framing,
        sent: &mut u64,
    ) -> Result<(), WriteError> {
        match std::mem::take(&mut response.body) {
            Body::Empty => self.flush().await,
            Body::Full(body) => {
                *sent = body.len() as u64;
                self.write_all(&body, &mut Nothing).await
            }
            Body::File(body) => {
                for piece in body.pieces {
                    self.buffers().output.extend_from_slice(&piece.prefix);
                    self.write_file(&body.file, piece.start, piece.len, sent, &mut Nothing).await?;
                    *sent += piece.prefix.len() as u64;
                }
                *sent += body.suffix.len() as u64;
                self.buffers().output.extend_from_slice(&body.suffix);
                self.flush().await
            }
            Body::Stream(stream) => self.write_stream(stream, framing, response.leave, sent).await,
        }
    }

    /// Whether the client has said that it sends nothing more, and nothing of it is left.
    fn is_last(&self) -> bool {
        self.half_closed && self.buffers.as_ref().is_none_or(|b| b.input.is_empty())
    }

    fn framing(&self, response: &Response) -> Framing {
        if !response_body_allowed(response.status) {
            return Framing::None;
        }
        if let Some(length) = response.body.len() {
            return Framing::Length(length);
        }
        let announced = response.fields.only(Name::ContentLength).and_then(|v| std::str::from_utf8(v).ok());
        match announced.and_then(|v| v.parse().ok()) {
            Some(length) => Framing::Length(length),
            None if self.is_head => Framing::None,
            None if self.is_http10 || !self.settings.chunked => Framing::Close,
            None => Framing::Chunked,
        }
    }

    /// Makes of a response's fields those that tell, in its head, of its length and of the connection.
    pub fn tell_framing(&self, response: &Response, fields: &mut Fields) {
        for name in [Name::TransferEncoding, Name::Connection, Name::KeepAlive] {
            fields.remove(name);
        }
        let framing = self.framing(response);
        let is_bare = self.is_head && matches!(response.body, Body::Empty);
        match framing {
            Framing::Length(length) if !is_bare => {
                fields.set(Name::ContentLength, length.to_string().as_bytes());
            }
            Framing::Chunked => fields.push_known(Name::TransferEncoding, b"chunked"),
            _ => {}
        }
        let stays = self.keep_alive && framing != Framing::Close;
        fields.push_known(Name::Connection, if stays { b"keep-alive" } else { b"close" });
        if stays && let Some(told) = self.settings.keepalive_header {
            fields.push_known(Name::KeepAlive, format!("timeout={}", told.as_secs()).as_bytes());
        }
    }

    fn encode_head(&mut self, response: &Response, framing: Framing, date: &[u8]) -> Result<(), EncodeError> {
        let (keep_alive, is_http10, is_head) = (self.keep_alive, self.is_http10, self.is_head);
        let settings = &*self.settings;
        let output = &mut self.buffers.get_or_insert_with(|| self.pool.take()).output;
        output.reserve(HEAD_SIZE);
        // A status line of HTTP/1.1 to a client of 1.0 is right (RFC 9112 §2.3), and what nginx sends.
        let mut head =
            ResponseEncoder::new(output, Version::Http11, response.status, response.reason.as_deref())?;
        let (mut has_date, mut has_server) = (false, false);
        for (name, spelling, value) in response.fields.iter() {
            match name {
                Name::ContentLength if !(is_head && matches!(response.body, Body::Empty)) => continue,
                Name::ContentLength if response.status == 204 => continue,
                Name::TransferEncoding | Name::Connection | Name::KeepAlive => continue,
                Name::Date => has_date = true,
                Name::Server => has_server = true,
                _ => {}
            }
            head.field_of(name, spelling, value)?;
        }
        if !has_server && let Some(server) = &settings.server {
            head.field(b"Server", server.as_bytes())?;
        }
        if !has_date {
            head.known_field(b"Date", date);
        }
        match framing {
            Framing::Length(0) if is_head && matches!(response.body, Body::Empty) => {}
            Framing::Length(length)
                if !(is_head
                    && response.fields.has(Name::ContentLength)
                    && matches!(response.body, Body::Empty)) =>
            {
                head.content_length(length);
            }
            Framing::Chunked => head.ready_made(b"Transfer-Encoding: chunked\r\n"),
            _ => {}
        }
        match (keep_alive, is_http10) {
            _ if response.status == 101 => head.ready_made(b"Connection: upgrade\r\n"),
            (false, _) => head.ready_made(b"Connection: close\r\n"),
            (true, is_http10) => {
                if is_http10 || settings.keepalive_header.is_some() {
                    head.ready_made(b"Connection: keep-alive\r\n");
                }
                if let Some(told) = settings.keepalive_header {
                    head.field(b"Keep-Alive", format!("timeout={}", told.as_secs()).as_bytes())?;
                }
            }
        }
        head.finish();
        self.head_length = output.len() as u64;
        Ok(())
    }

    async fn write_stream(
        &mut self,
        mut stream: Box<dyn ChunkStream>,
        framing: Framing,
        leave: Leave,
        sent: &mut u64,
    ) -> Result<(), WriteError> {
        let mut budget = TURN;
        loop {
            if let Some(of_body) = self.send_foreign(&mut *stream, framing, *sent)? {
                *sent += of_body;
                budget = budget.saturating_sub(of_body);
                if budget == 0 {
                    budget = TURN;
                    yield_once().await;
                }
                continue;
            }
            // What has been collected leaves as soon as there is nothing more to collect.
            let (mut waited, mut watched, mut gone) = (false, false, false);
            let chunk = poll_fn(|cx| match stream.poll_chunk(cx) {
                Poll::Pending if !waited && !self.buffers().output.is_empty() => {
                    waited = true;
                    Poll::Ready(Some(Ok(Chunk::Flush)))
                }
                Poll::Pending => {
                    gone = self.pass_body(cx) && leave != Leave::Unseen;
                    if !gone && leave != Leave::Unseen {
                        watched = true;
                        gone = self.has_left(cx, leave);
                    }
                    if gone { Poll::Ready(None) } else { Poll::Pending }
                }
                other @ Poll::Ready(_) => other,
            })
            .await;
            if watched {
                // The watch has used it, and it was not the client that was waited for.
                self.deadline.set(self.settings.send_timeout);
            }
            match chunk {
                // Who has all that was announced may leave before whoever answers has said that this is the end.
                None if gone && framing == Framing::Length(*sent) => break,
                None if gone => return Err(WriteError::Left),
                None => break,
                Some(Err(error)) => {
                    // What is whole may leave; the end that is missing says the rest.
                    self.flush_ahead(&mut *stream).await?;
                    return Err(WriteError::Broken(error.0));
                }
                Some(Ok(Chunk::Flush)) => self.flush_ahead(&mut *stream).await?,
                Some(Ok(Chunk::Data(data))) => {
                    let data = if let Framing::Length(length) = framing {
                        data.slice(..data.len().min(usize::try_from(length - *sent).unwrap_or(usize::MAX)))
                    } else {
                        data
                    };
                    if data.is_empty() {
                        continue;
                    }
                    *sent += data.len() as u64;
                    let output = &mut self.buffers().output;
                    if framing == Framing::Chunked {
                        http1::encode_chunk_size(output, data.len() as u64);
                    }
                    if data.len() <= COPY_LIMIT {
                        output.extend_from_slice(&data);
                    } else {
                        self.write_all(&data, &mut *stream).await?;
                    }
                    self.end_chunk(framing);
                    if self.buffers().output.len() >= COLLECT_LIMIT {
                        self.flush_ahead(&mut *stream).await?;
                    }
                }
                Some(Ok(Chunk::File { file, start, len })) => {
                    let len =
                        if let Framing::Length(length) = framing { len.min(length - *sent) } else { len };
                    if len == 0 {
                        continue;
                    }
                    if framing == Framing::Chunked {
                        http1::encode_chunk_size(&mut self.buffers().output, len);
                    }
                    self.write_file(&file, start, len, sent, &mut *stream).await?;
                    self.end_chunk(framing);
                }
            }
        }
        match framing {
            Framing::Length(length) if *sent < length => {
                self.flush().await?;
                Err(WriteError::Broken("the body is shorter than its Content-Length"))
            }
            Framing::Chunked => {
                let trailers = stream.trailers().unwrap_or_default();
                let fields = trailers.iter().map(|(_, name, value)| (name, value));
                let fields = fields.filter(|(name, _)| http1::trailer_allowed(name));
                let output = &mut self.buffers().output;
                // What may not stand in a trailer section is left out, and all with it.
                if http1::encode_last_chunk(output, fields).is_err() {
                    output.extend_from_slice(http1::LAST_CHUNK);
                }
                self.flush().await
            }
            _ => self.flush().await,
        }
    }

    /// Whether the client is gone. Asked while there is nothing to send to it, so whoever has something at once never
    /// asks; the task is woken when the client does something.
    fn has_left(&mut self, cx: &mut Context<'_>, leave: Leave) -> bool {
        match leave {
            Leave::Unseen => false,
            Leave::Ended if self.half_closed => true,
            Leave::Ended => self.poll_client(cx).is_ready(),
            Leave::Broken => loop {
                match self.poll_client(cx) {
                    Poll::Ready(ClientEvent::Gone) => return true,
                    Poll::Ready(ClientEvent::HalfClosed) => {}
                    Poll::Pending => return false,
                }
            },
        }
    }

    /// Sends what is collected, and what comes next of the stream if that lies where the kernel can take it from; how
    /// many bytes of the stream. `None`: what comes next has to be asked for.
    fn send_foreign(
        &mut self,
        stream: &mut dyn ChunkStream,
        framing: Framing,
        sent: u64,
    ) -> Result<Option<u64>, WriteError> {
        let most = match framing {
            Framing::Length(length) => length - sent,
            Framing::Close => u64::MAX,
            Framing::Chunked | Framing::None => return Ok(None),
        };
        if self.pace.is_some() || self.stream.is_encrypted() {
            return Ok(None);
        }
        let Some(mut buffers) = self.buffers.take() else { return Ok(None) };
        let mut of_head = 0;
        let result = stream.send_foreign(most, &mut |pieces| {
            let written = self.stream.try_write_foreign(&buffers.output, pieces)?;
            of_head = written.min(buffers.output.len());
            Ok(written - of_head)
        });
        buffers.output.drain(..of_head);
        self.wrote += of_head as u64;
        self.buffers = Some(buffers);
        let Some(result) = result else { return Ok(None) };
        Ok(self.written(result)?.map(|of_body| of_body as u64))
    }

    fn end_chunk(&mut self, framing: Framing) {
        if framing == Framing::Chunked {
            self.buffers().output.extend_from_slice(http1::CRLF);
        }
    }

    /// Writes what is collected.
    async fn flush(&mut self) -> Result<(), WriteError> {
        self.write_all(&[], &mut Nothing).await
    }

    async fn flush_ahead(&mut self, ahead: &mut dyn ChunkStream) -> Result<(), WriteError> {
        self.write_all(&[], ahead).await
    }

    /// Writes what is collected, then `body`. While the client takes nothing, what comes after may be taken in.
    async fn write_all(&mut self, body: &[u8], ahead: &mut dyn ChunkStream) -> Result<(), WriteError> {
        let Some(buffers) = &mut self.buffers else { return Ok(()) };
        // The input stays where it is: meanwhile more may come.
        let mut output = std::mem::take(&mut buffers.output);
        let mut done = 0;
        let total = output.len() + body.len();
        let result = poll_fn(|cx| {
            while done < total {
                let most = ready!(self.poll_pace(cx, ahead));
                let head = output.get(done..).unwrap_or_default();
                let head = &head[..head.len().min(most)];
                let rest = &body[done.saturating_sub(output.len())..];
                let rest = &rest[..rest.len().min(most - head.len())];
                let written = if rest.is_empty() {
                    self.stream.try_write(head)
                } else {
                    self.stream.try_write_vectored(&[IoSlice::new(head), IoSlice::new(rest)])
                };
                match self.written(written) {
                    Ok(Some(n)) => done += n,
                    Ok(None) => ready!(self.poll_room(cx, ahead))?,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await;
        output.clear();
        self.buffers().output = output;
        result
    }

    /// Ready with how many bytes the response's pace lets leave now.
    fn poll_pace(&mut self, cx: &mut Context<'_>, ahead: &mut dyn ChunkStream) -> Poll<usize> {
        let Some(pace) = &mut self.pace else { return Poll::Ready(usize::MAX) };
        let Poll::Ready(most) = pace.poll_room(cx) else {
            ahead.poll_ahead(cx);
            self.pass_body(cx);
            return Poll::Pending;
        };
        // It was not the client that took nothing.
        self.deadline.set(self.settings.send_timeout);
        Poll::Ready(most)
    }

    /// Ready when the client takes more.
    fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        ahead: &mut dyn ChunkStream,
    ) -> Poll<Result<(), WriteError>> {
        match self.stream.poll_write_ready(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(WriteError::Gone)),
            Poll::Pending if self.deadline.is_past(cx) => Poll::Ready(Err(WriteError::Timeout)),
            Poll::Pending => {
                ahead.poll_ahead(cx);
                self.pass_body(cx);
                Poll::Pending
            }
        }
    }

    fn written(&mut self, result: io::Result<usize>) -> Result<Option<usize>, WriteError> {
        match result {
            Ok(n) => {
                self.response_begun = true;
                self.wrote += n as u64;
                if let Some(pace) = &mut self.pace {
                    pace.wrote(n);
                }
                self.deadline.set(self.settings.send_timeout);
                Ok(Some(n))
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(_) => Err(WriteError::Gone),
        }
    }

    /// Writes what is collected, then a range of a file.
    async fn write_file(
        &mut self,
        file: &File,
        start: u64,
        len: u64,
        sent: &mut u64,
        ahead: &mut dyn ChunkStream,
    ) -> Result<(), WriteError> {
        if !self.settings.sendfile || self.stream.is_encrypted() {
            return self.write_file_copied(file, start, len, sent, ahead).await;
        }
        let Some(buffers) = &mut self.buffers else { return Ok(()) };
        let mut output = std::mem::take(&mut buffers.output);
        let (mut done, mut offset, end) = (0, start, start + len);
        // A large file's head leaves alone: it does not wait for the disk, and what a client reads behind it begins where
        // a page of the cache does, which makes its copies cheaper by more than another packet costs.
        let is_large = len > SENDFILE_LIMIT;
        let result = poll_fn(|cx| {
            let mut budget = SENDFILE_LIMIT;
            while done < output.len() || offset < end {
                let most = ready!(self.poll_pace(cx, ahead));
                let is_head = done < output.len();
                let written = if is_head {
                    let head = &output[done..];
                    let head = &head[..head.len().min(most)];
                    if is_large { self.stream.try_write(head) } else { self.stream.try_write_more(head) }
                } else {
                    let count = (end - offset).min(SENDFILE_LIMIT) as usize;
                    self.stream.try_send_file(file, &mut offset, count.min(most))
                };
                match self.written(written) {
                    Ok(Some(0)) if !is_head => {
                        return Poll::Ready(Err(WriteError::Broken(SHORTER)));
                    }
                    Ok(Some(n)) if is_head => done += n,
                    Ok(Some(n)) => {
                        *sent += n as u64;
                        budget = budget.saturating_sub(n as u64);
                        if budget == 0 && offset < end {
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                    }
                    Ok(None) => ready!(self.poll_room(cx, ahead))?,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await;
        output.clear();
        self.buffers().output = output;
        result
    }

    async fn write_file_copied(
        &mut self,
        file: &File,
        start: u64,
        len: u64,
        sent: &mut u64,
        ahead: &mut dyn ChunkStream,
    ) -> Result<(), WriteError> {
        let mut block = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(COLLECT_LIMIT)];
        let mut offset = start;
        let mut budget = TURN;
        while offset < start + len {
            let want = usize::try_from(start + len - offset).unwrap_or(usize::MAX).min(block.len());
            match file.read_at(&mut block[..want], offset) {
                Ok(0) => return Err(WriteError::Broken(SHORTER)),
                Ok(n) => {
                    self.write_all(&block[..n], ahead).await?;
                    *sent += n as u64;
                    offset += n as u64;
                    budget = budget.saturating_sub(n as u64);
                    if budget == 0 {
                        budget = TURN;
                        yield_once().await;
                    }
                }
                Err(_) => return Err(WriteError::Broken("the file could not be read")),
            }
        }
        self.flush().await
    }
}

/// Lets others on the loop have their turn.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
