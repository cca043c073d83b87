//! A finished request and how each atom of a format writes it.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::basic_auth;
use super::format::{AccessFormat, Atom, Pad, Piece, Variable};
use crate::{clock, escape};

/// A field section, for the atoms that write a field.
pub trait FieldSource {
    /// The value of a line with that name, which comes in lower case.
    fn field(&self, name: &[u8]) -> Option<&[u8]>;
}

/// A section without a line.
impl FieldSource for () {
    fn field(&self, _: &[u8]) -> Option<&[u8]> {
        None
    }
}

/// A finished request. All parts are borrowed; nothing is copied before it is written.
#[derive(Clone, Copy)]
pub struct AccessEvent<'a> {
    /// The client, after the forwarded fields of a trusted proxy; `None` for a Unix socket.
    pub remote: Option<SocketAddr>,
    /// The address it connected to; `None` for a Unix socket.
    pub local: Option<SocketAddr>,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Method; empty when the request line could not be read.
    pub method: &'a [u8],
    /// The request target as received.
    pub target: &'a [u8],
    /// The decoded path.
    pub path: &'a [u8],
    /// The query without `?`.
    pub query: &'a [u8],
    /// `HTTP/1.1`
    pub version: &'a str,
    /// Status sent.
    pub status: u16,
    /// Bytes of the body that were sent, without framing.
    pub bytes: u64,
    /// From the first byte of the request to the last of the response.
    pub duration: Duration,
    /// How long it waited for a worker; `None` when it needed none.
    pub queued: Option<Duration>,
    /// How many workers were given the request: 0 without one, 2 after a retry.
    pub attempts: u8,
    /// The process that made the response: a worker, else the edge itself.
    pub pid: u32,
    /// Seconds since 1970, for `%(t)s`.
    pub time: i64,
    /// Field lines of the request.
    pub request_fields: &'a dyn FieldSource,
    /// Field lines of the response.
    pub response_fields: &'a dyn FieldSource,
}

impl AccessFormat {
    /// Appends the line of `event` and its line end.
    pub fn render(&self, event: &AccessEvent<'_>, out: &mut Vec<u8>) {
        for piece in self.pieces() {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text),
                Piece::Atom(atom, pad) => {
                    let start = out.len();
                    write_atom(atom, event, out);
                    pad_from(out, start, *pad);
                }
            }
        }
        out.push(b'\n');
    }
}

fn write_atom(atom: &Atom, event: &AccessEvent<'_>, out: &mut Vec<u8>) {
    let duration = event.duration;
    match atom {
        Atom::Remote => match event.remote {
            Some(remote) => address(out, remote.ip().to_canonical()),
            None => out.push(b'-'),
        },
        Atom::Dash => out.push(b'-'),
        Atom::User => {
            match event
                .request_fields
                .field(b"authorization")
                .and_then(basic_auth::user)
                .filter(|u| !u.is_empty())
            {
                Some(user) => escape::quoted(out, &user),
                None => out.push(b'-'),
            }
        }
        Atom::Time => out.extend_from_slice(&clock::written(event.time).access),
        // What nginx writes for a request whose line could not be read.
        Atom::RequestLine if event.method.is_empty() => out.push(b'-'),
        Atom::RequestLine => {
            escape::quoted(out, event.method);
            out.push(b' ');
            escape::quoted(out, event.target);
            out.push(b' ');
            out.extend_from_slice(event.version.as_bytes());
        }
        Atom::Status => number(out, u64::from(event.status)),
        Atom::Method => text_or_dash(out, event.method),
        Atom::Path => text_or_dash(out, event.path),
        Atom::Query => escape::quoted(out, event.query),
        Atom::Protocol => out.extend_from_slice(event.version.as_bytes()),
        Atom::Bytes => number(out, event.bytes),
        Atom::Seconds => number(out, duration.as_secs()),
        Atom::Micros => number(out, duration.as_micros() as u64),
        Atom::Millis => number(out, duration.as_millis() as u64),
        Atom::Decimal => decimal(out, duration),
        Atom::Pid => write(out, format_args!("<{}>", event.pid)),
        Atom::Queued => match event.queued {
            Some(queued) => decimal(out, queued),
            None => out.push(b'-'),
        },
        Atom::Attempts => number(out, u64::from(event.attempts)),
        Atom::RequestField(name) => found(out, event.request_fields.field(name)),
        Atom::ResponseField(name) | Atom::Told(name) => found(out, event.response_fields.field(name)),
        Atom::Environ(variable) => environ(*variable, event, out),
    }
}

fn environ(variable: Variable, event: &AccessEvent<'_>, out: &mut Vec<u8>) {
    match variable {
        Variable::RemotePort => match event.remote {
            Some(remote) => number(out, u64::from(remote.port())),
            None => out.push(b'-'),
        },
        Variable::ServerName => match event.local {
            Some(local) => address(out, local.ip().to_canonical()),
            None => out.push(b'-'),
        },
        Variable::ServerPort => match event.local {
            Some(local) => number(out, u64::from(local.port())),
            None => out.push(b'-'),
        },
        Variable::RawUri => text_or_dash(out, event.target),
        Variable::UrlScheme => out.extend_from_slice(event.scheme.as_bytes()),
    }
}

fn found(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) => escape::quoted(out, value),
        None => out.push(b'-'),
    }
}

fn text_or_dash(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() {
        out.push(b'-');
    } else {
        escape::quoted(out, text);
    }
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (index, &octet) in v4.octets().iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                number(out, u64::from(octet));
            }
        }
        IpAddr::V6(v6) => write(out, format_args!("{v6}")),
    }
}

/// As gunicorn's `%(L)s`: `0.001234`.
fn decimal(out: &mut Vec<u8>, duration: Duration) {
    write(out, format_args!("{}.{:06}", duration.as_secs(), duration.subsec_micros()));
}

fn number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write(out: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    // A write to a vector cannot fail.
    let _ = out.write_fmt(what);
}

fn pad_from(out: &mut Vec<u8>, start: usize, pad: Pad) {
    let missing = usize::from(pad.width).saturating_sub(out.len() - start);
    if missing == 0 {
        return;
    }
    out.resize(out.len() + missing, b' ');
    if !pad.left {
        out[start..].rotate_right(missing);
    }
}

#[cfg(test)]
mod tests;
