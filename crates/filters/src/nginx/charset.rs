//! `charset`: what `Content-Type` says of the encoding, and which table makes it true.

use std::rc::Rc;

use config::model::http::{Charset, LogLevel, Value};
use exchange::{Fields, Name, Request, Response};

use super::recode::{Table, Tables};
use super::{FilterContext, Types, evaluated};

/// The label and what gets it.
#[derive(Debug)]
pub struct Label {
    charset: Option<Value>,
    source: Option<Value>,
    types: Types,
    replace: bool,
    tables: Rc<Tables>,
}

impl Label {
    /// `charset`, `source_charset`, `charset_types`, `override_charset`, if there are any.
    pub fn new(charset: Option<&Charset>, tables: &Rc<Tables>) -> Self {
        Self {
            charset: charset.and_then(|c| c.charset.clone()),
            source: charset.and_then(|c| c.source.clone()),
            types: Types::new(charset.and_then(|c| c.types.as_ref())),
            replace: charset.is_some_and(|c| c.replace),
            tables: Rc::clone(tables),
        }
    }

    /// Labels a response; the table is what its body has to be recoded with.
    pub fn apply(
        &self,
        request: &Request,
        response: &mut Response,
        context: &mut dyn FilterContext,
    ) -> Option<Rc<Table>> {
        let said = response.charset.take();
        if said.is_none() && self.charset.is_none() {
            return None;
        }
        let given = response.fields.first(Name::ContentType).filter(|given| !given.is_empty())?;
        let own = parameter(given).map(<[u8]>::to_vec);
        let wanted = if let Some(said) = said {
            if !self.tables.knows(&said) {
                let said = String::from_utf8_lossy(&said);
                context.log(LogLevel::Error, format_args!("unknown charset \"{said}\" to override"));
                return None;
            }
            said.into_vec()
        } else {
            if if own.is_some() { !self.replace } else { !self.types.take(&response.fields) } {
                return None;
            }
            evaluated(self.charset.as_ref()?, request, response, context).into_owned()
        };
        let table = self.between(own, &wanted, request, response, context)?;
        set(response, &wanted);
        table
    }

    /// The table that brings an answer into a set.
    pub fn table(
        &self,
        wanted: &[u8],
        request: &Request,
        response: &Response,
        context: &mut dyn FilterContext,
    ) -> Option<Rc<Table>> {
        self.between(charset_of(&response.fields), wanted, request, response, context)?
    }

    /// `None`: it cannot be brought there. `Some(None)`: it need not.
    #[expect(
        clippy::option_option,
        reason = "whether it can be in that set, and whether it needs a table for it"
    )]
    fn between(
        &self,
        own: Option<Vec<u8>>,
        wanted: &[u8],
        request: &Request,
        response: &Response,
        context: &mut dyn FilterContext,
    ) -> Option<Option<Rc<Table>>> {
        let source = own.or_else(|| {
            let source = self.source.as_ref()?;
            Some(evaluated(source, request, response, context).into_owned())
        });
        let Some(source) = source.filter(|source| !source.eq_ignore_ascii_case(wanted)) else {
            return Some(None);
        };
        if response.fields.has(Name::ContentEncoding) {
            return None;
        }
        let table = self.tables.find(&source, wanted);
        if table.is_none() {
            // Another label would be wrong without other bytes.
            let (source, wanted) = (String::from_utf8_lossy(&source), String::from_utf8_lossy(wanted));
            let text = format_args!("no \"charset_map\" between the charsets \"{source}\" and \"{wanted}\"");
            context.log(LogLevel::Error, text);
        }
        table.map(Some)
    }
}

/// The character set that `Content-Type` names.
pub fn charset_of(fields: &Fields) -> Option<Vec<u8>> {
    fields.first(Name::ContentType).and_then(parameter).map(<[u8]>::to_vec)
}

/// Names a set in `Content-Type`, in the place of the one that is named there. Not in the redirects of old: browsers
/// took their charset for the next page's.
fn set(response: &mut Response, charset: &[u8]) {
    let Some(given) = response.fields.first(Name::ContentType) else { return };
    let mut labelled: Vec<u8> = Vec::with_capacity(given.len() + charset.len() + 10);
    for (number, part) in given.split(|&b| b == b';').enumerate() {
        if number == 0 {
            labelled.extend_from_slice(part);
        } else if value_of(part).is_none() {
            labelled.push(b';');
            labelled.extend_from_slice(part);
        }
    }
    if !charset.is_empty() && !matches!(response.status, 301 | 302) {
        labelled.extend_from_slice(b"; charset=");
        labelled.extend_from_slice(charset);
    }
    response.fields.set(Name::ContentType, &labelled);
}

/// The `charset` parameter of a `Content-Type`, without its quotes.
fn parameter(content_type: &[u8]) -> Option<&[u8]> {
    content_type.split(|&b| b == b';').skip(1).find_map(value_of)
}

fn value_of(part: &[u8]) -> Option<&[u8]> {
    let (name, value) = part.trim_ascii().split_at_checked(8)?;
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    name.eq_ignore_ascii_case(b"charset=").then(|| value.strip_suffix(b"\"").unwrap_or(value))
}
