//! The loop: waits for signals, children, the edge and the molds, and tells the state.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::listen::tls::Ratchet;
use bridge::control::{FromEdge, FromMold, MoldSettings, Received, ToEdge};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Pid;

use crate::acme::Acme;
use crate::certificates::Watched;
use crate::channel::{Channel, Incoming};
use crate::children::{self, Child};
use crate::configuration::{Configuration, Prepared};
use crate::daemon::Waiting;
use crate::echoes::Echoes;
use crate::listen::{Bound, Patience};
use crate::mold::{Launch, Mold, configure};
use crate::origin::Origin;
use crate::pidfile::PidFile;
use crate::signals::{self, Arrived, Signals};
use crate::state::{Event, Signal, State, Status, Time, Work};

/// How often memory is measured and orphans are looked after.
const ROUND: Duration = Duration::from_secs(1);
/// Messages of one sender that are taken in one turn.
const BATCH: usize = 64;

/// The edge's process.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) pid: Pid,
    pub(crate) channel: Channel<ToEdge>,
    /// The other side has closed.
    pub(crate) closed: bool,
    /// It may connect from addresses of others (`proxy_bind … transparent`): once its rights are given up it never will.
    pub(crate) transparent: bool,
}

/// The master with everything that it holds.
#[derive(Debug)]
pub(crate) struct Master {
    pub(crate) launch: Launch,
    pub(crate) state: State,
    pub(crate) begin: Instant,
    signals: Signals,
    echoes: Echoes,
    pub(crate) systemd: Vec<Arc<Bound>>,
    pub(crate) pidfile: Option<PidFile>,
    /// Where configurations come from.
    pub(crate) origin: Origin,
    /// The first cycle's molds, until the state asks for them.
    pub(crate) first: Vec<Mold>,
    /// By generation.
    pub(crate) molds: BTreeMap<u64, Mold>,
    pub(crate) configurations: BTreeMap<u64, Configuration>,
    /// The cycle whose configuration the edge has.
    pub(crate) configured: u64,
    pub(crate) edge: Option<Edge>,
    pub(crate) acme: Acme,
    pub(crate) watched: Watched,
    /// What the keys of TLS tickets are made of; `None`: each edge begins by itself.
    pub(crate) tickets: Option<Ratchet>,
    /// The program that was started to take over.
    pub(crate) successor: Option<Pid>,
    /// The program that this one was started to take over from.
    pub(crate) predecessor: Option<Pid>,
    /// Who has started it in the background, until it serves.
    pub(crate) waiting: Option<Waiting>,
    /// No terminal reaches it, so that WINCH is an order and no news of a window's size.
    pub(crate) detached: bool,
    pub(crate) workers: BTreeMap<u64, Child>,
    next_round: Time,
    pub(crate) exit: Option<u8>,
}

impl Master {
    pub(crate) fn new(
        launch: Launch,
        signals: Signals,
        systemd: Vec<Arc<Bound>>,
        pidfile: Option<PidFile>,
        origin: Origin,
        first: (Configuration, Vec<Mold>),
    ) -> Self {
        let (configuration, molds) = first;
        Self {
            launch,
            state: State::new(origin.manners(), configuration.outline()),
            begin: Instant::now(),
            signals,
            echoes: Echoes::default(),
            systemd,
            pidfile,
            origin,
            first: molds,
            molds: BTreeMap::new(),
            configurations: BTreeMap::from([(1, configuration)]),
            configured: 1,
            edge: None,
            acme: Acme::default(),
            watched: Watched::default(),
            tickets: Ratchet::new(),
            successor: None,
            predecessor: None,
            waiting: None,
            detached: false,
            workers: BTreeMap::new(),
            next_round: Duration::ZERO,
            exit: None,
        }
    }

    /// Loops until everything has ended; the exit code.
    pub(crate) fn run(mut self) -> u8 {
        self.start_edge();
        self.act();
        // One that ended before there was a handler.
        self.reap();
        loop {
            if let Some(code) = self.exit {
                self.leave_sockets();
                return code;
            }
            self.wait();
            self.take_signals();
            self.take_from_edge();
            self.take_from_molds();
            self.take_from_acme();
            self.state.tick(self.begin.elapsed());
            self.act();
            self.tend_acme();
            self.watch_certificates();
            self.round();
        }
    }

    /// Hands an event to the state and does what follows.
    pub(crate) fn event(&mut self, event: Event) {
        self.state.handle(event, self.begin.elapsed());
        self.act();
    }

    fn wait(&mut self) {
        let now = self.begin.elapsed();
        let mut until = self.state.deadline();
        if self.needs_rounds() {
            until = Some(until.map_or(self.next_round, |at| at.min(self.next_round)));
        }
        if self.wants_acme()
            && let Some(at) = self.acme.deadline()
        {
            until = Some(until.map_or(at, |until| until.min(at)));
        }
        if self.watches_certificates() {
            let at = self.watched.next();
            until = Some(until.map_or(at, |until| until.min(at)));
        }
        let timeout = until.map(|at| {
            // A millisecond late is better than a turn too early.
            let left = at.saturating_sub(now) + Duration::from_millis(1);
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        let mut fds: Vec<PollFd<'_>> =
            self.signals.fds().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        if let Some(edge) = self.edge.as_ref().filter(|edge| !edge.closed) {
            fds.push(interest(edge.channel.as_fd(), edge.channel.is_waiting()));
        }
        if let Some(channel) = self.acme.channel() {
            fds.push(interest(channel.as_fd(), channel.is_waiting()));
        }
        for mold in self.molds.values().filter(|mold| !mold.closed) {
            fds.push(interest(mold.channel.as_fd(), mold.channel.is_waiting()));
        }
        // Whatever it returns: everything is looked at, and nothing blocks.
        let _ = rustix::event::poll(&mut fds, timeout.as_ref());
    }

    fn take_signals(&mut self) {
        let mut ordered = vec![];
        for arrived in self.signals.take() {
            match arrived {
                Arrived::Child => self.reap(),
                Arrived::From(Signal::Winch, ..) if !self.detached && self.state.is_nginx() => {}
                Arrived::From(signal, sender, at) => {
                    let new = self.echoes.is_new(None, signal, sender, at);
                    // Of what came at once TTIN and TTOU count each, the others together.
                    let each = matches!(signal, Signal::Ttin | Signal::Ttou);
                    if new && (each || !ordered.contains(&signal)) {
                        ordered.push(signal);
                        self.event(Event::Signal(signal));
                    }
                }
                Arrived::Order(signal) => self.event(Event::Signal(signal)),
            }
        }
    }

    // What the edge says.

    fn take_from_edge(&mut self) {
        for _ in 0..BATCH {
            let Some(edge) = self.edge.as_mut().filter(|edge| !edge.closed) else { return };
            edge.channel.flush();
            match edge.channel.receive::<FromEdge>() {
                Incoming::Message(received) => self.edge_says(received.message),
                Incoming::Nothing => return,
                Incoming::Gone => edge.closed = true,
                Incoming::Broken(error) => {
                    telemetry::error!("The edge cannot be understood: {}", error);
                    edge.closed = true;
                    children::kill(edge.pid);
                }
            }
        }
    }

    fn edge_says(&mut self, message: FromEdge) {
        let event = match message {
            FromEdge::Configured {} => Event::EdgeConfigured,
            FromEdge::WorkerReady { worker } => Event::WorkerReady { worker },
            FromEdge::WorkerDrained { worker } => Event::WorkerDrained { worker },
            FromEdge::WorkerGone { worker, used, finished } => {
                Event::WorkerGone { worker, work: Some(Work { used, finished }) }
            }
            FromEdge::WorkerRecycle { worker, reason } => Event::WorkerRecycle { worker, reason },
            FromEdge::WorkerSilent { worker, seconds } => Event::WorkerSilent { worker, seconds },
            FromEdge::WorkerOverran { worker, method, path, seconds, graceful } => {
                Event::WorkerOverran { worker, method, path, seconds, graceful }
            }
            FromEdge::Wanted { demand, name } => return self.wanted(demand, name),
            FromEdge::ChallengeSet { number } => return self.challenge_set(number),
            FromEdge::Stopped {} => Event::EdgeStopped,
            FromEdge::Fatal { text } => Event::EdgeFatal { text },
        };
        self.event(event);
    }

    // What molds say.

    fn take_from_molds(&mut self) {
        let generations: Vec<u64> = self.molds.keys().copied().collect();
        for generation in generations {
            self.take_from_mold(generation);
        }
    }

    fn take_from_mold(&mut self, generation: u64) {
        for _ in 0..BATCH {
            let Some(mold) = self.molds.get_mut(&generation).filter(|mold| !mold.closed) else { return };
            mold.channel.flush();
            match mold.channel.receive::<FromMold>() {
                Incoming::Message(received) => self.mold_says(generation, received),
                Incoming::Nothing => return,
                Incoming::Gone => mold.closed = true,
                Incoming::Broken(error) => {
                    telemetry::error!("The mold cannot be understood: {}", error);
                    mold.closed = true;
                    children::kill(mold.pid);
                }
            }
        }
    }

    fn mold_says(&mut self, generation: u64, received: Received<FromMold>) {
        match received.message {
            FromMold::Settings {} => match received.body::<MoldSettings>() {
                Ok(settings) => self.settings(generation, settings),
                Err(error) => self.mold_failed(generation, 1, error.to_string()),
            },
            FromMold::Ready { .. } => self.event(Event::MoldReady { generation }),
            FromMold::Failed { code, text } => {
                self.mold_failed(generation, u8::try_from(code).unwrap_or(3), text);
            }
            FromMold::Spawned { worker, pid } => {
                let (Some(number), Some(child)) = (Pid::from_raw(pid), self.workers.get_mut(&worker)) else {
                    return;
                };
                child.spawned(number);
                self.event(Event::WorkerSpawned { worker, pid: pid as u32 });
            }
            FromMold::Exited { worker, code, signal, .. } => {
                self.event(Event::WorkerExited { worker, status: children::status(code, signal) });
            }
            FromMold::HookDone { .. } => self.event(Event::HookDone),
            FromMold::Signalled { signal, sender, at } => {
                let Some(signal) = signals::from(signal) else { return };
                if self.echoes.is_new(Some(generation), signal, sender, Duration::from_nanos(at)) {
                    self.event(Event::Signal(signal));
                }
            }
            FromMold::Changed { worker, path } => {
                let path = path.unwrap_or_else(|| "a watched file".to_owned());
                self.event(Event::Changed { generation, worker, path });
            }
        }
    }

    pub(crate) fn mold_failed(&mut self, generation: u64, code: u8, text: String) {
        self.event(Event::MoldFailed { generation, code, text });
    }

    /// What the settings file of an application after the first cycle holds.
    fn settings(&mut self, generation: u64, settings: MoldSettings) {
        if let Err(why) = self.settle(generation, settings) {
            self.mold_failed(generation, 1, why);
            return;
        }
        self.configure_mold(generation);
    }

    fn settle(&mut self, generation: u64, settings: MoldSettings) -> Result<(), String> {
        let bound = self.bound();
        let mold = self.molds.get(&generation).ok_or("a mold that is not there")?;
        let configuration = self.configurations.get_mut(&mold.cycle).ok_or("a mold of no configuration")?;
        let application =
            configuration.applications.get_mut(mold.application).ok_or("a mold of no application")?;
        // A mold in the place of one that died: what the edge knows of its application stays true.
        if configuration.prepared.is_some() && application.settled.is_some() {
            return Ok(());
        }
        let settled =
            application.settle(settings).map_err(|report| report.render(false).trim_end().to_owned())?;
        for line in settled.merged.notes.lines() {
            telemetry::warning!("{}", line);
        }
        if configuration.prepared.is_none() {
            let model = settled.merged.model.clone();
            configuration.prepared = Some(Prepared::open(model, &bound, &self.systemd, Patience::None)?);
        }
        configuration.complete();
        Ok(())
    }

    /// The sockets of the configuration that is served.
    pub(crate) fn bound(&self) -> Vec<Arc<Bound>> {
        self.prepared().map_or_else(Vec::new, |prepared| prepared.listeners.clone())
    }

    /// The configuration that is served, or is to be served first.
    pub(crate) fn prepared(&self) -> Option<&Prepared> {
        self.configurations.get(&self.configured).and_then(|c| c.prepared.as_ref())
    }

    pub(crate) fn configure_mold(&mut self, generation: u64) {
        let Some(mold) = self.molds.get_mut(&generation) else { return };
        let configuration = self.configurations.get(&mold.cycle);
        let settled = configuration.and_then(|c| c.applications.get(mold.application)?.settled.as_ref());
        let Some(settled) = settled else { return };
        let prepared = configuration.and_then(|c| c.prepared.as_ref());
        let mut log = prepared.map_or_else(Vec::new, |p| p.error_log.copies());
        let leaves_stderr = prepared.is_some_and(|p| p.error_log.leaves_stderr(&p.model));
        let stderr = self.launch.stderr.as_ref().filter(|_| leaves_stderr);
        let stderr = stderr.and_then(|fd| fd.try_clone().ok());
        let plan = settled.plan();
        let mut body = settled.body(false);
        body["workers_before"] = self.state.workers_of(mold.application).into();
        body["own_stderr"] = stderr.is_some().into();
        log.extend(stderr);
        mold.channel.send(configure(mold.cycle), Some(body), log);
        self.event(Event::Configured { generation, plan });
    }

    // The kernel's word.

    fn reap(&mut self) {
        while let Some((pid, status)) = children::reap() {
            self.ended(pid, status);
        }
    }

    fn ended(&mut self, pid: Pid, status: Status) {
        if self.successor == Some(pid) {
            self.successor_ended();
            return;
        }
        if self.edge.as_ref().is_some_and(|edge| edge.pid == pid) {
            self.take_from_edge();
            self.edge = None;
            self.event(Event::EdgeGone { status });
            return;
        }
        if self.acme_ended(pid, status) {
            return;
        }
        let mold = self.molds.iter().find(|(_, mold)| mold.pid == pid).map(|(generation, _)| *generation);
        if let Some(generation) = mold {
            self.take_from_mold(generation);
            self.molds.remove(&generation);
            self.event(Event::MoldGone { generation, status });
            self.look_after_orphans();
            return;
        }
        let worker = self.workers.iter().find(|(_, child)| child.pid == Some(pid)).map(|(worker, _)| *worker);
        if let Some(worker) = worker {
            self.event(Event::WorkerExited { worker, status });
        }
    }

    /// Workers whose mold is dead: one that was never forked never will be, and one whose end only the mold has seen
    /// has ended all the same.
    fn look_after_orphans(&mut self) {
        let ended: Vec<u64> = self
            .workers
            .iter()
            .filter(|(_, child)| !self.molds.contains_key(&child.generation) && child.has_ended())
            .map(|(worker, _)| *worker)
            .collect();
        // Those that are ours to wait for are heard of that way, with their status.
        self.reap();
        for worker in ended {
            self.event(Event::WorkerExited { worker, status: Status::Unknown });
            let forked = self.workers.get(&worker).is_some_and(|child| child.pid.is_some());
            if !forked {
                self.event(Event::WorkerGone { worker, work: None });
            }
        }
    }

    fn has_orphans(&self) -> bool {
        self.workers.values().any(|child| !self.molds.contains_key(&child.generation))
    }

    fn needs_rounds(&self) -> bool {
        self.state.measured().next().is_some() || self.has_orphans()
    }

    fn round(&mut self) {
        let now = self.begin.elapsed();
        if now < self.next_round || !self.needs_rounds() {
            return;
        }
        self.next_round = now + ROUND;
        let measured: Vec<(u64, u32)> = self.state.measured().collect();
        for (worker, pid) in measured {
            if let Some(bytes) = children::resident(pid) {
                self.event(Event::Resident { worker, bytes });
            }
        }
        if self.has_orphans() {
            self.look_after_orphans();
        }
    }
}

fn interest(fd: BorrowedFd<'_>, waiting: bool) -> PollFd<'_> {
    let flags = if waiting { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    PollFd::from_borrowed_fd(fd, flags)
}
