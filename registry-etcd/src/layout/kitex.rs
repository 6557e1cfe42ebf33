//! The layout of Kitex' registry on etcd: `<prefix>/<service>/<id>` holds a JSON record, written byte for byte as Go's
//! `encoding/json` writes it.
//!
//! ```text
//! {"network":"tcp","address":"10.0.0.1:8888","weight":10,"tags":null}
//! ```
//!
//! The id is the address where Kitex registers, and any text to its readers. `tags` is the metadata. A weight of Kitex is a
//! tenth of that of an instance, rounded up, so that both defaults mean the same.

use super::error::DecodeError;
use super::go_json;
use super::public::PublicForm;
use registry_core::{
    Address, DEFAULT_WEIGHT, Error, ErrorKind, Instance, InstanceId, Result, ServiceName,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The weight of an instance that Kitex gives none.
const KITEX_DEFAULT_WEIGHT: u32 = 10;
const WEIGHT_UNIT: u32 = DEFAULT_WEIGHT / KITEX_DEFAULT_WEIGHT;

#[derive(Debug)]
pub(super) struct Kitex;

/// In the order of Go's struct.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Info {
    network: String,
    address: String,
    weight: i64,
    tags: Option<BTreeMap<String, String>>,
}

impl PublicForm for Kitex {
    const NAME: &'static str = "kitex";

    /// The path is Kitex' prefix, to the byte.
    fn root(path: &str) -> String {
        let prefix = if path.is_empty() { "kitex/registry-etcd" } else { path };
        format!("{prefix}/")
    }

    /// Callers of Kitex would take the instances of `a/b` for some of `a`.
    fn check(service: &ServiceName) -> Result<()> {
        if service.as_str().contains('/') {
            let message = format!("in the kitex layout no service has a `/`, got=`{service}`");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(())
    }

    fn encode(instance: &Instance) -> Result<Vec<u8>> {
        let metadata = instance.metadata();
        Ok(go_json::encode(&Info {
            network: "tcp".to_owned(),
            address: instance.address().to_string(),
            weight: instance.weight().div_ceil(WEIGHT_UNIT).into(),
            tags: (!metadata.is_empty()).then(|| metadata.clone()),
        }))
    }

    fn decode(
        service: &ServiceName,
        id: &InstanceId,
        value: &[u8],
    ) -> Result<Option<Instance>, DecodeError> {
        let info: Info = go_json::decode(value)?;
        let address = address(&info.address).ok_or(DecodeError::Address(info.address))?;
        // None that is positive is the default, as in Kitex.
        let weight = match u32::try_from(info.weight.max(0)) {
            Ok(0) => DEFAULT_WEIGHT,
            Ok(weight) => weight.saturating_mul(WEIGHT_UNIT),
            Err(_) => u32::MAX,
        };
        let plain = Instance::from_parts(service.clone(), id.clone(), address).with_weight(weight);
        Ok(Some(plain.with_metadata(info.tags.unwrap_or_default())))
    }
}

/// Reads an address. Kitex leaves out the brackets of IPv6.
fn address(text: &str) -> Option<Address> {
    let address = Address::read(text)?;
    if !address.host().contains(':') || text.starts_with('[') {
        return Some(address);
    }
    Address::read(&format!("[{}]:{}", address.host(), address.port()))
}

/// Whether `value` is a record of Kitex.
pub(super) fn is_record(value: &[u8]) -> bool {
    go_json::decode(value)
        .is_ok_and(|info: Info| !info.network.is_empty() && address(&info.address).is_some())
}

#[cfg(test)]
mod tests;
