//! Where configurations come from: gunicorn's command line, or an nginx.conf.

use std::ffi::OsString;
use std::sync::Arc;

use config::CommandLine;

use crate::configuration::{Application, Configuration};
use crate::listen::Bound;
use crate::state::Manners;

/// What a reload reads again.
#[derive(Debug)]
pub(crate) enum Origin {
    /// gunicorn's command line: the settings file is evaluated again, by the mold.
    Gunicorn(CommandLine),
}

impl Origin {
    pub(crate) fn manners(&self) -> Manners {
        match self {
            Self::Gunicorn(_) => Manners::Gunicorn,
        }
    }

    /// The configuration as it stands now, with what it needs opened and bound. The error is lines for the log.
    pub(crate) fn read(
        &self,
        environment: &[(OsString, OsString)],
        _bound: &[Arc<Bound>],
        _systemd: &[Arc<Bound>],
    ) -> Result<Configuration, Vec<String>> {
        match self {
            Self::Gunicorn(command_line) => {
                let application =
                    Application::new(command_line.clone(), environment).map_err(|why| vec![why])?;
                Ok(Configuration { applications: vec![application], prepared: None })
            }
        }
    }
}
