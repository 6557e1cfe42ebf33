//! The stored form of an instance: a JSON record. The key holds the service and the id.
//!
//! ```text
//! {"v":1,"address":"10.0.0.1:8080","ports":{"admin":{"port":9090,"protocol":"http"}},"zone":"eu-1","labels":
//! {"tier":"gold"},"weight":100,"status":"up","lease":7587862094070025734,"ttl":10000,"metadata":{"commit":"4f2a"}}
//! ```
//!
//! Fields are written in this order, without spaces and line breaks. `ports`, `zone`, `labels`, `lease` and `ttl` are
//! written only if they are set. `ttl` is in milliseconds. `lease` is written only if the store keeps it nowhere else.
//!
//! Encoding is strict, decoding is tolerant. A record is undecodable if it is larger than [`MAX_RECORD_LEN`], is not a
//! JSON object, or has no readable address. A reader ignores unknown fields, and uses the default for a missing or
//! `null` weight, status or metadata. A weight or status that it does not understand makes the instance unavailable:
//! the weight becomes 0, the status [`Unknown`](InstanceStatus::Unknown). Any other field that it does not understand
//! counts as missing. A higher `v` alone changes nothing.

use crate::instance::{DEFAULT_WEIGHT, Port};
use crate::metadata::Metadata;
use crate::{
    Address, Error, ErrorKind, Instance, InstanceId, InstanceStatus, LeaseId, Record, Result,
    ServiceName, printable,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// The version of the format that is written. Later versions keep the meaning of its fields.
pub const VERSION: u32 = 1;

/// The maximum size of a record in bytes, for reading and writing.
pub const MAX_RECORD_LEN: usize = 64 * 1024;

/// The reason why a record cannot be decoded.
///
/// A store skips such a record, counts it and logs it. The record ends no load and no watch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is larger than [`MAX_RECORD_LEN`].
    #[error("record has {0} bytes, more than 65536")]
    TooLarge(usize),
    /// It is not a JSON object.
    #[error("record is not a JSON object")]
    Malformed(#[from] serde_json::Error),
    /// Its address is missing or is not `host:port`.
    #[error("record has no readable address, address=`{}`", printable(.0))]
    // `printable`, since JSON escapes only some control characters
    Address(String),
}

#[derive(Serialize)]
struct EncodedRecord<'a> {
    v: u32,
    address: &'a Address,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    ports: &'a BTreeMap<String, Port>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    weight: u32,
    status: StoredStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    // `metadata` follows.
}

/// A record whose fields all have the types of this release. Nearly every record does.
#[derive(Deserialize)]
struct PlainRecord {
    address: Address,
    ports: Option<BTreeMap<String, Port>>,
    zone: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    weight: Option<u32>,
    status: Option<StoredStatus>,
    lease: Option<LeaseId>,
    ttl: Option<u64>,
    metadata: Option<Metadata>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredStatus {
    Up,
    Draining,
    Withdrawn,
    Unknown,
}

/// A decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // a store must handle every variant: an ignored one would be listed
pub enum Stored {
    /// The instance is registered.
    Live(Record),
    /// The owner has withdrawn the instance, but the store has not deleted the record yet. The instance is not listed
    /// and does not hold its id.
    Withdrawn(Record),
}

/// Encodes `record` without its revision.
///
/// It does not call [`Instance::check`], since the instance may come from a record that another program wrote; a store
/// calls it before it registers.
///
/// # Errors
///
/// `Invalid` if the result is larger than [`MAX_RECORD_LEN`] bytes.
pub fn encode(record: &Record) -> Result<Vec<u8>> {
    let status = match record.instance().status() {
        InstanceStatus::Up => StoredStatus::Up,
        InstanceStatus::Draining => StoredStatus::Draining,
        InstanceStatus::Unknown => StoredStatus::Unknown,
    };
    encode_as(record, status)
}

/// Encodes `record` as [withdrawn](Stored::Withdrawn) by its owner. An earlier release reads it as an instance that is
/// not available.
///
/// # Errors
///
/// Those of [`encode`].
pub fn encode_withdrawn(record: &Record) -> Result<Vec<u8>> {
    encode_as(record, StoredStatus::Withdrawn)
}

fn encode_as(record: &Record, status: StoredStatus) -> Result<Vec<u8>> {
    let instance = record.instance();
    let encoded = EncodedRecord {
        v: VERSION,
        address: instance.address(),
        ports: instance.ports(),
        zone: instance.zone(),
        labels: instance.labels(),
        weight: instance.weight(),
        status,
        lease: record.lease(),
        ttl: record.ttl().map(|ttl| ttl.as_millis().try_into().unwrap_or(u64::MAX)),
    };
    let mut bytes = Vec::with_capacity(256); // most records are smaller
    serde_json::to_writer(&mut bytes, &encoded)
        .unwrap_or_else(|error| unreachable!("text maps serialize: {error}"));
    // Metadata is kept as JSON text, so it is appended without building a map.
    bytes.pop();
    for part in [r#","metadata":"#, instance.encoded_metadata().json(), "}"] {
        bytes.extend_from_slice(part.as_bytes());
    }
    if bytes.len() > MAX_RECORD_LEN {
        let message = format!(
            "the record of the instance is larger than {MAX_RECORD_LEN} bytes: shorten its labels or \
             metadata, got=`{}`",
            bytes.len()
        );
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(bytes)
}

/// Decodes the record of instance `id` of `service`. The result has no revision.
///
/// # Errors
///
/// [`DecodeError`] if `record` is too large, is not a JSON object, or has no readable address.
pub fn decode(
    service: &ServiceName,
    id: &InstanceId,
    record: &[u8],
) -> Result<Stored, DecodeError> {
    if record.len() > MAX_RECORD_LEN {
        return Err(DecodeError::TooLarge(record.len()));
    }
    // One check of the whole record for UTF-8 is cheaper than one of each string.
    let plain = match str::from_utf8(record) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(record), // an ignored field may contain invalid UTF-8
    };
    let record = match plain {
        Ok(plain) => plain,
        Err(_) => PlainRecord::tolerant(serde_json::from_slice(record)?)?,
    };
    Ok(record.stored(service, id))
}

impl PlainRecord {
    /// Reads a record field by field, and uses a fallback for each field that it does not understand.
    fn tolerant(mut fields: serde_json::Map<String, Value>) -> Result<Self, DecodeError> {
        let mut field = |name| fields.remove(name).filter(|value| !value.is_null());
        let address = field("address").unwrap_or_default();
        let readable = address.as_str().and_then(Address::read);
        Ok(Self {
            address: readable.ok_or_else(|| DecodeError::Address(address.to_string()))?,
            ports: field("ports").and_then(understood),
            zone: field("zone").and_then(understood),
            labels: field("labels").and_then(understood),
            weight: field("weight").map(|weight| understood(weight).unwrap_or(0)),
            status: field("status").map(|s| understood(s).unwrap_or(StoredStatus::Unknown)),
            lease: field("lease").and_then(understood),
            ttl: field("ttl").and_then(understood),
            metadata: field("metadata").and_then(understood).map(|map| Metadata::new(&map)),
        })
    }

    fn stored(self, service: &ServiceName, id: &InstanceId) -> Stored {
        let status = self.status.unwrap_or(StoredStatus::Up);
        let mut instance = Instance::from_parts(service.clone(), id.clone(), self.address)
            .with_weight(self.weight.unwrap_or(DEFAULT_WEIGHT))
            .with_status(match status {
                StoredStatus::Up => InstanceStatus::Up,
                StoredStatus::Draining => InstanceStatus::Draining,
                StoredStatus::Withdrawn | StoredStatus::Unknown => InstanceStatus::Unknown,
            })
            .with_encoded(self.metadata.unwrap_or_default());
        for (name, port) in self.ports.into_iter().flatten() {
            instance = instance.with_port(name, port);
        }
        for (name, value) in self.labels.into_iter().flatten() {
            instance = instance.with_label(name, value);
        }
        if let Some(zone) = self.zone {
            instance = instance.with_zone(zone);
        }
        let mut record = Record::new(instance);
        if let Some(lease) = self.lease {
            record = record.with_lease(lease);
        }
        if let Some(ttl) = self.ttl {
            record = record.with_ttl(Duration::from_millis(ttl));
        }
        match status {
            StoredStatus::Withdrawn => Stored::Withdrawn(record),
            _ => Stored::Live(record),
        }
    }
}

fn understood<T: serde::de::DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

#[cfg(test)]
mod tests;
