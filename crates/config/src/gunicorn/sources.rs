//! The sources that are there before any file is read: arguments, `GUNICORN_CMD_ARGS`, variables. Each is checked for
//! itself here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;

use super::argv::{self, Arguments, Given};
use super::command_line::{CommandLine, variable_place};
use super::effective::Origin;
use super::help;
use super::nearest::nearest;
use super::settings::{self, Kind, Setting, Status};
use super::value::{self, Value};
use super::words::Words;
use crate::host::{Host, System};
use crate::report::{Diagnostic, Place, Report, Severity};

const ARGUMENTS: &str = "GUNICORN_CMD_ARGS";

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
    let program = arguments.first().map_or("", |name| name.rsplit('/').next().unwrap_or_default());
    let any_file_is_python = program == "gunicorn";
    let is_check = !any_file_is_python && arguments.get(1).is_some_and(|word| word == "check");
    let arguments = Words::from_arguments(&arguments);
    let mut from_arguments = argv::read(&arguments);
    if is_check {
        // `monoceros check` is `--check-config`, and the application comes after it.
        let (_, range) = from_arguments.positional.remove(0);
        parser.store_check(range);
    }
    if from_arguments.help {
        return Err(Report::answer(help::help()));
    }
    if from_arguments.version {
        return Err(Report::answer(help::version()));
    }
    // A flag that is not known may have taken what follows it for its value.
    let is_read = from_arguments.errors.is_empty();
    let environment = match Words::from_shell(variables.get(ARGUMENTS).map_or("", String::as_str)) {
        Ok(words) => words,
        Err((why, place)) => {
            parser.usage(Diagnostic::error(format!("{ARGUMENTS}: {why}")).at(Some(place)));
            Words::default()
        }
    };
    let from_environment = argv::read(&environment);
    if from_environment.help {
        return Err(Report::answer(help::help()));
    }
    if from_environment.version {
        return Err(Report::answer(help::version()));
    }

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
        any_file_is_python,
        current_dir: host.current_dir(),
        block: None,
    };
    let mut diagnostics = parser.diagnostics;
    diagnostics.extend(command_line.check_config_file(host));
    let no_application = command_line.check_application(host);
    let is_told = no_application.is_some();
    diagnostics.extend(no_application);
    if diagnostics.is_empty() {
        return Ok(command_line);
    }
    // Nothing but a settings file could say something else: what is wrong with the other values is told in the same run.
    if command_line.config_file_with(host).is_none()
        && let Err(report) = command_line.merge_with(None, host)
    {
        let end = command_line.end();
        let others = report.diagnostics().iter().filter(|d| is_read || d.place.as_ref() != Some(&end));
        let others = others.filter(|d| !is_told || d.place != command_line.app_place());
        let others: Vec<Diagnostic> = others.filter(|d| !diagnostics.contains(d)).cloned().collect();
        diagnostics.extend(others.into_iter().filter(|d| d.severity == Severity::Error));
    }
    Err(Report::errors(diagnostics, parser.is_usage))
}

/// What the last `-c` among the arguments says, whatever else is wrong with them.
pub(crate) fn config_argument(arguments: &[OsString]) -> Option<String> {
    let texts: Vec<String> = arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let given = argv::read(&Words::from_arguments(&texts)).given;
    let last = given.into_iter().rfind(|g| settings::all()[g.setting].name == "config");
    last.and_then(|given| given.value)
}

/// The place of an argument, counted from the program's name.
pub(crate) fn argument_place(arguments: &[OsString], at: usize) -> Place {
    let texts: Vec<String> = arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let words = Words::from_arguments(&texts);
    words.place(words.range(at.saturating_sub(1), None))
}

struct Parser {
    layers: Vec<Option<(Value, Origin)>>,
    app: Option<(String, Range<usize>)>,
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
        let mut positional = read.positional.into_iter().peekable();
        if own {
            self.app = positional.next();
        }
        let order = self.app.as_ref().filter(|_| own && positional.peek().is_some());
        if let Some((word, range)) = order.cloned().filter(|(word, _)| is_nearly_check(word)) {
            let error = Diagnostic::error(format!("there is no command `{word}`"));
            self.usage(error.at(Some(words.place(range))).help("did you mean `check`?".to_owned()));
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
            let value = flag_value(setting, &given);
            if let Status::NotYet(_) = setting.status {
                let value = value.unwrap_or(Value::None);
                let refusal = refused(setting, &value, given.flag);
                self.diagnostics.extend(refusal.map(|d| d.at(Some(words.place(given.range)))));
                continue;
            }
            match value {
                Ok(value) => self.store(given, value, own, &mut seen),
                Err(wrong) => {
                    let place = words.place(given.range);
                    let message = format!("{}: {}", given.flag, wrong.message);
                    self.usage(Diagnostic::error(message).at(Some(place)).help(wrong.help));
                }
            }
        }
    }

    /// `check` in place of the flag.
    fn store_check(&mut self, range: Range<usize>) {
        if let Some((at, _)) = settings::find("check_config") {
            self.layers[at] = Some((Value::Bool(true), Origin::CommandLine("check", vec![range])));
        }
    }

    fn store(&mut self, given: Given, value: Value, own: bool, seen: &mut [bool]) {
        let repeats = settings::all()[given.setting].kind.repeats();
        let slot = &mut self.layers[given.setting];
        if repeats
            && seen[given.setting]
            && let Some((old, Origin::CommandLine(_, ranges) | Origin::Environment(_, ranges))) = slot
        {
            old.append(value);
            ranges.push(given.range);
            return;
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
}

/// Whether somebody meant `check` by it.
pub(crate) fn is_nearly_check(word: &str) -> bool {
    word != "check" && nearest(word, ["check"].into_iter()).is_some()
}

fn flag_value(setting: &Setting, given: &Given) -> Result<Value, value::Wrong> {
    match (&given.value, setting.kind) {
        (None, Kind::Flag(meaning)) => Ok(Value::Bool(meaning)),
        (None, Kind::OptionalWord(words)) => Ok(Value::Text(words[1].to_owned())),
        (text, kind) => Value::from_text(kind, text.as_deref().unwrap_or_default()),
    }
}

/// The error for a setting that is not there yet, unless the value is its default.
pub(super) fn refused(setting: &Setting, value: &Value, name: &str) -> Option<Diagnostic> {
    let Status::NotYet(why) = setting.status else { return None };
    if *value == default_value(setting) {
        return None;
    }
    let is_same = name.trim_start_matches('-').replace('-', "_") == setting.name;
    let of = if is_same { String::new() } else { format!(" ({})", setting.name) };
    Some(Diagnostic::error(format!("`{name}`{of} is not supported")).help(why.to_owned()))
}

/// The table's default. That each parses is a test of the table.
pub(super) fn default_value(setting: &Setting) -> Value {
    match (setting.default, setting.kind) {
        (None, Kind::Pairs) => Value::Pairs(vec![]),
        (None, _) => Value::None,
        (Some("off"), Kind::Commas) => Value::List(vec![]),
        (Some(text), kind) => Value::from_text(kind, text).unwrap_or(Value::None),
    }
}
