//! A file with the last snapshot of a service, which a process reads if it starts while the store is away.
//!
//! The first line is a header; each other line holds one record, as `registry-core` encodes it:
//!
//! ```text
//! {"format":"service-registry snapshot","v":1,"service":"user.rpc","cursor":"1:etcd:...","written":1796000000,"crc32":2774352312}
//! {"id":"node-1","revision":7,"record":"{\"v\":1,\"address\":\"10.0.0.1:8080\",...}"}
//! ```
//!
//! `written` is when the file was written, in seconds of Unix time: it tells a person, and a reader with a maximum
//! age, how old the snapshot is. A file of a higher `v` is read as far as it is understood.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use registry_core::encoding::{self, Stored};
use registry_core::{Cursor, InstanceId, LeaseId, Revision, ServiceName, Snapshot};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

const FORMAT: &str = "service-registry snapshot";
const VERSION: u32 = 1;

/// The delay between a change and the write of the file, so that a burst of changes costs one write.
const WRITE_DELAY: Duration = Duration::from_secs(1);

/// The longest readable part of a file name; most file systems allow 255 bytes.
const MAX_STEM: usize = 150;

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    v: u32,
    service: ServiceName,
    cursor: Cursor,
    /// When the file was written, in seconds of Unix time.
    written: u64,
    /// The checksum of the service, the cursor, the time and all lines after this one.
    crc32: u32,
}

#[derive(Serialize, Deserialize)]
struct Line {
    id: InstanceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
    record: String,
}

/// The snapshot file of one service.
#[derive(Debug)]
pub(crate) struct SnapshotFile {
    service: ServiceName,
    path: PathBuf,
    due: Option<Instant>,
    writing: Option<JoinHandle<()>>,
}

impl SnapshotFile {
    pub(crate) fn new(folder: &Path, service: &ServiceName) -> Self {
        let path = folder.join(file_name(service));
        Self { service: service.clone(), path, due: None, writing: None }
    }

    /// Returns the snapshot in the file. Logs a warning and returns `None` if the file is unusable.
    pub(crate) async fn read(&self) -> Option<Snapshot> {
        let (path, service) = (self.path.clone(), self.service.clone());
        let read = spawn_blocking(move || match fs::read(&path) {
            Ok(bytes) => decode(&service, &bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        });
        match read.await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), error, "a snapshot file is unusable and was ignored");
                None
            }
        }
    }

    /// Marks the file as out of date, so that it becomes due.
    pub(crate) fn mark_dirty(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + WRITE_DELAY);
    }

    /// Returns when to [save](Self::save).
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Writes the file in the background. A failure is logged; the next change tries again.
    pub(crate) fn save(&mut self, snapshot: Snapshot) {
        self.due = None;
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            self.mark_dirty(); // the disk is slow: write later
            return;
        }
        let (path, service) = (self.path.clone(), self.service.clone());
        self.writing = Some(spawn_blocking(move || {
            let file = encode(&service, &snapshot, unix_time());
            if let Err(error) = replace(&path, &file) {
                tracing::warn!(path = %path.display(), %error, "a snapshot file cannot be written");
            }
        }));
    }
}

/// Returns a file name that is readable where possible and unique to the service.
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
#[allow(clippy::disallowed_methods)] // a person reads it; no lease depends on it
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

fn encode(service: &ServiceName, snapshot: &Snapshot, written: u64) -> Vec<u8> {
    let mut lines = Vec::new();
    for record in snapshot.records() {
        // What a store listed is no larger than what may be written.
        let Ok(encoded) = encoding::encode(record) else { continue };
        let encoded = String::from_utf8_lossy(&encoded).into_owned();
        let (id, revision) = (record.id().clone(), record.revision());
        push_line(&mut lines, &Line { id, revision, record: encoded });
    }
    let (service, cursor) = (service.clone(), snapshot.cursor().clone());
    let crc32 = checksum(&service, &cursor, written, &lines);
    let header = Header { format: FORMAT.into(), v: VERSION, service, cursor, written, crc32 };
    let mut file = Vec::new();
    push_line(&mut file, &header);
    file.append(&mut lines);
    file
}

fn checksum(service: &ServiceName, cursor: &Cursor, written: u64, lines: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(service.as_str().as_bytes());
    hasher.update(cursor.to_string().as_bytes());
    hasher.update(&written.to_be_bytes());
    hasher.update(lines);
    hasher.finalize()
}

fn push_line(to: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *to, line)
        .unwrap_or_else(|error| unreachable!("text serializes: {error}"));
    to.push(b'\n');
}

/// Decodes the snapshot in `file`. The error says why the file is unusable.
fn decode(service: &ServiceName, file: &[u8]) -> Result<Snapshot, String> {
    let end = file.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
    let (header, lines) = (&file[..end], &file[end + 1..]);
    let header: Header = serde_json::from_slice(header).map_err(|error| error.to_string())?;
    if header.format != FORMAT {
        return Err(format!("it is of another format, format=`{}`", header.format));
    }
    if header.crc32 != checksum(&header.service, &header.cursor, header.written, lines) {
        return Err("its checksum is wrong".into());
    }
    if header.service != *service {
        return Err(format!("it is of another service, service=`{}`", header.service));
    }
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let records = lines.map(|line| {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match encoding::decode(service, &line.id, line.record.as_bytes()) {
            Ok(Stored::Live(record)) => Ok(match line.revision {
                Some(revision) => record.with_revision(revision),
                None => record,
            }),
            Ok(Stored::Withdrawn(_)) => Err("it lists a withdrawn instance".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    });
    let records: Vec<_> = records.collect::<Result<_, String>>()?;
    Ok(Snapshot::new(header.cursor, records))
}

/// Replaces the file by `bytes` atomically, whatever other processes do meanwhile.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // A random name: processes in containers share folders and have equal process ids.
    let temporary = path.with_extension(format!("draft-{}", LeaseId::random()));
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        fs::remove_file(&temporary).ok(); // it may not exist
    }
    written
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_core::{Instance, LeaseId, Origin, Record};

    fn cursor() -> Cursor {
        Origin::new("mem", "", &service()).cursor(Revision::new(7), "p")
    }

    fn instance(id: &str) -> Instance {
        Instance::new(service(), id.parse().unwrap(), "h:1".parse().unwrap())
            .with_metadata([("zone", "a\nb")])
            .unwrap()
    }

    fn snapshot() -> Snapshot {
        Snapshot::new(cursor(), [instance("1"), instance("2")].map(Record::new))
    }

    fn service() -> ServiceName {
        "prod/user.rpc".parse().unwrap()
    }

    #[test]
    fn a_file_round_trips() {
        assert_eq!(decode(&service(), &encode(&service(), &snapshot(), 9)).unwrap(), snapshot());
    }

    #[test]
    fn a_file_that_was_cut_or_changed_anywhere_is_refused() {
        let file = encode(&service(), &snapshot(), 9);
        for end in 0..file.len() {
            assert!(decode(&service(), &file[..end]).is_err(), "cut at {end}");
        }
        let text = String::from_utf8(file.clone()).unwrap();
        let format_number = text.find("\"v\":1").unwrap()..text.find(",\"service\"").unwrap();
        for n in (0..file.len()).filter(|n| !format_number.contains(n)) {
            let mut file = file.clone();
            file[n] ^= 1;
            assert!(decode(&service(), &file).is_err(), "changed at {n}");
        }
    }

    #[test]
    fn golden_files_encode_byte_for_byte_and_are_read() {
        let record = |id: &str| Record::new(instance(id));
        let full = record("full")
            .with_lease(LeaseId::new(7).unwrap())
            .with_ttl(Duration::from_secs(10))
            .with_revision(Revision::new(6));
        let snapshot = Snapshot::new(cursor(), [full, record("minimal")]);
        let golden = include_bytes!("../../golden/snapshot.txt");
        let file = encode(&service(), &snapshot, 1_796_000_000);
        assert_eq!(String::from_utf8(file).unwrap(), String::from_utf8(golden.to_vec()).unwrap());
        assert_eq!(decode(&service(), golden).unwrap(), snapshot);

        let future = include_bytes!("../../golden/snapshot-future.txt");
        let read = decode(&service(), future).unwrap();
        assert_eq!(read.records().len(), 1);
        assert_eq!(read.cursor(), snapshot.cursor());
    }

    #[test]
    fn the_file_of_another_service_is_refused() {
        let error = decode(&"User.rpc".parse().unwrap(), &encode(&service(), &snapshot(), 9));
        assert!(error.unwrap_err().contains("another service"));
    }

    #[test]
    fn services_have_files_of_their_own_whatever_they_are_called() {
        let long = |last: char| format!("{}{last}", "a/".repeat(127));
        let names = ["a", "a/b", "a%2Fb", "..", "a.snapshot", &long('a'), &long('b')];
        let files: Vec<String> =
            names.iter().map(|name| file_name(&ServiceName::new(*name).unwrap())).collect();
        for (n, file) in files.iter().enumerate() {
            assert!(file.len() < 200 && !file.contains('/') && !file.starts_with('.'), "{file}");
            assert!(!files[..n].contains(file), "{file}");
        }
    }
}
