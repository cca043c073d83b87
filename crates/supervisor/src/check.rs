//! `monoceros check`: everything that a start would find wrong, all at once, with nothing started or changed.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use bridge::control::FromMold;
use config::model::{Address, ErrorTarget, LogTarget, Model};
use config::{Diagnostic, Report, Site};
use rustix::fs::{Access, OFlags};

use crate::channel::Incoming;
use crate::configuration::Application;
use crate::listen::{self, errno};
use crate::mold::{Launch, Mold, configure};
use crate::origin::SiteSource;
use crate::signals::{self, Signals};
use crate::start::{colour, end, fail, settings, show};
use crate::{Embedded, children};

/// Checks an nginx.conf that has been read: its applications are loaded, its files and addresses tried.
pub(crate) fn site(
    source: &SiteSource,
    mut site: Site,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    embedded: Embedded,
) -> u8 {
    eprint!("{}", site.notes.render(colour()));
    let mut wrong = files(&site.model, |_, path| site.place_of(path));
    if let Err(why) = listen::test(&site.model) {
        wrong.push(Diagnostic::error(why));
    }
    let mut launch = Launch::new(arguments, environment, embedded);
    launch.only_checks = true;
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("No signal handlers: {error}")),
    };
    let applications = std::mem::take(&mut site.applications);
    let mut good = vec![];
    for (number, config::Application { name, command_line }) in applications.into_iter().enumerate() {
        match Application::new(Some(name.clone()), command_line, &launch.environment) {
            Ok(application) => match launch.mold(1, number, &application) {
                Ok(mold) => good.push((name, application, mold)),
                Err(error) => {
                    let text = format!("{} cannot be started: {error}", application.python.display());
                    wrong.push(Diagnostic::error(text).at(application.command_line.python_place()));
                }
            },
            Err(why) => wrong.push(*why),
        }
    }
    let mut failed = false;
    for (name, mut application, mut mold) in good {
        let outcome = loads(&mut application, &mut mold, &signals);
        if let Some(order) = signals.told_to_end(None, Some(Duration::ZERO)) {
            // The other molds end with this process.
            end(&mold);
            return signals::obey(order);
        }
        match outcome {
            Ok(()) => {
                let settled = application.settled.as_ref();
                let (target, python) = settled
                    .map_or((String::new(), ""), |s| (s.merged.model.apps[0].target.to_string(), &s.python));
                let interpreter = application.python.display();
                println!("application {name}: {target} loads in Python {python} ({interpreter})");
            }
            Err(None) => failed = true,
            Err(Some(text)) => {
                let error = Diagnostic::error(format!("application {name} does not load: {text}"));
                wrong.push(error.at(application.command_line.target_place()));
            }
        }
        end(&mold);
    }
    let conf = source.paths.conf.display();
    if !wrong.is_empty() {
        show(&Report::errors(wrong, false));
        failed = true;
    }
    if failed {
        eprintln!("{conf} cannot be used");
        return 1;
    }
    println!("{conf} can be used");
    0
}

/// Lets the mold evaluate the settings file and load the application. The error is what is wrong; nothing when it has
/// been told.
fn loads(application: &mut Application, mold: &mut Mold, signals: &Signals) -> Result<(), Option<String>> {
    let settings = settings(mold, application, signals).map_err(|_| None)?;
    let settled = application.settle(settings).map_err(|report| {
        show(&report);
        None
    })?;
    eprint!("{}", settled.merged.notes.render(colour()));
    let patience = settled.merged.model.apps[0].boot_timeout;
    let body = settled.body(true);
    load(mold, body, patience, signals).map_err(Some)
}

/// Has a mold load its application, whose traceback goes to standard error. The error says why it did not.
pub(crate) fn load(
    mold: &mut Mold,
    body: serde_json::Value,
    patience: Option<Duration>,
    signals: &Signals,
) -> Result<(), String> {
    mold.channel.send(configure(1), Some(body), vec![]);
    let until = patience.map(|patience| Instant::now() + patience);
    loop {
        match mold.channel.receive::<FromMold>() {
            Incoming::Message(received) => match received.message {
                FromMold::Ready { .. } => return Ok(()),
                FromMold::Failed { text, .. } => return Err(text),
                _ => return Err("its process answers something else than what it was asked".to_owned()),
            },
            Incoming::Gone => return Err("its process has ended".to_owned()),
            Incoming::Broken(error) => return Err(format!("its process cannot be understood: {error}")),
            Incoming::Nothing => {}
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            // At which it writes where it hangs.
            children::abort(mold.pid);
            signals.told_to_end(Some(mold.channel.as_fd()), Some(Duration::from_secs(2)));
            let seconds = patience.unwrap_or_default().as_secs_f64();
            return Err(format!("it is not done after {seconds} seconds (boot_timeout)"));
        }
        if signals.told_to_end(Some(mold.channel.as_fd()), left).is_some() {
            return Err("interrupted".to_owned());
        }
    }
}

/// What is wrong with the files that a start would make or open (logs, the pid file, directories), and with what is
/// written to them. `place` says where the setting stands that names a path.
pub(crate) fn files(model: &Model, place: impl Fn(&str, &Path) -> Option<config::Place>) -> Vec<Diagnostic> {
    let mut wrong: Vec<Diagnostic> = vec![];
    let logs = &model.logs;
    for listener in &model.listeners {
        if let Address::Fd(number) = listener.address
            && let Err(why) = inherited(number)
        {
            wrong.push(Diagnostic::error(format!("fd://{number} cannot be listened on: {why}")));
        }
    }
    let mut tell = |what: &str, setting: &str, path: &Path, outcome: Result<(), String>| {
        if let Err(why) = outcome {
            let text = format!("the {what} {} cannot be written: {why}", path.display());
            let error = Diagnostic::error(text).at(place(setting, path));
            // Several servers may have one log.
            if !wrong.contains(&error) {
                wrong.push(error);
            }
        }
    };
    if let Some(LogTarget::File(path)) = &logs.access {
        tell("access log", "accesslog", path, file(path));
    }
    if let LogTarget::File(path) = &logs.error {
        tell("error log", "errorlog", path, file(path));
    }
    for log in logs.nginx.iter().flat_map(|logs| logs.main.iter().chain(logs.others.iter().flatten())) {
        if let ErrorTarget::File(path) = &log.target {
            tell("error log", "errorlog", path, file(path));
        }
    }
    for path in model.http.as_deref().into_iter().flat_map(telemetry::access_log_files) {
        tell("access log", "access_log", &path, file(&path));
    }
    for path in model.http.as_deref().into_iter().flat_map(telemetry::unwritten_log_files) {
        tell("access log", "access_log", &path, file(&path));
    }
    if let Some(path) = &model.process.pidfile {
        tell("pid file", "pidfile", path, file(path));
    }
    if let Some(path) = &model.edge.buffers.temp_dir {
        tell("directory", "temp_dir", path, directory(path));
    }
    for cache in model.http.as_deref().into_iter().flat_map(|http| &http.caches) {
        tell("cache", "cache", &cache.path, directory(&cache.path));
    }
    if logs.nginx.is_none()
        && let Err(error) = telemetry::AccessFormat::compile(&logs.access_format)
    {
        let error = Diagnostic::error(format!("access_log_format: {error}"));
        wrong.push(error.at(place("access_log_format", Path::new(""))));
    }
    wrong
}

/// Whether there is a socket of that number that this process was started with: its own close when it starts another.
fn inherited(number: i32) -> Result<(), String> {
    let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok().and_then(|info| {
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        u32::from_str_radix(flags.trim(), 8).ok()
    });
    if flags.is_none_or(|flags| flags & OFlags::CLOEXEC.bits() != 0) {
        return Err("there is no such descriptor".to_owned());
    }
    let is_socket = std::fs::metadata(format!("/proc/self/fd/{number}"));
    match is_socket.map(|there| there.file_type().is_socket()) {
        Ok(true) => Ok(()),
        _ => Err("it is no socket".to_owned()),
    }
}

fn file(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(there) if there.is_dir() => Err("it is a directory".to_owned()),
        Ok(_) => writable(path, Access::WRITE_OK),
        Err(error) if error.kind() == io::ErrorKind::NotFound => beside(path),
        Err(error) => Err(errno(&error)),
    }
}

fn directory(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(there) if there.is_dir() => writable(path, Access::WRITE_OK | Access::EXEC_OK),
        Ok(_) => Err("it is no directory".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => beside(path),
        Err(error) => Err(errno(&error)),
    }
}

/// Whether something can be made there.
fn beside(path: &Path) -> Result<(), String> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = parent.display();
    match std::fs::metadata(parent) {
        Ok(there) if there.is_dir() => {
            writable(parent, Access::WRITE_OK | Access::EXEC_OK).map_err(|why| format!("{shown}: {why}"))
        }
        Ok(_) => Err(format!("{shown} is no directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("there is no directory {shown}"))
        }
        Err(error) => Err(format!("{shown}: {}", errno(&error))),
    }
}

fn writable(path: &Path, access: Access) -> Result<(), String> {
    rustix::fs::access(path, access).map_err(|error| errno(&error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_can_be_made_where_its_directory_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        assert_eq!(file(&path), Ok(()));
        assert!(!path.exists(), "looking makes nothing");
        assert_eq!(file(dir.path()), Err("it is a directory".to_owned()));
        let lost = file(&dir.path().join("no/a.log")).unwrap_err();
        assert_eq!(lost, format!("there is no directory {}", dir.path().join("no").display()));
        std::fs::write(&path, "").unwrap();
        assert_eq!(file(&path), Ok(()));
        assert_eq!(directory(&path), Err("it is no directory".to_owned()));
        assert_eq!(directory(&dir.path().join("new")), Ok(()));
        assert!(file(&path.join("under")).is_err());
    }
}
