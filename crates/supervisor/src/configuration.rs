//! What the configuration of a cycle came to: what the edge is told, and what each application's mold.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bridge::control::MoldSettings;
use config::model::App;
use config::model::http::Http;
use config::model::tls::{Listed, Which};
use config::{CommandLine, Diagnostic, Merged, Model, SettingsFile, Vault};
use serde_json::{Value, json};

use crate::listen::{self, Bound, Patience};
use crate::logs::{self, ErrorLog};
use crate::python;
use crate::state::{Outline, Plan};

/// One application: how its mold is started, and what its settings came to.
#[derive(Debug)]
pub(crate) struct Application {
    /// What `app_pass` calls it; gunicorn's only one has the name that the model gives it.
    pub(crate) name: Option<String>,
    /// What is known before its settings file is evaluated.
    pub(crate) command_line: CommandLine,
    /// The interpreter.
    pub(crate) python: PathBuf,
    /// Once its mold has evaluated the settings file.
    pub(crate) settled: Option<Settled>,
}

/// The settings of an application with those of its settings file.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) merged: Merged,
    /// The interpreter's version.
    pub(crate) python: String,
}

/// A configuration: of gunicorn's kind with its one application, or an nginx.conf with any number.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// In the order of the model's.
    pub(crate) applications: Vec<Application>,
    /// What the edge is told; gunicorn's settings say so only when they are merged. An nginx.conf's has its applications
    /// once all of them are settled.
    pub(crate) prepared: Option<Prepared>,
    /// `worker_shutdown_timeout`
    pub(crate) shutdown_timeout: Option<Duration>,
}

/// What the edge is told, with its sockets and logs open.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) model: Model,
    /// The model's `http`, as the edge gets it.
    pub(crate) packed: Option<OwnedFd>,
    pub(crate) listeners: Vec<Arc<Bound>>,
    pub(crate) error_log: ErrorLog,
    /// `worker_rlimit_nofile`: how many descriptors the edge may have; else what its connections need.
    pub(crate) descriptors: Option<u64>,
}

impl Application {
    /// Looks for the interpreter.
    pub(crate) fn new(
        name: Option<String>,
        command_line: CommandLine,
        environment: &[(OsString, OsString)],
    ) -> Result<Self, Box<Diagnostic>> {
        let variable = |name| variable(environment, name);
        let python = python::find(command_line.python(), variable("VIRTUAL_ENV"), variable("PATH"));
        let python = python.map_err(|missing| {
            let how = if name.is_some() { "`python PATH;`" } else { "`--python PATH`" };
            let error = Diagnostic::error(missing.to_string()).at(command_line.python_place());
            Box::new(error.help(format!("{} with {how}", missing.remedy())))
        })?;
        Ok(Self { name, command_line, python, settled: None })
    }

    /// Merges the settings file with everything else.
    pub(crate) fn settle(&mut self, settings: MoldSettings) -> Result<&Settled, config::Report> {
        let MoldSettings { path, values, hooks, lines, python } = settings;
        let lines = lines
            .into_iter()
            .filter_map(|(name, line)| Some((name, u32::try_from(line.as_u64()?).ok()?)))
            .collect();
        let file = path.map(|path| SettingsFile { path, values, hooks, lines });
        let mut merged = self.command_line.merge(file.as_ref())?;
        if let (Some(name), Some(app)) = (&self.name, merged.model.apps.first_mut()) {
            app.name.clone_from(name);
        }
        Ok(self.settled.insert(Settled { merged, python }))
    }
}

impl Settled {
    /// What the state decides by.
    pub(crate) fn plan(&self) -> Plan {
        let app = &self.merged.model.apps[0];
        Plan {
            workers: app.workers,
            threads: app.threads,
            graceful_timeout: app.graceful_timeout,
            boot_timeout: app.boot_timeout,
            max_rss: app.max_rss,
        }
    }

    /// The body of the mold's `configure`. `check`: only load the application.
    pub(crate) fn body(&self, check: bool) -> Value {
        json!({ "settings": self.merged.to_mold_settings(), "check": check })
    }
}

impl Configuration {
    /// What the state decides by.
    pub(crate) fn outline(&self) -> Outline {
        Outline { applications: self.applications.len(), shutdown_timeout: self.shutdown_timeout }
    }
}

impl Configuration {
    /// Once an application is settled: puts all of them into the model when it was the last.
    pub(crate) fn complete(&mut self) {
        let settled: Option<Vec<_>> = self.applications.iter().map(|a| a.settled.as_ref()).collect();
        if let (Some(settled), Some(prepared)) = (settled, &mut self.prepared) {
            let is_site = prepared.model.http.is_some();
            let app = |settled: &&Settled| {
                let Model { apps, forwarded, .. } = &settled.merged.model;
                let forwarded = is_site.then(|| Box::new(forwarded.clone()));
                Some(App { forwarded, ..apps.first()?.clone() })
            };
            prepared.model.apps = settled.iter().filter_map(app).collect();
        }
    }
}

impl Prepared {
    /// Opens the error log and binds what is not bound yet. The error is a sentence for the user.
    pub(crate) fn open(
        mut model: Model,
        bound: &[Arc<Bound>],
        systemd: &[Arc<Bound>],
        patience: Patience<'_>,
    ) -> Result<Self, String> {
        let wrong = load_certificates(&mut model);
        if !wrong.is_empty() {
            let texts: Vec<String> = wrong.into_iter().map(|(_, why)| why).collect();
            return Err(texts.join("; "));
        }
        crate::acme::fill(&mut model)?;
        let listeners = listen::bind_all(&mut model, bound, systemd, patience)?;
        let error_log = ErrorLog::open(&model)?;
        logs::make_states(&model)?;
        let packed = model.http.as_deref().map(pack).transpose()?;
        Ok(Self { model, packed, listeners, error_log, descriptors: None })
    }
}

/// The `http` block in a file in memory.
fn pack(http: &Http) -> Result<OwnedFd, String> {
    let packed = http.pack().map_err(|error| error.to_string())?;
    sys::sealed_memfd("monoceros-http", &packed)
        .map_err(|error| format!("The configuration cannot be put into memory: {error}"))
}

/// A variable of the environment.
fn variable<'a>(environment: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    environment.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_os_str())
}

/// Reads the certificates that the command line names and checks that they can be used; those of an nginx.conf have been
/// read with it. What it returns is wrong: the setting, and a sentence for the user.
pub(crate) fn load_certificates(model: &mut Model) -> Vec<(&'static str, String)> {
    let mut wrong = vec![];
    for certificate in &mut model.tls.certificates {
        let (Some(files), None) = (&certificate.files, &certificate.contents) else { continue };
        match ::listen::tls::Files.certificate(files) {
            Ok(contents) => certificate.contents = Some(contents),
            Err(fault) => {
                let (what, path) = match fault.which {
                    Which::Key => ("keyfile", &files.key),
                    _ => ("certfile", &files.chain),
                };
                wrong.push((what, format!("{what}: {} cannot be used: {}", path.display(), fault.why)));
            }
        }
    }
    for clients in model.tls.offers.iter_mut().filter_map(|offer| offer.clients.as_mut()) {
        if let Some(path) = clients.file.take() {
            match ::listen::tls::Files.list(&path, Listed::Certificates) {
                Ok(list) => clients.trusted = list,
                Err(why) => {
                    wrong.push(("ca_certs", format!("ca_certs: {} cannot be used: {why}", path.display())));
                }
            }
        }
    }
    wrong
}
