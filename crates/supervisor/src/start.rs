//! From the command line to a master that can loop: everything whose failure the user sees on the terminal.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge::control::{FromMold, MoldSettings};
use config::model::LogTarget;
use config::{ConfigFile, Diagnostic, Merged, Report};
use serde_json::Value;

use crate::channel::Incoming;
use crate::configuration::{Application, Configuration, Prepared, load_certificates};
use crate::daemon::Started;
use crate::listen::{Bound, Patience};
use crate::logs::ErrorLog;
use crate::master::Master;
use crate::mold::{Launch, Mold};
use crate::origin::Origin;
use crate::pidfile::PidFile;
use crate::signals::{self, Signals};
use crate::state::Signal;
use crate::{Embedded, acme, check, children, daemon, listen, logs};

/// gunicorn's exit code for settings and sockets.
const BAD_SETTINGS: u8 = 1;

/// Does all that comes before the loop. The error is an exit code; what is wrong has been said, and an answer to
/// `--help` and its like has been given with code 0.
pub(crate) fn start(
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    embedded: Embedded,
) -> Result<Master, u8> {
    let command_line = config::parse_command_line(arguments.iter().cloned(), environment.iter().cloned())
        .map_err(|report| show(&report))?;
    let application = Application::new(None, command_line.clone(), &environment)
        .map_err(|why| show(&Report::errors(vec![*why], false)))?;
    let waiting = daemon::Waiting::find(&environment);
    if daemon::is_detached(&environment) {
        daemon::settle();
    }
    let systemd = listen::from_systemd(&environment).map_err(|why| fail(&why))?;
    let mut launch = Launch::new(arguments, environment, embedded);
    launch.only_checks = only_checks(&launch.arguments);
    // Before there is a child that would be left behind.
    let signals = Signals::install().map_err(|error| fail(&format!("No signal handlers: {error}")))?;
    let mold = launch
        .mold(1, 0, &application)
        .map_err(|error| fail(&format!("{} cannot be started: {error}", application.python.display())))?;
    match prepare(&launch, application, &mold, &systemd, &signals) {
        Ok(Outcome::Prepared { configuration, pidfile }) => {
            let origin = Origin::Gunicorn(Box::new(command_line));
            let mut master =
                Master::new(launch, signals, systemd, pidfile, origin, (*configuration, vec![mold]));
            master.waiting = waiting;
            Ok(master)
        }
        Ok(Outcome::Checked(checked)) => Err(check(mold, checked, &signals)),
        Ok(Outcome::Detach(detach)) => {
            end(&mold);
            Err(detach.perform("monoceros", &launch.arguments, &signals))
        }
        Err(unsettled) => {
            end(&mold);
            Err(unsettled.code())
        }
    }
}

/// Why there are no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsettled {
    /// They cannot be used; everything has been said. The exit code.
    Refused(u8),
    /// The order to end came first; it has been said, too.
    Interrupted(Signal),
}

impl Unsettled {
    /// Ends the process if that was the order; else the exit code. Its children have been ended.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Refused(code) => code,
            Self::Interrupted(order) => signals::obey(order),
        }
    }
}

impl From<u8> for Unsettled {
    fn from(code: u8) -> Self {
        Self::Refused(code)
    }
}

/// Whether the settings are only to be checked, as far as the command line says it.
fn only_checks(arguments: &[OsString]) -> bool {
    arguments.get(1).is_some_and(|word| word == "check")
        || arguments.iter().any(|word| word == "--check-config" || word == "--print-config")
}

/// How long a start may take: the mold, then its workers, and something for everything else.
pub(crate) fn patience(boot_timeout: Duration) -> Duration {
    2 * boot_timeout + Duration::from_secs(10)
}

enum Outcome {
    /// Ready for the loop.
    Prepared { configuration: Box<Configuration>, pidfile: Option<PidFile> },
    /// `--check-config`, `--print-config`: the settings are good, the application remains.
    Checked(Checked),
    /// Another process is to go on in the background.
    Detach(Detach),
}

/// How the program is started in the background.
pub(crate) struct Detach {
    /// It keeps standard output and error for good.
    pub(crate) keep_output: bool,
    /// How long it is waited for.
    pub(crate) most: Option<Duration>,
    /// The error log, if it is a file.
    pub(crate) log: Option<PathBuf>,
}

impl Detach {
    /// Starts it and tells how that went, if it went wrong; the exit code.
    pub(crate) fn perform(self, name: &str, arguments: &[OsString], signals: &Signals) -> u8 {
        let log = self.log.map(daemon::Mark::set);
        match daemon::detach_and_wait(arguments, self.keep_output, signals, self.most) {
            Ok(Started::Serves) => 0,
            Ok(Started::Ended(code)) => {
                if let Some(log) = log {
                    log.show(name);
                }
                code
            }
            Ok(Started::Pending(pid)) => {
                let seconds = self.most.unwrap_or_default().as_secs();
                eprintln!("{name}: not ready after {seconds} s; it goes on in the background (pid {pid})");
                BAD_SETTINGS
            }
            Err(error) => {
                eprintln!("{name}: no process in the background: {error}");
                BAD_SETTINGS
            }
        }
    }
}

/// What is left to look at.
struct Checked {
    /// What the mold is told.
    body: Value,
    /// How long loading may take.
    patience: Option<Duration>,
    /// What is wrong beside the application.
    wrong: Vec<Diagnostic>,
    /// What to say when all is well; gunicorn says nothing.
    success: Option<String>,
}

fn prepare(
    launch: &Launch,
    mut application: Application,
    mold: &Mold,
    systemd: &[Arc<Bound>],
    signals: &Signals,
) -> Result<Outcome, Unsettled> {
    let settings = settings(mold, &application, signals)?;
    let application_python = application.python.clone();
    let settled = application.settle(settings).map_err(|report| show(&report))?;
    let Merged { check_config, print_config, .. } = settled.merged;
    let notes = &settled.merged.notes;
    if !notes.is_empty() {
        eprint!("{}", notes.render(colour()));
    }
    if print_config {
        print!("{}", settled.merged.settings.print_config());
    }
    let mut model = settled.merged.model.clone();
    let place = |name: &str| settled.merged.place_of(name);
    let mut wrong: Vec<Diagnostic> = load_certificates(&mut model)
        .into_iter()
        .map(|(setting, why)| Diagnostic::error(why).at(place(setting)))
        .collect();
    if check_config || print_config {
        wrong.extend(check::files(&model, |setting, _| place(setting)));
    } else if !wrong.is_empty() {
        return Err(show(&Report::errors(wrong, false)).into());
    }
    if check_config || print_config {
        // The application's traceback belongs on the terminal here, and nothing is opened or bound.
        let app = &model.apps[0];
        let by_word = launch.arguments.get(1).is_some_and(|word| word == "check");
        let interpreter = application_python.display();
        let line = || format!("{} loads in Python {} ({interpreter})", app.target, settled.python);
        return Ok(Outcome::Checked(Checked {
            body: settled.body(true),
            patience: app.boot_timeout,
            wrong,
            success: by_word.then(line),
        }));
    }
    let process = model.process.clone();
    if process.daemon && !daemon::is_detached(&launch.environment) {
        let boot_timeout = model.apps.first().and_then(|app| app.boot_timeout);
        return Ok(Outcome::Detach(Detach {
            keep_output: model.logs.stdio_inheritance,
            most: boot_timeout.map(patience),
            log: match &model.logs.error {
                LogTarget::File(path) => Some(process.chdir.join(path)),
                LogTarget::Stderr | LogTarget::Stdout => None,
            },
        }));
    }
    std::env::set_current_dir(&process.chdir)
        .map_err(|error| fail(&format!("Cannot change to {}: {error}", process.chdir.display())))?;
    let error_log = ErrorLog::open(&model).map_err(|why| fail(&why))?;
    error_log.redirect();
    logs::init(&model).map_err(|why| fail(&why))?;
    name_process(&process.proc_name);
    if let Err(error) = sys::set_child_subreaper() {
        telemetry::warning!("Workers of a dead mold will not be ours: {}", error);
    }
    let pidfile = process.pidfile.as_deref().map(PidFile::create).transpose().map_err(|why| log(&why))?;
    telemetry::info!("Starting monoceros {}", env!("CARGO_PKG_VERSION"));
    acme::fill(&mut model).map_err(|why| log(&why))?;
    let listeners =
        listen::bind_all(&mut model, &[], systemd, Patience::Told(signals)).map_err(|why| log(&why))?;
    logs::make_states(&model).map_err(|why| log(&why))?;
    let prepared = Some(Prepared { model, packed: None, listeners, error_log, descriptors: None });
    let configuration =
        Box::new(Configuration { applications: vec![application], prepared, shutdown_timeout: None });
    Ok(Outcome::Prepared { configuration, pidfile })
}

/// What the settings file holds. The mold says what is wrong with it.
pub(crate) fn settings(
    mold: &Mold,
    application: &Application,
    signals: &Signals,
) -> Result<MoldSettings, Unsettled> {
    let began = Instant::now();
    let next = loop {
        match mold.channel.receive::<FromMold>() {
            Incoming::Message(received) => break Some((received.message, received.body)),
            Incoming::Broken(error) => {
                fail(&format!("The mold cannot be understood: {error}"));
                break None;
            }
            incoming @ (Incoming::Gone | Incoming::Nothing) => {
                // A service manager may have told both of us.
                let is_gone = matches!(incoming, Incoming::Gone);
                let most = is_gone.then_some(Duration::ZERO);
                if let Some(order) = signals.told_to_end(Some(mold.channel.as_fd()), most) {
                    fail(&interrupted(order, application, began));
                    return Err(Unsettled::Interrupted(order));
                }
                if is_gone {
                    break None;
                }
            }
        }
    };
    match next {
        Some((FromMold::Settings {}, Some(body))) => serde_json::from_slice(&body).map_err(|error| {
            fail(&format!("The mold's account of the settings makes no sense: {error}")).into()
        }),
        Some((FromMold::Failed { code, text }, _)) => {
            fail(&text);
            Err(u8::try_from(code).ok().filter(|c| *c != 0).unwrap_or(BAD_SETTINGS).into())
        }
        // It has said why on standard error.
        None => Err(BAD_SETTINGS.into()),
        Some(_) => Err(fail("The mold answers something else than what it was asked").into()),
    }
}

/// What was under way when the order to end came.
fn interrupted(order: Signal, application: &Application, began: Instant) -> String {
    let what = match application.command_line.config_file() {
        Some(ConfigFile::Path(path)) => format!("while {} was read", path.display()),
        Some(ConfigFile::Module(module)) => format!("while the settings of {module} were read"),
        None => format!("while {} started", application.python.display()),
    };
    let order = match order {
        Signal::Int => "Interrupted",
        Signal::Quit => "Told to end (QUIT)",
        _ => "Told to end (TERM)",
    };
    format!("{order} {what}, for {:.1} s so far; nothing was started", began.elapsed().as_secs_f64())
}

/// Loads the application and says whether that went well.
fn check(mut mold: Mold, checked: Checked, signals: &Signals) -> u8 {
    let Checked { body, patience, wrong, success } = checked;
    let is_wrong = !wrong.is_empty();
    if is_wrong {
        show(&Report::errors(wrong, false));
    }
    let loaded = check::load(&mut mold, body, patience, signals);
    end(&mold);
    if let Some(order) = signals.told_to_end(None, Some(Duration::ZERO)) {
        return signals::obey(order);
    }
    match loaded {
        Err(text) => fail(&format!("Error while loading the application: {text}")),
        Ok(()) if is_wrong => BAD_SETTINGS,
        Ok(()) => {
            if let Some(line) = success {
                println!("{line}");
            }
            0
        }
    }
}

pub(crate) fn end(mold: &Mold) {
    // What it had to say it has printed; and it may hang in the user's code.
    children::kill(mold.pid);
    let _ = rustix::process::waitpid(Some(mold.pid), rustix::process::WaitOptions::empty());
}

/// Shows a report and returns its exit code.
pub(crate) fn show(report: &Report) -> u8 {
    if report.is_answer() {
        print!("{}", report.render(std::io::stdout().is_terminal()));
    } else {
        eprint!("{}", report.render(colour()));
    }
    report.exit_code()
}

pub(crate) fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Before there is a log.
pub(crate) fn fail(why: &str) -> u8 {
    eprintln!("monoceros: {why}");
    BAD_SETTINGS
}

fn log(why: &str) -> u8 {
    telemetry::error!("{}", why);
    BAD_SETTINGS
}

/// The name in `ps -o comm` and `top`; the kernel keeps 15 bytes.
pub(crate) fn name_process(name: &str) {
    let base = Path::new(name).file_name().unwrap_or(OsStr::new(name)).to_string_lossy();
    let shown: String = format!("monoceros {base}").chars().filter(|c| *c != '\0').collect();
    let mut end = shown.len().min(15);
    while !shown.is_char_boundary(end) {
        end -= 1;
    }
    if let Ok(name) = std::ffi::CString::new(&shown[..end]) {
        let _ = rustix::thread::set_name(&name);
    }
}
