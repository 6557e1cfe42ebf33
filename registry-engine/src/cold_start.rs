//! The last snapshot of a service in a file, for a start while the store is away.
//!
//! The first line says what the file is, the others hold an instance each:
//!
//! ```text
//! {"format":"service-registry snapshot","v":1,"service":"user.rpc","cursor":"1:etcd:...","crc32":2774352312}
//! {"id":"node-1","record":"{\"v\":1,\"address\":\"10.0.0.1:8080\",...}"}
//! ```

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use registry_core::{Cursor, InstanceId, LeaseId, ServiceName, Snapshot, record};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

const FORMAT: &str = "service-registry snapshot";
const VERSION: u32 = 1;

/// How long changes are gathered before the file is written anew.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest readable part of a file name; most file systems allow 255 bytes.
const MAX_STEM: usize = 150;

#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    v: u32,
    service: ServiceName,
    cursor: Cursor,
    /// Of the service, the cursor and all that follows this line.
    crc32: u32,
}

#[derive(Serialize, Deserialize)]
struct Line {
    id: InstanceId,
    record: String,
}

/// The file of one service.
#[derive(Debug)]
pub(crate) struct ColdStart {
    service: ServiceName,
    path: PathBuf,
    due: Option<Instant>,
    writing: Option<JoinHandle<()>>,
}

impl ColdStart {
    pub(crate) fn new(folder: &Path, service: &ServiceName) -> Self {
        let path = folder.join(file_name(service));
        Self { service: service.clone(), path, due: None, writing: None }
    }

    /// What the file holds. A file that cannot be used is told of and passed over.
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
                tracing::warn!(path = %self.path.display(), error, "a snapshot file is passed over");
                None
            }
        }
    }

    /// The file is no longer what the store says.
    pub(crate) fn outdate(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + PAUSE);
    }

    /// When to [save](Self::save).
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Writes the file, in the background. What fails is told of, and tried again with the next change.
    pub(crate) fn save(&mut self, snapshot: Snapshot) {
        self.due = None;
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            self.outdate(); // a slow disk: later, with what is new then
            return;
        }
        let (path, service) = (self.path.clone(), self.service.clone());
        self.writing = Some(spawn_blocking(move || {
            if let Err(error) = replace(&path, &encode(&service, &snapshot)) {
                tracing::warn!(path = %path.display(), %error, "a snapshot file cannot be written");
            }
        }));
    }
}

/// One that reads as the service where it can, and is no other service's.
fn file_name(service: &ServiceName) -> String {
    let mut stem = utf8_percent_encode(service.as_str(), NON_ALPHANUMERIC).to_string();
    if stem.len() > MAX_STEM {
        let crc = crc32fast::hash(service.as_str().as_bytes());
        stem.truncate(MAX_STEM);
        stem = format!("{stem}-{crc:08x}");
    }
    format!("{stem}.snapshot")
}

fn encode(service: &ServiceName, snapshot: &Snapshot) -> Vec<u8> {
    let mut lines = Vec::new();
    for instance in snapshot.instances() {
        let record = String::from_utf8_lossy(&record::encode(instance)).into_owned();
        push_line(&mut lines, &Line { id: instance.id().clone(), record });
    }
    let (service, cursor) = (service.clone(), snapshot.cursor().clone());
    let crc32 = checksum(&service, &cursor, &lines);
    let head = Head { format: FORMAT.into(), v: VERSION, service, cursor, crc32 };
    let mut file = Vec::new();
    push_line(&mut file, &head);
    file.append(&mut lines);
    file
}

fn checksum(service: &ServiceName, cursor: &Cursor, lines: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(service.as_str().as_bytes());
    hasher.update(cursor.to_string().as_bytes());
    hasher.update(lines);
    hasher.finalize()
}

fn push_line(to: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *to, line)
        .unwrap_or_else(|error| unreachable!("text serializes: {error}"));
    to.push(b'\n');
}

/// The snapshot in `file`, or what is wrong with it.
fn decode(service: &ServiceName, file: &[u8]) -> Result<Snapshot, String> {
    let end = file.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
    let (head, lines) = (&file[..end], &file[end + 1..]);
    let head: Head = serde_json::from_slice(head).map_err(|error| error.to_string())?;
    if head.format != FORMAT || head.v != VERSION {
        return Err(format!("it is of another format, format=`{}`, v=`{}`", head.format, head.v));
    }
    if head.crc32 != checksum(&head.service, &head.cursor, lines) {
        return Err("its checksum is wrong".into());
    }
    if head.service != *service {
        return Err(format!("it is of another service, service=`{}`", head.service));
    }
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let instances = lines.map(|line| {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let instance = record::decode(service, &line.id, line.record.as_bytes());
        instance.map_err(|error| error.to_string())
    });
    let instances: Vec<_> = instances.collect::<Result<_, String>>()?;
    Ok(Snapshot::new(head.cursor, instances))
}

/// Puts `bytes` in the place of the file, all or nothing, whatever others do meanwhile.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Drawn, since processes in containers share folders and have the same ids.
    let draft = path.with_extension(format!("draft-{}", LeaseId::random()));
    let written = write_new(&draft, bytes).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        fs::remove_file(&draft).ok(); // it may not even have been made
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
    use registry_core::{Instance, Origin, Revision};

    fn snapshot() -> Snapshot {
        let service: ServiceName = "prod/user.rpc".parse().unwrap();
        let cursor = Origin::new("mem", "", &service).cursor(Revision::new(7), "p");
        let instance = |id: &str| {
            let id = id.parse().unwrap();
            Instance::new(service.clone(), id, "h:1".parse().unwrap())
                .with_metadata([("zone", "a\nb")])
                .unwrap()
        };
        Snapshot::new(cursor, [instance("1"), instance("2")])
    }

    fn service() -> ServiceName {
        "prod/user.rpc".parse().unwrap()
    }

    #[test]
    fn a_file_round_trips() {
        assert_eq!(decode(&service(), &encode(&service(), &snapshot())).unwrap(), snapshot());
    }

    #[test]
    fn a_file_that_was_cut_or_changed_anywhere_is_refused() {
        let file = encode(&service(), &snapshot());
        for end in 0..file.len() {
            assert!(decode(&service(), &file[..end]).is_err(), "cut at {end}");
        }
        for n in 0..file.len() {
            let mut file = file.clone();
            file[n] ^= 1;
            let changed = decode(&service(), &file);
            // A key of the first line that is not known is nobody's; all else is checked.
            assert!(changed.is_err(), "changed at {n}");
        }
    }

    #[test]
    fn the_file_of_another_service_is_refused() {
        let error = decode(&"User.rpc".parse().unwrap(), &encode(&service(), &snapshot()));
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
