//! The content of a snapshot file.
//!
//! The first line is a header; each other line holds one record, as `registry-core` encodes it:
//!
//! ```text
//! {"format":"service-registry snapshot","v":1,"service":"user.rpc","cursor":"1:etcd:...","written":1796000000,"crc32":2774352312}
//! {"id":"node-1","revision":7,"record":"{\"v\":1,\"address\":\"10.0.0.1:8080\",...}"}
//! ```
//!
//! `written` is the time of writing in Unix seconds. A file with another `v` is refused. A reader ignores unknown
//! fields.

use registry_core::encoding::{self, Stored};
use registry_core::{Cursor, InstanceId, Revision, ServiceName, Snapshot};
use serde::{Deserialize, Serialize};

const FORMAT: &str = "service-registry snapshot";
const VERSION: u32 = 1;

/// The fields that all versions of the format have.
#[derive(Deserialize)]
struct Format {
    format: String,
    v: u32,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    v: u32,
    service: ServiceName,
    cursor: Cursor,
    /// The time of writing in Unix seconds.
    written: u64,
    /// The checksum of the service, the cursor, the time and all following lines.
    crc32: u32,
}

#[derive(Serialize, Deserialize)]
struct Line {
    id: InstanceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
    record: String,
}

/// Encodes a file with the time `written`.
pub(super) fn encode(service: &ServiceName, snapshot: &Snapshot, written: u64) -> Vec<u8> {
    let mut lines = Vec::new();
    for record in snapshot.records() {
        // A listed record is never too large to encode.
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

/// Decodes a file. Returns the snapshot and the time of writing. The error says why the file is unusable.
pub(super) fn decode(service: &ServiceName, file: &[u8]) -> Result<(Snapshot, u64), String> {
    let end = file.iter().position(|byte| *byte == b'\n').ok_or("the file has no header line")?;
    let (header, lines) = (&file[..end], &file[end + 1..]);
    let Format { format, v } = serde_json::from_slice(header).map_err(|error| error.to_string())?;
    if format != FORMAT || v != VERSION {
        return Err(format!("the file has another format, format=`{format}`, v=`{v}`"));
    }
    let header: Header = serde_json::from_slice(header).map_err(|error| error.to_string())?;
    if header.crc32 != checksum(&header.service, &header.cursor, header.written, lines) {
        return Err("the checksum is wrong".into());
    }
    if header.service != *service {
        return Err(format!("the file belongs to another service, service=`{}`", header.service));
    }
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let records = lines.map(|line| {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        match encoding::decode(service, &line.id, line.record.as_bytes()) {
            Ok(Stored::Live(record)) => Ok(match line.revision {
                Some(revision) => record.with_revision(revision),
                None => record,
            }),
            Ok(Stored::Withdrawn(_)) => Err("the file lists a withdrawn instance".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    });
    let records: Vec<_> = records.collect::<Result<_, String>>()?;
    Ok((Snapshot::new(header.cursor, records), header.written))
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_core::{Instance, LeaseId, Origin, Record};
    use std::time::Duration;

    fn cursor() -> Cursor {
        Origin::new("mem", "", &service()).cursor(Revision::new(7), "p")
    }

    fn instance(id: &str) -> Instance {
        Instance::from_parts(service(), id.parse().unwrap(), "h:1".parse().unwrap())
            .with_metadata([("zone", "a\nb")])
    }

    fn snapshot() -> Snapshot {
        Snapshot::new(cursor(), [instance("1"), instance("2")].map(Record::new))
    }

    fn service() -> ServiceName {
        "prod/user.rpc".parse().unwrap()
    }

    #[test]
    fn a_file_round_trips() {
        let file = encode(&service(), &snapshot(), 9);
        assert_eq!(decode(&service(), &file).unwrap(), (snapshot(), 9));
    }

    #[test]
    fn a_truncated_or_corrupt_file_is_refused() {
        let file = encode(&service(), &snapshot(), 9);
        for end in 0..file.len() {
            assert!(decode(&service(), &file[..end]).is_err(), "cut at {end}");
        }
        for n in 0..file.len() {
            let mut file = file.clone();
            file[n] ^= 1;
            assert!(decode(&service(), &file).is_err(), "changed at {n}");
        }
    }

    #[test]
    fn golden_files_encode_byte_for_byte_and_decode() {
        let record = |id: &str| Record::new(instance(id));
        let full = record("full")
            .with_lease(LeaseId::new(7).unwrap())
            .with_ttl(Duration::from_secs(10))
            .with_revision(Revision::new(6));
        let snapshot = Snapshot::new(cursor(), [full, record("minimal")]);
        let golden = include_bytes!("../../../golden/snapshot.txt");
        let file = encode(&service(), &snapshot, 1_796_000_000);
        assert_eq!(String::from_utf8(file).unwrap(), String::from_utf8(golden.to_vec()).unwrap());
        assert_eq!(decode(&service(), golden).unwrap(), (snapshot.clone(), 1_796_000_000));

        // A later release may add fields without a new version of the format.
        let future = include_bytes!("../../../golden/snapshot-future.txt");
        let (read, _) = decode(&service(), future).unwrap();
        assert_eq!(read.records().len(), 1);
        assert_eq!(read.cursor(), snapshot.cursor());
    }

    #[test]
    fn a_file_of_another_format_or_version_is_refused() {
        let file = String::from_utf8(encode(&service(), &snapshot(), 9)).unwrap();
        for other in ["\"v\":0", "\"v\":2"] {
            let other = file.replacen("\"v\":1", other, 1);
            let error = decode(&service(), other.as_bytes()).unwrap_err();
            assert!(error.contains("another format"), "{error}");
        }
        let unlike = b"{\"format\":\"service-registry snapshot\",\"v\":2}\n";
        assert!(decode(&service(), unlike).unwrap_err().contains("another format"));
        let foreign = b"{\"format\":\"a game\",\"v\":1}\n";
        assert!(decode(&service(), foreign).unwrap_err().contains("another format"));
    }

    #[test]
    fn the_file_of_another_service_is_refused() {
        let error = decode(&"User.rpc".parse().unwrap(), &encode(&service(), &snapshot(), 9));
        assert!(error.unwrap_err().contains("another service"));
    }
}
