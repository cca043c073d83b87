//! From effective values to the model, with the checks that look at more than one setting or at the machine.

mod app;
mod bind;
mod edge;
mod process;
mod tls;

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::app_block::elsewhere_than_in_file;
use super::command_line::{CommandLine, Merged, SettingsFile};
use super::effective::{Effective, Origin};
use super::settings::{Kind, Status, all};
use super::value::Value;
use crate::host::{Entry, Host};
use crate::model::{LogTarget, Logs, Model, Reload};
use crate::report::{Diagnostic, Notes, Place, Report, Severity};

pub(crate) use app::is_dotted_name;
pub(crate) use bind::address;

/// What the values came from.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) command_line: &'a CommandLine,
    pub(crate) file: Option<&'a SettingsFile>,
    pub(crate) host: &'a dyn Host,
}

/// Makes the model; `diagnostics` are those of the merge.
pub(crate) fn lower(
    input: &Input<'_>,
    effective: Effective,
    diagnostics: Vec<Diagnostic>,
) -> Result<Merged, Report> {
    let mut lowering =
        Lowering { input: *input, effective, diagnostics, base: input.command_line.current_dir().to_owned() };
    lowering.base = lowering.chdir();
    let listeners = lowering.listeners();
    let (tls, acme) = lowering.tls(&listeners);
    let edge = lowering.edge();
    let app = lowering.app();
    let process = lowering.process();
    let forwarded = lowering.forwarded();
    let statics = lowering.locations("static");
    let accel = lowering.locations("accel");
    let files = lowering.files();
    let compress = lowering.compress();
    let logs = lowering.logs();
    let reload = lowering.reload();
    // Everything is lowered before the application may be missing, so that all errors are told in one run.
    let model = app.map(|app| Model {
        listeners,
        edge,
        forwarded,
        statics,
        accel,
        files,
        compress,
        apps: vec![app],
        http: None,
        tls,
        acme,
        process,
        logs,
        reload,
    });
    lowering.notes_on_settings();
    lowering.finish(model)
}

struct Lowering<'a> {
    input: Input<'a>,
    effective: Effective,
    diagnostics: Vec<Diagnostic>,
    /// The working directory, from which relative paths start.
    base: PathBuf,
}

impl Lowering<'_> {
    fn finish(mut self, model: Option<Model>) -> Result<Merged, Report> {
        let failed = self.diagnostics.iter().any(|d| d.severity == Severity::Error);
        let Some(model) = model.filter(|_| !failed) else {
            return Err(Report::errors(self.diagnostics, false));
        };
        let (check_config, print_config) = (self.flag("check_config"), self.flag("print_config"));
        self.make_settings_effective(&model);
        let placed = [
            "accesslog",
            "errorlog",
            "pidfile",
            "access_log_format",
            "temp_dir",
            "certfile",
            "keyfile",
            "ca_certs",
        ];
        let places = placed.iter().filter_map(|name| Some((*name, self.place(name, 0)?))).collect();
        Ok(Merged {
            places,
            model,
            notes: Notes { diagnostics: self.diagnostics },
            settings: self.effective,
            check_config,
            print_config,
        })
    }

    /// Puts in what only the model knows, so that hooks find in `cfg` what is true.
    fn make_settings_effective(&mut self, model: &Model) {
        let app = &model.apps[0];
        let class = match app.worker_class {
            crate::model::WorkerClass::Sync => "sync",
            crate::model::WorkerClass::Gthread => "gthread",
        };
        let owner = |id: Option<u32>| id.map_or(Value::None, |n| Value::Int(u64::from(n)));
        self.effective.set("worker_class", Value::Text(class.to_owned()));
        let target = Value::Text(app.target.to_string());
        match self.input.command_line.app() {
            Some(named) => {
                self.effective.set_from("wsgi_app", target, Origin::Application);
                if !self.is_given("default_proc_name") {
                    let name = Value::Text(named.to_owned());
                    self.effective.set_from("default_proc_name", name, Origin::Application);
                }
            }
            None => self.effective.set("wsgi_app", target),
        }
        if !self.is_given("bind") && self.orders() {
            self.effective.set("bind", Value::List(self.binds()));
        }
        self.effective.set("user", owner(model.process.uid));
        self.effective.set("group", owner(model.process.gid));
        self.effective.set("chdir", Value::Text(model.process.chdir.to_string_lossy().into_owned()));
    }

    /// What is accepted but changes nothing, and pairs of settings that work against each other.
    fn notes_on_settings(&mut self) {
        for setting in all() {
            if let Status::NoEffect(why) = setting.status
                && *self.effective.origin(setting.name) != Origin::Default
            {
                // Code that somebody wrote to be run.
                let severity =
                    if matches!(setting.kind, Kind::Hook(_)) { Severity::Warning } else { Severity::Note };
                self.tell(severity, setting.name, format!("{} changes nothing: {why}", setting.name), None);
            }
        }
        // The sockets are there before a settings file is evaluated.
        if self.input.command_line.is_block() && matches!(self.effective.origin("bind"), Origin::File(_)) {
            let message = "bind changes nothing in the settings file of an `app`";
            let help = format!(
                "write `bind {};` in the `app` block, unless a `server` listens there",
                self.binds().join(", ")
            );
            self.tell(Severity::Warning, "bind", message, Some(help));
        }
        if self.input.command_line.is_block() {
            self.settings_of_the_edge();
        }
        let (timeout, queue) = (self.seconds("timeout"), self.seconds("queue_timeout"));
        let has_threads = self.int("threads") > 1
            || self.text("worker_class").is_some_and(|class| class.contains("gthread"));
        // Requests that gunicorn lets run for ever may have been counted on.
        if has_threads && !timeout.is_zero() && self.is_given("timeout") {
            let message = format!(
                "timeout: each request has {} with threads too, after which it is answered with 504",
                plain_seconds(timeout)
            );
            let help = "gunicorn's gthread lets a request run for ever; `timeout = 0` does so here";
            self.tell(Severity::Note, "timeout", message, Some(help.to_owned()));
        }
        if timeout > queue && (self.is_given("timeout") || self.is_given("queue_timeout")) {
            let name = if self.is_given("timeout") { "timeout" } else { "queue_timeout" };
            let message = format!(
                "timeout ({}) is longer than queue_timeout ({}): behind slow requests others may get 503 before \
                 a worker is free",
                plain_seconds(timeout),
                plain_seconds(queue)
            );
            self.tell(Severity::Note, name, message, None);
        }
        if self.int("max_requests_jitter") > 0 && self.int("max_requests") == 0 {
            let message = "max_requests_jitter changes nothing while max_requests is 0";
            self.tell(Severity::Note, "max_requests_jitter", message, None);
        }
        for name in ["reload_extra_files", "reload_templates"] {
            if self.is_given(name) && !self.flag("reload") {
                self.tell(Severity::Note, name, format!("{name} changes nothing without reload"), None);
            }
        }
        if self.flag("reload") && self.flag("preload_app") {
            let message =
                "with preload_app, a reload imports the application anew in a new mold; it takes longer";
            self.tell(Severity::Note, "preload_app", message, None);
        }
    }

    /// What an application's settings file says of the edge, which nginx's directives rule.
    fn settings_of_the_edge(&mut self) {
        for setting in all() {
            if matches!(self.effective.origin(setting.name), Origin::File(_))
                && let Some(instead) = elsewhere_than_in_file(setting.name)
            {
                let message = format!("{} changes nothing in the settings file of an `app`", setting.name);
                self.tell(Severity::Warning, setting.name, message, Some(instead.to_owned()));
            }
        }
    }

    fn logs(&mut self) -> Logs {
        let target = |this: &Self, name: &str, dash: LogTarget| {
            this.text(name).filter(|t| !t.is_empty()).map(|t| match t {
                "-" => dash,
                path => LogTarget::File(join(&this.base, path)),
            })
        };
        for name in ["accesslog", "errorlog"] {
            if let Some(LogTarget::File(path)) = target(self, name, LogTarget::Stdout) {
                self.check_log(name, &path);
            }
        }
        use crate::model::LogLevel;
        Logs {
            access: target(self, "accesslog", LogTarget::Stdout),
            access_format: self.text("access_log_format").unwrap_or_default().to_owned(),
            error: target(self, "errorlog", LogTarget::Stderr).unwrap_or(LogTarget::Stderr),
            nginx: None,
            level: match self.text("loglevel") {
                Some("debug") => LogLevel::Debug,
                Some("warning") => LogLevel::Warning,
                Some("error") => LogLevel::Error,
                Some("critical") => LogLevel::Critical,
                _ => LogLevel::Info,
            },
            capture_output: self.flag("capture_output"),
            stdio_inheritance: self.flag("enable_stdio_inheritance"),
        }
    }

    /// Told here, so that it stands beside everything else that is wrong.
    fn check_log(&mut self, name: &str, path: &Path) {
        // In an app block's settings file it changes nothing, which is told elsewhere.
        if self.input.command_line.is_block() {
            return;
        }
        let host = self.input.host;
        let why = match path.parent() {
            _ if host.entry(path) == Entry::Directory => "it is a directory".to_owned(),
            Some(parent) if host.entry(parent) == Entry::Missing => {
                format!("there is no directory {}", parent.display())
            }
            _ => return,
        };
        let what = if name == "accesslog" { "access log" } else { "error log" };
        let message = format!("the {what} {} cannot be written: {why}", path.display());
        self.error(name, 0, message, None);
    }

    fn reload(&mut self) -> Option<Reload> {
        if self.text("reload_engine") == Some("inotify") {
            self.error(
                "reload_engine",
                0,
                "reload_engine `inotify` is not there yet",
                "write `poll` or `auto`",
            );
        }
        let templates = match self.list("reload_templates") {
            [one] if one == "off" => vec![],
            [one] if one == "on" => vec!["**/templates/**".to_owned()],
            patterns => patterns.to_vec(),
        };
        let extra_files = self.list("reload_extra_files").to_vec();
        let mut paths = Vec::new();
        for (i, file) in extra_files.iter().enumerate() {
            let path = join(&self.base, file);
            let is_pattern = file.contains(['*', '?', '[']);
            if !is_pattern && self.input.host.entry(&path) == Entry::Missing {
                self.error(
                    "reload_extra_files",
                    i,
                    format!("the file `{file}` does not exist"),
                    None::<&str>,
                );
            }
            paths.push(path);
        }
        self.flag("reload").then_some(Reload { extra_files: paths, templates })
    }

    // Values by name. The table fixes each one's kind, so that another kind is not met.

    fn int(&self, name: &str) -> u64 {
        match self.effective.value(name) {
            Some(Value::Int(n)) => *n,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn seconds(&self, name: &str) -> Duration {
        match self.effective.value(name) {
            Some(Value::Seconds(d)) => *d,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn flag(&self, name: &str) -> bool {
        match self.effective.value(name) {
            Some(Value::Bool(b)) => *b,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.effective.value(name) {
            Some(Value::Text(t)) => Some(t),
            Some(Value::None) => None,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn list(&self, name: &str) -> &[String] {
        match self.effective.value(name) {
            Some(Value::List(l)) => l,
            Some(Value::None) => &[],
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn pairs(&self, name: &str) -> &[(String, String)] {
        match self.effective.value(name) {
            Some(Value::Pairs(p)) => p,
            other => unreachable!("{name} is {other:?}"),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(|t| join(&self.base, t))
    }

    /// Whether anybody said anything about it.
    fn is_given(&self, name: &str) -> bool {
        *self.effective.origin(name) != Origin::Default
    }

    // Telling.

    fn place(&self, name: &str, item: usize) -> Option<Place> {
        let Input { command_line, file, host } = self.input;
        command_line.place(self.effective.origin(name), item, file, host)
    }

    fn error<'h>(
        &mut self,
        name: &str,
        item: usize,
        message: impl Into<String>,
        help: impl Into<Option<&'h str>>,
    ) {
        let help = help.into().map(str::to_owned);
        let diagnostic = Diagnostic::error(message).at(self.place(name, item)).help(help);
        self.diagnostics.push(diagnostic);
    }

    fn tell(&mut self, severity: Severity, name: &str, message: impl Into<String>, help: Option<String>) {
        let diagnostic = Diagnostic::new(severity, message).at(self.place(name, 0)).help(help);
        self.diagnostics.push(diagnostic);
    }
}

fn plain_seconds(d: Duration) -> String {
    format!("{} s", d.as_secs_f64())
}

/// An absolute path without `.` and without needless slashes. `..` stays: what it means depends on links.
pub(crate) fn join(base: &Path, path: &str) -> PathBuf {
    let joined = base.join(path);
    let plain: PathBuf = joined.components().filter(|c| *c != Component::CurDir).collect();
    // Of `.` nothing is left.
    if plain.as_os_str().is_empty() { PathBuf::from(".") } else { plain }
}

/// A program: a bare name is looked for on the search path by whoever starts it.
pub(crate) fn program(base: &Path, text: &str) -> PathBuf {
    if text.contains('/') { join(base, text) } else { PathBuf::from(text) }
}
