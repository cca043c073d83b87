//! Sets of media types, as `gzip_types`, `charset_types` and `sub_filter_types` name them.

use exchange::{Fields, Name};

/// Media types that a filter is for.
#[derive(Debug)]
pub struct Types(Option<Vec<Vec<u8>>>);

impl Types {
    /// `None` is `*`. text/html is always among them.
    pub fn new(types: Option<&Vec<Vec<u8>>>) -> Self {
        Self(types.map(|types| {
            let mut types: Vec<_> = types.iter().map(|t| t.to_ascii_lowercase()).collect();
            types.push(b"text/html".to_vec());
            types.sort();
            types.dedup();
            types
        }))
    }

    /// Whether the filter is for a response with these fields.
    pub fn take(&self, fields: &Fields) -> bool {
        let Some(types) = &self.0 else { return true };
        let Some(given) = fields.first(Name::ContentType) else { return false };
        let given = media_type(given);
        types.iter().any(|wanted| wanted.eq_ignore_ascii_case(given))
    }
}

/// A `Content-Type` without its parameters.
pub fn media_type(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|&b| b == b';').unwrap_or(value.len());
    value[..end].trim_ascii()
}
