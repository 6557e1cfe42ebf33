//! Random numbers from the caller.

/// A source of random numbers.
///
/// It is a trait of this crate, because the trait of `rand_core` changes with each major version.
///
/// ```
/// use registry_balance::Rng;
///
/// struct Counter(u64);
///
/// impl Rng for Counter {
///     fn next_u64(&mut self) -> u64 {
///         self.0 += 1;
///         self.0
///     }
/// }
///
/// assert_eq!(Counter(1).next_u64(), 2);
/// ```
pub trait Rng {
    /// Returns 64 random bits.
    fn next_u64(&mut self) -> u64;
}

impl Rng for fastrand::Rng {
    fn next_u64(&mut self) -> u64 {
        self.u64(..)
    }
}

/// Returns a number below `bound`, which is not 0. Its bias is at most `bound` in 2^64.
#[allow(clippy::cast_possible_truncation)] // the upper half of a product of two u64
pub(crate) fn below(bound: u64, rng: &mut impl Rng) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

/// Returns an index into a slice of that length, which is not 0.
#[allow(clippy::cast_possible_truncation)] // it is below a usize
pub(crate) fn index(length: usize, rng: &mut impl Rng) -> usize {
    below(length as u64, rng) as usize
}

/// Returns a hash in which each bit depends on all bits of `hash`: the finalizer of `SplitMix64`.
pub(crate) fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
