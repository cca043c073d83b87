//! `userid`: identifiers that clients are given in a cookie.

use std::time::Duration;

use conf_syntax::Directive;

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use super::units;
use crate::model::http::{UserId, UserIdMode};

const ALL: Context = Context::ALL;

pub(super) const ROWS: &[Row] = &[
    Row::one(
        "userid",
        ALL,
        Apply::Custom(|r, l, d| {
            l.userid = r.word(
                d,
                &[
                    ("off", None),
                    ("log", Some(UserIdMode::Log)),
                    ("v1", Some(UserIdMode::V1)),
                    ("on", Some(UserIdMode::On)),
                ],
            );
        }),
        "off",
        "Gives clients an identifier in a cookie: `$uid_set`, and later `$uid_got`. With `log` only those that have \
         one are known. Where a variable `$uid_reset` is neither empty nor `0`, they get a new one.",
    ),
    Row::one(
        "userid_service",
        ALL,
        Apply::Number(|l| &mut l.userid_service),
        "",
        "The number of the machine in the identifier; without it the end of the server's address.",
    ),
    Row::one("userid_name", ALL, Apply::Text(|l| &mut l.userid_name), "uid", "The cookie's name."),
    Row::one(
        "userid_domain",
        ALL,
        Apply::Text(|l| &mut l.userid_domain),
        "none",
        "The domain that the cookie is for.",
    ),
    Row::one(
        "userid_path",
        ALL,
        Apply::Text(|l| &mut l.userid_path),
        "/",
        "The path that the cookie is for.",
    ),
    Row::one(
        "userid_expires",
        ALL,
        Apply::Custom(|r, l, d| r.userid_expires(l, d)),
        "off",
        "How long a browser keeps the cookie; `max` is until 2037, `off` until it ends.",
    ),
    Row::new(
        "userid_flags",
        ALL,
        Count::between(1, 3),
        Apply::Custom(|r, l, d| r.userid_flags(l, d)),
        "off",
        "`secure`, `httponly`, `samesite=strict`, `samesite=lax`, `samesite=none`.",
    )
    .repeats(),
    Row::one(
        "userid_p3p",
        ALL,
        Apply::Text(|l| &mut l.userid_p3p),
        "none",
        "The field `P3P` that comes along.",
    ),
    Row::one(
        "userid_mark",
        ALL,
        Apply::Custom(|r, l, d| r.userid_mark(l, d)),
        "off",
        "A letter, digit or `=` at the end of the cookie; who has another one is sent the cookie again.",
    ),
];

/// `userid_flags`, each by its place among [`FLAGS`].
pub(super) type UserIdFlags = [bool; 5];

const FLAGS: [&str; 5] = ["secure", "httponly", "samesite=strict", "samesite=lax", "samesite=none"];

impl<'a> Reader<'a> {
    fn userid_expires(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        level.userid_expires = match word.value {
            b"max" => Some(Some(Duration::MAX)),
            b"off" => Some(None),
            text => {
                let time = units::seconds(text);
                if time.is_none() {
                    self.error(word.span, "\"userid_expires\" directive invalid value")
                        .help("write a time as `30d` or `1h`, or `max` or `off`");
                }
                time.map(|time| Some(time).filter(|time| !time.is_zero()))
            }
        };
    }

    fn userid_flags(&mut self, level: &mut Level, directive: Directive<'a>) {
        let mut flags = level.userid_flags.unwrap_or_default();
        for word in directive.args {
            match FLAGS.iter().position(|flag| word.value.eq_ignore_ascii_case(flag.as_bytes())) {
                Some(flag) => flags[flag] = true,
                None if word.value.eq_ignore_ascii_case(b"off") => {}
                None => {
                    let known: Vec<_> = FLAGS.into_iter().chain(["off"]).collect();
                    self.not_one_of(word, &known);
                    return;
                }
            }
        }
        level.userid_flags = Some(flags);
    }

    fn userid_mark(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        level.userid_mark = match word.value {
            b"off" => Some(None),
            [mark] if mark.is_ascii_alphanumeric() || *mark == b'=' => Some(Some(*mark)),
            _ => {
                let message =
                    "\"userid_mark\" directive value must be \"off\" or a single letter, digit or \"=\"";
                self.error(word.span, message);
                None
            }
        };
    }
}

/// What a block says of identifiers.
pub(super) fn settle(l: &Level) -> Option<Box<UserId>> {
    let mode = l.userid.flatten()?;
    let text = |slot: &Option<Vec<u8>>, default: &[u8]| slot.clone().unwrap_or_else(|| default.to_vec());
    let unless_none = |text: Vec<u8>| if text == b"none" { Vec::new() } else { text };
    let mut attributes = Vec::new();
    let domain = unless_none(text(&l.userid_domain, b""));
    if !domain.is_empty() {
        attributes.extend_from_slice(b"; domain=");
        attributes.extend(domain);
    }
    attributes.extend_from_slice(b"; path=");
    attributes.extend(text(&l.userid_path, b"/"));
    for (flag, is_set) in FLAGS.iter().zip(l.userid_flags.unwrap_or_default()) {
        if is_set {
            attributes.extend_from_slice(b"; ");
            attributes.extend_from_slice(flag.as_bytes());
        }
    }
    Some(Box::new(UserId {
        mode,
        // The number has 32 bits in the identifier.
        service: l.userid_service.map(|service| service as u32),
        name: text(&l.userid_name, b"uid"),
        expires: l.userid_expires.flatten(),
        attributes,
        p3p: unless_none(text(&l.userid_p3p, b"")),
        mark: l.userid_mark.flatten(),
    }))
}
