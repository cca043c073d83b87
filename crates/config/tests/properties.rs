//! Whatever is on the command line, in the environment or in a settings file: an answer, never a panic; and what is
//! well formed means the same in every place.

mod machine;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap_complete::Shell;
use config::gunicorn::settings::{self, Kind, Status};
use config::gunicorn::{docs, parse_command_line_with};
use config::{CommandLine, Merged, Report, SettingsFile};
use machine::Machine;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

fn parse(arguments: &[String], environment: &[(&str, &str)]) -> Result<CommandLine, Report> {
    let arguments =
        std::iter::once("monoceros").chain(arguments.iter().map(String::as_str)).map(OsString::from);
    let environment = environment.iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
    parse_command_line_with(arguments, environment, &Machine::default())
}

fn run(
    arguments: &[String],
    environment: &[(&str, &str)],
    file: Option<&SettingsFile>,
) -> Result<Merged, Report> {
    parse(arguments, environment)?.merge_with(file, &Machine::default())
}

fn render(result: Result<Merged, Report>) {
    match result {
        Ok(merged) => {
            merged.notes.render(true);
            merged.settings.print_config();
            let json = serde_json::to_string(&merged.model).unwrap();
            let back: config::Model = serde_json::from_str(&json).unwrap();
            assert_eq!(back, merged.model);
        }
        Err(report) => {
            assert!(report.is_answer() || !report.diagnostics().is_empty());
            report.render(true);
            report.diagnostics().iter().for_each(|d| assert!(!d.line().is_empty()));
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    let flags: Vec<&'static str> = settings::all().iter().flat_map(|s| s.flags.iter().copied()).collect();
    let values = [
        "",
        "-",
        "--",
        "1",
        "-1",
        "0",
        "99999999999999999999",
        "1e400",
        "nan",
        "on",
        "*",
        "a:b()",
        "/é/=.",
        "unix:",
        "[",
        "::",
        "10k",
        "0o9",
    ];
    prop_oneof![
        proptest::sample::select(flags.clone()).prop_map(str::to_owned),
        (proptest::sample::select(flags), "\\PC{0,12}").prop_map(|(f, v)| format!("{f}={v}")),
        proptest::sample::select(values.to_vec()).prop_map(str::to_owned),
        "-{0,2}\\PC{0,10}",
        any::<String>(),
    ]
}

fn json_value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(|f| json!(f)),
        word().prop_map(Json::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            proptest::collection::vec((".{0,8}", inner), 0..4)
                .prop_map(|m| Json::Object(m.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_command_line_panics(arguments in proptest::collection::vec(word(), 0..8), env in any::<String>(), port in ".{0,8}") {
        render(run(&arguments, &[("GUNICORN_CMD_ARGS", &env), ("PORT", &port), ("FORWARDED_ALLOW_IPS", &env)], None));
    }

    #[test]
    fn no_bytes_panic(arguments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..5)) {
        let words = arguments.into_iter().map(OsString::from_vec).collect::<Vec<_>>();
        if let Ok(line) = parse_command_line_with(words.clone(), [], &Machine::default()) {
            render(line.merge_with(None, &Machine::default()));
        }
    }

    #[test]
    fn no_settings_file_panics(
        pairs in proptest::collection::vec((0..settings::all().len(), json_value()), 0..5),
        unknown in proptest::collection::vec((".{0,10}", json_value()), 0..3),
        lines in proptest::collection::vec((0..settings::all().len(), any::<u32>()), 0..5),
        source in any::<String>(),
    ) {
        let named = pairs.into_iter().map(|(i, v)| (settings::all()[i].name.to_owned(), v));
        let file = SettingsFile {
            path: "/srv/app/gunicorn.conf.py".into(),
            values: named.chain(unknown).collect(),
            hooks: vec!["pre_fork".into(), "none such".into()],
            lines: lines.into_iter().map(|(i, n)| (settings::all()[i].name.to_owned(), n % 4)).collect(),
        };
        let machine = Machine { source: Some((file.path.clone(), source)) };
        let line = parse(&["app".to_owned()], &[]).unwrap();
        render(line.merge_with(Some(&file), &machine));
    }

    /// What clap's command (the help, the completions) promises is what the reader does.
    #[test]
    fn clap_and_the_reader_agree(choices in proptest::collection::vec((0..settings::all().len(), 0..2usize), 0..6)) {
        let mut arguments = vec!["app".to_owned()];
        let mut seen = Vec::new();
        for (i, form) in choices {
            let s = &settings::all()[i];
            if s.flags.is_empty() || seen.contains(&i) {
                continue;
            }
            seen.push(i);
            let flag = s.flags[form % s.flags.len()];
            arguments.push(flag.to_owned());
            if s.kind.takes_value() {
                arguments.push(sample(s.kind).to_owned());
            }
        }
        let with_name = std::iter::once("monoceros".to_owned()).chain(arguments.iter().cloned());
        let by_clap = config::gunicorn::command().try_get_matches_from(with_name);
        prop_assert!(by_clap.is_ok(), "{arguments:?}");
        if let Err(report) = parse(&arguments, &[]) {
            // Only what is not there yet, or a settings file that does not exist, is refused: no error of usage.
            prop_assert_eq!(report.exit_code(), 1, "{}", report);
        }
    }
}

fn sample(kind: Kind) -> &'static str {
    match kind {
        Kind::Int(least, _) if least > 16 => "16384",
        Kind::Int(_, most) if most < 16 => "1",
        Kind::Int(..) | Kind::Seconds(_) | Kind::Size => "16",
        Kind::Words(words) | Kind::OptionalWord(words) => words[0],
        Kind::Switch => "on",
        Kind::Octal => "027",
        Kind::Pairs => "/a/=media",
        _ => "x",
    }
}

/// A default said aloud is the default: it passes everywhere, and changes nothing.
#[test]
fn every_default_may_be_given() {
    let bare = run(&["app".to_owned()], &[], None).unwrap();
    for s in settings::all() {
        let Some(default) = s.default.filter(|d| !d.is_empty()) else { continue };
        if s.name == "config" {
            continue;
        }
        let file = |value: Json| SettingsFile {
            path: "gunicorn.conf.py".into(),
            values: [(s.name.to_owned(), value)].into_iter().collect(),
            ..SettingsFile::default()
        };
        let of_python = bare.settings.to_mold_settings()[s.name].clone();
        let mut forms = vec![run(&["app".to_owned()], &[], Some(&file(Json::Null)))];
        if !matches!(s.name, "wsgi_app" | "default_proc_name") {
            forms.push(run(&["app".to_owned()], &[], Some(&file(of_python))));
        }
        if s.kind.takes_value() && !s.flags.is_empty() {
            for flag in s.flags {
                forms.push(run(&["app".to_owned(), format!("{flag}={default}")], &[], None));
            }
        }
        for form in forms {
            let mut form = form.unwrap_or_else(|report| panic!("{}: {report}", s.name));
            form.model.process.settings = None;
            if s.name == "default_proc_name" {
                form.model.process.proc_name.clone_from(&bare.model.process.proc_name);
            }
            assert_eq!(form.model, bare.model, "{}", s.name);
        }
    }
}

/// Nothing is accepted and ignored: what is not there is refused in each of the three places, by its name.
#[test]
fn what_is_not_there_is_refused_everywhere() {
    let mut count = 0;
    for s in settings::all().iter().filter(|s| matches!(s.status, Status::NotYet(_))) {
        let (text, json) = match s.kind {
            Kind::Flag(_) => ("", json!(s.default != Some("true"))),
            Kind::Int(..) => ("2", json!(2)),
            Kind::Seconds(_) => ("7", json!(7)),
            Kind::Octal => ("0777", json!(0o777)),
            Kind::Words(words) | Kind::OptionalWord(words) => (words[1], json!(words[1])),
            Kind::Dict => ("", json!({"version": 1, "handlers": {}})),
            Kind::Hook(_) => ("", json!("module.function")),
            _ => ("other", json!("other")),
        };
        let file = SettingsFile {
            path: "gunicorn.conf.py".into(),
            values: [(s.name.to_owned(), json)].into_iter().collect(),
            ..SettingsFile::default()
        };
        let report = run(&["app".to_owned()], &[], Some(&file)).err();
        assert!(report.is_some_and(|r| r.to_string().contains(s.name)), "{} in a file", s.name);
        for flag in s.flags {
            let argument = match s.kind {
                // The flag can only repeat the default.
                Kind::Flag(_) if s.default == Some("true") => continue,
                Kind::Flag(_) => (*flag).to_owned(),
                _ => format!("{flag}={text}"),
            };
            let report = run(&["app".to_owned(), argument.clone()], &[], None).err();
            assert!(report.is_some_and(|r| r.to_string().contains(flag)), "{argument}");
            let report = run(&["app".to_owned()], &[("GUNICORN_CMD_ARGS", &argument)], None).err();
            assert!(report.is_some_and(|r| r.to_string().contains("GUNICORN_CMD_ARGS")), "{argument}");
        }
        count += 1;
    }
    assert!(count > 30);
}

#[test]
fn the_committed_documents_are_fresh() {
    let docs_directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for document in docs::documents() {
        let written = std::fs::read_to_string(docs_directory.join(document.path)).unwrap_or_default();
        assert!(
            written == document.text,
            "docs/{} is stale: cargo run -p config --example gendocs -- docs",
            document.path
        );
    }
    assert!(docs::completions(Shell::Bash).contains("--static"));
}

#[test]
fn help_and_version_are_answers() {
    for (argument, expected) in [("--help", "--static"), ("-v", "monoceros (version ")] {
        let report = parse(&["--no-such-flag".to_owned(), argument.to_owned()], &[]).unwrap_err();
        assert!(report.is_answer() && report.exit_code() == 0);
        assert!(report.render(false).contains(expected));
    }
}
