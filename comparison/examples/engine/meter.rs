//! What is measured: the heap, the processor, and the memory that the system gave.

use rustix::time::{ClockId, clock_gettime};
use stats_alloc::{INSTRUMENTED_SYSTEM, Stats, StatsAlloc};
use std::alloc::System;
use std::fs;

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

/// The seconds that all threads of this process ran for.
pub(crate) fn process_time() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

/// The seconds that this thread ran for.
pub(crate) fn thread_time() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

#[expect(clippy::cast_precision_loss, reason = "good for 2^53 ns, 104 days")]
fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The memory that is resident, in MiB. Not a number where the kernel does not say.
pub(crate) fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
