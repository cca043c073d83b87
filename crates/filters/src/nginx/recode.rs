//! `charset_map`: a body in another character set.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use bytes::Bytes;
use config::model::http::CharsetMap;
use exchange::{Body, Method, Name, Request, Response, StreamError};

use super::pump::{self, Change};

/// Bodies in memory up to this length are recoded at once.
const AT_ONCE: usize = 32 * 1024;

/// What is known of character sets; their names in lower case.
#[derive(Debug, Default)]
pub struct Tables {
    /// By the names of both sets.
    tables: HashMap<(Vec<u8>, Vec<u8>), Rc<Table>>,
    /// All that are named anywhere in the configuration.
    names: HashSet<Vec<u8>>,
}

/// How one set becomes another.
#[derive(Debug)]
pub enum Table {
    /// Byte by byte: lengths stay.
    Bytes(Box<[u8; 256]>),
    /// Each byte is a character of UTF-8.
    ToUtf8(Vec<Vec<u8>>),
    /// By code point up to U+FFFF; 0 where the other set has no such character.
    FromUtf8(Vec<u8>),
}

impl Tables {
    /// Compiles the maps, each in both directions. `names` are of sets that are named elsewhere.
    pub fn new<'a>(maps: &[CharsetMap], names: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut tables = HashMap::new();
        for map in maps {
            let (from, to) = (map.from.to_ascii_lowercase(), map.to.to_ascii_lowercase());
            let (there, back) = if to == b"utf-8" { with_utf8(map) } else { of_bytes(map) };
            tables.insert((from.clone(), to.clone()), Rc::new(there));
            tables.insert((to, from), Rc::new(back));
        }
        let names = names.map(<[u8]>::to_ascii_lowercase);
        let names = names.chain(tables.keys().map(|(from, _)| from.clone())).collect();
        Self { tables, names }
    }

    /// Whether the configuration names this set anywhere.
    pub fn knows(&self, name: &[u8]) -> bool {
        self.names.contains(&name.to_ascii_lowercase())
    }

    /// The table from one set to another.
    pub fn find(&self, from: &[u8], to: &[u8]) -> Option<Rc<Table>> {
        self.tables.get(&(from.to_ascii_lowercase(), to.to_ascii_lowercase())).map(Rc::clone)
    }
}

/// What stands in no line is a question mark, unless it is ASCII.
fn of_bytes(map: &CharsetMap) -> (Table, Table) {
    let identity = || {
        let mut table = Box::new([b'?'; 256]);
        for byte in 0..128_u8 {
            table[usize::from(byte)] = byte;
        }
        table
    };
    let (mut there, mut back) = (identity(), identity());
    for (from, to) in &map.pairs {
        if let [to] = to[..] {
            there[usize::from(*from)] = to;
            back[usize::from(to)] = *from;
        }
    }
    (Table::Bytes(there), Table::Bytes(back))
}

fn with_utf8(map: &CharsetMap) -> (Table, Table) {
    let mut there: Vec<Vec<u8>> =
        (0..=255_u8).map(|byte| vec![if byte < 128 { byte } else { b'?' }]).collect();
    let mut back = vec![0; 0x1_0000];
    for byte in 0..128_u8 {
        back[usize::from(byte)] = byte;
    }
    for (from, to) in &map.pairs {
        if let Some(character) = std::str::from_utf8(to).ok().and_then(|text| text.chars().next())
            && let Some(place) = back.get_mut(character as usize)
        {
            *place = *from;
        }
        there[usize::from(*from)].clone_from(to);
    }
    (Table::ToUtf8(there), Table::FromUtf8(back))
}

impl Table {
    /// Whether what comes out is as long as what goes in.
    pub const fn keeps_length(&self) -> bool {
        matches!(self, Self::Bytes(_))
    }
}

/// Recodes a response's body.
pub fn run(table: &Rc<Table>, request: &Request, response: &mut Response) {
    response.of_file = None;
    if table.keeps_length() {
        if request.method == Method::Head {
            return;
        }
    } else {
        response.fields.remove(Name::ContentLength);
        response.fields.remove(Name::AcceptRanges);
        if request.method == Method::Head {
            // No length is made up that GET would not have.
            response.body = Body::Stream(Box::new(exchange::Nothing));
            return;
        }
    }
    let mut recoder = Recoder { table: Rc::clone(table), held: Vec::new() };
    response.body = match std::mem::take(&mut response.body) {
        Body::Empty => Body::Empty,
        Body::Full(bytes) if bytes.len() <= AT_ONCE || table.keeps_length() => {
            let mut out = Vec::with_capacity(bytes.len());
            recoder.push(&bytes, &mut out);
            recoder.end(&mut out);
            Body::Full(Bytes::from(out))
        }
        body => {
            if let Some(length) = body.len().filter(|_| table.keeps_length()) {
                response.fields.set(Name::ContentLength, length.to_string().as_bytes());
            }
            pump::change(body, recoder)
        }
    };
}

/// Recodes a text that comes in pieces.
struct Recoder {
    table: Rc<Table>,
    /// The beginning of a character of UTF-8.
    held: Vec<u8>,
}

impl Recoder {
    fn push(&mut self, data: &[u8], out: &mut Vec<u8>) {
        match &*self.table {
            Table::Bytes(table) => out.extend(data.iter().map(|byte| table[usize::from(*byte)])),
            Table::ToUtf8(table) => {
                for byte in data {
                    out.extend_from_slice(&table[usize::from(*byte)]);
                }
            }
            Table::FromUtf8(table) if self.held.is_empty() => {
                let rest = from_utf8(table, data, out);
                self.held.extend_from_slice(rest);
            }
            Table::FromUtf8(table) => {
                let mut text = std::mem::take(&mut self.held);
                text.extend_from_slice(data);
                self.held = from_utf8(table, &text, out).to_vec();
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if !self.held.is_empty() {
            out.push(b'?');
        }
    }
}

/// Returns what may be the beginning of a character. A character that the other set does not have becomes a
/// reference, as HTML writes it; what is none, a question mark.
fn from_utf8<'d>(table: &[u8], data: &'d [u8], out: &mut Vec<u8>) -> &'d [u8] {
    let mut chunks = data.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        for character in chunk.valid().chars() {
            match table.get(character as usize) {
                Some(byte) if *byte != 0 || character == '\0' => out.push(*byte),
                _ => out.extend_from_slice(format!("&#{};", character as u32).as_bytes()),
            }
        }
        let invalid = chunk.invalid();
        if invalid.is_empty() {
            continue;
        }
        if chunks.peek().is_none() && is_beginning(invalid) {
            return &data[data.len() - invalid.len()..];
        }
        out.push(b'?');
    }
    &[]
}

/// Whether more bytes could make a character of it.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

impl Change for Recoder {
    const PIECE: usize = 16 * 1024;

    fn feed(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.push(data, out);
        Ok(())
    }

    fn flush(&mut self, _: &mut Vec<u8>) -> Result<(), StreamError> {
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.end(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Tables {
        let pairs = |pairs: &[(u8, &str)]| pairs.iter().map(|(f, t)| (*f, t.as_bytes().to_vec())).collect();
        let maps = [
            CharsetMap {
                from: b"KOI".to_vec(),
                to: b"UTF-8".to_vec(),
                pairs: pairs(&[(0xC1, "\u{430}"), (0xC2, "\u{20ac}")]),
            },
            CharsetMap { from: b"A".to_vec(), to: b"B".to_vec(), pairs: pairs(&[(b'X', "Y")]) },
        ];
        Tables::new(&maps, std::iter::once(&b"X-Named"[..]))
    }

    fn recoded(from: &str, to: &str, pieces: &[&[u8]]) -> Vec<u8> {
        let table = tables().find(from.as_bytes(), to.as_bytes()).unwrap();
        let mut recoder = Recoder { table, held: Vec::new() };
        let mut out = Vec::new();
        for piece in pieces {
            recoder.push(piece, &mut out);
        }
        recoder.end(&mut out);
        out
    }

    #[test]
    fn sets_are_known_by_any_name_in_the_configuration() {
        let tables = tables();
        assert!([&b"x-named"[..], b"utf-8", b"Koi", b"a"].iter().all(|name| tables.knows(name)));
        assert!(!tables.knows(b"x-none") && !tables.knows(b""));
    }

    #[test]
    fn byte_by_byte_and_back() {
        assert_eq!(recoded("a", "b", &[b"aXY\xff"]), b"aYY?");
        assert_eq!(recoded("B", "A", &[b"aXY\xff"]), b"aXX?");
    }

    #[test]
    fn to_and_from_utf8() {
        assert_eq!(recoded("koi", "utf-8", &[b"x\xc1\xc2\xff"]), "x\u{430}\u{20ac}?".as_bytes());
        let text = "x\u{430}\u{20ac}\u{431}\u{1f600}\0".as_bytes();
        let expected = b"x\xc1\xc2&#1073;&#128512;\0";
        assert_eq!(recoded("utf-8", "koi", &[text]), expected);
        for cut in 0..text.len() {
            assert_eq!(recoded("utf-8", "koi", &[&text[..cut], &text[cut..]]), expected, "{cut}");
        }
        let bytes: Vec<_> = text.chunks(1).collect();
        assert_eq!(recoded("utf-8", "koi", &bytes), expected);
    }

    #[test]
    fn what_is_no_utf8_is_a_question_mark() {
        assert_eq!(recoded("utf-8", "koi", &[b"a\xffb\xd0"]), b"a?b?");
        assert_eq!(recoded("utf-8", "koi", &[b"\xd0", b"a"]), b"?a");
    }
}
