//! The head of an answer, in whatever protocol: what comes is made a head of HTTP/1.

use std::task::Poll;

use bytes::{Buf, Bytes, BytesMut};
use config::model::http::Family;
use gateway::GatewayError;
use gateway::cgi::{HeadScanner, to_http};
use gateway::fastcgi::{Decoder, Event};
use http1::{AnswerTo, ResponseHead, parse_response_head};

use crate::{Attempt, Fault, Limits};

/// Interim responses before the one that counts.
pub(crate) const INTERIM: u32 = 16;
/// Bytes of complaints of a FastCGI application before its head.
const COMPLAINTS: u64 = 4 << 20;

/// What has come of an answer whose head is not whole yet.
pub(crate) enum Incoming {
    /// HTTP/1; how many interim responses there were.
    Http(u32),
    /// Fields, perhaps behind a status line.
    Cgi(HeadScanner),
    /// FastCGI.
    Records(Box<Records>),
}

impl Incoming {
    pub(crate) fn new(family: Family) -> Self {
        match family {
            // Of HTTP/2 the codec reads the heads.
            Family::Proxy | Family::Grpc => Self::Http(0),
            Family::Uwsgi | Family::Scgi => Self::Cgi(HeadScanner::default()),
            Family::FastCgi => Self::Records(Box::default()),
        }
    }

    /// Whether a part of a head is there, once [`Incoming::head`] has found no whole one. What an application complains of
    /// meanwhile, and interim responses, are none.
    pub(crate) fn has_begun(&self, input: &[u8]) -> bool {
        match self {
            Self::Http(_) | Self::Cgi(_) => !input.is_empty(),
            Self::Records(records) => !records.output.is_empty(),
        }
    }

    /// The head, once it is whole. What comes before it is told.
    pub(crate) fn head(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
        to: AnswerTo,
        attempt: &Attempt,
        head: &mut ResponseHead,
        interim: &mut dyn FnMut(&ResponseHead, &[u8]),
    ) -> Result<Option<Bytes>, Fault> {
        if input.is_empty() {
            return Ok(None);
        }
        match self {
            Self::Http(count) => loop {
                match parse_response_head(input, &limits.head, true, to, head)
                    .map_err(|error| Fault::invalid(error, input))?
                {
                    Some(length) if head.is_interim() => {
                        *count += 1;
                        if *count > INTERIM {
                            return Err(Fault::Flood);
                        }
                        interim(head, &input[..length]);
                        input.advance(length);
                        if input.is_empty() {
                            return Ok(None);
                        }
                    }
                    found => return Ok(found.map(|length| input.split_to(length).freeze())),
                }
            },
            Self::Cgi(scanner) => cgi_head(scanner, input, true, limits, to, head),
            Self::Records(records) => {
                while let Some(event) = records.next(input)? {
                    match event {
                        Heard::Output(data) => {
                            records.output.extend_from_slice(&data);
                            let found =
                                cgi_head(&mut records.head, &mut records.output, false, limits, to, head)?;
                            if found.is_some() {
                                return Ok(found);
                            }
                        }
                        Heard::Complaint { text, begins } => {
                            records.complaints += text.len() as u64 + 8;
                            if records.complaints > COMPLAINTS {
                                return Err(Fault::Gateway(GatewayError::Stderr));
                            }
                            let mut complaints = attempt.complaints.borrow_mut();
                            complaints.add(&text, begins);
                            let last = complaints.texts.last().map_or(&[][..], |last| last);
                            let is_caught = |caught: &Vec<u8>| {
                                !caught.is_empty() && last.windows(caught.len()).any(|part| part == caught)
                            };
                            if limits.catch.iter().any(is_caught) {
                                return Err(Fault::Gateway(GatewayError::Caught));
                            }
                        }
                        Heard::OutputEnd | Heard::End => return Err(Fault::Gateway(GatewayError::Early)),
                    }
                }
                Ok(None)
            }
        }
    }
}

/// Takes a head as CGI has it off the input.
fn cgi_head(
    scanner: &mut HeadScanner,
    input: &mut BytesMut,
    status_line: bool,
    limits: &Limits,
    to: AnswerTo,
    head: &mut ResponseHead,
) -> Result<Option<Bytes>, Fault> {
    let Some(length) = scanner.next(input, limits.head.head).map_err(Fault::Gateway)? else {
        return Ok(None);
    };
    let bytes = to_http(&input[..length], status_line).map_err(Fault::Gateway)?;
    input.advance(length);
    // A status line may have been added.
    let room = bytes.len().max(limits.head.head);
    let limits = http1::Limits { head: room, field_size: room, ..limits.head };
    let parsed = parse_response_head(&bytes, &limits, false, to, head)
        .map_err(|error| Fault::invalid(error, &bytes))?;
    if parsed != Some(bytes.len()) {
        return Err(Fault::Gateway(GatewayError::Field));
    }
    // There is nothing behind which another could come.
    if head.is_interim() {
        return Err(Fault::Gateway(GatewayError::Status));
    }
    Ok(Some(bytes.into()))
}

/// An answer by FastCGI.
#[derive(Default)]
pub(crate) struct Records {
    decoder: Decoder,
    head: HeadScanner,
    /// Output that came with the head.
    output: BytesMut,
    complaints: u64,
    /// Bytes of the body that are still to come, if that is known.
    pub(crate) left: Option<u64>,
    /// There was no more output than there should have been.
    pub(crate) exact: bool,
    over: bool,
}

enum Heard {
    Output(Bytes),
    Complaint { text: Bytes, begins: bool },
    OutputEnd,
    End,
}

/// What became of an answer that was there as a whole.
pub(crate) struct After {
    /// Bytes of the input that it took.
    pub(crate) taken: usize,
    pub(crate) complaints: Vec<(Bytes, bool)>,
    /// See [`Records::exact`].
    pub(crate) exact: bool,
}

const SHORT: &str = "upstream prematurely closed FastCGI request while reading upstream";
const INVALID: &str = "upstream sent invalid FastCGI record while reading upstream";

impl Records {
    fn next(&mut self, input: &mut BytesMut) -> Result<Option<Heard>, Fault> {
        let heard = match self.decoder.decode(input).map_err(Fault::Gateway)? {
            Event::Stdout(at) => {
                input.advance(at.start);
                Heard::Output(input.split_to(at.len()).freeze())
            }
            Event::Stderr { at, begins } => {
                input.advance(at.start);
                Heard::Complaint { text: input.split_to(at.len()).freeze(), begins }
            }
            Event::OutputEnd { consumed } => {
                input.advance(consumed);
                Heard::OutputEnd
            }
            Event::End { consumed } => {
                input.advance(consumed);
                Heard::End
            }
            Event::NeedMore => {
                input.clear();
                return Ok(None);
            }
        };
        Ok(Some(heard))
    }

    /// What of output is a part of the body. What is more than there should be is not.
    fn body(&mut self, mut data: Bytes) -> Bytes {
        if let Some(left) = &mut self.left {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            if data.len() > most {
                data.truncate(most);
                self.over = true;
            }
            *left -= data.len() as u64;
        }
        data
    }

    /// The next of the body; pending when more has to be read.
    pub(crate) fn take(
        &mut self,
        input: &mut BytesMut,
        attempt: &Attempt,
    ) -> Poll<Option<Result<Bytes, &'static str>>> {
        if !self.output.is_empty() {
            let data = self.output.split().freeze();
            let data = self.body(data);
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(data)));
            }
        }
        loop {
            if self.over {
                // What else comes is of no use.
                return Poll::Ready(None);
            }
            match self.next(input) {
                Ok(Some(Heard::Output(data))) => {
                    let data = self.body(data);
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Ok(Some(Heard::Complaint { text, begins })) => {
                    attempt.complaints.borrow_mut().add(&text, begins);
                }
                Ok(Some(Heard::OutputEnd)) => {
                    if self.left.is_some_and(|left| left > 0) {
                        return Poll::Ready(Some(Err(
                            "upstream prematurely closed FastCGI stdout while reading upstream",
                        )));
                    }
                }
                Ok(Some(Heard::End)) => {
                    if self.left.is_some_and(|left| left > 0) {
                        return Poll::Ready(Some(Err(SHORT)));
                    }
                    self.exact = true;
                    return Poll::Ready(None);
                }
                Ok(None) => return Poll::Pending,
                Err(_) => return Poll::Ready(Some(Err(INVALID))),
            }
        }
    }

    /// All of the body, if `input` has it and it has no more than `most` bytes. Else nothing has happened.
    pub(crate) fn whole(&mut self, input: &[u8], most: usize) -> Option<(Bytes, After)> {
        if input.len() > most {
            return None;
        }
        let mut decoder = self.decoder.clone();
        let mut body = self.output.to_vec();
        let mut after = After { taken: 0, complaints: Vec::new(), exact: true };
        loop {
            match decoder.decode(&input[after.taken..]).ok()? {
                Event::Stdout(at) => {
                    body.extend_from_slice(&input[after.taken + at.start..after.taken + at.end]);
                    after.taken += at.end;
                }
                Event::Stderr { at, begins } => {
                    let text = &input[after.taken + at.start..after.taken + at.end];
                    after.complaints.push((Bytes::copy_from_slice(text), begins));
                    after.taken += at.end;
                }
                Event::OutputEnd { consumed } => after.taken += consumed,
                Event::End { consumed } => {
                    after.taken += consumed;
                    break;
                }
                Event::NeedMore => return None,
            }
        }
        if let Some(left) = self.left {
            let left = usize::try_from(left).ok()?;
            if body.len() < left {
                return None;
            }
            after.exact = body.len() == left;
            body.truncate(left);
        }
        Some((body.into(), after))
    }

    /// The connection may end now: all of the output is there.
    pub(crate) fn may_close(&self) -> bool {
        self.decoder.output_ended() && self.left.is_none_or(|left| left == 0)
    }
}

#[cfg(test)]
mod tests;
