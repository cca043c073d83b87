//! nginx's command line, and the program's own for an nginx.conf: from the options to a master that can loop.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use config::invocation::nginx::{Options, version_info};
use config::invocation::{Order, Paths};
use config::model::LogTarget;
use config::nginx::NginxReport;
use config::{Diagnostic, Report, Site};
use rustix::process::{Pid, Signal};

use crate::configuration::Configuration;
use crate::listen::{Patience, errno};
use crate::logs::{self, ErrorLog};
use crate::master::Master;
use crate::mold::{Launch, Mold};
use crate::origin::{self, Origin, SiteSource};
use crate::pidfile::PidFile;
use crate::signals::Signals;
use crate::start::{Detach, Unsettled, colour, end, fail, name_process, patience, settings, show};
use crate::{Embedded, check, daemon, listen, upgrade};

/// nginx ends with this for whatever was wrong.
const FAILED: u8 = 1;
/// What applications have when they say nothing else; only their molds know what they say.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// nginx's command line. The error is an exit code; everything has been said.
pub(crate) fn start(
    options: &Options,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    embedded: Embedded,
) -> Result<Master, u8> {
    if options.version {
        eprint!("{}", version_info(options));
        if !options.test {
            return Err(0);
        }
    }
    let source = SiteSource {
        paths: Paths::of_nginx(options),
        globals: options.directives.as_ref().map(|d| d.to_string_lossy().into_owned()),
        by_own_name: false,
    };
    tell_unopened(options, &source.paths);
    let conf = source.paths.conf.display();
    let site = source.read().map_err(|report| {
        eprint!("{}", report.nginx_text());
        if options.test {
            eprintln!("nginx: configuration file {conf} test failed");
        }
        FAILED
    })?;
    for warning in &site.warnings {
        eprintln!("{warning}");
    }
    if options.test {
        return Err(test(&source, &site, options, &environment));
    }
    if let Some(order) = options.order {
        return Err(send(order, site.model.process.pidfile.as_deref()));
    }
    let detach = site.daemon.unwrap_or(true);
    run(source, site, detach, arguments, environment, embedded)
}

/// As nginx, which opens it before it reads anything: that `-e` names a file that cannot be opened.
fn tell_unopened(options: &Options, paths: &Paths) {
    let Some(path) = options.error_log.as_ref().and(paths.error_log.as_ref()) else { return };
    // Without making one: what serves does that.
    let opened = match fs::OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(path);
            fs::metadata(directory).map(drop)
        }
        opened => opened.map(drop),
    };
    if let Err(error) = opened {
        let why = errno(&error);
        let path = path.display();
        eprintln!("nginx: [alert] could not open error log file: open() \"{path}\" failed ({why})");
    }
}

/// The program's own command line for an nginx.conf.
pub(crate) fn start_site(
    options: &Options,
    check: bool,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    embedded: Embedded,
) -> Result<Master, u8> {
    let current_dir =
        std::env::current_dir().map_err(|error| fail(&format!("No current directory: {error}")))?;
    let source = SiteSource {
        paths: Paths::of_site(options, &current_dir),
        globals: options.directives.as_ref().map(|d| d.to_string_lossy().into_owned()),
        by_own_name: true,
    };
    let site = source.read().map_err(|report| show(&explained(&source, report.report())))?;
    if check {
        return Err(check::site(&source, site, arguments, environment, embedded));
    }
    eprint!("{}", origin::warnings(&site).render(colour()));
    let detach = site.daemon.unwrap_or(false);
    run(source, site, detach, arguments, environment, embedded)
}

/// A file that is not there may have been meant as one of the other kind, and a directory is none.
fn explained(source: &SiteSource, report: Report) -> Report {
    let path = &source.paths.conf;
    let help = if path.is_dir() {
        let known = config::CONFIGURATIONS.iter().map(|name| path.join(name)).find(|file| file.is_file());
        known.map_or("`-c` names a file in it".to_owned(), |file| format!("write `-c {}`", file.display()))
    } else if path.exists() {
        return report;
    } else {
        "`-c` names an nginx.conf; settings in Python are a file whose name ends in `.py`".to_owned()
    };
    let explain = |error: &Diagnostic| error.clone().help(help.clone());
    Report::errors(report.diagnostics().iter().map(explain).collect(), false)
}

/// `-t` and `-T`.
fn test(source: &SiteSource, site: &Site, options: &Options, environment: &[(OsString, OsString)]) -> u8 {
    let conf = source.paths.conf.display();
    if !options.quiet {
        eprintln!("nginx: the configuration file {conf} syntax is ok");
    }
    let opened = ErrorLog::open(&site.model).map(drop).and_then(|()| listen::test(&site.model));
    let pidfile = || site.model.process.pidfile.as_deref().map_or(Ok(()), PidFile::test);
    let opened = opened.and_then(|()| pidfile());
    let applications = origin::interpreted(site.applications.clone(), environment).map(drop);
    let opened = opened.map_err(|why| format!("nginx: [emerg] {why}\n"));
    if let Err(why) = applications.map_err(|report| report.nginx_text()).and(opened) {
        eprint!("{why}");
        eprintln!("nginx: configuration file {conf} test failed");
        return FAILED;
    }
    if !options.quiet {
        eprintln!("nginx: configuration file {conf} test is successful");
    }
    if options.dump && dump(site).is_err() {
        return FAILED;
    }
    0
}

fn dump(site: &Site) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (_, path, text) in site.sources.files() {
        writeln!(out, "# configuration file {}:", path.display())?;
        out.write_all(text)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// `-s`.
fn send(order: Order, pidfile: Option<&Path>) -> u8 {
    let Some(path) = pidfile else {
        eprintln!("nginx: [error] there is no pid file (\"pid off\")");
        return FAILED;
    };
    let shown = path.display();
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("nginx: [error] open() \"{shown}\" failed ({})", errno(&error));
            return FAILED;
        }
    };
    let text = String::from_utf8_lossy(&text);
    let Some(pid) = text.trim_end_matches(['\r', '\n']).parse().ok().and_then(Pid::from_raw) else {
        eprintln!("nginx: [error] invalid PID number \"{}\" in \"{shown}\"", text.trim_end());
        return FAILED;
    };
    let signal = match order {
        Order::Stop => Signal::TERM,
        Order::Quit => Signal::QUIT,
        Order::Reopen => Signal::USR1,
        Order::Reload => Signal::HUP,
    };
    match rustix::process::kill_process(pid, signal) {
        Ok(()) => 0,
        Err(error) => {
            let (pid, signal) = (pid.as_raw_nonzero(), signal.as_raw());
            eprintln!("nginx: [alert] kill({pid}, {signal}) failed ({})", errno(&error.into()));
            FAILED
        }
    }
}

/// From a configuration that can be used to a master with everything open. What is wrong from here on is told in
/// nginx's words, or, of an application, with the place shown.
fn run(
    source: SiteSource,
    site: Site,
    detach: bool,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    embedded: Embedded,
) -> Result<Master, u8> {
    let name = if source.by_own_name { "monoceros" } else { "nginx" };
    let refuse = |why: &str| {
        eprintln!("{name}: [emerg] {why}");
        FAILED
    };
    let inherited = listen::from_nginx(&environment);
    let takes_over = inherited.is_some();
    let tickets = inherited.as_ref().and_then(|_| upgrade::tickets(&environment));
    // Before there is a child that would be left behind.
    let signals = Signals::install().map_err(|error| refuse(&format!("no signal handlers: {error}")))?;
    if detach && !takes_over && !daemon::is_detached(&environment) {
        let has_applications = !site.applications.is_empty();
        let detach = Detach {
            keep_output: false,
            most: has_applications.then(|| patience(BOOT_TIMEOUT)),
            log: match &site.model.logs.error {
                LogTarget::File(path) => Some(path.clone()),
                LogTarget::Stderr | LogTarget::Stdout => None,
            },
        };
        return Err(detach.perform(name, &arguments, &signals));
    }
    let waiting = daemon::Waiting::find(&environment);
    let detached = takes_over || daemon::is_detached(&environment);
    if daemon::is_detached(&environment) {
        daemon::settle();
    }
    let systemd = listen::from_systemd(&environment).map_err(|why| refuse(&why))?;
    let mut configuration = origin::configuration(
        site,
        &environment,
        &inherited.unwrap_or_default(),
        &systemd,
        Patience::Starting(name),
    )
    .map_err(|report| refuse_all(&source, report))?;
    if let Err(error) = sys::set_child_subreaper() {
        telemetry::warning!("Workers of a dead mold will not be ours: {}", error);
    }
    let mut launch = Launch::new(arguments, environment, embedded);
    launch.stderr = None;
    let molds = settle(&launch, &mut configuration, &signals)?;
    let opened = open(&configuration).map_err(|why| refuse(&why));
    let pidfile = opened.inspect_err(|_| molds.iter().for_each(end))?;
    let first = (configuration, molds);
    let mut master = Master::new(launch, signals, systemd, pidfile, Origin::Nginx(source), first);
    master.waiting = waiting;
    master.detached = detached;
    master.tickets = tickets.or(master.tickets);
    master.predecessor = takes_over.then(rustix::process::getppid).flatten();
    Ok(master)
}

/// In the form of the name that it was called by.
fn refuse_all(source: &SiteSource, report: NginxReport) -> u8 {
    if source.by_own_name {
        return show(&report.report());
    }
    eprint!("{}", report.nginx_text());
    FAILED
}

/// What comes last, because from here on whoever looks at the pid file finds a server.
fn open(configuration: &Configuration) -> Result<Option<PidFile>, String> {
    let Some(prepared) = &configuration.prepared else { return Err("no configuration".to_owned()) };
    name_process(&prepared.model.process.proc_name);
    let pidfile = prepared.model.process.pidfile.as_deref();
    let pidfile = pidfile.map(PidFile::replace).transpose()?;
    prepared.error_log.redirect();
    logs::init(&prepared.model)?;
    Ok(pidfile)
}

/// Starts every application's mold and lets it evaluate its settings file.
fn settle(launch: &Launch, configuration: &mut Configuration, signals: &Signals) -> Result<Vec<Mold>, u8> {
    let mut molds: Vec<Mold> = vec![];
    let mut outcome: Result<(), Unsettled> = Ok(());
    for (number, application) in configuration.applications.iter().enumerate() {
        match launch.mold(1, number, application) {
            Ok(mold) => molds.push(mold),
            Err(error) => {
                let why = format!("{} cannot be started: {error}", application.python.display());
                outcome = Err(fail(&why).into());
                break;
            }
        }
    }
    // All of them, so that everything that is wrong is told in one run.
    for (mold, application) in molds.iter().zip(&mut configuration.applications) {
        if matches!(outcome, Err(Unsettled::Interrupted(_))) {
            break;
        }
        let settled = settings(mold, application, signals).and_then(|settings| {
            let settled = application.settle(settings).map_err(|report| show(&report))?;
            eprint!("{}", settled.merged.notes.render(colour()));
            Ok(())
        });
        outcome = match settled {
            Err(Unsettled::Interrupted(_)) => settled,
            _ => outcome.and(settled),
        };
    }
    configuration.complete();
    match outcome {
        Ok(()) => Ok(molds),
        Err(unsettled) => {
            molds.iter().for_each(end);
            Err(unsettled.code())
        }
    }
}

/// What was wrong with an option, in nginx's words.
pub(crate) fn refuse_option(why: &str) -> u8 {
    eprintln!("nginx: {why}");
    FAILED
}
