//! A cell of the test matrix: a schedule, a topology and a ttl.

use crate::schedule::Schedule;
use crate::topology::Topology;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A schedule on a topology, with the ttl of all registrations and views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) schedule: Schedule,
    pub(crate) topology: Topology,
    pub(crate) ttl_ms: u64,
}

/// One run of a cell, with everything that determines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunSpec {
    pub(crate) cell: Cell,
    pub(crate) owners: usize,
    pub(crate) seed: u64,
    /// Whether faults last about 12 s instead of 20 to 30 s.
    pub(crate) quick: bool,
    /// Whether retention is disabled, to check that the program detects the missing instances.
    pub(crate) without_retention: bool,
}

impl Cell {
    pub(crate) fn new(schedule: Schedule, topology: Topology, ttl: Duration) -> Self {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Self { schedule, topology, ttl_ms }
    }

    pub(crate) fn ttl(self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }

    /// Returns the seed of the nth run, a hash of the cell, the seed of the program and `repeat`.
    pub(crate) fn seed(self, seed: u64, repeat: u32) -> u64 {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let text = format!("{self} {seed} {repeat}");
        let hash =
            text.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
        // Short enough to type.
        hash % 1_000_000_007
    }

    /// Returns the name of the cell for use in a file name.
    pub(crate) fn file_name(self) -> String {
        self.to_string().replace(' ', "-")
    }
}

impl RunSpec {
    /// Returns the name of the log file.
    pub(crate) fn log_name(&self) -> String {
        format!("{}-{}", self.cell.file_name(), self.seed)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ttl = humantime::format_duration(self.ttl());
        write!(f, "{} {} {} {ttl}", self.schedule, self.topology.store(), self.topology)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_by_cell_and_repeat() {
        let [two, five] =
            [2, 5].map(|s| Cell::new(Schedule::SilentLink, Topology::Etcd, Duration::from_secs(s)));
        assert_eq!(two.to_string(), "A1 etcd one 2s");
        assert_eq!(two.seed(7, 1), two.seed(7, 1));
        assert_ne!(two.seed(7, 1), two.seed(7, 2));
        assert_ne!(two.seed(7, 1), five.seed(7, 1));
    }
}
