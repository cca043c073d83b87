//! Time-outs of connections.
//!
//! A request sets four or five deadlines and nearly never meets one. A timer wheel would be touched for
//! each; here a deadline is a number in a table, and one ticker per event loop looks through the table a few
//! times a second. Ten thousand idle connections cost it some tens of microseconds.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use sys::Alarm;
use tokio::sync::Notify;

/// How often the ticker runs: a deadline is met at most this much late.
const TICK: Duration = Duration::from_millis(200);
const NEVER: u64 = u64::MAX;
/// At the end, how long a connection without a request yet is waited for.
pub(crate) const FRESH: Duration = Duration::from_secs(1);

/// All deadlines of one event loop.
pub struct Deadlines {
    begin: Instant,
    /// Milliseconds since `begin`, as of the last tick.
    now: Cell<u64>,
    table: RefCell<Table>,
    /// There is a deadline, where there was none: the ticker sleeps as long as there is nothing to look through.
    registered: Notify,
    /// No further request is wanted on any connection.
    ending: Cell<bool>,
    /// How often the configuration was replaced by another.
    renewals: Cell<u32>,
}

#[derive(Default)]
struct Table {
    rows: Vec<Row>,
    free: Vec<u32>,
}

impl Table {
    fn is_empty(&self) -> bool {
        self.rows.len() == self.free.len()
    }
}

struct Row {
    at: u64,
    waker: Option<Waker>,
    /// The connection waits for its next request, and may be ended from then on to make room.
    idle: Option<u64>,
    /// It has had none yet.
    is_fresh: bool,
    /// It wants to know of another configuration.
    renews: bool,
}

impl Row {
    const NONE: Self = Self { at: NEVER, waker: None, idle: None, is_fresh: false, renews: false };
}

impl Deadlines {
    /// An empty table.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            begin: Instant::now(),
            now: Cell::new(0),
            table: RefCell::default(),
            registered: Notify::new(),
            ending: Cell::new(false),
            renewals: Cell::new(0),
        })
    }

    /// Wakes whoever is late, until the loop ends. To be spawned once on the event loop.
    pub async fn tick(self: Rc<Self>, alarm: Alarm) {
        loop {
            if self.table.borrow().is_empty() {
                self.registered.notified().await;
            }
            alarm.after(TICK).await;
            self.renew_time();
            let now = self.now.get();
            for row in &mut self.table.borrow_mut().rows {
                if row.at <= now
                    && let Some(waker) = row.waker.take()
                {
                    waker.wake();
                }
            }
        }
    }

    fn renew_time(&self) {
        self.now.set(self.begin.elapsed().as_millis() as u64);
    }

    /// From now on connections end when they are idle; those that are so now, at once. One that has just been accepted
    /// has a second for its first request: that is on its way, and nobody has said to the client that it may not come.
    pub fn end_idle(&self) {
        self.ending.set(true);
        self.renew_time();
        for row in &mut self.table.borrow_mut().rows {
            if let Some(earliest) = row.idle {
                let earliest =
                    if row.is_fresh { self.now.get() + FRESH.as_millis() as u64 } else { earliest };
                row.at = row.at.min(earliest);
            }
            // Those that are not idle may have something to say to their clients.
            if let Some(waker) = row.waker.take() {
                waker.wake();
            }
        }
    }

    /// There is another configuration: connections that have settled something by the old one are woken.
    pub fn renew(&self) {
        self.renewals.set(self.renewals.get().wrapping_add(1));
        for row in self.table.borrow_mut().rows.iter_mut().filter(|row| row.renews) {
            if let Some(waker) = row.waker.take() {
                waker.wake();
            }
        }
    }

    /// Ends the connection that has been idle longest, to make room; `false` if none is idle.
    pub fn end_oldest_idle(&self) -> bool {
        let mut table = self.table.borrow_mut();
        let now = self.now.get();
        let may_end = |row: &&mut Row| row.at != 0 && row.idle.is_some_and(|earliest| earliest <= now);
        let Some(row) = table.rows.iter_mut().filter(may_end).min_by_key(|row| row.at) else { return false };
        row.at = 0;
        if let Some(waker) = row.waker.take() {
            waker.wake();
        }
        true
    }

    /// A deadline that is not set.
    pub fn register(self: &Rc<Self>) -> Deadline {
        let mut table = self.table.borrow_mut();
        if table.is_empty() {
            // The ticker may have slept for long.
            self.renew_time();
            self.registered.notify_one();
        }
        let row = table.free.pop().unwrap_or_else(|| {
            table.rows.push(Row::NONE);
            table.rows.len() as u32 - 1
        });
        Deadline { table: Rc::clone(self), row }
    }
}

/// One deadline; freed when dropped.
pub struct Deadline {
    table: Rc<Deadlines>,
    row: u32,
}

impl Deadline {
    /// Sets it to so long from now, give or take a tick.
    pub fn set(&self, after: Duration) {
        let after = u64::try_from(after.as_millis()).unwrap_or(NEVER);
        self.table.table.borrow_mut().rows[self.row as usize].at = self.table.now.get().saturating_add(after);
    }

    /// Marks the connection as idle or not; one that has been so for this long may be ended to make room.
    pub fn set_idle(&self, after: Option<Duration>) {
        let now = self.table.now.get();
        let earliest = after.map(|after| now.saturating_add(after.as_millis() as u64));
        self.table.table.borrow_mut().rows[self.row as usize].idle = earliest;
    }

    /// Marks the connection as one that has had no request yet, or not.
    pub fn set_fresh(&self, is_fresh: bool) {
        self.table.table.borrow_mut().rows[self.row as usize].is_fresh = is_fresh;
    }

    /// Whether no further request is wanted.
    pub fn is_ending(&self) -> bool {
        self.table.ending.get()
    }

    /// How often the configuration was replaced by another. From now on the task is woken then.
    pub fn renewals(&self) -> u32 {
        self.table.table.borrow_mut().rows[self.row as usize].renews = true;
        self.table.renewals.get()
    }

    /// Takes it back.
    pub fn clear(&self) {
        self.table.table.borrow_mut().rows[self.row as usize].at = NEVER;
    }

    /// Whether it has passed; if not, the task is woken when it does.
    pub fn is_past(&self, cx: &Context<'_>) -> bool {
        let now = self.table.now.get();
        let mut table = self.table.table.borrow_mut();
        let row = &mut table.rows[self.row as usize];
        if row.at <= now {
            return true;
        }
        if !row.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            row.waker = Some(cx.waker().clone());
        }
        false
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut table = self.table.table.borrow_mut();
        let row = &mut table.rows[self.row as usize];
        *row = Row::NONE;
        table.free.push(self.row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_makes_room_when_its_least_time_is_over() {
        let deadlines = Deadlines::new();
        let kept = deadlines.register();
        kept.set(Duration::from_secs(1));
        kept.set_idle(Some(Duration::from_millis(500)));
        assert!(!deadlines.end_oldest_idle());
        let other = deadlines.register();
        other.set(Duration::from_secs(60));
        other.set_idle(Some(Duration::ZERO));
        assert!(deadlines.end_oldest_idle());
        assert!(other.is_past(&Context::from_waker(Waker::noop())));
        assert!(!kept.is_past(&Context::from_waker(Waker::noop())));
        deadlines.now.set(500);
        assert!(deadlines.end_oldest_idle());
        assert!(kept.is_past(&Context::from_waker(Waker::noop())));
    }
}
