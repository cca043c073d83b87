//! Identity and surroundings of the processes.

use std::path::PathBuf;

use super::Lowering;
use crate::gunicorn::Origin;
use crate::host::{Entry, User};
use crate::model::Process;
use crate::report::Severity;

impl Lowering<'_> {
    pub(super) fn chdir(&mut self) -> PathBuf {
        let text = self.text("chdir").unwrap_or(".").to_owned();
        let path = super::join(&self.base, &text);
        // Of an app block it has been looked at before, by the name that it has there.
        let is_known = self.input.command_line.is_block() && text == ".";
        if !is_known && self.input.host.entry(&path) != Entry::Directory {
            self.error("chdir", 0, format!("chdir: `{text}` is not a directory"), None);
        }
        path
    }

    pub(super) fn process(&mut self) -> Process {
        let user = self.text("user").map(str::to_owned);
        let group = self.text("group").map(str::to_owned);
        let (uid, gid) = self.identity(user.as_deref(), group.as_deref());
        if self.flag("initgroups") && user.is_none() {
            self.tell(Severity::Note, "initgroups", "initgroups changes nothing without user", None);
        }
        let pythonpath = self.list("pythonpath").to_vec();
        for (i, dir) in pythonpath.iter().enumerate() {
            // A missing directory is no error to Python, nor is a zip archive.
            if self.input.host.entry(&super::join(&self.base, dir)) == Entry::Missing {
                let message = format!("pythonpath: `{dir}` does not exist");
                let place = self.place("pythonpath", i);
                self.diagnostics.push(crate::Diagnostic::new(Severity::Warning, message).at(place));
            }
        }
        let app = self.input.command_line.app().map(str::to_owned);
        let app = app.filter(|_| !self.is_given("default_proc_name"));
        let name = self.text("proc_name").map(str::to_owned).or(app);
        Process {
            user,
            group,
            uid,
            gid,
            umask: self.int("umask") as u32,
            initgroups: self.flag("initgroups"),
            chdir: self.base.clone(),
            daemon: self.flag("daemon"),
            pidfile: self.pidfile(),
            proc_name: name.unwrap_or_else(|| self.text("default_proc_name").unwrap_or_default().to_owned()),
            raw_env: self.raw_env(),
            pythonpath: pythonpath.iter().map(|d| super::join(&self.base, d)).collect(),
            python: self.text("python").map(|t| super::program(self.input.command_line.current_dir(), t)),
            settings: self.input.file.map(|f| f.path.clone()).filter(|p| !p.is_empty()),
        }
    }

    fn identity(&mut self, user: Option<&str>, group: Option<&str>) -> (Option<u32>, Option<u32>) {
        let host = self.input.host;
        let (own_uid, own_gid) = host.identity();
        let unknown =
            "only users and groups of this machine's own files are known by name; give the number of another";
        let user = user.and_then(|text| {
            let found = match owner_number(text) {
                // A number may have no name, as in containers; then it has no group of its own either.
                Some(uid) => Some((uid, host.user_of(uid).map(|u| u.gid))),
                None => host.user(text).map(|User { uid, gid }| (uid, Some(gid))),
            };
            if found.is_none() {
                self.error("user", 0, format!("user: there is no user `{text}`"), unknown);
            }
            found
        });
        let group = group.and_then(|text| {
            let found = owner_number(text).or_else(|| host.group(text));
            if found.is_none() {
                self.error("group", 0, format!("group: there is no group `{text}`"), unknown);
            }
            found
        });
        let uid = user.map(|(uid, _)| uid);
        let gid = group.or(user.and_then(|(_, gid)| gid));
        for (name, wanted, own) in [("user", uid, own_uid), ("group", gid, own_gid)] {
            let is_given = self.is_given(name);
            if own_uid != 0 && is_given && wanted.is_some_and(|w| w != own) {
                self.error(
                    name,
                    0,
                    format!("{name}: only root can become another {name}"),
                    "start it as root",
                );
            }
        }
        (uid, gid)
    }

    fn pidfile(&mut self) -> Option<PathBuf> {
        let path = self.path("pidfile")?;
        let parent = path.parent().map_or(Entry::Missing, |p| self.input.host.entry(p));
        let why = if self.input.host.entry(&path) == Entry::Directory {
            Some("it is a directory")
        } else {
            (parent != Entry::Directory).then_some("its directory is not there")
        };
        if let Some(why) = why {
            let message = format!("pidfile: `{}` cannot be a file: {why}", path.display());
            self.error("pidfile", 0, message, None);
        }
        Some(path)
    }

    fn raw_env(&mut self) -> Vec<(String, String)> {
        let items = self.list("raw_env").to_vec();
        let mut variables = Vec::new();
        for (i, item) in items.iter().enumerate() {
            match item.split_once('=') {
                Some((name, value)) if !name.is_empty() && !item.contains('\0') => {
                    variables.push((name.to_owned(), value.to_owned()));
                }
                _ => {
                    let message = format!("raw_env: `{item}` is not of the form NAME=VALUE");
                    let help = match self.effective.origin("raw_env") {
                        Origin::File(_) => "write it as `raw_env = [\"DEBUG=0\"]`",
                        Origin::Directive(_) => "write it as `raw_env DEBUG=0;`",
                        _ => "write it as `-e DEBUG=0`",
                    };
                    self.error("raw_env", i, message, help);
                }
            }
        }
        variables
    }
}

/// A user or group given by its number.
fn owner_number(text: &str) -> Option<u32> {
    // 4294967295 is -1 to the kernel: "leave it as it is".
    let number = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())??;
    (number != u32::MAX).then_some(number)
}
