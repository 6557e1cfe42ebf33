//! Whether the events of a key follow on each other.
//!
//! Some releases of etcd lose events in silence: a slow watcher in a compaction (issue 17529, before
//! 3.4.31 and 3.5.13), a deletion at the revision of one (18089, 19179). Every key has a version, which
//! is 1 when it is created and counts its changes, so that a hole shows when the key is heard of next.

use crate::error::EtcdError;
use etcd_client::{EventType, KeyValue};
use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;

/// The versions of the keys that a watch has heard of and that stand, by a hash of the key.
#[derive(Debug, Default)]
pub(super) struct KeyVersions {
    versions: HashMap<u64, i64>,
    hasher: RandomState,
}

impl KeyVersions {
    /// Takes in an event.
    ///
    /// # Errors
    ///
    /// [`EtcdError::MissingEvents`] if others were lost before it.
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
        assert!(take(&mut versions, EventType::Put, "a", 1), "created anew");
        assert!(take(&mut versions, EventType::Delete, "c", 0), "of a key that was never heard of");
        assert_eq!(versions.versions.len(), 2, "what is gone takes no room");
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
