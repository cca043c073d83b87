//! `server_name`: the kinds of names, and which of them conflict where servers share an address.

use std::collections::HashSet;

use conf_syntax::{Directive, Span};

use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use crate::model::http::{ServerId, ServerName};
use crate::report::Severity;

pub(super) const ROWS: &[Row] = &[Row::new(
    "server_name",
    Context::SERVER,
    Count::at_least(1),
    Apply::Custom(|r, _, d| r.server_name(d)),
    "\"\"",
    "Names: `www.example.com`, `*.example.com`, `.example.com`, `www.example.*`, \
             `~regex`, `\"\"`, `$hostname`.",
)
.repeats()];

const WILDCARDS: &str = "an asterisk stands for whole labels at one end: `*.example.com`, `www.example.*`; anything else is a regular \
     expression, `~^www\\d+\\.example\\.com$`";

/// The names of one server.
#[derive(Debug, Default)]
pub(super) struct ServerNames {
    pub list: Vec<(ServerName, Span)>,
    /// Those that can be no name.
    pub wrong: Vec<(String, Span)>,
    /// `$server_name`
    pub first: Option<Vec<u8>>,
}

impl<'a> Reader<'a> {
    fn server_name(&mut self, directive: Directive<'a>) {
        for word in directive.args {
            let text = if word.value.eq_ignore_ascii_case(b"$hostname") {
                self.machine.hostname().into_bytes()
            } else {
                word.value.to_vec()
            };
            if text.contains(&b'/') && !text.starts_with(b"~") {
                let name = word.text().into_owned();
                self.warning(word.span, format!("server name \"{name}\" has suspicious symbols"));
            }
            let name = match text.strip_prefix(b"~") {
                Some([]) => {
                    self.error(word.span, "empty regex in server name \"~\"");
                    continue;
                }
                Some(pattern) => {
                    // What the client sent is compared in lower case.
                    let caseless = pattern.iter().any(u8::is_ascii_uppercase);
                    ServerName::Regex(self.regex(pattern, caseless, word, 1))
                }
                None => {
                    // What nginx refuses at once.
                    let is_wrong = match text.as_slice() {
                        [b'*', rest @ ..] => rest.len() < 2 || rest[0] != b'.',
                        [b'.', rest @ ..] => rest.is_empty(),
                        _ => false,
                    };
                    if is_wrong {
                        let text = word.text().into_owned();
                        self.error(word.span, format!("server name \"{text}\" is invalid")).help(WILDCARDS);
                        continue;
                    }
                    let Some(name) = plain_name(&text) else {
                        if let Some(names) = self.sockets.names.last_mut() {
                            names.first.get_or_insert_with(|| text.to_ascii_lowercase());
                            names.wrong.push((word.text().into_owned(), word.span));
                        }
                        continue;
                    };
                    name
                }
            };
            let is_regex = matches!(name, ServerName::Regex(_));
            let Some(names) = self.sockets.names.last_mut() else { continue };
            names.first.get_or_insert_with(|| {
                if is_regex {
                    text.clone()
                } else {
                    text.strip_prefix(b".").unwrap_or(&text).to_ascii_lowercase()
                }
            });
            names.list.push((name, word.span));
        }
    }

    /// A server without a name is the one for requests without `Host`.
    pub(super) fn end_of_server_names(&mut self) {
        self.listen_by_default();
        let at = self.sockets.server_span();
        if let (Some(names), Some(at)) = (self.sockets.names.last_mut(), at)
            && names.list.is_empty()
            && names.wrong.is_empty()
        {
            names.list.push((ServerName::Exact(Vec::new()), at));
        }
    }

    /// The names of the servers that share an address. Of two equal ones the first counts, with a warning.
    pub(super) fn names_at(&mut self, servers: &[ServerId], address: &str) -> Vec<(ServerName, ServerId)> {
        let (mut exact, mut leading, mut trailing) = (HashSet::new(), HashSet::new(), HashSet::new());
        let mut found = Vec::new();
        let mut conflicts = Vec::new();
        // As in nginx: where there is one server only, names do not matter.
        for server in servers {
            for (name, at) in self.sockets.names[*server as usize].wrong.clone() {
                let problem = if servers.len() > 1 {
                    self.error(at, format!("invalid server name or wildcard \"{name}\" on {address}"))
                } else {
                    self.warning(at, format!("no request is for the server name \"{name}\", ignored"))
                };
                problem.help(WILDCARDS);
            }
        }
        for server in servers {
            for (name, at) in &self.sockets.names[*server as usize].list {
                let is_new = match name {
                    ServerName::Exact(name) => exact.insert(name.as_slice()),
                    ServerName::Leading(name) => leading.insert(name.as_slice()),
                    ServerName::Trailing(name) => trailing.insert(name.as_slice()),
                    ServerName::Dotted(name) => {
                        exact.insert(name.as_slice()) && leading.insert(name.as_slice())
                    }
                    ServerName::Regex(_) => true,
                };
                if is_new {
                    found.push((name.clone(), *server));
                } else {
                    conflicts.push((shown(name), *at));
                }
            }
        }
        for (name, at) in conflicts {
            let message = format!("conflicting server name \"{name}\" on {address}, ignored");
            // nginx finds these at the end and names no line.
            let problem = self.problems.push(Severity::Warning, Some(at), message);
            problem.line_at = None;
            problem.help("another server before it has the same name there");
        }
        found
    }
}

impl super::listen::Sockets {
    /// `$server_name` of the server that is being read.
    pub(super) fn name_of_server(&self) -> Vec<u8> {
        self.names.last().and_then(|n| n.first.clone()).unwrap_or_default()
    }
}

/// The kind of a name that is no regex; `None` if an asterisk or dot stands where it must not.
pub(super) fn plain_name(text: &[u8]) -> Option<ServerName> {
    let name = text.to_ascii_lowercase();
    let is_clean = |rest: &[u8]| {
        !rest.contains(&b'*') && !rest.contains(&0) && !rest.windows(2).any(|pair| pair == b"..")
    };
    if let Some(rest) = name.strip_prefix(b"*.") {
        return (!rest.is_empty() && is_clean(rest)).then(|| ServerName::Leading(rest.to_vec()));
    }
    if let Some(rest) = name.strip_prefix(b".") {
        return (!rest.is_empty() && is_clean(rest)).then(|| ServerName::Dotted(rest.to_vec()));
    }
    if let Some(rest) = name.strip_suffix(b".*") {
        return (!rest.is_empty() && is_clean(rest)).then(|| ServerName::Trailing(rest.to_vec()));
    }
    if is_clean(&name) { Some(ServerName::Exact(name)) } else { None }
}

/// A name as it is written.
fn shown(name: &ServerName) -> String {
    let (before, text, after) = match name {
        ServerName::Exact(name) => ("", name, ""),
        ServerName::Leading(name) => ("*.", name, ""),
        ServerName::Dotted(name) => (".", name, ""),
        ServerName::Trailing(name) => ("", name, ".*"),
        ServerName::Regex(regex) => ("~", &regex.pattern, ""),
    };
    format!("{before}{}{after}", String::from_utf8_lossy(text))
}
