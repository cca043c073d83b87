//! One signal that several processes have got. To workers their mold is what gunicorn's master is, so what it gets it
//! passes on; but what was sent to a whole process group, or to every process of a service, the master has got itself.

use std::time::Duration;

use crate::state::{Signal, Time};

/// Within this a sender that reaches all does so.
const TOGETHER: Duration = Duration::from_secs(1);

/// What came lately, and to whom.
#[derive(Debug, Default)]
pub(crate) struct Echoes(Vec<Sent>);

#[derive(Debug)]
struct Sent {
    signal: Signal,
    /// A process, or 0.
    sender: i32,
    at: Time,
    /// The master is `None`, a mold its generation.
    heard: Vec<Option<u64>>,
}

impl Echoes {
    /// Whether the signal that `by` has got is one that nobody else got before.
    pub(crate) fn is_new(&mut self, by: Option<u64>, signal: Signal, sender: i32, now: Time) -> bool {
        self.0.retain(|sent| now.saturating_sub(sent.at) < TOGETHER);
        let same = |sent: &&mut Sent| sent.signal == signal && sent.sender == sender;
        if let Some(sent) = self.0.iter_mut().filter(same).find(|sent| !sent.heard.contains(&by)) {
            sent.heard.push(by);
            return false;
        }
        self.0.push(Sent { signal, sender, at: now, heard: vec![by] });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: Option<u64> = None;
    const MOLD: Option<u64> = Some(1);
    const AT: Time = Duration::from_secs(9);

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
    fn other_senders_signals_and_times_are_others() {
        let mut echoes = Echoes::default();
        assert!(echoes.is_new(MASTER, Signal::Ttin, 7, AT));
        assert!(echoes.is_new(MOLD, Signal::Ttin, 8, AT));
        assert!(echoes.is_new(MOLD, Signal::Ttou, 7, AT));
        assert!(echoes.is_new(MOLD, Signal::Ttin, 7, AT + TOGETHER));
    }
}
