//! What makes two requests the same, and where what is kept for them lies.

use std::path::{Path, PathBuf};

use exchange::Request;
use md5::{Digest, Md5};

/// The name of a file: the MD5 of its key, as in nginx.
pub type Id = [u8; 16];

/// Longest `Vary` that is obeyed, bytes: an answer with a longer one is not kept.
pub const VARY: usize = 128;

/// A key, and the name that comes of it.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its text.
    pub text: Vec<u8>,
    /// Its name.
    pub id: Id,
    /// The name of all that has this text, however it is told apart.
    pub(crate) base: Id,
}

impl Key {
    /// Of a text.
    pub fn new(text: Vec<u8>) -> Self {
        let id = base(&text);
        Self { text, id, base: id }
    }

    /// The same for a request with these fields, which the text does not name and which the answer may depend on all the
    /// same. Without any nothing changes.
    #[must_use]
    pub fn apart<'f>(mut self, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> Self {
        let mut hash = None;
        for (name, value) in fields {
            let hash = hash.get_or_insert_with(|| Md5::new_with_prefix(self.base));
            hash.update(name.to_ascii_lowercase());
            hash.update(b": ");
            hash.update(value);
            hash.update(b"\r\n");
        }
        if let Some(hash) = hash {
            self.id = hash.finalize().into();
        }
        self
    }
}

/// The name that comes of a key's text.
pub fn base(text: &[u8]) -> Id {
    Md5::digest(text).into()
}

/// The name of the form of an answer that this request gets, by what the answer says in `Vary`.
pub fn variant(key: &Key, vary: &[u8], request: &Request) -> Id {
    let mut hash = Md5::new();
    hash.update(key.id);
    for name in vary.split(|byte| matches!(byte, b' ' | b',' | b'\t')).filter(|name| !name.is_empty()) {
        hash.update(name.to_ascii_lowercase());
        hash.update(b":");
        // Of lists the white space does not count.
        let is_list = [&b"accept-charset"[..], b"accept-encoding", b"accept-language"]
            .iter()
            .any(|list| name.eq_ignore_ascii_case(list));
        let mut is_first = true;
        let mut put = |hash: &mut Md5, value: &[u8]| {
            if !std::mem::take(&mut is_first) {
                hash.update(b",");
            }
            hash.update(value);
        };
        for (_, _, value) in request.fields.iter().filter(|(_, field, _)| field.eq_ignore_ascii_case(name)) {
            if is_list {
                let words = value.split(|byte| matches!(byte, b' ' | b',')).filter(|word| !word.is_empty());
                words.for_each(|word| put(&mut hash, word));
            } else {
                put(&mut hash, value);
            }
        }
        hash.update(b"\r\n");
    }
    hash.finalize().into()
}

/// The file of this name: `levels` take their directories' names from its end.
pub fn path(directory: &Path, levels: &[u8], id: &Id) -> PathBuf {
    let name = hex(id);
    let mut path = PathBuf::with_capacity(directory.as_os_str().len() + 44);
    path.push(directory);
    let mut end = name.len();
    for level in levels {
        let start = end - usize::from(*level);
        path.push(&name[start..end]);
        end = start;
    }
    path.push(&name);
    path
}

fn hex(id: &Id) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = id.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The name of a file, if it is one of ours.
pub fn parse(name: &[u8]) -> Option<Id> {
    let mut id = [0; 16];
    if name.len() != 32 {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(name.chunks(2)) {
        let digit = |at: usize| match pair[at] {
            digit @ b'0'..=b'9' => Some(digit - b'0'),
            digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fields: &[(&str, &str)]) -> Request {
        let mut request = Request::default();
        for (name, value) in fields {
            request.fields.push(name.as_bytes(), value.as_bytes());
        }
        request
    }

    #[test]
    fn files_lie_where_nginx_has_them() {
        let id = parse(b"b7f54b2df7773722d382f4809d65029c").unwrap();
        let at = |levels: &[u8]| path(Path::new("/data"), levels, &id).display().to_string();
        assert_eq!(at(&[1, 2]), "/data/c/29/b7f54b2df7773722d382f4809d65029c");
        assert_eq!(at(&[]), "/data/b7f54b2df7773722d382f4809d65029c");
        assert_eq!(Key::new(b"abc".to_vec()).id, parse(b"900150983cd24fb0d6963f7d28e17f72").unwrap());
        assert!(parse(b"B7f54b2df7773722d382f4809d65029c").is_none());
    }

    #[test]
    fn fields_tell_a_key_apart_from_itself() {
        let key = || Key::new(b"k".to_vec());
        let of = |fields: &[(&str, &str)]| {
            key().apart(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
        };
        assert_eq!(of(&[]).id, key().id);
        assert_ne!(of(&[("a", "b")]).id, key().id);
        assert_ne!(of(&[("a", "b")]).id, of(&[("a", "c")]).id);
        assert_eq!(of(&[("A", "b")]).id, of(&[("a", "b")]).id);
        assert_eq!(of(&[("a", "b")]).base, key().base);
    }

    #[test]
    fn what_vary_names_tells_forms_apart_and_nothing_else_does() {
        let key = Key::new(b"k".to_vec());
        let of = |fields: &[(&str, &str)]| variant(&key, b"Accept-Encoding, X-Other", &asked(fields));
        assert_eq!(of(&[("accept-encoding", "gzip, br")]), of(&[("Accept-Encoding", "gzip,br"), ("a", "b")]));
        assert_ne!(of(&[("accept-encoding", "gzip")]), of(&[("accept-encoding", "br")]));
        assert_ne!(of(&[("x-other", "a b")]), of(&[("x-other", "a  b")]));
        assert_ne!(of(&[]), of(&[("x-other", "a")]));
        assert_ne!(key.id, of(&[]));
    }
}
