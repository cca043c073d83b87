//! An app block of an nginx.conf as a command line of gunicorn's: everything that follows is the same for both.

use std::collections::BTreeMap;
use std::path::Path;

use super::command_line::CommandLine;
use super::effective::Origin;
use super::lower;
use super::settings::{self, Kind, Section};
use super::sources::refused;
use super::value::{Value, Wrong};
use super::words::Words;
use crate::host::{Entry, Host, System};
use crate::nginx::{AppBlock, AppSetting};
use crate::report::{Diagnostic, Report, Severity};

/// What makes no sense for one application among others, and what to do instead.
const ELSEWHERE: &[(&str, &str)] = &[
    ("listen", "`bind` says where the application itself is asked"),
    ("config", "`settings` names the settings file"),
    ("wsgi_app", "`wsgi` names the application"),
    ("chdir", "`directory` names the directory"),
    ("daemon", "`daemon` stands outside of all blocks"),
    ("user", "`user` stands outside of all blocks"),
    ("group", "`user` stands outside of all blocks and takes a group too"),
    ("initgroups", "`user` stands outside of all blocks and takes the user's groups along"),
    ("pidfile", "`pid` stands outside of all blocks"),
    ("backlog", "`listen` takes `backlog=`"),
    ("reuse_port", "`listen` takes `reuseport`"),
    ("worker_connections", "`worker_connections` stands in `events`"),
    ("keepalive", "`keepalive_timeout` says how long idle connections stay open"),
    ("limit_request_line", "`large_client_header_buffers` limits the head of a request"),
    ("limit_request_fields", "`max_headers` limits the fields of a request"),
    ("limit_request_field_size", "`large_client_header_buffers` limits the head of a request"),
    ("accesslog", "`access_log` says where requests are logged"),
    ("access_log_format", "`log_format` says how requests are logged"),
    ("errorlog", "`error_log` says where messages go"),
    ("sendfile", "`sendfile` stands in `http`, `server` or `location`"),
    ("edge_threads", "`worker_processes` says how many event loops there are"),
    ("edge_connections", "`worker_connections` in `events` limits connections"),
    ("limit_request_head", "`large_client_header_buffers` limits the head of a request"),
    ("static", "a `location` with `root` or `alias` serves files"),
    ("static_symlinks", "`disable_symlinks` says which links are followed"),
    ("index", "`index` stands in `http`, `server` or `location`"),
    ("accel", "a `location` with `internal` is where `X-Accel-Redirect` may point"),
    ("compress", "`gzip`, `brotli` and `zstd` stand in `http`, `server` or `location`"),
    ("compress_types", "`gzip_types` says what is compressed"),
    ("compress_min_length", "`gzip_min_length` says what is compressed"),
    ("compress_level", "`gzip_comp_level` says how hard it tries"),
    ("client_max_body_size", "it stands in `http`, `server` or `location`"),
    ("client_header_timeout", "it stands in `http` or `server`"),
    ("client_body_timeout", "it stands in `http`, `server` or `location`"),
    ("client_body_buffer_size", "it stands in `http`, `server` or `location`"),
    ("send_timeout", "it stands in `http`, `server` or `location`"),
    ("keepalive_requests", "it stands in `http`, `server` or `location`"),
    ("lingering_timeout", "it stands in `http`, `server` or `location`"),
    ("server_tokens", "it stands in `http`, `server` or `location`"),
    ("tmp_upload_dir", "`client_body_temp_path` stands in `http`, `server` or `location`"),
    ("proxy_protocol", "`listen` takes `proxy_protocol`"),
    ("print_config", "`nginx -T` shows the configuration"),
    ("check_config", "`nginx -t` checks the configuration"),
];

/// What of the above an application's settings file may say none the less.
const ALSO_IN_FILE: &[&str] = &["wsgi_app", "chdir", "user", "group", "initgroups"];

/// The name of a setting that an `app` block does not take, and what to do instead.
pub(crate) fn elsewhere(text: &str) -> Option<(&'static str, &'static str)> {
    let known = ELSEWHERE.iter().find(|(name, _)| *name == text).copied();
    known.or_else(|| {
        let (_, setting) = settings::find(text)?;
        let instead = match setting.section {
            Section::Ssl => {
                "`ssl_certificate`, `ssl_certificate_key` and their family stand in `http` or `server`"
            }
            Section::Certificates => "the `acme` directives stand in `http` or `server`",
            Section::Http2 => "`http2` stands in `http` or `server`",
            _ => return None,
        };
        Some((setting.name, instead))
    })
}

/// What to say of an application's setting that stands outside of `app` blocks.
pub(crate) fn of_an_app(name: &str) -> Option<String> {
    let is_own = matches!(name, "wsgi" | "directory" | "python" | "settings");
    if !is_own && (settings::find(name).is_none() || elsewhere(name).is_some()) {
        return None;
    }
    let instead = match name {
        "bind" => "; a `server` has `listen`",
        "workers" => "; `worker_processes` says how many event loops there are",
        "timeout" => "; other servers have `proxy_read_timeout` and its family",
        _ => "",
    };
    Some(format!(
        "it is a setting of an application and stands in an `app NAME {{ … }}` block of `http`{instead}"
    ))
}

/// The same of a setting that changes nothing in an application's settings file.
pub(crate) fn elsewhere_than_in_file(name: &str) -> Option<&'static str> {
    elsewhere(name).filter(|(name, _)| !ALSO_IN_FILE.contains(name)).map(|(_, instead)| instead)
}

/// What the main part of the configuration says about every application.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// `user`, with its group.
    pub(crate) user: Option<(String, Option<String>)>,
    /// `env NAME=value`
    pub(crate) env: Vec<(String, String)>,
    /// The level of `error_log`, in gunicorn's words, where there is one.
    pub(crate) log_level: Option<&'static str>,
}

/// What is wrong with the block, as far as it shows before a settings file is evaluated.
pub(crate) fn check(block: &AppBlock, prefix: &Path, host: &dyn Host) -> Vec<Diagnostic> {
    let (command_line, mut diagnostics) = read(block, prefix, &Surroundings::default(), host);
    let is_file = |text: &str| host.entry(&lower::program(&command_line.current_dir, text)) == Entry::File;
    if let Some(line) = &block.python
        && word(line).contains('/')
        && !is_file(word(line))
    {
        let path = lower::program(&command_line.current_dir, word(line));
        let error = Diagnostic::error(format!("python: there is no program `{}`", path.display()));
        diagnostics.push(error.at(Some(line.place.clone())).help(starts_at(word(line))));
    }
    // What a settings file does not say is known already.
    if block.settings.is_none() && block.target.is_some() {
        let wrong = command_line.merge_with(None, host).err();
        let wrong = wrong.iter().flat_map(Report::diagnostics);
        diagnostics.extend(wrong.filter(|d| d.severity == Severity::Error).cloned());
    }
    diagnostics
}

/// Where a relative path starts: the question that a path which leads nowhere raises.
fn starts_at(text: &str) -> Option<String> {
    let is_relative = !text.starts_with('/');
    is_relative.then(|| "a path in an `app` starts at its `directory`".to_owned())
}

/// The command line that says the same as the block. `prefix` is where a relative `directory` starts, as every path of
/// the file does; the other paths of the block start at the directory, as if the program had been started there.
pub(crate) fn command_line(
    block: &AppBlock,
    prefix: &Path,
    surroundings: &Surroundings,
) -> Result<CommandLine, Vec<Diagnostic>> {
    let (command_line, diagnostics) = read(block, prefix, surroundings, &System);
    if diagnostics.is_empty() { Ok(command_line) } else { Err(diagnostics) }
}

fn read(
    block: &AppBlock,
    prefix: &Path,
    surroundings: &Surroundings,
    host: &dyn Host,
) -> (CommandLine, Vec<Diagnostic>) {
    let directory = block.directory.as_ref().map_or(".", |d| word(d));
    let mut command_line = CommandLine {
        arguments: Words::default(),
        environment: Words::default(),
        variables: BTreeMap::new(),
        layers: vec![None; settings::all().len()],
        app: None,
        any_file_is_python: true,
        current_dir: lower::join(prefix, directory),
        block: Some(block.place.clone()),
    };
    let mut diagnostics = vec![];
    let variables =
        surroundings.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    if !variables.is_empty() {
        set(&mut command_line, "raw_env", Value::List(variables), None);
    }
    if let Some((user, group)) = &surroundings.user {
        set(&mut command_line, "user", Value::Text(user.clone()), None);
        if let Some(group) = group {
            set(&mut command_line, "group", Value::Text(group.clone()), None);
        }
    }
    if let (Some(level), Some((index, _))) = (surroundings.log_level, settings::find("loglevel")) {
        // The application's own settings file knows better, as with what the environment says.
        let origin = Origin::Variable("error_log");
        command_line.layers[index] = Some((Value::Text(level.to_owned()), origin));
    }
    set(&mut command_line, "default_proc_name", Value::Text(block.name.clone()), None);
    for (name, line) in [
        ("wsgi_app", &block.target),
        ("chdir", &block.directory),
        ("python", &block.python),
        ("config", &block.settings),
    ] {
        let Some(line) = line else { continue };
        // The directory is where everything starts, so that it is not joined to itself.
        let text = if name == "chdir" { "." } else { word(line) };
        set(&mut command_line, name, Value::Text(text.to_owned()), Some(line));
    }
    for line in &block.values {
        match value(line) {
            Ok(given) => {
                let Some((_, setting)) = settings::find(line.name) else { continue };
                let refusal = refused(setting, &given, line.name).map(|d| d.at(Some(line.place.clone())));
                if refusal.is_none() {
                    set(&mut command_line, line.name, given, Some(line));
                }
                diagnostics.extend(refusal);
            }
            Err(wrong) => {
                let error = Diagnostic::error(format!("{}: {}", line.name, wrong.message));
                diagnostics.push(error.at(Some(line.place.clone())).help(wrong.help));
            }
        }
    }
    if host.entry(&command_line.current_dir) != Entry::Directory {
        let path = command_line.current_dir.display();
        let place = block.directory.as_ref().map_or(&block.place, |line| &line.place);
        let error = Diagnostic::error(format!("directory: `{path}` is not a directory"));
        let is_relative = block.directory.as_ref().is_some_and(|line| !word(line).starts_with('/'));
        let help = "a relative path starts at the prefix (`-p`), without one where this file lies";
        diagnostics.push(error.at(Some(place.clone())).help(is_relative.then(|| help.to_owned())));
    } else if let Some(wrong) = command_line.check_config_file(host) {
        let text = block.settings.as_ref().map_or("", |line| word(line));
        let help = wrong.help.clone().or_else(|| starts_at(text));
        diagnostics.push(wrong.help(help));
    }
    (command_line, diagnostics)
}

fn set(command_line: &mut CommandLine, name: &str, value: Value, line: Option<&AppSetting>) {
    let Some((index, setting)) = settings::find(name) else { return };
    let slot = &mut command_line.layers[index];
    match slot {
        Some((old, _)) if setting.kind.repeats() => old.append(value),
        _ => *slot = Some((value, Origin::Directive(line.map(|l| Box::new(l.place.clone()))))),
    }
}

/// The first word; wherever it is asked for the block's reader has seen that there is one.
fn word(line: &AppSetting) -> &str {
    line.words.first().map_or("", String::as_str)
}

fn value(line: &AppSetting) -> Result<Value, Wrong> {
    let Some((_, setting)) = settings::find(line.name) else {
        return Err(Wrong { message: "it is no setting".to_owned(), help: None });
    };
    let is_list = setting.kind.repeats() || matches!(setting.kind, Kind::Commas);
    if line.words.len() > 1 && !is_list {
        return Err(Wrong { message: "it takes one value".to_owned(), help: None });
    }
    let mut all = None;
    for word in &line.words {
        // A flag has no value on the command line; here every line has one, in either language's words.
        let text = match (setting.kind, word.as_str()) {
            (Kind::Flag(_), "on") => "true",
            (Kind::Flag(_), "off") => "false",
            (Kind::Flag(_), text)
                if !["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word)) =>
            {
                return Err(Wrong {
                    message: format!("`{text}` is neither on nor off"),
                    help: Some("write `on` or `off`".to_owned()),
                });
            }
            (_, text) => text,
        };
        let value = Value::from_text(setting.kind, text)?;
        match &mut all {
            None => all = Some(value),
            Some(all) => all.append(value),
        }
    }
    all.ok_or_else(|| Wrong { message: "a value is missing".to_owned(), help: None })
}
