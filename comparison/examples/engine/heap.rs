//! What is allocated.

use comparison::meter::as_f64;
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};
use std::alloc::System;

/// Counts every allocation of the process.
#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The heap at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Heap(Stats);

impl Heap {
    pub(crate) fn now() -> Self {
        Self(HEAP.stats())
    }

    /// How many allocations were made since then, those that moved or grew among them.
    pub(crate) fn allocations(self) -> u64 {
        let now = HEAP.stats();
        let count = |stats: Stats| stats.allocations + stats.reallocations;
        (count(now) - count(self.0)) as u64
    }

    /// How many bytes were asked for since then, whether they are still held or not.
    pub(crate) fn allocated(self) -> u64 {
        (HEAP.stats().bytes_allocated - self.0.bytes_allocated) as u64
    }

    /// How many bytes more are held than then.
    pub(crate) fn grown(self) -> f64 {
        let live = |stats: Stats| stats.bytes_allocated - stats.bytes_deallocated;
        as_f64(live(HEAP.stats()) as u64) - as_f64(live(self.0) as u64)
    }
}
