//! Golden files of nginx's language: `nginx/NAME.conf` beside `NAME.out`, written anew with `UPDATE_GOLDEN=1`.
//!
//! After a line `--- PATH` comes a file to include, after `--- -g` what that option says. The output is the report
//! in both forms, or the notes and what differs from the model of a bare server, as `path = value`.

mod certificates;
mod machine;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use certificates::Certificates;
use conf_syntax::MemoryLoader;
use config::nginx::{Nginx, NginxReport, read_with};
use machine::Machine;
use serde_json::Value as Json;

const MAIN: &str = "/etc/nginx/nginx.conf";

fn run(text: &str) -> Result<Nginx, NginxReport> {
    let mut loader = MemoryLoader::default();
    let mut globals = Vec::new();
    let mut parts = text.split("\n--- ");
    loader.insert(MAIN, parts.next().unwrap());
    for part in parts {
        let (title, body) = part.split_once('\n').unwrap();
        if title == "-g" {
            globals.push(body.to_owned());
        } else {
            loader.insert(Path::new("/etc/nginx").join(title), body);
        }
    }
    read_with(Path::new(MAIN), Path::new("/srv"), &globals, &mut loader, &Machine::default(), &Certificates)
}

/// Bytes as text; names of variables instead of their numbers would hide what the model holds.
fn shown(json: &Json) -> Json {
    match json {
        Json::Array(list) if !list.is_empty() && list.iter().all(|n| n.as_u64().is_some_and(|n| n < 256)) => {
            let bytes: Vec<u8> = list.iter().map(|n| n.as_u64().unwrap() as u8).collect();
            if bytes.iter().any(|b| *b >= 32) {
                return Json::String(bytes.escape_ascii().to_string());
            }
            json.clone()
        }
        Json::Array(list) => Json::Array(list.iter().map(shown).collect()),
        Json::Object(map) => Json::Object(map.iter().map(|(k, v)| (k.clone(), shown(v))).collect()),
        other => other.clone(),
    }
}

/// What differs from the settings of a bare server.
fn differences(settings: &Json, bare: &Json) -> Json {
    let (Json::Object(settings), Json::Object(bare)) = (settings, bare) else { panic!("no settings") };
    let different = settings.iter().filter(|(name, value)| bare[*name] != **value);
    Json::Object(different.map(|(n, v)| (n.clone(), v.clone())).collect())
}

fn rows(nginx: &Nginx, bare: &Nginx) -> BTreeMap<String, String> {
    let json = serde_json::to_value(&nginx.http).unwrap();
    let back: config::model::http::Http = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(back, nginx.http, "the model is shown as JSON unchanged");
    let packed = nginx.http.pack().unwrap();
    assert_eq!(config::model::http::Http::unpack(&packed).unwrap(), nginx.http, "and crosses packed");
    let mut http = shown(&json);
    let bare_settings = shown(&serde_json::to_value(&bare.http.settings[0]).unwrap());
    let bare_head = shown(&serde_json::to_value(&bare.http.servers[0].head).unwrap());
    for settings in http["settings"].as_array_mut().unwrap() {
        *settings = differences(settings, &bare_settings);
    }
    for server in http["servers"].as_array_mut().unwrap() {
        server["head"] = differences(&server["head"], &bare_head);
    }
    let mut rows = BTreeMap::new();
    flatten("", &http, &mut rows);
    let usual = [
        ("auto_redirect", "false"),
        ("content", "\"Files\""),
        ("tls", "false"),
        ("http2", "false"),
        ("proxy_protocol", "false"),
        ("caseless", "false"),
        ("negated", "false"),
        ("without_regex", "false"),
    ];
    rows.retain(|path, value| {
        let is_usual =
            usual.iter().any(|(name, usual)| path.ends_with(&format!(".{name}")) && value == usual);
        !is_usual && !path.starts_with("types.00") && !path.starts_with("log_formats.00")
    });
    rows
}

fn flatten(prefix: &str, json: &Json, into: &mut BTreeMap<String, String>) {
    let path = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    let is_field_of_settings = prefix.starts_with("settings.") && prefix.matches('.').count() == 2;
    match json {
        _ if is_field_of_settings => {
            into.insert(prefix.to_owned(), json.to_string());
        }
        Json::Object(map) => {
            for (key, value) in map {
                flatten(&path(key), value, into);
            }
        }
        Json::Array(list) if list.iter().any(|v| v.is_object() || v.is_array()) => {
            for (i, value) in list.iter().enumerate() {
                flatten(&path(&format!("{i:02}")), value, into);
            }
        }
        Json::Array(list) if list.is_empty() => {}
        Json::Null => {}
        other => {
            into.insert(prefix.to_owned(), other.to_string());
        }
    }
}

fn output(text: &str) -> String {
    let bare = run("events {} http { server { listen 80; } }").unwrap();
    match run(text) {
        Err(report) => format!("{}---\n{}", report.clone().report().render(false), report.nginx_text()),
        Ok(nginx) => {
            let mut text = nginx.notes.render(false);
            for warning in &nginx.warnings {
                let _ = writeln!(text, "{warning}");
            }
            text.push_str("---\n");
            if nginx.main != bare.main {
                let _ = writeln!(text, "{:#?}", nginx.main);
            }
            for logs in &nginx.error_logs {
                let _ = writeln!(text, "{logs:?}");
            }
            for app in &nginx.apps {
                let lines = [&app.target, &app.directory, &app.python, &app.settings].into_iter().flatten();
                let lines = lines.chain(&app.values).map(|s| format!("{} {:?}", s.name, s.words));
                let _ = writeln!(text, "app {}: {}", app.name, lines.collect::<Vec<_>>().join(", "));
            }
            for certificate in &nginx.tls.certificates {
                let _ = writeln!(text, "certificate {}", certificate.name);
            }
            for offer in &nginx.tls.offers {
                let _ = writeln!(text, "tls {}", serde_json::to_string(offer).unwrap());
            }
            for listener in &nginx.listeners {
                let _ = writeln!(text, "{}", serde_json::to_string(listener).unwrap());
            }
            for (path, value) in rows(&nginx, &bare) {
                let _ = writeln!(text, "{path} = {value}");
            }
            text
        }
    }
}

#[test]
fn golden_files() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nginx");
    let update = env::var_os("UPDATE_GOLDEN").is_some();
    let mut paths: Vec<_> = fs::read_dir(&directory).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "conf"));
    paths.sort();
    assert!(paths.len() > 20);
    let mut wrong = Vec::new();
    for path in paths {
        let found = output(&fs::read_to_string(&path).unwrap());
        let golden = path.with_extension("out");
        if update {
            fs::write(&golden, found).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != found {
            wrong.push(format!("{}:\n{found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_that_come_with_nginx_need_not_be_there() {
    let read = |include: &str| {
        let (http, location) = if include.ends_with("types") { (include, "") } else { ("", include) };
        run(&format!("events {{}} http {{ {http} server {{ listen 80; location / {{\n {location}\n }} }} }}"))
    };
    for name in
        ["mime.types", "proxy_params", "fastcgi_params", "fastcgi.conf", "uwsgi_params", "scgi_params"]
    {
        let nginx =
            read(&format!("include {name};")).unwrap_or_else(|report| panic!("{}", report.nginx_text()));
        assert_eq!(nginx.warnings, Vec::<String>::new(), "{name}");
        let notes = nginx.notes.render(false);
        let text = format!("note: there is no /etc/nginx/{name}: the `{name}` that Monoceros brings is used");
        assert!(notes.contains(&text) && notes.contains(&format!("include {name};")), "{notes}");
        // As for a site that was taken along from another machine.
        assert!(read(&format!("include /usr/local/nginx/conf/{name};")).is_ok());
        let own = read(&format!("include own/{name};")).unwrap_err().nginx_text();
        assert!(own.contains(&format!("open() \"/etc/nginx/own/{name}\" failed (2:")), "{own}");
    }
    let size = |include: &str| serde_json::to_string(&read(include).unwrap().http.settings).unwrap().len();
    assert!(size("include mime.types;") > size("") + 2_000);
    // One of the user's own comes first, and nothing is said of it.
    let own = "events {} http { include mime.types; server { listen 80; } }\n--- mime.types\ntypes { text/x-own own; }";
    let own = run(own).unwrap();
    assert!(own.notes.is_empty());
}

/// What nginx 1.22 said to each of these mistakes (`good` where it took it), one line below the other.
#[test]
fn mistakes_are_told_in_nginx_words() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nginx/words.txt");
    let table = fs::read_to_string(path).unwrap();
    let mut lines = table.lines();
    let mut wrong = String::new();
    let mut count = 0;
    while let (Some(mistake), Some(answer)) = (lines.next(), lines.next()) {
        let (place, text) = mistake.split_once(": ").unwrap();
        let config = match place {
            "main" => format!("events {{}} {text}"),
            "http" => format!("events {{}} http {{ {text} }}"),
            "server" => format!("events {{}} http {{ server {{ listen 127.0.0.1:18080; {text} }} }}"),
            _ => {
                format!("events {{}} http {{ server {{ listen 127.0.0.1:18080; location / {{ {text} }} }} }}")
            }
        };
        let found = match run(&config) {
            Ok(_) => "good".to_owned(),
            Err(report) => {
                report.lines[0].replace(" in /etc/nginx/nginx.conf:1", "").replace("nginx: [emerg] ", "")
            }
        };
        if found != answer.trim() {
            let _ = writeln!(wrong, "{mistake}\n    {found}");
        }
        count += 1;
    }
    assert!(count > 150);
    assert!(wrong.is_empty(), "{wrong}");
}
