//! `app`: the applications behind the edge, with gunicorn's settings by their own names.

use conf_syntax::{Directive, Span, Word};

use super::bound::AppBind;
use super::level::Level;
use super::reader::Reader;
use super::table::{Apply, Context, Count, Row};
use crate::gunicorn::app_block;
use crate::gunicorn::nearest::nearest;
use crate::gunicorn::settings;
use crate::model::http::Content;
use crate::report::Place;

pub(super) const ROWS: &[Row] = &[
    Row::one(
        "app",
        Context::HTTP,
        Apply::Custom(|r, _, d| r.app(d)),
        "",
        "An application: `wsgi module:callable;`, `directory`, `python`, `settings` (a settings file), and any of \
         [gunicorn's settings](settings.md) by its own name. `directory` is a path like any other of the file and \
         starts at the prefix; the other paths in the block start at `directory`, as if the program had been started \
         there. `bind` (`unix:/run/shop.sock`, `127.0.0.1:8001`) is where the application itself is asked as well, as \
         gunicorn is: nothing of `http` holds there, whoever connects may say by `X-Forwarded-…` for whom it speaks \
         (`forwarded_allow_ips`), and a `proxy_pass` to that address goes straight into the application's queue. Where \
         that would change something it goes by the socket, and `monoceros check` says why.",
    )
    .block()
    .repeats()
    .ours(),
    Row::one(
        "app_pass",
        Context::LOCATION.or(Context::LOCATION_IF).or(Context::LIMIT_EXCEPT),
        Apply::Custom(|r, l, d| r.app_pass(l, d)),
        "",
        "Hands requests to an application. Who asks, and by which scheme, stands in its environ by itself \
         (`REMOTE_ADDR`, `wsgi.url_scheme`), also as `set_real_ip_from` or a proxy in the app's `forwarded_allow_ips` \
         says it; what others claim in `X-Forwarded-…`, `Forwarded` or `X-Real-IP` does not reach it (a balancer that passes \
         bytes on, with the PROXY protocol, should not be named there: the fields are its clients' own). All other fields \
         are the client's own, unless `app_set_header` sets them: `proxy_set_header` does not hold here (with the app's \
         `bind` and `proxy_pass` it does).",
    )
    .ours(),
    Row::new(
        "app_set_header",
        Context::ALL,
        Count::exactly(2),
        Apply::Custom(|r, l, d| r.app_set_header(l, d)),
        "",
        "A field of the request as an application has it, in the place of what the client sends by that name (however \
         it writes `-` and `_`); an empty value removes it. What is set here replaces what is set around. With `app_cache`, name in \
         `app_cache_key` what pages are made of.",
    )
    .repeats()
    .ours(),
    Row::flag(
        "app_intercept_errors",
        Context::ALL.or(Context::LOCATION_IF),
        |l| &mut l.intercept_errors,
        "off",
        "`error_page` also replaces what an application answers.",
    )
    .ours(),
];

/// An application as its block has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppBlock {
    /// What `app_pass` calls it.
    pub name: String,
    /// Where the block stands.
    pub place: Place,
    /// Its name in the text.
    pub span: Span,
    /// `wsgi module:callable`
    pub target: Option<AppSetting>,
    /// `directory`: where the application is imported.
    pub directory: Option<AppSetting>,
    /// `python`: the interpreter.
    pub python: Option<AppSetting>,
    /// `settings`: the settings file.
    pub settings: Option<AppSetting>,
    /// gunicorn's settings in the order of the block.
    pub values: Vec<AppSetting>,
    /// The addresses of `bind`.
    pub binds: Vec<AppBind>,
}

/// One line of an `app` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSetting {
    /// gunicorn's name of it, or `wsgi`, `directory`, `python`, `settings`.
    pub name: &'static str,
    /// The words behind it; at least one.
    pub words: Vec<String>,
    /// Where it stands.
    pub place: Place,
    /// The same in the text.
    pub span: Span,
}

impl<'a> Reader<'a> {
    fn app_set_header(&mut self, level: &mut Level, directive: Directive<'a>) {
        // In an environ, `-` and `_` are the same.
        let frames = |name: &[u8]| {
            let name: Vec<u8> =
                name.iter().map(|b| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() }).collect();
            matches!(&name[..], b"content-length" | b"transfer-encoding")
        };
        if let Some(name) = directive.args.first().filter(|name| frames(name.value)) {
            let text = name.text().into_owned();
            self.error(name.span, format!("\"{text}\" of a request cannot be set"))
                .help("an application is told how long the body is that it has");
            return;
        }
        self.set_header(&mut level.app_set_headers, directive);
    }

    fn app(&mut self, directive: Directive<'a>) {
        let (Some(name), Some(block)) = (directive.args.first(), directive.block) else { return };
        let mut app = AppBlock {
            name: name.text().into_owned(),
            place: self.shown_place(name.span),
            span: name.span,
            target: None,
            directory: None,
            python: None,
            settings: None,
            values: Vec::new(),
            binds: Vec::new(),
        };
        if let Some(first) = self.apps.iter().find(|a| a.name == app.name) {
            let first = format!("{}:{}", first.place.title, first.place.line.unwrap_or_default());
            self.error(name.span, format!("duplicate app \"{}\"", app.name))
                .help(format!("it stands first at {first}"));
            return;
        }
        let mut is_later = false;
        let mut binds = Vec::new();
        for line in block.directives {
            self.begin(&line);
            is_later |= matches!(line.name.value, b"asgi" | b"rack");
            if line.name.value == b"bind" && line.block.is_none() && !line.args.is_empty() {
                binds.extend(line.args.iter().map(|word| (word, line.head())));
            } else {
                self.app_line(&mut app, line);
            }
        }
        self.app_binds(&mut app, &binds);
        if !is_later && app.target.is_none() && app.settings.is_none() {
            self.error(name.span, format!("app \"{}\" does not say what to run", app.name)).help(
                "write `wsgi module:callable;`, or a settings file with `wsgi_app` as \
             `settings gunicorn.conf.py;`",
            );
        }
        self.apps.push(app);
    }

    fn app_line(&mut self, app: &mut AppBlock, line: Directive<'a>) {
        let text = line.name.text().into_owned();
        if line.block.is_some() {
            self.error(line.name.span, format!("\"{text}\" in an app takes no block"));
            return;
        }
        if matches!(text.as_str(), "asgi" | "rack") {
            let help = "`wsgi module:callable;` is what is there";
            self.error(
                line.name.span,
                format!(
                    "`{text}` is not there yet ({} comes later)",
                    if text == "rack" { "Rack" } else { "ASGI" }
                ),
            )
            .help(help);
            return;
        }
        if self.has_equals_sign(&line, &text) {
            return;
        }
        if line.args.is_empty() {
            let is_flag =
                settings::find(&text).is_some_and(|(_, row)| matches!(row.kind, settings::Kind::Flag(_)));
            let help =
                if is_flag { format!("write `{text} on;`") } else { "a setting has a value".to_owned() };
            self.error(line.head(), format!("invalid number of arguments in \"{text}\" directive"))
                .help(help);
            return;
        }
        let setting = |reader: &Self, name: &'static str| AppSetting {
            name,
            words: line.args.iter().map(|w| w.text().into_owned()).collect(),
            place: reader.shown_place(line.head()),
            span: line.head(),
        };
        let own = match text.as_str() {
            "wsgi" => Some(("wsgi", &mut app.target)),
            "directory" => Some(("directory", &mut app.directory)),
            "python" => Some(("python", &mut app.python)),
            "settings" => Some(("settings", &mut app.settings)),
            _ => None,
        };
        if let Some((name, slot)) = own {
            if line.args.len() != 1 {
                self.error(line.head(), format!("invalid number of arguments in \"{name}\" directive"))
                    .help("it takes 1 word");
            } else if slot.is_some() {
                self.error(line.name.span, format!("\"{name}\" directive is duplicate"));
            } else {
                *slot = Some(setting(self, name));
            }
            return;
        }
        if let Some((name, instead)) = app_block::elsewhere(&text) {
            self.error(line.name.span, format!("`{name}` is no setting of an app")).help(instead);
            return;
        }
        let Some((_, row)) = settings::find(&text) else {
            self.unknown_setting(line.name, &text);
            return;
        };
        if !row.kind.repeats() && app.values.iter().any(|v| v.name == row.name) {
            self.error(line.name.span, format!("\"{}\" directive is duplicate", row.name));
            return;
        }
        if matches!(row.kind, settings::Kind::Hook(_)) {
            self.error(
                line.name.span,
                format!("`{}` is a function, and stands in a settings file", row.name),
            )
            .help("name the file with `settings gunicorn.conf.py;`");
            return;
        }
        app.values.push(setting(self, row.name));
    }

    /// `workers = 2;`, as a settings file has it.
    fn has_equals_sign(&mut self, line: &Directive<'a>, text: &str) -> bool {
        let first = line.args.first().map(|word| word.text().into_owned());
        let (name, value) = match (text.split_once('='), first.as_deref().and_then(|w| w.strip_prefix('='))) {
            (Some((name, value)), _) => (name, value.to_owned()),
            (None, Some(value)) => (text, value.to_owned()),
            _ => return false,
        };
        let is_known = matches!(name, "wsgi" | "directory" | "python" | "settings" | "bind")
            || settings::find(name).is_some();
        if !is_known {
            return false;
        }
        let rest =
            line.args.iter().skip(usize::from(!text.contains('='))).map(|word| word.text().into_owned());
        let words: Vec<String> = std::iter::once(value).chain(rest).filter(|word| !word.is_empty()).collect();
        self.error(line.head(), "a setting in an app has no `=`")
            .help(format!("write `{name} {};`", words.join(" ")));
        true
    }

    fn unknown_setting(&mut self, name: Word<'a>, text: &str) {
        let names = settings::all().iter().map(|s| s.name).chain(["wsgi", "directory", "python", "settings"]);
        let other = match text {
            "module" | "app" | "application" | "callable" => Some("wsgi"),
            "venv" | "virtualenv" | "home" | "interpreter" => Some("python"),
            "env" | "environment" | "env_file" => Some("raw_env"),
            "socket" | "http" => Some("bind"),
            "processes" => Some("workers"),
            _ => None,
        };
        let near = other.or_else(|| nearest(text, names));
        let problem = self.error(name.span, format!("unknown setting \"{text}\" in an app"));
        problem.help(match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "it takes `wsgi`, `directory`, `python`, `settings`, and gunicorn's settings".to_owned(),
        });
    }

    /// What is wrong with the values in the blocks, as far as it shows before a settings file is evaluated.
    pub(super) fn check_apps(&mut self) {
        for app in std::mem::take(&mut self.apps) {
            let places = [&app.target, &app.directory, &app.python, &app.settings]
                .into_iter()
                .flatten()
                .chain(&app.values);
            let places: Vec<(&Place, Span)> = places.map(|line| (&line.place, line.span)).collect();
            for wrong in app_block::check(&app, &self.prefix, self.machine) {
                let known = places.iter().find(|(place, _)| Some(*place) == wrong.place.as_ref());
                let problem = self.error(known.map_or(app.span, |(_, span)| *span), wrong.message);
                if let Some(help) = wrong.help {
                    problem.help(help);
                }
            }
            self.apps.push(app);
        }
    }

    fn app_pass(&mut self, level: &mut Level, directive: Directive<'a>) {
        let Some(word) = directive.args.first() else { return };
        if level.content.is_some() {
            self.error(directive.name.span, "\"app_pass\" directive is duplicate")
                .help("something else answers here already");
            return;
        }
        let name = word.text();
        // `app` is read in the first pass over `http`, locations in the second.
        if let Some(index) = self.apps.iter().position(|a| a.name == name) {
            level.content = Some(Content::App(index as u32));
            return;
        }
        let near = nearest(&name, self.apps.iter().map(|a| a.name.as_str()));
        let is_group = self.upstreams.iter().any(|group| !group.implicit && group.name == name);
        let help = match (near, pass_instead(&name, is_group)) {
            _ if name.contains('$') => {
                "`app_pass` takes the name of an `app` and no variable: write a `location` for each"
                    .to_owned()
            }
            (_, Some(pass)) => {
                format!("another server is asked by `{pass};`; `app_pass` takes an `app`'s name")
            }
            (Some(near), None) => format!("did you mean `{near}`?"),
            (None, None) => format!("write in `http`: `app {name} {{ wsgi module:callable; }}`"),
        };
        self.error(word.span, format!("unknown app \"{name}\"")).help(help);
    }

    fn shown_place(&self, span: Span) -> Place {
        Place::in_sources(self.sources, span)
    }
}

/// The directive for what is an address and no name, or the name of a group.
fn pass_instead(name: &str, is_group: bool) -> Option<String> {
    if name.starts_with("http://") || name.starts_with("https://") {
        return Some(format!("proxy_pass {name}"));
    }
    for (scheme, directive) in [("uwsgi", "uwsgi_pass"), ("fastcgi", "fastcgi_pass"), ("grpc", "grpc_pass")] {
        if let Some(rest) = name.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://")) {
            return Some(format!("{directive} {rest}"));
        }
    }
    let is_path = name.starts_with('/');
    let has_port = name.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let unix = if is_path { "unix:" } else { "" };
    (is_group || is_path || has_port || name.starts_with("unix:"))
        .then(|| format!("proxy_pass http://{unix}{name}"))
}
