//! The records of a service, decoded from its keys at one revision.

use super::pairs::Pairs;
use super::service::{Kv, ServiceLayout};
use registry_core::encoding::Stored;
use registry_core::{BoxError, Record, printable};

/// The result of decoding keys of a service.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) records: Vec<Record>,
    /// Whether a key has a withdrawn record, in a layout without side keys.
    pub(crate) has_withdrawn: bool,
    /// The number of keys that cannot be decoded.
    pub(crate) undecodable: usize,
    /// One of these keys and why it cannot be decoded, printable.
    pub(crate) example: Option<(String, String)>,
}

impl Reading {
    /// Decodes keys. They must be all keys of the service if [it has side keys](ServiceLayout::has_side_keys).
    pub(crate) fn of<'a>(service: &ServiceLayout, kvs: impl Iterator<Item = Kv<'a>>) -> Self {
        let (mut undecodable, mut example) = (0, None);
        let (records, has_withdrawn) = decode_all(service, kvs, |key, why| {
            undecodable += 1;
            example =
                Some((key.escape_ascii().to_string(), printable(&why.to_string()).into_owned()));
        });
        Self { records, has_withdrawn, undecodable, example }
    }

    /// Adds the result for other keys.
    pub(crate) fn merge(&mut self, mut others: Self) {
        self.records.append(&mut others.records);
        self.has_withdrawn |= others.has_withdrawn;
        self.undecodable += others.undecodable;
        self.example = others.example.or_else(|| self.example.take());
    }
}

/// Decodes records, and returns also whether one of them is withdrawn in a layout without side keys.
/// Undecodable keys are passed to `report`.
pub(crate) fn decode_all<'a>(
    service: &ServiceLayout,
    kvs: impl Iterator<Item = Kv<'a>>,
    mut report: impl FnMut(&[u8], BoxError),
) -> (Vec<Record>, bool) {
    if service.has_side_keys() {
        return (Pairs::new(service.clone(), kvs, &mut report).records(report), false);
    }
    let (mut records, mut has_withdrawn) = (Vec::new(), false);
    for kv in kvs {
        let decoded = match service.locate(kv.key, kv.value) {
            Ok(Some((_, id))) => service.decode(&id, Some(kv), None),
            Ok(None) => Ok(None),
            Err(why) => Err(why),
        };
        match decoded {
            Ok(Some(Stored::Live(record))) => records.push(record),
            Ok(Some(Stored::Withdrawn(_))) => has_withdrawn = true,
            Ok(None) => {}
            Err(why) => report(kv.key, why),
        }
    }
    (records, has_withdrawn)
}
