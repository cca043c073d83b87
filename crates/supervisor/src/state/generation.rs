//! Generations: one mold and its workers, for one application.

use super::backoff::Backoff;
use super::signals::{SIGINT, SIGQUIT, SIGTERM};
use super::{
    Action, BTreeMap, BTreeSet, Duration, Level, Life, Plan, State, Status, Time, WORKER_BOOT_ERROR,
};

/// So long after a mold the master hears of a signal that was sent to both.
const GROUP: Duration = Duration::from_millis(500);

/// Where a generation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its mold reads settings and imports.
    Molding,
    /// Its mold forks; not every worker is ready yet.
    Booting,
    /// It answers requests.
    Serving,
    /// Another one has taken over.
    Leaving,
}

/// One mold and its workers.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) phase: Phase,
    pub(super) plan: Plan,
    /// How many workers it should have; TTIN and TTOU change it.
    pub(super) target: u32,
    /// The mold's process lives.
    pub(super) mold: bool,
    /// The mold was told to end.
    pub(super) mold_stopped: bool,
    /// When the mold has to be ready; after ABRT, when it has to be dead.
    pub(super) boot_by: Option<Time>,
    /// The mold got ABRT.
    pub(super) aborted: bool,
    /// How often each worker has told of a change in each file. Every worker watches, so that the first to tell of
    /// the n-th change is news and the others are echoes.
    changes: BTreeMap<String, BTreeMap<u64, u32>>,
    /// Requests that its application had finished when one of its workers last died quickly.
    pub(super) finished: u64,
    /// Slows its workers down that die in a loop. Those of others have nothing to do with it.
    pub(super) backoff: Backoff,
    /// Workers that were ready while it booted, and died over requests since: those need not be ready again.
    pub(super) proven: u32,
    /// Workers that died before they were ready, and not of an error; while all ends, of whatever.
    pub(super) boot_deaths: u32,
    /// Its mold was ended by a signal that whoever ends a whole group of processes sends. Unless the master has heard
    /// of it as well by then, it is a failure.
    pub(super) felled: Option<(Time, Status)>,
    /// What TTIN and TTOU have said before its settings were known.
    resized: i64,
}

impl Generation {
    /// How many workers it may have.
    fn most_workers(&self) -> i64 {
        i64::from((u32::from(config::model::MOST_WORKER_THREADS) / self.plan.threads.max(1)).max(1))
    }

    pub(super) fn boot_deadline(&self) -> Option<Time> {
        let felled = self.felled.map(|(at, _)| at);
        self.boot_by.filter(|_| self.mold).into_iter().chain(felled).min()
    }
}

impl State {
    /// Starts the generation that is to serve an application of a cycle, and returns its number.
    pub(super) fn start_generation(&mut self, cycle: u64, application: usize, now: Time) -> u64 {
        self.last_generation += 1;
        let number = self.last_generation;
        // Until its own settings are known, those of the generation before hold for it.
        let before = self.serving().get(application).and_then(|g| self.generations.get(g));
        let boot_timeout = before.and_then(|g| g.plan.boot_timeout);
        self.generations.insert(
            number,
            Generation {
                number,
                phase: Phase::Molding,
                plan: Plan {
                    workers: 0,
                    threads: 1,
                    graceful_timeout: Duration::from_secs(30),
                    boot_timeout,
                    max_rss: None,
                },
                target: 0,
                mold: true,
                mold_stopped: false,
                boot_by: boot_timeout.map(|limit| now + limit),
                aborted: false,
                changes: BTreeMap::new(),
                finished: 0,
                backoff: Backoff::default(),
                proven: 0,
                boot_deaths: 0,
                felled: None,
                resized: 0,
            },
        );
        self.act(Action::StartMold { cycle, application, generation: number });
        number
    }

    pub(super) fn configured(&mut self, generation: u64, plan: Plan, now: Time) {
        if let Some(g) = self.generations.get_mut(&generation) {
            if !g.aborted {
                g.boot_by = plan.boot_timeout.map(|limit| now + limit);
            }
            g.target = plan.workers;
            g.plan = plan;
            let by = std::mem::take(&mut g.resized);
            if by != 0 {
                self.resize_one(generation, by);
            }
        }
    }

    pub(super) fn mold_ready(&mut self, generation: u64) {
        if !self.boots(generation) {
            return;
        }
        if let Some(g) = self.generations.get_mut(&generation) {
            g.phase = Phase::Booting;
            if !g.aborted {
                g.boot_by = None;
            }
        }
    }

    pub(super) fn mold_failed(&mut self, generation: u64, code: u8, text: &str, now: Time) {
        let is_leaving = self.generations.get(&generation).is_some_and(|g| g.phase == Phase::Leaving);
        if self.stopping.is_some() && is_leaving {
            return;
        }
        for line in text.lines() {
            self.log(if code == 0 { Level::Info } else { Level::Error }, line);
        }
        if self.boots(generation) {
            self.generation_failed(generation, code, now);
        } else if self.serves(generation) && !self.is_nginx() {
            // A hook has ended the program, as it would have ended gunicorn. With an nginx.conf it is one of several
            // that are served, and its mold goes on.
            self.leave_with(code, now);
        }
    }

    pub(super) fn mold_gone(&mut self, generation: u64, status: Status, now: Time) {
        let boots = self.boots(generation);
        let Some(g) = self.generations.get_mut(&generation) else { return };
        g.mold = false;
        if g.mold_stopped {
            return;
        }
        g.mold_stopped = true;
        if self.stopping.is_some() {
            return;
        }
        if boots && matches!(status, Status::Signal(SIGINT | SIGQUIT | SIGTERM)) {
            g.felled = Some((now + GROUP, status));
        } else if boots {
            self.mold_lost(generation, status, now);
        } else if self.serves(generation) {
            self.log(
                Level::Error,
                format!("The mold {status}; its workers go on until a new generation is ready"),
            );
            if let Some(application) = self.serving().iter().position(|g| *g == generation) {
                self.mold_died(application, now);
            }
        }
    }

    fn mold_lost(&mut self, generation: u64, status: Status, now: Time) {
        self.log(
            Level::Error,
            format!("The mold (generation {generation}) {status} before its workers were ready"),
        );
        self.generation_failed(generation, WORKER_BOOT_ERROR, now);
    }

    pub(super) fn tick_felled(&mut self, now: Time) {
        let is_due = |g: &&mut Generation| g.felled.is_some_and(|(at, _)| at <= now);
        let felled = self.generations.values_mut().filter(is_due);
        let felled: Vec<(u64, Status)> =
            felled.filter_map(|g| Some((g.number, g.felled.take()?.1))).collect();
        for (generation, status) in felled {
            if self.stopping.is_none() && self.boots(generation) {
                self.mold_lost(generation, status, now);
            }
        }
    }

    /// A generation did not boot, and with it its cycle.
    pub(super) fn generation_failed(&mut self, generation: u64, code: u8, now: Time) {
        if self.renews(generation) {
            self.renewal_failed(now);
        } else if self.boots(generation) {
            self.cycle_failed(code, now);
        }
    }

    /// It can take over: its mold and all of its workers are ready. One that was, and died over a request, is not waited
    /// for again: whoever sends such requests would keep a reload from ever ending.
    pub(super) fn has_booted(&self, generation: u64) -> bool {
        let ready = self.ready_workers(generation);
        self.generations.get(&generation).is_some_and(|g| {
            let is_enough = ready + g.proven as usize >= g.target as usize;
            g.mold && g.phase == Phase::Booting && is_enough && (ready > 0 || g.target == 0)
        })
    }

    /// Sends the workers away of what does not come up. They may have taken requests already.
    pub(super) fn give_up(&mut self, generation: u64, now: Time) {
        let grace = self.generations.get(&generation).map_or(Duration::ZERO, |g| g.plan.graceful_timeout);
        self.leave(generation, grace, now);
    }

    /// Sends a generation's workers away.
    pub(super) fn leave(&mut self, generation: u64, grace: Duration, now: Time) {
        if let Some(g) = self.generations.get_mut(&generation) {
            g.phase = Phase::Leaving;
        }
        let workers: Vec<u64> =
            self.workers.values().filter(|w| w.generation == generation).map(|w| w.number).collect();
        for worker in workers {
            if grace.is_zero() {
                self.kill(worker, now);
            } else {
                self.drain(worker, grace, false, now);
            }
        }
    }

    /// Ends the molds of generations that have no worker left.
    pub(super) fn end_generations(&mut self) {
        let with_workers: BTreeSet<u64> = self.workers.values().map(|w| w.generation).collect();
        let mut stop = vec![];
        self.generations.retain(|number, g| {
            if g.phase != Phase::Leaving || with_workers.contains(number) {
                return true;
            }
            if g.mold && !g.mold_stopped {
                g.mold_stopped = true;
                stop.push(*number);
            }
            g.mold
        });
        for generation in stop {
            self.act(Action::StopMold { generation });
        }
    }

    /// Of what serves and of what boots: that may take its place, or not.
    pub(super) fn resize(&mut self, by: i64) {
        let mut generations = self.serving().to_vec();
        generations.extend(self.booting());
        for generation in generations {
            self.resize_one(generation, by);
        }
    }

    /// What is being brought up.
    pub(super) fn booting(&self) -> Vec<u64> {
        let next = self.next.iter().flat_map(|next| &next.generations).copied();
        next.chain(self.renewal.map(|renewal| renewal.generation)).collect()
    }

    fn resize_one(&mut self, generation: u64, by: i64) {
        let Some(g) = self.generations.get_mut(&generation) else { return };
        let old = i64::from(g.target);
        if old == 0 {
            g.resized += by;
            return;
        }
        let new = (old + by).clamp(1, g.most_workers().max(old));
        if new == old {
            return;
        }
        g.target = new as u32;
        self.log(Level::Info, format!("{new} worker{} instead of {old}", if new == 1 { "" } else { "s" }));
        self.act(Action::Hook { generation, name: "nworkers_changed", arguments: vec![new, old] });
    }

    pub(super) fn changed(&mut self, generation: u64, worker: u64, path: &str) {
        let newest = self.boots(generation) || (self.next.is_none() && self.serves(generation));
        let serves = self.serves(generation);
        let Some(g) = self.generations.get_mut(&generation) else { return };
        let counts = g.changes.entry(path.to_owned()).or_default();
        let most = counts.values().copied().max().unwrap_or(0);
        let count = counts.entry(worker).or_default();
        *count += 1;
        let is_news = *count > most;
        // What the newest generation has read may be older than the change, also while it still boots.
        if is_news && (newest || serves) {
            let name = std::path::Path::new(path)
                .file_name()
                .map_or(path.to_owned(), |n| n.to_string_lossy().into_owned());
            self.log(Level::Info, format!("{name} changed; reloading"));
            self.reload();
        }
    }

    pub(super) fn ready_workers(&self, generation: u64) -> usize {
        self.workers
            .values()
            .filter(|w| w.generation == generation && w.life == Life::Serving && !w.retiring && !w.exited)
            .count()
    }
}

/// A delay in words.
pub(super) fn seconds(delay: Duration) -> String {
    format!("{} s", (delay.as_secs_f64() * 10.0).round() / 10.0)
}
