//! Levels of durability of an acknowledged write. etcd and Redis are compared only at the same level.

use super::stores::{StoreOptions, own};
use super::table::seconds;
use anyhow::{Context, Result};
use registry_testbed::servers::{Process, ServerOptions};
use rustix::fs::statfs;
use serde::{Deserialize, Serialize};
use std::env;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// An acknowledged write is on disk.
    OnDisk,
    /// An acknowledged write is on disk within a second. etcd has no such setting.
    WithinASecond,
    /// An acknowledged write is in the memory of the process only.
    Nothing,
    /// As `OnDisk`, on a tmpfs: the cost of the protocol without the disk.
    Protocol,
}

/// The description of an etcd that syncs its writes to disk before it acknowledges them.
pub(super) const SYNCS: &str = "fsync at every commit";

/// The length of an appended record, about the length of a registry's record.
const RECORD_LEN: usize = 300;

impl Level {
    pub const ALL: [Self; 4] = [Self::OnDisk, Self::WithinASecond, Self::Nothing, Self::Protocol];

    pub fn name(self) -> &'static str {
        match self {
            Self::OnDisk => "durable when acknowledged",
            Self::WithinASecond => "may lose a second",
            Self::Nothing => "nothing durable",
            Self::Protocol => "protocol cost, on tmpfs",
        }
    }

    /// Returns why an etcd with this description does not have this level, if so.
    pub fn unsupported_by(self, etcd: &str) -> Option<&'static str> {
        match self {
            Self::WithinASecond => Some("it has no such setting"),
            Self::Nothing if etcd.contains(SYNCS) => {
                Some("before 3.5 it syncs at every commit, and has no setting to disable that")
            }
            Self::OnDisk | Self::Nothing | Self::Protocol => None,
        }
    }

    /// Returns the options of servers at this level. A store without the level gets the nearest one that it has.
    pub fn servers(self, options: &StoreOptions) -> Result<StoreOptions> {
        let disk = match self {
            Self::OnDisk | Self::WithinASecond => Some(disk()?),
            Self::Protocol => Some(memory()?),
            Self::Nothing => None,
        };
        let redis: &[&str] =
            if self == Self::WithinASecond { &["--appendfsync", "everysec"] } else { &[] };
        let with_disk = |options| ServerOptions { disk: disk.clone(), ..options };
        let (etcd, redis) = (own(&options.etcd, &[]), own(&options.redis, redis));
        Ok(StoreOptions { etcd: with_disk(etcd), redis: with_disk(redis) })
    }
}

/// Measures and describes how long it takes to append a record to a file and sync it to disk.
pub fn describe_sync_cost() -> Result<String> {
    let [p50, p99] = sync_cost()?.map(|time| seconds(time.as_secs_f64()));
    Ok(format!("to append {RECORD_LEN} bytes and sync takes p50 {p50}, p99 {p99}"))
}

/// Returns the 50th and the 99th percentile of the time to append a record and sync it.
fn sync_cost() -> Result<[Duration; 2]> {
    const TIMES: usize = 200;
    let folder = tempfile::tempdir_in(disk()?)?;
    let mut file = File::create(folder.path().join("log"))?;
    let mut took = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let start = Instant::now();
        file.write_all(&[b'x'; RECORD_LEN])?;
        file.sync_data()?;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    Ok([took[TIMES / 2], took[TIMES * 99 / 100]])
}

/// Returns the first of the usual folders that is on a disk.
fn disk() -> Result<PathBuf> {
    let folders = [env::temp_dir(), env::current_dir()?];
    let found = folders.into_iter().find(|folder| is_in_memory(folder) == Some(false));
    found.context("no disk: the temporary folder and the current folder are both in memory")
}

fn memory() -> Result<PathBuf> {
    let folders = [PathBuf::from("/dev/shm"), env::temp_dir()];
    let found = folders.into_iter().find(|folder| is_in_memory(folder) == Some(true));
    found.context("no file system in memory: neither /dev/shm nor the temporary folder is one")
}

/// Returns where a server that this process started keeps its data.
pub(super) fn placement(process: &Process) -> &'static str {
    let in_memory = is_in_memory(&process.data_dir()) == Some(true);
    if in_memory { "data in memory" } else { "data on a disk" }
}

/// Returns whether a folder is in memory, or `None` if it does not exist.
fn is_in_memory(folder: &Path) -> Option<bool> {
    /// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
    const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
    Some(IN_MEMORY.contains(&statfs(folder).ok()?.f_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_sets_the_data_directory_and_the_sync_options() {
        let options = StoreOptions::default();
        let redis = |level: Level| level.servers(&options).unwrap().redis;
        assert_eq!(redis(Level::Nothing).disk, None);
        assert_ne!(redis(Level::OnDisk).disk, redis(Level::Protocol).disk);
        assert_eq!(redis(Level::WithinASecond).arguments, ["--appendfsync", "everysec"]);
    }

    #[test]
    fn an_etcd_that_always_syncs_does_not_support_the_level_nothing_and_none_syncs_every_second() {
        let old = format!("etcd 3.4.23, {SYNCS}, data in memory");
        assert!(Level::Nothing.unsupported_by(&old).is_some());
        assert!(Level::Protocol.unsupported_by(&old).is_none());
        let new = "etcd 3.5.16, no fsync, data in memory";
        let missing = Level::ALL.into_iter().filter(|level| level.unsupported_by(new).is_some());
        assert_eq!(missing.collect::<Vec<_>>(), [Level::WithinASecond]);
    }

    #[test]
    fn a_sync_to_disk_takes_time() {
        let [p50, p99] = sync_cost().unwrap();
        assert!(Duration::ZERO < p50 && p50 <= p99, "{p50:?}, {p99:?}");
    }
}
