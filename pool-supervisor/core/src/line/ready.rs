//! The flows of a lane that are ready, in their order; while there are many, also by seat.
//!
//! A context costs more than a hundred tiny tasks, and a worker has room for some hundreds of them.
//! If any worker served any project, each would have to have the contexts of all. So where many are
//! in line, each is served at its *seat*, and the first in line at a seat has to be found.

use alloc::collections::BTreeSet;

use super::flow::Rank;
use crate::place::{ProjectPlace, SeatPlace};
use crate::roster::CROWD;

/// The flows of a lane that are ready.
#[derive(Default, Debug)]
pub(super) struct Ready {
    all: BTreeSet<Rank>,
    by_seat: Option<BTreeSet<(Option<SeatPlace>, Rank)>>,
}

impl Ready {
    pub(super) fn insert(&mut self, rank: Rank, seat: Option<SeatPlace>) {
        self.all.insert(rank);
        if let Some(by_seat) = &mut self.by_seat {
            by_seat.insert((seat, rank));
        }
    }

    pub(super) fn remove(&mut self, rank: Rank, seat: Option<SeatPlace>) {
        self.all.remove(&rank);
        if let Some(by_seat) = &mut self.by_seat {
            by_seat.remove(&(seat, rank));
        }
    }

    pub(super) fn change_seat(
        &mut self,
        rank: Rank,
        from: Option<SeatPlace>,
        to: Option<SeatPlace>,
    ) {
        if let Some(by_seat) = &mut self.by_seat {
            by_seat.remove(&(from, rank));
            by_seat.insert((to, rank));
        }
    }

    /// Keeps them by seat while there are many.
    pub(super) fn note_crowd(&mut self, seat_of: impl Fn(ProjectPlace) -> Option<SeatPlace>) {
        match &self.by_seat {
            None if self.all.len() > CROWD => {
                let by_seat = self.all.iter().map(|rank| (seat_of(rank.project), *rank));
                self.by_seat = Some(by_seat.collect());
            }
            Some(_) if self.all.len() < CROWD / 2 => self.by_seat = None,
            None | Some(_) => {}
        }
    }

    /// In their order.
    pub(super) const fn all(&self) -> &BTreeSet<Rank> {
        &self.all
    }

    /// The first in line at this seat, while they are kept by seat.
    pub(super) fn first_at(&self, seat: SeatPlace) -> Option<Rank> {
        let of_seat = (Some(seat), Rank::FIRST)..;
        let (of, rank) = self.by_seat.as_ref()?.range(of_seat).next()?;
        (*of == Some(seat)).then_some(*rank)
    }

    /// Whether there are so many that they are kept by seat.
    pub(super) const fn is_crowd(&self) -> bool {
        self.by_seat.is_some()
    }

    /// The least virtual time of those that stand at this priority.
    pub(super) fn least_at(&self, level: Rank) -> Option<u64> {
        self.all.range(level.first_of_its_level()..).next()?.virtual_time_at(level)
    }

    /// Whether both views show the same flows.
    pub(super) fn is_consistent(
        &self,
        seat_of: impl Fn(ProjectPlace) -> Option<SeatPlace>,
    ) -> bool {
        let Some(by_seat) = &self.by_seat else { return true };
        let expected = self.all.iter().map(|rank| (seat_of(rank.project), *rank));
        by_seat.len() == self.all.len()
            && expected.into_iter().all(|entry| by_seat.contains(&entry))
    }
}
