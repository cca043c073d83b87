//! `charset`: what `Content-Type` says of the encoding. Nothing is recoded.

use config::model::http::{Charset, LogLevel, Value};
use exchange::{Name, Request, Response};

use super::{FilterContext, Types, evaluated};

/// The label and what gets it.
#[derive(Debug)]
pub struct Label {
    charset: Value,
    types: Types,
    replace: bool,
}

impl Label {
    /// `charset`, `charset_types`, `override_charset`.
    pub fn new(charset: &Charset) -> Self {
        let types = Types::new(charset.types.as_ref());
        Self { charset: charset.charset.clone(), types, replace: charset.replace }
    }

    /// Labels a response.
    pub fn apply(&self, request: &Request, response: &mut Response, context: &mut dyn FilterContext) {
        // Not the redirects of old: browsers took their charset for the next page's.
        if matches!(response.status, 301 | 302) {
            return;
        }
        let Some(given) = response.fields.first(Name::ContentType).filter(|given| !given.is_empty()) else {
            return;
        };
        if let Some(own) = parameter(given) {
            if self.replace {
                let own = own.to_vec();
                self.compare(&own, request, response, context);
            }
            return;
        }
        if !self.types.take(&response.fields) {
            return;
        }
        let charset = evaluated(&self.charset, request, response, context);
        if charset.is_empty() {
            return;
        }
        let given = response.fields.first(Name::ContentType).unwrap_or_default();
        let labelled = [given, b"; charset=", &charset].concat();
        response.fields.set(Name::ContentType, &labelled);
    }

    /// Another label would be wrong without other bytes, and for those there is no table.
    fn compare(&self, own: &[u8], request: &Request, response: &Response, context: &mut dyn FilterContext) {
        let wanted = evaluated(&self.charset, request, response, context);
        if !wanted.eq_ignore_ascii_case(own) {
            let (own, wanted) = (String::from_utf8_lossy(own), String::from_utf8_lossy(&wanted));
            let text = format_args!("no \"charset_map\" between the charsets \"{own}\" and \"{wanted}\"");
            context.log(LogLevel::Error, text);
        }
    }
}

/// The `charset` parameter of a `Content-Type`, without its quotes.
fn parameter(content_type: &[u8]) -> Option<&[u8]> {
    content_type.split(|&b| b == b';').skip(1).find_map(|part| {
        let part = part.trim_ascii();
        let (name, value) = part.split_at_checked(8)?;
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        name.eq_ignore_ascii_case(b"charset=").then(|| value.strip_suffix(b"\"").unwrap_or(value))
    })
}
