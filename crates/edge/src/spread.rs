//! On how many event loops the connections are.
//!
//! Each loop that has something to do costs wake-ups of its own, and a wake-up costs more than a small request. So
//! connections are kept on as few loops as can carry them: the first ones, the *active* loops. One that has no
//! processor time left activates the next, and so does a crowd of new connections, before it shows what it wants; when
//! fewer would do for a while, the last one is given up and its connections move on as each of them comes to the end of
//! a request.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How often a loop looks at its load.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// Thousandths of a processor: a loop with more is full.
pub const FULL: u32 = 960;
/// One loop less must leave each of the others no more than this.
const ROOMY: u32 = 600;
/// So many intervals in a row have to say the same before a loop more, and before one less.
const GROW_AFTER: u32 = 3;
const SHRINK_AFTER: u32 = 20;
/// A connection moves only to a loop that has more than this many fewer.
const SLACK: usize = 1;

/// What is known of all event loops of the edge.
pub struct Spread {
    active: AtomicUsize,
    loops: Vec<Loop>,
}

/// On a cache line of its own, for every connection that begins or ends writes to it.
#[repr(align(64))]
#[derive(Default)]
struct Loop {
    connections: AtomicUsize,
    /// Thousandths of a processor in the last interval.
    busy: AtomicU32,
    /// More connections than this are too many.
    quota: AtomicUsize,
    activated: Notify,
}

/// How many intervals in a row spoke for a change; each loop has its own.
#[derive(Debug, Default)]
pub struct Trend {
    full: u32,
    roomy: u32,
}

impl Spread {
    /// For so many loops, of which one is active.
    pub fn new(loops: usize) -> Self {
        let loops: Vec<_> = (0..loops).map(|_| Loop::default()).collect();
        for one in &loops {
            one.quota.store(usize::MAX, Ordering::Relaxed);
        }
        Self { active: AtomicUsize::new(1), loops }
    }

    /// Loops that take connections: those with a number below this.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Returns when this loop is active.
    pub async fn activated(&self, index: usize) {
        loop {
            let activated = self.loops[index].activated.notified();
            if index < self.active() {
                return;
            }
            activated.await;
        }
    }

    /// Connections of one loop.
    pub fn connections(&self, index: usize) -> usize {
        self.loops[index].connections.load(Ordering::Relaxed)
    }

    /// Connections of all loops.
    pub fn all_connections(&self) -> usize {
        self.loops.iter().map(|l| l.connections.load(Ordering::Relaxed)).sum()
    }

    /// A connection more on this loop; tells how many there were.
    pub fn begin(&self, index: usize) -> usize {
        self.loops[index].connections.fetch_add(1, Ordering::Relaxed)
    }

    /// A connection less.
    pub fn end(&self, index: usize) {
        self.loops[index].connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// The loop that a connection of this loop should be on instead, if that is a better place.
    pub fn better_place(&self, index: usize, slack: usize) -> Option<usize> {
        let (place, least) = self.emptiest();
        let own = self.connections(index);
        (place != index && (index >= self.active() || own > least + slack)).then_some(place)
    }

    /// The same, asked between two requests of a connection: cheap where the answer is no.
    pub fn move_to(&self, index: usize) -> Option<usize> {
        let this = &self.loops[index];
        let stays = index < self.active()
            && this.connections.load(Ordering::Relaxed) <= this.quota.load(Ordering::Relaxed);
        if stays { None } else { self.better_place(index, SLACK) }
    }

    fn emptiest(&self) -> (usize, usize) {
        let counts = self.loops[..self.active()].iter().map(|l| l.connections.load(Ordering::Relaxed));
        counts.enumerate().min_by_key(|&(_, count)| count).unwrap_or_default()
    }

    /// From every loop, now and then: what share of a processor it had in the last `intervals`, in thousandths.
    pub fn note(&self, index: usize, busy: u32, intervals: u32, trend: &mut Trend) {
        let active = self.active();
        self.loops[index].busy.store(busy, Ordering::Relaxed);
        self.loops[index].quota.store(quota(self.all_connections(), active), Ordering::Relaxed);
        let all: u32 = self.loops.iter().map(|l| l.busy.load(Ordering::Relaxed)).sum();
        match trend.follow(index, busy, all, active, intervals) {
            Some(wanted) if wanted <= self.loops.len() => self.change(active, wanted),
            _ => {}
        }
    }

    /// One loop more is active from now on, if there is one.
    pub fn grow(&self) {
        let active = self.active();
        if active < self.loops.len() {
            self.change(active, active + 1);
        }
    }

    fn change(&self, active: usize, wanted: usize) {
        // Whoever is first says it; the others see a new number next time.
        let changed = self.active.compare_exchange(active, wanted, Ordering::Relaxed, Ordering::Relaxed);
        if changed.is_ok() {
            for one in self.loops.get(active..wanted).into_iter().flatten() {
                one.activated.notify_waiters();
            }
        }
    }
}

/// How many of all connections one loop may have.
fn quota(connections: usize, active: usize) -> usize {
    let share = connections.div_ceil(active);
    share + share / 8
}

impl Trend {
    /// How many loops should be active, if it is time for another number.
    fn follow(&mut self, index: usize, busy: u32, all: u32, active: usize, intervals: u32) -> Option<usize> {
        let full = index < active && busy >= FULL;
        // The last one decides whether it is needed, so that only one does.
        let roomy = index + 1 == active && active > 1 && all <= ROOMY * (active as u32 - 1);
        self.full = if full { self.full + 1 } else { 0 };
        self.roomy = if roomy { self.roomy.saturating_add(intervals) } else { 0 };
        if self.full >= GROW_AFTER {
            *self = Self::default();
            return Some(active + 1);
        }
        if self.roomy >= SHRINK_AFTER {
            *self = Self::default();
            return Some(active - 1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_loop_activates_the_next() {
        let spread = Spread::new(2);
        let mut trend = Trend::default();
        for _ in 0..GROW_AFTER - 1 {
            spread.note(0, FULL, 1, &mut trend);
        }
        assert_eq!(spread.active(), 1, "a few full intervals are no trend");
        spread.note(0, FULL, 1, &mut trend);
        assert_eq!(spread.active(), 2);
        for _ in 0..10 {
            spread.note(0, 1000, 1, &mut trend);
        }
        assert_eq!(spread.active(), 2, "there are no more than two");
        spread.grow();
        assert_eq!(spread.active(), 2);
    }

    #[test]
    fn a_pause_begins_the_trend_anew() {
        let spread = Spread::new(2);
        let mut trend = Trend::default();
        for busy in [1000, 100].repeat(GROW_AFTER as usize) {
            spread.note(0, busy, 1, &mut trend);
        }
        assert_eq!(spread.active(), 1);
    }

    #[test]
    fn the_last_loop_goes_when_the_others_have_room_for_a_while() {
        let spread = Spread::new(2);
        spread.change(1, 2);
        let (mut first, mut second) = (Trend::default(), Trend::default());
        for _ in 0..SHRINK_AFTER - 1 {
            spread.note(0, 300, 1, &mut first);
            spread.note(1, 250, 1, &mut second);
        }
        assert_eq!(spread.active(), 2);
        spread.note(1, 250, 1, &mut second);
        assert_eq!(spread.active(), 1);
        spread.begin(1);
        assert_eq!(spread.move_to(1), Some(0), "its connections move on");
    }

    #[test]
    fn who_looks_seldom_says_it_for_all_the_time() {
        let spread = Spread::new(2);
        spread.change(1, 2);
        let mut trend = Trend::default();
        spread.note(1, 0, SHRINK_AFTER / 2, &mut trend);
        assert_eq!(spread.active(), 2);
        spread.note(1, 0, SHRINK_AFTER / 2, &mut trend);
        assert_eq!(spread.active(), 1);
    }

    #[test]
    fn connections_above_the_share_move_to_the_emptiest() {
        let spread = Spread::new(2);
        for _ in 0..64 {
            spread.begin(0);
        }
        assert_eq!(spread.better_place(0, 2), None, "there is no other active loop");
        spread.change(1, 2);
        spread.note(0, FULL, 1, &mut Trend::default());
        assert_eq!(spread.move_to(0), Some(1));
        for _ in 0..30 {
            spread.end(0);
            spread.begin(1);
        }
        assert_eq!(spread.move_to(0), None);
        assert_eq!(spread.move_to(1), None);
    }

    #[test]
    fn few_connections_move_too() {
        for (connections, stay) in [(2, 1), (3, 2), (8, 4)] {
            let spread = Spread::new(2);
            for _ in 0..connections {
                spread.begin(0);
            }
            spread.change(1, 2);
            spread.note(0, FULL, 1, &mut Trend::default());
            while spread.move_to(0) == Some(1) {
                spread.end(0);
                spread.begin(1);
            }
            assert_eq!((spread.connections(0), spread.connections(1)), (stay, connections - stay));
            spread.note(1, FULL, 1, &mut Trend::default());
            assert_eq!(spread.move_to(1), None);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_inactive_loop_waits_until_it_is_wanted() {
        let spread = std::sync::Arc::new(Spread::new(2));
        spread.activated(0).await;
        let waiting = tokio::spawn({
            let spread = std::sync::Arc::clone(&spread);
            async move { spread.activated(1).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        spread.change(1, 2);
        waiting.await.unwrap();
    }
}
