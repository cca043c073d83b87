//! Whether an event loop takes a processor from a worker.
//!
//! A loop that wakes does: what comes is seen at once, and an answer leaves as soon as it is there. Where requests wait
//! for workers that keep all processors busy, this is a switch for every answer, twice, and the worker's caches each
//! time, for clients that wait for the queue and not for us: a fifth of what the machine can do for Flask. So as long as
//! there is a queue, a loop waits until a worker's turn is over, and does then what has come together. With a processor
//! to spare nobody waits.

use telemetry::error_log::{self, Level};

/// How an event loop's thread is scheduled now.
#[derive(Debug, Default)]
pub struct Patience {
    is_patient: bool,
    was_queue: bool,
    /// The system does not let us.
    is_fixed: bool,
}

impl Patience {
    /// Several times a second, on the loop's thread: whether requests wait for a worker. Two looks have to agree before
    /// anything changes.
    pub fn note(&mut self, is_queue: bool) {
        let before = std::mem::replace(&mut self.was_queue, is_queue);
        if self.is_fixed || is_queue == self.is_patient || before != is_queue {
            return;
        }
        match sys::set_patient(is_queue) {
            Ok(()) => self.is_patient = is_queue,
            Err(error) => {
                self.is_fixed = true;
                error_log::write(
                    Level::Debug,
                    format_args!("event loops are scheduled as they are, queue or not: {error}"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_looks_have_to_agree() {
        std::thread::spawn(|| {
            let mut patience = Patience::default();
            for (is_queue, then) in [
                (true, false),
                (false, false),
                (true, false),
                (true, true),
                (false, true),
                (true, true),
                (false, true),
                (false, false),
            ] {
                patience.note(is_queue);
                assert_eq!(patience.is_patient, then);
                assert!(!patience.is_fixed);
            }
        })
        .join()
        .unwrap();
    }
}
