//! What the process takes: of the processor, and of the memory that the system gave.

use rustix::time::{ClockId, clock_gettime};
use std::fs;

/// The seconds that all threads of this process ran for.
pub fn process_time() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

/// The seconds that this thread ran for.
pub fn thread_time() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

#[expect(clippy::cast_precision_loss, reason = "good for 2^53 ns, 104 days")]
fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The memory that is resident, in MiB. Not a number where the kernel does not say.
pub fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

/// A count, as a figure.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub fn as_f64(count: u64) -> f64 {
    count as f64
}
