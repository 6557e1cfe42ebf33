//! A survey of all keys under a layout's root: instances, undecodable keys, and records in other layouts.

use crate::layout::builtin;
use crate::layout::keyspace::Keyspace;
use crate::layout::reading::decode_all;
use crate::layout::service::Kv;
use etcd_client::KeyValue;
use registry_core::ServiceName;
use std::collections::{BTreeSet, HashSet};

/// The keys read so far.
pub(super) struct Survey<'a> {
    keyspace: &'a Keyspace,
    /// In key order.
    kvs: Vec<KeyValue>,
}

/// The result of a survey. Keys are printable.
#[derive(Debug, Default)]
pub(super) struct Surveyed {
    pub(super) services: usize,
    pub(super) instances: usize,
    /// Undecodable keys of services, and why they cannot be decoded.
    pub(super) undecodable: Vec<(String, String)>,
    /// Keys of services without a lease.
    pub(super) leaseless: Vec<String>,
    /// Keys that are no instances in this layout, but records in another built-in layout.
    pub(super) foreign: Vec<ForeignRecord>,
}

/// A record in a built-in layout other than the layout of the URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ForeignRecord {
    pub(super) key: String,
    pub(super) layout: &'static str,
}

impl<'a> Survey<'a> {
    pub(super) fn new(keyspace: &'a Keyspace) -> Self {
        Self { keyspace, kvs: Vec::new() }
    }

    /// Adds keys under the root, in key order after those already added.
    pub(super) fn add(&mut self, mut kvs: Vec<KeyValue>) {
        self.kvs.append(&mut kvs);
    }

    pub(super) fn finish(self) -> Surveyed {
        let layout = self.keyspace.layout();
        let services: BTreeSet<_> =
            self.kvs.iter().filter_map(|kv| layout.service_of(kv.key())).collect();
        let (mut surveyed, mut own) = (Surveyed::default(), HashSet::new());
        for service in &services {
            self.add_service(service, &mut surveyed, &mut own);
        }
        let foreign = self.kvs.iter().filter(|kv| !own.contains(kv.key()));
        let foreign = foreign.filter_map(ForeignRecord::detect);
        surveyed.foreign = foreign.filter(|record| record.layout != layout.name()).collect();
        surveyed
    }

    /// Adds a service to the result, and its decodable keys to `own`.
    fn add_service<'b>(
        &'b self,
        service: &ServiceName,
        surveyed: &mut Surveyed,
        own: &mut HashSet<&'b [u8]>,
    ) {
        let Ok(service) = self.keyspace.service(service) else { return };
        let start = self.kvs.partition_point(|kv| kv.key() < service.start());
        let len = self.kvs[start..].partition_point(|kv| kv.key() < service.end());
        // In a shared root, a key in the range may belong to another program.
        let keys = self.kvs[start..start + len].iter();
        let keys: Vec<_> = keys
            .filter(|kv| {
                service.locate(kv.key(), kv.value()).is_ok_and(|located| located.is_some())
            })
            .collect();
        let (mut undecodable, mut reasons) = (HashSet::new(), Vec::new());
        let kvs = keys.iter().map(|kv| Kv::from(*kv));
        let (records, _) = decode_all(&service, kvs, |key, why| {
            reasons.push((printable(key), why.to_string())); // the finding makes this printable
            undecodable.insert(key.to_vec());
        });
        if records.is_empty() && self.keyspace.layout().shares_root() {
            return; // these keys may belong to another program
        }
        surveyed.undecodable.append(&mut reasons);
        own.extend(keys.iter().map(|kv| kv.key()).filter(|key| !undecodable.contains(*key)));
        surveyed.services += usize::from(!records.is_empty());
        surveyed.instances += records.len();
        let leaseless = keys.iter().filter(|kv| kv.lease() == 0).map(|kv| printable(kv.key()));
        surveyed.leaseless.extend(leaseless);
    }
}

impl ForeignRecord {
    /// Returns `kv` as a record of a built-in layout, if it is one.
    pub(super) fn detect(kv: &KeyValue) -> Option<Self> {
        let layout = builtin::detect(kv.key(), kv.value())?;
        Some(Self { key: printable(kv.key()), layout })
    }
}

fn printable(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}
