//! Many projects in line, and the workers whose contexts are warm for them.
//!
//! A context costs more than a hundred tiny tasks, and a worker has room for some hundreds of them.
//! If any worker served any project, each would have to have the contexts of all. So where many are
//! in line, each is served at its *seat*: a place for a worker, which a replacement takes over.
//! [`Ready`] owns the flows in line, in their order and by seat; [`Seats`] owns who sits where.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::Core;
use crate::place::{ProjectPlace, SeatPlace, TaskPlace, WorkerPlace};
use crate::queue::Rank;
use crate::settings::Lane;
use crate::worker::CREDIT_US;

/// With more projects than this in line, they are served by seat. With fewer, every worker has room
/// for the contexts of all, and who has least to do serves first.
const CROWD: usize = 64;
/// A project moves to another seat where so many fewer have theirs: this many, and a sixteenth. A
/// context is made for each that moves, so small differences stay.
const UNEVEN: u32 = 8;
/// Or where those who have their seat there have had so much more worker time than the first in
/// line, in microseconds and by its weight.
const AHEAD_US: u64 = 10_000;
/// How long a worker that holds nothing but tiny tasks may take for one, in microseconds, before
/// others serve its projects: it collects garbage, or waits for a processor.
pub(crate) const PATIENCE_US: u64 = 25_000;
/// What it costs to serve a project away from its seat, in microseconds: its context, and the
/// collections to which contexts lead. (Measured with 500 of them alive.) So a worker gets this
/// much time for each project at its seat before others make the contexts of all: a collection by
/// one worker would have the others make contexts until they have to collect.
const VISIT_US: u64 = 1_000;

/// The flows of a lane that are ready, in their order; while there are many, also by seat.
#[derive(Default, Debug)]
pub(crate) struct Ready {
    all: BTreeSet<Rank>,
    by_seat: Option<BTreeSet<(Option<SeatPlace>, Rank)>>,
}

impl Ready {
    pub(crate) fn insert(&mut self, rank: Rank, seat: Option<SeatPlace>) {
        self.all.insert(rank);
        if let Some(by_seat) = &mut self.by_seat {
            by_seat.insert((seat, rank));
        }
    }

    pub(crate) fn remove(&mut self, rank: Rank, seat: Option<SeatPlace>) {
        self.all.remove(&rank);
        if let Some(by_seat) = &mut self.by_seat {
            by_seat.remove(&(seat, rank));
        }
    }

    fn change_seat(&mut self, rank: Rank, from: Option<SeatPlace>, to: Option<SeatPlace>) {
        if let Some(by_seat) = &mut self.by_seat {
            by_seat.remove(&(from, rank));
            by_seat.insert((to, rank));
        }
    }

    /// In their order.
    pub(crate) const fn all(&self) -> &BTreeSet<Rank> {
        &self.all
    }

    /// The first in line at this seat, while they are kept by seat.
    fn first_at(&self, seat: SeatPlace) -> Option<Rank> {
        let of_seat = (Some(seat), Rank::FIRST)..;
        let (of, rank) = self.by_seat.as_ref()?.range(of_seat).next()?;
        (*of == Some(seat)).then_some(*rank)
    }

    /// Whether there are so many that they are kept by seat.
    pub(crate) const fn is_crowd(&self) -> bool {
        self.by_seat.is_some()
    }

    /// Whether both views show the same flows.
    pub(crate) fn is_consistent(
        &self,
        seat_of: impl Fn(ProjectPlace) -> Option<SeatPlace>,
    ) -> bool {
        let Some(by_seat) = &self.by_seat else { return true };
        let expected = self.all.iter().map(|rank| (seat_of(rank.project), *rank));
        by_seat.len() == self.all.len()
            && expected.into_iter().all(|entry| by_seat.contains(&entry))
    }
}

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
    pub(crate) fn take(&mut self, w: WorkerPlace) -> SeatPlace {
        let free = self.seats.iter().position(|seat| seat.worker.is_none()).unwrap_or_else(|| {
            self.seats.push(Seat { worker: None, projects: 0 });
            self.seats.len() - 1
        });
        self.seats[free].worker = Some(w);
        SeatPlace::new(free)
    }

    /// Another worker has this seat from now on.
    pub(crate) fn pass_on(&mut self, seat: SeatPlace, w: WorkerPlace) -> SeatPlace {
        self.seats[seat.index()].worker = Some(w);
        seat
    }

    /// The worker at this seat, if it is still this one, leaves it.
    pub(crate) fn leave(&mut self, seat: SeatPlace, w: WorkerPlace) {
        if self.at(seat) == Some(w) {
            self.seats[seat.index()].worker = None;
        }
    }

    /// A project is served at `to`, and no longer at `from`.
    pub(crate) fn change(&mut self, from: Option<SeatPlace>, to: Option<SeatPlace>) {
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

/// Who is to be served next where many are in line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// This flow's first task, of this cost, by this worker.
    Of(Rank, TaskPlace, u32, WorkerPlace),
    /// Whoever is first in line, as with few, whose seat is where it is served.
    OfTheFirst,
    /// Whoever is first in line. It keeps its seat, and is served elsewhere for once.
    Visit,
    /// Nobody's before a worker has ended something.
    Nobodys,
}

impl Core {
    /// Keeps the flows in line by seat while there are many.
    pub(crate) fn note_crowd(&mut self, lane: Lane) {
        let ready = &mut self.lanes[lane].ready;
        match &ready.by_seat {
            None if ready.all.len() > CROWD => {
                let seat_of = |rank: &Rank| self.projects[rank.project].flows[lane].seat;
                ready.by_seat = Some(ready.all.iter().map(|rank| (seat_of(rank), *rank)).collect());
            }
            Some(_) if ready.all.len() < CROWD / 2 => ready.by_seat = None,
            None | Some(_) => {}
        }
    }

    /// A place for a project that is new here. Others may be forgotten for it, and leave their
    /// seats.
    pub(crate) fn make_project(&mut self, name: &str) -> ProjectPlace {
        let place = self.projects.make(name, &self.settings);
        for (lane, seat) in self.projects.left_seats.drain(..) {
            self.workers.lanes[lane].seats.change(Some(seat), None);
        }
        place
    }

    /// The flow is served at this seat from now on.
    pub(crate) fn sit(&mut self, project: ProjectPlace, lane: Lane, seat: Option<SeatPlace>) {
        let flow = &mut self.projects[project].flows[lane];
        if flow.seat != seat {
            if let Some(rank) = flow.rank() {
                self.lanes[lane].ready.change_seat(rank, flow.seat, seat);
            }
            self.workers.lanes[lane].seats.change(flow.seat, seat);
            flow.seat = seat;
        }
    }

    /// Whose turn it is, where `first` is the first in line.
    ///
    /// Whoever is passed by waits for its own worker, which holds nothing but tiny tasks: for less
    /// than the time that its context would take elsewhere. So a worker may idle for a moment while
    /// others' projects wait.
    pub(crate) fn turn_in_crowd(&self, lane: Lane, first: Rank) -> Turn {
        let queue = &self.lanes[lane].ready;
        let workers = &self.workers.lanes[lane];
        let (slot, cost_us) = self.next_of(first, lane);
        // Nobody passes a task that needs an idle worker.
        let seat = self.projects[first.project].flows[lane].seat;
        let seated = seat.and_then(|seat| Some((seat, workers.seats.at(seat)?)));
        let Some((seat, home)) = seated else { return Turn::OfTheFirst };
        if cost_us > CREDIT_US {
            return Turn::OfTheFirst;
        }
        if self.workers[home].has_room(cost_us) {
            return Turn::Of(first, slot, cost_us, home);
        }
        let crowd = workers.seats.projects_at(seat);
        if !self.is_at_it(home, PATIENCE_US.max(u64::from(crowd) * VISIT_US)) {
            return Turn::Visit;
        }
        let mut best: Option<(Rank, TaskPlace, u32, WorkerPlace)> = None;
        let mut moves = false;
        for w in workers.open.as_slice().iter().chain(workers.idle.as_slice()).copied() {
            let Some(own_seat) = self.workers[w].seat else { continue };
            let own = queue.first_at(own_seat).filter(|rank| rank.level() == first.level());
            let own_crowd = workers.seats.projects_at(own_seat);
            let is_uneven = own_crowd + own_crowd / 16 + UNEVEN < crowd;
            if is_uneven || own.is_some_and(|rank| rank.ahead_us(first) > AHEAD_US) {
                moves |= self.workers[w].has_room(cost_us);
                continue;
            }
            let Some(rank) = own else { continue };
            let (slot, cost_us) = self.next_of(rank, lane);
            // One that is nearly full has no room for just any tiny task.
            let fits = cost_us <= CREDIT_US && self.workers[w].has_room(cost_us);
            if fits && best.is_none_or(|(best, ..)| rank < best) {
                best = Some((rank, slot, cost_us, w));
            }
        }
        match best {
            Some((rank, slot, cost_us, w)) => Turn::Of(rank, slot, cost_us, w),
            None if moves => Turn::OfTheFirst,
            None => Turn::Nobodys,
        }
    }

    /// Whether the worker holds nothing but tiny tasks, and will be done with the first of them
    /// soon.
    fn is_at_it(&self, w: WorkerPlace, patience_us: u64) -> bool {
        let worker = &self.workers[w];
        let Some(front) = worker.held.front() else { return false };
        let is_tiny = worker.is_ready() && worker.load_us <= u64::from(CREDIT_US);
        is_tiny && self.now.since(self.tasks[front.task].started) < patience_us
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
