//! The layout of Kitex' etcd registry: `<prefix>/<service>/<id>` contains a JSON record, byte for byte as
//! Go's `encoding/json` writes it.
//!
//! ```text
//! {"network":"tcp","address":"10.0.0.1:8888","weight":10,"tags":null}
//! ```
//!
//! Kitex uses the address as id when it registers, but reads any id. `tags` is the metadata. A Kitex weight
//! is a tenth of an instance's weight, rounded up, so that both defaults are equivalent.

use super::error::DecodeError;
use super::go_json;
use super::public::PublicForm;
use registry_core::{
    Address, DEFAULT_WEIGHT, Error, ErrorKind, Instance, InstanceId, Result, ServiceName,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Kitex' default weight.
const KITEX_DEFAULT_WEIGHT: u32 = 10;
const WEIGHT_UNIT: u32 = DEFAULT_WEIGHT / KITEX_DEFAULT_WEIGHT;

#[derive(Debug)]
pub(super) struct Kitex;

/// The fields in the order of Go's struct.
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

    /// The path is Kitex' prefix, byte for byte.
    fn root(path: &str) -> String {
        let prefix = if path.is_empty() { "kitex/registry-etcd" } else { path };
        format!("{prefix}/")
    }

    /// Kitex callers would treat the instances of `a/b` as instances of `a`.
    fn check(service: &ServiceName) -> Result<()> {
        if service.as_str().contains('/') {
            let message =
                format!("a service name in the kitex layout must not contain `/`, got=`{service}`");
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
        // As in Kitex, a weight that is not positive means the default.
        let weight = match u32::try_from(info.weight.max(0)) {
            Ok(0) => DEFAULT_WEIGHT,
            Ok(weight) => weight.saturating_mul(WEIGHT_UNIT),
            Err(_) => u32::MAX,
        };
        let plain = Instance::from_parts(service.clone(), id.clone(), address).with_weight(weight);
        Ok(Some(plain.with_metadata(info.tags.unwrap_or_default())))
    }
}

/// Parses an address. Kitex omits the brackets of IPv6 addresses.
fn address(text: &str) -> Option<Address> {
    let address = Address::read(text)?;
    if !address.host().contains(':') || text.starts_with('[') {
        return Some(address);
    }
    Address::read(&format!("[{}]:{}", address.host(), address.port()))
}

/// Returns whether `value` is a Kitex record.
pub(super) fn is_record(value: &[u8]) -> bool {
    go_json::decode(value)
        .is_ok_and(|info: Info| !info.network.is_empty() && address(&info.address).is_some())
}

#[cfg(test)]
mod tests;
