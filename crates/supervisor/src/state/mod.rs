//! What the master knows and decides: generations, workers, the edge, and what a signal means to them.
//!
//! Nothing here touches a process, a socket or a clock. [`State::handle`] and [`State::tick`] take what happened and
//! the time, and leave [`Action`]s that the loop performs. So every transition can be tested in microseconds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

mod backoff;
mod boot;
mod cycle;
mod edge;
mod generation;
mod renewal;
mod signals;
mod stop;
mod types;
mod worker;

#[cfg(test)]
mod tests;

use backoff::Backoff;
use cycle::Cycle;
use edge::EdgeState;
use generation::Generation;
use renewal::Renewal;
use stop::Stopping;
pub(crate) use types::{Action, Event, Level, Manners, Outline, Plan, Signal, Status, StopMode, Work};
use worker::{Life, Worker};

/// Time since the master started.
pub(crate) type Time = Duration;

/// gunicorn's exit codes.
pub(crate) const WORKER_BOOT_ERROR: u8 = 3;
/// The application did not load.
pub(crate) const APP_LOAD_ERROR: u8 = 4;

/// Everything that the master knows.
#[derive(Debug)]
pub(crate) struct State {
    manners: Manners,
    generations: BTreeMap<u64, Generation>,
    workers: BTreeMap<u64, Worker>,
    /// The configuration that is served.
    current: Option<Cycle>,
    /// The configuration that is being brought up.
    next: Option<Cycle>,
    last_cycle: u64,
    last_generation: u64,
    last_worker: u64,
    edge: EdgeState,
    stopping: Option<Stopping>,
    /// One application whose mold is dead is getting another.
    renewal: Option<Renewal>,
    /// Only the master is there, while another program serves; nginx's WINCH.
    resting: bool,
    /// A reload was asked for while another was under way.
    reload_again: bool,
    /// Start another mold then, because one of the current cycle is dead.
    retry_mold: Option<Time>,
    /// Of each application of the current cycle whose molds fail. Those of others have nothing to do with it.
    mold_backoffs: BTreeMap<usize, Backoff>,
    actions: VecDeque<Action>,
    ended: bool,
}

impl State {
    /// A master that has started nothing yet. The first configuration is read; the molds of its
    /// applications are asked for at once.
    pub(crate) fn new(manners: Manners, outline: Outline) -> Self {
        let mut state = Self {
            manners,
            generations: BTreeMap::new(),
            workers: BTreeMap::new(),
            current: None,
            next: None,
            last_cycle: 0,
            last_generation: 0,
            last_worker: 0,
            edge: EdgeState::default(),
            stopping: None,
            renewal: None,
            resting: false,
            reload_again: false,
            retry_mold: None,
            mold_backoffs: BTreeMap::new(),
            actions: VecDeque::new(),
            ended: false,
        };
        let cycle = state.new_cycle();
        state.read(cycle, outline, Duration::ZERO);
        state
    }

    /// Whether signals are answered as nginx answers them.
    pub(crate) fn is_nginx(&self) -> bool {
        self.manners == Manners::Nginx
    }

    /// The next thing to do.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Takes what happened. The actions follow.
    pub(crate) fn handle(&mut self, event: Event, now: Time) {
        if self.ended {
            return;
        }
        match event {
            Event::Read { cycle, outline } => self.read(cycle, outline, now),
            Event::Refused { cycle } => self.refused(cycle, now),
            Event::Configured { generation, plan } => self.configured(generation, plan, now),
            Event::MoldReady { generation } => self.mold_ready(generation),
            Event::MoldFailed { generation, code, text } => self.mold_failed(generation, code, &text, now),
            Event::MoldGone { generation, status } => self.mold_gone(generation, status, now),
            Event::WorkerSpawned { worker, pid } => self.worker_spawned(worker, pid),
            Event::WorkerReady { worker } => self.worker_ready(worker, now),
            Event::WorkerDrained { worker } => self.worker_drained(worker),
            Event::WorkerGone { worker, work } => self.worker_gone(worker, work, now),
            Event::WorkerExited { worker, status } => self.worker_exited(worker, status, now),
            Event::WorkerRecycle { worker, reason } => self.worker_recycle(worker, &reason),
            Event::WorkerSilent { worker, seconds } => self.worker_silent(worker, seconds, now),
            Event::WorkerOverran { worker, method, path, seconds, graceful } => {
                self.worker_overran(worker, &method, &path, seconds, graceful, now);
            }
            Event::Resident { worker, bytes } => self.worker_resident(worker, bytes),
            Event::Changed { generation, worker, path } => self.changed(generation, worker, &path),
            Event::EdgeConfigured => self.edge_configured(now),
            Event::EdgeFatal { text } => self.edge.fatal = Some(text),
            Event::EdgeStopped => self.edge_stopped(now),
            Event::EdgeGone { status } => self.edge_gone(status, now),
            Event::HookDone => self.hook_done(now),
            Event::SuccessorGone => self.wake(),
            Event::Signal(signal) => self.signal(signal, now),
        }
        self.settle(now);
    }

    /// Takes the passing of time.
    pub(crate) fn tick(&mut self, now: Time) {
        if self.ended {
            return;
        }
        self.tick_workers(now);
        self.tick_molds(now);
        self.tick_felled(now);
        self.tick_edge(now);
        self.tick_stop(now);
        if self.retry_mold.is_some_and(|at| at <= now) {
            self.restart_mold(now);
        }
        self.settle(now);
    }

    /// When [`State::tick`] has to be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Time> {
        if self.ended {
            return None;
        }
        let workers = self.workers.values().filter_map(Worker::deadline);
        let stop = self.stopping.as_ref().and_then(|s| s.deadline);
        let spawn = self.next_spawn();
        let molds = self.generations.values().filter_map(Generation::boot_deadline);
        workers.chain(molds).chain(stop).chain(spawn).chain(self.retry_mold).chain(self.edge.restart_at).min()
    }

    /// Workers whose resident memory is limited: their numbers and pids.
    pub(crate) fn measured(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.workers.values().filter_map(|w| {
            let limited = self.generations.get(&w.generation)?.plan.max_rss.is_some();
            (limited && w.life == Life::Serving && !w.retiring).then_some((w.number, w.pid?))
        })
    }

    /// How many workers an application has that is served, as it was configured or TTIN and TTOU have made it.
    pub(crate) fn workers_of(&self, application: usize) -> Option<u32> {
        let generation = self.serving().get(application)?;
        self.generations.get(generation).map(|g| g.target)
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn log(&mut self, level: Level, text: impl Into<String>) {
        self.act(Action::Log { level, text: text.into() });
    }

    /// Brings what is into line with what should be: enough workers, the old ones out, the edge open.
    fn settle(&mut self, now: Time) {
        self.end_workers();
        if self.stopping.is_some() {
            self.spawn_missing(now);
            self.settle_stop(now);
            return;
        }
        self.switch(now);
        self.switch_one(now);
        self.spawn_missing(now);
        self.drain_surplus(now);
        self.end_generations();
        if !self.edge.accepting && self.edge.is_up() && self.can_answer() {
            self.edge.accepting = true;
            self.act(Action::Accept);
        }
    }

    fn signal(&mut self, signal: Signal, now: Time) {
        match (self.manners, signal) {
            (Manners::Nginx, Signal::Quit) if self.stopping.is_some() => {}
            // Supervisors and process groups send it twice. It stays a graceful stop, as with gunicorn; whoever has no
            // patience sends INT or QUIT.
            (Manners::Gunicorn, Signal::Term) if self.stopping.is_some() => self.told_again(),
            (Manners::Gunicorn, Signal::Term) | (Manners::Nginx, Signal::Quit) => {
                self.stop(StopMode::Graceful, now);
            }
            (_, Signal::Term | Signal::Int | Signal::Quit) => self.stop(StopMode::Quick, now),
            (_, Signal::Usr1) => self.act(Action::ReopenLogs),
            _ if self.stopping.is_some() => {}
            (Manners::Nginx, Signal::Hup) if self.resting => self.wake(),
            (Manners::Nginx, Signal::Hup) => {
                self.log(Level::Info, "reconfiguring");
                self.reload();
            }
            (_, Signal::Hup) => {
                self.log(Level::Info, "Hang up: reloading");
                self.reload();
            }
            // nginx knows neither.
            (Manners::Nginx, Signal::Ttin | Signal::Ttou) => {}
            (Manners::Gunicorn, Signal::Ttin) => self.resize(1),
            (Manners::Gunicorn, Signal::Ttou) => self.resize(-1),
            (Manners::Nginx, Signal::Usr2) => self.act(Action::ChangeBinary),
            (Manners::Nginx, Signal::Winch) => self.rest(),
            (Manners::Gunicorn, Signal::Usr2) => {
                self.log(Level::Warning, "USR2: a new binary cannot take over yet; nothing was done");
            }
            (Manners::Gunicorn, Signal::Winch) => {
                self.log(Level::Warning, "WINCH: workers cannot be put to rest yet; nothing was done");
            }
        }
    }
}
