//! A table that forgets what was used least recently, in constant time however much it holds.
//!
//! Its keys come from outside: names of projects, sources. So they are hashed with a seed that
//! nobody outside knows, and whoever asks twice for the same key in a row is answered without a
//! hash, which is what a worker does that serves one project.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::{Equivalent, HashTable};

/// No place: the end of the list.
const NONE: u32 = u32::MAX;

struct Node<K, V> {
    key: K,
    value: V,
    /// The one used after it, and the one used before.
    newer: u32,
    older: u32,
}

/// Values by key, in the order of their last use.
pub(super) struct Lru<K, V> {
    places: HashTable<u32>,
    nodes: Vec<Option<Node<K, V>>>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
    seed: RandomState,
}

impl<K, V> Default for Lru<K, V> {
    fn default() -> Self {
        Self {
            places: HashTable::new(),
            nodes: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            seed: RandomState::new(),
        }
    }
}

impl<K: Hash, V> Lru<K, V> {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The value of this key, which is then the one used last.
    pub(super) fn get<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<&mut V> {
        let place = if self.newest != NONE && key.equivalent(&self.node(self.newest).key) {
            self.newest
        } else {
            let place = self.find(key)?;
            self.unlink(place);
            self.link_newest(place);
            place
        };
        Some(&mut self.node_mut(place).value)
    }

    /// Whether there is a value of this key; that is no use of it.
    pub(super) fn contains<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.find(key).is_some()
    }

    /// Adds a value whose key is not there yet, as the one used last.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let place = self.add(key, value);
        self.link_newest(place);
    }

    /// Adds a value whose key is not there yet, as the first to go unless it is used again.
    pub(super) fn insert_oldest(&mut self, key: K, value: V) {
        let place = self.add(key, value);
        let after = self.oldest;
        self.node_mut(place).newer = after;
        if after == NONE {
            self.newest = place;
        } else {
            self.node_mut(after).older = place;
        }
        self.oldest = place;
    }

    fn add(&mut self, key: K, value: V) -> u32 {
        let hash = self.seed.hash_one(&key);
        let node = Some(Node { key, value, newer: NONE, older: NONE });
        let place = if let Some(place) = self.free.pop() {
            self.nodes[place as usize] = node;
            place
        } else {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).expect("tables here are bounded far below")
        };
        let (nodes, seed) = (&self.nodes, &self.seed);
        let hash_of = |place: &u32| {
            let node = nodes[*place as usize].as_ref();
            seed.hash_one(&node.expect("the table names places in use").key)
        };
        self.places.insert_unique(hash, place, hash_of);
        place
    }

    pub(super) fn remove<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<V> {
        let place = self.find(key)?;
        Some(self.take(place).1)
    }

    /// Takes out what was used least recently.
    pub(super) fn pop_oldest(&mut self) -> Option<(K, V)> {
        (self.oldest != NONE).then(|| self.take(self.oldest))
    }

    fn find<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<u32> {
        let is_it = |place: &u32| key.equivalent(&self.node(*place).key);
        self.places.find(self.seed.hash_one(key), is_it).copied()
    }

    fn take(&mut self, place: u32) -> (K, V) {
        self.unlink(place);
        let hash = self.seed.hash_one(&self.node(place).key);
        if let Ok(entry) = self.places.find_entry(hash, |other| *other == place) {
            entry.remove();
        }
        self.free.push(place);
        let node = self.nodes[place as usize].take().expect("it was linked");
        (node.key, node.value)
    }

    fn node(&self, place: u32) -> &Node<K, V> {
        self.nodes[place as usize].as_ref().expect("a place that is named is in use")
    }

    fn node_mut(&mut self, place: u32) -> &mut Node<K, V> {
        self.nodes[place as usize].as_mut().expect("a place that is named is in use")
    }

    fn link_newest(&mut self, place: u32) {
        let before = self.newest;
        let node = self.node_mut(place);
        (node.newer, node.older) = (NONE, before);
        if before == NONE {
            self.oldest = place;
        } else {
            self.node_mut(before).newer = place;
        }
        self.newest = place;
    }

    fn unlink(&mut self, place: u32) {
        let node = self.node(place);
        let (newer, older) = (node.newer, node.older);
        if newer == NONE {
            self.newest = older;
        } else {
            self.node_mut(newer).older = older;
        }
        if older == NONE {
            self.oldest = newer;
        } else {
            self.node_mut(older).newer = newer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_least_recently_goes_first() {
        let mut table: Lru<String, u32> = Lru::default();
        for number in 0..4 {
            table.insert(number.to_string(), number);
        }
        assert_eq!(table.get("0"), Some(&mut 0));
        assert_eq!(table.get("2"), Some(&mut 2));
        assert!(table.contains("1"), "to ask whether it is there is no use of it");
        table.insert_oldest("4".into(), 4);
        let order: Vec<u32> = std::iter::from_fn(|| table.pop_oldest()).map(|(_, n)| n).collect();
        assert_eq!(order, [4, 1, 3, 0, 2]);
        table.insert_oldest("5".into(), 5);
        assert_eq!(table.pop_oldest(), Some(("5".into(), 5)));
        assert_eq!((table.len(), table.get("0")), (0, None));
    }

    /// Against the plainest table that does the same.
    #[test]
    fn a_long_run_of_uses_leaves_what_a_list_would_hold() {
        let mut table: Lru<u32, u32> = Lru::default();
        let mut list: Vec<u32> = Vec::new();
        let mut state = 1_u32;
        for step in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = (state >> 16) % 97;
            let at = list.iter().position(|k| *k == key);
            match (state >> 8) % 4 {
                0 => {
                    assert_eq!(table.remove(&key).is_some(), at.is_some(), "step {step}");
                    at.map(|at| list.remove(at));
                }
                1 if list.len() > 50 => {
                    assert_eq!(table.pop_oldest().map(|(key, _)| key), Some(list.remove(0)));
                }
                _ => {
                    if let Some(at) = at {
                        assert_eq!(table.get(&key), Some(&mut key.clone()), "step {step}");
                        list.remove(at);
                    } else {
                        assert_eq!(table.get(&key), None, "step {step}");
                        table.insert(key, key);
                    }
                    list.push(key);
                }
            }
            assert_eq!(table.len(), list.len(), "step {step}");
        }
        let order: Vec<u32> =
            std::iter::from_fn(|| table.pop_oldest()).map(|(key, _)| key).collect();
        assert_eq!(order, list);
    }
}
