//! `add_header`, `add_trailer`, `expires`.

use std::rc::Rc;

use conf_syntax::Directive;

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use super::units;
use crate::model::http::{AddHeader, Expires};

const IF: Context = Context::ALL.or(Context::LOCATION_IF);

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "add_header",
        IF,
        Count::between(2, 3),
        Apply::Custom(|r, l, d| {
            if let Some(header) = r.added(d) {
                Rc::make_mut(l.add_headers.get_or_insert_default()).push(header);
            }
        }),
        "",
        "Adds a field to responses of the usual statuses, with `always` to all.",
    )
    .repeats(),
    Row::new(
        "add_trailer",
        IF,
        Count::between(2, 3),
        Apply::Custom(|r, l, d| {
            if let Some(header) = r.added(d) {
                Rc::make_mut(l.add_trailers.get_or_insert_default()).push(header);
            }
        }),
        "",
        "Adds a field behind the body, with the values that variables have when it has been sent.",
    )
    .repeats()
    .differs("`$bytes_sent` and `$body_bytes_sent` have the bytes of the body, all of them."),
    Row::new(
        "expires",
        IF,
        Count::between(1, 2),
        Apply::Custom(|r, l, d| r.expires(l, d)),
        "off",
        "`Expires` and `Cache-Control`: a time, `modified` and a time, `@15h30m`, `epoch`, `max`, `off`.",
    ),
    Row::one(
        "add_header_inherit",
        IF,
        Apply::Custom(|r, l, d| l.add_header_inherit = r.word(d, &INHERITS)),
        "on",
        "How fields are inherited: `on` where a block adds none of its own, `off` not at all, `merge` behind its own.",
    ),
    Row::one(
        "add_trailer_inherit",
        IF,
        Apply::Custom(|r, l, d| l.add_trailer_inherit = r.word(d, &INHERITS)),
        "on",
        "The same for `add_trailer`.",
    ),
    Row::new(
        "early_hints",
        Context::ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| {
            let values: Vec<_> = d.args.iter().map(|word| r.value(word)).collect();
            l.early_hints = Some(Rc::new(values));
        }),
        "",
        "Passes early hints (103) of servers by HTTP/1.1 and HTTP/2, and of applications (`wsgi.early_hints`), on, if one of the \
         values is neither empty nor `0`.",
    ),
];

/// `add_header_inherit`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inherits {
    On,
    Off,
    Merge,
}

const INHERITS: [(&str, Inherits); 3] =
    [("on", Inherits::On), ("off", Inherits::Off), ("merge", Inherits::Merge)];

/// Takes of the fields around a block what the rule lets it, where that is not what is done with all else.
pub(super) fn inherit_fields(level: &mut Level, parent: &Level) {
    let rule = level.add_header_inherit.or(parent.add_header_inherit);
    inherit(rule, &mut level.add_headers, parent.add_headers.as_ref());
    let rule = level.add_trailer_inherit.or(parent.add_trailer_inherit);
    inherit(rule, &mut level.add_trailers, parent.add_trailers.as_ref());
}

fn inherit(
    rule: Option<Inherits>,
    own: &mut Option<Rc<Vec<AddHeader>>>,
    around: Option<&Rc<Vec<AddHeader>>>,
) {
    let Some(around) = around else { return };
    match (rule, own) {
        (Some(Inherits::Off), own @ None) => *own = Some(Rc::default()),
        (Some(Inherits::Merge), Some(own)) => Rc::make_mut(own).extend(around.iter().cloned()),
        _ => {}
    }
}

impl<'a> Reader<'a> {
    fn added(&mut self, directive: Directive<'a>) -> Option<AddHeader> {
        let (name, value) = (directive.args.first()?, directive.args.get(1)?);
        let always = match directive.args.get(2) {
            None => false,
            Some(word) if word.value == b"always" => true,
            Some(word) => {
                self.invalid_parameter(word)
                    .help("the third word can only be `always`; quote a value with spaces");
                return None;
            }
        };
        Some(AddHeader { name: name.value.to_vec(), value: self.value(value), always })
    }

    fn expires(&mut self, level: &mut Level, directive: Directive<'a>) {
        let (Some(first), second) = (directive.args.first(), directive.args.get(1)) else { return };
        let is_modified = second.is_some();
        if is_modified && first.value != b"modified" {
            self.error(first.span, "\"expires\" directive invalid value")
                .help("write `expires modified 1h;`");
            return;
        }
        let word = second.unwrap_or(first);
        let value = self.value(word);
        let Some(text) = value.as_text() else {
            let form = if is_modified { Expires::ModifiedVariable } else { Expires::Variable };
            level.expires = Some(Some(form(value)));
            return;
        };
        level.expires = match text {
            b"epoch" if !is_modified => Some(Some(Expires::Epoch)),
            b"max" if !is_modified => Some(Some(Expires::Max)),
            b"off" if !is_modified => Some(None),
            _ => match time(text, is_modified) {
                Ok(expires) => Some(Some(expires)),
                Err(message) => {
                    self.error(word.span, format!("\"expires\" directive {message}"))
                        .help("write a time as `30d`, `-1` or `@15h30m`, or `epoch`, `max`, `off`");
                    None
                }
            },
        };
    }
}

fn time(text: &[u8], is_modified: bool) -> Result<Expires, &'static str> {
    let (sign, rest) = match text.split_first() {
        Some((b'@', _)) if is_modified => {
            return Err("daily time cannot be used with \"modified\" parameter");
        }
        Some((sign @ (b'@' | b'+' | b'-'), rest)) => (*sign, rest),
        _ => (b'+', text),
    };
    let seconds = units::seconds(rest).ok_or("invalid value")?.as_secs();
    if sign == b'@' {
        let of_day = u32::try_from(seconds).ok().filter(|s| *s <= 86_400);
        return of_day.map(Expires::Daily).ok_or("daily time value must be less than 24 hours");
    }
    let seconds = i64::try_from(seconds).map_err(|_| "invalid value")?;
    let seconds = if sign == b'-' { -seconds } else { seconds };
    Ok(if is_modified { Expires::Modified(seconds) } else { Expires::Access(seconds) })
}
