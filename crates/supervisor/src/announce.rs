//! The lines that say what is served where.

use config::model::{LogTarget, Model, WorkerClass};

use crate::configuration::Configuration;

/// Five lines, once everything is ready.
pub(crate) fn lines(configuration: &Configuration) -> Vec<String> {
    let Some(prepared) = &configuration.prepared else { return vec![] };
    let model = &prepared.model;
    vec![
        format!("Monoceros {} is ready (pid {})", env!("CARGO_PKG_VERSION"), std::process::id()),
        format!("Listening at: {}", join(prepared.listeners.iter().map(|l| l.url()))),
        statics(model),
        application(model, configuration),
        logs(model),
    ]
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
    let class = match app.worker_class {
        WorkerClass::Sync => "sync".to_owned(),
        WorkerClass::Gthread => format!("gthread, {} threads each", app.threads),
    };
    let workers = if app.workers == 1 { "1 worker".to_owned() } else { format!("{} workers", app.workers) };
    let mut line = format!("Application: {} in {workers} ({class}), Python {python}", app.target);
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
    format!("Logs: errors to {}, access log {access}", target(&model.logs.error))
}

fn target(target: &LogTarget) -> String {
    match target {
        LogTarget::Stdout => "standard output".to_owned(),
        LogTarget::Stderr => "standard error".to_owned(),
        LogTarget::File(path) => path.display().to_string(),
    }
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
