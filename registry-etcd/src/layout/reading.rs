//! What the keys of a service say, as they are at one revision.

use super::pairs::Pairs;
use super::service::{Kv, ServiceLayout};
use registry_core::{BoxError, Instance};

/// What was read from some keys of a service.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) instances: Vec<Instance>,
    /// How many keys cannot be decoded.
    pub(crate) undecodable: usize,
    /// One of these keys and what is wrong with it, printable.
    pub(crate) example: Option<(String, String)>,
}

impl Reading {
    /// Decodes keys, all of the service if [that is needed](ServiceLayout::has_side_keys).
    pub(crate) fn of<'a>(service: &ServiceLayout, kvs: impl Iterator<Item = Kv<'a>>) -> Self {
        let (mut undecodable, mut example) = (0, None);
        let instances = decode_all(service, kvs, |key, why| {
            undecodable += 1;
            example = Some((key.escape_ascii().to_string(), why.to_string()));
        });
        Self { instances, undecodable, example }
    }

    /// Adds what was read from other keys.
    pub(crate) fn merge(&mut self, mut others: Self) {
        self.instances.append(&mut others.instances);
        self.undecodable += others.undecodable;
        self.example = others.example.or_else(|| self.example.take());
    }
}

/// The instances that keys describe. Keys that cannot be decoded are passed to `report`.
pub(crate) fn decode_all<'a>(
    service: &ServiceLayout,
    kvs: impl Iterator<Item = Kv<'a>>,
    mut report: impl FnMut(&[u8], BoxError),
) -> Vec<Instance> {
    if service.has_side_keys() {
        return Pairs::new(service.clone(), kvs, &mut report).instances(report);
    }
    let mut instances = Vec::new();
    for Kv { key, value, .. } in kvs {
        let decoded = match service.locate(key) {
            Ok(Some((_, id))) => service.decode(&id, value, None),
            Ok(None) => Ok(None),
            Err(why) => Err(why),
        };
        match decoded {
            Ok(instance) => instances.extend(instance),
            Err(why) => report(key, why),
        }
    }
    instances
}
