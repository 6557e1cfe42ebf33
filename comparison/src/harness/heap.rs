//! What is allocated. It is counted only with the feature `heap`, since to count takes time.

#[cfg(feature = "heap")]
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts every allocation of the process.
#[cfg(feature = "heap")]
#[global_allocator]
static HEAP: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap {
    /// How many allocations there were, those that moved or grew among them.
    allocations: usize,
    allocated: usize,
    deallocated: usize,
}

impl Heap {
    /// Whether allocations are counted. If not, all figures are 0, and none is to be reported.
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

    /// How many allocations were made since then.
    pub fn allocations(self) -> u64 {
        (Self::now().allocations - self.allocations) as u64
    }

    /// How many bytes were asked for since then, whether they are still held or not.
    pub fn allocated(self) -> u64 {
        (Self::now().allocated - self.allocated) as u64
    }

    /// How many bytes more are held than then.
    pub fn grown(self) -> f64 {
        let now = Self::now();
        let live = |heap: Self| super::machine::as_f64((heap.allocated - heap.deallocated) as u64);
        live(now) - live(self)
    }
}
