//! Folders for servers. They are removed on drop, or by a later test if theirs was killed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{env, fs, io, process};

use rustix::fs::statvfs;
use tempfile::{Builder, TempDir};

/// The prefix of all folders. The id of the process that created the folder follows.
const PREFIX: &str = "registry-test-";

/// Creates an empty folder in `root`. Without a root it is in memory if there is enough, since etcd waits for the
/// disk at every write.
pub(super) fn create(root: Option<&Path>) -> io::Result<TempDir> {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let root = root.map_or_else(default_root, Path::to_owned);
    let is_new = SWEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(root.clone());
    if is_new {
        sweep(&root);
    }
    Builder::new().prefix(&format!("{PREFIX}{}-", process::id())).tempdir_in(root)
}

/// Returns the file system in memory if it has enough space, or else the folder for temporary files.
fn default_root() -> PathBuf {
    /// An etcd takes 128 MiB before its first write, while containers often have 64 MiB in total.
    const ROOM: u64 = 2 << 30;
    let memory = Path::new("/dev/shm");
    let room = statvfs(memory).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let fits = room >= ROOM && tempfile::tempdir_in(memory).is_ok();
    if fits { memory.to_owned() } else { env::temp_dir() }
}

/// Removes the folders of processes that have ended: a killed test drops nothing, and its folder would stay in
/// memory until the next boot.
fn sweep(root: &Path) {
    let processes = Path::new("/proc");
    let Ok(entries) = fs::read_dir(root) else { return };
    if !processes.join("self").exists() {
        return;
    }
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !processes.join(pid.to_string()).exists()) {
            // Another process may have removed it.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
