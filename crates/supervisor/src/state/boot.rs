//! How long a boot may take: a mold until it can fork, a worker until it claims requests. Whoever takes longer hangs;
//! its stacks are logged and it is ended, so that it does not hold up its generation, and reloads after it, for ever.

use super::generation::seconds;
use super::worker::ABORT;
use super::{Action, Level, State, Time};

impl State {
    pub(super) fn tick_molds(&mut self, now: Time) {
        let due: Vec<u64> = self
            .generations
            .values()
            // Of those, too, that were told to end: one that imports has not heard of it.
            .filter(|g| g.mold && g.boot_by.is_some_and(|at| at <= now))
            .map(|g| g.number)
            .collect();
        for generation in due {
            let Some(g) = self.generations.get_mut(&generation) else { continue };
            if g.aborted {
                g.boot_by = None;
                self.log(Level::Warning, "The mold did not end after SIGABRT; killing it");
                self.act(Action::KillMold { generation });
            } else {
                let limit = self.boot_limit(generation);
                self.log(
                    Level::Error,
                    format!("The mold (generation {generation}) was not ready within boot_timeout ({limit}); where it hangs:"),
                );
                self.abort_mold(generation, now);
            }
        }
    }

    /// A worker is not ready in time. One without a pid waits for a mold that hangs in a hook before the fork.
    pub(super) fn worker_overdue(&mut self, worker: u64, now: Time) {
        let Some(w) = self.workers.get_mut(&worker) else { return };
        w.boot_by = None;
        w.overdue = true;
        let (generation, pid) = (w.generation, w.pid);
        let limit = self.boot_limit(generation);
        if let Some(pid) = pid {
            let text =
                format!("Worker (pid:{pid}) was not ready within boot_timeout ({limit}); where it hangs:");
            self.log(Level::Error, text);
            self.abort(worker, now);
        } else if self.generations.get(&generation).is_some_and(|g| g.mold && !g.mold_stopped && !g.aborted) {
            let text = format!(
                "The mold (generation {generation}) did not fork a worker within boot_timeout ({limit}); where it hangs:"
            );
            self.log(Level::Error, text);
            self.abort_mold(generation, now);
        }
    }

    fn abort_mold(&mut self, generation: u64, now: Time) {
        if let Some(g) = self.generations.get_mut(&generation) {
            g.aborted = true;
            g.boot_by = Some(now + ABORT);
            self.act(Action::AbortMold { generation });
        }
    }

    fn boot_limit(&self, generation: u64) -> String {
        let limit = self.generations.get(&generation).and_then(|g| g.plan.boot_timeout);
        seconds(limit.unwrap_or_default())
    }
}
