//! What asks other locations on behalf of a request: `add_before_body`, `ssi`, `mirror`, `post_action`.

use std::rc::Rc;

use conf_syntax::Directive;

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Argument, Context, Count, Row};
use super::types::TypeList;
use crate::model::http::{Addition, Mirror, Ssi};

const ALL: Context = Context::ALL;
const IF: Context = ALL.or(Context::LOCATION_IF);

const PARTS: &str = "`Range` and `If-…` of the client are not passed on for a part of a page: the answer would be \
                     another part, or nothing.";

pub(super) const ROWS: &[Row] = &[
    Row::one(
        "add_before_body",
        ALL,
        Apply::Text(|l| &mut l.add_before_body),
        "",
        "A path whose answer is put before the body; the empty text is nothing.",
    )
    .differs(PARTS),
    Row::one(
        "add_after_body",
        ALL,
        Apply::Text(|l| &mut l.add_after_body),
        "",
        "A path whose answer is put behind the body; the empty text is nothing.",
    )
    .differs(
        "The body is gathered before other locations are asked: it leaves as a whole. `Range` and `If-…` of the client \
         are not passed on for a part of a page: the answer would be another part, or nothing.",
    ),
    Row::new(
        "addition_types",
        ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.type_list(&mut l.addition_types, d)),
        "text/html",
        "Media types to which it is done; `*` is all.",
    )
    .repeats(),
    Row::flag(
        "ssi",
        IF,
        |l| &mut l.ssi,
        "off",
        "Runs the commands in pages: `include`, `echo`, `set`, `config`, `if`, `elif`, `else`, `endif`, `block`.",
    )
    .differs(
        "A page leaves as a whole, and one `include` is asked after the other, without `Range` and `If-…` of the \
         client. A text that has more than 1 MiB when its \
         variables are put in (`set`, `if`, `include`) is an error within the page.",
    ),
    Row::flag(
        "ssi_last_modified",
        ALL,
        |l| &mut l.ssi_last_modified,
        "off",
        "Keeps `Last-Modified` of pages.",
    ),
    Row::one(
        "ssi_min_file_chunk",
        ALL,
        Apply::Size(|l| &mut l.ssi_min_file_chunk),
        "1k",
        "Bytes between two commands from which on they are sent from the file.",
    ),
    Row::flag(
        "ssi_silent_errors",
        ALL,
        |l| &mut l.ssi_silent_errors,
        "off",
        "Shows nothing where a command fails.",
    ),
    Row::new(
        "ssi_types",
        ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.type_list(&mut l.ssi_types, d)),
        "text/html",
        "Media types of pages; `*` is all.",
    )
    .repeats(),
    Row::one(
        "ssi_value_length",
        ALL,
        Apply::Size(|l| &mut l.ssi_value_length),
        "256",
        "Bytes of a parameter of a command at most.",
    ),
    Row::one(
        "ssi_ignore_recycled_buffers",
        ALL,
        Apply::Quiet(Argument::Flag, "pages leave as a whole"),
        "off",
        "Whether buffers are sent before a subrequest ends.",
    ),
    Row::one(
        "mirror",
        ALL,
        Apply::Custom(|r, l, d| r.mirror(l, d)),
        "off",
        "A path that gets a copy of each request; its answer is thrown away.",
    )
    .repeats()
    .differs("It is asked when the response has left."),
    Row::flag(
        "mirror_request_body",
        ALL,
        |l| &mut l.mirror_request_body,
        "on",
        "The copy has the body too.",
    ),
    Row::one(
        "post_action",
        IF,
        Apply::Text(|l| &mut l.post_action),
        "off",
        "A path or `@name` that is asked when the response has left; its answer is thrown away.",
    )
    .differs("It is asked once, and the request is logged where it was answered."),
];

impl<'a> Reader<'a> {
    fn mirror(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        let is_off = word.value == b"off";
        let is_second = level.mirror.as_ref().is_some_and(|paths| is_off || paths.is_empty());
        if is_second {
            self.error(directive.name.span, "\"mirror\" directive is duplicate")
                .help("`off` stands alone: remove it, or the paths");
            return;
        }
        let paths = Rc::make_mut(level.mirror.get_or_insert_default());
        if !is_off {
            paths.push(word.value.to_vec());
        }
    }
}

/// What a block says of bodies of others around its own.
pub(super) fn addition(l: &Level) -> Option<Box<Addition>> {
    let text = |slot: &Option<Vec<u8>>| slot.clone().unwrap_or_default();
    let (before, after) = (text(&l.add_before_body), text(&l.add_after_body));
    let is_any = !before.is_empty() || !after.is_empty();
    is_any.then(|| Box::new(Addition { before, after, types: types(l.addition_types.as_ref()) }))
}

/// What a block says of pages.
pub(super) fn ssi(l: &Level) -> Option<Box<Ssi>> {
    l.ssi.unwrap_or(false).then(|| {
        Box::new(Ssi {
            last_modified: l.ssi_last_modified.unwrap_or(false),
            min_file_chunk: l.ssi_min_file_chunk.unwrap_or(1024),
            silent_errors: l.ssi_silent_errors.unwrap_or(false),
            types: types(l.ssi_types.as_ref()),
            value_length: l.ssi_value_length.unwrap_or(256),
        })
    })
}

/// What a block says of copies.
pub(super) fn mirror(l: &Level) -> Option<Box<Mirror>> {
    let paths = l.mirror.as_ref().filter(|paths| !paths.is_empty())?;
    Some(Box::new(Mirror { paths: paths.to_vec(), body: l.mirror_request_body.unwrap_or(true) }))
}

fn types(list: Option<&TypeList>) -> Option<Vec<Vec<u8>>> {
    list.map_or_else(|| Some(vec![b"text/html".to_vec()]), |list| list.as_ref().clone())
}
