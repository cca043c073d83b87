//! Connection options (RFC 9110 §7.6.1) and persistence (RFC 9112 §9.3).

use crate::field::FieldLine;
use crate::head::Version;
use crate::name::Name;
use crate::syntax::trim_ows;

/// The elements of a comma-separated list, trimmed, without the empty ones (RFC 9110 §5.6.1.2). Not for
/// fields whose elements hold quoted strings.
pub fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim_ows).filter(|element| !element.is_empty())
}

/// The options of all Connection field lines of a head, in order. Each names either something about the
/// connection (`close`, `keep-alive`, `upgrade`) or a field that is not to be passed on.
#[derive(Clone, Debug)]
pub struct ConnectionOptions<'a> {
    buf: &'a [u8],
    lines: std::slice::Iter<'a, FieldLine>,
    /// What is left of the current line.
    rest: &'a [u8],
}

impl<'a> ConnectionOptions<'a> {
    pub(crate) fn new(buf: &'a [u8], fields: &'a [FieldLine]) -> Self {
        Self { buf, lines: fields.iter(), rest: &[] }
    }
}

impl<'a> Iterator for ConnectionOptions<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            while self.rest.is_empty() {
                let line = self.lines.find(|line| line.known == Name::Connection)?;
                self.rest = line.value.of(self.buf);
            }
            let end = self.rest.iter().position(|&b| b == b',').unwrap_or(self.rest.len());
            let option = trim_ows(&self.rest[..end]);
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !option.is_empty() {
                return Some(option);
            }
        }
    }
}

/// What the Connection options of a request say that the codec's user acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Persistence {
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
}

impl Persistence {
    /// `close` wins over `keep-alive`, whatever their order.
    pub(crate) fn of<'a>(version: Version, options: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut close, mut keep_alive, mut upgrade) = (false, false, false);
        for option in options {
            match option.len() {
                5 => close |= option.eq_ignore_ascii_case(b"close"),
                10 => keep_alive |= option.eq_ignore_ascii_case(b"keep-alive"),
                7 => upgrade |= option.eq_ignore_ascii_case(b"upgrade"),
                _ => {}
            }
        }
        Self { keep_alive: !close && (keep_alive || version == Version::Http11), upgrade }
    }
}
