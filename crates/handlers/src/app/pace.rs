//! How long a queue will last, from the pace at which requests were finished lately.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back the pace is measured.
const WINDOW: Duration = Duration::from_secs(5);
/// Between two samples.
const STEP: Duration = Duration::from_secs(1);
/// A shorter measurement says nothing.
const LEAST: Duration = Duration::from_millis(500);

/// Samples of the number of requests finished so far, as far back as the queue has not been empty: what an idle
/// application finishes is not what it could.
#[derive(Debug, Default)]
pub(super) struct Pace {
    samples: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// To be called several times a second.
    pub fn note(&mut self, now: Instant, finished: u64, waiting: usize) {
        if waiting == 0 {
            self.samples.clear();
        }
        if self.samples.back().is_none_or(|&(last, _)| now.saturating_duration_since(last) >= STEP) {
            self.samples.push_back((now, finished));
        }
        while self.samples.len() > 1
            && self.samples.front().is_some_and(|&(at, _)| now.saturating_duration_since(at) > WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// In how many seconds, 1 to 60, one more request would be through the queue; `None` if it has not been measured
    /// for long enough.
    pub fn retry_after(&self, now: Instant, finished: u64, waiting: usize) -> Option<u64> {
        let &(begin, before) = self.samples.front()?;
        let span = now.saturating_duration_since(begin);
        if span < LEAST {
            return None;
        }
        // If none was finished, one takes at least as long as was measured.
        let finished = finished.saturating_sub(before).max(1);
        let seconds = span.as_secs_f64() * (waiting as f64 + 1.0) / finished as f64;
        Some((seconds.ceil() as u64).clamp(1, 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks ten times a second through so many seconds of so many requests a second.
    fn run(pace: &mut Pace, now: &mut Instant, finished: &mut u64, rate: u64, waiting: usize, seconds: u64) {
        for tick in 0..seconds * 10 {
            *now += Duration::from_millis(100);
            *finished += rate * (tick + 1) / 10 - rate * tick / 10;
            pace.note(*now, *finished, waiting);
        }
    }

    #[test]
    fn the_queue_is_divided_by_the_pace() {
        let (mut pace, mut now, mut finished) = (Pace::default(), Instant::now(), 1000);
        run(&mut pace, &mut now, &mut finished, 10, 94, 10);
        assert_eq!(pace.retry_after(now, finished, 94), Some(10));
        assert_eq!(pace.retry_after(now, finished, 0), Some(1));
        assert_eq!(pace.retry_after(now, finished, 2047), Some(60));
        assert!(pace.samples.len() <= 7, "{}", pace.samples.len());
    }

    #[test]
    fn it_follows_a_change_within_seconds() {
        let (mut pace, mut now, mut finished) = (Pace::default(), Instant::now(), 0);
        run(&mut pace, &mut now, &mut finished, 1000, 99, 10);
        assert_eq!(pace.retry_after(now, finished, 99), Some(1));
        run(&mut pace, &mut now, &mut finished, 5, 99, 7);
        assert_eq!(pace.retry_after(now, finished, 99), Some(20));
    }

    #[test]
    fn nothing_finished_is_slow_and_not_infinite() {
        let (mut pace, mut now, mut finished) = (Pace::default(), Instant::now(), 0);
        run(&mut pace, &mut now, &mut finished, 0, 3, 3);
        assert_eq!(pace.retry_after(now, finished, 3), Some(12));
        run(&mut pace, &mut now, &mut finished, 0, 100, 60);
        assert_eq!(pace.retry_after(now, finished, 100), Some(60));
    }

    #[test]
    fn idle_time_is_not_measured() {
        let (mut pace, mut now, mut finished) = (Pace::default(), Instant::now(), 0);
        assert_eq!(pace.retry_after(now, 0, 5), None);
        run(&mut pace, &mut now, &mut finished, 1, 0, 30);
        assert_eq!(pace.retry_after(now, finished, 2048), None, "a burst that has just come");
        run(&mut pace, &mut now, &mut finished, 100, 199, 1);
        assert_eq!(pace.retry_after(now, finished, 199), Some(2));
    }

    #[test]
    fn a_counter_or_clock_that_goes_back_is_no_panic() {
        let begin = Instant::now();
        let (mut pace, mut now, mut finished) = (Pace::default(), begin, 1000);
        run(&mut pace, &mut now, &mut finished, 10, 9, 2);
        assert!(pace.retry_after(now, 0, 9).is_some());
        assert_eq!(pace.retry_after(begin, finished, 9), None);
    }
}
