//! FastCGI: records, of which one connection carries those of one request at a time.

use std::ops::Range;

use crate::{GatewayError, Variable};

const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
const RESPONDER: u8 = 1;
const KEEP_CONN: u8 = 1;
/// The number of the only request.
const REQUEST: u16 = 1;
/// Bytes that a record's content has at most.
pub const RECORD: usize = 65_535;

/// What comes before the body: the beginning of a request, and its variables.
pub fn request<'a>(keep: bool, variables: impl Iterator<Item = Variable<'a>>) -> Vec<u8> {
    let mut list = Vec::with_capacity(1024);
    for (name, value) in variables {
        length(name.len(), &mut list);
        length(value.len(), &mut list);
        list.extend_from_slice(name);
        list.extend_from_slice(value);
    }
    let mut out = Vec::with_capacity(list.len() + 64);
    out.extend_from_slice(&header(BEGIN_REQUEST, 8));
    out.extend_from_slice(&[0, RESPONDER, if keep { KEEP_CONN } else { 0 }, 0, 0, 0, 0, 0]);
    // Variables are a stream: what does not fit into one record goes on in the next.
    for part in list.chunks(RECORD) {
        out.extend_from_slice(&header(PARAMS, part.len() as u16));
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&header(PARAMS, 0));
    out
}

/// What stands before so many bytes of the body. Before none it says that the body has ended.
pub const fn stdin(bytes: u16) -> [u8; 8] {
    header(STDIN, bytes)
}

const fn header(kind: u8, length: u16) -> [u8; 8] {
    let [high, low] = length.to_be_bytes();
    let [request_high, request_low] = REQUEST.to_be_bytes();
    [VERSION, kind, request_high, request_low, high, low, 0, 0]
}

/// The length of a name or value: one byte, or four of which the first bit is set.
fn length(bytes: usize, out: &mut Vec<u8>) {
    match u8::try_from(bytes) {
        Ok(short) if short < 0x80 => out.push(short),
        // Nothing of a request is near 2 GiB.
        _ => out.extend_from_slice(&(bytes as u32 | 0x8000_0000).to_be_bytes()),
    }
}

/// What of an answer has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Output, at this place of the input; what is before it is of no use any more.
    Stdout(Range<usize>),
    /// Complaints, likewise. `begins`: they begin a record.
    Stderr {
        /// Where.
        at: Range<usize>,
        /// They begin a record.
        begins: bool,
    },
    /// There is no more output, but the request has not ended.
    OutputEnd {
        /// Bytes of the input that are used up.
        consumed: usize,
    },
    /// The request has ended.
    End {
        /// Bytes of the input that are used up.
        consumed: usize,
    },
    /// All of the input is used up, and more is needed.
    NeedMore,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Header { have: usize, bytes: [u8; 8] },
    Content { kind: u8, left: u16, padding: u8, begins: bool },
    Padding { left: u8, ends: bool },
    Ended,
}

/// Reads records. The events do not depend on how the bytes were split over the calls, but for where output and
/// complaints are cut.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    output_ended: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: State::Header { have: 0, bytes: [0; 8] }, output_ended: false }
    }
}

impl Decoder {
    /// There is no more output.
    pub const fn output_ended(&self) -> bool {
        self.output_ended
    }

    /// The next of what has come. The caller takes what an event has used up off the input before it asks again.
    pub fn decode(&mut self, input: &[u8]) -> Result<Event, GatewayError> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.state {
                State::Ended => return Ok(Event::End { consumed: at }),
                State::Header { have, mut bytes } => {
                    let count = rest.len().min(8 - have);
                    bytes[have..have + count].copy_from_slice(&rest[..count]);
                    at += count;
                    let have = have + count;
                    // What is wrong is refused as soon as it is there.
                    check(&bytes[..have])?;
                    if have < 8 {
                        self.state = State::Header { have, bytes };
                        return Ok(Event::NeedMore);
                    }
                    let [_, kind, _, _, high, low, padding, _] = bytes;
                    let left = u16::from_be_bytes([high, low]);
                    if kind == END_REQUEST && left != 8 {
                        return Err(GatewayError::EndLength(left));
                    }
                    self.state = State::Content { kind, left, padding, begins: true };
                    if kind == STDOUT && left == 0 && !self.output_ended {
                        self.output_ended = true;
                        return Ok(Event::OutputEnd { consumed: at });
                    }
                }
                State::Content { kind, left: 0, padding, .. } => {
                    self.state = State::Padding { left: padding, ends: kind == END_REQUEST };
                }
                State::Content { kind, left, padding, begins } => {
                    if rest.is_empty() {
                        return Ok(Event::NeedMore);
                    }
                    let count = rest.len().min(usize::from(left));
                    let range = at..at + count;
                    self.state = State::Content { kind, left: left - count as u16, padding, begins: false };
                    match kind {
                        // Behind its end there is none.
                        STDOUT if self.output_ended => return Err(GatewayError::Early),
                        STDOUT => return Ok(Event::Stdout(range)),
                        STDERR => return Ok(Event::Stderr { at: range, begins }),
                        _ => at += count,
                    }
                }
                State::Padding { left, ends } => {
                    let count = rest.len().min(usize::from(left));
                    at += count;
                    let left = left - count as u8;
                    if left > 0 {
                        self.state = State::Padding { left, ends };
                        return Ok(Event::NeedMore);
                    }
                    self.state = if ends { State::Ended } else { State::Header { have: 0, bytes: [0; 8] } };
                }
            }
        }
    }
}

/// The beginning of a record, as far as it has come.
fn check(bytes: &[u8]) -> Result<(), GatewayError> {
    match bytes {
        [version, ..] if *version != VERSION => Err(GatewayError::Version(*version)),
        [_, kind, ..] if !matches!(*kind, STDOUT | STDERR | END_REQUEST) => Err(GatewayError::Type(*kind)),
        [_, _, high, low, ..] if u16::from_be_bytes([*high, *low]) != REQUEST => {
            Err(GatewayError::RequestId(u16::from_be_bytes([*high, *low])))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request() {
        let long = [b'x'; 200];
        let variables = [(&b"A"[..], &b"b"[..]), (b"L", &long)];
        let bytes = request(true, variables.into_iter());
        assert_eq!(&bytes[..16], b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00");
        assert_eq!(&bytes[16..24], b"\x01\x04\x00\x01\x00\xd2\x00\x00");
        assert_eq!(&bytes[24..34], b"\x01\x01Ab\x01\x80\x00\x00\xc8L");
        assert_eq!(&bytes[bytes.len() - 8..], b"\x01\x04\x00\x01\x00\x00\x00\x00");
        assert_eq!(stdin(513), *b"\x01\x05\x00\x01\x02\x01\x00\x00");
    }

    #[test]
    fn many_variables_go_on_in_the_next_record() {
        let value = vec![b'v'; 40_000];
        let bytes = request(false, [(&b"A"[..], &value[..]), (&b"B"[..], &value[..])].into_iter());
        let mut lengths = Vec::new();
        let mut at = 16;
        while at < bytes.len() {
            assert_eq!(bytes[at + 1], PARAMS);
            let length = u16::from_be_bytes([bytes[at + 4], bytes[at + 5]]);
            lengths.push(usize::from(length));
            at += 8 + usize::from(length);
        }
        assert_eq!(lengths, [65_535, 14_477, 0]);
    }

    #[test]
    fn what_is_no_record_of_the_request_is_refused() {
        for (bytes, error) in [
            (&b"\x02"[..], GatewayError::Version(2)),
            (b"HTTP/1.1", GatewayError::Version(b'H')),
            (b"\x01\x0b", GatewayError::Type(11)),
            (b"\x01\x01", GatewayError::Type(1)),
            (b"\x01\x06\x00\x02", GatewayError::RequestId(2)),
            (b"\x01\x06\x01\x01", GatewayError::RequestId(257)),
            (b"\x01\x03\x00\x01\x00\x09\x00\x00", GatewayError::EndLength(9)),
        ] {
            assert_eq!(Decoder::default().decode(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn output_behind_its_end_is_refused() {
        let mut decoder = Decoder::default();
        let bytes = b"\x01\x06\x00\x01\x00\x00\x00\x00\x01\x06\x00\x01\x00\x01\x00\x00x";
        assert_eq!(decoder.decode(bytes), Ok(Event::OutputEnd { consumed: 8 }));
        assert_eq!(decoder.decode(&bytes[8..]), Err(GatewayError::Early));
    }
}
