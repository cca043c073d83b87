//! Where configurations come from: gunicorn's command line, or an nginx.conf.

use std::ffi::OsString;
use std::sync::Arc;

use config::invocation::Paths;
use config::{CommandLine, Site};

use crate::configuration::{Application, Configuration, Prepared};
use crate::listen::Bound;
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
                let applications = vec![application.map_err(|why| vec![why])?];
                Ok(Configuration { applications, prepared: None, shutdown_timeout: None })
            }
            Self::Nginx(source) => {
                let site = source.read().map_err(|report| {
                    let plain = |line: &String| line.trim_start_matches("nginx: [emerg] ").to_owned();
                    report.lines.iter().map(plain).collect::<Vec<_>>()
                })?;
                for warning in &site.warnings {
                    telemetry::warning!("{}", warning.trim_start_matches("nginx: [warn] "));
                }
                configuration(site, environment, bound, systemd, false).map_err(|why| vec![why])
            }
        }
    }
}

impl SiteSource {
    pub(crate) fn read(&self) -> Result<Site, config::nginx::NginxReport> {
        Site::read(&self.paths, self.globals.as_deref(), &::listen::tls::Files)
    }
}

/// What a site needs, opened and bound. The error is a sentence for the user.
pub(crate) fn configuration(
    site: Site,
    environment: &[(OsString, OsString)],
    bound: &[Arc<Bound>],
    systemd: &[Arc<Bound>],
    patient: bool,
) -> Result<Configuration, String> {
    let Site { model, applications, shutdown_timeout, descriptors, .. } = site;
    let applications = applications
        .into_iter()
        .map(|a| Application::new(Some(a.name), a.command_line, environment))
        .collect::<Result<_, _>>()?;
    let prepared = Prepared { descriptors, ..Prepared::open(model, bound, systemd, patient)? };
    Ok(Configuration { applications, prepared: Some(prepared), shutdown_timeout })
}
