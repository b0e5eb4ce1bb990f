//! What was compiled, by whose it is and its source: a bounded number, least recently used out
//! first.
//!
//! The owner is a part of the key wherever projects share a context: how long a task takes must not
//! tell that another project ran the same text before.

use hashbrown::Equivalent;

use super::lru::Lru;

/// Entries of a cache, and bytes of their sources.
const MAX_ENTRIES: usize = 1024;
const MAX_BYTES: usize = 4 << 20;

#[derive(Hash)]
struct Key {
    owner: Box<str>,
    source: Box<str>,
}

#[derive(Hash)]
struct Asked<'a> {
    owner: &'a str,
    source: &'a str,
}

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.source == *key.source && *self.owner == *key.owner
    }
}

/// Values by owner and source text.
pub(super) struct SourceCache<T> {
    entries: Lru<Key, T>,
    bytes: usize,
}

impl<T> Default for SourceCache<T> {
    fn default() -> Self {
        Self { entries: Lru::default(), bytes: 0 }
    }
}

impl<T> SourceCache<T> {
    /// What was kept for this source of this owner.
    pub(super) fn get(&mut self, owner: &str, source: &str) -> Option<&T> {
        self.entries.get(&Asked { owner, source }).map(|value| &*value)
    }

    /// Keeps a value, unless its source is very long.
    pub(super) fn insert(&mut self, owner: &str, source: &str, value: T) {
        if source.len() > MAX_BYTES / 4 {
            return;
        }
        if let Some(kept) = self.entries.get(&Asked { owner, source }) {
            *kept = value;
            return;
        }
        while self.entries.len() >= MAX_ENTRIES || self.bytes + source.len() > MAX_BYTES {
            let Some((key, _)) = self.entries.pop_oldest() else {
                break;
            };
            self.bytes -= key.source.len();
        }
        self.bytes += source.len();
        self.entries.insert(Key { owner: owner.into(), source: source.into() }, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = SourceCache::default();
        for number in 0..MAX_ENTRIES {
            cache.insert("p", &number.to_string(), number);
        }
        assert_eq!(cache.get("p", "0"), Some(&0));
        cache.insert("p", "one more", 0);
        assert_eq!(cache.get("p", "0"), Some(&0));
        assert_eq!(cache.get("p", "1"), None);
        assert_eq!(cache.get("p", "2"), Some(&2));
    }

    #[test]
    fn long_sources_push_out_others_and_the_longest_are_not_kept() {
        let mut cache = SourceCache::default();
        let long = |letter: char| String::from(letter).repeat(MAX_BYTES / 4);
        for letter in 'a'..='e' {
            cache.insert("p", &long(letter), letter);
        }
        assert_eq!(cache.get("p", &long('a')), None);
        assert_eq!(cache.get("p", &long('b')), Some(&'b'));
        cache.insert("p", &(long('a') + "a"), 'a');
        assert_eq!(cache.get("p", &(long('a') + "a")), None);
    }

    #[test]
    fn what_one_owner_compiled_is_not_anothers() {
        let mut cache = SourceCache::default();
        cache.insert("p", "1 + 1", 'p');
        assert_eq!(cache.get("q", "1 + 1"), None);
        cache.insert("q", "1 + 1", 'q');
        assert_eq!(cache.get("p", "1 + 1"), Some(&'p'));
        assert_eq!(cache.get("q", "1 + 1"), Some(&'q'));
        cache.insert("q", "1 + 1", 'r');
        assert_eq!(cache.get("q", "1 + 1"), Some(&'r'));
    }
}
