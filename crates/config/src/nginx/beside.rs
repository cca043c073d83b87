//! What stands beside `app_pass` and is about other servers: it changes nothing there, and `monoceros check` says so, and
//! what is there in its place.

use conf_syntax::{Directive, Directives, FileId};

use super::level::Level;
use super::reader::{Reader, list};
use super::table::{Apply, TABLE};
use crate::model::http::Family;

/// What the directives of each kind of other servers begin with.
const KINDS: [&str; 5] = ["proxy_", "fastcgi_", "uwsgi_", "scgi_", "grpc_"];

/// What there is in their place, by what follows the beginning, where it is no `app_…`.
const INSTEAD: [(&str, &str); 9] = [
    ("read_timeout", "`timeout` in the `app` says how long a request may take"),
    ("send_timeout", "`timeout` in the `app` says how long a request may take"),
    ("connect_timeout", "`queue_timeout` in the `app` says how long a request may wait for a worker"),
    (
        "param",
        "an application's environ has `REMOTE_ADDR`, `wsgi.url_scheme` and their like by itself; `raw_env` in the \
         `app` sets variables of the process",
    ),
    ("buffering", "an answer goes to the client as it comes, and a slow client keeps no worker"),
    ("buffers", "`response_buffer_size` in the `app` says how much of an answer is held in memory"),
    (
        "max_temp_file_size",
        "`response_max_temp_file_size` in the `app` says how large an answer's file may be",
    ),
    (
        "request_buffering",
        "an application is asked when the body is there, and a slow client keeps no worker",
    ),
    ("next_upstream", "what a worker did not answer another one runs by itself, where that is safe"),
];

/// The beginning of a name, and the rest.
fn split(name: &str) -> Option<(&'static str, &str)> {
    KINDS.iter().find_map(|kind| Some((*kind, name.strip_prefix(kind)?)))
}

impl<'a> Reader<'a> {
    /// Tells what of a location with `app_pass` is about other servers, unless something within it asks one.
    pub(super) fn note_beside_app(&mut self, directives: Directives<'a>) {
        let Some(pass) = directives.iter().find(|d| d.name.value == b"app_pass") else { return };
        let before = (self.problems.line_at, self.problems.hint.take());
        // Of a file that is included, one note where it is included from matters more than the lines in it.
        let mut included: Vec<(FileId, Vec<String>)> = Vec::new();
        for directive in directives {
            let Some((name, help)) = without_use(&directive, directives) else { continue };
            if directive.span.file == pass.span.file {
                let note = self.note(
                    directive.name.span,
                    format!("`{name}` changes nothing here: `app_pass` asks no other server"),
                );
                if let Some(help) = help {
                    note.help(help);
                }
                continue;
            }
            let name = format!("`{name}`");
            match included.iter_mut().find(|(file, _)| *file == directive.span.file) {
                Some((_, names)) if names.contains(&name) => {}
                Some((_, names)) => names.push(name),
                None => included.push((directive.span.file, vec![name])),
            }
        }
        for (file, names) in included {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let (what, changes) = (list(&names, "and"), if names.len() == 1 { "changes" } else { "change" });
            let path = self.sources.path(file).display();
            let text = format!("{what} of {path} {changes} nothing here: `app_pass` asks no other server");
            self.note(pass.head(), text);
        }
        (self.problems.line_at, self.problems.hint) = before;
    }

    /// Warns of fields that `proxy_set_header` here or around sets for other servers: in those that an application may
    /// rely on (`X-Remote-User`), it would see what the client sends.
    pub(super) fn warn_of_unset_fields(&mut self, directives: Directives<'a>, level: &Level) {
        let Some(pass) = directives.iter().find(|d| d.name.value == b"app_pass") else { return };
        let Some(http) = &level.passes[Family::Proxy as usize] else { return };
        let own = level.app_set_headers.iter().flat_map(|fields| fields.iter());
        let own: Vec<&[u8]> = own.map(|(name, _)| &name[..]).collect();
        let is_set = |name: &[u8]| own.iter().any(|own| own.eq_ignore_ascii_case(name));
        let fields = http.set_headers.iter().flat_map(|fields| fields.iter());
        let unset: Vec<String> = fields
            .filter(|(name, _)| !is_told(name) && !is_set(name))
            .map(|(name, _)| format!("`{}`", String::from_utf8_lossy(name)))
            .collect();
        if unset.is_empty() {
            return;
        }
        let names: Vec<&str> = unset.iter().map(String::as_str).collect();
        let text = format!(
            "`proxy_set_header` does not hold for `app_pass`: in {} the application has what the client sends",
            list(&names, "and")
        );
        self.warning(pass.head(), text).help("write `app_set_header`, as `proxy_set_header` is written");
    }
}

/// Whether an application is told by itself what this field says, or has no use for it.
fn is_told(name: &[u8]) -> bool {
    const BEGIN: &[u8] = b"x-forwarded-";
    const KNOWN: [&str; 7] =
        ["Host", "Connection", "Upgrade", "Accept-Encoding", "Forwarded", "X-Real-IP", "Early-Data"];
    name.get(..BEGIN.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(BEGIN))
        || KNOWN.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// The name of a directive that nobody among these makes use of, and what to write instead.
fn without_use<'a>(directive: &Directive<'a>, all: Directives<'a>) -> Option<(&'static str, Option<String>)> {
    let row = TABLE.find(directive.name.value).first().map(|index| &TABLE.rows[*index])?;
    let (kind, rest) = split(row.name)?;
    // Of those that change nothing anywhere it is said already; a second answer beside the first is an error.
    if rest == "pass" || matches!(row.apply, Apply::Quiet(..) | Apply::Checked(..)) || asks(all, kind) {
        return None;
    }
    let own = format!("app_{rest}");
    if rest == "set_header"
        && let Some(name) = directive.args.first()
    {
        if is_told(name.value) {
            let help =
                "who asks and how stands in the application's environ (`REMOTE_ADDR`, `wsgi.url_scheme`)";
            return Some((row.name, Some(help.to_owned())));
        }
        let sets = |other: Directive<'_>| {
            other.name.value == own.as_bytes()
                && other.args.first().is_some_and(|own| own.value.eq_ignore_ascii_case(name.value))
        };
        if all.iter().any(sets) {
            return Some((row.name, None));
        }
    }
    let help = match INSTEAD.iter().find(|(name, _)| *name == rest) {
        _ if !TABLE.find(own.as_bytes()).is_empty() => Some(format!("write `{own}`")),
        known => known.map(|(_, help)| (*help).to_owned()),
    };
    Some((row.name, help))
}

/// Whether something among these passes requests on to a server of that kind.
fn asks(directives: Directives<'_>, kind: &str) -> bool {
    let mut blocks = vec![directives];
    while let Some(directives) = blocks.pop() {
        for directive in directives {
            if directive.name.value.strip_prefix(kind.as_bytes()) == Some(b"pass") {
                return true;
            }
            blocks.extend(directive.block.map(|block| block.directives));
        }
    }
    false
}
