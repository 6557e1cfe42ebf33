//! The layout of Kratos' etcd registry: `<namespace>/<name>/<id>` contains a JSON record, byte for byte as
//! Go's `encoding/json` writes it.
//!
//! ```text
//! {"id":"u-1","name":"user","version":"v1.0.0","metadata":null,"endpoints":["grpc://10.0.0.1:9000"]}
//! ```
//!
//! Kratos does not escape names, so an instance belongs to the service in `name`, not the one in the key. The
//! first `grpc` endpoint, or else the first endpoint, is the address. Each endpoint on that host is a port
//! named by its scheme. `version` is the label `version`. As in Kratos, the weight is the metadata entry
//! `weight`, and 100 without one.

use super::error::DecodeError;
use super::go_json;
use super::public::PublicForm;
use registry_core::{
    Address, DEFAULT_WEIGHT, Instance, InstanceId, InstanceStatus, Result, ServiceName,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The scheme of the endpoint that becomes the address.
const GRPC: &str = "grpc";
/// The label and the metadata entry that have a meaning in Kratos.
const VERSION: &str = "version";
const WEIGHT: &str = "weight";

/// The address of an instance without an endpoint. It is not available, so nothing dials it. No host can have
/// this name (RFC 6761).
const NO_ENDPOINT: &str = "no-endpoint.invalid:1";

#[derive(Debug)]
pub(super) struct Kratos;

/// A Kratos record, with its fields in the order of Go's struct.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Service {
    id: String,
    name: String,
    version: String,
    metadata: Option<BTreeMap<String, String>>,
    endpoints: Option<Vec<String>>,
}

impl PublicForm for Kratos {
    const NAME: &'static str = "kratos";

    /// The path is Kratos' namespace, byte for byte.
    fn root(path: &str) -> String {
        let namespace = if path.is_empty() { "/microservices" } else { path };
        format!("{namespace}/")
    }

    fn encode(instance: &Instance) -> Result<Vec<u8>> {
        let mut metadata = instance.metadata().clone();
        let weight = instance.weight();
        if weight != DEFAULT_WEIGHT || metadata.contains_key(WEIGHT) {
            metadata.insert(WEIGHT.to_owned(), weight.to_string());
        }
        let address = instance.address();
        let host = address.as_str().rsplit_once(':').map_or("", |(host, _)| host);
        let ports = instance.ports().iter().filter(|(name, _)| *name != GRPC && is_scheme(name));
        let ports = ports.map(|(name, port)| format!("{name}://{host}:{}", port.number()));
        Ok(go_json::encode(&Service {
            id: instance.id().to_string(),
            name: instance.service().to_string(),
            version: instance.labels().get(VERSION).cloned().unwrap_or_default(),
            metadata: (!metadata.is_empty()).then_some(metadata),
            endpoints: Some([format!("{GRPC}://{address}")].into_iter().chain(ports).collect()),
        }))
    }

    fn decode(
        service: &ServiceName,
        id: &InstanceId,
        value: &[u8],
    ) -> Result<Option<Instance>, DecodeError> {
        let stored: Service = go_json::decode(value)?;
        if stored.name != service.as_str() {
            return Ok(None);
        }
        let endpoints = stored.endpoints.unwrap_or_default();
        let readable: Vec<_> = endpoints.iter().filter_map(|url| endpoint(url)).collect();
        let named =
            readable.iter().find(|(scheme, _)| *scheme == GRPC).or_else(|| readable.first());
        let plain = |address| Instance::from_parts(service.clone(), id.clone(), address);
        let mut instance = match (named, endpoints.first()) {
            (Some((_, address)), _) => plain(address.clone()),
            (None, Some(first)) => return Err(DecodeError::Address(first.clone())),
            (None, None) => {
                let nowhere = Address::read(NO_ENDPOINT);
                let nowhere = nowhere.ok_or_else(|| DecodeError::Address(NO_ENDPOINT.into()))?;
                plain(nowhere).with_status(InstanceStatus::Unknown)
            }
        };
        // As in Kratos, the first endpoint of a scheme wins.
        for (scheme, address) in readable.into_iter().rev() {
            if address.host() == instance.address().host() {
                instance = instance.with_port(scheme, address.port());
            }
        }
        if !stored.version.is_empty() {
            instance = instance.with_label(VERSION, stored.version);
        }
        let metadata = stored.metadata.unwrap_or_default();
        if let Some(weight) = metadata.get(WEIGHT).and_then(|weight| weight.parse().ok()) {
            instance = instance.with_weight(weight);
        }
        Ok(Some(instance.with_metadata(metadata)))
    }

    /// Reports an id with a `/`. Such a key looks like one of another service whose name starts with this one's.
    fn stray(service: &ServiceName, value: &[u8]) -> Option<DecodeError> {
        let stored: Service = go_json::decode(value).ok()?;
        (stored.name == service.as_str()).then_some(DecodeError::Id(stored.id))
    }
}

/// Returns the scheme and the address of an endpoint.
fn endpoint(url: &str) -> Option<(&str, Address)> {
    let (scheme, rest) = url.split_once("://")?;
    let address = rest.split(['/', '?', '#']).next()?;
    Some((scheme, Address::read(address)?))
}

/// Returns whether `name` is a valid URL scheme. Go programs skip an instance with an endpoint that is no URL.
fn is_scheme(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|char| char.is_ascii_alphanumeric() || "+-.".contains(char))
}

/// Returns whether `value` is a Kratos record that matches its `key`.
pub(super) fn is_record(key: &[u8], value: &[u8]) -> bool {
    go_json::decode(value).is_ok_and(|Service { id, name, .. }| {
        !name.is_empty() && key.ends_with(format!("/{name}/{id}").as_bytes())
    })
}

#[cfg(test)]
mod tests;
