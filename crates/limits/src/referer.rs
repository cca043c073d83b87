//! `valid_referers`: whether a request comes from a page that may lead here.

use std::collections::HashMap;

use config::model::http::{ServerName, ValidReferers as Model};

/// Longer names of a host are none.
const LONGEST_HOST: usize = 256;
/// nginx takes nothing shorter for a URL.
const SHORTEST_URL: usize = "http://i.ru".len();

/// `valid_referers` of one place.
#[derive(Debug, Clone)]
pub struct ValidReferers {
    none: bool,
    blocked: bool,
    /// Each with the beginning of the path that it asks for.
    exact: HashMap<Vec<u8>, Vec<u8>>,
    /// Without the asterisk: `.example.com`.
    leading: HashMap<Vec<u8>, Vec<u8>>,
    /// Without the asterisk: `www.example.`.
    trailing: HashMap<Vec<u8>, Vec<u8>>,
    /// Which of the model's names are patterns.
    name_patterns: Vec<usize>,
    patterns: usize,
}

/// A pattern that the caller has compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Of the model's `names`, the one at this index: of a server's name, in lower case.
    ServerName(usize),
    /// Of the model's `regexes`, the one at this index: of all that follows `http://` or `https://`.
    Referer(usize),
}

impl ValidReferers {
    /// Compiles the settings. Where a name is said twice, the first holds.
    pub fn new(model: &Model) -> Self {
        let (mut exact, mut leading, mut trailing) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut name_patterns = Vec::new();
        for (at, (name, path)) in model.names.iter().enumerate() {
            let add = |map: &mut HashMap<_, _>, name: Vec<u8>| {
                map.entry(name).or_insert_with(|| path.clone());
            };
            match name {
                ServerName::Exact(name) => add(&mut exact, name.clone()),
                ServerName::Leading(name) => add(&mut leading, dotted(name)),
                ServerName::Dotted(name) => {
                    let dotted = dotted(name);
                    add(&mut exact, dotted[1..].to_vec());
                    add(&mut leading, dotted);
                }
                ServerName::Trailing(name) => add(&mut trailing, with_final_dot(name)),
                ServerName::Regex(_) => name_patterns.push(at),
            }
        }
        let patterns = model.regexes.len();
        let (none, blocked) = (model.none, model.blocked);
        Self { none, blocked, exact, leading, trailing, name_patterns, patterns }
    }

    /// Whether the `Referer` of a request is valid, that is, `$invalid_referer` is empty. `matches` says whether a
    /// pattern matches a text.
    pub fn is_valid(&self, referer: Option<&[u8]>, mut matches: impl FnMut(Pattern, &[u8]) -> bool) -> bool {
        if self.names_nothing() {
            return true;
        }
        let Some(referer) = referer else { return self.none };
        let Some(rest) = without_scheme(referer) else { return self.blocked };
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b':')).unwrap_or(rest.len());
        if end > LONGEST_HOST {
            return false;
        }
        let host = rest[..end].to_ascii_lowercase();
        if let Some(path) = self.find(&host) {
            let begins = rest[end..].iter().position(|byte| *byte == b'/').unwrap_or(rest.len() - end);
            return rest[end + begins..].starts_with(path);
        }
        self.name_patterns.iter().any(|&at| matches(Pattern::ServerName(at), &host))
            || (0..self.patterns).any(|at| matches(Pattern::Referer(at), rest))
    }

    fn names_nothing(&self) -> bool {
        self.exact.is_empty()
            && self.leading.is_empty()
            && self.trailing.is_empty()
            && self.name_patterns.is_empty()
            && self.patterns == 0
    }

    /// In nginx's order: the name itself, the longest wildcard at the beginning, the longest at the end.
    fn find(&self, host: &[u8]) -> Option<&[u8]> {
        let dots = || (0..host.len()).filter(|&at| host[at] == b'.');
        self.exact
            .get(host)
            .or_else(|| dots().filter(|&at| at > 0).find_map(|at| self.leading.get(&host[at..])))
            .or_else(|| {
                dots().rev().filter(|&at| at + 1 < host.len()).find_map(|at| self.trailing.get(&host[..=at]))
            })
            .map(Vec::as_slice)
    }
}

/// `*.example.com`, `.example.com` or `example.com`, with nothing before its dot.
fn dotted(name: &[u8]) -> Vec<u8> {
    let name = name.strip_prefix(b"*").unwrap_or(name);
    let name = name.strip_prefix(b".").unwrap_or(name);
    [b".", name].concat()
}

/// `www.example.*`, `www.example.` or `www.example`, with nothing behind its dot.
fn with_final_dot(name: &[u8]) -> Vec<u8> {
    let name = name.strip_suffix(b"*").unwrap_or(name);
    let name = name.strip_suffix(b".").unwrap_or(name);
    [name, b"."].concat()
}

/// What follows the scheme; `None`: it is none that a browser sends, and something on the way has removed it.
fn without_scheme(referer: &[u8]) -> Option<&[u8]> {
    if referer.len() < SHORTEST_URL {
        return None;
    }
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (beginning, rest) = referer.split_at(scheme.len());
        beginning.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use config::model::http::Regex;

    use super::*;

    fn regex(pattern: &str) -> Regex {
        Regex { pattern: pattern.into(), caseless: true, names: Vec::new() }
    }

    /// nginx's example: `valid_referers none blocked server_names *.example.com example.* www.example.org/galleries/
    /// ~\.google\.;`, with a server name that is a pattern.
    fn example() -> Model {
        let name = |name: ServerName, path: &str| (name, path.as_bytes().to_vec());
        Model {
            none: true,
            blocked: true,
            names: vec![
                name(ServerName::Exact(b"shop.test".to_vec()), ""),
                name(ServerName::Regex(regex("^s[0-9]+$")), ""),
                name(ServerName::Leading(b"*.example.com".to_vec()), ""),
                name(ServerName::Trailing(b"example.*".to_vec()), ""),
                name(ServerName::Exact(b"www.example.org".to_vec()), "/galleries/"),
                name(ServerName::Dotted(b".dotted.test".to_vec()), "/a"),
            ],
            regexes: vec![regex(r"\.google\.")],
        }
    }

    fn is_valid(model: &Model, referer: Option<&str>) -> bool {
        ValidReferers::new(model).is_valid(referer.map(str::as_bytes), |pattern, text| match pattern {
            Pattern::ServerName(1) => text[0] == b's' && text[1..].iter().all(u8::is_ascii_digit),
            Pattern::Referer(0) => text.windows(8).any(|part| part == b".google."),
            other => panic!("there is no {other:?}"),
        })
    }

    #[test]
    fn the_example_of_nginx_documentation() {
        for (referer, expected) in [
            (None, true),
            (Some("XXXXX"), true),
            (Some("http://i.r"), true),
            (Some("ftp://shop.test/"), true),
            (Some("http://shop.test"), true),
            (Some("HTTPS://SHOP.test:8443/x?y"), true),
            (Some("http://shop.test.evil.test/"), false),
            (Some("http://evil.test/shop.test"), false),
            (Some("http://s12345678/"), true),
            (Some("http://s1234567x/"), false),
            (Some("http://a.b.example.com/"), true),
            (Some("http://example.com.evil.test/"), true),
            (Some("http://myexample.com/"), false),
            (Some("http://.example.com/"), false),
            (Some("http://example.org/x"), true),
            (Some("http://example./xxx"), false),
            (Some("http://www.example.org/galleries/1"), true),
            (Some("http://www.example.org:80/galleries/"), true),
            (Some("http://www.example.org/gallery/"), false),
            (Some("http://www.example.org"), false),
            (Some("http://dotted.test/abc"), true),
            (Some("http://x.dotted.test/abc"), true),
            (Some("http://x.dotted.test/b"), false),
            (Some("http://www.google.test/"), true),
            (Some("http://evil.test/?.google.x"), true),
            (Some("http://googles.test/"), false),
        ] {
            assert_eq!(is_valid(&example(), referer), expected, "{referer:?}");
        }
    }

    #[test]
    fn none_and_blocked_must_be_said() {
        let model = Model { none: false, blocked: false, ..example() };
        assert!(!is_valid(&model, None));
        assert!(!is_valid(&model, Some("XXXXX")));
    }

    #[test]
    fn a_host_of_more_than_256_bytes_is_none() {
        let referer = format!("http://{}.example.com/", "a".repeat(244));
        assert!(is_valid(&example(), Some(&referer)));
        let longer = format!("http://{}.example.com/", "a".repeat(245));
        assert!(!is_valid(&example(), Some(&longer)));
    }

    #[test]
    fn without_names_every_referer_is_valid() {
        let model = Model { none: false, blocked: false, names: Vec::new(), regexes: Vec::new() };
        assert!(is_valid(&model, Some("http://evil.test/")));
        assert!(is_valid(&model, None));
    }
}
