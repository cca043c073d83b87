//! An nginx.conf as a whole: what stands outside of `http` becomes the model's, app blocks become command lines.

use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use conf_syntax::{DiskLoader, Sources, Span};

use crate::gunicorn::{CommandLine, Surroundings, app_command_line};
use crate::host::{Host, System, User};
use crate::invocation::Paths;
use crate::model::{
    Buffers, Edge, ErrorLog, ErrorLogs, ErrorTarget, Files, Forwarded, HeaderMap, Limits, LogLevel,
    LogTarget, Logs, Model, Process, Symlinks, Timeouts, Trusted, http, tls::Vault,
};
use crate::nginx::{self, MainSettings, Nginx, NginxReport};
use crate::report::{Notes, Place};

/// nginx's `worker_connections` where nobody says another.
const CONNECTIONS: u32 = 512;

/// A configuration that can be used, but for what the applications' settings files say.
#[derive(Debug)]
pub struct Site {
    /// Everything but its `apps`, which is empty.
    pub model: Model,
    /// In the order in which the model is to have them.
    pub applications: Vec<Application>,
    /// `worker_shutdown_timeout`
    pub shutdown_timeout: Option<Duration>,
    /// `worker_rlimit_nofile`
    pub descriptors: Option<u64>,
    /// `daemon`, if the configuration says anything about it.
    pub daemon: Option<bool>,
    /// Warnings, and notes of what changes nothing here.
    pub notes: Notes,
    /// The warnings as nginx says them.
    pub warnings: Vec<String>,
    /// All files that were read.
    pub sources: Sources,
    /// Where relative paths start.
    prefix: PathBuf,
}

/// An app block.
#[derive(Debug, Clone)]
pub struct Application {
    /// What `app_pass` calls it.
    pub name: String,
    /// What it says, as gunicorn's command line would.
    pub command_line: CommandLine,
}

impl Site {
    /// Reads the configuration; `globals` are nginx's `-g`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(paths: &Paths, globals: Option<&str>, vault: &dyn Vault) -> Result<Self, NginxReport> {
        let globals: Vec<String> = globals.map(str::to_owned).into_iter().collect();
        let Paths { conf, prefix, access_log, .. } = paths;
        let nginx =
            nginx::read_at(conf, prefix, access_log.as_deref(), &globals, &mut DiskLoader, &System, vault)?;
        let log_level = log_level(&nginx.main);
        let applications = applications(&nginx, paths, log_level)?;
        let daemon = nginx.main.daemon;
        let (shutdown_timeout, descriptors) = (nginx.main.shutdown_timeout, nginx.main.rlimit_nofile);
        let Nginx { http, listeners, tls, acme, main, error_logs, notes, warnings, sources, .. } = nginx;
        let process = process(&main, paths);
        let model = Model {
            listeners,
            edge: edge(&main),
            forwarded: forwarded(),
            statics: vec![],
            accel: vec![],
            files: Files { symlinks: Symlinks::Follow, index: vec![], sendfile: true },
            compress: None,
            apps: vec![],
            http: Some(Arc::new(http)),
            tls,
            acme,
            process,
            logs: logs(&main, error_logs, paths),
            reload: None,
        };
        Ok(Self {
            model,
            applications,
            shutdown_timeout,
            descriptors,
            daemon,
            notes,
            warnings,
            sources,
            prefix: paths.prefix.clone(),
        })
    }
}

impl Site {
    /// Where the configuration names a path, found by its letters.
    pub fn place_of(&self, path: &Path) -> Option<Place> {
        let whole = path.as_os_str().as_bytes();
        let below = path.strip_prefix(&self.prefix).ok().map(|rest| rest.as_os_str().as_bytes());
        [Some(whole), below].into_iter().flatten().filter(|text| !text.is_empty()).find_map(|wanted| {
            self.sources.files().find_map(|(file, _, text)| {
                let ends = |at: usize| text.get(at).is_none_or(|b| b" \t\r\n;{}\"'=".contains(b));
                let starts = text.windows(wanted.len()).enumerate();
                let mut starts = starts.filter(|(_, here)| *here == wanted).map(|(at, _)| at);
                let at = starts.find(|at| ends(at + wanted.len()) && (*at == 0 || ends(at - 1)))?;
                let (start, end) = (u32::try_from(at).ok()?, u32::try_from(at + wanted.len()).ok()?);
                Some(Place::in_sources(&self.sources, Span { file, start, end }))
            })
        })
    }
}

fn applications(
    nginx: &Nginx,
    paths: &Paths,
    log_level: Option<&'static str>,
) -> Result<Vec<Application>, NginxReport> {
    let env = nginx.main.env.iter();
    let surroundings = Surroundings {
        user: effective_user(&nginx.main).then(|| nginx.main.user.clone()).flatten(),
        env: env.filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect(),
        log_level,
    };
    let mut applications = vec![];
    let mut diagnostics = vec![];
    for block in &nginx.apps {
        match app_command_line(block, &paths.prefix, &surroundings) {
            Ok(command_line) => applications.push(Application { name: block.name.clone(), command_line }),
            Err(wrong) => diagnostics.extend(wrong),
        }
    }
    if diagnostics.is_empty() {
        return Ok(applications);
    }
    Err(NginxReport::of(diagnostics))
}

/// What applications log, where `error_log` says it: their lines go where descriptor 2 leads. As in nginx a worker that
/// starts is a notice.
fn log_level(main: &MainSettings) -> Option<&'static str> {
    let is_descriptor = |log: &&ErrorLog| matches!(log.target, ErrorTarget::File(_) | ErrorTarget::Stderr);
    let logs = || main.error_logs.iter();
    let level =
        logs().filter(is_descriptor).map(|log| log.level).min().or_else(|| logs().map(|l| l.level).min());
    level.map(|level| match level {
        http::LogLevel::Debug => "debug",
        http::LogLevel::Info | http::LogLevel::Notice => "info",
        http::LogLevel::Warn => "warning",
        http::LogLevel::Error => "error",
        http::LogLevel::Crit | http::LogLevel::Alert | http::LogLevel::Emerg => "critical",
    })
}

/// nginx ignores `user` where the master may not change it.
fn effective_user(main: &MainSettings) -> bool {
    main.user.is_some() && System.identity().0 == 0
}

fn process(main: &MainSettings, paths: &Paths) -> Process {
    let user = main.user.as_ref().filter(|_| effective_user(main));
    // The reader has made sure that both exist.
    let number = |text: &str| text.parse::<u32>().ok();
    let known = user.and_then(|(name, _)| System.user(name).or_else(|| System.user_of(number(name)?)));
    let uid = known.map(|User { uid, .. }| uid).or_else(|| number(&user?.0));
    let named = user.and_then(|(_, group)| group.as_deref());
    let gid = named.and_then(|g| System.group(g).or_else(|| number(g))).or_else(|| known.map(|u| u.gid));
    Process {
        user: user.map(|(name, _)| name.clone()),
        group: named.map(str::to_owned),
        uid,
        gid,
        // Socket files are for everybody, as nginx makes them.
        umask: 0o111,
        initgroups: user.is_some(),
        chdir: System.current_dir(),
        daemon: main.daemon.unwrap_or_default(),
        pidfile: main.pid.clone().unwrap_or_else(|| paths.pid.clone()),
        proc_name: "master".to_owned(),
        raw_env: vec![],
        pythonpath: vec![],
        python: None,
        settings: None,
    }
}

/// What servers and locations say for themselves stands in `http`; this is what is asked before one is known, or of the
/// process as a whole.
fn edge(main: &MainSettings) -> Edge {
    let loops = main
        .worker_processes
        .map_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32), NonZeroU32::get);
    Edge {
        http2: None,
        threads: main.worker_processes,
        connections: main.worker_connections.unwrap_or(CONNECTIONS).saturating_mul(loops),
        limits: Limits {
            request_line: 8 << 10,
            fields: 1000,
            field_size: 8 << 10,
            head: 32 << 10,
            body: Some(1 << 20),
            keepalive_requests: 1000,
        },
        timeouts: Timeouts {
            header: Duration::from_secs(60),
            body: Duration::from_secs(60),
            send: Duration::from_secs(60),
            keepalive: Duration::from_secs(75),
            lingering: Duration::from_secs(5),
        },
        buffers: Buffers {
            request: 16 << 10,
            response: 64 << 10,
            response_temp: 1 << 30,
            temp_space: 4 << 30,
            temp_dir: main.temp_path.clone(),
        },
        server_tokens: true,
    }
}

/// `set_real_ip_from` and `underscores_in_headers` stand in `http`.
fn forwarded() -> Forwarded {
    Forwarded {
        trusted: Trusted::Networks(vec![]),
        direct: None,
        scheme_headers: vec![],
        forwarder_headers: vec![],
        header_map: HeaderMap::Drop,
    }
}

fn logs(main: &MainSettings, others: Vec<Vec<ErrorLog>>, paths: &Paths) -> Logs {
    let initial = || {
        let target = paths.error_log.clone().map_or(ErrorTarget::Stderr, ErrorTarget::File);
        vec![ErrorLog { target, level: http::LogLevel::Error }]
    };
    let main_logs = if main.error_logs.is_empty() { initial() } else { main.error_logs.clone() };
    // Descriptor 2 of every process, for what is written without a level: tracebacks, panics. As in nginx it stays what
    // it is where anything is logged to it.
    let uses_stderr =
        main_logs.iter().chain(others.iter().flatten()).any(|log| log.target == ErrorTarget::Stderr);
    let file = main_logs.iter().filter(|_| !uses_stderr).find_map(|log| match &log.target {
        ErrorTarget::File(path) => Some(LogTarget::File(path.clone())),
        ErrorTarget::Stderr | ErrorTarget::Syslog(_) | ErrorTarget::Memory(_) => None,
    });
    Logs {
        access: None,
        access_format: String::new(),
        error: file.unwrap_or(LogTarget::Stderr),
        nginx: Some(ErrorLogs { main: main_logs, others, debug: main.debug_connections.clone() }),
        level: LogLevel::Info,
        capture_output: false,
        stdio_inheritance: false,
    }
}
