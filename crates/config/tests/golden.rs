//! Golden files: `NAME.in` beside `NAME.out`. `UPDATE_GOLDEN=1` writes them anew; read the difference.
//!
//! An input has lines `$ arguments` (split as a shell would), `NAME=value` (environment), and after a line
//! `--- PATH` the text of a settings file, then after `--- json` what it came to. The output is the report or the
//! notes, then what differs from the model of a bare `monoceros app`, as `path = value`.

mod machine;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use config::gunicorn::parse_command_line_with;
use config::{Merged, Report, SettingsFile};
use machine::Machine;
use serde_json::Value as Json;

#[derive(Default)]
struct Case {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    source: Option<(String, String)>,
    file: Option<SettingsFile>,
}

fn read(text: &str) -> Case {
    let mut case = Case::default();
    let mut parts = text.split("--- ");
    for line in parts.next().unwrap().lines() {
        if let Some(arguments) = line.strip_prefix("$ ") {
            case.arguments = shell(arguments);
        } else if let Some((name, value)) = line.split_once('=') {
            case.environment.push((name.to_owned(), value.to_owned()));
        }
    }
    for part in parts {
        let (title, body) = part.split_once('\n').unwrap();
        if title == "json" {
            let mut file: SettingsFile = serde_json::from_str(body).unwrap();
            if let Some((path, _)) = &case.source {
                file.path.clone_from(path);
            }
            case.file = Some(file);
        } else {
            case.source = Some((title.to_owned(), body.to_owned()));
        }
    }
    case
}

/// Words between spaces; single quotes keep them together.
fn shell(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut begun) = (String::new(), false, false);
    for c in text.chars() {
        match c {
            '\'' => (quoted, begun) = (!quoted, true),
            ' ' if !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

fn run(case: &Case) -> Result<Merged, Report> {
    let machine = Machine { source: case.source.clone() };
    let arguments = case.arguments.iter().map(OsString::from);
    let environment = case.environment.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
    parse_command_line_with(arguments, environment, &machine)?.merge_with(case.file.as_ref(), &machine)
}

fn flatten(prefix: &str, json: &Json, into: &mut BTreeMap<String, String>) {
    match json {
        Json::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, value, into);
            }
        }
        other => {
            into.insert(prefix.to_owned(), other.to_string());
        }
    }
}

fn flat(merged: &Merged) -> BTreeMap<String, String> {
    let json = serde_json::to_value(&merged.model).unwrap();
    let back: config::Model = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(back, merged.model, "the model crosses as JSON unchanged");
    let mut rows = BTreeMap::new();
    flatten("", &json, &mut rows);
    rows
}

fn output(case: &Case) -> String {
    match run(case) {
        Err(report) => format!("exit {}\n\n{}", report.exit_code(), report.render(false)),
        Ok(merged) => {
            let bare = Case { arguments: vec!["monoceros".into(), "app".into()], ..Case::default() };
            let bare =
                if case.arguments == bare.arguments && case.environment.is_empty() && case.file.is_none() {
                    BTreeMap::new()
                } else {
                    flat(&run(&bare).unwrap())
                };
            let mut text = merged.notes.render(false);
            if !text.is_empty() {
                text.push('\n');
            }
            let rows = flat(&merged);
            for (path, value) in &rows {
                if bare.get(path) != Some(value) {
                    let _ = writeln!(text, "{path} = {value}");
                }
            }
            for path in bare.keys().filter(|p| !rows.contains_key(*p)) {
                let _ = writeln!(text, "{path} is not there");
            }
            if merged.print_config {
                text.push('\n');
                text.push_str(&merged.settings.print_config());
            }
            text
        }
    }
}

#[test]
fn golden_files() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let mut count = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "in") {
            continue;
        }
        count += 1;
        let is = output(&read(&fs::read_to_string(&path).unwrap()));
        let expected_path = path.with_extension("out");
        if update {
            fs::write(&expected_path, &is).unwrap();
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if is != expected {
            wrong.push(format!("{}:\n--- expected\n{expected}\n--- is\n{is}", path.display()));
        }
    }
    assert!(count >= 15, "only {count} golden files found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
