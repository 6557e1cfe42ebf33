//! Detects missing events by the versions of keys.
//!
//! Some releases of etcd lose events silently: for a slow watcher during a compaction (issue 17529, fixed in
//! 3.4.31 and 3.5.13), or a deletion at the compacted revision (18089, 19179). The version of a key starts at
//! 1 and counts its changes, so the next event of the key reveals a gap.

use crate::error::EtcdError;
use etcd_client::{EventType, KeyValue};
use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;

/// The last known versions of existing keys, by a hash of the key.
#[derive(Debug, Default)]
pub(super) struct KeyVersions {
    versions: HashMap<u64, i64>,
    hasher: RandomState,
}

impl KeyVersions {
    /// Checks and records an event.
    ///
    /// # Errors
    ///
    /// [`EtcdError::MissingEvents`] if events of the key are missing before it.
    pub(super) fn advance(&mut self, kind: EventType, kv: &KeyValue) -> Result<(), EtcdError> {
        let entry = self.versions.entry(self.hasher.hash_one(kv.key()));
        match (kind, entry) {
            (EventType::Delete, Entry::Occupied(known)) => drop(known.remove()),
            (EventType::Delete, Entry::Vacant(_)) => {}
            (EventType::Put, Entry::Vacant(unknown)) => drop(unknown.insert(kv.version())),
            (EventType::Put, Entry::Occupied(mut known)) => {
                let (before, now) = (known.insert(kv.version()), kv.version());
                if Some(now) != before.checked_add(1) {
                    let key = kv.key().escape_ascii().to_string();
                    return Err(EtcdError::MissingEvents(format!(
                        "events are missing, key=`{key}`, version=`{now}`, before=`{before}`"
                    )));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_client::proto::PbKeyValue;

    fn take(versions: &mut KeyVersions, kind: EventType, key: &str, version: i64) -> bool {
        let kv = PbKeyValue { key: key.into(), version, ..PbKeyValue::default() };
        versions.advance(kind, &KeyValue(kv)).is_ok()
    }

    #[test]
    fn consecutive_versions_are_accepted() {
        let mut versions = KeyVersions::default();
        for (key, version) in [("a", 7), ("b", 1), ("a", 8), ("b", 2), ("a", 9)] {
            assert!(take(&mut versions, EventType::Put, key, version), "{key} {version}");
        }
        assert!(take(&mut versions, EventType::Delete, "a", 0));
        assert!(take(&mut versions, EventType::Put, "a", 1), "created again");
        assert!(take(&mut versions, EventType::Delete, "c", 0), "an unknown key");
        assert_eq!(versions.versions.len(), 2, "deleted keys are removed");
    }

    #[test]
    fn skipped_or_repeated_version_is_missing_events() {
        for version in [1, 3, 5] {
            let mut versions = KeyVersions::default();
            assert!(take(&mut versions, EventType::Put, "a", 3));
            assert!(!take(&mut versions, EventType::Put, "a", version), "{version} after 3");
        }
    }
}
