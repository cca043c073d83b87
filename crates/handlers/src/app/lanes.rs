//! Who is next where clients that are served already meet a crowd of new ones.

use std::collections::VecDeque;

/// So many of those that are known go before one of the others, as long as both wait.
const IN_A_ROW: u32 = 3;

/// More new ones than this are a crowd.
const CROWD: usize = 32;

/// A queue with two lanes. A connection that was served before asks one thing after the other, so that there are never
/// many of its kind; new ones come by the thousand, and whoever is being served would wait for all of them.
///
/// Of a crowd of new ones the oldest and the newest go in turn. In order, each of them would wait for all that came
/// before, and who comes last for the whole crowd; so the oldest wait up to twice as long as in order, and whoever comes
/// now and then is served at once.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    known: VecDeque<T>,
    new: VecDeque<T>,
    /// How many that are known have gone since one that is not.
    in_a_row: u32,
    /// The last that went from a crowd was its oldest.
    was_oldest: bool,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { known: VecDeque::new(), new: VecDeque::new(), in_a_row: 0, was_oldest: false }
    }
}

impl<T> Lanes<T> {
    pub fn push(&mut self, one: T, is_known: bool) {
        if is_known { &mut self.known } else { &mut self.new }.push_back(one);
    }

    /// The next; only of those that are known, unless `also_new`.
    pub fn pop(&mut self, also_new: bool) -> Option<T> {
        let is_new_due = self.known.is_empty() || self.in_a_row >= IN_A_ROW;
        if also_new
            && is_new_due
            && let Some(new) = self.pop_new()
        {
            self.in_a_row = 0;
            return Some(new);
        }
        let known = self.known.pop_front()?;
        self.in_a_row = self.in_a_row.saturating_add(1);
        Some(known)
    }

    fn pop_new(&mut self) -> Option<T> {
        self.was_oldest = self.new.len() <= CROWD || !self.was_oldest;
        if self.was_oldest { self.new.pop_front() } else { self.new.pop_back() }
    }

    /// Takes those out that are meant; whether there was one.
    pub fn remove(&mut self, is_known: bool, mut is_meant: impl FnMut(&T) -> bool) -> bool {
        let lane = if is_known { &mut self.known } else { &mut self.new };
        let before = lane.len();
        lane.retain(|one| !is_meant(one));
        lane.len() != before
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.known.iter().chain(&self.new)
    }

    /// Whether nobody waits who would go before one more of this kind.
    pub fn has_none_before(&self, is_known: bool) -> bool {
        self.known.is_empty() && (is_known || self.new.is_empty())
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.new.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(lanes: &mut Lanes<&'static str>) -> String {
        std::iter::from_fn(|| lanes.pop(true)).collect()
    }

    #[test]
    fn each_lane_keeps_its_order_and_neither_waits_for_all_of_the_other() {
        let mut lanes = Lanes::default();
        for new in ["a", "b", "c"] {
            lanes.push(new, false);
        }
        assert!(lanes.has_none_before(true) && !lanes.has_none_before(false));
        for known in ["1", "2", "3", "4", "5"] {
            lanes.push(known, true);
        }
        assert!(!lanes.has_none_before(true));
        assert_eq!(order(&mut lanes), "123a45bc");
        assert!(lanes.is_empty());
    }

    #[test]
    fn of_a_crowd_the_oldest_and_the_newest_go_in_turn() {
        let mut lanes = Lanes::default();
        for new in 0..CROWD + 4 {
            lanes.push(new, false);
        }
        let mut first = || lanes.pop(true).unwrap();
        assert_eq!([first(), first(), first()], [0, CROWD + 3, 1]);
        lanes.push(1000, false);
        lanes.push(2000, true);
        let rest: Vec<_> = std::iter::from_fn(|| lanes.pop(true)).collect();
        assert_eq!(rest[..3], [2000, 1000, 2]);
        assert!(rest[3..].is_sorted(), "they are no crowd any more");
        assert_eq!(rest.len(), CROWD + 3);
    }

    #[test]
    fn where_there_is_little_room_new_ones_wait() {
        let mut lanes = Lanes::default();
        lanes.push("a", false);
        assert_eq!(lanes.pop(false), None);
        for known in ["1", "2", "3", "4"] {
            lanes.push(known, true);
        }
        let first: Vec<_> = std::iter::from_fn(|| lanes.pop(false)).collect();
        assert_eq!(first, ["1", "2", "3", "4"]);
        assert_eq!(order(&mut lanes), "a");
    }

    #[test]
    fn whoever_leaves_is_found_in_its_lane() {
        let mut lanes = Lanes::default();
        lanes.push("a", false);
        lanes.push("b", true);
        assert!(!lanes.remove(true, |one| *one == "a"));
        assert!(lanes.remove(false, |one| *one == "a"));
        assert_eq!(lanes.iter().copied().collect::<String>(), "b");
    }
}
