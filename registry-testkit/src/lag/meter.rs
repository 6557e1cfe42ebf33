//! Measures the lag in two ways. The larger result counts.
//!
//! * Linux reports for each thread how long it has waited for a processor.
//! * The sampler thread measures how late it wakes up. This covers other systems, and a machine that is suspended
//!   as a whole.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The time that threads have waited for a processor, and by how much the sampler was late, in total.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    waited: Duration,
    overslept: Duration,
}

impl Measured {
    /// Returns the lag since `before`.
    pub(super) fn since(self, before: Self) -> Duration {
        let waited = self.waited.saturating_sub(before.waited);
        waited.max(self.overslept.saturating_sub(before.overslept))
    }
}

/// The sum of all samples.
#[derive(Debug)]
pub(super) struct Meter {
    /// The wait of each thread at the last sample, in nanoseconds.
    seen: HashMap<u32, u64>,
    measured: Measured,
    /// The thread that takes samples. It is excluded, since its own wait does not delay a test.
    sampler: Option<u32>,
}

impl Meter {
    /// Starts to measure.
    pub(super) fn start() -> Self {
        let mut seen = HashMap::new();
        waits_of("self", &mut |thread, waited| {
            seen.insert(thread, waited);
        });
        Self { seen, measured: Measured::default(), sampler: None }
    }

    /// Excludes the calling thread from now on.
    pub(super) fn exclude_this_thread(&mut self) {
        let link = fs::read_link("/proc/thread-self").ok();
        self.sampler = link.and_then(|path| path.file_name()?.to_str()?.parse().ok());
    }

    /// Adds the time that threads have waited since the last sample, and how `late` the sampler is.
    pub(super) fn sample(&mut self, late: Duration) {
        self.measured.overslept += late;
        waits_of("self", &mut |thread, waited| {
            let before = self.seen.insert(thread, waited).unwrap_or(0);
            if Some(thread) != self.sampler {
                self.measured.waited += Duration::from_nanos(waited.saturating_sub(before));
            }
        });
    }

    /// Returns the total up to the last sample.
    pub(super) fn measured(&self) -> Measured {
        self.measured
    }
}

/// Calls `report` with each thread of a process and its descendants, and the nanoseconds that it has waited for a
/// processor. Threads that end in the meantime are skipped.
fn waits_of(process: &str, report: &mut impl FnMut(u32, u64)) {
    let Ok(threads) = fs::read_dir(Path::new("/proc").join(process).join("task")) else { return };
    for thread in threads.flatten() {
        let id = thread.file_name().to_str().and_then(|id| id.parse().ok());
        let statistics = fs::read_to_string(thread.path().join("schedstat"));
        let waited = statistics.ok().and_then(|text| text.split(' ').nth(1)?.parse().ok());
        if let Some((id, waited)) = id.zip(waited) {
            report(id, waited);
        }
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            waits_of(child, report);
        }
    }
}
