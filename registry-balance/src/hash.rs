//! The hash of a value to pick by, and the score of a member for a hash.

use crate::rng::mix;
use std::hash::{Hash, Hasher};

/// Returns the hash of `value` that [`PickOptions::hash`](crate::PickOptions::hash) and
/// [`Member::hash_key`](crate::Member::hash_key) take.
///
/// The hash is the same in every process of one build, so all clients pick the same member for a value.
/// (The default hashes of the standard library differ between processes.) It does not resist callers
/// who choose values with equal hashes.
///
/// ```
/// use registry_balance::stable_hash;
///
/// assert_eq!(stable_hash("user-7"), stable_hash("user-7"));
/// assert_ne!(stable_hash("user-7"), stable_hash("user-8"));
/// ```
pub fn stable_hash<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = StableHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}

/// FNV-1a, with a finalizer, since FNV maps similar values to similar hashes.
pub(crate) struct StableHasher(u64);

impl Default for StableHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        mix(self.0)
    }
}

/// Returns the score of a member for `hash`: the member with the highest score takes the call.
///
/// This is weighted rendezvous hashing. For each hash a member has a pseudo-random number from 0 to 1,
/// and its score is the `weight`-th root of it, computed as a logarithm. So the share of hashes that a
/// member wins is proportional to its weight, and no score depends on other members.
pub(crate) fn score(hash: u64, hash_key: u64, weight: u32) -> f64 {
    /// The number of values of 53 bits: an `f64` represents each of them exactly.
    const VALUES: f64 = 9_007_199_254_740_992.0;
    // The hash of a caller may be a small number.
    let drawn = mix(mix(hash) ^ hash_key) >> 11;
    #[allow(clippy::cast_precision_loss)] // 53 bits
    let uniform = (drawn as f64 + 1.0) / VALUES;
    uniform.ln() / f64::from(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_the_same_in_every_process() {
        assert_eq!(stable_hash(&[1_u8, 2][..]), stable_hash(&vec![1_u8, 2]));
        let mut hasher = StableHasher::default();
        hasher.write(b"a");
        assert_eq!(hasher.0, 0xaf63_dc4c_8601_ec8c, "as the authors of FNV publish it");
    }

    #[test]
    fn score_is_finite_for_every_hash() {
        for hash in [0, 1, u64::MAX] {
            for weight in [1, u32::MAX] {
                assert!(score(hash, 7, weight).is_finite());
            }
        }
    }
}
