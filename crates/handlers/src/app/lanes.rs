//! Who is next where clients that are served already meet a crowd of new ones.

use std::collections::VecDeque;

/// So many of those that are known go before one of the others, as long as both wait.
const IN_A_ROW: u32 = 3;

/// A queue with two lanes. A connection that was served before asks one thing after the other, so that there are never
/// many of its kind; new ones come by the thousand, and whoever is being served would wait for all of them.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    known: VecDeque<T>,
    new: VecDeque<T>,
    /// How many that are known have gone since one that is not.
    in_a_row: u32,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { known: VecDeque::new(), new: VecDeque::new(), in_a_row: 0 }
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
            && let Some(new) = self.new.pop_front()
        {
            self.in_a_row = 0;
            return Some(new);
        }
        let known = self.known.pop_front()?;
        self.in_a_row = self.in_a_row.saturating_add(1);
        Some(known)
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
