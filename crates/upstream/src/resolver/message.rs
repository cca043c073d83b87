//! Messages of DNS (RFC 1035 §4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Of a name with its dots (RFC 1035 §2.3.4).
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;
/// Records that are looked at.
const RECORDS: u16 = 512;
/// `CNAME`s of one answer that are followed.
const CHAIN: usize = 10;
const CNAME: u16 = 5;
const INTERNET: u16 = 1;
/// An answer that says nothing of how long it holds holds at most so long.
const LONGEST_TTL: u32 = 7 * 24 * 60 * 60;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// IPv4
    A = 1,
    /// IPv6
    Aaaa = 28,
    /// Servers of a service (RFC 2782).
    Srv = 33,
}

/// A server of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Those with the lowest come first.
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub name: String,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Addresses, and for how many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// Servers of a service.
    Targets(Vec<Target>, u32),
    /// Another name stands for this one.
    Alias(String, u32),
}

/// What a datagram is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// No answer to this query.
    Other,
    /// It was too long.
    Truncated,
    /// The server's code for an error; 3: there is no such name or no such address.
    Error(u8),
    /// It is an answer that cannot be read.
    Broken,
    /// It answers.
    Found(Found),
}

/// Whether a text can be asked for.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST
        && name.split('.').all(|label| (1..=LONGEST_LABEL).contains(&label.len()))
        && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A query, with recursion wanted.
pub(super) fn query(id: u16, name: &str, kind: Kind) -> Vec<u8> {
    let mut out = Vec::with_capacity(18 + name.len());
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&(kind as u16).to_be_bytes());
    out.extend_from_slice(&INTERNET.to_be_bytes());
    out
}

/// Reads what came.
pub(super) fn parse(message: &[u8], id: u16, name: &str, kind: Kind) -> Parsed {
    let [a, b, flags, more, ..] = message else { return Parsed::Other };
    // A response (QR) to a standard query (OPCODE 0).
    if u16::from_be_bytes([*a, *b]) != id || flags & 0xF8 != 0x80 || message.len() < 12 {
        return Parsed::Other;
    }
    let count = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let code = more & 0x0F;
    let mut reader = Reader { message, at: 12 };
    if count(4) != 1 {
        // Some servers do not repeat the question of what they do not understand.
        return if code != 0 && count(4) == 0 { Parsed::Error(code) } else { Parsed::Other };
    }
    let asked = (reader.name(), reader.number(), reader.number());
    let is_ours = asked.0.as_deref().is_some_and(|asked| asked.eq_ignore_ascii_case(name));
    if !is_ours || asked.1 != Some(kind as u16) || asked.2 != Some(INTERNET) {
        return Parsed::Other;
    }
    if flags & 2 != 0 {
        return Parsed::Truncated;
    }
    if code != 0 {
        return Parsed::Error(code);
    }
    match records(&mut reader, count(6).min(RECORDS), kind) {
        Some(records) => follow(&records, name),
        None => Parsed::Broken,
    }
}

struct Record {
    owner: String,
    ttl: u32,
    data: Data,
}

enum Data {
    Address(IpAddr),
    Target(Target),
    Alias(String),
}

/// The records of the answer that matter. `None`: it is cut off or wrong.
fn records(reader: &mut Reader<'_>, count: u16, kind: Kind) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    for _ in 0..count {
        let owner = reader.name()?;
        let (record, class) = (reader.number()?, reader.number()?);
        let ttl = u32::from(reader.number()?) << 16 | u32::from(reader.number()?);
        // One with the highest bit is none (RFC 2181 §8).
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl.min(LONGEST_TTL) };
        let length = usize::from(reader.number()?);
        let end = reader.at + length;
        let data = reader.message.get(reader.at..end)?;
        let data = match (record, data) {
            _ if class != INTERNET => None,
            (1, [a, b, c, d]) if kind == Kind::A => Some(Data::Address(Ipv4Addr::new(*a, *b, *c, *d).into())),
            (28, bytes) if kind == Kind::Aaaa => {
                Some(Data::Address(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()))
            }
            (1, _) if kind == Kind::A => return None,
            (33, _) if kind == Kind::Srv => {
                let (priority, weight, port) = (reader.number()?, reader.number()?, reader.number()?);
                let name = reader.name()?;
                if reader.at != end {
                    return None;
                }
                // The root is nobody: the service is not there (RFC 2782).
                is_name(&name)
                    .then(|| Data::Target(Target { priority, weight, port, name: name.to_ascii_lowercase() }))
            }
            (CNAME, _) => {
                let target = reader.name()?;
                if reader.at != end {
                    return None;
                }
                Some(Data::Alias(target))
            }
            _ => None,
        };
        reader.at = end;
        records.extend(data.map(|data| Record { owner, ttl, data }));
    }
    Some(records)
}

/// From the name, over those that stand for it, to its addresses.
fn follow(records: &[Record], name: &str) -> Parsed {
    let (mut name, mut ttl, mut is_alias) = (name.to_owned(), u32::MAX, false);
    for _ in 0..CHAIN {
        let own = records.iter().filter(|record| record.owner.eq_ignore_ascii_case(&name));
        let (mut addresses, mut targets, mut alias) = (Vec::new(), Vec::new(), None);
        for record in own {
            match &record.data {
                Data::Address(address) => {
                    ttl = ttl.min(record.ttl);
                    addresses.push(*address);
                }
                Data::Target(target) => {
                    ttl = ttl.min(record.ttl);
                    targets.push(target.clone());
                }
                Data::Alias(target) => alias = Some((target.clone(), record.ttl)),
            }
        }
        if !addresses.is_empty() {
            return Parsed::Found(Found::Addresses(addresses, ttl));
        }
        if !targets.is_empty() {
            return Parsed::Found(Found::Targets(targets, ttl));
        }
        match alias {
            Some((target, valid)) => (name, ttl, is_alias) = (target, ttl.min(valid), true),
            None if is_alias && is_name(&name) => {
                return Parsed::Found(Found::Alias(name.to_ascii_lowercase(), ttl));
            }
            None if is_alias => return Parsed::Broken,
            None => return Parsed::Error(3),
        }
    }
    Parsed::Broken
}

struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl Reader<'_> {
    fn number(&mut self) -> Option<u16> {
        let bytes = self.message.get(self.at..self.at + 2)?;
        self.at += 2;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A name, whose end may stand elsewhere before it (RFC 1035 §4.1.4).
    fn name(&mut self) -> Option<String> {
        let (mut name, mut at, mut end) = (String::new(), self.at, None);
        loop {
            let length = *self.message.get(at)?;
            match length {
                0 => break,
                1..=63 => {
                    let label = self.message.get(at + 1..at + 1 + usize::from(length))?;
                    // What is no letter of a name is nobody's name.
                    if !label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.') {
                        return None;
                    }
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.extend(label.iter().map(|byte| char::from(*byte)));
                    if name.len() > LONGEST {
                        return None;
                    }
                    at += 1 + usize::from(length);
                }
                192..=255 => {
                    let to = usize::from(length & 63) << 8 | usize::from(*self.message.get(at + 1)?);
                    end.get_or_insert(at + 2);
                    // Only back: so it ends.
                    if to >= at {
                        return None;
                    }
                    at = to;
                }
                _ => return None,
            }
        }
        self.at = end.unwrap_or(at + 1);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer with these records behind the question.
    fn answer(name: &str, kind: Kind, records: &[(&[u8], u16, u32, &[u8])]) -> Vec<u8> {
        let mut out = query(7, name, kind);
        (out[2], out[3], out[7]) = (0x81, 0x80, records.len() as u8);
        for (owner, record, ttl, data) in records {
            out.extend_from_slice(owner);
            out.extend_from_slice(&record.to_be_bytes());
            out.extend_from_slice(&[0, 1]);
            out.extend_from_slice(&ttl.to_be_bytes());
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    /// A pointer to the question's name.
    const ASKED: &[u8] = &[0xC0, 12];

    #[test]
    fn servers_of_a_service() {
        let target = |priority, name: &str| Target { priority, weight: 5, port: 8080, name: name.to_owned() };
        let data = |priority: u8, name: &[u8]| [&[0, priority, 0, 5, 0x1f, 0x90], name].concat();
        let message = answer(
            "_http._tcp.b",
            Kind::Srv,
            &[(ASKED, 33, 60, &data(1, b"\x01x\x01b\0")), (ASKED, 33, 30, &data(2, b"\x01y\x01b\0"))],
        );
        assert_eq!(
            parse(&message, 7, "_http._tcp.b", Kind::Srv),
            Parsed::Found(Found::Targets(vec![target(1, "x.b"), target(2, "y.b")], 30))
        );
        let none = answer("_http._tcp.b", Kind::Srv, &[(ASKED, 33, 60, &data(0, b"\0"))]);
        assert_eq!(parse(&none, 7, "_http._tcp.b", Kind::Srv), Parsed::Error(3));
        let cut = answer("_http._tcp.b", Kind::Srv, &[(ASKED, 33, 60, &data(0, b"\x01"))]);
        assert_eq!(parse(&cut, 7, "_http._tcp.b", Kind::Srv), Parsed::Broken);
    }

    #[test]
    fn addresses_and_aliases() {
        let both =
            answer("a.b", Kind::A, &[(ASKED, 1, 60, &[192, 0, 2, 1]), (ASKED, 1, 30, &[192, 0, 2, 2])]);
        let addresses = vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        assert_eq!(parse(&both, 7, "A.b", Kind::A), Parsed::Found(Found::Addresses(addresses, 30)));
        let alias =
            answer("a.b", Kind::A, &[(ASKED, 5, 9, b"\x01c\xc0\x0e"), (b"\x01c\x01b\0", 1, 60, &[1; 4])]);
        assert_eq!(parse(&alias, 7, "a.b", Kind::A), Parsed::Found(Found::Addresses(vec![[1; 4].into()], 9)));
        let alone = answer("a.b", Kind::Aaaa, &[(ASKED, 5, 9, b"\x01c\0")]);
        assert_eq!(parse(&alone, 7, "a.b", Kind::Aaaa), Parsed::Found(Found::Alias("c".to_owned(), 9)));
        assert_eq!(parse(&answer("a.b", Kind::A, &[]), 7, "a.b", Kind::A), Parsed::Error(3));
        let six = answer("a.b", Kind::Aaaa, &[(ASKED, 28, u32::MAX, &[1; 16])]);
        let address = Ipv6Addr::from([1; 16]).into();
        assert_eq!(parse(&six, 7, "a.b", Kind::Aaaa), Parsed::Found(Found::Addresses(vec![address], 0)));
    }

    #[test]
    fn what_answers_something_else_does_not_count() {
        let good = answer("a.b", Kind::A, &[(ASKED, 1, 60, &[192, 0, 2, 1])]);
        for (id, name, kind) in [(8, "a.b", Kind::A), (7, "a.c", Kind::A), (7, "a.b", Kind::Aaaa)] {
            assert_eq!(parse(&good, id, name, kind), Parsed::Other);
        }
        let mut question = good.clone();
        question[2] = 1;
        assert_eq!(parse(&question, 7, "a.b", Kind::A), Parsed::Other);
        // An address of another name.
        let other = answer("a.b", Kind::A, &[(b"\x01c\0", 1, 60, &[192, 0, 2, 1])]);
        assert_eq!(parse(&other, 7, "a.b", Kind::A), Parsed::Error(3));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (owner, record, data) in [
            (ASKED, 1, &[1, 2, 3][..]),
            (&[0xC0, 0xFF], 1, &[1; 4]),
            (ASKED, 5, &[0xC0, 0x1C]),
            (ASKED, 5, b"\x01c\0x"),
            (b"\x01 \0", 1, &[1; 4]),
            (&[0x80, 0], 1, &[1; 4]),
        ] {
            let bytes = answer("a.b", Kind::A, &[(owner, record, 60, data)]);
            assert_eq!(parse(&bytes, 7, "a.b", Kind::A), Parsed::Broken, "{owner:?} {data:?}");
        }
        let circle = answer("a.b", Kind::A, &[(ASKED, 5, 9, ASKED)]);
        assert_eq!(parse(&circle, 7, "a.b", Kind::A), Parsed::Broken);
        let mut cut = answer("a.b", Kind::A, &[(ASKED, 1, 60, &[192, 0, 2, 1])]);
        cut.pop();
        assert_eq!(parse(&cut, 7, "a.b", Kind::A), Parsed::Broken);
    }

    #[test]
    fn names() {
        assert!(is_name("a.b") && is_name("_x-1") && is_name(&["a"; 127].join(".")));
        for name in ["", ".", "a..b", "a.", "a b", "é", &"a".repeat(64), &["a"; 128].join(".")] {
            assert!(!is_name(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80), records in 0_u8..4) {
            let _ = parse(&bytes, 7, "a.b", Kind::A);
            let mut answer = answer("a.b", Kind::A, &[]);
            answer[7] = records;
            answer.extend_from_slice(&bytes);
            let _ = parse(&answer, 7, "a.b", Kind::A);
        }
    }
}
