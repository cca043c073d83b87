//! Signals of the master, each through a socket of its own, so that the loop waits for them as for anything else.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::process::Signal as Raw;

use crate::state::Signal;

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// A child has ended.
    Child,
    /// An order.
    Order(Signal),
}

/// The handlers, which stay for the life of the process, and where they write.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(Arrived, UnixStream)>,
}

impl Signals {
    pub(crate) fn install() -> io::Result<Self> {
        let wanted = [
            (Raw::CHILD, Arrived::Child),
            (Raw::TERM, Arrived::Order(Signal::Term)),
            (Raw::INT, Arrived::Order(Signal::Int)),
            (Raw::QUIT, Arrived::Order(Signal::Quit)),
            (Raw::HUP, Arrived::Order(Signal::Hup)),
            (Raw::TTIN, Arrived::Order(Signal::Ttin)),
            (Raw::TTOU, Arrived::Order(Signal::Ttou)),
            (Raw::USR1, Arrived::Order(Signal::Usr1)),
            (Raw::USR2, Arrived::Order(Signal::Usr2)),
            (Raw::WINCH, Arrived::Order(Signal::Winch)),
        ];
        let mut streams = Vec::with_capacity(wanted.len());
        for (raw, arrived) in wanted {
            let (ours, handlers) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(raw.as_raw(), handlers)?;
            streams.push((arrived, ours));
        }
        Ok(Self { streams })
    }

    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.streams.iter().map(|(_, stream)| stream.as_fd())
    }

    /// What arrived since the last call. TTIN and TTOU count each time as far as the kernel tells them apart; the
    /// others once.
    pub(crate) fn take(&mut self) -> Vec<Arrived> {
        let mut arrived = vec![];
        for (what, stream) in &mut self.streams {
            let mut bytes = [0; 64];
            let mut count = 0;
            while let Ok(n @ 1..) = stream.read(&mut bytes) {
                count += n;
            }
            let each =
                matches!(what, Arrived::Order(Signal::Ttin | Signal::Ttou | Signal::Term | Signal::Int));
            arrived.extend(std::iter::repeat_n(*what, if each { count } else { count.min(1) }));
        }
        arrived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_arrives_under_its_name() {
        let mut signals = Signals::install().unwrap();
        assert_eq!(signals.take(), []);
        signal_hook::low_level::raise(Raw::TTIN.as_raw()).unwrap();
        signal_hook::low_level::raise(Raw::HUP.as_raw()).unwrap();
        let arrived = signals.take();
        assert!(
            arrived.contains(&Arrived::Order(Signal::Hup)) && arrived.contains(&Arrived::Order(Signal::Ttin))
        );
        assert_eq!(signals.take(), []);
    }
}
