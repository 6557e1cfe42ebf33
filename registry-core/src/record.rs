//! How an instance is stored: a versioned JSON record, its name and id being in the key.
//!
//! ```text
//! {"v":1,"address":"10.0.0.1:8080","weight":100,"status":"up","metadata":{"zone":"eu-1"}}
//! ```
//!
//! Fields are written in this order, without spaces. A reader ignores fields it does not know, takes
//! a missing or `null` weight, status or metadata as the default, and refuses a `v` it does not know.

use crate::instance::{DEFAULT_WEIGHT, MAX_METADATA_LEN};
use crate::metadata::Metadata;
use crate::{Address, Instance, InstanceId, InstanceStatus, ServiceName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format written, and the newest one read.
pub const VERSION: u32 = 1;

/// The largest record that is read, in bytes. None that is written is larger.
pub const MAX_RECORD_LEN: usize = 64 * 1024;

/// Why a record cannot be decoded.
///
/// A store skips such a record, counts it and reports it; it ends no load and no watch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It is larger than [`MAX_RECORD_LEN`].
    #[error("record has {0} bytes, more than 65536")]
    TooLarge(usize),
    /// It is not a JSON object of the known form.
    #[error("record is not of the known form")]
    Malformed(#[from] serde_json::Error),
    /// It was written by a later version of this library.
    #[error("record has version {0}, newer than 1")]
    Version(u32),
    /// A field holds what it may not.
    #[error("record has an invalid field")]
    Field(#[from] crate::Error),
}

#[derive(Serialize)]
struct EncodedRecord<'a> {
    v: u32,
    address: &'a Address,
    weight: u32,
    status: InstanceStatus,
    metadata: &'a BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct DecodedRecord {
    v: u32,
    address: Address,
    weight: Option<u32>,
    status: Option<InstanceStatus>,
    metadata: Option<Metadata>,
}

/// The record of `instance`, at most [`MAX_RECORD_LEN`] bytes.
pub fn encode(instance: &Instance) -> Vec<u8> {
    const { assert!(MAX_METADATA_LEN + 512 < MAX_RECORD_LEN, "the other fields take up to 512 bytes") };
    let encoded = EncodedRecord {
        v: VERSION,
        address: instance.address(),
        weight: instance.weight(),
        status: instance.status(),
        metadata: instance.metadata(),
    };
    serde_json::to_vec(&encoded)
        .unwrap_or_else(|error| unreachable!("text maps serialize: {error}"))
}

/// The instance that `service` and `id` name and `record` describes.
///
/// # Errors
///
/// [`RecordError`] if `record` was not written by [`encode`] or an equivalent.
pub fn decode(
    service: &ServiceName,
    id: &InstanceId,
    record: &[u8],
) -> Result<Instance, RecordError> {
    if record.len() > MAX_RECORD_LEN {
        return Err(RecordError::TooLarge(record.len()));
    }
    let decoded: DecodedRecord = match serde_json::from_slice(record) {
        Ok(decoded) => decoded,
        Err(error) => return Err(newer_version(record).unwrap_or(RecordError::Malformed(error))),
    };
    if decoded.v != VERSION {
        return Err(RecordError::Version(decoded.v));
    }
    let instance = Instance::new(service.clone(), id.clone(), decoded.address)
        .with_weight(decoded.weight.unwrap_or(DEFAULT_WEIGHT))
        .with_status(decoded.status.unwrap_or_default());
    match decoded.metadata {
        Some(metadata) => Ok(instance.with_encoded(metadata)?),
        None => Ok(instance),
    }
}

/// A newer record may have changed any other field, so its version is the better explanation.
fn newer_version(record: &[u8]) -> Option<RecordError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let version: Version = serde_json::from_slice(record).ok()?;
    (version.v > VERSION).then_some(RecordError::Version(version.v))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(record: &str) -> Result<Instance, RecordError> {
        decode(&"user.rpc".parse().unwrap(), &"1".parse().unwrap(), record.as_bytes())
    }

    fn golden() -> Instance {
        let address = "10.0.0.1:8080".parse().unwrap();
        Instance::new("user.rpc".parse().unwrap(), "1".parse().unwrap(), address)
    }

    #[test]
    fn golden_vectors_encode_byte_for_byte_and_decode() {
        let plain = r#"{"v":1,"address":"10.0.0.1:8080","weight":100,"status":"up","metadata":{}}"#;
        let full = r#"{"v":1,"address":"[::1]:1","weight":0,"status":"draining","metadata":{"a<":"\"b\"","zone":"eu-1"}}"#;
        let instance = golden()
            .with_address("[::1]:1".parse().unwrap())
            .with_weight(0)
            .with_status(InstanceStatus::Draining)
            .with_metadata([("zone", "eu-1"), ("a<", "\"b\"")])
            .unwrap();
        for (instance, record) in [(golden(), plain), (instance, full)] {
            assert_eq!(String::from_utf8(encode(&instance)).unwrap(), record);
            assert_eq!(read(record).unwrap(), instance);
        }
    }

    #[test]
    fn unknown_missing_and_null_fields_are_tolerated() {
        assert_eq!(read(r#"{"v":1,"address":"10.0.0.1:8080"}"#).unwrap(), golden());
        let null = r#"{"zone":[1],"address":"10.0.0.1:8080","metadata":null,"weight":null,"status":null,"v":1}"#;
        assert_eq!(read(null).unwrap(), golden());
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        let huge = format!(r#"{{"v":1,"address":"a:1","x":"{}"}}"#, "y".repeat(MAX_RECORD_LEN));
        assert!(matches!(read(&huge), Err(RecordError::TooLarge(_))));
        assert!(matches!(read(r#"{"v":2,"addresses":["a:1"]}"#), Err(RecordError::Version(2))));
        assert!(matches!(read(r#"{"v":0,"address":"a:1"}"#), Err(RecordError::Version(0))));
        let malformed =
            ["", "{", "10.0.0.1:8080", "[]", "null", r#"{"v":1}"#, r#"{"v":1,"address":"x"}"#];
        for malformed in malformed {
            assert!(matches!(read(malformed), Err(RecordError::Malformed(_))), "{malformed}");
        }
    }

    proptest! {
        #[test]
        fn every_instance_round_trips(
            weight: u32,
            drains: bool,
            metadata in proptest::collection::btree_map(".*", ".*", 0..5),
        ) {
            let status = if drains { InstanceStatus::Draining } else { InstanceStatus::Up };
            let instance = golden().with_weight(weight).with_status(status).with_metadata(metadata).unwrap();
            let record = encode(&instance);
            prop_assert!(record.len() <= MAX_RECORD_LEN);
            prop_assert_eq!(decode(instance.service(), instance.id(), &record).unwrap(), instance);
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let _ = decode(&"a".parse().unwrap(), &"1".parse().unwrap(), &bytes);
        }
    }
}
