//! One signal that several processes have got. To workers their mold is what gunicorn's master is, so what it gets it
//! passes on; but what was sent to a whole process group, or to every process of a service, the master has got itself.

use std::collections::VecDeque;
use std::time::Duration;

use crate::state::Signal;

/// Within this a sender that reaches all does so. It is the kernel's work; how long a mold is busy (with a hook, an
/// import) before it passes a signal on does not count.
const TOGETHER: Duration = Duration::from_secs(1);
/// So many are remembered, for a mold that is busy.
const MOST: usize = 256;

/// What came lately, and to whom.
#[derive(Debug, Default)]
pub(crate) struct Echoes(VecDeque<Sent>);

#[derive(Debug)]
struct Sent {
    signal: Signal,
    /// A process, or 0.
    sender: i32,
    at: Duration,
    /// The master is `None`, a mold its generation.
    heard: Vec<Option<u64>>,
}

impl Echoes {
    /// Whether the signal that `by` has got, at that time, is one that nobody else got before.
    pub(crate) fn is_new(&mut self, by: Option<u64>, signal: Signal, sender: i32, at: Duration) -> bool {
        let same = |sent: &&mut Sent| {
            sent.signal == signal && sent.sender == sender && sent.at.abs_diff(at) < TOGETHER
        };
        if let Some(sent) = self.0.iter_mut().filter(same).find(|sent| !sent.heard.contains(&by)) {
            sent.heard.push(by);
            return false;
        }
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(Sent { signal, sender, at, heard: vec![by] });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: Option<u64> = None;
    const MOLD: Option<u64> = Some(1);
    const AT: Duration = Duration::from_secs(9);

    #[test]
    fn what_all_have_got_counts_once_in_any_order() {
        for order in [[MASTER, MOLD, Some(2)], [MOLD, MASTER, Some(2)], [Some(2), MOLD, MASTER]] {
            let mut echoes = Echoes::default();
            let new = order.map(|by| echoes.is_new(by, Signal::Ttin, 7, AT));
            assert_eq!(new, [true, false, false]);
        }
    }

    #[test]
    fn sent_twice_counts_twice() {
        let mut echoes = Echoes::default();
        let new = [MASTER, MASTER, MOLD, MOLD, MOLD].map(|by| echoes.is_new(by, Signal::Ttin, 7, AT));
        assert_eq!(new, [true, true, false, false, true]);
    }

    #[test]
    fn a_busy_mold_passes_it_on_later() {
        let mut echoes = Echoes::default();
        let later = AT + TOGETHER * 9;
        let signals = [(MASTER, AT), (MASTER, later), (MOLD, AT), (MOLD, later), (MOLD, later)];
        let new = signals.map(|(by, at)| echoes.is_new(by, Signal::Ttin, 7, at));
        assert_eq!(new, [true, true, false, false, true]);
    }

    #[test]
    fn other_senders_signals_and_times_are_others() {
        let mut echoes = Echoes::default();
        assert!(echoes.is_new(MASTER, Signal::Ttin, 7, AT));
        assert!(echoes.is_new(MOLD, Signal::Ttin, 8, AT));
        assert!(echoes.is_new(MOLD, Signal::Ttou, 7, AT));
        assert!(echoes.is_new(MOLD, Signal::Ttin, 7, AT + TOGETHER));
    }
}
