//! Which of the three command lines the arguments are: gunicorn's, nginx's, or the program's own for an nginx.conf.
//!
//! ```text
//! gunicorn …                     gunicorn's
//! nginx …                        nginx's
//! monoceros -c site.conf         an nginx.conf, with nginx's -p, -g and -e
//! monoceros check …              either, checked and not run
//! monoceros …                    gunicorn's
//! ```

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::gunicorn;
use crate::host::{Entry, Host as _, System};
use crate::report::{Diagnostic, Report};

pub mod nginx;

pub use nginx::{Order, Paths};

/// What the program was asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// gunicorn's command line, the program's name first.
    Gunicorn(Vec<OsString>),
    /// nginx's command line.
    Nginx(nginx::Options),
    /// The program's own command line for an nginx.conf.
    Site {
        /// What was given of nginx's options.
        options: nginx::Options,
        /// Only check it.
        check: bool,
    },
}

/// Why it is none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// nginx's words for its own options; they follow `nginx: `.
    Nginx(String),
    /// An account with the place, for the program's own form.
    Own(Report),
}

/// The name of a settings file in gunicorn's language.
pub(crate) fn is_python(name: &str) -> bool {
    name.starts_with("python:")
        || name.starts_with("file:")
        || Path::new(name).extension() == Some("py".as_ref())
}

/// Looks at the name and at the arguments.
pub fn invocation(arguments: Vec<OsString>) -> Result<Invocation, Refused> {
    match name(&arguments) {
        "nginx" => nginx::Options::parse(arguments.get(1..).unwrap_or_default())
            .map(Invocation::Nginx)
            .map_err(Refused::Nginx),
        "gunicorn" => Ok(Invocation::Gunicorn(arguments)),
        _ => own(arguments),
    }
}

/// The last part of the name that the program was called by.
fn name(arguments: &[OsString]) -> &str {
    let program = arguments.first().map(Path::new).and_then(Path::file_name);
    program.and_then(OsStr::to_str).unwrap_or_default()
}

/// The two languages that a file behind `-c` may be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Nginx,
    Python,
}

/// The language of a file whose name may say something else, by its first line that says anything; `None` where that is
/// not beyond doubt.
pub(crate) fn language(text: &str) -> Option<Language> {
    const STATEMENTS: [&str; 7] = ["import", "from", "def", "if", "try", "class", "with"];
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
    if line.starts_with("\"\"\"") || line.starts_with("'''") || line.starts_with('@') {
        return Some(Language::Python);
    }
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(line.len());
    let (word, rest) = (&line[..end], line[end..].trim_start());
    let is_name = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let code = rest.split(" #").next().unwrap_or_default().trim_end();
    let closes = code.ends_with(';') || code.ends_with('{') || code.ends_with('}');
    if !is_name || (STATEMENTS.contains(&word) && !closes) {
        return is_name.then_some(Language::Python);
    }
    let assigns = rest.strip_prefix(':').map_or(rest, str::trim_start);
    if (assigns.starts_with('=') && !code.ends_with(';')) || (assigns.contains(" = ") && !closes) {
        return Some(Language::Python);
    }
    (closes && !rest.starts_with(['=', '(', '.', '['])).then_some(Language::Nginx)
}

fn own(arguments: Vec<OsString>) -> Result<Invocation, Refused> {
    // A module of that name is still an application: `check:application`.
    let check = arguments.get(1).is_some_and(|word| word == "check");
    let mut rest = arguments.clone();
    if check {
        rest.remove(1);
    }
    let is_site = gunicorn::config_argument(&rest).is_some_and(|value| {
        let source = || System.source(&System.current_dir().join(&value));
        !is_python(&value) && source().and_then(|text| language(&text)) != Some(Language::Python)
    });
    if is_site {
        let options = site_options(&arguments, if check { 2 } else { 1 })?;
        return Ok(Invocation::Site { options, check });
    }
    // Of gunicorn's command line `check` is a word, too.
    Ok(Invocation::Gunicorn(arguments))
}

/// nginx's `-c`, `-p`, `-g` and `-e`, and `--config` for the first.
fn site_options(arguments: &[OsString], first: usize) -> Result<nginx::Options, Refused> {
    let mut options = nginx::Options::default();
    let mut at = first;
    let refuse = |at: usize, message: String, help: &str| {
        let place = gunicorn::argument_place(arguments, at);
        let error = Diagnostic::error(message).at(Some(place)).help(help.to_owned());
        Err(Refused::Own(Report::errors(vec![error], true)))
    };
    // What would go with the settings that lie in a directory says nothing wrong.
    let foreign = |at: usize, message: String, help: &str| match directory(arguments, first) {
        Some((at, text)) => {
            let path = System.current_dir().join(&text);
            let is_there = |name: &&&str| System.entry(&path.join(name)) == Entry::File;
            let known = gunicorn::CONFIGURATIONS.iter().rev().find(is_there);
            let help = known.map_or_else(
                || "`-c` names a file in it".to_owned(),
                |name| format!("write `-c {}`", Path::new(&text).join(name).display()),
            );
            refuse(at, format!("`{text}` is a directory"), &help)
        }
        None => refuse(at, message, help),
    };
    while let Some(argument) = arguments.get(at) {
        let text = argument.to_string_lossy();
        let (flag, joined) = match text.strip_prefix("--") {
            Some(_) => match text.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(OsString::from(value))),
                None => (text.to_string(), None),
            },
            None if text.starts_with('-') && text.len() > 2 && text.is_char_boundary(2) => {
                (text[..2].to_owned(), Some(OsString::from(&text[2..])))
            }
            None => (text.to_string(), None),
        };
        let slot = match flag.as_str() {
            "-c" | "--config" => &mut options.conf,
            "-p" => &mut options.prefix,
            "-g" => &mut options.directives,
            "-e" => &mut options.error_log,
            word if !word.starts_with('-') && gunicorn::is_nearly_check(word) => {
                return refuse(at, format!("there is no command `{word}`"), "did you mean `check`?");
            }
            word if !word.starts_with('-') => {
                return foreign(
                    at,
                    format!("`{word}` does not go with an nginx.conf"),
                    "applications are named in the file itself: `app NAME { wsgi module:callable; }`; settings in \
                     Python are a file whose name ends in `.py`",
                );
            }
            _ => {
                return foreign(
                    at,
                    format!("`{flag}` does not go with an nginx.conf"),
                    "an nginx.conf says everything itself: beside `-c FILE` there are `-p PREFIX`, `-g DIRECTIVES` and \
                     `-e FILE`; for nginx's other options call the program `nginx`",
                );
            }
        };
        let value = joined.or_else(|| {
            at += 1;
            arguments.get(at).cloned()
        });
        let Some(value) = value else {
            return refuse(at - 1, format!("`{flag}` needs a value"), "write it behind the flag");
        };
        *slot = Some(value);
        at += 1;
    }
    Ok(options)
}

/// What `-c` says, and where, if that is a directory.
fn directory(arguments: &[OsString], first: usize) -> Option<(usize, String)> {
    let text = gunicorn::config_argument(&arguments[first - 1..])?;
    let is_value = |argument: &OsString| argument.to_string_lossy().ends_with(&text);
    let at = first + arguments[first..].iter().position(is_value)?;
    (System.entry(&System.current_dir().join(&text)) == Entry::Directory).then_some((at, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<Invocation, Refused> {
        invocation(words.iter().map(OsString::from).collect())
    }

    fn gunicorn(words: &[&str]) -> Invocation {
        Invocation::Gunicorn(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn the_name_decides_first() {
        for line in [&["/usr/bin/gunicorn", "-c", "site.conf"][..], &["gunicorn", "check"]] {
            assert_eq!(of(line), Ok(gunicorn(line)));
        }
        let Ok(Invocation::Nginx(options)) = of(&["/usr/sbin/nginx", "-tqcx.conf"]) else { panic!() };
        assert!(options.test && options.quiet);
        assert_eq!(options.conf, Some("x.conf".into()));
        assert_eq!(of(&["nginx", "-w"]), Err(Refused::Nginx("invalid option: \"w\"".into())));
    }

    #[test]
    fn a_settings_file_is_gunicorns_and_any_other_is_nginxs() {
        for file in ["gunicorn.conf.py", "python:site.settings", "file:settings.conf"] {
            let line = ["monoceros", "-c", file, "app"];
            assert_eq!(of(&line), Ok(gunicorn(&line)));
        }
        for line in [
            &["monoceros", "-c", "site.conf"][..],
            &["monoceros", "-csite.conf"],
            &["monoceros", "--config=site.conf"],
            &["monoceros", "--config", "site.conf"],
        ] {
            let Ok(Invocation::Site { options, check: false }) = of(line) else { panic!("{line:?}") };
            assert_eq!(options.conf, Some("site.conf".into()));
        }
        assert_eq!(of(&["monoceros", "app", "-w", "4"]), Ok(gunicorn(&["monoceros", "app", "-w", "4"])));
    }

    #[test]
    fn check_is_for_both() {
        let Ok(Invocation::Site { options, check: true }) =
            of(&["monoceros", "check", "-c", "site.conf", "-p", "/srv"])
        else {
            panic!()
        };
        assert_eq!(options.prefix, Some("/srv".into()));
        let line = ["monoceros", "check", "app"];
        assert_eq!(of(&line), Ok(gunicorn(&line)));
    }

    #[test]
    fn a_file_tells_its_language_by_its_first_line() {
        for text in [
            "workers = 3\n",
            "# settings\n\nbind=':8000'",
            "\"\"\"Settings.\"\"\"",
            "import os",
            "from a import b  # c",
            "def post_fork(server, worker):",
            "wsgi_app: str = 'shop'",
            "if True:",
            "logconfig_dict = {",
        ] {
            assert_eq!(language(text), Some(Language::Python), "{text}");
        }
        for text in [
            "events {}",
            "user www;",
            "# nginx\nworker_processes auto; # a = b",
            "server { listen 80; }",
            "http\t{",
            "map $a $b {",
            "set $a = b;",
        ] {
            assert_eq!(language(text), Some(Language::Nginx), "{text}");
        }
        for text in ["", "# nothing", "http", "a.b;", "print('x');"] {
            assert_eq!(language(text), None, "{text}");
        }
    }

    #[test]
    fn gunicorns_flags_do_not_go_with_an_nginx_conf() {
        let Err(Refused::Own(report)) = of(&["monoceros", "-c", "site.conf", "-w", "4"]) else { panic!() };
        assert_eq!(report.exit_code(), 2);
        let text = report.render(false);
        assert!(text.contains("`-w` does not go with an nginx.conf") && text.contains("^^"), "{text}");
        for (line, words) in [
            (["monoceros", "chekc", "-c", "site.conf"], "there is no command `chekc`"),
            (["monoceros", "shop.wsgi", "-c", "site.conf"], "applications are named in the file itself"),
        ] {
            let Err(Refused::Own(report)) = of(&line) else { panic!() };
            assert!(report.render(false).contains(words), "{report}");
        }
        let Err(Refused::Own(report)) = of(&["monoceros", "-c", "site.conf", "-p"]) else { panic!() };
        assert!(report.render(false).contains("`-p` needs a value"));
    }

    #[test]
    fn a_directory_is_known_as_one_whatever_stands_beside_it() {
        let text = env!("CARGO_MANIFEST_DIR");
        let report = |line: &[&str]| match of(line) {
            Err(Refused::Own(report)) => report.render(false),
            other => panic!("{other:?}"),
        };
        let joined = format!("--config={text}");
        for line in [
            &["monoceros", "-c", text, "app:app"][..],
            &["monoceros", "check", "-c", text, "app:app"],
            &["monoceros", "app:app", &joined],
            &["monoceros", "-w", "4", "-c", text],
        ] {
            let shown = report(line);
            assert!(shown.contains(&format!("`{text}` is a directory")) && shown.contains("^^"), "{shown}");
            assert!(shown.contains("`-c` names a file in it") && !shown.contains("does not go"), "{shown}");
        }
        assert!(report(&["monoceros", "chekc", "-c", text]).contains("there is no command `chekc`"));
    }
}
