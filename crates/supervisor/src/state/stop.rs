//! The end: the edge first, which finishes the requests; then the workers, the hook `on_exit`, the molds.

use super::generation::{Generation, Phase};
use super::signals::{SIGQUIT, SIGTERM};
use super::worker::{BOOT_DEATHS, Life};
use super::{Action, BTreeSet, Duration, Level, State, StopMode, Time};

/// Beyond the edge's own deadline.
const MARGIN: Duration = Duration::from_secs(1);
/// What a quick stop waits for workers, and every stop for molds.
const SHORT: Duration = Duration::from_secs(2);
/// What a hook `on_exit` may take.
const HOOK: Duration = Duration::from_secs(10);

/// How far the stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The edge finishes requests.
    Edge,
    /// Workers end.
    Workers,
    /// The hook `on_exit` runs.
    Hook,
    /// Molds end.
    Molds,
}

/// A stop under way.
#[derive(Debug)]
pub(super) struct Stopping {
    pub(super) mode: StopMode,
    stage: Stage,
    code: u8,
    /// Until then workers may end in peace; `None` for a quick stop.
    patient_until: Option<Time>,
    /// When the stage is over, whatever is still there.
    pub(super) deadline: Option<Time>,
    pub(super) edge_done: bool,
    /// Applications of whose end the edge knows.
    abandoned: BTreeSet<usize>,
    /// Generations whose molds have not told of ends that must have come: they hang, and would hang in a hook.
    deaf: BTreeSet<u64>,
    /// Hooks that have not returned.
    hooks: usize,
    killed: bool,
}

impl State {
    pub(super) fn stop(&mut self, mode: StopMode, now: Time) {
        match &self.stopping {
            None => self.begin_stop(mode, 0, now),
            Some(s) if s.mode == StopMode::Graceful => {
                self.log(Level::Warning, "Told a second time: ending at once");
                self.hurry(now);
            }
            Some(_) => self.kill_everybody(now),
        }
    }

    /// A graceful stop is under way, and the edge has not finished its requests.
    pub(super) fn finishes_requests(&self) -> bool {
        self.stopping
            .as_ref()
            .is_some_and(|s| s.mode == StopMode::Graceful && s.stage == Stage::Edge && !s.edge_done)
    }

    /// TERM, and it is stopping already.
    pub(super) fn told_again(&mut self) {
        if self.stopping.as_ref().is_some_and(|s| s.mode == StopMode::Graceful) {
            let text = "Shutting down already, finishing requests first; INT or QUIT ends at once";
            self.log(Level::Info, text);
        }
    }

    /// Ends everything because of an error.
    pub(super) fn fail(&mut self, code: u8, now: Time) {
        match &mut self.stopping {
            Some(s) => s.code = s.code.max(code),
            None => self.begin_stop(StopMode::Quick, code, now),
        }
    }

    /// Ends everything with that code, requests first.
    pub(super) fn leave_with(&mut self, code: u8, now: Time) {
        match &mut self.stopping {
            Some(s) => s.code = s.code.max(code),
            None => self.begin_stop(StopMode::Graceful, code, now),
        }
    }

    /// Whether all is to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    fn begin_stop(&mut self, mode: StopMode, code: u8, now: Time) {
        let grace = self.grace();
        self.retry_mold = None;
        self.give_up_boots(now);
        self.edge.restart_at = None;
        // Those of before do not tell how it will go from now on.
        for g in self.generations.values_mut() {
            g.boot_deaths = 0;
        }
        let graceful = mode == StopMode::Graceful && self.edge.is_up();
        self.stopping = Some(Stopping {
            mode,
            stage: Stage::Edge,
            code,
            patient_until: graceful.then_some(now + grace),
            deadline: Some(now + if graceful { grace + MARGIN } else { SHORT }),
            edge_done: !self.edge.is_alive(),
            abandoned: BTreeSet::new(),
            deaf: BTreeSet::new(),
            hooks: 0,
            killed: false,
        });
        if code == 0 {
            let how = if graceful { "finishing requests first" } else { "at once" };
            self.log(Level::Info, format!("Shutting down: {how}"));
        }
        if self.edge.is_alive() {
            let seconds = if graceful { grace.as_secs_f64().ceil() as u64 } else { 0 };
            self.act(Action::StopEdge { graceful, seconds });
        }
        if !graceful {
            self.end_all_workers(SIGQUIT, now, SHORT);
        }
    }

    /// A reload that is under way is of no use any more, and how it would have gone of no interest.
    fn give_up_boots(&mut self, now: Time) {
        if self.current.is_none() {
            // It is all there is.
            return;
        }
        let booting = self.booting();
        self.renewal = None;
        if let Some(next) = self.next.take() {
            self.act(Action::Discard { cycle: next.number });
        }
        for generation in booting {
            let imports =
                self.generations.get(&generation).is_some_and(|g| g.phase == Phase::Molding && g.mold);
            self.give_up(generation, now);
            if imports {
                // It hears nothing else.
                self.act(Action::KillMold { generation });
            }
        }
    }

    fn hurry(&mut self, now: Time) {
        if let Some(s) = &mut self.stopping {
            s.mode = StopMode::Quick;
            s.patient_until = None;
            if matches!(s.stage, Stage::Edge | Stage::Workers) {
                s.stage = Stage::Workers;
                s.deadline = Some(now + SHORT);
            }
        }
        if self.edge.is_alive() {
            self.act(Action::StopEdge { graceful: false, seconds: 0 });
        }
        self.end_all_workers(SIGQUIT, now, SHORT);
    }

    fn end_all_workers(&mut self, signal: i32, now: Time, limit: Duration) {
        if let Some(s) = &mut self.stopping {
            s.stage = Stage::Workers;
            s.deadline = Some(now + limit);
        }
        let workers: Vec<u64> =
            self.workers.values().filter(|w| !w.exited && w.pid.is_some()).map(|w| w.number).collect();
        for worker in workers {
            self.act(Action::SignalWorker { worker, signal });
        }
    }

    fn kill_everybody(&mut self, now: Time) {
        let first = match &mut self.stopping {
            Some(s) => !std::mem::replace(&mut s.killed, true),
            None => return,
        };
        if first {
            let workers: Vec<u64> = self.workers.keys().copied().collect();
            for worker in workers {
                self.kill(worker, now);
            }
            if self.edge.is_alive() {
                self.act(Action::KillEdge);
            }
        }
    }

    pub(super) fn edge_stopped(&mut self, now: Time) {
        let Some(s) = &mut self.stopping else { return };
        s.edge_done = true;
        if s.stage == Stage::Edge {
            // What the requests have left of graceful_timeout is for what ends with a worker: its hooks, its threads.
            let left = s.patient_until.map_or(Duration::ZERO, |until| until.saturating_sub(now));
            let booting = self.workers.values().filter(|w| w.life == Life::Booting).map(|w| w.number);
            for worker in booting.collect::<Vec<_>>() {
                self.kill(worker, now);
            }
            self.end_all_workers(SIGTERM, now, left.max(SHORT));
        }
    }

    pub(super) fn hook_done(&mut self, now: Time) {
        let Some(s) = self.stopping.as_mut().filter(|s| s.stage == Stage::Hook) else { return };
        s.hooks = s.hooks.saturating_sub(1);
        if s.hooks == 0 {
            self.stop_molds(now);
        }
    }

    /// Without a mold, or where none comes up any more, there are no new workers, and while all ends no new mold. What
    /// waits for an application that has neither would wait until `graceful_timeout`, and with it the end.
    fn abandon_queues(&mut self) {
        if !self.finishes_requests() {
            return;
        }
        let has_worker = |generation| self.workers.values().any(|w| w.generation == generation && !w.exited);
        let gets_some = |g: &Generation| g.mold && g.boot_deaths < BOOT_DEATHS;
        let gets_worker = |generation| self.generations.get(&generation).is_some_and(gets_some);
        let serving = self.serving().iter().enumerate();
        let deserted =
            serving.filter(|(_, generation)| !gets_worker(**generation) && !has_worker(**generation));
        let deserted: Vec<usize> = deserted.map(|(application, _)| application).collect();
        for application in deserted {
            if self.stopping.as_mut().is_some_and(|s| s.abandoned.insert(application)) {
                self.act(Action::Abandon { application });
            }
        }
    }

    /// A stage that is done gives way to the next.
    pub(super) fn settle_stop(&mut self, now: Time) {
        self.abandon_queues();
        let Some(s) = &self.stopping else { return };
        if s.stage == Stage::Workers && s.edge_done && self.workers.values().all(|w| w.exited) {
            let hears = |g: &u64| !s.deaf.contains(g);
            let with_mold =
                |g: &&u64| self.generations.get(g).is_some_and(|generation| generation.mold) && hears(g);
            let molds: Vec<u64> = self.serving().iter().filter(with_mold).copied().collect();
            match &mut self.stopping {
                Some(s) if !molds.is_empty() => {
                    s.stage = Stage::Hook;
                    s.hooks = molds.len();
                    s.deadline = Some(now + HOOK);
                    for generation in molds {
                        self.act(Action::Hook { generation, name: "on_exit", arguments: vec![] });
                    }
                }
                _ => self.stop_molds(now),
            }
        }
        let is_last = self.stopping.as_ref().is_some_and(|s| s.stage == Stage::Molds);
        if is_last && self.generations.values().all(|g| !g.mold) {
            self.exit();
        }
    }

    fn stop_molds(&mut self, now: Time) {
        if let Some(s) = &mut self.stopping {
            s.stage = Stage::Molds;
            s.deadline = Some(now + SHORT);
        }
        let molds: Vec<u64> = self.generations.values().filter(|g| g.mold).map(|g| g.number).collect();
        for generation in molds {
            if let Some(g) = self.generations.get_mut(&generation) {
                g.mold_stopped = true;
            }
            self.act(Action::StopMold { generation });
        }
    }

    pub(super) fn tick_stop(&mut self, now: Time) {
        let Some(s) = &self.stopping else { return };
        if s.deadline.is_none_or(|at| at > now) {
            return;
        }
        match s.stage {
            Stage::Edge => {
                self.log(Level::Warning, "The edge did not finish within graceful_timeout; killing it");
                self.act(Action::KillEdge);
                self.end_all_workers(SIGTERM, now, SHORT);
            }
            Stage::Workers if s.killed => {
                // KILL cannot be refused: whoever is not reported by now (a process in the kernel's hands, a mold
                // that hangs) is not waited for.
                let unheard = self.workers.values_mut().filter(|w| !w.exited);
                let deaf = unheard
                    .map(|w| {
                        w.exited = true;
                        w.generation
                    })
                    .collect();
                if let Some(s) = &mut self.stopping {
                    s.deaf = deaf;
                    s.edge_done = true;
                    s.deadline = None;
                }
            }
            Stage::Workers => {
                if s.mode == StopMode::Graceful {
                    let late = self.workers.values().filter(|w| !w.exited).map(|w| w.number);
                    for worker in late.collect::<Vec<_>>() {
                        let pid = self.pid_text(worker);
                        let text =
                            format!("Worker (pid:{pid}) did not end within graceful_timeout; killing it");
                        self.log(Level::Warning, text);
                    }
                }
                self.kill_everybody(now);
                if let Some(s) = &mut self.stopping {
                    s.deadline = Some(now + SHORT);
                }
            }
            Stage::Hook => {
                self.log(
                    Level::Warning,
                    format!("The hook on_exit did not return within {} s", HOOK.as_secs()),
                );
                self.stop_molds(now);
            }
            Stage::Molds => {
                let molds: Vec<u64> =
                    self.generations.values().filter(|g| g.mold).map(|g| g.number).collect();
                for generation in molds {
                    self.act(Action::KillMold { generation });
                }
                self.exit();
            }
        }
    }

    fn exit(&mut self) {
        let code = self.stopping.as_ref().map_or(0, |s| s.code);
        self.ended = true;
        if code == 0 {
            self.log(Level::Info, "Shut down");
        }
        self.act(Action::Exit { code });
    }
}
