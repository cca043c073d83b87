//! What the tests of several parts need.

use std::cell::RefCell;
use std::time::Duration;

use config::model::http::{
    Content, DefinedId, FileTest, HeadSettings, Location, Matcher, Part, Regex, Server, Value, Variable,
};
use exchange::Request;

use crate::variables::Environment;

/// Variables that the tests define, in the order of their numbers.
pub(crate) const DEFINED: &[&str] = &["a", "b", "c", "d", "args", "limit_rate"];

pub(crate) fn defined(name: &str) -> DefinedId {
    DEFINED.iter().position(|known| *known == name).unwrap() as DefinedId
}

/// A variable by its name.
pub(crate) fn variable(name: &str) -> Variable {
    if let Ok(number) = name.parse() {
        return Variable::Capture(number);
    }
    Variable::built_in(name).unwrap_or_else(|| Variable::Defined(defined(name)))
}

/// A text with variables as `$name`, `${name}`, `$1`.
pub(crate) fn value(text: &str) -> Value {
    let mut parts = Vec::new();
    let mut pieces = text.split('$');
    push_text(&mut parts, pieces.next().unwrap());
    for piece in pieces {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, rest) = match piece.strip_prefix('{') {
            Some(braced) => braced.split_once('}').unwrap(),
            None if piece.starts_with(|c: char| c.is_ascii_digit()) => piece.split_at(1),
            None => piece.split_at(piece.find(|c| !is_name(c)).unwrap_or(piece.len())),
        };
        parts.push(Part::Variable(variable(name)));
        push_text(&mut parts, rest);
    }
    Value(parts)
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
}

/// A pattern; `~*` in front is caseless. Groups whose name is defined set that variable.
pub(crate) fn regex(pattern: &str) -> Regex {
    let (pattern, caseless) = match pattern.strip_prefix("~*") {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let names = DEFINED.iter().filter(|name| pattern.contains(&format!("<{name}>")));
    Regex {
        pattern: pattern.into(),
        caseless,
        names: names.map(|name| ((*name).to_owned(), defined(name))).collect(),
    }
}

/// A location without content whose settings tell it from others.
pub(crate) fn location(matcher: Matcher, settings: u32) -> Location {
    Location {
        matcher,
        settings,
        rewrite: Vec::new(),
        content: Content::Files,
        limit_except: None,
        locations: config::model::http::Locations::default(),
        auto_redirect: false,
    }
}

/// A server with these locations.
pub(crate) fn server(locations: config::model::http::Locations) -> Server {
    Server {
        tls: None,
        name: b"test".to_vec(),
        head: HeadSettings {
            header_timeout: Duration::from_secs(60),
            header_buffer: 1024,
            large_buffers: 4,
            large_buffer_size: 8192,
            max_headers: 1000,
            ignore_invalid: true,
            underscores: false,
            merge_slashes: true,
            http2: config::model::http::Http2::default(),
            verify_client: config::model::tls::Verify::Off,
        },
        settings: 0,
        rewrite: Vec::new(),
        locations,
    }
}

/// A request as the protocol hands it over.
pub(crate) fn request(path: &str, raw_path: &str, query: &str) -> Request {
    let target = if query.is_empty() { raw_path.to_owned() } else { format!("{raw_path}?{query}") };
    Request {
        target: target.into(),
        path: path.into(),
        raw_path: raw_path.into(),
        query: query.into(),
        ..Request::default()
    }
}

/// Knows `$status` (404) only; there is a file `/file`, and a directory `/directory`.
#[derive(Default)]
pub(crate) struct Edge {
    pub(crate) errors: RefCell<Vec<String>>,
    pub(crate) set: RefCell<Vec<(Variable, Vec<u8>)>>,
}

impl Environment for Edge {
    fn root(&self) -> Option<(&config::model::http::Root, usize)> {
        None
    }

    fn prefix(&self) -> &[u8] {
        b"/prefix"
    }

    fn variable(&self, variable: &Variable, _: &Request, out: &mut Vec<u8>) -> bool {
        let is_known = *variable == Variable::Status;
        if is_known {
            out.extend_from_slice(b"404");
        }
        is_known
    }

    fn made(
        &self,
        _: &Variable,
        _: &Request,
        text: &mut dyn FnMut(&Value) -> Vec<u8>,
        out: &mut Vec<u8>,
    ) -> bool {
        out.extend(text(&Value(vec![Part::Variable(Variable::Status)])));
        true
    }

    fn set(&self, variable: &Variable, value: &[u8]) {
        self.set.borrow_mut().push((variable.clone(), value.to_vec()));
    }

    fn file(&self, path: &[u8], test: FileTest, _: &mut dyn FnMut(&Value) -> Vec<u8>) -> bool {
        match test {
            FileTest::File => path == b"/file",
            FileTest::Directory => path == b"/directory",
            FileTest::Exists | FileTest::Executable => matches!(path, b"/file" | b"/directory"),
        }
    }

    fn error(&self, message: &str) {
        self.errors.borrow_mut().push(message.to_owned());
    }
}
