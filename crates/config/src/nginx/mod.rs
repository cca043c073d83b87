//! nginx's front end: a configuration file and all that it includes, read as nginx reads it.
//!
//! ```text
//! files ─ conf_syntax ─► directives ─ table, level ─► what each block says ─ settle ─► Http, listeners, apps
//! ```
//! Each directive is a row of a table, beside what it does: a file for each feature. Everything that is wrong is
//! told in one run, with the place shown or in nginx's own words.
#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a row's function is for readers of any lifetime, and the path of a method is for one"
)]

mod access;
mod acme;
mod address;
mod app;
mod beside;
mod blocks;
mod bodies;
mod bound;
mod built_in;
mod cache;
mod charset;
mod clients;
mod compression;
mod dav;
pub mod docs;
mod error_log;
mod errors;
mod files;
mod foreign;
mod gateway;
mod geo;
mod headers;
mod health;
mod http2;
mod later;
mod level;
mod limits;
mod listen;
mod location;
mod logs;
mod map;
pub mod modules;
mod pass;
mod problem;
mod process;
mod proxy;
mod proxy_tls;
mod reader;
mod resolver;
mod rewrite;
mod server_name;
mod settle;
mod sticky;
mod store;
mod subrequests;
mod table;
mod tls;
mod types;
mod units;
mod upstream;
mod user_id;
mod values;
mod variables;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use conf_syntax::{Directives, Loader, Parsed, Sources, SyntaxErrorKind, parse, parse_option};

pub(crate) use acme::{contact, identifier};
pub use app::{AppBlock, AppSetting};
pub use bound::AppBind;
pub use error_log::{ErrorLog, ErrorTarget};
pub use problem::NginxReport;
pub use process::MainSettings;
pub use sticky::cookie_value;
pub use upstream::Url;

use crate::host::{Host, System};
use crate::model::Listener;
use crate::model::http::{AccessTarget, Http};
use crate::model::tls::{self as tls_model, Vault};
use crate::report::{Notes, Severity};
use problem::Problems;
use reader::Reader;
use settle::Shared;
use table::{Context, Feature};

/// All rows by the headings of the reference.
const FEATURES: &[Feature] = &[
    ("Processes and connections", process::ROWS),
    ("Blocks", blocks::ROWS),
    ("Addresses", listen::ROWS),
    ("Names", server_name::ROWS),
    ("Applications", app::ROWS),
    ("Other servers", proxy::ROWS),
    ("Other servers", pass::PROXY),
    ("Other servers", pass::PROXY_BODIES),
    ("Other servers", store::PROXY),
    ("The cache of their answers", cache::PROXY),
    ("The cache of applications' answers", cache::APP),
    ("TLS to other servers", proxy_tls::PROXY),
    ("FastCGI", gateway::FASTCGI),
    ("FastCGI", pass::FASTCGI),
    ("FastCGI", pass::FASTCGI_BODIES),
    ("FastCGI", store::FASTCGI),
    ("FastCGI", cache::FASTCGI),
    ("uwsgi", gateway::UWSGI),
    ("uwsgi", pass::UWSGI),
    ("uwsgi", pass::UWSGI_BODIES),
    ("uwsgi", store::UWSGI),
    ("uwsgi", cache::UWSGI),
    ("uwsgi", proxy_tls::UWSGI),
    ("gRPC", proxy::GRPC),
    ("gRPC", pass::GRPC),
    ("gRPC", proxy_tls::GRPC),
    ("SCGI", gateway::SCGI),
    ("SCGI", pass::SCGI),
    ("SCGI", pass::SCGI_BODIES),
    ("SCGI", store::SCGI),
    ("SCGI", cache::SCGI),
    ("Groups of servers", upstream::ROWS),
    ("Health of servers", health::ROWS),
    ("Names while serving", resolver::ROWS),
    ("Rewriting", rewrite::ROWS),
    ("Variables", map::ROWS),
    ("Variables by address", geo::ROWS),
    ("Files", files::ROWS),
    ("Methods that change files", dav::ROWS),
    ("Media types", types::ROWS),
    ("Error pages", errors::ROWS),
    ("Clients", clients::ROWS),
    ("HTTP/2", http2::ROWS),
    ("TLS", tls::certificates::ROWS),
    ("TLS", tls::ROWS),
    ("TLS", tls::sessions::ROWS),
    ("TLS", tls::clients::ROWS),
    ("TLS", tls::stapling::ROWS),
    ("Certificates that come by themselves", acme::ROWS),
    ("Access", access::ROWS),
    ("Limits", limits::ROWS),
    ("Fields of the response", headers::ROWS),
    ("Identifiers of clients", user_id::ROWS),
    ("Compression", compression::ROWS),
    ("Bodies", bodies::ROWS),
    ("Character sets", charset::ROWS),
    ("Requests within requests", subrequests::ROWS),
    ("Logs", logs::ROWS),
];

/// A configuration that can be used.
#[derive(Debug)]
pub struct Nginx {
    /// The `http` block; without one it has no servers.
    pub http: Http,
    /// The sockets, in the order of [`Http::listens`].
    pub listeners: Vec<Listener>,
    /// The `app` blocks; [`Content::App`](crate::model::http::Content::App) is an index here.
    pub apps: Vec<AppBlock>,
    /// Certificates, and what servers offer by TLS.
    pub tls: tls_model::Model,
    /// Certificates that are ordered.
    pub acme: crate::model::acme::Model,
    /// What stands outside of `http`.
    pub main: MainSettings,
    /// The logs that [`Settings::error_log`](crate::model::http::Settings::error_log) names.
    pub error_logs: Vec<Vec<ErrorLog>>,
    /// Warnings, and notes of what changes nothing here. The notes are for `monoceros check` only.
    pub notes: Notes,
    /// The warnings as nginx says them: `nginx: [warn] … in FILE:LINE`.
    pub warnings: Vec<String>,
    /// All files that were read, for `nginx -T`.
    pub sources: Sources,
}

/// Reads the configuration of `main`, an absolute path. Relative paths in it are below `prefix`; `globals` are the
/// values of `-g`.
pub fn read(
    main: &Path,
    prefix: &Path,
    globals: &[String],
    loader: &mut dyn Loader,
    vault: &dyn Vault,
) -> Result<Nginx, NginxReport> {
    read_with(main, prefix, globals, loader, &System, vault)
}

/// As [`read`]; what the checks ask the machine, `machine` answers.
pub fn read_with(
    main: &Path,
    prefix: &Path,
    globals: &[String],
    loader: &mut dyn Loader,
    machine: &dyn Host,
    vault: &dyn Vault,
) -> Result<Nginx, NginxReport> {
    read_at(main, prefix, Some(&prefix.join("logs/access.log")), globals, loader, machine, vault)
}

/// As [`read_with`]; `access_log` is where requests are logged while nobody says anything about it.
pub(crate) fn read_at(
    main: &Path,
    prefix: &Path,
    access_log: Option<&Path>,
    globals: &[String],
    loader: &mut dyn Loader,
    machine: &dyn Host,
    vault: &dyn Vault,
) -> Result<Nginx, NginxReport> {
    let mut sources = Sources::default();
    let mut loader = built_in::WithBuiltIn::new(loader, main);
    let options: Vec<Parsed> =
        globals.iter().map(|text| parse_option(&mut sources, text.as_bytes(), main, &mut loader)).collect();
    let file = parse(&mut sources, main, &mut loader);
    let mut reader = Reader::new(&sources, machine, vault, main, prefix);
    reader.shared.default_access_log = access_log.map(logs::default_log);
    let outcome = lower(&options, &file, &sources, reader);
    match outcome {
        Err(problems) => Err(problems.into_report(&sources)),
        Ok((parts, problems)) => {
            let mut notes = problems.into_notes(&sources);
            notes.diagnostics.extend(loader.used.iter().map(|path| built_in::note(path, &sources)));
            Ok(Nginx {
                http: parts.http,
                listeners: parts.listeners,
                apps: parts.apps,
                tls: parts.tls,
                acme: parts.acme,
                main: parts.main,
                error_logs: parts.error_logs,
                notes: Notes { diagnostics: notes.diagnostics },
                warnings: notes.lines,
                sources,
            })
        }
    }
}

/// The name of every directive that is known, some of them twice.
pub fn directive_names() -> impl Iterator<Item = &'static str> {
    table::TABLE.rows.iter().map(|row| row.name)
}

/// What does not need the sources any more.
struct Parts {
    http: Http,
    listeners: Vec<Listener>,
    apps: Vec<AppBlock>,
    tls: tls_model::Model,
    acme: crate::model::acme::Model,
    main: MainSettings,
    error_logs: Vec<Vec<ErrorLog>>,
}

fn lower<'a>(
    options: &'a [Parsed],
    file: &'a Parsed,
    sources: &'a Sources,
    mut reader: Reader<'a>,
) -> Result<(Parts, Problems), Problems> {
    for parsed in options.iter().chain([file]) {
        reader.syntax_errors(parsed);
    }
    // What was not read to its end has enough to tell, and may be large.
    let is_too_large = |parsed: &Parsed| parsed.errors.iter().any(|e| e.kind == SyntaxErrorKind::TooLarge);
    if options.iter().chain([file]).any(is_too_large) {
        return Err(reader.problems);
    }
    let directives = options.iter().chain([file]).flat_map(|parsed| parsed.directives(sources).into_iter());
    for parsed in options.iter().chain([file]) {
        announce(&mut reader, parsed.directives(sources));
    }
    reader.main(directives);
    (reader.problems.line_at, reader.problems.hint) = (None, None);
    reader.check_apps();
    reader.check_zones();
    reader.check_caches();
    reader.check_recodings();
    reader.check_pools();
    reader.check_variables();
    reader.lead_passes();
    let (listeners, listens) = reader.listeners();
    if reader.problems.has_errors() {
        return Err(reader.problems);
    }
    let Reader {
        problems,
        shared,
        variables,
        main,
        servers,
        log_formats,
        zones,
        charset_maps,
        apps,
        offers,
        acme,
        upstreams,
        proxies: proxy_passes,
        health_checks,
        matches,
        caches,
        prefix,
        ..
    } = reader;
    let Shared {
        named_logs,
        settings,
        types,
        error_logs,
        proxies: proxy_settings,
        caches: cache_settings,
        ..
    } = shared;
    let prefix = std::os::unix::ffi::OsStringExt::into_vec(prefix.into_os_string());
    let mut unwritten_logs = named_logs;
    for log in settings.iter().flat_map(|settings| &settings.access_logs) {
        if let AccessTarget::File(path) = &log.target
            && let Some(path) = path.as_text()
        {
            unwritten_logs.remove(path);
        }
    }
    let unwritten_logs = unwritten_logs.into_iter().collect();
    let http = Http {
        unwritten_logs,
        listens,
        servers,
        defined: variables.list,
        settings,
        types: types.iter().map(|t| t.as_ref().clone()).collect(),
        log_formats,
        zones,
        charset_maps,
        upstreams,
        proxies: proxy_passes,
        health_checks,
        matches,
        proxy_settings,
        prefix,
        caches: caches.zones,
        cache_settings,
    };
    let error_logs = error_logs.iter().map(|logs| logs.to_vec()).collect();
    Ok((Parts { http, listeners, apps, tls: offers.model, acme: acme.model, main, error_logs }, problems))
}

/// Finds the variables that are defined anywhere and would otherwise be taken for built-in ones.
fn announce(reader: &mut Reader<'_>, directives: Directives<'_>) {
    let mut blocks = vec![directives];
    while let Some(directives) = blocks.pop() {
        for directive in directives {
            let place = match directive.name.value {
                b"set" | b"auth_request_set" => 0,
                b"map" | b"split_clients" => 1,
                b"geo" => directive.args.len().saturating_sub(1),
                b"types" | b"app" => continue,
                _ => {
                    blocks.extend(directive.block.map(|b| b.directives));
                    continue;
                }
            };
            if let Some(name) = directive.args.get(place).and_then(|w| w.value.strip_prefix(b"$")) {
                reader.variables.announce(&String::from_utf8_lossy(name));
            }
        }
    }
}

impl<'a> Reader<'a> {
    fn new(
        sources: &'a Sources,
        machine: &'a dyn Host,
        vault: &'a dyn Vault,
        main: &Path,
        prefix: &Path,
    ) -> Self {
        let mut reader = Self {
            sources,
            machine,
            vault,
            offers: tls::Offers::default(),
            identities: HashMap::new(),
            unverifiable: HashSet::new(),
            open_purges: Vec::new(),
            acme: acme::Acme::default(),
            prefix: prefix.to_owned(),
            conf_prefix: main.parent().unwrap_or(prefix).to_owned(),
            problems: Problems::default(),
            shared: Shared::default(),
            variables: variables::Variables::default(),
            main: MainSettings::default(),
            servers: Vec::new(),
            sockets: listen::Sockets::default(),
            log_formats: vec![logs::combined()],
            log_buffers: HashMap::new(),
            zones: Vec::new(),
            charset_maps: Vec::new(),
            upstreams: Vec::new(),
            misplaced_groups: Vec::new(),
            upstream: None,
            proxies: Vec::new(),
            passes_at: Vec::new(),
            resolving: Vec::new(),
            upstream_zones: HashMap::new(),
            thread_pools: Vec::new(),
            pools_used: Vec::new(),
            checks: Vec::new(),
            health_checks: Vec::new(),
            matches: Vec::new(),
            caches: cache::CacheZones::default(),
            zone_uses: HashMap::new(),
            apps: Vec::new(),
            patterns: HashMap::new(),
            context: Context::MAIN,
            http: None,
            location: None,
        };
        reader.shared.conf_prefix = reader.conf_prefix.as_os_str().as_encoded_bytes().to_vec();
        reader.shared.default_root = files::default_root(prefix);
        reader
    }

    fn syntax_errors(&mut self, parsed: &Parsed) {
        for error in &parsed.errors {
            let help = match (&error.related, &error.help) {
                (Some(related), help) => {
                    let place = self.place(related.span);
                    let help = help.as_ref().map_or_else(String::new, |h| format!("{h}; "));
                    Some(format!("{help}{} is at {place}", related.label))
                }
                (None, help) => help.clone(),
            };
            let problem = self.problems.push(Severity::Error, error.span, error.message.clone());
            problem.help = help;
        }
    }

    /// Once everything is read: a variable may be used before it is defined.
    fn check_variables(&mut self) {
        let mut found = Vec::new();
        for unknown in self.variables.unknown() {
            let Some(at) = unknown.at else { continue };
            // `userid` asks for it whether or not anybody defines it.
            if unknown.name == "uid_reset" {
                continue;
            }
            if unknown.is_empty {
                let what =
                    format!("`${}` is always empty here: it is about what is not there yet", unknown.name);
                found.push((Severity::Note, at, what, empty_instead(unknown.name)));
            } else if let Some(why) = unknown.later {
                let what = format!("`${}` is not there yet ({why})", unknown.name);
                found.push((Severity::Error, at, what, None));
            } else {
                // Each is compared with all, so that a few have to do.
                let names = self.variables.names();
                let near =
                    (found.len() < 100).then(|| crate::gunicorn::nearest::nearest(unknown.name, names));
                let help = match unknown.name {
                    // What everybody copies without the line that belongs to it.
                    "connection_upgrade" => Some(
                        "define it in `http`: `map $http_upgrade $connection_upgrade { default upgrade; '' close; }`"
                            .to_owned(),
                    ),
                    _ => near.flatten().map(|near| format!("did you mean `${near}`?")),
                };
                found.push((Severity::Error, at, format!("unknown \"{}\" variable", unknown.name), help));
            }
        }
        for (severity, at, message, help) in found {
            self.problems.push(severity, Some(at), message).help = help;
        }
    }
}

/// What an application has instead.
fn empty_instead(name: &str) -> Option<String> {
    let instead = match name {
        "upstream_queue_time" => "app_queue_time",
        _ => return None,
    };
    Some(format!("of an application, `${instead}` tells"))
}
