//! The command line, `GUNICORN_CMD_ARGS` and the variables, read and checked for themselves; then merged with the
//! settings file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::argv::{self, Arguments, Given};
use super::effective::{Effective, Origin};
use super::nearest::nearest;
use super::settings::{self, Kind, Setting, Status};
use super::value::{self, Value};
use super::words::Words;
use super::{help, lower};
use crate::host::{Entry, Host, System};
use crate::model::Model;
use crate::report::{Diagnostic, Notes, Place, Report, Severity};

const ARGUMENTS: &str = "GUNICORN_CMD_ARGS";

/// What a settings file came to when Python evaluated it; the mold sends it as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SettingsFile {
    /// The file, or `python:MODULE`.
    pub path: String,
    /// Its variables. Names that are no settings are ignored, with a warning where they look like one.
    #[serde(default)]
    pub values: Map<String, Json>,
    /// Names of the functions it defines among the hooks.
    #[serde(default)]
    pub hooks: Vec<String>,
    /// The line on which a name was set last, counted from 1; may lack any.
    #[serde(default)]
    pub lines: BTreeMap<String, u32>,
}

/// A settings file that is to be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigFile {
    /// A file; absolute.
    Path(PathBuf),
    /// A module by its dotted name.
    Module(String),
}

/// Everything that is known before the settings file is read. Settings are checked for themselves.
#[derive(Debug, Clone)]
pub struct CommandLine {
    arguments: Words,
    environment: Words,
    variables: BTreeMap<&'static str, String>,
    layers: Vec<Option<(Value, Origin)>>,
    app: Option<(String, std::ops::Range<usize>)>,
    current_dir: PathBuf,
}

/// The settings of a running instance.
#[derive(Debug, Clone)]
pub struct Merged {
    /// What the processes are told.
    pub model: Model,
    /// What did not stop it, but should be read.
    pub notes: Notes,
    /// Every setting by gunicorn's names.
    pub settings: Effective,
    /// `--check-config`: check, load the application, exit.
    pub check_config: bool,
    /// `--print-config`: print [`Effective::print_config`], check, exit.
    pub print_config: bool,
}

impl Merged {
    /// All effective settings by gunicorn's names, hooks left out; the mold makes `cfg` of it.
    pub fn to_mold_settings(&self) -> Map<String, Json> {
        self.settings.to_mold_settings()
    }
}

/// Reads the arguments (the first is the program's name) and the environment. Ends with a [`Report`] also for
/// `--help` and `--version`; see [`Report::is_answer`].
pub fn parse_command_line<A, E>(arguments: A, environment: E) -> Result<CommandLine, Report>
where
    A: IntoIterator<Item = OsString>,
    E: IntoIterator<Item = (OsString, OsString)>,
{
    parse_command_line_with(arguments, environment, &System)
}

/// [`parse_command_line`] on a machine that the caller describes.
pub fn parse_command_line_with<A, E>(
    arguments: A,
    environment: E,
    host: &dyn Host,
) -> Result<CommandLine, Report>
where
    A: IntoIterator<Item = OsString>,
    E: IntoIterator<Item = (OsString, OsString)>,
{
    let mut parser = Parser::default();
    let variables = parser.variables(environment);
    let arguments = parser.texts(arguments);
    let arguments = Words::from_arguments(&arguments);
    let from_arguments = argv::read(&arguments);
    if from_arguments.help {
        return Err(Report::answer(help::help()));
    }
    if from_arguments.version {
        return Err(Report::answer(help::version()));
    }
    let environment = match Words::from_shell(variables.get(ARGUMENTS).map_or("", String::as_str)) {
        Ok(words) => words,
        Err((why, place)) => {
            parser.usage(Diagnostic::error(format!("{ARGUMENTS}: {why}")).at(Some(place)));
            Words::default()
        }
    };
    let from_environment = argv::read(&environment);

    for (name, value) in &variables {
        parser.variable(name, value);
    }
    for (words, read, own) in [(&environment, from_environment, false), (&arguments, from_arguments, true)] {
        parser.layer(words, read, own);
    }
    let command_line = CommandLine {
        arguments,
        environment,
        variables,
        layers: parser.layers,
        app: parser.app,
        current_dir: host.current_dir(),
    };
    let mut diagnostics = parser.diagnostics;
    diagnostics.extend(command_line.check_config_file(host));
    if diagnostics.is_empty() { Ok(command_line) } else { Err(Report::errors(diagnostics, parser.is_usage)) }
}

struct Parser {
    layers: Vec<Option<(Value, Origin)>>,
    app: Option<(String, std::ops::Range<usize>)>,
    diagnostics: Vec<Diagnostic>,
    is_usage: bool,
}

impl Default for Parser {
    fn default() -> Self {
        Self { layers: vec![None; settings::all().len()], app: None, diagnostics: vec![], is_usage: false }
    }
}

impl Parser {
    fn usage(&mut self, diagnostic: Diagnostic) {
        self.is_usage = true;
        self.diagnostics.push(diagnostic);
    }

    fn texts(&mut self, arguments: impl IntoIterator<Item = OsString>) -> Vec<String> {
        let mut texts = Vec::new();
        for argument in arguments {
            match argument.into_string() {
                Ok(text) => texts.push(text),
                Err(raw) => {
                    let shown = raw.to_string_lossy().into_owned();
                    self.usage(Diagnostic::error(format!("the argument `{shown}` is not valid UTF-8")));
                    texts.push(shown);
                }
            }
        }
        texts
    }

    /// The variables that mean something to us. Empty ones count as not set, except where empty has a meaning.
    fn variables(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> BTreeMap<&'static str, String> {
        let wanted: Vec<&'static str> =
            settings::all().iter().filter_map(|s| s.env).chain([ARGUMENTS]).collect();
        let mut found = BTreeMap::new();
        for (name, value) in environment {
            let Some(name) = wanted.iter().copied().find(|w| name.to_str() == Some(w)) else { continue };
            match value.into_string() {
                Ok(text) if text.trim().is_empty() && name != "FORWARDED_ALLOW_IPS" => {}
                Ok(text) => {
                    found.insert(name, text);
                }
                Err(_) => self.diagnostics.push(Diagnostic::error(format!("${name} is not valid UTF-8"))),
            }
        }
        found
    }

    fn variable(&mut self, name: &'static str, text: &str) {
        let Some((i, setting)) = settings::all().iter().enumerate().find(|(_, s)| s.env == Some(name)) else {
            return;
        };
        let value = match name {
            "PORT" => match text.trim().parse::<u16>() {
                Ok(port) => Ok(Value::List(vec![format!("0.0.0.0:{port}")])),
                Err(_) => Err("it must be a port, from 0 to 65535".to_owned()),
            },
            // gunicorn's words for true; everything else is false.
            "SENDFILE" => Ok(Value::Bool(matches!(
                text.trim().to_ascii_lowercase().as_str(),
                "y" | "1" | "yes" | "true"
            ))),
            _ => Value::from_text(setting.kind, text).map_err(|w| w.message),
        };
        match value {
            Ok(value) => self.layers[i] = Some((value, Origin::Variable(name))),
            Err(why) => {
                let place = variable_place(name, text);
                self.diagnostics.push(Diagnostic::error(format!("${name}: {why}")).at(Some(place)));
            }
        }
    }

    fn layer(&mut self, words: &Words, read: Arguments, own: bool) {
        for error in read.errors {
            self.usage(error);
        }
        let mut positional = read.positional.into_iter();
        if own {
            self.app = positional.next();
        }
        for (extra, range) in positional {
            let (message, help) = if own {
                (
                    format!("`{extra}` is one argument too many"),
                    "the application is the only argument that is no flag",
                )
            } else {
                (
                    format!("`{extra}` is no flag"),
                    "name the application on the command line, or as `wsgi_app`",
                )
            };
            self.usage(Diagnostic::error(message).at(Some(words.place(range))).help(help.to_owned()));
        }
        let mut seen = vec![false; self.layers.len()];
        for given in read.given {
            let setting = &settings::all()[given.setting];
            match flag_value(setting, &given) {
                Ok(value) => {
                    self.check_status(setting, &value, given.flag, words, &given);
                    self.store(given, value, own, &mut seen);
                }
                Err(wrong) => {
                    let place = words.place(given.range);
                    let message = format!("{}: {}", given.flag, wrong.message);
                    self.usage(Diagnostic::error(message).at(Some(place)).help(wrong.help));
                }
            }
        }
    }

    fn store(&mut self, given: Given, value: Value, own: bool, seen: &mut [bool]) {
        let repeats = settings::all()[given.setting].kind.repeats();
        let slot = &mut self.layers[given.setting];
        if repeats && seen[given.setting] {
            if let Some((old, Origin::CommandLine(_, ranges) | Origin::Environment(_, ranges))) = slot {
                old.append(value);
                ranges.push(given.range);
                return;
            }
        }
        seen[given.setting] = true;
        let ranges = vec![given.range];
        let origin = if own {
            Origin::CommandLine(given.flag, ranges)
        } else {
            Origin::Environment(given.flag, ranges)
        };
        *slot = Some((value, origin));
    }

    fn check_status(&mut self, setting: &Setting, value: &Value, name: &str, words: &Words, given: &Given) {
        if let Some(diagnostic) = refused(setting, value, name) {
            self.diagnostics.push(diagnostic.at(Some(words.place(given.range.clone()))));
        }
    }
}

fn flag_value(setting: &Setting, given: &Given) -> Result<Value, value::Wrong> {
    match (&given.value, setting.kind) {
        (None, Kind::Flag(meaning)) => Ok(Value::Bool(meaning)),
        (None, Kind::OptionalWord(words)) => Ok(Value::Text(words[1].to_owned())),
        (text, kind) => Value::from_text(kind, text.as_deref().unwrap_or_default()),
    }
}

/// The error for a setting that is not there yet, unless the value is its default.
fn refused(setting: &Setting, value: &Value, name: &str) -> Option<Diagnostic> {
    let Status::NotYet(why) = setting.status else { return None };
    if *value == default_value(setting) {
        return None;
    }
    let is_same = name.trim_start_matches('-').replace('-', "_") == setting.name;
    let of = if is_same { String::new() } else { format!(" ({})", setting.name) };
    Some(Diagnostic::error(format!("`{name}`{of} is not supported")).help(why.to_owned()))
}

/// The table's default. That each parses is a test of the table.
pub(crate) fn default_value(setting: &Setting) -> Value {
    match (setting.default, setting.kind) {
        (None, Kind::Pairs) => Value::Pairs(vec![]),
        (None, _) => Value::None,
        (Some("off"), Kind::Commas) => Value::List(vec![]),
        (Some(text), kind) => Value::from_text(kind, text).unwrap_or(Value::None),
    }
}

fn variable_place(name: &str, text: &str) -> Place {
    let start = name.len() + 1;
    let shown: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let whole = format!("{name}={shown}");
    let range = start..whole.len();
    Place { title: "environment".to_owned(), line: None, source: Some((whole, range)) }
}

impl CommandLine {
    /// The settings file to evaluate: what `-c` names, else `gunicorn.conf.py` of the current directory if it is
    /// there.
    pub fn config_file(&self) -> Option<ConfigFile> {
        self.config_file_with(&System)
    }

    /// [`CommandLine::config_file`] on a machine that the caller describes.
    pub fn config_file_with(&self, host: &dyn Host) -> Option<ConfigFile> {
        let Some(text) = self.text("config") else {
            let path = self.current_dir.join("gunicorn.conf.py");
            return (host.entry(&path) == Entry::File).then_some(ConfigFile::Path(path));
        };
        if let Some(module) = text.strip_prefix("python:") {
            return Some(ConfigFile::Module(module.to_owned()));
        }
        Some(ConfigFile::Path(self.current_dir.join(text.strip_prefix("file:").unwrap_or(text))))
    }

    /// The application as the command line names it.
    pub fn app(&self) -> Option<&str> {
        self.app.as_ref().map(|(app, _)| app.as_str())
    }

    /// The directory to be in when the settings file is evaluated; absolute.
    pub fn chdir(&self) -> PathBuf {
        lower::join(&self.current_dir, self.text("chdir").unwrap_or("."))
    }

    /// Directories to put in front of `sys.path` for it; absolute.
    pub fn pythonpath(&self) -> Vec<PathBuf> {
        let base = self.chdir();
        match self.layer("pythonpath") {
            Some((Value::List(list), _)) => list.iter().map(|d| lower::join(&base, d)).collect(),
            _ => vec![],
        }
    }

    /// The interpreter that `--python` names; absolute, or a bare name to look for on `$PATH`.
    pub fn python(&self) -> Option<PathBuf> {
        self.text("python").map(|text| lower::program(&self.current_dir, text))
    }

    fn layer(&self, name: &str) -> Option<&(Value, Origin)> {
        settings::find(name).and_then(|(i, _)| self.layers.get(i)).and_then(Option::as_ref)
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.layer(name) {
            Some((Value::Text(text), _)) => Some(text),
            _ => None,
        }
    }

    fn check_config_file(&self, host: &dyn Host) -> Option<Diagnostic> {
        let (_, origin) = self.layer("config")?;
        let text = self.text("config")?;
        let place = self.place(origin, 0, None, host);
        if text.strip_prefix("python:").is_some_and(|m| !lower::is_dotted_name(m)) {
            let error = Diagnostic::error(format!("`{text}` names no Python module"));
            return Some(error.at(place).help("write it as `python:package.module`".to_owned()));
        }
        let Some(ConfigFile::Path(path)) = self.config_file_with(host) else { return None };
        let is_python = text.starts_with("file:") || path.extension().is_some_and(|e| e == "py");
        if !is_python {
            let error = Diagnostic::error(format!(
                "`{text}` would be read as nginx's language, which is not supported yet"
            ));
            let help = format!("a settings file ends in `.py`; write `-c file:{text}` if this one is Python");
            return Some(error.at(place).help(help));
        }
        match host.entry(&path) {
            Entry::File => None,
            Entry::Directory => Some(Diagnostic::error(format!("`{text}` is a directory")).at(place)),
            Entry::Missing => {
                Some(Diagnostic::error(format!("the settings file `{text}` does not exist")).at(place))
            }
        }
    }

    /// All sources merged, lowered to the model and checked: defaults and variables, then the settings file, then
    /// `GUNICORN_CMD_ARGS`, then the command line.
    pub fn merge(&self, file: Option<&SettingsFile>) -> Result<Merged, Report> {
        self.merge_with(file, &System)
    }

    /// [`CommandLine::merge`] on a machine that the caller describes.
    pub fn merge_with(&self, file: Option<&SettingsFile>, host: &dyn Host) -> Result<Merged, Report> {
        let mut diagnostics = Vec::new();
        let mut values = Vec::with_capacity(settings::all().len());
        for (setting, layer) in settings::all().iter().zip(&self.layers) {
            let from_file = file.and_then(|f| self.file_value(setting, f, host, &mut diagnostics));
            values.push(match (layer, from_file) {
                (Some((_, Origin::Variable(_))), Some(value)) | (None, Some(value)) => value,
                (Some(layer), _) => layer.clone(),
                (None, None) => (default_value(setting), Origin::Default),
            });
        }
        if let Some(file) = file {
            self.unknown_names(file, host, &mut diagnostics);
        }
        let effective = Effective::new(values, file.map(|f| f.path.clone()));
        lower::lower(&lower::Input { command_line: self, file, host }, effective, diagnostics)
    }

    fn file_value(
        &self,
        setting: &'static Setting,
        file: &SettingsFile,
        host: &dyn Host,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<(Value, Origin)> {
        let name = setting.name;
        let origin = Origin::File(file.lines.get(name).copied());
        let is_hook = matches!(setting.kind, Kind::Hook(_));
        let json = file.values.get(name);
        if is_hook && (file.hooks.iter().any(|h| h == name) || json.is_some_and(Json::is_string)) {
            // gunicorn also takes the dotted name of a function.
            let place = self.place(&origin, 0, Some(file), host);
            diagnostics.extend(refused(setting, &Value::Bool(true), name).map(|d| d.at(place)));
            return Some((Value::Text(name.to_owned()), origin));
        }
        let json = json?;
        let place = || self.place(&origin, 0, Some(file), host);
        if setting.command_line_only {
            let message =
                format!("`{name}` is read before the settings file, so that it cannot be set in it");
            let help = setting.long_flag().map(|f| format!("give it on the command line: `{f}`"));
            diagnostics.push(Diagnostic::error(message).at(place()).help(help));
            return None;
        }
        if name == "config" {
            let note = Diagnostic::new(Severity::Warning, "`config` means nothing in a settings file");
            diagnostics.push(note.at(place()));
            return None;
        }
        if json.is_null() {
            return Some((default_value(setting), origin));
        }
        match Value::from_json(setting.kind, json) {
            Ok(value) => {
                diagnostics.extend(refused(setting, &value, name).map(|d| d.at(place())));
                Some((value, origin))
            }
            Err(wrong) => {
                let message = format!("{name}: {}", wrong.message);
                diagnostics.push(Diagnostic::error(message).at(place()).help(wrong.help));
                None
            }
        }
    }

    /// Names that are no settings are Python's own business; one that looks like a setting is a likely slip.
    fn unknown_names(&self, file: &SettingsFile, host: &dyn Host, diagnostics: &mut Vec<Diagnostic>) {
        let lines = file.lines.keys().filter(|name| !file.values.contains_key(*name));
        for name in file.values.keys().chain(lines) {
            if settings::find(name).is_some() || name.starts_with('_') {
                continue;
            }
            let names = settings::all().iter().map(|s| s.name);
            let Some(near) = nearest(name, names) else { continue };
            if file.values.contains_key(near) || file.hooks.iter().any(|h| h == near) {
                continue;
            }
            let origin = Origin::File(file.lines.get(name).copied());
            let warning =
                Diagnostic::new(Severity::Warning, format!("`{name}` is no setting and is ignored"));
            let place = self.place(&origin, 0, Some(file), host);
            diagnostics.push(warning.at(place).help(format!("did you mean `{near}`?")));
        }
    }

    /// The place of a value: of its `item`th part, where it was given in parts.
    pub(crate) fn place(
        &self,
        origin: &Origin,
        item: usize,
        file: Option<&SettingsFile>,
        host: &dyn Host,
    ) -> Option<Place> {
        let part = |words: &Words, ranges: &[std::ops::Range<usize>]| {
            ranges.get(item).or(ranges.first()).map(|r| words.place(r.clone()))
        };
        match origin {
            Origin::Default | Origin::Application => None,
            Origin::Variable(name) => self.variables.get(name).map(|text| variable_place(name, text)),
            Origin::Environment(_, ranges) => part(&self.environment, ranges),
            Origin::CommandLine(_, ranges) => part(&self.arguments, ranges),
            Origin::File(line) => file.map(|f| file_place(&f.path, *line, host)),
        }
    }

    /// The place at the end of the command line, where something is missing.
    pub(crate) fn end(&self) -> Place {
        self.arguments.end()
    }

    /// The place of the application's name on the command line.
    pub(crate) fn app_place(&self) -> Option<Place> {
        self.app.as_ref().map(|(_, range)| self.arguments.place(range.clone()))
    }

    /// Where the program was started.
    pub(crate) fn current_dir(&self) -> &Path {
        &self.current_dir
    }
}

fn file_place(path: &str, line: Option<u32>, host: &dyn Host) -> Place {
    let text = line.and_then(|n| {
        let source = host.source(Path::new(path))?;
        let text = source.lines().nth((n as usize).checked_sub(1)?)?.to_owned();
        let start = text.len() - text.trim_start().len();
        let end = text.trim_end().len().max(start);
        Some((text, start..end))
    });
    Place { title: path.to_owned(), line, source: text }
}
