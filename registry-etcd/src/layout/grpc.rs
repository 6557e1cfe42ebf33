//! The layout of etcd's own resolver for gRPC in Go, its package `naming/endpoints`:
//! `<service>/<id>` holds a JSON record, written byte for byte as Go's `encoding/json` writes it.
//!
//! ```text
//! {"Op":0,"Addr":"10.0.0.1:8080","Metadata":null}
//! ```
//!
//! By custom the id is the address, though readers take any. `Metadata` is an object of the instance's
//! metadata, or `null` without any, as a publisher in Go writes it. All else stands in a
//! [side record](super::side).

use super::error::DecodeError;
use super::names;
use super::side;
use super::{Encoded, Layout, ServiceKeys};
use registry_core::encoding::{MAX_RECORD_LEN, Stored};
use registry_core::{
    Address, BoxError, Error, ErrorKind, Instance, InstanceId, Record, Result, ServiceName,
};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

pub(super) const NAME: &str = "grpc";

#[derive(Debug)]
pub(super) struct Grpc {
    root: String,
}

impl Grpc {
    pub(super) fn new(path: &str) -> Self {
        Self { root: names::root(path) }
    }
}

impl Layout for Grpc {
    fn name(&self) -> &str {
        NAME
    }

    fn root(&self) -> &str {
        &self.root
    }

    fn keys(&self, service: &ServiceName) -> Result<ServiceKeys> {
        side::keys(NAME, &self.root, service)
    }

    fn encode(&self, record: &Record) -> Result<Encoded> {
        let value = encode(record.instance());
        let len = value.len();
        if len > MAX_RECORD_LEN {
            let message = "in the grpc layout a value is at most 65536 bytes, as Go escapes it";
            return Err(Error::new(ErrorKind::Invalid, format!("{message}, got=`{len}`")));
        }
        side::encode(record, value)
    }

    fn encode_withdrawn(&self, record: &Record) -> Result<Option<Encoded>> {
        side::encode_withdrawn(record).map(Some)
    }

    fn decode_id(&self, text: &[u8]) -> Result<Option<InstanceId>, BoxError> {
        Ok(names::id(text))
    }

    fn decode(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        value: Option<&[u8]>,
        side: Option<&[u8]>,
    ) -> Result<Option<Stored>, BoxError> {
        let public = match value {
            Some(value) => match decode(service, id, value)? {
                Some(public) => Some(public),
                None => return Ok(None),
            },
            None => None,
        };
        Ok(side::decode(service, id, public, side)?)
    }

    fn service_of(&self, key: &[u8]) -> Option<ServiceName> {
        side::service_of(key.strip_prefix(self.root.as_bytes())?)
    }
}

/// In the order of Go's struct.
#[derive(Serialize)]
struct Endpoint<'a> {
    #[serde(rename = "Op")]
    op: u8,
    #[serde(rename = "Addr")]
    addr: &'a Address,
    #[serde(rename = "Metadata")]
    metadata: Option<&'a BTreeMap<String, String>>,
}

fn encode(instance: &Instance) -> String {
    let addr = instance.address();
    let metadata = Some(instance.metadata()).filter(|metadata| !metadata.is_empty());
    let json = serde_json::to_string(&Endpoint { op: ADD, addr, metadata })
        .unwrap_or_else(|error| unreachable!("text maps serialize: {error}"));
    // What Go escapes beyond that can stand inside strings only.
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// etcd's `naming/endpoints.Operation`.
const ADD: u8 = 0;
const DELETE: u8 = 1;

/// The instance that a record describes; `None` if the record says that it is deleted.
pub(super) fn decode(
    service: &ServiceName,
    id: &InstanceId,
    value: &[u8],
) -> Result<Option<Instance>, DecodeError> {
    if value.len() > MAX_RECORD_LEN {
        return Err(DecodeError::TooLarge(value.len()));
    }
    // Go takes what is no UTF-8 for this as well.
    let text = String::from_utf8_lossy(value);
    let decoded: Decoded<'_> = serde_json::from_str(&text)?;
    match decoded.op {
        ADD => {
            let address = Address::read(&decoded.addr);
            let address = address.ok_or_else(|| DecodeError::Address(decoded.addr.clone()))?;
            let plain = Instance::new(service.clone(), id.clone(), address);
            Ok(Some(with_metadata(plain, decoded.metadata)))
        }
        DELETE => Ok(None),
        other => Err(DecodeError::Operation(other)),
    }
}

/// An object of strings is the metadata. All else that Go programs put there is theirs alone.
fn with_metadata(plain: Instance, metadata: Option<&RawValue>) -> Instance {
    let Some(metadata) = metadata else { return plain };
    let strings: Option<BTreeMap<String, String>> = serde_json::from_str(metadata.get()).ok();
    strings.and_then(|strings| plain.clone().with_metadata(strings).ok()).unwrap_or(plain)
}

/// What Go's decoder makes of an object: names in any case, the last of several, `null` for
/// nothing.
#[derive(Default)]
struct Decoded<'a> {
    op: u8,
    addr: String,
    metadata: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Decoded<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Decoded<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with Op, Addr and Metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut decoded = Decoded::default();
        while let Some(name) = map.next_key::<String>()? {
            if name.eq_ignore_ascii_case("Op") {
                decoded.op = map.next_value::<Option<u8>>()?.unwrap_or(decoded.op);
            } else if name.eq_ignore_ascii_case("Addr") {
                decoded.addr = map.next_value::<Option<String>>()?.unwrap_or(decoded.addr);
            } else if name.eq_ignore_ascii_case("Metadata") {
                decoded.metadata = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(decoded)
    }
}

#[cfg(test)]
mod tests;
