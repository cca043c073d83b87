//! What a site has found out about a connection, and need not look for again at each request.

use std::cell::Cell;

thread_local! {
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// A number that no site of this thread has had before.
pub(super) fn next_number() -> u64 {
    LAST.set(LAST.get() + 1);
    LAST.get()
}

/// The index of the connection's listener, as the site of a number has it: after a reload it is looked for again.
#[derive(Clone, Debug, Default)]
pub struct Known(Cell<Option<(u64, Option<usize>)>>);

impl Known {
    pub(super) fn get(&self, site: u64, find: impl FnOnce() -> Option<usize>) -> Option<usize> {
        match self.0.get() {
            Some((number, listener)) if number == site => listener,
            _ => {
                let listener = find();
                self.0.set(Some((site, listener)));
                listener
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_site_looks_again() {
        let (first, second) = (next_number(), next_number());
        let known = Known::default();
        assert_eq!(known.get(first, || Some(3)), Some(3));
        assert_eq!(known.get(first, || unreachable!("it is known")), Some(3));
        assert_eq!(known.get(second, || None), None, "its configuration has no such listener");
        assert_eq!(known.get(second, || unreachable!("that is known too")), None);
        assert_eq!(known.get(first, || Some(3)), Some(3));
    }
}
