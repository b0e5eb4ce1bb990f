//! Chance, given at the start: the core draws nothing by itself, so a run can be replayed.
//!
//! Tables whose keys come from outside (names of projects, idempotency keys, lengths of bodies)
//! hash them with a key that nobody outside knows. Without one, anybody can compute as many names
//! as they like that all have one hash, and each look-up walks through all of them. Tables whose
//! keys the pool gives out itself need no such key.

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
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    /// Row 62 of what the pool must survive. Under rustc-hash, which has no key, all of these names
    /// have one hash: a half of its input is multiplied by what the other half can make zero.
    #[test]
    fn hostile_62_names_made_to_share_an_unkeyed_hash_do_not_share_a_keyed_one() {
        let unkeyed = |name: &[u8; 48]| {
            let mut hasher = rustc_hash::FxHasher::default();
            core::hash::Hasher::write(&mut hasher, name);
            core::hash::Hasher::finish(&hasher)
        };
        let names: Vec<[u8; 48]> = (0..1_000u64).map(colliding).collect();
        let different = |hash: &dyn Fn(&[u8; 48]) -> u64| {
            names.iter().map(hash).collect::<BTreeSet<u64>>().len()
        };
        assert_eq!(different(&unkeyed), 1, "they share a hash where there is no key");
        let keyed = KeyedHash::new(Seeds { jitter: 0, hashes: [7, 9] });
        assert_eq!(different(&|name| keyed.hash_one(name)), names.len());
    }

    /// What the first sixteen bytes make is known, so the last sixteen can begin with the same:
    /// then the hash is zero times what the sixteen between them make.
    fn colliding(number: u64) -> [u8; 48] {
        const MIX: [u64; 2] = [0x243f_6a88_85a3_08d3, 0xa409_3822_299f_31d0];
        let mut name = [0; 48];
        let (x, y) = (0x6161_6161_6161_6161_u64, 0x6262_6262_6262_6262_u64);
        name[..8].copy_from_slice(&x.to_le_bytes());
        name[8..16].copy_from_slice(&y.to_le_bytes());
        let product = u128::from(x ^ MIX[0]) * u128::from(y ^ MIX[1]);
        let state = product as u64 ^ (product >> 64) as u64;
        name[24..32].copy_from_slice(&number.to_le_bytes());
        name[32..40].copy_from_slice(&state.to_le_bytes());
        name
    }

    #[test]
    fn each_half_of_the_key_changes_every_hash() {
        let hash = |hashes| KeyedHash::new(Seeds { jitter: 0, hashes }).hash_one("a project");
        let one = hash([1, 2]);
        assert_eq!(one, hash([1, 2]));
        assert!(one != hash([3, 2]) && one != hash([1, 3]));
    }
}
