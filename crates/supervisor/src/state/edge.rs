//! The edge process: it is started once, and again when it dies. Its death takes every worker's socket along.

use super::backoff::Backoff;
use super::generation::seconds;
use super::{Action, Duration, Level, State, Status, StopMode, Time};

/// Longer than anybody waits, and short enough to be added to a time.
const UNLIMITED: Duration = Duration::from_secs(366 * 86_400);

/// What the master knows of the edge.
#[derive(Debug, Default)]
pub(super) struct EdgeState {
    pub(super) process: Process,
    /// It was told to accept connections.
    pub(super) accepting: bool,
    /// It finishes its requests and ends, and the master stays.
    pub(super) told_to_end: bool,
    /// Why it said that it ends.
    pub(super) fatal: Option<String>,
    /// When to start another one.
    pub(super) restart_at: Option<Time>,
    backoff: Backoff,
}

/// The edge's process.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Process {
    /// The loop starts the first one when the first settings are there.
    #[default]
    Starting,
    /// It has its configuration.
    Up,
    /// It died.
    Down,
}

impl EdgeState {
    /// Whether workers can be handed to it.
    pub(super) fn is_up(&self) -> bool {
        self.process == Process::Up
    }

    /// Whether there is, or is about to be, a process.
    pub(super) fn is_alive(&self) -> bool {
        self.process != Process::Down
    }
}

impl State {
    pub(super) fn edge_configured(&mut self, _now: Time) {
        self.edge.process = Process::Up;
    }

    pub(super) fn edge_gone(&mut self, status: Status, now: Time) {
        let had_started = self.edge.is_up();
        self.edge.process = Process::Down;
        self.edge.accepting = false;
        let workers: Vec<u64> = self.workers.keys().copied().collect();
        for worker in workers {
            self.worker_gone(worker, None, now);
        }
        if let Some(stopping) = &self.stopping {
            if stopping.mode == StopMode::Graceful && !stopping.edge_done {
                self.log(Level::Error, format!("The edge {status} before it had finished"));
            }
            self.edge_stopped(now);
            return;
        }
        if std::mem::take(&mut self.edge.told_to_end) {
            // Their requests are finished; others start with the next edge.
            self.kill_workers(now);
            if !self.resting {
                self.restart_edge();
            }
            return;
        }
        let why = self.edge.fatal.take().map_or_else(String::new, |text| format!(": {text}"));
        self.log(Level::Critical, format!("The edge {status}{why}"));
        if !had_started && self.current.is_none() {
            self.fail(1, now);
            return;
        }
        // The sockets between it and the workers are gone: they end by themselves, and are made to.
        self.kill_workers(now);
        let delay = self.edge.backoff.failed(now);
        if !delay.is_zero() {
            self.log(Level::Warning, format!("Another edge starts in {}", seconds(delay)));
        }
        self.edge.restart_at = Some(now + delay);
    }

    /// The edge finishes its requests and ends, and the workers with it; the master waits for what comes.
    pub(super) fn rest(&mut self) {
        if self.resting {
            return;
        }
        self.log(Level::Info, "The edge finishes its requests; the master stays");
        self.resting = true;
        self.edge.restart_at = None;
        if self.edge.is_alive() {
            self.edge.told_to_end = true;
            let seconds = self.grace().as_secs_f64().ceil() as u64;
            self.act(Action::StopEdge { graceful: true, seconds });
        }
    }

    /// The edge starts again with the configuration that it had.
    pub(super) fn wake(&mut self) {
        if !std::mem::take(&mut self.resting) || self.stopping.is_some() {
            return;
        }
        self.log(Level::Info, "The edge starts again");
        // While one still finishes requests, another one starts when it has ended.
        if !self.edge.is_alive() {
            self.restart_edge();
        }
    }

    fn restart_edge(&mut self) {
        self.edge.restart_at = None;
        self.edge.process = Process::Starting;
        self.act(Action::StartEdge);
    }

    fn kill_workers(&mut self, now: Time) {
        let workers: Vec<u64> = self.workers.keys().copied().collect();
        for worker in workers {
            self.kill(worker, now);
        }
    }

    pub(super) fn tick_edge(&mut self, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        if self.edge.restart_at.is_some_and(|at| at <= now) {
            self.restart_edge();
        }
    }

    /// How long a graceful stop may take: what the configuration says, else what the applications allow.
    pub(super) fn grace(&self) -> Duration {
        let Some(cycle) = self.current.as_ref().or(self.next.as_ref()) else { return UNLIMITED };
        let generations = cycle.generations.iter().filter_map(|g| self.generations.get(g));
        let longest = generations.map(|g| g.plan.graceful_timeout).max();
        cycle.outline.and_then(|o| o.shutdown_timeout).or(longest).unwrap_or(UNLIMITED)
    }
}
