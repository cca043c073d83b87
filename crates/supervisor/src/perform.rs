//! Doing what the state has decided.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use ::listen::tls::Ratchet;
use bridge::control::{ToEdge, ToMold};
use config::model::{App, LogTarget, Logs};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Resource, Rlimit};
use telemetry::error_log;

use crate::channel::Channel;
use crate::children::{self, Child};
use crate::configuration::{Configuration, Prepared};
use crate::listen::errno;
use crate::logs::{self, ErrorLog};
use crate::master::{Edge, Master};
use crate::mold::Launch;
use crate::origin::Origin;
use crate::pidfile::PidFile;
use crate::state::{Action, Event, Level, Status};
use crate::{announce, notify};

/// Descriptors of the edge beside its connections: listeners, logs, threads, workers, open files.
const OTHER_DESCRIPTORS: u64 = 1024;

impl Master {
    /// Does everything that the state wants done.
    pub(crate) fn act(&mut self) {
        while let Some(action) = self.state.next_action() {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Read { cycle } => self.read(cycle),
            Action::StartMold { cycle, application, generation } => {
                self.start_mold(cycle, application, generation);
            }
            Action::StopMold { generation } => self.tell_mold(generation, ToMold::Stop {}, vec![]),
            Action::AbortMold { generation } => {
                if let Some(mold) = self.molds.get(&generation) {
                    children::abort(mold.pid);
                }
            }
            Action::KillMold { generation } => {
                if let Some(mold) = self.molds.get(&generation) {
                    children::kill(mold.pid);
                }
            }
            Action::Discard { cycle } => {
                self.configurations.remove(&cycle);
            }
            Action::SpawnWorker { generation, worker, age, threads } => {
                self.spawn_worker(generation, worker, age, threads);
            }
            Action::Drain { worker } => self.tell_edge(ToEdge::Drain { worker }, vec![]),
            Action::Abandon { application } => self.abandon(application),
            Action::TellExited { worker } => self.tell_edge(ToEdge::Exited { worker }, vec![]),
            Action::SignalWorker { worker, signal } => self.signal_worker(worker, signal),
            Action::Forget { worker } => {
                self.workers.remove(&worker);
            }
            Action::StartEdge => self.start_edge(),
            Action::ConfigureEdge { cycle } => self.adopt(cycle),
            Action::Accept => {
                self.tell_edge(ToEdge::Accept {}, vec![]);
                self.acme.is_open = true;
            }
            Action::StopEdge { graceful, seconds } => {
                self.notify("STOPPING=1");
                self.tell_edge(ToEdge::Stop { graceful, seconds }, vec![]);
                if self.state.is_stopping() {
                    self.close_sockets();
                }
            }
            Action::KillEdge => {
                if let Some(edge) = &self.edge {
                    children::kill(edge.pid);
                }
            }
            Action::Hook { generation, name, arguments } => {
                let arguments = arguments.into_iter().map(Into::into).collect();
                self.tell_mold(generation, ToMold::Hook { name: name.to_owned(), arguments }, vec![]);
            }
            Action::ChangeBinary => self.change_binary(),
            Action::ReopenLogs => self.reopen_logs(),
            Action::Announce => self.announce(),
            Action::Log { level, text } => error_log::write(telemetry_level(level), format_args!("{text}")),
            Action::Exit { code } => self.exit = Some(code),
        }
    }

    fn read(&mut self, cycle: u64) {
        match self.origin.read(&self.launch.environment, &self.bound(), &self.systemd) {
            Ok(configuration) if !self.has_rights_for(&configuration) => {
                let line = "`proxy_bind … transparent` needs a right that the running edge has given up: start anew, or \
                            change over with USR2";
                error_log::write(error_log::Level::Emerg, format_args!("{line}"));
                self.event(Event::Refused { cycle });
            }
            Ok(configuration) if let Err(why) = self.may_write_pidfile(&configuration) => {
                error_log::write(error_log::Level::Emerg, format_args!("{why}"));
                self.event(Event::Refused { cycle });
            }
            Ok(configuration) => {
                let outline = configuration.outline();
                self.configurations.insert(cycle, configuration);
                self.event(Event::Read { cycle, outline });
            }
            Err(lines) => {
                for line in lines {
                    error_log::write(error_log::Level::Emerg, format_args!("{line}"));
                }
                self.event(Event::Refused { cycle });
            }
        }
    }

    /// Of an nginx.conf: gunicorn's settings are known later, and looked at then.
    fn may_write_pidfile(&self, configuration: &Configuration) -> Result<(), String> {
        let wanted = configuration.prepared.as_ref().and_then(|p| p.model.process.pidfile.as_deref());
        let is_there = |path: &&Path| self.pidfile.as_ref().is_some_and(|old| old.path() == *path);
        wanted.filter(|path| !is_there(path)).map_or(Ok(()), PidFile::test)
    }

    fn has_rights_for(&self, configuration: &Configuration) -> bool {
        let wants = configuration.prepared.as_ref().is_some_and(|p| p.model.binds_transparently());
        !wants || self.edge.as_ref().is_none_or(|edge| edge.transparent)
    }

    fn start_mold(&mut self, cycle: u64, number: usize, generation: u64) {
        if !self.first.is_empty() {
            self.molds.insert(generation, self.first.remove(0));
            self.configure_mold(generation);
            return;
        }
        let Some(application) = self.configurations.get(&cycle).and_then(|c| c.applications.get(number))
        else {
            return;
        };
        match self.launch.mold(cycle, number, application) {
            Ok(mold) => {
                self.molds.insert(generation, mold);
            }
            Err(error) => {
                let text = format!("{} cannot be started: {error}", application.python.display());
                self.mold_failed(generation, 3, text);
                self.event(Event::MoldGone { generation, status: Status::Unknown });
            }
        }
    }

    fn tell_mold(&mut self, generation: u64, message: ToMold, fds: Vec<OwnedFd>) {
        if let Some(mold) = self.molds.get_mut(&generation) {
            mold.channel.send(message, None, fds);
        }
    }

    fn tell_edge(&mut self, message: ToEdge, fds: Vec<OwnedFd>) {
        if let Some(edge) = &mut self.edge {
            edge.channel.send(message, None, fds);
        }
    }

    // The edge.

    pub(crate) fn start_edge(&mut self) {
        if let Err(error) = self.try_start_edge() {
            self.event(Event::EdgeFatal { text: error.to_string() });
            self.event(Event::EdgeGone { status: Status::Unknown });
        }
    }

    fn try_start_edge(&mut self) -> io::Result<()> {
        let (pid, socket) = Launch::edge()?;
        let transparent = self.prepared().is_some_and(|prepared| {
            let becomes_another = prepared.model.process.uid.is_some_and(|uid| uid != 0);
            prepared.model.binds_transparently() || !(becomes_another && rustix::process::geteuid().is_root())
        });
        self.edge = Some(Edge { pid, channel: Channel::new(socket)?, closed: false, transparent });
        if let Some(prepared) = self.prepared() {
            set_descriptors(pid, prepared);
        }
        self.configure_edge()?;
        self.tell_tickets()?;
        self.repeat_challenges();
        Ok(())
    }

    fn configure_edge(&mut self) -> io::Result<()> {
        let Some(prepared) = self.prepared() else { return Ok(()) };
        let listeners = prepared.listeners.iter().map(|l| l.copy());
        let packed = prepared.packed.iter().map(OwnedFd::try_clone);
        let fds = packed.chain(listeners).collect::<io::Result<Vec<_>>>()?;
        let configure = ToEdge::Configure { http: prepared.packed.is_some() };
        let model = serde_json::to_value(&prepared.model)?;
        let Some(edge) = &mut self.edge else { return Ok(()) };
        edge.channel.send(configure, Some(model), fds);
        Ok(())
    }

    /// Has the edge go on with the tickets that those before it have made.
    fn tell_tickets(&mut self) -> io::Result<()> {
        let Some(ratchet) = self.tickets.as_mut().and_then(Ratchet::advance) else { return Ok(()) };
        let secret = serde_json::to_value(ratchet.to_bytes())?;
        if let Some(edge) = &mut self.edge {
            edge.channel.send(ToEdge::Tickets {}, Some(secret), vec![]);
        }
        Ok(())
    }

    /// A new cycle has taken over: its configuration is the instance's from now on. The old one's sockets are closed
    /// with it, unless both have them.
    fn adopt(&mut self, cycle: u64) {
        let old = std::mem::replace(&mut self.configured, cycle);
        if let Err(error) = self.configure_edge() {
            telemetry::error!("The edge keeps its old settings: {}", error);
        }
        self.configure_acme();
        let old = self.configurations.remove(&old);
        let new = self.configurations.get(&cycle);
        let changes = old.as_ref().zip(new).map(|(old, new)| announce::changes(old, new)).unwrap_or_default();
        let old = old.and_then(|c| c.prepared);
        let pidfile = self.pidfile.take();
        let Some(new) = self.prepared() else { return };
        new.error_log.redirect();
        if let Err(why) = logs::init(&new.model) {
            telemetry::error!("{}", why);
        }
        let pidfile = move_pidfile(pidfile, new.model.process.pidfile.as_deref(), new.model.http.is_some());
        if let Some(edge) = &self.edge {
            set_descriptors(edge.pid, new);
        }
        let has_other_logs = old.is_some_and(|old| old.model.logs != new.model.logs);
        let log = new.error_log.copies().into_iter().take(1).collect();
        self.pidfile = pidfile;
        if has_other_logs {
            let copies = self.prepared().map_or_else(Vec::new, |new| new.error_log.copies());
            self.acme.reopen(copies.into_iter().take(1).collect());
            self.tell_edge(ToEdge::Reopen {}, log);
        }
        for line in changes {
            match &self.origin {
                Origin::Gunicorn(_) => telemetry::info!("{}", line),
                // Where they stood at the start.
                Origin::Nginx(source) if source.by_own_name => {
                    let _ = writeln!(io::stdout(), "{line}");
                }
                Origin::Nginx(_) => logs::notice(&line),
            }
        }
    }

    // Workers.

    fn spawn_worker(&mut self, generation: u64, worker: u64, age: u64, threads: u32) {
        self.workers.insert(worker, Child::ordered(generation));
        let threads = u16::try_from(threads).unwrap_or(u16::MAX);
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let possible = self.molds.contains_key(&generation) && self.edge.is_some();
        match pair {
            Ok((edge_end, worker_end)) if possible => {
                let app = self.app_of(generation);
                let (app, max_requests) =
                    app.map_or((String::new(), 0), |app| (app.name.clone(), max_requests(app, worker)));
                let message = ToEdge::Worker { worker, generation, app, max_requests, claimers: threads };
                self.tell_edge(message, vec![edge_end]);
                self.tell_mold(generation, ToMold::Spawn { worker, age, threads }, vec![worker_end]);
            }
            failed => {
                if let Err(error) = failed {
                    telemetry::error!("No socket for a worker: {}", error);
                }
                self.event(Event::WorkerGone { worker, work: None });
                self.event(Event::WorkerExited { worker, status: Status::Unknown });
            }
        }
    }

    /// What the edge knows of the application that a generation runs.
    fn app_of(&self, generation: u64) -> Option<&App> {
        let mold = self.molds.get(&generation)?;
        let application = self.configurations.get(&mold.cycle)?.applications.get(mold.application)?;
        application.settled.as_ref()?.merged.model.apps.first()
    }

    fn abandon(&mut self, application: usize) {
        let configuration = self.configurations.get(&self.configured);
        let settled = configuration.and_then(|c| c.applications.get(application)?.settled.as_ref());
        let Some(app) = settled.and_then(|settled| settled.merged.model.apps.first()) else { return };
        let app = app.name.clone();
        telemetry::warning!("No process of the application is left ({}): what waits for it is refused", app);
        self.tell_edge(ToEdge::Abandon { app }, vec![]);
    }

    fn signal_worker(&mut self, worker: u64, signal: i32) {
        let Some(child) = self.workers.get(&worker) else { return };
        if !child.signal(signal) {
            let generation = child.generation;
            self.tell_mold(generation, ToMold::Signal { worker, signal }, vec![]);
        }
    }

    // Logs and words.

    fn reopen_logs(&mut self) {
        let configuration = self.configurations.get_mut(&self.configured);
        let Some(prepared) = configuration.and_then(|c| c.prepared.as_mut()) else { return };
        match ErrorLog::open(&prepared.model) {
            Ok(log) => prepared.error_log = log,
            Err(why) => {
                telemetry::error!("{}", why);
                return;
            }
        }
        for error in telemetry::reopen() {
            telemetry::error!("{}", error);
        }
        self.hand_out_logs();
    }

    /// Points everybody's standard error at the error log.
    fn hand_out_logs(&mut self) {
        let Some(prepared) = self.prepared() else { return };
        let log = &prepared.error_log;
        log.redirect();
        let for_edge = log.copies().into_iter().take(1).collect();
        let for_acme = log.copies().into_iter().take(1).collect();
        let for_molds: Vec<(u64, Vec<OwnedFd>)> = self.molds.keys().map(|g| (*g, log.copies())).collect();
        self.tell_edge(ToEdge::Reopen {}, for_edge);
        self.acme.reopen(for_acme);
        for (generation, fds) in for_molds {
            // Without a file there is nothing to open again.
            if !fds.is_empty() {
                self.tell_mold(generation, ToMold::Reopen {}, fds);
            }
        }
    }

    fn announce(&mut self) {
        let configuration = self.configurations.get(&self.configured);
        let http = configuration.and_then(|c| c.prepared.as_ref()?.model.http.as_ref());
        match (configuration, http, &self.origin) {
            (Some(configuration), Some(http), Origin::Nginx(source)) if source.by_own_name => {
                // Not for the log: whoever has started it in a terminal wants to see it. A reader that is gone does not.
                let text = announce::site_lines(configuration, http).join("\n");
                let _ = writeln!(io::stdout(), "{text}");
            }
            (Some(configuration), None, _) => {
                for line in announce::lines(configuration) {
                    telemetry::info!("{}", line);
                }
            }
            _ => {}
        }
        self.notify("READY=1");
        if let Some(waiting) = self.waiting.take() {
            self.leave_terminal();
            waiting.tell();
        }
    }

    /// A daemon had its caller's standard error to say on what is wrong with the start. From now on its log goes to
    /// its file, if it has one.
    fn leave_terminal(&mut self) {
        let Some(prepared) = self.configurations.get_mut(&self.configured).and_then(|c| c.prepared.as_mut())
        else {
            return;
        };
        let Logs { error, nginx: None, stdio_inheritance: false, .. } = &prepared.model.logs else {
            return;
        };
        if matches!(error, LogTarget::File(_)) {
            return;
        }
        match ErrorLog::nowhere() {
            Ok(log) => prepared.error_log = log,
            Err(error) => {
                telemetry::error!("/dev/null cannot be opened: {}", error);
                return;
            }
        }
        self.hand_out_logs();
    }

    fn notify(&self, state: &str) {
        let socket = self.launch.environment.iter().find(|(name, _)| name == "NOTIFY_SOCKET");
        if let Err(error) = notify::notify(socket.map(|(_, value)| value.as_os_str()), state) {
            telemetry::warning!("The service manager cannot be told {}: {}", state, error);
        }
    }
}

/// The new settings may name another pid file. Where that cannot be, the old one stays: whoever looks for the master
/// finds it there. As with gunicorn, one that somebody has removed is written again.
fn move_pidfile(old: Option<PidFile>, wanted: Option<&Path>, replace: bool) -> Option<PidFile> {
    if old.as_ref().map(PidFile::path) == wanted {
        if !replace && let Some(Err(why)) = old.as_ref().map(PidFile::renew) {
            telemetry::error!("{}", why);
        }
        return old;
    }
    let create = if replace { PidFile::replace } else { PidFile::create };
    match wanted.map(create).transpose() {
        Ok(new) => {
            if let (Some(old), Some(new)) = (old, &new) {
                old.forget_if_same(new);
            }
            new
        }
        Err(why) => {
            telemetry::error!("{}", why);
            old
        }
    }
}

/// Lets the edge open as many descriptors as the configuration says, else as many as it needs.
fn set_descriptors(edge: Pid, prepared: &Prepared) {
    let Some(limit) = prepared.descriptors else {
        raise_descriptors(edge, u64::from(prepared.model.edge.connections));
        return;
    };
    let both = Rlimit { current: Some(limit), maximum: Some(limit) };
    if let Err(error) = rustix::process::prlimit(Some(edge), Resource::Nofile, both) {
        telemetry::error!("worker_rlimit_nofile {} cannot be set ({})", limit, errno(&error.into()));
    }
}

/// Lets the edge open as many descriptors as its connections may need: one for each client, and where the system
/// allows it one more for a file or a body.
fn raise_descriptors(edge: Pid, connections: u64) {
    let least = connections + OTHER_DESCRIPTORS;
    let wanted = connections * 2 + OTHER_DESCRIPTORS;
    let now = rustix::process::getrlimit(Resource::Nofile);
    if now.current.is_none_or(|limit| limit >= wanted) {
        return;
    }
    let set = |current: u64, maximum: Option<u64>| {
        rustix::process::prlimit(Some(edge), Resource::Nofile, Rlimit { current: Some(current), maximum })
            .is_ok()
    };
    let allowed = now.maximum.unwrap_or(wanted).min(wanted);
    // Only root may raise the hard limit, and not in every container.
    if (allowed < wanted && set(wanted, Some(wanted))) || (set(allowed, now.maximum) && allowed >= least) {
        return;
    }
    telemetry::warning!(
        "{} connections need {} descriptors, but the limit is {}: raise it (ulimit -Hn, LimitNOFILE=), or lower \
         edge_connections",
        connections,
        least,
        allowed
    );
}

fn telemetry_level(level: Level) -> error_log::Level {
    match level {
        Level::Debug => error_log::Level::Debug,
        // nginx's name for what an administrator wants to see; gunicorn's form shows it as `INFO`.
        Level::Info => error_log::Level::Notice,
        Level::Warning => error_log::Level::Warning,
        Level::Error => error_log::Level::Error,
        Level::Critical => error_log::Level::Critical,
    }
}

/// The limit of one worker: the setting and its own share of the jitter, so that not all of them end at once.
fn max_requests(app: &App, worker: u64) -> u64 {
    let Some(limit) = app.max_requests else { return 0 };
    // Splitmix64 of the number: as good as random here, and the same in every run of a test.
    let mut x = worker.wrapping_add(u64::from(std::process::id()) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    limit + if app.max_requests_jitter == 0 { 0 } else { x % (app.max_requests_jitter + 1) }
}
