//! The layout of etcd's gRPC resolver in Go (package `naming/endpoints`): `<service>/<id>` contains a JSON
//! record, byte for byte as Go's `encoding/json` writes it.
//!
//! ```text
//! {"Op":0,"Addr":"10.0.0.1:8080","Metadata":null}
//! ```
//!
//! By convention the id is the address, but readers accept any id. `Metadata` is an object of the instance's
//! metadata, or `null` without any, as a Go publisher writes it. The rest is in a [side record](super::side).

use super::error::DecodeError;
use super::go_json;
use super::public::PublicForm;
use registry_core::encoding::MAX_RECORD_LEN;
use registry_core::{Address, Instance, InstanceId, Result, ServiceName};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug)]
pub(super) struct Grpc;

impl PublicForm for Grpc {
    const NAME: &'static str = "grpc";

    fn encode(instance: &Instance) -> Result<Vec<u8>> {
        let metadata = Some(instance.metadata()).filter(|metadata| !metadata.is_empty());
        Ok(go_json::encode(&Endpoint { op: ADD, addr: instance.address(), metadata }))
    }

    fn decode(
        service: &ServiceName,
        id: &InstanceId,
        value: &[u8],
    ) -> Result<Option<Instance>, DecodeError> {
        if value.len() > MAX_RECORD_LEN {
            return Err(DecodeError::TooLarge(value.len()));
        }
        // Go also replaces invalid UTF-8.
        let text = String::from_utf8_lossy(value);
        let decoded: Decoded<'_> = serde_json::from_str(&text)?;
        match decoded.op {
            ADD => {
                let address = Address::read(&decoded.addr);
                let address = address.ok_or_else(|| DecodeError::Address(decoded.addr.clone()))?;
                let plain = Instance::from_parts(service.clone(), id.clone(), address);
                Ok(Some(with_metadata(plain, decoded.metadata)))
            }
            DELETE => Ok(None),
            other => Err(DecodeError::Operation(other)),
        }
    }
}

/// The fields in the order of Go's struct.
#[derive(Serialize)]
struct Endpoint<'a> {
    #[serde(rename = "Op")]
    op: u8,
    #[serde(rename = "Addr")]
    addr: &'a Address,
    #[serde(rename = "Metadata")]
    metadata: Option<&'a BTreeMap<String, String>>,
}

/// etcd's `naming/endpoints.Operation`.
const ADD: u8 = 0;
const DELETE: u8 = 1;

/// Uses an object of strings as metadata. Other values have a meaning only to the Go program that wrote them.
fn with_metadata(plain: Instance, metadata: Option<&RawValue>) -> Instance {
    let Some(metadata) = metadata else { return plain };
    let strings: Option<BTreeMap<String, String>> = serde_json::from_str(metadata.get()).ok();
    match strings {
        Some(strings) => plain.with_metadata(strings),
        None => plain,
    }
}

/// An object as Go's decoder reads it: case-insensitive names, the last duplicate wins, `null` leaves a field unset.
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
