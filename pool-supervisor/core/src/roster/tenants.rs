//! The workers of each project: those that hold tasks of it, and those that serve nobody else.
//!
//! A side table by the project's place. An entry that is left empty is the next project's there.

use alloc::vec::Vec;

use pool_protocol::lane::Lane;

use crate::per_lane::PerLane;
use crate::place::{ProjectPlace, WorkerPlace};

/// Ready workers of a lane that serve one project and no other.
#[derive(Default, Debug)]
pub(crate) struct Homes {
    workers: Vec<WorkerPlace>,
    /// Those among them that are not to be replaced.
    staying: u32,
}

impl Homes {
    pub(crate) const fn workers(&self) -> &[WorkerPlace] {
        self.workers.as_slice()
    }

    pub(crate) const fn staying(&self) -> u32 {
        self.staying
    }
}

/// The workers of one project.
#[derive(Default, Debug)]
struct OfProject {
    /// Those that hold tasks of it. Each runs one at a time, so their number is what the project's
    /// limit bounds.
    holders: Vec<WorkerPlace>,
    /// Living ones that have served it and no other.
    tenants: u32,
    /// Those among them that are ready.
    homes: PerLane<Homes>,
}

/// The workers of all projects.
#[derive(Default, Debug)]
pub(crate) struct Tenants(Vec<OfProject>);

impl Tenants {
    fn of(&mut self, project: ProjectPlace) -> &mut OfProject {
        if self.0.len() <= project.index() {
            self.0.resize_with(project.index() + 1, OfProject::default);
        }
        &mut self.0[project.index()]
    }

    pub(super) fn add_holder(&mut self, project: ProjectPlace, w: WorkerPlace) {
        self.of(project).holders.push(w);
    }

    pub(super) fn remove_holder(&mut self, project: ProjectPlace, w: WorkerPlace) {
        take_out(&mut self.of(project).holders, w);
    }

    pub(super) fn add_tenant(&mut self, project: ProjectPlace) {
        self.of(project).tenants += 1;
    }

    pub(super) fn remove_tenant(&mut self, project: ProjectPlace) {
        self.of(project).tenants -= 1;
    }

    /// A worker is at home with the project from now on; `stays`: it is not to be replaced.
    pub(super) fn come_home(
        &mut self,
        project: ProjectPlace,
        lane: Lane,
        w: WorkerPlace,
        stays: bool,
    ) {
        let homes = &mut self.of(project).homes[lane];
        homes.workers.push(w);
        homes.staying += u32::from(stays);
    }

    pub(super) fn leave_home(
        &mut self,
        project: ProjectPlace,
        lane: Lane,
        w: WorkerPlace,
        stayed: bool,
    ) {
        let homes = &mut self.of(project).homes[lane];
        take_out(&mut homes.workers, w);
        homes.staying -= u32::from(stayed);
    }

    pub(crate) fn holders(&self, project: ProjectPlace) -> &[WorkerPlace] {
        self.0.get(project.index()).map_or(&[], |of| &of.holders)
    }

    pub(crate) fn tenants(&self, project: ProjectPlace) -> u32 {
        self.0.get(project.index()).map_or(0, |of| of.tenants)
    }

    pub(crate) fn homes(&self, project: ProjectPlace, lane: Lane) -> &Homes {
        const NOBODY: &Homes = &Homes { workers: Vec::new(), staying: 0 };
        self.0.get(project.index()).map_or(NOBODY, |of| &of.homes[lane])
    }
}

fn take_out(workers: &mut Vec<WorkerPlace>, w: WorkerPlace) {
    let position = workers.iter().position(|of| *of == w).expect("it was counted when it came");
    workers.swap_remove(position);
}
