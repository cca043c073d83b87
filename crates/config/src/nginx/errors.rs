//! `error_page` and what belongs to it.

use std::rc::Rc;

use conf_syntax::Directive;

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use super::units;
use crate::model::http::{ErrorPage, Value};

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "error_page",
        Context::ALL.or(Context::LOCATION_IF),
        Count::at_least(2),
        Apply::Custom(|r, l, d| r.error_page(l, d)),
        "",
        "What answers instead of some statuses: `404 /404.html`, `502 =200 @fallback`, `403 = /login`.",
    )
    .repeats(),
    Row::flag(
        "recursive_error_pages",
        Context::ALL,
        |l| &mut l.recursive_error_pages,
        "off",
        "An error page may lead to another.",
    ),
    Row::flag(
        "msie_padding",
        Context::ALL,
        |l| &mut l.msie_padding,
        "on",
        "Makes error pages so long that Chrome and Internet Explorer show them.",
    ),
    Row::flag(
        "msie_refresh",
        Context::ALL,
        |l| &mut l.msie_refresh,
        "off",
        "Redirects Internet Explorer by a page that goes on by itself.",
    ),
];

impl<'a> Reader<'a> {
    fn error_page(&mut self, level: &mut Level, directive: Directive<'a>) {
        let count = directive.args.len();
        let (Some(target), Some(before)) = (directive.args.last(), directive.args.get(count - 2)) else {
            return;
        };
        let mut status = None;
        let mut codes = count - 1;
        if let Some(code) = before.value.strip_prefix(b"=") {
            codes -= 1;
            status = if code.is_empty() { Some(0) } else { small(code) };
            if codes == 0 || status.is_none() {
                let text = before.text().into_owned();
                self.error(before.span, format!("invalid value \"{text}\"")).help(
                    "write `error_page 404 =200 /page.html;`: statuses, perhaps `=status`, then what answers",
                );
                return;
            }
        }
        let mut statuses = Vec::new();
        for word in directive.args.iter().take(codes) {
            let text = word.text().into_owned();
            match small(word.value) {
                None | Some(499) => {
                    self.error(word.span, format!("invalid value \"{text}\""))
                        .help("write a status, as `404`");
                }
                Some(code) if !(300..=599).contains(&code) => {
                    self.error(word.span, format!("value \"{text}\" must be between 300 and 599"));
                }
                Some(code) => statuses.push(code),
            }
        }
        let mut page = ErrorPage { statuses: Vec::new(), status, target: self.value(target), args: None };
        if page.target.as_text().is_some()
            && target.value.starts_with(b"/")
            && let Some(at) = target.value.iter().position(|b| *b == b'?')
        {
            page.target = Value::text(&target.value[..at]);
            page.args = Some(target.value[at + 1..].to_vec());
        }
        let pages = Rc::make_mut(level.error_pages.get_or_insert_default());
        // What a connection that is no good request leads to is a bad request to the client.
        let (special, plain): (Vec<_>, Vec<_>) =
            statuses.into_iter().partition(|s| status.is_none() && (494..=497).contains(s));
        if !special.is_empty() {
            pages.push(ErrorPage { statuses: special, status: Some(400), ..page.clone() });
        }
        if !plain.is_empty() {
            pages.push(ErrorPage { statuses: plain, ..page });
        }
    }
}

/// A status, or what may be one.
fn small(text: &[u8]) -> Option<u16> {
    units::number(text).and_then(|n| u16::try_from(n).ok())
}
