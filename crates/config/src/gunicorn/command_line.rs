//! What is known before the settings file is read, and the merge with what that file came to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value as Json};

use super::effective::{Effective, Origin};
use super::lower;
use super::nearest::nearest;
use super::settings::{self, Kind, Setting, Status};
use super::sources::{default_value, refused};
use super::value::Value;
use super::words::Words;
use crate::host::{Entry, Host, System};
use crate::invocation::{Language, is_python, language};
use crate::model::Model;
use crate::report::{Diagnostic, Notes, Place, Report, Severity};

/// What a settings file came to when Python evaluated it; the mold sends it as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SettingsFile {
    /// The file, or `python:MODULE`; empty (or null) when there is none.
    #[serde(default, deserialize_with = "text_or_null")]
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

fn text_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(deserializer).map(Option::unwrap_or_default)
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
    pub(super) arguments: Words,
    pub(super) environment: Words,
    pub(super) variables: BTreeMap<&'static str, String>,
    pub(super) layers: Vec<Option<(Value, Origin)>>,
    pub(super) app: Option<(String, std::ops::Range<usize>)>,
    /// Called by gunicorn's name: `-c` names Python, whatever its ending.
    pub(super) any_file_is_python: bool,
    pub(super) current_dir: PathBuf,
    /// It stands for an app block: where that is.
    pub(super) block: Option<Place>,
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
    /// Where settings stand whose values are looked at later.
    pub(super) places: Vec<(&'static str, Place)>,
}

impl Merged {
    /// Where a setting that names a file stands, and that of the access log's format.
    pub fn place_of(&self, name: &str) -> Option<Place> {
        self.places.iter().find(|(known, _)| *known == name).map(|(_, place)| place.clone())
    }

    /// All effective settings by gunicorn's names, hooks left out; the mold makes `cfg` of it.
    pub fn to_mold_settings(&self) -> Map<String, Json> {
        self.settings.to_mold_settings()
    }
}

/// Names of configurations, by which one is found in a directory.
pub const CONFIGURATIONS: [&str; 2] = ["nginx.conf", "gunicorn.conf.py"];

impl CommandLine {
    /// The settings file to evaluate: what `-c` names, else `gunicorn.conf.py` of the current directory if it is
    /// there.
    pub fn config_file(&self) -> Option<ConfigFile> {
        self.config_file_with(&System)
    }

    /// [`CommandLine::config_file`] on a machine that the caller describes.
    pub fn config_file_with(&self, host: &dyn Host) -> Option<ConfigFile> {
        let Some(text) = self.text("config") else {
            if self.block.is_some() {
                return None;
            }
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

    pub(super) fn check_config_file(&self, host: &dyn Host) -> Option<Diagnostic> {
        let (_, origin) = self.layer("config")?;
        let text = self.text("config")?;
        let place = self.place(origin, 0, None, host);
        if text.strip_prefix("python:").is_some_and(|m| !lower::is_dotted_name(m)) {
            let error = Diagnostic::error(format!("`{text}` names no Python module"));
            return Some(error.at(place).help("write it as `python:package.module`".to_owned()));
        }
        let Some(ConfigFile::Path(path)) = self.config_file_with(host) else { return None };
        let language = host.source(&path).and_then(|source| language(&source));
        if language == Some(Language::Nginx) {
            let error = Diagnostic::error(format!("`{text}` reads like an nginx.conf, not like settings"));
            let help = "an nginx.conf is given to `monoceros` by a name that does not end in `.py`; settings are Python: \
                        `workers = 4`";
            return Some(error.at(place).help(help.to_owned()));
        }
        if !self.any_file_is_python && !is_python(text) && language != Some(Language::Python) {
            // The program's own arguments have been looked at before: this is GUNICORN_CMD_ARGS.
            let error =
                Diagnostic::error(format!("`{text}` would be read as an nginx.conf, not as settings"));
            let help = format!(
                "a settings file ends in `.py`, or write `-c file:{text}`; an nginx.conf is given on the command line"
            );
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

    /// A configuration where the application is to be named: the flag was forgotten.
    pub(super) fn check_application(&self, host: &dyn Host) -> Option<Diagnostic> {
        let text = self.app()?;
        let path = self.current_dir.join(text);
        if host.entry(&path) == Entry::Directory {
            return self.check_directory(text, &path, host);
        }
        let by_name = Path::new(text).extension().is_some_and(|e| e == "conf");
        let is_conf = host.entry(&path) == Entry::File
            && (by_name || host.source(&path).and_then(|source| language(&source)) == Some(Language::Nginx));
        if !is_conf {
            return None;
        }
        let error = Diagnostic::error(format!("`{text}` is a file, where an application is named"));
        let help = format!("a configuration is given by `-c`: write `-c {text}`");
        Some(error.at(self.app_place()).help(help))
    }

    /// A directory where the application is to be named; a package is one, too, by its name alone.
    fn check_directory(&self, text: &str, path: &Path, host: &dyn Host) -> Option<Diagnostic> {
        let has = |name: &str| host.entry(&path.join(name)) == Entry::File;
        let known = CONFIGURATIONS.iter().find(|name| has(name));
        let is_module = has("__init__.py")
            || host.entry(&path.with_extension("py")) == Entry::File
            || ["chdir", "pythonpath"].iter().any(|name| self.layer(name).is_some());
        if lower::is_dotted_name(text) && (is_module || known.is_none()) {
            return None;
        }
        let help = match known {
            Some(name) => format!(
                "a configuration is given by `-c`: write `-c {}`",
                Path::new(text).join(name).display()
            ),
            None => "name the application in it, as `package.module:name`, or a configuration, as `-c FILE`"
                .to_owned(),
        };
        let error = Diagnostic::error(format!("`{text}` is a directory, where an application is named"));
        Some(error.at(self.app_place()).help(help))
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
                (Some((_, Origin::Variable(_))) | None, Some(value)) => value,
                (Some(layer), _) => layer.clone(),
                (None, None) => (default_value(setting), Origin::Default),
            });
        }
        if let Some(file) = file {
            self.unknown_names(file, host, &mut diagnostics);
        }
        let effective = Effective::new(values, file.map(|f| f.path.clone()).filter(|p| !p.is_empty()));
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
        let value = Value::from_json(setting.kind, json);
        if let Status::NotYet(_) = setting.status {
            let given = value.unwrap_or(Value::None);
            diagnostics.extend(refused(setting, &given, name).map(|d| d.at(place())));
            return None;
        }
        match value {
            Ok(value) => Some((value, origin)),
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
            if let Some((_, since)) = FORMER.iter().find(|(former, _)| former == name) {
                let origin = Origin::File(file.lines.get(name).copied());
                let text = format!("`{name}` changes nothing: {since}");
                let note = Diagnostic::new(Severity::Note, text);
                diagnostics.push(note.at(self.place(&origin, 0, Some(file), host)));
                continue;
            }
            let Some(near) = like_a_setting(name) else { continue };
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
            Origin::Directive(place) => place.as_deref().cloned(),
            Origin::Variable(name) => self.variables.get(name).map(|text| variable_place(name, text)),
            Origin::Environment(_, ranges) => part(&self.environment, ranges),
            Origin::CommandLine(_, ranges) => part(&self.arguments, ranges),
            Origin::File(line) => file.map(|f| file_place(&f.path, *line, host)),
        }
    }

    /// The place at the end of the command line, where something is missing.
    pub(crate) fn end(&self) -> Place {
        self.block.clone().unwrap_or_else(|| self.arguments.end())
    }

    /// Whether it stands for an app block.
    pub fn is_block(&self) -> bool {
        self.block.is_some()
    }

    /// Where `--python` stands, or what says that there is an application.
    pub fn python_place(&self) -> Option<Place> {
        let place = |name| self.layer(name).and_then(|(_, origin)| self.place(origin, 0, None, &System));
        place("python").or_else(|| self.block.clone())
    }

    /// Where the application is named.
    pub fn target_place(&self) -> Option<Place> {
        let named = self.layer("wsgi_app").and_then(|(_, origin)| self.place(origin, 0, None, &System));
        self.app_place().or(named).or_else(|| self.block.clone())
    }

    /// The place of the application's name on the command line.
    pub(crate) fn app_place(&self) -> Option<Place> {
        self.app.as_ref().map(|(_, range)| self.arguments.place(range.clone()))
    }

    /// Where the program was started.
    pub fn current_dir(&self) -> &Path {
        &self.current_dir
    }
}

/// Settings of older versions of gunicorn, which the newer ones ignore.
const FORMER: &[(&str, &str)] = &[
    ("debug", "it was a setting before gunicorn 19; `reload` is what restarts workers when a file changes"),
    ("django_settings", "it was a setting before gunicorn 19; set DJANGO_SETTINGS_MODULE in `raw_env`"),
    (
        "x_forwarded_for_header",
        "it was a setting before gunicorn 19; `forwarded_allow_ips` says whose X-Forwarded-For counts",
    ),
];

/// The setting that a name which is none was most likely meant as: one that is spelt nearly so, or whose flag is.
fn like_a_setting(name: &str) -> Option<&'static str> {
    let flag = |s: &Setting| s.flags.iter().map(|f| f.trim_start_matches("--").replace('-', "_")).collect();
    let flags: Vec<(&'static str, Vec<String>)> = settings::all().iter().map(|s| (s.name, flag(s))).collect();
    let of_flag =
        |flag: &str| flags.iter().find(|(_, all)| all.iter().any(|f| f == flag)).map(|(name, _)| *name);
    let names = settings::all().iter().map(|s| s.name);
    of_flag(name).or_else(|| nearest(name, names)).or_else(|| {
        let all = flags.iter().flat_map(|(_, all)| all.iter().map(String::as_str));
        nearest(name, all).and_then(of_flag)
    })
}

fn file_place(path: &str, line: Option<u32>, host: &dyn Host) -> Place {
    let text = line.and_then(|n| {
        let source = host.source(Path::new(path))?;
        let text = source.lines().nth((n as usize).checked_sub(1)?)?.to_owned();
        let start = text.len() - text.trim_start().len();
        let end = text.trim_end().len().max(start);
        Some((text, start..end))
    });
    Place::new(path.to_owned(), line, text)
}

pub(super) fn variable_place(name: &str, text: &str) -> Place {
    let start = name.len() + 1;
    let shown: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let whole = format!("{name}={shown}");
    let range = start..whole.len();
    Place::new("environment".to_owned(), None, Some((whole, range)))
}
