//! Pseudo-random numbers for jitter, from a seed given at the start.
//!
//! Jitter only has to keep things from happening in step; it is no secret. A generator of our own,
//! eight lines long, keeps a run reproducible from its seed whatever versions of other crates are
//! in use.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(crate) struct Prng(u64);

impl Prng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, but without, 1.
    fn unit(&mut self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The value, varied by up to this share of itself either way.
    pub(crate) fn vary(&mut self, value: u64, share: f64) -> u64 {
        let factor = 1.0 + share * (2.0 * self.unit() - 1.0);
        (value as f64 * factor) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_share_and_is_not_constant() {
        let mut prng = Prng::new(7);
        let values: alloc::vec::Vec<u64> = (0..1000).map(|_| prng.vary(1000, 0.1)).collect();
        assert!(values.iter().all(|v| (900..=1100).contains(v)));
        assert!(values.iter().any(|v| *v < 920) && values.iter().any(|v| *v > 1080));
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (mut a, mut b) = (Prng::new(3), Prng::new(3));
        assert!((0..100).all(|_| a.next() == b.next()));
    }
}
