//! `location`: which paths it is for, and what may lie within what.

use std::collections::HashMap;

use conf_syntax::{Directive, Span};

use super::reader::Reader;
use crate::model::http::Matcher;

/// The location that is being read.
#[derive(Debug, Clone)]
pub(super) struct Current {
    pub matcher: Matcher,
    /// As nginx calls it: without the modifier.
    pub name: Vec<u8>,
    pub span: Span,
}

/// The locations so far that stand beside each other.
#[derive(Debug, Default)]
pub(super) struct Seen {
    by_name: HashMap<(bool, Vec<u8>), Span>,
}

impl<'a> Reader<'a> {
    /// The words between `location` and `{`.
    pub(super) fn location_head(&mut self, directive: Directive<'a>) -> Option<Current> {
        let first = directive.args.first()?;
        // Modifier and path may be one word: `=/exact`.
        let (modifier, word, name) = if let Some(second) = directive.args.get(1) {
            (first.value, second, second.value)
        } else {
            let modifiers = [&b"^~"[..], b"~*", b"=", b"~"];
            let length = modifiers.iter().find(|m| first.value.starts_with(m)).map_or(0, |m| m.len());
            (&first.value[..length], first, &first.value[length..])
        };
        let offset = word.value.len() - name.len();
        let name_bytes = name.to_vec();
        let matcher = match modifier {
            b"" if name.starts_with(b"@") => Matcher::Named(name_bytes),
            b"" => Matcher::Prefix { uri: name_bytes, without_regex: false },
            b"=" => Matcher::Exact(name_bytes),
            b"^~" => Matcher::Prefix { uri: name_bytes, without_regex: true },
            b"~" => Matcher::Regex(self.regex(name, false, word, offset)),
            b"~*" => Matcher::Regex(self.regex(name, true, word, offset)),
            _ => {
                let text = first.text().into_owned();
                self.error(first.span, format!("invalid location modifier \"{text}\""))
                    .help("write `=`, `^~`, `~`, `~*`, or nothing, before the path");
                return None;
            }
        };
        Some(Current { matcher, name: name.to_vec(), span: word.span })
    }

    /// nginx's rules for locations in locations.
    pub(super) fn check_nesting(&mut self, current: &Current) {
        let Some(outer) = &self.location else { return };
        let (name, around) = (lossy(&current.name), lossy(&outer.name));
        let message = match (&outer.matcher, &current.matcher) {
            (Matcher::Exact(_), _) => {
                format!("location \"{name}\" cannot be inside the exact location \"{around}\"")
            }
            (Matcher::Named(_), _) => {
                format!("location \"{name}\" cannot be inside the named location \"{around}\"")
            }
            (_, Matcher::Named(_)) => format!("named location \"{name}\" can be on the server level only"),
            (_, Matcher::Regex(_)) => return,
            _ if current.name.starts_with(&outer.name) => return,
            _ => format!("location \"{name}\" is outside location \"{around}\""),
        };
        self.error(current.span, message);
    }

    /// Two of the same kind and path.
    pub(super) fn check_twice(&mut self, current: &Current, seen: &mut Seen) {
        let is_exact = match current.matcher {
            Matcher::Exact(_) => true,
            Matcher::Prefix { .. } | Matcher::Named(_) => false,
            Matcher::Regex(_) => return,
        };
        let key = (is_exact, current.name.clone());
        if let Some(first) = seen.by_name.get(&key).copied() {
            let (name, first) = (lossy(&current.name), self.place(first));
            let message = format!("duplicate location \"{name}\"");
            let help = format!("it stands first at {first}");
            // Of two named ones nginx takes the first and says nothing.
            if matches!(current.matcher, Matcher::Named(_)) {
                self.warning(current.span, message).help(help);
            } else {
                self.error(current.span, message).help(help);
            }
        } else {
            seen.by_name.insert(key, current.span);
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
