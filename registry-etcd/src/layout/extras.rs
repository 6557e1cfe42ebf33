//! What an instance says beside its address, for layouts whose values are no records of ours.

use super::error::DecodeError;
use registry_core::{DEFAULT_WEIGHT, Instance, InstanceStatus};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The form written, and the only one read.
const VERSION: u32 = 1;

/// Weight, status and metadata, versioned. In JSON its fields are sorted, as a map's in Go are.
///
/// A reader ignores fields it does not know, and takes a missing or `null` one as the default.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Extras {
    metadata: Option<BTreeMap<String, String>>,
    status: Option<InstanceStatus>,
    v: u32,
    weight: Option<u32>,
}

impl Extras {
    /// What `instance` says, unless that is what is taken for granted.
    pub(super) fn of(instance: &Instance) -> Option<Self> {
        let (weight, status) = (instance.weight(), instance.status());
        let metadata = instance.metadata();
        if weight == DEFAULT_WEIGHT && status == InstanceStatus::default() && metadata.is_empty() {
            return None;
        }
        let (metadata, v) = (Some(metadata.clone()), VERSION);
        Some(Self { metadata, status: Some(status), v, weight: Some(weight) })
    }

    /// No spaces, and escapes only where JSON wants them.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|error| unreachable!("text maps serialize: {error}"))
    }

    pub(super) fn from_json(json: &[u8]) -> Result<Self, DecodeError> {
        /// A newer form may have changed all else, so its version is the better explanation.
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        match serde_json::from_slice(json) {
            Ok(Version { v: VERSION }) => Ok(serde_json::from_slice(json)?),
            Ok(Version { v }) => Err(DecodeError::Version(v)),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets it on `instance`, which has only an address.
    pub(super) fn apply_to(self, instance: Instance) -> Result<Instance, DecodeError> {
        let instance = instance
            .with_weight(self.weight.unwrap_or(DEFAULT_WEIGHT))
            .with_status(self.status.unwrap_or_default());
        match self.metadata {
            Some(metadata) => Ok(instance.with_metadata(metadata)?),
            None => Ok(instance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Instance {
        Instance::new("a".parse().unwrap(), "1".parse().unwrap(), "h:1".parse().unwrap())
    }

    #[test]
    fn extras_have_stable_bytes() {
        assert!(Extras::of(&plain()).is_none());
        let heavy = plain().with_weight(200).with_status(InstanceStatus::Draining);
        let full = heavy.with_metadata([("zone", "eu-1"), ("a<", "\"b\"")]).unwrap();
        let json = Extras::of(&full).unwrap().to_json();
        let golden =
            r#"{"metadata":{"a<":"\"b\"","zone":"eu-1"},"status":"draining","v":1,"weight":200}"#;
        assert_eq!(json, golden);
        assert_eq!(Extras::from_json(json.as_bytes()).unwrap().apply_to(plain()).unwrap(), full);
        let light = Extras::of(&plain().with_weight(0)).unwrap().to_json();
        assert_eq!(light, r#"{"metadata":{},"status":"up","v":1,"weight":0}"#);
    }

    #[test]
    fn unknown_missing_and_null_fields_are_tolerated() {
        for json in [r#"{"v":1}"#, r#"{"weight":null,"v":1,"zone":[1],"metadata":null}"#] {
            let read = Extras::from_json(json.as_bytes()).unwrap().apply_to(plain()).unwrap();
            assert_eq!(read, plain(), "{json}");
        }
    }

    #[test]
    fn other_versions_and_malformed_extras_are_refused() {
        for json in [r#"{"v":2,"weight":{}}"#, r#"{"v":0}"#] {
            assert!(matches!(Extras::from_json(json.as_bytes()), Err(DecodeError::Version(_))));
        }
        for json in ["", "{", "[]", "{}", "1", r#"{"v":1,"weight":-1}"#, r#"{"v":1,"status":"x"}"#]
        {
            let refused = Extras::from_json(json.as_bytes());
            assert!(matches!(refused, Err(DecodeError::Malformed(_))), "{json}");
        }
    }
}
