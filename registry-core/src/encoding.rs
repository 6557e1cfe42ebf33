//! How an instance is stored: a JSON record, its service and id being in the key.
//!
//! ```text
//! {"v":1,"address":"10.0.0.1:8080","ports":{"admin":{"port":9090,"protocol":"http"}},"zone":"eu-1","labels":
//! {"tier":"gold"},"weight":100,"status":"up","lease":7587862094070025734,"ttl":10000,"metadata":{"commit":"4f2a"}}
//! ```
//!
//! Fields are written in this order, without spaces and line breaks; `ports`, `zone`, `labels`, `lease` and `ttl`
//! only if they are set. `ttl` is in milliseconds; `lease` is written only where the store has it nowhere else.
//!
//! Encoding is strict, decoding is tolerant. A record is undecodable if it is larger than [`MAX_RECORD_LEN`], is not
//! a JSON object, or has no readable address. A reader ignores fields that it does not know, and takes a missing or
//! `null` weight, status or metadata as the default. A weight or status that it does not understand makes the
//! instance unavailable: weight 0, and [`Unknown`](InstanceStatus::Unknown). Another field that it does not
//! understand counts as missing. A higher `v` alone changes nothing.

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

/// The format that is written. Later formats keep the meaning of its fields.
pub const VERSION: u32 = 1;

/// The largest record that is read, in bytes. None that is written is larger.
pub const MAX_RECORD_LEN: usize = 64 * 1024;

/// Why a record cannot be decoded.
///
/// A store skips such a record, counts it and reports it; it ends no load and no watch.
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
    // JSON escapes only a part of it
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

/// A record whose fields all are as this release writes them: nearly every one.
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

/// A record as it was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // a store that does not know a kind would list it
pub enum Stored {
    /// The instance is registered.
    Live(Record),
    /// Its owner has withdrawn the instance, and the store has yet to delete the record. It is not listed,
    /// and holds no id.
    Withdrawn(Record),
}

/// Encodes `record`, without its revision: at most [`MAX_RECORD_LEN`] bytes.
///
/// # Errors
///
/// `Invalid` if it is larger. What [`Instance::check`] refuses is for a store to refuse: it may have been read, from a record
/// that another program wrote.
pub fn encode(record: &Record) -> Result<Vec<u8>> {
    let status = match record.instance().status() {
        InstanceStatus::Up => StoredStatus::Up,
        InstanceStatus::Draining => StoredStatus::Draining,
        InstanceStatus::Unknown => StoredStatus::Unknown,
    };
    encode_as(record, status)
}

/// Encodes `record` as one that its owner has [withdrawn](Stored::Withdrawn). A reader of an earlier release
/// takes it for an instance that is not available.
///
/// # Errors
///
/// As [`encode`].
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
    let mut bytes = Vec::with_capacity(256); // most are no larger
    serde_json::to_writer(&mut bytes, &encoded)
        .unwrap_or_else(|error| unreachable!("text maps serialize: {error}"));
    // It is kept in its JSON form: a map of it takes several times the memory, and most records are never asked for one.
    bytes.pop();
    for part in [r#","metadata":"#, instance.encoded_metadata().json(), "}"] {
        bytes.extend_from_slice(part.as_bytes());
    }
    if bytes.len() > MAX_RECORD_LEN {
        let message = format!(
            "an instance takes at most {MAX_RECORD_LEN} bytes as a record: shorten its labels or metadata, got=`{}`",
            bytes.len()
        );
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(bytes)
}

/// Decodes the record of the instance that `service` and `id` name. The revision is not part of it.
///
/// # Errors
///
/// [`DecodeError`] if `record` has no readable address.
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
        Err(_) => serde_json::from_slice(record), // a field that is ignored may have any bytes
    };
    let record = match plain {
        Ok(plain) => plain,
        Err(_) => PlainRecord::tolerant(serde_json::from_slice(record)?)?,
    };
    Ok(record.stored(service, id))
}

impl PlainRecord {
    /// Reads a record field by field, each as far as it is understood.
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
