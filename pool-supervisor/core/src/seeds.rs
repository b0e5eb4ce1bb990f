//! Chance, given at the start: the core draws nothing by itself, so a run can be replayed.
//!
//! Tables whose keys come from outside (names of projects, idempotency keys, lengths of bodies) hash
//! them with a key that nobody outside knows. Without one, anybody can compute as many names as they
//! like that all have one hash, and each look-up walks through all of them. Tables whose keys the pool
//! gives out itself need no such key.

use core::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// What the core needs of chance.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// For jitter. What it makes is seen from outside, so nothing secret may follow from it.
    pub jitter: u64,
    /// The key of the hashes. Secret: whoever knows it can make names that share a hash.
    pub hashes: [u64; 2],
}

impl Seeds {
    /// Seeds for a run that is to be the same each time, all made of one number.
    #[must_use]
    pub const fn fixed(number: u64) -> Self {
        Self { jitter: number, hashes: [number, !number] }
    }
}

/// SipHash-1-3 under a secret key, as the standard library's tables use it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct KeyedHash([u64; 2]);

impl KeyedHash {
    pub(crate) const fn new(seeds: Seeds) -> Self {
        Self(seeds.hashes)
    }
}

impl BuildHasher for KeyedHash {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_half_of_the_key_changes_every_hash() {
        let hash = |hashes| KeyedHash::new(Seeds { jitter: 0, hashes }).hash_one("a project");
        let one = hash([1, 2]);
        assert_eq!(one, hash([1, 2]));
        assert!(one != hash([3, 2]) && one != hash([1, 3]));
    }
}
