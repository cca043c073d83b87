//! `dav_methods` and its company.

use conf_syntax::Directive;

use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use crate::model::http::Dav;

const ALL: Context = Context::ALL;

pub(super) const ROWS: &[Row] = &[
    Row::new(
        "dav_methods",
        ALL,
        Count::at_least(1),
        Apply::Custom(|r, l, d| r.dav_methods(l, d)),
        "off",
        "Methods that change files: `PUT`, `DELETE`, `MKCOL`, `COPY`, `MOVE`.",
    )
.repeats()
    .differs(
        "The parts that `alias` replaces must be the same in `Destination`; copying leaves symbolic links out, and \
             `disable_symlinks` holds for these methods too. PUT with neither `Content-Length` nor `Transfer-Encoding` \
             is 411 (nginx: 500).",
    ),
    Row::flag(
        "create_full_put_path",
        ALL,
        |l| &mut l.create_full_put_path,
        "off",
        "PUT makes the directories that are not there.",
    ),
    Row::one(
        "min_delete_depth",
        ALL,
        Apply::Number(|l| &mut l.min_delete_depth),
        "0",
        "Elements that a path must have at least to be deleted.",
    ),
    Row::new(
        "dav_access",
        ALL,
        Count::between(1, 3),
        Apply::Custom(|r, l, d| r.dav_access(l, d)),
        "user:rw",
        "Who may use new files: `user:`, `group:` and `all:` with `r` or `rw`.",
    ),
];

/// PUT, DELETE, MKCOL, COPY, MOVE.
pub(super) type DavMethods = [bool; 5];

const METHODS: [&str; 5] = ["PUT", "DELETE", "MKCOL", "COPY", "MOVE"];

impl<'a> Reader<'a> {
    fn dav_methods(&mut self, level: &mut Level, directive: Directive<'a>) {
        let mut methods = level.dav_methods.unwrap_or_default();
        for word in directive.args {
            match METHODS.iter().position(|method| word.value.eq_ignore_ascii_case(method.as_bytes())) {
                Some(method) => methods[method] = true,
                None if word.value.eq_ignore_ascii_case(b"off") => {}
                None => {
                    let known: Vec<_> = METHODS.into_iter().chain(["off"]).collect();
                    self.not_one_of(word, &known);
                    return;
                }
            }
        }
        level.dav_methods = Some(methods);
    }

    fn dav_access(&mut self, level: &mut Level, directive: Directive<'a>) {
        let (mut access, mut user) = (0, 0o600);
        for word in directive.args {
            let parts =
                word.value.iter().position(|byte| *byte == b':').map(|at| word.value.split_at(at + 1));
            let shift = match parts.map(|(who, _)| who) {
                Some(b"user:") => {
                    user = 0;
                    Some(6)
                }
                Some(b"group:") => Some(3),
                Some(b"all:") => Some(0),
                _ => None,
            };
            let right = match parts.map(|(_, right)| right) {
                Some(b"rw") => Some(6),
                Some(b"r") => Some(4),
                _ => None,
            };
            let (Some(shift), Some(right)) = (shift, right) else {
                let text = word.text().into_owned();
                self.error(word.span, format!("invalid value \"{text}\""))
                    .help("write `user:rw`, `group:rw`, `all:r` and the like");
                return;
            };
            access |= right << shift;
        }
        level.dav_access = Some(access | user);
    }
}

/// What a block says of methods that change files.
pub(super) fn settle(l: &Level) -> Option<Box<Dav>> {
    let [put, delete, mkcol, copy, moves] = l.dav_methods.filter(|methods| methods.contains(&true))?;
    Some(Box::new(Dav {
        put,
        delete,
        mkcol,
        copy,
        moves,
        full_path: l.create_full_put_path.unwrap_or(false),
        min_delete_depth: l.min_delete_depth.unwrap_or(0),
        access: l.dav_access.unwrap_or(0o600),
    }))
}
