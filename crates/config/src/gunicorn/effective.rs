//! Every setting with its effective value and where that comes from.

use std::fmt::Write as _;
use std::ops::Range;

use serde_json::{Map, Value as Json};

use super::settings::{self, Kind, Setting};
use super::value::Value;
use crate::report::Place;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The table.
    Default,
    /// An environment variable of its own.
    Variable(&'static str),
    /// The settings file, and the line where it is known.
    File(Option<u32>),
    /// `GUNICORN_CMD_ARGS`; the flag, and what to underline for each time it was given.
    Environment(&'static str, Vec<Range<usize>>),
    /// The command line, likewise.
    CommandLine(&'static str, Vec<Range<usize>>),
    /// The application's name on the command line.
    Application,
    /// A line of an nginx.conf's app block; `None` stands for what the block itself or the main part says.
    Directive(Option<Box<Place>>),
}

/// Every setting's effective value.
#[derive(Debug, Clone)]
pub struct Effective {
    values: Vec<(Value, Origin)>,
    settings_file: Option<String>,
}

impl Effective {
    pub(crate) fn new(values: Vec<(Value, Origin)>, settings_file: Option<String>) -> Self {
        debug_assert_eq!(values.len(), settings::all().len());
        Self { values, settings_file }
    }

    /// Every setting in the order of the reference.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Setting, &Value, &Origin)> {
        settings::all().iter().zip(&self.values).map(|(s, (v, o))| (s, v, o))
    }

    /// A setting's value by its name; `None` when there is no such setting.
    pub fn value(&self, name: &str) -> Option<&Value> {
        settings::find(name).and_then(|(i, _)| self.values.get(i)).map(|(v, _)| v)
    }

    pub(crate) fn set(&mut self, name: &str, value: Value) {
        if let Some(slot) = settings::find(name).and_then(|(i, _)| self.values.get_mut(i)) {
            slot.0 = value;
        }
    }

    pub(crate) fn set_from(&mut self, name: &str, value: Value, origin: Origin) {
        if let Some(slot) = settings::find(name).and_then(|(i, _)| self.values.get_mut(i)) {
            *slot = (value, origin);
        }
    }

    pub(crate) fn origin(&self, name: &str) -> &Origin {
        settings::find(name).and_then(|(i, _)| self.values.get(i)).map_or(&Origin::Default, |(_, o)| o)
    }

    /// Where a value comes from, in words: `default`, `$PORT`, `gunicorn.conf.py:3`, `--workers`.
    pub fn origin_text(&self, origin: &Origin) -> String {
        match origin {
            Origin::Default => "default".to_owned(),
            Origin::Variable(name) => format!("${name}"),
            Origin::File(line) => {
                let file = self.settings_file.as_deref().unwrap_or("settings file");
                line.map_or_else(|| file.to_owned(), |n| format!("{file}:{n}"))
            }
            Origin::Environment(flag, _) => format!("{flag} in GUNICORN_CMD_ARGS"),
            Origin::CommandLine(flag, _) => (*flag).to_owned(),
            Origin::Application => "command line".to_owned(),
            Origin::Directive(place) => place.as_ref().map_or_else(
                || "nginx.conf".to_owned(),
                |p| p.line.map_or_else(|| p.title.clone(), |line| format!("{}:{line}", p.title)),
            ),
        }
    }

    /// All settings but hooks, by their names, as gunicorn's `cfg` would hold them.
    pub fn to_mold_settings(&self) -> Map<String, Json> {
        let plain = self.iter().filter(|(s, ..)| !matches!(s.kind, Kind::Hook(_)));
        plain.map(|(s, v, _)| (s.name.to_owned(), v.to_json(s.kind))).collect()
    }

    /// What `--print-config` prints: every setting by name, sorted, its value and where that comes from.
    pub fn print_config(&self) -> String {
        let mut rows: Vec<_> = self.iter().collect();
        rows.sort_by_key(|(s, ..)| s.name);
        let name_width = rows.iter().map(|(s, ..)| s.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (setting, value, origin) in rows {
            let shown = value.show(setting.kind);
            let origin = self.origin_text(origin);
            let _ = writeln!(text, "{:name_width$} = {shown:<24}  # {origin}", setting.name);
        }
        text
    }
}
