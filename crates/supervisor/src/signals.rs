//! Signals of the master, through sockets, so that the loop waits for them as for anything else.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal as Raw;

use crate::state::Signal;

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// A child has ended.
    Child,
    /// An order.
    Order(Signal),
    /// An order with its sender: a process, or 0; and when it came, see [`sys::Told`].
    From(Signal, i32, Duration),
}

/// The handlers, which stay for the life of the process, and where they write.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(Arrived, UnixStream)>,
    senders: UnixStream,
}

impl Signals {
    pub(crate) fn install() -> io::Result<Self> {
        let wanted = [
            (Raw::CHILD, Arrived::Child),
            (Raw::TERM, Arrived::Order(Signal::Term)),
            (Raw::INT, Arrived::Order(Signal::Int)),
            (Raw::QUIT, Arrived::Order(Signal::Quit)),
        ];
        let mut streams = Vec::with_capacity(wanted.len());
        for (raw, arrived) in wanted {
            let (ours, handlers) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(raw.as_raw(), handlers)?;
            streams.push((arrived, ours));
        }
        let (senders, handler) = UnixStream::pair()?;
        senders.set_nonblocking(true)?;
        handler.set_nonblocking(true)?;
        sys::tell_senders(&FROM.map(|(raw, _)| raw.as_raw()), handler.into())?;
        Ok(Self { streams, senders })
    }

    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.streams.iter().map(|(_, stream)| stream).chain([&self.senders]).map(|stream| stream.as_fd())
    }

    /// Before the loop: waits until `other` has something to say, an order to end has come or `most` is over. The order
    /// stays, so that the loop finds it.
    pub(crate) fn told_to_end(
        &self,
        other: Option<BorrowedFd<'_>>,
        most: Option<Duration>,
    ) -> Option<Signal> {
        let orders = self.streams.iter().filter_map(|(arrived, stream)| match arrived {
            Arrived::Order(order @ (Signal::Term | Signal::Int | Signal::Quit)) => Some((*order, stream)),
            _ => None,
        });
        let (orders, mut fds): (Vec<Signal>, Vec<PollFd<'_>>) =
            orders.map(|(order, stream)| (order, PollFd::new(stream, PollFlags::IN))).unzip();
        fds.extend(other.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        // It may return early, and says nothing then.
        rustix::event::poll(&mut fds, most.as_ref()).ok()?;
        orders.into_iter().zip(&fds).find(|(_, fd)| !fd.revents().is_empty()).map(|(order, _)| order)
    }

    /// What arrived since the last call: TERM, INT and those with a sender each time as far as the kernel tells them
    /// apart, the others once.
    pub(crate) fn take(&mut self) -> Vec<Arrived> {
        let mut arrived = vec![];
        for (what, stream) in &mut self.streams {
            let mut bytes = [0; 64];
            let mut count = 0;
            while let Ok(n @ 1..) = stream.read(&mut bytes) {
                count += n;
            }
            let each = matches!(what, Arrived::Order(Signal::Term | Signal::Int));
            arrived.extend(std::iter::repeat_n(*what, if each { count } else { count.min(1) }));
        }
        // Each is there as a whole: it was written at once, into a place that the others' lengths are multiples of.
        let mut bytes = [0; sys::SIGNAL_BYTES];
        while self.senders.read_exact(&mut bytes).is_ok() {
            let told = sys::Told::read(bytes);
            arrived.extend(from(told.signal).map(|signal| Arrived::From(signal, told.sender, told.at)));
        }
        arrived
    }
}

/// Those whose sender counts, because molds pass on what workers send them, and WINCH, which may follow USR2.
const FROM: [(Raw, Signal); 6] = [
    (Raw::HUP, Signal::Hup),
    (Raw::TTIN, Signal::Ttin),
    (Raw::TTOU, Signal::Ttou),
    (Raw::USR1, Signal::Usr1),
    (Raw::USR2, Signal::Usr2),
    (Raw::WINCH, Signal::Winch),
];

/// The order that the signal with this number is, of those with a sender.
pub(crate) fn from(number: i32) -> Option<Signal> {
    FROM.iter().find(|(raw, _)| raw.as_raw() == number).map(|(_, signal)| *signal)
}

/// Ends this process as the order would have, had nobody handled it. QUIT leaves no picture of the memory: to a service
/// manager it is an order like the others.
pub(crate) fn obey(order: Signal) -> u8 {
    let raw = match order {
        Signal::Term => Raw::TERM,
        Signal::Int => Raw::INT,
        _ => return 0,
    };
    let _ = signal_hook::low_level::emulate_default_handler(raw.as_raw());
    128 + u8::try_from(raw.as_raw()).unwrap_or_default()
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
        let myself = std::process::id() as i32;
        let [Arrived::From(Signal::Ttin, first, at), Arrived::From(Signal::Hup, second, then)] = arrived[..]
        else {
            panic!("{arrived:?}");
        };
        assert!((first, second) == (myself, myself) && at <= then);
        assert_eq!(signals.take(), []);
        let at_once = Some(Duration::ZERO);
        assert_eq!(signals.told_to_end(None, at_once), None);
        signal_hook::low_level::raise(Raw::QUIT.as_raw()).unwrap();
        assert_eq!(signals.told_to_end(None, None), Some(Signal::Quit));
        assert_eq!(signals.take(), [Arrived::Order(Signal::Quit)], "it stays for the loop");
        assert_eq!(signals.told_to_end(None, at_once), None);
    }
}
