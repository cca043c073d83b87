//! The lines that say what is served where.

use std::fmt::Write as _;

use config::model::http::Http;
use config::model::{App, ErrorTarget, LogTarget, Logs, Model, WorkerClass};

use crate::configuration::{Configuration, Prepared};

/// How many names a line has at most.
const SHOWN: usize = 12;

/// What a reload has changed of these lines.
pub(crate) fn changes(old: &Configuration, new: &Configuration) -> Vec<String> {
    let all = |configuration: &Configuration| {
        let http = configuration.prepared.as_ref().and_then(|p| p.model.http.as_deref());
        http.map_or_else(|| lines(configuration), |http| site_lines(configuration, http))
    };
    let before = all(old);
    let mut changed = all(new);
    changed.retain(|line| !before.contains(line));
    changed
}

/// Five lines, once everything is ready.
pub(crate) fn lines(configuration: &Configuration) -> Vec<String> {
    let Some(prepared) = &configuration.prepared else { return vec![] };
    let model = &prepared.model;
    let mut lines = vec![
        format!("Monoceros {} is ready (pid {})", env!("CARGO_PKG_VERSION"), std::process::id()),
        format!("Listening at: {}", join(urls(prepared))),
        statics(model),
        application(model, configuration),
        logs(model),
    ];
    lines.extend(certificates(model));
    lines
}

/// Whose certificates there are, and how to trust one's own.
fn certificates(model: &Model) -> Vec<String> {
    let mut lines = Vec::new();
    for order in &model.acme.certificates {
        let issuers = order.issuers.iter().filter_map(|at| model.acme.issuers.get(*at as usize));
        let names = issuers.map(|issuer| issuer.name.clone());
        let identifiers = order.identifiers.iter().cloned();
        lines.push(format!("Certificate: for {} from {}", join(identifiers), join(names)));
    }
    for demand in &model.acme.on_demand {
        let issuers = demand.issuers.iter().filter_map(|at| model.acme.issuers.get(*at as usize));
        let names = join(issuers.map(|issuer| issuer.name.clone()));
        lines.push(format!("Certificates on demand: from {names}, for names that {} allows", demand.ask));
    }
    if let Some(local) = &model.acme.local {
        let path = ::acme::local::authority(local);
        let path = path.display();
        lines.push(format!(
            "Certificate: for {} from an authority of your own",
            join(local.identifiers.iter().cloned())
        ));
        lines.push(format!("To trust it: curl --cacert {path}, SSL_CERT_FILE={path} for Python's ssl, or for everything on this machine"));
        lines.push(format!("             sudo cp {path} /usr/local/share/ca-certificates/monoceros.crt && sudo update-ca-certificates"));
        lines.push("             (browsers keep authorities of their own: import the file there)".to_owned());
    }
    lines
}

/// Five lines for whoever has started it by an nginx.conf and its own name.
pub(crate) fn site_lines(configuration: &Configuration, http: &Http) -> Vec<String> {
    let Some(prepared) = &configuration.prepared else { return vec![] };
    let servers = http.servers.iter().map(|s| match String::from_utf8_lossy(&s.name) {
        name if name.is_empty() => "any name".to_owned(),
        name => name.into_owned(),
    });
    let servers = match servers.collect::<Vec<_>>() {
        none if none.is_empty() => "Servers: none (`server` blocks in `http` say what is served)".to_owned(),
        some => format!("Servers: {}", join(some.into_iter())),
    };
    let each = configuration.applications.iter().filter_map(|a| {
        let settled = a.settled.as_ref()?;
        let app = settled.merged.model.apps.first()?;
        Some(format!("{} ({}) in {}, Python {}", app.name, app.target, workers(app), settled.python))
    });
    let applications = match each.collect::<Vec<_>>() {
        none if none.is_empty() => {
            "Applications: none (`app NAME { wsgi module:callable; }` runs one)".to_owned()
        }
        some => format!("Applications: {}", join(some.into_iter())),
    };
    let files: Vec<String> =
        telemetry::access_log_files(http).iter().map(|path| path.display().to_string()).collect();
    let access = if files.is_empty() {
        "no access log file".to_owned()
    } else {
        format!("requests to {}", join(files.into_iter()))
    };
    vec![
        format!("Monoceros {} is ready (pid {})", env!("CARGO_PKG_VERSION"), std::process::id()),
        format!("Listening at: {}", join(urls(prepared))),
        servers,
        applications,
        format!("Logs: errors to {}, {access}", join(error_logs(&prepared.model.logs))),
    ]
}

/// Where errors go; files that stand in `http` only, or in a server, too.
fn error_logs(logs: &Logs) -> impl Iterator<Item = String> {
    let mut all = vec![target(&logs.error)];
    let named = logs.nginx.iter().flat_map(|logs| logs.main.iter().chain(logs.others.iter().flatten()));
    for log in named {
        if let ErrorTarget::File(path) = &log.target
            && path.as_os_str() != "/dev/null"
            && !all.contains(&path.display().to_string())
        {
            all.push(path.display().to_string());
        }
    }
    all.into_iter()
}

/// Where it listens.
fn urls(prepared: &Prepared) -> impl Iterator<Item = String> {
    let model = &prepared.model;
    prepared.listeners.iter().enumerate().map(move |(at, listener)| {
        let tls = if let Some(http) = &model.http {
            http.listens.get(at).is_some_and(|listen| listen.tls)
        } else {
            let address = model.listeners.get(at).map(|listener| &listener.address);
            model.tls.everywhere.is_some() && address.is_none_or(|a| !model.tls.plain.contains(a))
        };
        listener.url(tls)
    })
}

fn workers(app: &App) -> String {
    let class = match app.worker_class {
        WorkerClass::Sync => "sync".to_owned(),
        WorkerClass::Gthread => format!("gthread, {} threads each", app.threads),
    };
    if app.workers == 1 {
        format!("1 worker ({class})")
    } else {
        format!("{} workers ({class})", app.workers)
    }
}

fn statics(model: &Model) -> String {
    if model.statics.is_empty() {
        return "Static files: none (--static URL=DIR serves some without the application)".to_owned();
    }
    let each = model.statics.iter().map(|s| format!("{} from {}", s.url, s.dir.display()));
    format!("Static files: {}", join(each))
}

fn application(model: &Model, configuration: &Configuration) -> String {
    let [app] = model.apps.as_slice() else { return format!("Applications: {}", model.apps.len()) };
    let settled = configuration.applications.first().and_then(|a| a.settled.as_ref());
    let python = settled.map_or("", |s| &s.python);
    let mut line = format!("Application: {} in {}, Python {python}", app.target, workers(app));
    if app.preload {
        line.push_str(", preloaded");
    }
    if model.reload.is_some() {
        line.push_str(", reloaded when a file changes");
    }
    line
}

fn logs(model: &Model) -> String {
    let access = model
        .logs
        .access
        .as_ref()
        .map_or_else(|| "none (--access-logfile - shows requests)".to_owned(), target);
    let errors = match &model.logs.error {
        LogTarget::Stderr | LogTarget::Stdout if model.process.daemon && !model.logs.stdio_inheritance => {
            "nowhere (a daemon needs --error-logfile FILE)".to_owned()
        }
        log => target(log),
    };
    format!("Logs: errors to {errors}, access log {access}")
}

fn target(target: &LogTarget) -> String {
    match target {
        LogTarget::Stdout => "standard output".to_owned(),
        LogTarget::Stderr => "standard error".to_owned(),
        LogTarget::File(path) => path.display().to_string(),
    }
}

/// The first of them, and how many more there are: with ten thousand servers a line of all of them says nothing.
fn join(mut parts: impl Iterator<Item = String>) -> String {
    let mut joined = parts.by_ref().take(SHOWN).collect::<Vec<_>>().join(", ");
    match parts.count() {
        0 => {}
        1 => joined.push_str(" and one more"),
        more => {
            // Writing to a string does not fail.
            let _ = write!(joined, " and {more} more");
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_the_first_are_named_and_the_others_counted() {
        let joined = |n: usize| join((0..n).map(|n| n.to_string()));
        assert_eq!(joined(0), "");
        assert_eq!(joined(3), "0, 1, 2");
        assert!(joined(SHOWN).ends_with(", 11"));
        assert!(joined(SHOWN + 1).ends_with(", 11 and one more"));
        assert!(joined(700_000).ends_with(", 11 and 699988 more"));
    }
}
