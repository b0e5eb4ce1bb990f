//! Hashes of tasks' bodies, for the core's memory of those that have ended workers.
//!
//! 128 bits under keys that are drawn at each start: nobody can make a body that is taken for
//! another's.

use std::hash::{BuildHasher, Hasher, RandomState};

use pool_core::event::BodyHash;
use pool_protocol::task::TaskKind;

/// The keys: two of 128 bits, for a half of the hash each.
#[derive(Default)]
pub(crate) struct BodyHasher {
    halves: [RandomState; 2],
}

impl BodyHasher {
    /// A task's project, type and body, with where its code ends.
    pub(crate) fn hash(
        &self,
        project: &str,
        kind: TaskKind,
        code_len: u32,
        body: &[u8],
    ) -> BodyHash {
        let half = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            // Each piece after its length, so that no two tasks run into the same bytes.
            hasher.write_usize(project.len());
            hasher.write(project.as_bytes());
            hasher.write_u8(kind as u8);
            hasher.write_u32(code_len);
            hasher.write(body);
            hasher.finish()
        };
        let [first, second] = &self.halves;
        BodyHash(u128::from(half(first)) << 64 | u128::from(half(second)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_differ_in_anything_differ_in_their_hash() {
        let hasher = BodyHasher::default();
        let hash =
            |project, kind, code_len, body: &[u8]| hasher.hash(project, kind, code_len, body);
        let one = hash("p", TaskKind::Code, 3, b"abc");
        assert_eq!(one, hash("p", TaskKind::Code, 3, b"abc"));
        for other in [
            hash("q", TaskKind::Code, 3, b"abc"),
            hash("p", TaskKind::Function, 3, b"abc"),
            hash("p", TaskKind::Code, 2, b"abc"),
            hash("p", TaskKind::Code, 3, b"abd"),
            BodyHasher::default().hash("p", TaskKind::Code, 3, b"abc"),
        ] {
            assert_ne!(one, other);
        }
        assert_ne!(one.0 as u64, (one.0 >> 64) as u64, "the halves have keys of their own");
    }
}
