//! The machine, and the resources that this process uses.

use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

pub fn describe() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let (kernel, load) = (known(kernel.trim()), load.split(' ').next().unwrap_or_default());
    let cores = available_parallelism().map_or(0, NonZeroUsize::get);
    format!("{cores} cores, kernel {kernel}, load {}", known(load))
}

fn known(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

/// The total CPU time of all cores, and the share that the hypervisor gave to other virtual machines (steal).
#[derive(Clone, Copy, Debug)]
pub struct StealTime {
    total: u64,
    stolen: u64,
}

impl StealTime {
    /// Reads the kernel's counters, if there are any.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    #[expect(clippy::cast_precision_loss, reason = "it is printed with one digit")]
    /// Returns the share of steal time since `earlier`, in percent.
    pub fn since(self, earlier: Self) -> f64 {
        let (total, stolen) = (self.total - earlier.total, self.stolen - earlier.stolen);
        100.0 * stolen as f64 / total.max(1) as f64
    }

    fn parse(stat: &str) -> Option<Self> {
        // user nice system idle iowait irq softirq steal; guest time is part of user's.
        let times = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        let times: Vec<u64> = times.map_while(|time| time.parse().ok()).collect();
        Some(Self { total: times.iter().sum(), stolen: *times.get(7)? })
    }
}

/// Returns the CPU time of this process, in seconds.
pub fn process_time() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

/// Returns the CPU time of this thread, in seconds.
pub fn thread_time() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

#[expect(clippy::cast_precision_loss, reason = "good for 2^53 ns, 104 days")]
fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Returns the resident memory in MiB, or NaN if the kernel does not report it.
pub fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub fn as_f64(count: impl TryInto<u64>) -> f64 {
    count.try_into().map_or(f64::NAN, |count| count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_time_is_a_share_of_the_total() {
        let before = StealTime::parse("cpu  10 0 10 70 0 0 0 10 5 0\ncpu0 1").unwrap();
        let after = StealTime::parse("cpu  60 0 20 90 0 0 0 30 9 0\n").unwrap();
        assert!((after.since(before) - 20.0).abs() < 1e-9);
        assert!(StealTime::parse("cpu  1 2 3").is_none());
        assert!(StealTime::parse("").is_none());
    }
}
