//! From the command line to a master that can loop: everything whose failure the user sees on the terminal.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;

use bridge::control::{FromMold, MoldSettings};
use config::{Merged, Report};
use rustix::event::{PollFd, PollFlags};

use crate::channel::Incoming;
use crate::listen::Bound;
use crate::logs::ErrorLog;
use crate::master::Master;
use crate::mold::{Launch, Mold, Prepared, configure};
use crate::payload::Payload;
use crate::pidfile::PidFile;
use crate::signals::Signals;
use crate::{Embedded, children, daemon, listen, logs, python};

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
    let variable =
        |name: &str| environment.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_os_str());
    let python = python::find(command_line.python(), variable("VIRTUAL_ENV"), variable("PATH"))
        .map_err(|why| fail(&why))?;
    let payload = Payload::new(&embedded)
        .map_err(|error| fail(&format!("The Python files cannot be handed to the interpreter: {error}")))?;
    if daemon::is_detached(&environment) {
        daemon::settle();
    }
    let systemd = listen::from_systemd(&environment).map_err(|why| fail(&why))?;
    let launch = Launch { arguments, environment, command_line, python, payload };
    let mold = launch
        .mold()
        .map_err(|error| fail(&format!("{} cannot be started: {error}", launch.python.display())))?;
    match prepare(&launch, &mold, &systemd) {
        Ok(Outcome::Prepared { prepared, pidfile }) => {
            let signals =
                Signals::install().map_err(|error| fail(&format!("No signal handlers: {error}")))?;
            Ok(Master::new(launch, signals, systemd, pidfile, mold, prepared))
        }
        Ok(Outcome::Checked(prepared)) => Err(check(mold, &prepared)),
        Ok(Outcome::Detached) => {
            end(&mold);
            Err(0)
        }
        Err(code) => {
            end(&mold);
            Err(code)
        }
    }
}

enum Outcome {
    /// Ready for the loop.
    Prepared { prepared: Prepared, pidfile: Option<PidFile> },
    /// `--check-config`, `--print-config`: the settings are good, the application remains.
    Checked(Prepared),
    /// Another process goes on in the background.
    Detached,
}

fn prepare(launch: &Launch, mold: &Mold, systemd: &[std::sync::Arc<Bound>]) -> Result<Outcome, u8> {
    let settings = settings(mold)?;
    let (mut merged, python) = launch.merge(settings).map_err(|report| show(&report))?;
    let Merged { check_config, print_config, .. } = merged;
    if !merged.notes.is_empty() {
        eprint!("{}", merged.notes.render(colour()));
    }
    if print_config {
        print!("{}", merged.settings.print_config());
    }
    if check_config || print_config {
        // The application's traceback belongs on the terminal here, and nothing is opened or bound.
        return Ok(Outcome::Checked(Prepared {
            merged,
            listeners: vec![],
            error_log: ErrorLog::none(),
            python,
        }));
    }
    let process = merged.model.process.clone();
    if process.daemon && !daemon::is_detached(&launch.environment) {
        let keep_output = merged.model.logs.stdio_inheritance;
        return match daemon::detach(&launch.arguments, keep_output) {
            Ok(()) => Ok(Outcome::Detached),
            Err(error) => Err(fail(&format!("No process in the background: {error}"))),
        };
    }
    std::env::set_current_dir(&process.chdir)
        .map_err(|error| fail(&format!("Cannot change to {}: {error}", process.chdir.display())))?;
    telemetry::error_log::init(logs::level(merged.model.logs.level));
    let error_log = ErrorLog::open(&merged.model).map_err(|why| fail(&why))?;
    error_log.redirect();
    name_process(&process.proc_name);
    if let Err(error) = sys::set_child_subreaper() {
        telemetry::warning!("Workers of a dead mold will not be ours: {}", error);
    }
    let pidfile = process.pidfile.as_deref().map(PidFile::create).transpose().map_err(|why| log(&why))?;
    telemetry::info!("Starting monoceros {}", env!("CARGO_PKG_VERSION"));
    let listeners = listen::bind_all(&mut merged.model, &[], systemd, true).map_err(|why| log(&why))?;
    Ok(Outcome::Prepared { prepared: Prepared { merged, listeners, error_log, python }, pidfile })
}

/// What the settings file holds. The mold says what is wrong with it.
fn settings(mold: &Mold) -> Result<MoldSettings, u8> {
    match next(mold) {
        Some((FromMold::Settings {}, Some(body))) => serde_json::from_slice(&body)
            .map_err(|error| fail(&format!("The mold's account of the settings makes no sense: {error}"))),
        Some((FromMold::Failed { code, text }, _)) => {
            fail(&text);
            Err(u8::try_from(code).ok().filter(|c| *c != 0).unwrap_or(BAD_SETTINGS))
        }
        // It has said why on standard error.
        None => Err(BAD_SETTINGS),
        Some(_) => Err(fail("The mold answers something else than what it was asked")),
    }
}

/// Loads the application and says whether that went well.
fn check(mut mold: Mold, prepared: &Prepared) -> u8 {
    mold.channel.send(configure(1), Some(prepared.body(true)), vec![]);
    let code = match next(&mold) {
        Some((FromMold::Ready { .. }, _)) => 0,
        Some((FromMold::Failed { text, .. }, _)) => {
            fail(&format!("Error while loading the application: {text}"));
            BAD_SETTINGS
        }
        _ => BAD_SETTINGS,
    };
    end(&mold);
    code
}

/// The mold's next word; `None` when it has ended.
fn next(mold: &Mold) -> Option<(FromMold, Option<Vec<u8>>)> {
    loop {
        match mold.channel.receive::<FromMold>() {
            Incoming::Message(received) => return Some((received.message, received.body)),
            Incoming::Gone => return None,
            Incoming::Broken(error) => {
                fail(&format!("The mold cannot be understood: {error}"));
                return None;
            }
            Incoming::Nothing => {
                let mut fds = [PollFd::from_borrowed_fd(mold.channel.as_fd(), PollFlags::IN)];
                // Interrupted or not, the next look tells.
                let _ = rustix::event::poll(&mut fds, None);
            }
        }
    }
}

fn end(mold: &Mold) {
    // What it had to say it has printed; and it may hang in the user's code.
    children::kill(mold.pid);
    let _ = rustix::process::waitpid(Some(mold.pid), rustix::process::WaitOptions::empty());
}

/// Shows a report and returns its exit code.
fn show(report: &Report) -> u8 {
    if report.is_answer() {
        print!("{}", report.render(std::io::stdout().is_terminal()));
    } else {
        eprint!("{}", report.render(colour()));
    }
    report.exit_code()
}

fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Before there is a log.
fn fail(why: &str) -> u8 {
    eprintln!("monoceros: {why}");
    BAD_SETTINGS
}

fn log(why: &str) -> u8 {
    telemetry::error!("{}", why);
    BAD_SETTINGS
}

/// The name in `ps -o comm` and `top`; the kernel keeps 15 bytes.
fn name_process(name: &str) {
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
