//! Another mold in the place of one that died. Of several applications only that one's workers are replaced, with the
//! configuration as it is: what changed in it since is for a reload to find out.

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
    /// The first application of the current cycle whose mold is dead.
    pub(super) fn moldless(&self) -> Option<usize> {
        let is_dead = |g: &u64| self.generations.get(g).is_some_and(|generation| !generation.mold);
        self.serving().iter().position(is_dead)
    }

    /// Whether this generation is being brought up in the place of one whose mold is dead.
    pub(super) fn renews(&self, generation: u64) -> bool {
        self.renewal.is_some_and(|renewal| renewal.generation == generation)
    }

    /// Starts another mold, now or, where that has failed often, later.
    pub(super) fn restart_mold(&mut self, now: Time) {
        if self.next.is_some() || self.stopping.is_some() || self.renewal.is_some() {
            return;
        }
        let delay = self.mold_backoff.failed(now);
        if delay.is_zero() {
            self.renew(now);
        } else {
            self.log(Level::Warning, format!("A new mold starts in {}", seconds(delay)));
            self.retry_mold = Some(now + delay);
        }
    }

    pub(super) fn renew(&mut self, now: Time) {
        if self.serving().len() == 1 {
            // It is all there is, and its settings file is evaluated anew in any case.
            self.begin_cycle();
            return;
        }
        let cycle = self.current.as_ref().map(|current| current.number);
        if let (Some(cycle), Some(application)) = (cycle, self.moldless()) {
            let generation = self.start_generation(cycle, application, now);
            self.renewal = Some(Renewal { application, generation });
        }
    }

    pub(super) fn renewal_failed(&mut self, now: Time) {
        self.log(Level::Error, "The new mold did not boot; the workers that are there go on");
        self.cancel_renewal(now);
        self.restart_mold(now);
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
        if self.moldless().is_some() {
            self.restart_mold(now);
        } else {
            self.mold_backoff.reset();
        }
    }
}
