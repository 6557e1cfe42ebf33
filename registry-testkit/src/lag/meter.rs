//! Measures the lag, in two ways of which the larger counts.
//!
//! Linux says of each thread how long it waited for a processor. Where it does not, and for a machine
//! that stands still as a whole, there is how much later than asked a thread wakes.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What threads have waited for a processor, and by how much the sampler was late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    waited: Duration,
    overslept: Duration,
}

impl Measured {
    /// The lag since then.
    pub(super) fn since(self, before: Self) -> Duration {
        let waited = self.waited.saturating_sub(before.waited);
        waited.max(self.overslept.saturating_sub(before.overslept))
    }
}

/// Measures as long as it is sampled.
#[derive(Debug)]
pub(super) struct Meter {
    /// How long each thread had waited when it was last seen, in nanoseconds.
    seen: HashMap<u32, u64>,
    measured: Measured,
    /// The thread that takes samples, whose own waits delay nobody.
    sampler: Option<u32>,
}

impl Meter {
    /// Measures from now on.
    pub(super) fn start() -> Self {
        let mut seen = HashMap::new();
        waits_of("self", &mut |thread, waited| {
            seen.insert(thread, waited);
        });
        Self { seen, measured: Measured::default(), sampler: None }
    }

    /// Leaves out the calling thread from now on.
    pub(super) fn leave_out_this_thread(&mut self) {
        let link = fs::read_link("/proc/thread-self").ok();
        self.sampler = link.and_then(|path| path.file_name()?.to_str()?.parse().ok());
    }

    /// Adds what threads have waited since the last sample, and how `late` the sampler is.
    pub(super) fn sample(&mut self, late: Duration) {
        self.measured.overslept += late;
        waits_of("self", &mut |thread, waited| {
            let before = self.seen.insert(thread, waited).unwrap_or(0);
            if Some(thread) != self.sampler {
                self.measured.waited += Duration::from_nanos(waited.saturating_sub(before));
            }
        });
    }

    /// All that was measured up to the last sample.
    pub(super) fn measured(&self) -> Measured {
        self.measured
    }
}

/// Tells of each thread of a process and of its descendants how long it has waited for a processor.
/// Threads that end meanwhile are passed over.
fn waits_of(process: &str, tell: &mut impl FnMut(u32, u64)) {
    let Ok(threads) = fs::read_dir(Path::new("/proc").join(process).join("task")) else { return };
    for thread in threads.flatten() {
        let id = thread.file_name().to_str().and_then(|id| id.parse().ok());
        let statistics = fs::read_to_string(thread.path().join("schedstat"));
        let waited = statistics.ok().and_then(|text| text.split(' ').nth(1)?.parse().ok());
        if let Some((id, waited)) = id.zip(waited) {
            tell(id, waited);
        }
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            waits_of(child, tell);
        }
    }
}
