//! Which worker of a lane sits where, and how many projects are served at each seat.
//!
//! A seat outlives its worker: the replacement takes it over, and with it the projects that were
//! served there. Which project is served where is the line's to know ([`crate::line`]).

use alloc::vec::Vec;

use crate::place::{SeatPlace, WorkerPlace};

/// With more projects than this in line, they are served by seat. With fewer, every worker has room
/// for the contexts of all, and who has least to do serves first.
pub(crate) const CROWD: usize = 64;

/// One seat.
#[derive(Clone, Copy, Debug)]
struct Seat {
    /// Who sits there.
    worker: Option<WorkerPlace>,
    /// How many projects are served there.
    projects: u32,
}

/// Which worker of a lane sits where.
#[derive(Default, Debug)]
pub(crate) struct Seats {
    seats: Vec<Seat>,
    /// Projects that are served at any of them.
    projects: u32,
}

impl Seats {
    /// The worker at this seat.
    pub(crate) fn at(&self, seat: SeatPlace) -> Option<WorkerPlace> {
        self.seats.get(seat.index())?.worker
    }

    /// The lowest free seat is the worker's.
    pub(super) fn take(&mut self, w: WorkerPlace) -> SeatPlace {
        let free = self.seats.iter().position(|seat| seat.worker.is_none()).unwrap_or_else(|| {
            self.seats.push(Seat { worker: None, projects: 0 });
            self.seats.len() - 1
        });
        self.seats[free].worker = Some(w);
        SeatPlace::new(free)
    }

    /// Another worker has this seat from now on.
    pub(super) fn pass_on(&mut self, seat: SeatPlace, w: WorkerPlace) -> SeatPlace {
        self.seats[seat.index()].worker = Some(w);
        seat
    }

    /// The worker at this seat, if it is still this one, leaves it.
    pub(super) fn leave(&mut self, seat: SeatPlace, w: WorkerPlace) {
        if self.at(seat) == Some(w) {
            self.seats[seat.index()].worker = None;
        }
    }

    /// A project is served at `to`, and no longer at `from`.
    pub(super) fn change(&mut self, from: Option<SeatPlace>, to: Option<SeatPlace>) {
        if let Some(from) = from {
            self.seats[from.index()].projects -= 1;
            self.projects -= 1;
        }
        if let Some(to) = to {
            self.seats[to.index()].projects += 1;
            self.projects += 1;
        }
    }

    /// Over all seats.
    pub(crate) const fn all_projects(&self) -> u32 {
        self.projects
    }

    /// Whether more projects are served than every worker has room for.
    pub(crate) const fn serve_many(&self) -> bool {
        self.projects as usize > CROWD
    }

    /// How many projects are served at this seat.
    pub(crate) fn projects_at(&self, seat: SeatPlace) -> u32 {
        self.seats.get(seat.index()).map_or(0, |seat| seat.projects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_given_to_one_worker_at_a_time_and_the_lowest_free_one_first() {
        let mut seats = Seats::default();
        let [a, b, c, d] = [6, 7, 8, 9].map(WorkerPlace::new);
        let [first, second, third, beyond] = [0, 1, 2, 9].map(SeatPlace::new);
        assert_eq!([a, b, c].map(|w| seats.take(w)), [first, second, third]);
        seats.leave(second, a);
        assert_eq!(seats.at(second), Some(b), "it is not another's to leave");
        seats.leave(second, b);
        assert_eq!((seats.at(second), seats.take(d), seats.at(beyond)), (None, second, None));
        seats.change(None, Some(first));
        seats.change(Some(first), Some(third));
        assert_eq!(
            [first, second, third, beyond].map(|seat| seats.projects_at(seat)),
            [0, 0, 1, 0]
        );
    }
}
