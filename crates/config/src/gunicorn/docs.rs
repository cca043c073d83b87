//! Documents made from the table: the reference, the manual page, shell completions.

use std::fmt::Write as _;

use clap_complete::Shell;

use super::help::{CHECK, CHECK_HELP, command, completed};
use super::manual;
use super::settings::{self, Kind, Section, Setting, Status};

/// A generated document: its path below `docs/` and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Below `docs/`.
    pub path: &'static str,
    /// The whole file.
    pub text: String,
}

/// Every generated document.
pub fn documents() -> Vec<Document> {
    vec![
        Document { path: "reference/settings.md", text: reference_markdown() },
        crate::nginx::docs::document(),
        Document { path: "reference/signals.md", text: manual::reference() },
        Document { path: "man/monoceros.1", text: manual_page() },
        Document { path: "completions/monoceros.bash", text: completions(Shell::Bash) },
        Document { path: "completions/_monoceros", text: completions(Shell::Zsh) },
        Document { path: "completions/monoceros.fish", text: completions(Shell::Fish) },
    ]
}

/// The reference of all settings, in Markdown.
pub fn reference_markdown() -> String {
    let mut text = String::from(
        "<!-- Made from the table of settings by `cargo run -p config --example gendocs -- docs`. Change it there. -->\n\
         # Settings\n\n\
         Every setting may stand in a settings file (`gunicorn.conf.py`) under its name, and on the command line or in \
         `$GUNICORN_CMD_ARGS` under its flags. What counts, least first: the default, its environment variable, the \
         settings file, `$GUNICORN_CMD_ARGS`, the command line. `monoceros --print-config` shows what came out, and \
         where each value comes from.\n\n\
         - Times are seconds, whole or not, or have a unit: `500ms`, `30s`, `2m`, `1h`.\n\
         - Sizes are bytes, or have a unit of 1024: `64k`, `10m`, `4g`.\n\
         - Relative paths start at [`chdir`](#chdir); those of `config` and `python` where the program was started.\n\
         - A setting marked *own* is not one of gunicorn's.\n\
         - A setting marked *not yet* is known, but only its default is accepted; another value is an error that names it.\n\n",
    );
    for section in Section::ALL {
        let _ = writeln!(text, "- [{}](#{})", section.title(), anchor(section.title()));
    }
    for section in Section::ALL {
        let _ = writeln!(text, "\n## {}", section.title());
        if section == Section::Hooks {
            let _ = writeln!(text, "\n{HOOKS}");
        }
        for setting in settings::all().iter().filter(|s| s.section == section) {
            entry(&mut text, setting);
        }
    }
    text
}

/// What hooks get, before the list of them.
const HOOKS: &str = "\
`server`, `worker`, `req` and `resp` have the attributes of gunicorn's that a hook can use here. `server` lives in the mold, \
the process that forks the workers: `server.pid` and a worker's `os.getppid()` are that one's, and the master is its parent. \
HUP, TTIN, TTOU, USR1 and USR2 to it are passed on to the master. What is the edge's (sockets, \
connections, the access log) or the master's (signals, starting and ending workers) is an AttributeError that says what to \
do instead. `server.LISTENERS` and `worker.sockets` are addresses. `server.reload()` and `server.num_workers = N` ask the \
master, `worker.alive = False` has the worker replaced, `worker.notify()` does nothing, because `timeout` is each request's. \
`environ` has no `gunicorn.socket` (asking for it is a KeyError): the edge has the client's connection, which may carry \
other requests, or TLS. `wsgi.early_hints`, a generator's pieces and X-Accel-Redirect do what it is mostly wanted for.

`sys.exit` in a hook of the mold ends the program with that code, requests first.";

fn entry(text: &mut String, setting: &Setting) {
    let _ = writeln!(text, "\n### {}\n", setting.name);
    let mut facts = Vec::new();
    if !setting.flags.is_empty() {
        let flags: Vec<_> = setting.flags.iter().map(|f| format!("`{}`", usage(setting, f))).collect();
        facts.push(flags.join(", "));
    } else if matches!(setting.kind, Kind::Hook(_)) {
        facts.push("a function in the settings file".to_owned());
    } else {
        facts.push("settings file only".to_owned());
    }
    match setting.default {
        Some("") => facts.push("default empty".to_owned()),
        Some(default) if matches!(setting.kind, Kind::Flag(_)) => {
            facts.push(format!("default `{}`", if default == "true" { "True" } else { "False" }));
        }
        Some(default) => facts.push(format!("default `{default}`")),
        None if matches!(setting.kind, Kind::Hook(_)) => {}
        None => facts.push("no default".to_owned()),
    }
    if let Some(variable) = setting.env {
        facts.push(format!("variable `${variable}`"));
    }
    if let Kind::Hook(arguments) = setting.kind {
        let plural = if arguments == 1 { "" } else { "s" };
        facts.push(format!("{arguments} argument{plural}"));
    }
    if setting.kind.repeats() {
        facts.push("may be repeated".to_owned());
    }
    if setting.ours {
        facts.push("*own*".to_owned());
    }
    if matches!(setting.status, Status::NotYet(_)) {
        facts.push("*not yet*".to_owned());
    }
    let _ = writeln!(text, "{}\n\n{}", facts.join(" · "), setting.doc);
    if let Kind::Words(words) | Kind::OptionalWord(words) = setting.kind {
        let words: Vec<_> = words.iter().map(|w| format!("`{w}`")).collect();
        let _ = writeln!(text, "\nOne of {}.", words.join(", "));
    }
    if !setting.difference.is_empty() {
        let _ = writeln!(text, "\nDifference from gunicorn: {}", setting.difference);
    }
    match setting.status {
        Status::NotYet(why) => {
            let _ = writeln!(text, "\nNot yet: {why}.");
        }
        Status::NoEffect(why) => {
            let _ = writeln!(text, "\nChanges nothing: {why}.");
        }
        Status::Here => {}
    }
}

fn usage(setting: &Setting, flag: &str) -> String {
    match setting.kind {
        Kind::Flag(_) => flag.to_owned(),
        Kind::OptionalWord(_) => format!("{flag} [{}]", setting.meta),
        _ => format!("{flag} {}", setting.meta),
    }
}

/// GitHub's rule for the headings that are here.
fn anchor(title: &str) -> String {
    title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ')
        .collect::<String>()
        .replace(' ', "-")
}

/// The manual page, in roff.
pub fn manual_page() -> String {
    let mut page = Vec::new();
    // Writing to memory does not fail.
    let _ =
        clap_mangen::Man::new(command()).title("monoceros").manual("Monoceros").date("").render(&mut page);
    String::from_utf8_lossy(&page).into_owned() + &manual::sections()
}

/// The completions of a shell.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut completed(), "monoceros", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Fish {
        // Its generator leaves out what stands in the place of an argument.
        let _ =
            writeln!(script, "complete -c monoceros -n __fish_use_subcommand -a {CHECK} -d '{CHECK_HELP}'");
    }
    script
}
