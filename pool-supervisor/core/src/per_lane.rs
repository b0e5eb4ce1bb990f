//! One thing per lane.

use core::ops::{Index, IndexMut};

use pool_protocol::lane::Lane;

/// One thing per lane.
#[derive(Default, Debug)]
pub(crate) struct PerLane<T>([T; 2]);

impl<T> Index<Lane> for PerLane<T> {
    type Output = T;

    fn index(&self, lane: Lane) -> &T {
        &self.0[lane as usize]
    }
}

impl<T> IndexMut<Lane> for PerLane<T> {
    fn index_mut(&mut self, lane: Lane) -> &mut T {
        &mut self.0[lane as usize]
    }
}
