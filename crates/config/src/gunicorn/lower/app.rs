//! The application and its workers.

use std::path::Path;

use super::Lowering;
use crate::gunicorn::Origin;
use crate::model::{App, Kind, MOST_WORKER_THREADS, Target, WorkerClass};
use crate::report::Diagnostic;

impl Lowering<'_> {
    pub(super) fn app(&mut self) -> Option<App> {
        let target = self.target();
        let threads = self.int("threads") as u32;
        let worker_class = self.worker_class(threads);
        self.check_room(threads);
        let root_path = self.root_path();
        let some = |n: u64| (n > 0).then_some(n);
        let target = target?;
        Some(App {
            // One application, whatever it is called after a reload.
            name: "application".to_owned(),
            target,
            kind: Kind::Wsgi,
            worker_class,
            workers: self.int("workers") as u32,
            threads: if worker_class == WorkerClass::Sync { 1 } else { threads },
            timeout: Some(self.seconds("timeout")).filter(|d| !d.is_zero()),
            graceful_timeout: self.seconds("graceful_timeout"),
            boot_timeout: Some(self.seconds("boot_timeout")).filter(|d| !d.is_zero()),
            max_requests: some(self.int("max_requests")),
            max_requests_jitter: self.int("max_requests_jitter"),
            preload: self.flag("preload_app"),
            max_rss: some(self.int("max_worker_rss")),
            queue_size: self.int("queue_size") as u32,
            queue_timeout: self.seconds("queue_timeout"),
            root_path,
            hooks: self.hooks(),
            forwarded: None,
        })
    }

    fn target(&mut self) -> Option<Target> {
        let own = self.input.command_line.app().map(str::to_owned);
        let Some(text) = own.or_else(|| self.text("wsgi_app").map(str::to_owned)) else {
            let help = if self.flag("check_config") {
                "write `monoceros check package.module:name`, or set `wsgi_app` in the settings file; \
                 `monoceros check -c site.conf` checks an nginx.conf"
            } else {
                "write `monoceros package.module:name`, or set `wsgi_app` in the settings file"
            };
            let error = Diagnostic::error("no application is named")
                .at(Some(self.input.command_line.end()))
                .help(help.to_owned());
            self.diagnostics.push(error);
            return None;
        };
        match target(&text) {
            Ok(target) => Some(target),
            Err((message, help)) => {
                let help = self.named_in_file(&text).or(help);
                let place = self.input.command_line.app_place().or_else(|| self.place("wsgi_app", 0));
                self.diagnostics.push(Diagnostic::error(message).at(place).help(help));
                None
            }
        }
    }

    /// What a file that is named in the place of a module calls its application, as far as its text says.
    fn named_in_file(&self, text: &str) -> Option<String> {
        let path = Path::new(text);
        if path.extension()? != "py" {
            return None;
        }
        let directories = [self.input.command_line.current_dir(), &self.input.command_line.chdir()];
        let source = directories.iter().find_map(|d| self.input.host.source(&d.join(path)))?;
        let dotted = dotted(text);
        if !is_dotted_name(&dotted) {
            return None;
        }
        Some(match application_in(&source) {
            Some(name) => format!("did you mean `{dotted}:{name}`?"),
            None => format!("write `{dotted}:NAME`, with what the file calls its application"),
        })
    }

    /// The workers of a reload start while the others still serve.
    fn check_room(&mut self, threads: u32) {
        let workers = self.int("workers");
        let all = workers * u64::from(threads);
        if all <= u64::from(MOST_WORKER_THREADS) {
            return;
        }
        let name = if threads > 1 { "threads" } else { "workers" };
        let message = format!(
            "workers × threads: {workers} × {threads} are {all} threads, and there is room for {MOST_WORKER_THREADS}"
        );
        self.error(name, 0, message, "lower `workers` or `threads`");
    }

    fn worker_class(&mut self, threads: u32) -> WorkerClass {
        let text = self.text("worker_class").unwrap_or_default().to_owned();
        let lower = text.to_ascii_lowercase();
        let help = match text.as_str() {
            "sync" | "gunicorn.workers.sync.SyncWorker" => {
                return if threads > 1 { WorkerClass::Gthread } else { WorkerClass::Sync };
            }
            "gthread" | "gunicorn.workers.gthread.ThreadWorker" => return WorkerClass::Gthread,
            _ if lower.contains("asgi") || lower.contains("uvicorn") => {
                "ASGI is not there yet; a WSGI application runs on `sync` or `gthread`"
            }
            _ if lower.contains("gevent") || lower.contains("eventlet") => {
                "gevent is not there yet; use `gthread` with `threads`: slow clients hold no worker here, so that \
                 fewer are needed"
            }
            _ if lower.contains("tornado") => {
                "tornado is not there; a WSGI application runs on `sync` or `gthread`"
            }
            _ if text.contains('.') => {
                "worker classes of other packages are not supported; use `sync` or `gthread`"
            }
            _ => "write `sync` or `gthread`",
        };
        self.error("worker_class", 0, format!("the worker class `{text}` is not supported"), help);
        WorkerClass::Sync
    }

    fn root_path(&mut self) -> String {
        let mut text = self.text("root_path").unwrap_or_default().to_owned();
        // gunicorn's workers ask their environment, which `raw_env` has a part in.
        if matches!(self.effective.origin("root_path"), Origin::Default | Origin::Variable(_)) {
            let mut variables = self.list("raw_env").iter().rev();
            let name = variables.find_map(|item| item.strip_prefix("SCRIPT_NAME=")).map(str::to_owned);
            text = name.unwrap_or(text);
        }
        let trimmed = text.trim_end_matches('/');
        if !trimmed.is_empty() && !trimmed.starts_with('/') {
            let help = format!("write `/{trimmed}`");
            self.error("root_path", 0, format!("root_path: `{text}` does not begin with `/`"), help.as_str());
        } else if trimmed.contains(['?', '#', '%']) || trimmed.chars().any(char::is_control) {
            self.error("root_path", 0, format!("root_path: `{text}` is not a plain path"), None);
        }
        trimmed.to_owned()
    }

    fn hooks(&self) -> Vec<String> {
        use crate::gunicorn::settings::Kind as Of;
        let hooks = self.effective.iter().filter(|(s, ..)| matches!(s.kind, Of::Hook(_)));
        hooks.filter(|(_, v, _)| **v != super::Value::None).map(|(s, ..)| s.name.to_owned()).collect()
    }
}

type Refusal = (String, Option<String>);

/// gunicorn's form: `module`, `module:name`, `module:factory(arguments)`. Whether the arguments are Python
/// literals is for Python to say.
fn target(text: &str) -> Result<Target, Refusal> {
    let form = || Some("write it as `package.module:name` or `package.module:factory()`".to_owned());
    let (module, object) = match text.split_once(':') {
        Some((m, o)) => (m.trim(), o.trim()),
        None => (text.trim(), "application"),
    };
    let is_file = Path::new(module).extension().is_some_and(|e| e == "py");
    if module.contains('/') || is_file {
        let dotted = dotted(module);
        let help = is_dotted_name(&dotted).then(|| format!("did you mean `{dotted}:{object}`?"));
        return Err((format!("`{module}` is a file, where a module is wanted"), help.or_else(form)));
    }
    if !is_dotted_name(module) {
        return Err((format!("`{module}` is not the name of a Python module"), form()));
    }
    let (name, arguments) = match object.split_once('(') {
        Some((name, rest)) => match rest.strip_suffix(')') {
            Some(arguments) => (name.trim_end(), Some(arguments.trim().to_owned())),
            None => return Err((format!("`{object}` lacks its closing bracket"), form())),
        },
        None => (object, None),
    };
    if !is_name(name) {
        let message = if is_dotted_name(name) {
            format!("`{name}` is not a plain name: an attribute of an attribute cannot be the application")
        } else {
            format!("`{name}` is not a name in a module")
        };
        return Err((message, form()));
    }
    Ok(Target { module: module.to_owned(), object: name.to_owned(), arguments })
}

/// A file's name as that of a module.
fn dotted(file: &str) -> String {
    file.trim_start_matches("./").trim_end_matches(".py").replace('/', ".")
}

/// What applications are called, and what makes them.
const USUAL: [&str; 4] = ["application", "app", "wsgi", "wsgi_app"];
const USUAL_FACTORIES: [&str; 6] =
    ["create_app", "make_app", "get_app", "create_application", "make_application", "app_factory"];

/// The usual name that a module defines by its text: nothing is run, and only what begins a line is looked at.
fn application_in(source: &str) -> Option<String> {
    let defines = |line: &str, name: &str| {
        let function = line.strip_prefix("def ").or_else(|| line.strip_prefix("class "));
        let after = |text: &'_ str| text.strip_prefix(name).map(|rest| rest.trim_start().to_owned());
        let is_assigned = after(line)
            .is_some_and(|rest| (rest.starts_with('=') && !rest.starts_with("==")) || rest.starts_with(':'));
        let is_defined = function
            .and_then(|text| after(text.trim_start()))
            .is_some_and(|rest| rest.starts_with(['(', ':']));
        let names = line.strip_prefix("from ").and_then(|rest| rest.split_once(" import "));
        let is_imported = names.is_some_and(|(_, names)| {
            let names = names.split('#').next().unwrap_or_default().split(',');
            names.into_iter().any(|one| one.trim_matches([' ', '(', ')']).rsplit(' ').next() == Some(name))
        });
        is_assigned || is_defined || is_imported
    };
    let is_there = |name: &&&str| source.lines().any(|line| defines(line, name));
    if let Some(name) = USUAL.iter().find(is_there) {
        return Some((*name).to_owned());
    }
    USUAL_FACTORIES.iter().find(is_there).map(|name| format!("{name}()"))
}

pub(crate) fn is_dotted_name(text: &str) -> bool {
    text.split('.').all(is_name)
}

/// Python's identifiers, nearly: letters of any script, digits, underscores.
fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && chars.all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_an_application() {
        for (text, module, object, arguments) in [
            ("shop.wsgi", "shop.wsgi", "application", None),
            ("app:app", "app", "app", None),
            ("app:create_app()", "app", "create_app", Some("")),
            ("app:make('a:b', n=(1))", "app", "make", Some("'a:b', n=(1)")),
        ] {
            let t = target(text).unwrap();
            assert_eq!(
                (t.module.as_str(), t.object.as_str(), t.arguments.as_deref()),
                (module, object, arguments)
            );
        }
        assert_eq!(target("app:make('a')").unwrap().to_string(), "app:make('a')");
        for (text, help) in [("./shop/wsgi.py", "`shop.wsgi:application`"), ("shop.py:app", "`shop:app`")] {
            assert!(target(text).unwrap_err().1.unwrap().contains(help), "{text}");
        }
        for (source, name) in [
            ("from flask import Flask\n\napp = Flask(__name__)\n", Some("app")),
            ("app: Flask = Flask()", Some("app")),
            ("def application(environ, start_response):\n    pass\napp = application", Some("application")),
            ("from shop import (app)\n", Some("app")),
            ("from shop import make, app as application  # ours", Some("application")),
            ("class wsgi:\n    pass", Some("wsgi")),
            ("def create_app(config=None):\n    app = Flask()\n", Some("create_app()")),
            ("if app == 1:\n    app = 2\napp == 1\napplications = []\ndef apple(): pass", None),
            ("", None),
        ] {
            assert_eq!(application_in(source).as_deref(), name, "{source}");
        }
        for text in ["", ":", "a..b:c", "a:b.c", "a:b(", "a:1", "a b:c", "a:"] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
