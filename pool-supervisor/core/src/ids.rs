//! From a task's id to its place.
//!
//! Ids count up, so neighbours are found on one page. A table of single ids would cost five times
//! as much per task, and would stop everything when it doubles under a million of them; here that
//! table has an entry per page.

use alloc::boxed::Box;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use rustc_hash::FxBuildHasher;

use crate::place::TaskPlace;

/// Ids of a page. One that is left alone on its page keeps the whole of it, so a page must be no
/// larger than a task.
const PAGE: usize = 32;

#[derive(Clone, Debug)]
struct Page {
    places: [Option<TaskPlace>; PAGE],
    used: u32,
}

const EMPTY: Page = Page { places: [None; PAGE], used: 0 };

/// Places by id.
#[derive(Default, Debug)]
pub(crate) struct Ids {
    pages: HashMap<u64, Box<Page>, FxBuildHasher>,
    /// The page that was emptied last: with few tasks in flight a page would come and go with each
    /// of them.
    spare: Option<Box<Page>>,
    len: usize,
}

const fn spot(id: u64) -> (u64, usize) {
    (id / PAGE as u64, (id % PAGE as u64) as usize)
}

impl Ids {
    pub(crate) fn insert(&mut self, id: u64, place: TaskPlace) {
        let (number, spot) = spot(id);
        let spare = &mut self.spare;
        let page = self
            .pages
            .entry(number)
            .or_insert_with(|| spare.take().unwrap_or_else(|| Box::new(EMPTY)));
        debug_assert_eq!(page.places[spot], None, "an id is given once");
        page.places[spot] = Some(place);
        page.used += 1;
        self.len += 1;
    }

    pub(crate) fn find(&self, id: u64) -> Option<TaskPlace> {
        let (number, spot) = spot(id);
        self.pages.get(&number)?.places[spot]
    }

    /// Forgets an id that is there.
    pub(crate) fn remove(&mut self, id: u64) {
        let (number, spot) = spot(id);
        let Entry::Occupied(mut entry) = self.pages.entry(number) else {
            unreachable!("the id is there")
        };
        let page = entry.get_mut();
        debug_assert_ne!(page.places[spot], None, "the id is there");
        page.places[spot] = None;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.spare = Some(entry.remove());
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_until_they_are_removed_and_empty_pages_go() {
        let mut known = Ids::default();
        let ids = 1_700_000_000_000_001..1_700_000_000_001_000u64;
        for (id, place) in ids.clone().zip((0..).map(TaskPlace::new)) {
            known.insert(id, place);
        }
        for (id, place) in ids.clone().zip((0..).map(TaskPlace::new)) {
            assert_eq!(known.find(id), Some(place));
        }
        assert_eq!((known.find(ids.start - 1), known.find(ids.end)), (None, None));
        for id in ids.clone() {
            known.remove(id);
            assert_eq!(known.find(id), None);
        }
        assert_eq!((known.len(), known.pages.len()), (0, 0));
    }
}
