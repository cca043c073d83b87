//! What changes bodies: `sub_filter`.

use std::rc::Rc;

use conf_syntax::Directive;

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};

const ALL: Context = Context::ALL;

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "sub_filter",
        ALL,
        Count::exactly(2),
        Apply::Custom(|r, l, d| r.sub_filter(l, d)),
        "",
        "Replaces a text in bodies, in either case of letters.",
    )
    .repeats(),
    Row::flag("sub_filter_once", ALL, |l| &mut l.sub_filter_once, "on", "Replaces it once only."),
    Row::new(
        "sub_filter_types",
        ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.type_list(&mut l.sub_filter_types, d)),
        "text/html",
        "Media types in which texts are replaced; `*` is all.",
    )
    .repeats(),
    Row::flag(
        "sub_filter_last_modified",
        ALL,
        |l| &mut l.sub_filter_last_modified,
        "off",
        "Keeps `Last-Modified` nevertheless.",
    ),
];

impl<'a> Reader<'a> {
    fn sub_filter(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some([from, to]) = directive.args.array() else { return };
        if from.value.is_empty() {
            self.error(from.span, "empty search pattern");
            return;
        }
        let pair = (self.value(from), self.value(to));
        Rc::make_mut(level.sub_filters.get_or_insert_default()).push(pair);
    }
}
