//! `sub_filter`: texts in the body are replaced, wherever its pieces are cut.

use std::rc::Rc;

use config::model::http::{SubFilters, Value};
use exchange::{Body, Method, Name, Request, Response, StreamError};

use super::pump::{self, Change};
use super::{FilterContext, Types, evaluated, weaken};

/// Bodies in memory up to this length are changed at once, and keep a known length.
const AT_ONCE: usize = 32 * 1024;

/// What is replaced, and where.
#[derive(Debug)]
pub struct Substitution {
    pairs: Vec<(Value, Value)>,
    /// The pairs themselves, when there is no variable in them.
    fixed: Option<Rc<Patterns>>,
    once: bool,
    types: Types,
    last_modified: bool,
}

impl Substitution {
    pub fn new(settings: &SubFilters) -> Self {
        let texts = settings.pairs.iter().map(|(text, by)| Some((text.as_text()?, by.as_text()?)));
        let fixed = texts.collect::<Option<Vec<_>>>().map(|pairs| {
            Rc::new(Patterns::new(pairs.into_iter().map(|(text, by)| (text.to_vec(), by.to_vec()))))
        });
        Self {
            pairs: settings.pairs.clone(),
            fixed,
            once: settings.once,
            types: Types::new(settings.types.as_ref()),
            last_modified: settings.last_modified,
        }
    }

    /// Replaces in the body of a response of these types; tells whether it is one.
    pub fn run(&self, request: &Request, response: &mut Response, context: &mut dyn FilterContext) -> bool {
        // Nothing is found in what is compressed.
        if response.fields.has(Name::ContentEncoding) || !self.types.take(&response.fields) {
            return false;
        }
        let patterns = match &self.fixed {
            Some(patterns) => Rc::clone(patterns),
            None => Rc::new(Patterns::new(self.pairs.iter().map(|(text, by)| {
                let text = evaluated(text, request, response, context).into_owned();
                (text, evaluated(by, request, response, context).into_owned())
            }))),
        };
        if patterns.texts.is_empty() {
            return false;
        }
        response.fields.remove(Name::ContentLength);
        response.fields.remove(Name::AcceptRanges);
        if self.last_modified {
            weaken(response);
        } else {
            response.fields.remove(Name::LastModified);
            response.fields.remove(Name::ETag);
        }
        response.of_file = None;
        let mut replacer = Replacer::new(patterns, self.once);
        response.body = match std::mem::take(&mut response.body) {
            // No length is made up that GET would not have.
            _ if request.method == Method::Head => Body::Stream(Box::new(exchange::Nothing)),
            Body::Full(bytes) if bytes.len() <= AT_ONCE => {
                let mut out = Vec::with_capacity(bytes.len());
                replacer.push(&bytes, &mut out);
                replacer.end(&mut out);
                Body::Full(out.into())
            }
            body => pump::change(body, replacer),
        };
        true
    }
}

/// Texts to look for, in lower case, and what stands in their place.
#[derive(Debug)]
struct Patterns {
    texts: Vec<(Vec<u8>, Vec<u8>)>,
    /// Which bytes, in either case, a text begins with.
    first: [bool; 256],
}

impl Patterns {
    /// An empty text is found nowhere.
    fn new(pairs: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let texts: Vec<_> = pairs
            .filter(|(text, _)| !text.is_empty())
            .map(|(text, by)| (text.to_ascii_lowercase(), by))
            .collect();
        let mut first = [false; 256];
        for (text, _) in &texts {
            first[usize::from(text[0])] = true;
            first[usize::from(text[0].to_ascii_uppercase())] = true;
        }
        Self { texts, first }
    }
}

/// Replaces in a text that comes in pieces: from the left, and at each place by the first pair that fits there.
struct Replacer {
    patterns: Rc<Patterns>,
    once: bool,
    /// With `once`, which pairs have been used.
    used: Vec<bool>,
    /// Held back: it may be the beginning of something that is looked for.
    held: Vec<u8>,
}

/// What begins at a place.
enum Found {
    Nothing,
    /// All of a pair's text.
    Pair(usize),
    /// The beginning of one; what follows decides.
    Perhaps,
}

impl Replacer {
    fn new(patterns: Rc<Patterns>, once: bool) -> Self {
        let used = vec![false; patterns.texts.len()];
        Self { patterns, once, used, held: Vec::new() }
    }

    fn push(&mut self, data: &[u8], out: &mut Vec<u8>) {
        if self.used.iter().all(|&used| used) {
            out.append(&mut self.held);
            out.extend_from_slice(data);
            return;
        }
        if self.held.is_empty() {
            let kept = self.scan(data, out, false);
            self.held.extend_from_slice(&data[kept..]);
        } else {
            let mut text = std::mem::take(&mut self.held);
            text.extend_from_slice(data);
            let kept = self.scan(&text, out, false);
            text.drain(..kept);
            self.held = text;
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let text = std::mem::take(&mut self.held);
        self.scan(&text, out, true);
    }

    /// Appends the text with what is found replaced; tells from where on it has to be held back.
    fn scan(&mut self, text: &[u8], out: &mut Vec<u8>, ended: bool) -> usize {
        let patterns = Rc::clone(&self.patterns);
        let (mut at, mut copied) = (0, 0);
        while let Some(ahead) = text[at..].iter().position(|&b| patterns.first[usize::from(b)]) {
            at += ahead;
            match self.found(&patterns, &text[at..], ended) {
                Found::Nothing => at += 1,
                Found::Perhaps => {
                    out.extend_from_slice(&text[copied..at]);
                    return at;
                }
                Found::Pair(pair) => {
                    let (wanted, by) = &patterns.texts[pair];
                    out.extend_from_slice(&text[copied..at]);
                    out.extend_from_slice(by);
                    at += wanted.len();
                    copied = at;
                    self.used[pair] = self.once;
                }
            }
        }
        out.extend_from_slice(&text[copied..]);
        text.len()
    }

    fn found(&self, patterns: &Patterns, rest: &[u8], ended: bool) -> Found {
        for (pair, (wanted, _)) in patterns.texts.iter().enumerate() {
            let len = wanted.len().min(rest.len());
            if self.used[pair] || !rest[..len].eq_ignore_ascii_case(&wanted[..len]) {
                continue;
            }
            if len == wanted.len() {
                return Found::Pair(pair);
            }
            if !ended {
                return Found::Perhaps;
            }
        }
        Found::Nothing
    }
}

impl Change for Replacer {
    const PIECE: usize = 16 * 1024;

    fn feed(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.push(data, out);
        Ok(())
    }

    /// What is held back stays: it is decided by what follows, as nginx does it.
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
    use proptest::prelude::*;

    use super::*;

    fn patterns(pairs: &[(&str, &str)]) -> Rc<Patterns> {
        Rc::new(Patterns::new(
            pairs.iter().map(|(text, by)| (text.as_bytes().to_vec(), by.as_bytes().to_vec())),
        ))
    }

    fn replaced(pairs: &[(&str, &str)], once: bool, pieces: &[&str]) -> String {
        let mut replacer = Replacer::new(patterns(pairs), once);
        let mut out = Vec::new();
        for piece in pieces {
            replacer.push(piece.as_bytes(), &mut out);
        }
        replacer.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// The same, the simple way, on a whole text.
    fn on_the_whole(pairs: &[(&str, &str)], once: bool, text: &str) -> String {
        let (mut out, mut at) = (String::new(), 0);
        let mut left: Vec<_> = pairs.iter().filter(|pair| !pair.0.is_empty()).collect();
        while at < text.len() {
            let rest = text[at..].to_ascii_lowercase();
            if let Some(n) =
                left.iter().position(|(wanted, _)| rest.starts_with(&wanted.to_ascii_lowercase()))
            {
                out.push_str(left[n].1);
                at += left[n].0.len();
                if once {
                    left.remove(n);
                }
            } else {
                out.push_str(&text[at..=at]);
                at += 1;
            }
        }
        out
    }

    #[test]
    fn replaces_by_the_rules() {
        for (pairs, once, pieces, expected) in [
            (&[("foo", "bar")][..], false, &["a fOo, FOO"][..], "a bar, bar"),
            (&[("foo", "bar")], true, &["foo foo"], "bar foo"),
            (&[("a", "1"), ("b", "2")], true, &["abab"], "12ab"),
            (&[("abc", "1"), ("ab", "2")], false, &["abcab"], "12"),
            (&[("ab", "2"), ("abc", "1")], false, &["abcab"], "2c2"),
            (&[("aab", "x")], false, &["a", "a", "a", "b"], "ax"),
            (&[("</head>", "<x></head>")], true, &["<p></HE", "AD></head>"], "<p><x></head></head>"),
            (&[("foo", "")], false, &["fofoofo"], "fofo"),
            (&[("", "x")], false, &["abc"], "abc"),
            (&[("abc", "x")], false, &["ab"], "ab"),
        ] {
            assert_eq!(replaced(pairs, once, pieces), expected, "{pairs:?} {pieces:?}");
        }
    }

    #[test]
    fn holds_back_no_more_than_it_must() {
        let mut replacer = Replacer::new(patterns(&[("</body>", "!")]), false);
        let mut out = Vec::new();
        replacer.push(b"text <b", &mut out);
        assert_eq!(out, b"text <b", "`<b` begins nothing");
        replacer.push(b"x </bo", &mut out);
        assert_eq!(out, b"text <bx ");
    }

    proptest! {
        #[test]
        fn the_same_whatever_the_pieces(
            text in "[abAB]{0,40}",
            cuts in proptest::collection::vec(0usize..41, 0..6),
            pairs in proptest::collection::vec(("[abAB]{0,4}", "[xyab]{0,3}"), 1..4),
            once in any::<bool>(),
        ) {
            let pairs: Vec<_> = pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            prop_assert_eq!(replaced(&pairs, once, &pieces), on_the_whole(&pairs, once, &text));
        }
    }
}
