//! Another mold in the place of one that died. Of several applications only that one's workers are replaced, with the
//! configuration as it is: what changed in it since is for a reload to find out.

use super::backoff::Backoff;
use super::generation::{Phase, seconds};
use super::{Duration, Level, State, Time};

/// An application that gets another mold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewal {
    /// Which of the current cycle.
    application: usize,
    /// The generation that is being brought up for it.
    pub(super) generation: u64,
}

impl State {
    /// The applications of the current cycle whose molds are dead, and in whose place none is being brought up.
    pub(super) fn moldless(&self) -> Vec<usize> {
        let is_dead = |g: &u64| self.generations.get(g).is_some_and(|generation| !generation.mold);
        let is_renewed = |application| self.renewal.is_some_and(|renewal| renewal.application == application);
        let serving = self.serving().iter().enumerate();
        let moldless = serving.filter(|(application, g)| is_dead(g) && !is_renewed(*application));
        moldless.map(|(application, _)| application).collect()
    }

    /// Whether this generation is being brought up in the place of one whose mold is dead.
    pub(super) fn renews(&self, generation: u64) -> bool {
        self.renewal.is_some_and(|renewal| renewal.generation == generation)
    }

    /// An application has no mold, or the one that was to take its place has not come up: it gets another, now or, where
    /// that has failed often, later. Before a reload that is under way has failed, too, there is nothing to do.
    pub(super) fn mold_died(&mut self, application: usize, now: Time) {
        if self.next.is_some() || self.stopping.is_some() {
            return;
        }
        let delay = self.mold_backoffs.entry(application).or_default().failed(now);
        if !delay.is_zero() {
            self.log(Level::Warning, format!("A new mold starts in {}", seconds(delay)));
        }
        self.restart_mold(now);
    }

    /// Starts another mold for the application that has waited for one longest, or says when.
    pub(super) fn restart_mold(&mut self, now: Time) {
        self.retry_mold = None;
        if self.next.is_some() || self.stopping.is_some() || self.renewal.is_some() {
            return;
        }
        let from = |application: &usize| self.mold_backoffs.get(application).and_then(Backoff::until);
        let first = self.moldless().into_iter().map(|application| (from(&application), application)).min();
        match first {
            Some((Some(at), _)) if at > now => self.retry_mold = Some(at),
            Some((_, application)) => self.renew(application, now),
            None => {}
        }
    }

    fn renew(&mut self, application: usize, now: Time) {
        if self.serving().len() == 1 {
            // It is all there is, and its settings file is evaluated anew in any case.
            self.begin_cycle();
            return;
        }
        if let Some(cycle) = self.current.as_ref().map(|current| current.number) {
            let generation = self.start_generation(cycle, application, now);
            self.renewal = Some(Renewal { application, generation });
        }
    }

    pub(super) fn renewal_failed(&mut self, now: Time) {
        self.log(Level::Error, "The new mold did not boot; the workers that are there go on");
        let application = self.renewal.map(|renewal| renewal.application);
        self.cancel_renewal(now);
        if let Some(application) = application {
            self.mold_died(application, now);
        }
    }

    /// Ends what was being brought up.
    pub(super) fn cancel_renewal(&mut self, now: Time) {
        if let Some(renewal) = self.renewal.take() {
            self.give_up(renewal.generation, now);
        }
    }

    /// The new generation takes over once it is ready.
    pub(super) fn switch_one(&mut self, now: Time) {
        let Some(Renewal { application, generation }) = self.renewal else { return };
        if !self.has_booted(generation) || !self.edge.is_up() {
            return;
        }
        self.renewal = None;
        if let Some(g) = self.generations.get_mut(&generation) {
            g.phase = Phase::Serving;
        }
        let slot = self.current.as_mut().and_then(|current| current.generations.get_mut(application));
        if let Some(old) = slot.map(|slot| std::mem::replace(slot, generation)) {
            let grace = self.generations.get(&old).map_or(Duration::ZERO, |g| g.plan.graceful_timeout);
            self.leave(old, grace, now);
        }
        self.log(Level::Info, "A new mold serves in the place of the one that died");
        self.mold_backoffs.remove(&application);
        self.restart_mold(now);
    }
}
