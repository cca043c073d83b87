//! The program that puts a TXT record into the DNS and takes it out again.
//!
//! It is run without a shell as `HOOK… present|cleanup RECORD VALUE`, and finds the same in its environment. It returns
//! when the record is there for everybody, with status 0.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::Failure;
use crate::failure::clean;

/// How long it may take: DNS providers are slow.
pub const TIME: Duration = Duration::from_secs(300);
/// Bytes of its complaints that are shown.
const COMPLAINT: u64 = 1000;

/// A record of the DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `_acme-challenge.shop.example`
    pub name: String,
    /// Its text.
    pub value: String,
    /// The domain that is to be proved.
    pub domain: String,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Add it to what the name has.
    Present,
    /// Take it out again.
    Cleanup,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Cleanup => "cleanup",
        }
    }
}

/// Runs the hook and waits for it, at most `time`. Blocks.
pub fn run(hook: &[String], action: Action, record: &Record, time: Duration) -> Result<(), Failure> {
    let Some((program, arguments)) = hook.split_first() else {
        return Err(Failure::Own("there is no program for DNS records".to_owned()));
    };
    let failed = |why: String| Failure::Own(format!("the DNS hook {program} {}: {why}", action.name()));
    let mut command = Command::new(program);
    command.args(arguments).args([action.name(), &record.name, &record.value]);
    command.env("ACME_ACTION", action.name());
    command.env("ACME_DOMAIN", &record.domain);
    command.env("ACME_RECORD", &record.name);
    command.env("ACME_VALUE", &record.value);
    match finish(&mut command, time) {
        Ok((Some(status), _)) if status.success() => Ok(()),
        Ok((Some(status), complaint)) if complaint.is_empty() => Err(failed(status.to_string())),
        Ok((Some(status), complaint)) => Err(failed(format!("{status}: {complaint}"))),
        Ok((None, _)) => Err(failed(format!("not done after {} seconds", time.as_secs()))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Runs a program and waits for it, at most `time`: how it has ended, and what it has complained of. `None`: it was ended,
/// with all that it has started. Blocks.
pub(crate) fn finish(command: &mut Command, time: Duration) -> io::Result<(Option<ExitStatus>, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // What it starts itself ends with it.
    command.process_group(0);
    let mut child = command.spawn()?;
    let status = wait(&mut child, time)?;
    Ok((status, complaint(&mut child)))
}

fn wait(child: &mut Child, time: Duration) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + time;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            if let Some(group) = Pid::from_raw(child.id() as i32) {
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// What it has said. A pipe holds 64 KiB, more would make it wait, and then it is over its time. Whoever has inherited the
/// pipe and lives on is not waited for.
fn complaint(child: &mut Child) -> String {
    let Some(pipe) = child.stderr.take() else { return String::new() };
    let mut bytes = Vec::new();
    if sys::set_nonblocking(&pipe, true).is_ok() {
        let _ = pipe.take(COMPLAINT).read_to_end(&mut bytes);
    }
    clean(String::from_utf8_lossy(&bytes).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script, "hook"].map(str::to_owned).to_vec()
    }

    fn record() -> Record {
        Record {
            name: "_acme-challenge.a.example".into(),
            value: "$(id) ; x".into(),
            domain: "a.example".into(),
        }
    }

    fn run_for(script: &str, time: Duration) -> Result<(), Failure> {
        run(&shell(script), Action::Present, &record(), time)
    }

    #[test]
    fn it_is_told_by_arguments_and_environment() {
        let script = r#"[ "$1" = present ] && [ "$2" = "$ACME_RECORD" ] && [ "$3" = '$(id) ; x' ] &&
            [ "$ACME_VALUE" = "$3" ] && [ "$ACME_DOMAIN" = a.example ] && [ $# = 3 ]"#;
        run_for(script, TIME).unwrap();
    }

    #[test]
    fn its_failure_is_told_with_its_words() {
        let error = run_for("echo no such zone >&2; exit 3", TIME).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such zone"), "{error}");
        let missing = run(&["/nowhere/hook".into()], Action::Cleanup, &record(), TIME).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/hook cleanup"), "{missing}");
    }

    #[test]
    fn one_that_hangs_is_ended_with_all_that_it_started() {
        let begin = Instant::now();
        let error = run_for("sleep 1000 & sleep 1000", Duration::from_millis(200)).unwrap_err();
        assert!(error.to_string().contains("not done"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(100));
    }
}
