//! Projects: what each may use, what it uses now, and its waiting tasks by lane.
//!
//! Owns the table of names and the settings in force for each. Everybody may read a project; the
//! line alone changes one. Anybody may name a project, so the
//! table has a bound: above it, those that have nothing here and were set up by nobody are
//! forgotten.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

use hashbrown::HashMap;
use pool_protocol::lane::Lane;

use super::flow::Flow;
use crate::per_lane::PerLane;
use crate::place::{ProjectPlace, SeatPlace};
use crate::seeds::KeyedHash;
use crate::settings::{ProjectSettings, Settings};

/// Projects that may be remembered though nothing is left of them.
const REMEMBERED: usize = 10_000;
/// Projects that may have a limit set by hand: those are remembered though nothing else is left of
/// them.
const MOST_LIMITS: usize = 32_768;
/// Weights are used within these bounds, so that sums of virtual time stay far from overflow.
const WEIGHTS: (f64, f64) = (0.001, 1_000_000.0);

/// One project.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) name: Box<str>,
    /// How many of its tasks may run at once.
    pub(crate) limit: Option<u32>,
    pub(crate) weight: f64,
    pub(crate) max_queued: Option<u32>,
    /// The configuration names it.
    named: bool,
    /// Its limit was set by hand.
    limit_by_hand: bool,
    pub(crate) flows: PerLane<Flow>,
    /// How many workers hold tasks of it. Each runs one at a time, so their number is what the
    /// limit bounds.
    pub(crate) holders: u32,
    /// Tasks that wait: queued, delayed, between attempts.
    pub(crate) waiting: u32,
    /// Bytes of the bodies of its tasks that have not ended.
    pub(crate) held_bytes: u64,
    /// Tasks that workers hold.
    pub(crate) held: u32,
    /// Those among them that run.
    pub(crate) running: u32,
    /// Tasks that ended.
    pub(crate) ended: u64,
    /// Idempotency keys that are kept for it.
    pub(crate) keys: u32,
}

impl Project {
    fn new(name: &str) -> Self {
        let settings = ProjectSettings::default();
        Self {
            name: name.into(),
            limit: settings.limit,
            weight: settings.weight,
            max_queued: settings.max_queued,
            named: false,
            limit_by_hand: false,
            flows: PerLane::default(),
            holders: 0,
            waiting: 0,
            held_bytes: 0,
            held: 0,
            running: 0,
            ended: 0,
            keys: 0,
        }
    }

    /// Takes what the configuration says of it; a limit set by hand outlives a configuration that
    /// does not name it.
    fn configure(&mut self, settings: Option<&ProjectSettings>) {
        self.named = settings.is_some();
        self.limit_by_hand &= !self.named;
        let settings = settings.copied().unwrap_or_default();
        if !self.limit_by_hand {
            self.limit = settings.limit;
        }
        self.weight = settings.weight.clamp(WEIGHTS.0, WEIGHTS.1);
        self.max_queued = settings.max_queued;
    }

    /// How many more workers may take tasks of it.
    pub(crate) fn allowance(&self) -> u32 {
        self.limit.map_or(u32::MAX, |limit| limit.saturating_sub(self.holders))
    }

    /// How many tasks wait, those that a worker holds but has not started too.
    pub(crate) const fn queued(&self) -> u32 {
        self.waiting + self.held - self.running
    }

    /// Whether nothing is left of it, as far as the line knows.
    fn is_forgettable(&self) -> bool {
        let used = self.waiting + self.held + self.keys > 0;
        debug_assert!(used || self.held_bytes == 0, "without tasks there are no bodies");
        !self.named && !self.limit_by_hand && !used
    }
}

/// All projects, by place and by name.
#[derive(Debug)]
pub(super) struct Projects {
    places: Vec<Option<Project>>,
    vacant: Vec<ProjectPlace>,
    by_name: HashMap<Box<str>, ProjectPlace, KeyedHash>,
    /// How many have a limit that was set by hand.
    limits_by_hand: usize,
    sweep_at: usize,
    /// The place that was found last.
    last: Option<ProjectPlace>,
}

impl Projects {
    pub(super) fn new(hash: KeyedHash) -> Self {
        let by_name = HashMap::with_hasher(hash);
        Self {
            places: Vec::new(),
            vacant: Vec::new(),
            by_name,
            limits_by_hand: 0,
            sweep_at: 0,
            last: None,
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<ProjectPlace> {
        self.by_name.get(name).copied()
    }

    /// As `find`, for whoever often asks for the same one as before: that one is found without a
    /// hash.
    pub(super) fn find_again(&mut self, name: &str) -> Option<ProjectPlace> {
        let is_it = |last: &ProjectPlace| {
            self.places[last.index()].as_ref().is_some_and(|project| *project.name == *name)
        };
        if let Some(last) = self.last.filter(is_it) {
            return Some(last);
        }
        let place = self.find(name)?;
        self.last = Some(place);
        Some(place)
    }

    pub(super) fn exists(&self, place: ProjectPlace) -> bool {
        self.places.get(place.index()).is_some_and(Option::is_some)
    }

    /// Whether there are so many that those are to be forgotten of which nothing is left.
    pub(super) fn are_too_many(&self) -> bool {
        self.by_name.len() >= self.sweep_at.max(REMEMBERED)
    }

    /// A place for a project that has none.
    pub(super) fn make(&mut self, name: &str, settings: &Settings) -> ProjectPlace {
        let mut project = Project::new(name);
        project.configure(settings.projects.get(name));
        let place = if let Some(place) = self.vacant.pop() {
            self.places[place.index()] = Some(project);
            place
        } else {
            self.places.push(Some(project));
            ProjectPlace::new(self.places.len() - 1)
        };
        self.by_name.insert(name.into(), place);
        place
    }

    /// Forgets what may be forgotten, but for those that workers are bound to. Returns where they
    /// were served. The next time is when twice the rest is reached, so that this costs little per
    /// project.
    pub(super) fn sweep(
        &mut self,
        is_bound_to: impl Fn(ProjectPlace) -> bool,
    ) -> Vec<(Lane, SeatPlace)> {
        let mut left = Vec::new();
        for (row, place) in self.places.iter_mut().enumerate() {
            let at = ProjectPlace::new(row);
            let is_over = |project: &mut Project| project.is_forgettable() && !is_bound_to(at);
            if let Some(project) = place.take_if(is_over) {
                for lane in Lane::ALL {
                    left.extend(project.flows[lane].seat.map(|seat| (lane, seat)));
                }
                self.by_name.remove(&project.name);
                self.vacant.push(at);
            }
        }
        self.sweep_at = self.by_name.len() * 2;
        left
    }

    pub(super) fn has_room_for_limit(&self, name: &str) -> bool {
        self.limits_by_hand < MOST_LIMITS
            || self.find(name).is_some_and(|place| self[place].limit_by_hand)
    }

    /// Sets a limit by hand, or lifts it: then what the configuration says holds again. False: too
    /// many projects have one.
    pub(super) fn set_limit(
        &mut self,
        place: ProjectPlace,
        limit: Option<u32>,
        settings: &Settings,
    ) -> bool {
        let had_one = self[place].limit_by_hand;
        if limit.is_some() && !had_one && self.limits_by_hand >= MOST_LIMITS {
            return false;
        }
        self.limits_by_hand =
            self.limits_by_hand + usize::from(limit.is_some()) - usize::from(had_one);
        let configured = settings.projects.get(&self[place].name).and_then(|project| project.limit);
        let project = &mut self[place];
        project.limit = limit.or(configured);
        project.limit_by_hand = limit.is_some();
        true
    }

    /// Puts the settings in force for all projects, those that they name first of all.
    pub(super) fn configure(&mut self, settings: &Settings) {
        for name in settings.projects.keys() {
            if self.find(name).is_none() {
                self.make(name, settings);
            }
        }
        self.limits_by_hand = 0;
        for project in self.places.iter_mut().flatten() {
            project.configure(settings.projects.get(&project.name));
            self.limits_by_hand += usize::from(project.limit_by_hand);
        }
    }

    /// All, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ProjectPlace, &Project)> {
        self.places.iter().enumerate().filter_map(|(row, project)| {
            project.as_ref().map(|project| (ProjectPlace::new(row), project))
        })
    }
}

impl Index<ProjectPlace> for Projects {
    type Output = Project;

    fn index(&self, place: ProjectPlace) -> &Project {
        self.places[place.index()].as_ref().expect("a project with tasks is not forgotten")
    }
}

impl IndexMut<ProjectPlace> for Projects {
    fn index_mut(&mut self, place: ProjectPlace) -> &mut Project {
        self.places[place.index()].as_mut().expect("a project with tasks is not forgotten")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn names_that_anybody_makes_up_are_forgotten_and_configured_ones_are_not() {
        let mut settings = Settings::default();
        settings.projects.insert(
            "named".into(),
            ProjectSettings { limit: Some(7), ..ProjectSettings::default() },
        );
        let mut projects = Projects::new(KeyedHash::default());
        projects.configure(&settings);
        let by_hand = projects.make("by-hand", &settings);
        assert!(projects.set_limit(by_hand, Some(3), &settings));
        let busy = projects.make("busy", &settings);
        projects[busy].waiting = 1;
        let bound = projects.make("a worker is bound to it", &settings);
        for number in 0..50_000 {
            if projects.are_too_many() {
                projects.sweep(|place| place == bound);
            }
            projects.make(&format!("made-up-{number}"), &settings);
        }
        assert!(projects.iter().count() <= REMEMBERED + 4, "{}", projects.iter().count());
        assert_eq!(projects.find("by-hand"), Some(by_hand));
        assert_eq!(projects.find("busy"), Some(busy));
        assert_eq!(projects.find("a worker is bound to it"), Some(bound));
        assert_eq!(projects.find("named").map(|place| projects[place].limit), Some(Some(7)));
    }
}
