//! Where configurations come from: gunicorn's command line, or an nginx.conf.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::iter;
use std::sync::Arc;

use config::invocation::Paths;
use config::nginx::NginxReport;
use config::{CommandLine, Diagnostic, Notes, Severity, Site};

use crate::configuration::{Application, Configuration, Prepared};
use crate::listen::{Bound, Patience};
use crate::state::Manners;

/// What a reload reads again.
#[derive(Debug)]
pub(crate) enum Origin {
    /// gunicorn's command line: the settings file is evaluated again, by the mold.
    Gunicorn(Box<CommandLine>),
    /// An nginx.conf.
    Nginx(SiteSource),
}

/// Which nginx.conf.
#[derive(Debug, Clone)]
pub(crate) struct SiteSource {
    pub(crate) paths: Paths,
    /// `-g`
    pub(crate) globals: Option<String>,
    /// The program was called by its own name: who started it wants to see what is served where.
    pub(crate) by_own_name: bool,
}

impl Origin {
    pub(crate) fn manners(&self) -> Manners {
        match self {
            Self::Gunicorn(_) => Manners::Gunicorn,
            Self::Nginx(_) => Manners::Nginx,
        }
    }

    /// The configuration as it stands now, with what it needs opened and bound. The error is lines for the log.
    pub(crate) fn read(
        &self,
        environment: &[(OsString, OsString)],
        bound: &[Arc<Bound>],
        systemd: &[Arc<Bound>],
    ) -> Result<Configuration, Vec<String>> {
        match self {
            Self::Gunicorn(command_line) => {
                let application = Application::new(None, (**command_line).clone(), environment);
                let applications = vec![application.map_err(|why| vec![why.line()])?];
                Ok(Configuration { applications, prepared: None, shutdown_timeout: None })
            }
            Self::Nginx(source) => {
                let plain = |report: NginxReport| {
                    let helps =
                        report.diagnostics.iter().map(|d| d.help.as_deref()).chain(iter::repeat(None));
                    let plain = |(line, help): (&String, Option<&str>)| {
                        let line = line.trim_start_matches("nginx: [emerg] ");
                        // As at the start: by the name nginx it is nginx's words alone.
                        match help.filter(|_| source.by_own_name) {
                            Some(help) => format!("{line} ({help})"),
                            None => line.to_owned(),
                        }
                    };
                    report.lines.iter().zip(helps).map(plain).collect::<Vec<_>>()
                };
                let site = source.read().map_err(plain)?;
                if source.by_own_name {
                    // As at the start, for whoever looks on: the log has no warnings if nobody asks for them.
                    let _ = write!(io::stdout(), "{}", warnings(&site).render(false));
                }
                for warning in &site.warnings {
                    telemetry::warning!("{}", warning.trim_start_matches("nginx: [warn] "));
                }
                configuration(site, environment, bound, systemd, Patience::None).map_err(plain)
            }
        }
    }
}

impl SiteSource {
    pub(crate) fn read(&self) -> Result<Site, NginxReport> {
        let mut site = Site::read(&self.paths, self.globals.as_deref(), &::listen::tls::Files)?;
        if !self.by_own_name {
            // nginx does not say it of addresses that cannot be bound.
            site.model.listeners.iter_mut().for_each(|listener| listener.place = None);
        }
        Ok(site)
    }
}

/// What is probably not meant; what changes nothing is told by `check`.
pub(crate) fn warnings(site: &Site) -> Notes {
    let warnings = site.notes.diagnostics.iter().filter(|d| d.severity != Severity::Note);
    Notes { diagnostics: warnings.cloned().collect() }
}

/// What a site needs, opened and bound.
pub(crate) fn configuration(
    site: Site,
    environment: &[(OsString, OsString)],
    bound: &[Arc<Bound>],
    systemd: &[Arc<Bound>],
    patience: Patience<'_>,
) -> Result<Configuration, NginxReport> {
    let Site { model, applications, shutdown_timeout, descriptors, .. } = site;
    let applications = interpreted(applications, environment)?;
    let prepared = Prepared::open(model, bound, systemd, patience);
    let prepared = prepared.map_err(|why| NginxReport::of(vec![Diagnostic::error(why)]))?;
    let prepared = Prepared { descriptors, ..prepared };
    Ok(Configuration { applications, prepared: Some(prepared), shutdown_timeout })
}

/// The applications with their interpreters, or all of those that have none.
pub(crate) fn interpreted(
    applications: Vec<config::Application>,
    environment: &[(OsString, OsString)],
) -> Result<Vec<Application>, NginxReport> {
    let mut good = vec![];
    let mut wrong = vec![];
    for config::Application { name, command_line } in applications {
        match Application::new(Some(name), command_line, environment) {
            Ok(application) => good.push(application),
            Err(why) => wrong.push(*why),
        }
    }
    if wrong.is_empty() { Ok(good) } else { Err(NginxReport::of(wrong)) }
}
