//! Allocation counters. They need the feature `heap`, because counting takes time.

#[cfg(feature = "heap")]
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts every allocation of the process.
#[cfg(feature = "heap")]
#[global_allocator]
static HEAP: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

#[derive(Clone, Copy, Debug, Default)]
pub struct Heap {
    /// The number of allocations and reallocations.
    allocations: usize,
    allocated: usize,
    deallocated: usize,
}

impl Heap {
    /// Whether allocations are counted. If not, all counters are 0 and must not be reported.
    pub const IS_COUNTED: bool = cfg!(feature = "heap");

    pub fn now() -> Self {
        #[cfg(feature = "heap")]
        {
            let stats = HEAP.stats();
            let allocations = stats.allocations + stats.reallocations;
            let (allocated, deallocated) = (stats.bytes_allocated, stats.bytes_deallocated);
            Self { allocations, allocated, deallocated }
        }
        #[cfg(not(feature = "heap"))]
        Self::default()
    }

    /// Returns the number of allocations since `self`.
    pub fn allocations(self) -> u64 {
        (Self::now().allocations - self.allocations) as u64
    }

    /// Returns how many bytes were allocated since `self`, including those that were freed.
    pub fn allocated(self) -> u64 {
        (Self::now().allocated - self.allocated) as u64
    }

    /// Returns by how many bytes the heap has grown since `self`.
    pub fn grown(self) -> f64 {
        let now = Self::now();
        let live = |heap: Self| super::machine::as_f64((heap.allocated - heap.deallocated) as u64);
        live(now) - live(self)
    }
}
