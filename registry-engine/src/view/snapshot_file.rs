//! Snapshot files: the last snapshot of a service on disk, for processes that start during a store outage.

mod disk;
mod format;

use self::disk::{read, remove_old_drafts, replace};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use registry_core::{ServiceName, Snapshot};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

/// The delay between a change and the write of the file, so that a burst of changes costs one write.
const WRITE_DELAY: Duration = Duration::from_secs(1);

/// The bounds of the interval after which the file of a live view is written without a change. The time in the file is
/// when the store last confirmed the snapshot.
const MAX_REFRESH: Duration = Duration::from_secs(3600);
const MIN_REFRESH: Duration = Duration::from_secs(60);

/// The maximum length of the readable part of a file name. Most file systems allow names of 255 bytes.
const MAX_STEM: usize = 150;

/// The folder of the snapshot files of a discovery.
#[derive(Debug)]
pub(crate) struct SnapshotFolder {
    path: PathBuf,
    max_age: Duration,
    is_swept: AtomicBool,
}

impl SnapshotFolder {
    pub(crate) fn new(path: PathBuf, max_age: Duration) -> Self {
        Self { path, max_age, is_swept: AtomicBool::new(false) }
    }

    /// Returns the file of `service`.
    pub(crate) fn file(self: &Arc<Self>, service: &ServiceName) -> SnapshotFile {
        let path = self.path.join(file_name(service));
        let (folder, service) = (self.clone(), service.clone());
        SnapshotFile { folder, service, path, due: None, is_dirty: false, writing: None }
    }

    /// Removes the draft files of crashed processes, once.
    fn sweep(&self) {
        if self.is_swept.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(error) = remove_old_drafts(&self.path) {
            tracing::debug!(folder = %self.path.display(), %error, "cannot remove old draft files");
        }
    }
}

/// The snapshot file of one service.
#[derive(Debug)]
pub(crate) struct SnapshotFile {
    folder: Arc<SnapshotFolder>,
    service: ServiceName,
    path: PathBuf,
    due: Option<Instant>,
    /// Whether the file lacks a change.
    is_dirty: bool,
    writing: Option<JoinHandle<()>>,
}

impl SnapshotFile {
    /// Reads the snapshot in the file, on a thread for blocking work. Logs a warning and returns `None` if the file is
    /// unusable.
    pub(crate) fn read(&self) -> impl Future<Output = Option<Snapshot>> + Send + use<> {
        let (path, service) = (self.path.clone(), self.service.clone());
        let max_age = self.folder.max_age;
        let reading = spawn_blocking({
            let (path, service) = (path.clone(), service.clone());
            move || load(&path, &service, max_age)
        });
        async move {
            match reading.await.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(None) => None,
                Ok(Some((snapshot, age))) => {
                    let instances = snapshot.records().len();
                    tracing::info!(%service, instances, ?age, "a snapshot file was read");
                    Some(snapshot)
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), error, "a snapshot file is unusable and was ignored");
                    None
                }
            }
        }
    }

    /// Marks the file as out of date, so that it becomes due.
    pub(crate) fn mark_dirty(&mut self) {
        if !self.is_dirty {
            self.is_dirty = true;
            self.due = Some(Instant::now() + WRITE_DELAY);
        }
    }

    /// Returns when to [save](Self::save).
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Writes the file in the background, if it lacks a change or the view is live. A failure is logged, and the next
    /// save tries again.
    pub(crate) fn save(&mut self, snapshot: &Snapshot, is_live: bool) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            self.due = Some(Instant::now() + WRITE_DELAY); // the disk is slow: write later
            return;
        }
        // The jitter spreads the writes of all files of a process.
        let refresh = (self.folder.max_age / 8).clamp(MIN_REFRESH, MAX_REFRESH);
        self.due = Some(Instant::now() + refresh.mul_f64(0.5 + fastrand::f64() / 2.0));
        if !self.is_dirty && !is_live {
            return; // the file must keep the time of the last confirmation
        }
        self.is_dirty = false;
        let (folder, snapshot) = (self.folder.clone(), snapshot.clone());
        let (path, service) = (self.path.clone(), self.service.clone());
        self.writing = Some(spawn_blocking(move || {
            folder.sweep();
            let file = format::encode(&service, &snapshot, unix_time());
            if let Err(error) = replace(&path, &file) {
                tracing::warn!(path = %path.display(), %error, "cannot write a snapshot file");
            }
        }));
    }
}

/// Returns the snapshot in a file and its age; `None` if there is no file. The error says why the file is unusable.
fn load(
    path: &Path,
    service: &ServiceName,
    max_age: Duration,
) -> Result<Option<(Snapshot, Duration)>, String> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let (snapshot, written) = format::decode(service, &bytes)?;
    // The file may appear to be from the future if the clock was set back.
    let age = Duration::from_secs(unix_time().abs_diff(written));
    if age > max_age {
        return Err(format!("the file is too old, age=`{age:?}`, max_age=`{max_age:?}`"));
    }
    Ok(Some((snapshot, age)))
}

/// Returns a file name that is unique to the service, and readable as far as possible.
fn file_name(service: &ServiceName) -> String {
    let mut stem = utf8_percent_encode(service.as_str(), NON_ALPHANUMERIC).to_string();
    if stem.len() > MAX_STEM {
        let crc = crc32fast::hash(service.as_str().as_bytes());
        stem.truncate(MAX_STEM);
        stem = format!("{stem}-{crc:08x}");
    }
    format!("{stem}.snapshot")
}

/// Returns the seconds of Unix time.
#[allow(clippy::disallowed_methods)] // files outlive the process, so no monotonic clock will do
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_core::{Origin, Revision};
    use std::fs;

    #[test]
    fn each_service_has_its_own_valid_file_name() {
        let long = |last: char| format!("{}{last}", "a/".repeat(127));
        let names = ["a", "a/b", "a%2Fb", "..", "a.snapshot", &long('a'), &long('b')];
        let files: Vec<String> =
            names.iter().map(|name| file_name(&ServiceName::new(*name).unwrap())).collect();
        for (n, file) in files.iter().enumerate() {
            assert!(file.len() < 200 && !file.contains('/') && !file.starts_with('.'), "{file}");
            assert!(!files[..n].contains(file), "{file}");
        }
    }

    #[test]
    fn a_file_whose_time_differs_by_more_than_the_maximum_age_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, service) = (folder.path().join("a"), ServiceName::new("a").unwrap());
        let snapshot =
            Snapshot::new(Origin::new("mem", "", &service).cursor(Revision::new(1), "p"), []);
        let hour = Duration::from_secs(3600);
        let load_written = |written: u64| {
            fs::write(&path, format::encode(&service, &snapshot, written)).unwrap();
            load(&path, &service, hour)
        };
        let (_, age) = load_written(unix_time() - 1800).unwrap().unwrap();
        assert!((Duration::from_secs(1800)..Duration::from_secs(1900)).contains(&age), "{age:?}");
        for written in [unix_time() - 3700, unix_time() + 3900, 0, u64::MAX] {
            let error = load_written(written).unwrap_err();
            assert!(error.contains("too old"), "{error}");
        }
    }
}
