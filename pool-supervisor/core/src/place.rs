//! Places: the rows of the core's tables, each table's of a type of its own, so that a worker's
//! place is no index into the tasks.
//!
//! A place is used again when what stood there is gone. A name that must not be mistaken for a
//! later one is an id ([`pool_protocol::id`]), not a place.

use core::num::NonZeroU32;

macro_rules! place {
    ($($(#[$doc:meta])* $visible:vis $name:ident)*) => {$(
        $(#[$doc])*
        // Counted from one inside, so that `Option<Self>` is no larger.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        $visible struct $name(NonZeroU32);

        impl $name {
            /// The place of this row.
            ///
            /// # Panics
            /// From row `u32::MAX` on: no table is that long.
            #[must_use]
            $visible fn new(row: usize) -> Self {
                let counted = u32::try_from(row).ok().and_then(|row| row.checked_add(1));
                Self(counted.and_then(NonZeroU32::new).expect("no table has so many rows"))
            }

            /// Its row, from 0.
            #[must_use]
            $visible const fn index(self) -> usize {
                self.0.get() as usize - 1
            }
        }
    )*};
}

place! {
    /// Where a task is kept until it has ended; also where the shell keeps its bytes.
    pub TaskPlace
    /// Where a worker is kept until it is gone.
    pub(crate) WorkerPlace
    /// Where a project is kept until it is forgotten.
    pub(crate) ProjectPlace
    /// One of a lane's seats, each of which has at most one worker.
    pub(crate) SeatPlace
}

impl ProjectPlace {
    /// Before all others.
    pub(crate) const FIRST: Self = Self(NonZeroU32::MIN);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_knows_its_row_and_having_none_costs_nothing() {
        assert_eq!(
            [0, 1, 4_294_967_294].map(|row| TaskPlace::new(row).index()),
            [0, 1, 4_294_967_294]
        );
        assert_eq!(size_of::<Option<TaskPlace>>(), 4);
        assert!(WorkerPlace::new(0) < WorkerPlace::new(1));
    }

    #[test]
    #[should_panic(expected = "no table has so many rows")]
    fn there_is_no_row_beyond_a_u32() {
        let _ = TaskPlace::new(u32::MAX as usize);
    }
}
