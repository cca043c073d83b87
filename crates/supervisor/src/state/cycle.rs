//! Cycles (nginx's word): a configuration and the generations that serve its applications. The new one is brought up
//! beside the old one and takes over when all of it is ready.

use super::generation::Phase;
use super::{APP_LOAD_ERROR, Action, Duration, Level, Outline, State, Time, WORKER_BOOT_ERROR};

/// One configuration in its life.
#[derive(Debug)]
pub(super) struct Cycle {
    pub(super) number: u64,
    /// What it holds, once it is read.
    pub(super) outline: Option<Outline>,
    /// One for each application, in the order of the configuration.
    pub(super) generations: Vec<u64>,
}

impl State {
    /// A number for a new cycle, which is the next one from now on.
    pub(super) fn new_cycle(&mut self) -> u64 {
        // All of its applications get new molds.
        self.retry_mold = None;
        self.last_cycle += 1;
        let number = self.last_cycle;
        self.next = Some(Cycle { number, outline: None, generations: vec![] });
        number
    }

    /// Has the configuration read anew.
    pub(super) fn begin_cycle(&mut self) {
        let cycle = self.new_cycle();
        self.act(Action::Read { cycle });
    }

    /// A new cycle; while one is being brought up, another one after it. The newest configuration wins.
    pub(super) fn reload(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        if self.next.is_some() {
            self.reload_again = true;
        } else {
            self.begin_cycle();
        }
    }

    pub(super) fn read(&mut self, cycle: u64, outline: Outline, now: Time) {
        let unread = |next: &&mut Cycle| next.number == cycle && next.outline.is_none();
        let Some(next) = self.next.as_mut().filter(unread) else { return };
        next.outline = Some(outline);
        for application in 0..outline.applications {
            let number = self.start_generation(cycle, application, now);
            if let Some(next) = &mut self.next {
                next.generations.push(number);
            }
        }
    }

    pub(super) fn refused(&mut self, cycle: u64, now: Time) {
        if self.next.as_ref().is_some_and(|next| next.number == cycle) {
            self.cycle_failed(1, now);
        }
    }

    /// Whether this generation is being brought up, with the next cycle or alone.
    pub(super) fn boots(&self, generation: u64) -> bool {
        self.next.as_ref().is_some_and(|next| next.generations.contains(&generation))
            || self.renews(generation)
    }

    /// Whether the current cycle has this generation.
    pub(super) fn serves(&self, generation: u64) -> bool {
        self.serving().contains(&generation)
    }

    /// The generations of the current cycle.
    pub(super) fn serving(&self) -> &[u64] {
        self.current.as_ref().map_or(&[], |current| &current.generations)
    }

    /// Whether connections may be accepted: a configuration is served, and of applications, if it has some, at least
    /// one can answer.
    pub(super) fn can_answer(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.generations.is_empty()) || {
            self.current.is_some() && self.is_anybody_ready()
        }
    }

    /// What is being brought up did not come up: the first cycle ends everything, a later one changes nothing.
    pub(super) fn cycle_failed(&mut self, code: u8, now: Time) {
        let Some(failed) = self.next.take() else { return };
        self.act(Action::Discard { cycle: failed.number });
        for generation in failed.generations {
            self.give_up(generation, now);
        }
        if self.current.is_none() {
            match code {
                APP_LOAD_ERROR => self.log(Level::Error, "App failed to load."),
                WORKER_BOOT_ERROR => self.log(Level::Error, "Worker failed to boot."),
                _ => {}
            }
            self.fail(code, now);
            return;
        }
        self.log(
            Level::Error,
            format!("Generation {} did not boot; the old one goes on serving", failed.number),
        );
        if std::mem::take(&mut self.reload_again) {
            self.begin_cycle();
        } else {
            for application in self.moldless() {
                self.mold_died(application, now);
            }
        }
    }

    /// The next cycle takes over once all of it is ready.
    pub(super) fn switch(&mut self, now: Time) {
        let is_due = self.next.as_ref().is_some_and(|next| {
            next.outline.is_some() && next.generations.iter().all(|generation| self.has_booted(*generation))
        });
        if !is_due || !self.edge.is_up() {
            return;
        }
        let Some(next) = self.next.take() else { return };
        self.cancel_renewal(now);
        for generation in &next.generations {
            if let Some(g) = self.generations.get_mut(generation) {
                g.phase = Phase::Serving;
            }
        }
        let number = next.number;
        let generations = next.generations.clone();
        match self.current.replace(next) {
            None => {
                self.edge.accepting = true;
                self.act(Action::Accept);
                self.act(Action::Announce);
                for generation in generations {
                    self.act(Action::Hook { generation, name: "when_ready", arguments: vec![] });
                }
            }
            Some(old) => {
                self.act(Action::ConfigureEdge { cycle: number });
                self.log(
                    Level::Info,
                    format!("Generation {number} serves; generation {} finishes its requests", old.number),
                );
                for generation in old.generations {
                    let grace =
                        self.generations.get(&generation).map_or(Duration::ZERO, |g| g.plan.graceful_timeout);
                    self.leave(generation, grace, now);
                }
                self.mold_backoffs.clear();
            }
        }
        if std::mem::take(&mut self.reload_again) {
            self.begin_cycle();
        }
    }
}
