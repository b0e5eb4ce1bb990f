//! What was compiled, by its source: a bounded number, least recently used out first.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

/// Entries of a cache, and bytes of their sources.
const MAX_ENTRIES: usize = 256;
const MAX_BYTES: usize = 4 << 20;

/// Values by source text.
pub(super) struct SourceCache<T> {
    entries: HashMap<String, Entry<T>, FxBuildHasher>,
    bytes: usize,
    uses: u64,
}

struct Entry<T> {
    value: T,
    last_use: u64,
}

impl<T> Default for SourceCache<T> {
    fn default() -> Self {
        Self { entries: HashMap::default(), bytes: 0, uses: 0 }
    }
}

impl<T> SourceCache<T> {
    /// What was kept for this source.
    pub(super) fn get(&mut self, source: &str) -> Option<&T> {
        self.uses += 1;
        let entry = self.entries.get_mut(source)?;
        entry.last_use = self.uses;
        Some(&entry.value)
    }

    /// Keeps a value, unless its source is very long.
    pub(super) fn insert(&mut self, source: &str, value: T) {
        if source.len() > MAX_BYTES / 4 {
            return;
        }
        while self.entries.len() >= MAX_ENTRIES || self.bytes + source.len() > MAX_BYTES {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.last_use);
            let Some(oldest) = oldest.map(|(source, _)| source.clone()) else {
                break;
            };
            self.bytes -= oldest.len();
            self.entries.remove(&oldest);
        }
        self.uses += 1;
        if self.entries.insert(source.to_owned(), Entry { value, last_use: self.uses }).is_none() {
            self.bytes += source.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = SourceCache::default();
        for number in 0..MAX_ENTRIES {
            cache.insert(&number.to_string(), number);
        }
        assert_eq!(cache.get("0"), Some(&0));
        cache.insert("one more", 0);
        assert_eq!(cache.get("0"), Some(&0));
        assert_eq!(cache.get("1"), None);
        assert_eq!(cache.get("2"), Some(&2));
    }

    #[test]
    fn long_sources_push_out_others_and_the_longest_are_not_kept() {
        let mut cache = SourceCache::default();
        let long = |letter: char| String::from(letter).repeat(MAX_BYTES / 4);
        for letter in 'a'..='e' {
            cache.insert(&long(letter), letter);
        }
        assert_eq!(cache.get(&long('a')), None);
        assert_eq!(cache.get(&long('b')), Some(&'b'));
        cache.insert(&(long('a') + "a"), 'a');
        assert_eq!(cache.get(&(long('a') + "a")), None);
    }
}
