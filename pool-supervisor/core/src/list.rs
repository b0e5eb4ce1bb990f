//! A doubly linked list through the rows of a table, so that any row leaves it in constant time and
//! being in it costs no memory but the two links.
//!
//! Owns the order. Where a row keeps its links is the table's matter ([`Links`]).

/// The neighbours of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Link<P> {
    pub(crate) prev: Option<P>,
    pub(crate) next: Option<P>,
}

/// A table whose rows may be in a list.
pub(crate) trait Links<P> {
    /// The links of a row that is in the list.
    fn link(&mut self, place: P) -> &mut Link<P>;
}

/// The two ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<P> {
    first: Option<P>,
    last: Option<P>,
}

impl<P> Default for List<P> {
    fn default() -> Self {
        Self { first: None, last: None }
    }
}

impl<P: Copy> List<P> {
    pub(crate) const fn first(&self) -> Option<P> {
        self.first
    }

    pub(crate) const fn last(&self) -> Option<P> {
        self.last
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Puts a row, which keeps this link already, between the two neighbours that it names.
    pub(crate) fn insert(&mut self, rows: &mut impl Links<P>, place: P, link: Link<P>) {
        self.join(rows, link, Some(place), Some(place));
    }

    /// Takes out the row that kept this link.
    pub(crate) fn remove(&mut self, rows: &mut impl Links<P>, link: Link<P>) {
        self.join(rows, link, link.next, link.prev);
    }

    /// Lets `after` follow the row before, and `before` precede the row after; where there is no
    /// such row, they are the list's ends.
    fn join(
        &mut self,
        rows: &mut impl Links<P>,
        link: Link<P>,
        after: Option<P>,
        before: Option<P>,
    ) {
        match link.prev {
            None => self.first = after,
            Some(prev) => rows.link(prev).next = after,
        }
        match link.next {
            None => self.last = before,
            Some(next) => rows.link(next).prev = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    struct Rows(Vec<Link<usize>>);

    impl Links<usize> for Rows {
        fn link(&mut self, place: usize) -> &mut Link<usize> {
            &mut self.0[place]
        }
    }

    struct Numbers {
        rows: Rows,
        list: List<usize>,
    }

    impl Numbers {
        fn new(count: usize) -> Self {
            Self { rows: Rows(vec![Link { prev: None, next: None }; count]), list: List::default() }
        }

        fn insert(&mut self, place: usize, prev: Option<usize>, next: Option<usize>) {
            let link = Link { prev, next };
            self.rows.0[place] = link;
            self.list.insert(&mut self.rows, place, link);
        }

        fn remove(&mut self, place: usize) {
            let link = self.rows.0[place];
            self.list.remove(&mut self.rows, link);
        }

        fn read(&self) -> Vec<usize> {
            let forward: Vec<usize> =
                core::iter::successors(self.list.first(), |at| self.rows.0[*at].next).collect();
            let mut backward: Vec<usize> =
                core::iter::successors(self.list.last(), |at| self.rows.0[*at].prev).collect();
            backward.reverse();
            assert_eq!(forward, backward, "both directions show the same");
            forward
        }
    }

    #[test]
    fn rows_come_in_at_either_end_and_between_two_others() {
        let mut numbers = Numbers::new(4);
        assert!(numbers.list.is_empty());
        numbers.insert(1, None, None);
        numbers.insert(3, numbers.list.last(), None);
        numbers.insert(0, None, numbers.list.first());
        numbers.insert(2, Some(1), Some(3));
        assert_eq!(numbers.read(), [0, 1, 2, 3]);
    }

    #[test]
    fn any_row_leaves_and_the_others_stay_in_their_order() {
        for leaving in 0..4 {
            let mut numbers = Numbers::new(4);
            for place in 0..4 {
                numbers.insert(place, numbers.list.last(), None);
            }
            numbers.remove(leaving);
            let expected: Vec<usize> = (0..4).filter(|place| *place != leaving).collect();
            assert_eq!(numbers.read(), expected);
            for place in expected {
                numbers.remove(place);
            }
            assert!(numbers.list.is_empty() && numbers.list.last().is_none());
        }
    }
}
