//! Conditional requests (RFC 9110 §13).

use crate::{Fields, Method, Name, Request, parse_http_date};

/// What is known of the representation that a 200 would carry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Validators<'a> {
    /// The entity tag as in the field: `"…"` or `W/"…"`.
    pub etag: Option<&'a [u8]>,
    /// Seconds since 1970.
    pub last_modified: Option<u64>,
    /// The date was at least a second old when it was read, so that it can stand for the very bytes
    /// (RFC 9110 §8.8.2.2).
    pub date_is_strong: bool,
}

/// The verdict over a request's preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Go on.
    Met,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

impl Validators<'_> {
    /// Evaluates the preconditions in the order of RFC 9110 §13.2.2. The representation exists.
    pub fn evaluate(&self, request: &Request) -> Precondition {
        let fields = &request.fields;
        // One pass for the usual case: no condition at all.
        if !fields.iter().any(|(name, ..)| {
            matches!(
                name,
                Name::IfMatch | Name::IfNoneMatch | Name::IfModifiedSince | Name::IfUnmodifiedSince
            )
        }) {
            return Precondition::Met;
        }
        let safe = matches!(request.method, Method::Get | Method::Head);
        if fields.has(Name::IfMatch) {
            if !self.listed(fields, Name::IfMatch, strongly) {
                return Precondition::Failed;
            }
        } else if let (Some(since), Some(modified)) =
            (date(fields, Name::IfUnmodifiedSince), self.last_modified)
            && modified > since
        {
            return Precondition::Failed;
        }
        if fields.has(Name::IfNoneMatch) {
            if self.listed(fields, Name::IfNoneMatch, weakly) {
                return if safe { Precondition::NotModified } else { Precondition::Failed };
            }
        } else if safe
            && let (Some(since), Some(modified)) = (date(fields, Name::IfModifiedSince), self.last_modified)
            && modified <= since
        {
            return Precondition::NotModified;
        }
        Precondition::Met
    }

    /// Whether `If-Range` lets `Range` count: it is absent, or names this very representation
    /// (RFC 9110 §13.1.5).
    pub fn if_range(&self, fields: &Fields) -> bool {
        if !fields.has(Name::IfRange) {
            return true;
        }
        let Some(value) = fields.only(Name::IfRange) else { return false };
        if value.starts_with(b"\"") || value.starts_with(b"W/") {
            return self.etag.is_some_and(|etag| strongly(value, etag));
        }
        self.date_is_strong && self.last_modified.is_some() && parse_http_date(value) == self.last_modified
    }

    fn listed(&self, fields: &Fields, name: Name, equal: fn(&[u8], &[u8]) -> bool) -> bool {
        fields.all(name).any(|value| {
            if value.trim_ascii() == b"*" {
                return true;
            }
            self.etag.is_some_and(|etag| EntityTags(value).any(|tag| equal(tag, etag)))
        })
    }
}

fn date(fields: &Fields, name: Name) -> Option<u64> {
    fields.only(name).and_then(parse_http_date)
}

/// RFC 9110 §8.8.3.2: both strong and the same.
fn strongly(a: &[u8], b: &[u8]) -> bool {
    a == b && !a.starts_with(b"W/")
}

/// RFC 9110 §8.8.3.2: the same but for the mark of weakness.
fn weakly(a: &[u8], b: &[u8]) -> bool {
    a.strip_prefix(b"W/").unwrap_or(a) == b.strip_prefix(b"W/").unwrap_or(b)
}

/// The entity tags of a list; ends at what is no tag. A comma may stand inside a tag.
struct EntityTags<'a>(&'a [u8]);

impl<'a> Iterator for EntityTags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while let [b',' | b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
        let quote = if self.0.starts_with(b"W/") { 2 } else { 0 };
        if self.0.get(quote) != Some(&b'"') {
            return None;
        }
        let end = quote + 1 + self.0[quote + 1..].iter().position(|&b| b == b'"')? + 1;
        let (tag, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: u64 = 784_111_777;
    const ON: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const STRONG: Validators<'static> =
        Validators { etag: Some(b"\"a,b\""), last_modified: Some(MODIFIED), date_is_strong: true };

    fn request(lines: &[(&str, &str)]) -> Request {
        let mut request = Request::default();
        for (name, value) in lines {
            request.fields.push(name.as_bytes(), value.as_bytes());
        }
        request
    }

    #[test]
    fn preconditions_in_the_order_of_rfc_9110() {
        use Precondition::{Failed, Met, NotModified};
        for (lines, verdict) in [
            (&[][..], Met),
            (&[("If-Match", "\"x\", \"a,b\"")], Met),
            (&[("If-Match", "W/\"a,b\"")], Failed),
            (&[("If-Match", "*")], Met),
            (&[("If-Match", "\"x\""), ("If-None-Match", "\"a,b\"")], Failed),
            (&[("If-Match", "\"a,b\""), ("If-Unmodified-Since", BEFORE)], Met),
            (&[("If-Unmodified-Since", BEFORE)], Failed),
            (&[("If-Unmodified-Since", ON)], Met),
            (&[("If-Unmodified-Since", "tomorrow")], Met),
            (&[("If-None-Match", "W/\"a,b\"")], NotModified),
            (&[("If-None-Match", "\"x\""), ("If-None-Match", ", \"a,b\"")], NotModified),
            (&[("If-None-Match", "*")], NotModified),
            (&[("If-None-Match", "\"a\""), ("If-Modified-Since", ON)], Met),
            (&[("If-None-Match", "a,b")], Met),
            (&[("If-Modified-Since", ON)], NotModified),
            (&[("If-Modified-Since", BEFORE)], Met),
            (&[("If-Modified-Since", "0")], Met),
        ] {
            assert_eq!(STRONG.evaluate(&request(lines)), verdict, "{lines:?}");
        }
        let mut post = request(&[("If-None-Match", "*")]);
        post.method = Method::Post;
        assert_eq!(STRONG.evaluate(&post), Failed);
        post.fields.clear();
        post.fields.push(b"If-Modified-Since", ON.as_bytes());
        assert_eq!(STRONG.evaluate(&post), Met);
    }

    #[test]
    fn a_range_counts_only_for_the_very_same_bytes() {
        let fields = |value: &str| request(&[("If-Range", value)]).fields;
        assert!(STRONG.if_range(&Fields::new()));
        assert!(STRONG.if_range(&fields("\"a,b\"")) && STRONG.if_range(&fields(ON)));
        for value in ["\"x\"", "W/\"a,b\"", BEFORE, "", "a,b"] {
            assert!(!STRONG.if_range(&fields(value)), "{value}");
        }
        let fresh = Validators { date_is_strong: false, ..STRONG };
        assert!(!fresh.if_range(&fields(ON)) && fresh.if_range(&fields("\"a,b\"")));
        let weak = Validators { etag: Some(b"W/\"a,b\""), ..STRONG };
        assert!(!weak.if_range(&fields("W/\"a,b\"")));
    }
}
