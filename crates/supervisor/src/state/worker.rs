//! Workers: from the order to spawn one to its end, and the replacement of those that end.

use super::generation::{Generation, Phase, seconds};
use super::signals::{SHOW_STACKS, SIGABRT, SIGKILL, SIGTERM};
use super::{APP_LOAD_ERROR, Action, Duration, Level, State, Status, Time, WORKER_BOOT_ERROR, Work};

/// After ABRT a worker has this long to write its stacks and run its hook.
pub(super) const ABORT: Duration = Duration::from_secs(2);
/// A worker that crashes within this time of being ready dies quickly.
const QUICK: Duration = Duration::from_secs(1);

/// Of so many workers that die by a signal, or without an error, before they are ready, a reload does not come up.
pub(super) const BOOT_DEATHS: u32 = 5;

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Ordered, forked or importing.
    Booting,
    /// Claims requests.
    Serving,
    /// Finishes what it runs; after `until` it is ended, with its stacks logged first if `abort`.
    Draining { until: Time, abort: bool },
    /// Got ABRT; gets KILL at `until`.
    Aborting { until: Time },
    /// Got KILL.
    Killed,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) number: u64,
    pub(super) generation: u64,
    pub(super) pid: Option<u32>,
    pub(super) life: Life,
    /// Serves until another is ready in its place.
    pub(super) retiring: bool,
    /// When it became ready.
    ready_at: Option<Time>,
    /// When it has to be ready.
    pub(super) boot_by: Option<Time>,
    /// It was not ready then, and is being ended.
    pub(super) overdue: bool,
    /// The edge has no socket to it (any more).
    pub(super) gone: bool,
    /// What the edge has said that it has done.
    work: Option<Work>,
    pub(super) exited: bool,
    /// How it ended, by the mold's word, before the master knew it ready. Whether it was, and had requests, the edge
    /// knows, whose word comes by another way.
    ended: Option<Status>,
    /// It died quickly, and what it has done is not known yet: until then none takes its place.
    suspect: bool,
}

impl Worker {
    pub(super) fn deadline(&self) -> Option<Time> {
        match self.life {
            _ if self.exited => None,
            Life::Draining { until, .. } | Life::Aborting { until } => Some(until),
            Life::Booting => self.boot_by,
            Life::Serving | Life::Killed => None,
        }
    }

    /// Counts as one of the workers that its generation should have. One that hung while it booted does until its end
    /// has been taken as a failed boot, and one that died quickly or early until it is known of what.
    fn is_wanted(&self) -> bool {
        let lives = self.overdue || matches!(self.life, Life::Booting | Life::Serving);
        !self.retiring && if self.exited { self.suspect || self.ended.is_some() } else { lives }
    }
}

impl State {
    fn spawn(&mut self, generation: u64, threads: u32, now: Time) {
        let boot_timeout = self.generations.get(&generation).and_then(|g| g.plan.boot_timeout);
        self.last_worker += 1;
        let number = self.last_worker;
        self.workers.insert(
            number,
            Worker {
                number,
                generation,
                pid: None,
                life: Life::Booting,
                retiring: false,
                ready_at: None,
                boot_by: boot_timeout.map(|limit| now + limit),
                overdue: false,
                gone: false,
                work: None,
                exited: false,
                ended: None,
                suspect: false,
            },
        );
        self.act(Action::SpawnWorker { generation, worker: number, age: number, threads });
    }

    /// Workers that are missing, in generations that may have new ones: how many, and from when on.
    fn missing(&self) -> Vec<(&Generation, u32, Option<Time>)> {
        let mut missing = vec![];
        if !self.edge.is_up() || (self.stopping.is_some() && !self.finishes_requests()) {
            return missing;
        }
        for g in self.generations.values() {
            if !g.mold || g.mold_stopped || !matches!(g.phase, Phase::Booting | Phase::Serving) {
                continue;
            }
            let wanted =
                self.workers.values().filter(|w| w.generation == g.number && w.is_wanted()).count() as u32;
            // While the edge finishes requests, an application none of whose workers is left gets new ones: whoever
            // sends TERM to every process of a service has ended them, and requests wait.
            let is_hopeless = g.boot_deaths >= BOOT_DEATHS;
            if self.stopping.is_some() && (wanted > 0 || is_hopeless || !self.serves(g.number)) {
                continue;
            }
            if wanted < g.target {
                missing.push((g, g.target - wanted, g.backoff.until()));
            }
        }
        missing
    }

    /// When the next worker may start, if one is missing that may not at once.
    pub(super) fn next_spawn(&self) -> Option<Time> {
        self.missing().into_iter().filter_map(|(.., from)| from).min()
    }

    pub(super) fn spawn_missing(&mut self, now: Time) {
        let due = self.missing().into_iter().filter(|(.., from)| from.is_none_or(|at| at <= now));
        let due: Vec<_> = due.map(|(g, count, _)| (g.number, count, g.plan.threads)).collect();
        for (generation, count, threads) in due {
            for _ in 0..count {
                self.spawn(generation, threads, now);
            }
        }
    }

    /// Lets workers go that others are ready in place of: retiring ones, then, after TTOU, the oldest.
    pub(super) fn drain_surplus(&mut self, now: Time) {
        for generation in self.serving().to_vec() {
            self.drain_surplus_of(generation, now);
        }
    }

    fn drain_surplus_of(&mut self, generation: u64, now: Time) {
        let Some(g) = self.generations.get(&generation) else { return };
        let (target, grace) = (g.target as usize, g.plan.graceful_timeout);
        let mut fresh: Vec<u64> = vec![];
        let mut retiring: Vec<u64> = vec![];
        for w in self.workers.values().filter(|w| w.generation == generation && !w.exited) {
            match w.life {
                Life::Serving if w.retiring => retiring.push(w.number),
                Life::Serving => fresh.push(w.number),
                _ => {}
            }
        }
        let spare = (fresh.len() + retiring.len()).saturating_sub(target);
        let surplus = fresh.len().saturating_sub(target);
        let leaving: Vec<u64> =
            retiring.iter().take(spare).copied().chain(fresh.into_iter().take(surplus)).collect();
        for worker in leaving {
            self.drain(worker, grace, false, now);
        }
        // TTOU while one boots: the youngest that are not there yet are not needed.
        let booting: Vec<u64> = self
            .workers
            .values()
            .filter(|w| w.generation == generation && w.is_wanted() && w.life == Life::Booting)
            .map(|w| w.number)
            .collect();
        let serving = self.ready_workers(generation);
        let keep = target.saturating_sub(serving);
        for worker in booting.into_iter().skip(keep) {
            self.kill(worker, now);
        }
    }

    pub(super) fn drain(&mut self, worker: u64, grace: Duration, abort: bool, now: Time) {
        let Some(w) = self.workers.get_mut(&worker) else { return };
        if w.exited {
            return;
        }
        match w.life {
            Life::Serving => {
                w.life = Life::Draining { until: now + grace, abort };
                self.act(Action::Drain { worker });
            }
            // It has nothing to finish.
            Life::Booting => self.kill(worker, now),
            Life::Draining { .. } | Life::Aborting { .. } | Life::Killed => {}
        }
    }

    pub(super) fn kill(&mut self, worker: u64, _now: Time) {
        let Some(w) = self.workers.get_mut(&worker) else { return };
        if w.exited || w.life == Life::Killed {
            return;
        }
        w.life = Life::Killed;
        // Without a pid it is killed as soon as it has one.
        if w.pid.is_some() {
            self.act(Action::SignalWorker { worker, signal: SIGKILL });
        }
    }

    pub(super) fn abort(&mut self, worker: u64, now: Time) {
        // Python's words for the stacks of a process that got ABRT read as if it had crashed.
        let pid = self.pid_text(worker);
        let text = format!(
            "Worker (pid:{pid}) is told to end, and writes the stacks of its threads first; Python's words \"Fatal Python \
             error: Aborted\" before them mean this order, and no crash"
        );
        self.log(Level::Critical, text);
        if let Some(w) = self.workers.get_mut(&worker) {
            w.life = Life::Aborting { until: now + ABORT };
            self.act(Action::SignalWorker { worker, signal: SIGABRT });
        }
    }

    pub(super) fn tick_workers(&mut self, now: Time) {
        let due: Vec<(u64, Life)> = self
            .workers
            .values()
            .filter(|w| w.deadline().is_some_and(|at| at <= now))
            .map(|w| (w.number, w.life))
            .collect();
        for (worker, life) in due {
            if let Life::Draining { abort: true, .. } = life {
                self.abort(worker, now);
            } else if life == Life::Booting {
                self.worker_overdue(worker, now);
            } else {
                let pid = self.pid_text(worker);
                let text = match life {
                    Life::Aborting { .. } => {
                        format!("Worker (pid:{pid}) did not end after SIGABRT; killing it")
                    }
                    _ => format!("Worker (pid:{pid}) did not finish within graceful_timeout; killing it"),
                };
                self.log(Level::Warning, text);
                self.kill(worker, now);
            }
        }
    }

    pub(super) fn worker_spawned(&mut self, worker: u64, pid: u32) {
        let Some(w) = self.workers.get_mut(&worker) else { return };
        w.pid = Some(pid);
        match w.life {
            Life::Killed => self.act(Action::SignalWorker { worker, signal: SIGKILL }),
            Life::Draining { .. } => self.act(Action::SignalWorker { worker, signal: SIGTERM }),
            _ => {}
        }
    }

    pub(super) fn worker_ready(&mut self, worker: u64, now: Time) {
        let Some(w) = self.workers.get_mut(&worker) else { return };
        if w.life == Life::Booting && (!w.exited || w.ended.is_some()) && !w.gone {
            w.life = Life::Serving;
            w.ready_at = Some(now);
        }
    }

    pub(super) fn worker_drained(&mut self, worker: u64) {
        let Some(w) = self.workers.get(&worker) else { return };
        if matches!(w.life, Life::Draining { .. }) && !w.exited && w.pid.is_some() {
            // The edge has told it to end; one that waits for a thread of its own hears it from here too.
            self.act(Action::SignalWorker { worker, signal: SIGTERM });
        }
    }

    /// The edge lost the socket. The process is dead, or will be: nothing reaches it any more.
    pub(super) fn worker_gone(&mut self, worker: u64, work: Option<Work>, now: Time) {
        if let Some(w) = self.workers.get_mut(&worker) {
            w.gone = true;
            w.work = work.or(w.work);
            match w.ended.take() {
                Some(status) => self.take_end(worker, status, now),
                None => self.judge(worker, now),
            }
        }
    }

    /// Whether a worker that died quickly is one more of a loop. One that died over a request, while its application
    /// answers others, is not: whoever asks for that would make all others wait.
    fn judge(&mut self, worker: u64, now: Time) {
        let Some(w) = self.workers.get_mut(&worker) else { return };
        if !w.gone || !std::mem::take(&mut w.suspect) {
            return;
        }
        let (generation, work) = (w.generation, w.work);
        if let Some(work) = work
            && let Some(g) = self.generations.get_mut(&generation)
        {
            let goes_on = work.finished != std::mem::replace(&mut g.finished, work.finished);
            if work.used && g.phase == Phase::Booting {
                g.proven += 1;
            }
            if work.used && goes_on {
                g.backoff.reset();
                return;
            }
        }
        self.slow_down(generation, work.is_some_and(|work| work.used), now);
    }

    pub(super) fn worker_exited(&mut self, worker: u64, status: Status, now: Time) {
        let Some(w) = self.workers.get_mut(&worker) else { return };
        if w.exited {
            return;
        }
        w.exited = true;
        let (gone, life, generation) = (w.gone, w.life, w.generation);
        if life == Life::Booting && !gone && self.edge.is_up() && self.stopping.is_none() {
            w.ended = Some(status);
        }
        if !self.edge.is_up() {
            self.worker_gone(worker, None, now);
        } else if !gone {
            self.act(Action::TellExited { worker });
        }
        if self.stopping.is_some() {
            if life == Life::Booting {
                // See `missing`.
                if let Some(g) = self.generations.get_mut(&generation) {
                    g.backoff.failed(now);
                    g.boot_deaths += 1;
                }
            }
        } else if self.workers.get(&worker).is_some_and(|w| w.ended.is_none()) {
            self.take_end(worker, status, now);
        }
    }

    fn take_end(&mut self, worker: u64, status: Status, now: Time) {
        let Some(w) = self.workers.get(&worker) else { return };
        let (life, generation, ready_at) = (w.life, w.generation, w.ready_at);
        let leaving = self.generations.get(&generation).is_none_or(|g| g.phase == Phase::Leaving);
        let hung = w.overdue && !leaving;
        let pid = self.pid_text(worker);
        if self.stopping.is_some() {
            return;
        }
        match life {
            Life::Booting if leaving => {
                self.log(Level::Debug, format!("Worker (pid:{pid}) {status} before it was ready"));
            }
            Life::Booting => self.boot_failed(generation, &pid, status, hung, now),
            Life::Aborting { .. } | Life::Killed if hung => {
                self.boot_failed(generation, &pid, status, hung, now);
            }
            Life::Serving => {
                let level = if status == Status::Code(0) { Level::Info } else { Level::Error };
                self.log(level, format!("Worker (pid:{pid}) {status}; another one takes its place"));
                // Who kills from outside, or runs out of memory over a request, does not make a loop.
                let outside =
                    matches!(status, Status::Code(0) | Status::Unknown | Status::Signal(SIGKILL | SIGTERM));
                if !outside
                    && ready_at.is_some_and(|at| now.saturating_sub(at) < QUICK)
                    && let Some(w) = self.workers.get_mut(&worker)
                {
                    w.suspect = true;
                    self.judge(worker, now);
                } else if let Some(g) = self.generations.get_mut(&generation)
                    && g.phase == Phase::Booting
                {
                    g.proven += 1;
                }
            }
            Life::Draining { .. } | Life::Aborting { .. } | Life::Killed => {
                self.log(Level::Debug, format!("Worker (pid:{pid}) {status}"));
            }
        }
    }

    /// `hung`: it would have gone on booting, and was ended.
    fn boot_failed(&mut self, generation: u64, pid: &str, status: Status, hung: bool, now: Time) {
        self.log(Level::Error, format!("Worker (pid:{pid}) {status} before it was ready"));
        match status {
            _ if hung && self.boots(generation) => {
                self.generation_failed(generation, WORKER_BOOT_ERROR, now);
            }
            Status::Code(code) if code != 0 && self.boots(generation) => {
                let load_error = code == i32::from(APP_LOAD_ERROR);
                let code = if load_error { APP_LOAD_ERROR } else { WORKER_BOOT_ERROR };
                self.generation_failed(generation, code, now);
            }
            _ => {
                self.slow_down(generation, false, now);
                // What comes up the first time has nothing else to go on with; what does beside it must not keep
                // another one from coming up.
                let Some(g) = self.generations.get_mut(&generation) else { return };
                g.boot_deaths += 1;
                if g.boot_deaths >= BOOT_DEATHS && self.current.is_some() && self.boots(generation) {
                    self.generation_failed(generation, WORKER_BOOT_ERROR, now);
                }
            }
        }
    }

    fn slow_down(&mut self, generation: u64, at_work: bool, now: Time) {
        let Some(g) = self.generations.get_mut(&generation) else { return };
        let backoff = &mut g.backoff;
        let (delay, of_what) = if at_work {
            (backoff.failed_at_work(now), "over their first requests")
        } else {
            (backoff.failed(now), "as soon as they start")
        };
        let failures = backoff.failures();
        if !delay.is_zero() {
            let text = format!(
                "Workers die {of_what} ({failures} in a row); the next one starts in {}",
                seconds(delay)
            );
            self.log(Level::Warning, text);
        }
    }

    /// Removes workers that both the edge and the mold have reported.
    pub(super) fn end_workers(&mut self) {
        let ended: Vec<u64> =
            self.workers.values().filter(|w| w.exited && w.gone).map(|w| w.number).collect();
        for worker in ended {
            self.workers.remove(&worker);
            self.act(Action::Forget { worker });
        }
    }

    pub(super) fn worker_recycle(&mut self, worker: u64, reason: &str) {
        let Some(w) = self.workers.get_mut(&worker) else { return };
        if w.life != Life::Serving || w.retiring || w.exited {
            return;
        }
        w.retiring = true;
        let pid = self.pid_text(worker);
        self.log(Level::Info, format!("Worker (pid:{pid}) is replaced: {reason}"));
    }

    pub(super) fn worker_resident(&mut self, worker: u64, bytes: u64) {
        let Some(w) = self.workers.get(&worker) else { return };
        let Some(limit) = self.generations.get(&w.generation).and_then(|g| g.plan.max_rss) else { return };
        if bytes > limit {
            let reason = format!("it holds {} MiB, max_worker_rss is {} MiB", bytes >> 20, limit >> 20);
            self.worker_recycle(worker, &reason);
        }
    }

    pub(super) fn worker_overran(
        &mut self,
        worker: u64,
        method: &str,
        path: &str,
        seconds: f64,
        graceful: bool,
        now: Time,
    ) {
        let pid = self.pid_text(worker);
        let Some(w) = self.workers.get(&worker) else { return };
        if w.exited {
            return;
        }
        let (life, generation) = (w.life, w.generation);
        self.log(
            Level::Critical,
            format!("WORKER TIMEOUT (pid:{pid}): {method} {path} has run for {seconds:.1} s"),
        );
        match life {
            Life::Aborting { .. } | Life::Killed => {}
            // Other requests of the same worker may finish first. What this one does is told now.
            Life::Serving if graceful => {
                self.act(Action::SignalWorker { worker, signal: SHOW_STACKS });
                let grace = self.generations.get(&generation).map_or(ABORT, |g| g.plan.graceful_timeout);
                self.drain(worker, grace, true, now);
            }
            Life::Draining { until, .. } if graceful => {
                self.act(Action::SignalWorker { worker, signal: SHOW_STACKS });
                if let Some(w) = self.workers.get_mut(&worker) {
                    w.life = Life::Draining { until, abort: true };
                }
            }
            Life::Booting | Life::Serving | Life::Draining { .. } => self.abort(worker, now),
        }
    }

    /// It has no request and waits for none.
    pub(super) fn worker_silent(&mut self, worker: u64, seconds: f64, now: Time) {
        // One that boots, or is at its end, does something else.
        if self.workers.get(&worker).is_none_or(|w| w.life != Life::Serving || w.exited) {
            return;
        }
        let pid = self.pid_text(worker);
        let text = format!(
            "WORKER TIMEOUT (pid:{pid}): it has been busy for {seconds:.1} s without a request, or is stopped"
        );
        self.log(Level::Critical, text);
        self.abort(worker, now);
    }

    pub(super) fn is_anybody_ready(&self) -> bool {
        self.workers.values().any(|w| w.life == Life::Serving && !w.exited && !w.gone)
    }

    pub(super) fn pid_text(&self, worker: u64) -> String {
        self.workers.get(&worker).and_then(|w| w.pid).map_or_else(|| "?".to_owned(), |p| p.to_string())
    }
}
