//! Many projects in line, and the workers whose contexts are warm for them.
//!
//! A context costs more than a hundred tiny tasks, and a worker has room for some hundreds of them.
//! If any worker served any project, each would have to have the contexts of all. So where many are
//! in line ([`crate::line`]), each is served at its *seat*: a place for a worker, which a
//! replacement takes over.

use pool_protocol::lane::Lane;

use crate::Core;
use crate::line::Rank;
use crate::place::{TaskPlace, WorkerPlace};
use crate::roster::CREDIT_US;

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
    /// Whose turn it is, where `first` is the first in line.
    ///
    /// Whoever is passed by waits for its own worker, which holds nothing but tiny tasks: for less
    /// than the time that its context would take elsewhere. So a worker may idle for a moment while
    /// others' projects wait.
    pub(crate) fn turn_in_crowd(&self, lane: Lane, first: Rank) -> Turn {
        let seats = self.roster.seats(lane);
        let (slot, cost_us) = self.next_of(first, lane);
        // Nobody passes a task that needs an idle worker.
        let seat = self.line[first.project].flows[lane].seat;
        let seated = seat.and_then(|seat| Some((seat, seats.at(seat)?)));
        let Some((seat, home)) = seated else { return Turn::OfTheFirst };
        if cost_us > CREDIT_US {
            return Turn::OfTheFirst;
        }
        if self.roster[home].has_room(cost_us) {
            return Turn::Of(first, slot, cost_us, home);
        }
        let crowd = seats.projects_at(seat);
        if !self.is_at_it(home, PATIENCE_US.max(u64::from(crowd) * VISIT_US)) {
            return Turn::Visit;
        }
        let mut best: Option<(Rank, TaskPlace, u32, WorkerPlace)> = None;
        let mut moves = false;
        for w in self.roster.open(lane).iter().chain(self.roster.idle(lane)).copied() {
            let Some(own_seat) = self.roster[w].seat else { continue };
            let own =
                self.line.first_at(lane, own_seat).filter(|rank| rank.level() == first.level());
            let own_crowd = seats.projects_at(own_seat);
            let is_uneven = own_crowd + own_crowd / 16 + UNEVEN < crowd;
            if is_uneven || own.is_some_and(|rank| rank.ahead_us(first) > AHEAD_US) {
                moves |= self.roster[w].has_room(cost_us);
                continue;
            }
            let Some(rank) = own else { continue };
            let (slot, cost_us) = self.next_of(rank, lane);
            // One that is nearly full has no room for just any tiny task.
            let fits = cost_us <= CREDIT_US && self.roster[w].has_room(cost_us);
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
        let worker = &self.roster[w];
        let Some(front) = worker.held.front() else { return false };
        let is_tiny = worker.is_ready() && worker.load_us <= u64::from(CREDIT_US);
        is_tiny && self.timers.now().since(self.tasks[front.task].started) < patience_us
    }
}
