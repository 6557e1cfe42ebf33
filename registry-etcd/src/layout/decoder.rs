//! Decodes the events of a watch into changes.

use super::pairs::Pairs;
use super::service::{Kv, ServiceLayout};
use etcd_client::{EventType, KeyValue};
use registry_core::encoding::Stored;
use registry_core::{BoxError, Change, DeleteReason, Deleted, InstanceId, printable};
use std::collections::HashSet;

/// Decodes the events of a watch, revision by revision.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    /// Whether an undecodable key was logged.
    warned: bool,
}

#[derive(Debug)]
enum State {
    /// Each event is decoded on its own.
    Single(Singles),
    /// An event is decoded together with the other key of its instance.
    Pairs(Pairs),
    /// An event only shows that its instance changed: the reader then reads both keys again.
    Undecoded(ServiceLayout),
}

/// The keys of a layout without side keys.
#[derive(Debug)]
struct Singles {
    service: ServiceLayout,
    /// The instances with a withdrawn record whose keys still exist.
    withdrawn: HashSet<InstanceId>,
}

impl Decoder {
    /// Starts from the existing keys. Pass all keys of the service, unless the layout has no side keys and no
    /// record is withdrawn.
    pub(crate) fn new<'a>(service: ServiceLayout, existing: impl Iterator<Item = Kv<'a>>) -> Self {
        let mut warned = false;
        let state = if service.has_side_keys() {
            let pairs = Pairs::new(service, existing, |key, why| warn_once(&mut warned, key, &why));
            State::Pairs(pairs)
        } else {
            State::Single(Singles::new(service, existing))
        };
        Self { state, warned }
    }

    /// Returns a decoder for an own-record watch. It decodes nothing, and reports each event of an instance's keys,
    /// also a put, as a deletion: the watch then reads both keys again.
    pub(crate) fn undecoded(service: ServiceLayout) -> Self {
        Self { state: State::Undecoded(service), warned: false }
    }

    /// Returns the changes of one revision, at most one per instance.
    pub(crate) fn changes(&mut self, events: &[(EventType, &KeyValue)]) -> Vec<Change> {
        self.apply(events.iter().map(|(kind, kv)| (*kind, Kv::from(*kv))))
    }

    /// Returns whether a key has a withdrawn record, in a layout without side keys. A watch that resumes from
    /// here must know these keys.
    pub(crate) fn has_withdrawn(&self) -> bool {
        matches!(&self.state, State::Single(singles) if !singles.withdrawn.is_empty())
    }

    pub(super) fn apply<'a>(
        &mut self,
        events: impl Iterator<Item = (EventType, Kv<'a>)>,
    ) -> Vec<Change> {
        let warned = &mut self.warned;
        let mut report = |key: &[u8], why: BoxError| warn_once(warned, key, &why);
        match &mut self.state {
            State::Pairs(pairs) => pairs.apply(events, report),
            State::Single(singles) => {
                let changes = events.filter_map(|(kind, kv)| singles.change(kind, kv, &mut report));
                last_of_each(changes.collect())
            }
            State::Undecoded(service) => {
                let located =
                    events.filter_map(|(_, kv)| service.locate(kv.key, kv.value).ok().flatten());
                last_of_each(located.map(|(_, id)| Change::Delete(Deleted::new(id))).collect())
            }
        }
    }
}

/// Keeps only the last change of each instance. A transaction changes a key once, but a server may violate that.
fn last_of_each(mut changes: Vec<Change>) -> Vec<Change> {
    if changes.len() > 1 {
        let mut seen = HashSet::with_capacity(changes.len());
        changes.reverse();
        changes.retain(|change| seen.insert(change.id().clone()));
        changes.reverse();
    }
    changes
}

impl Singles {
    fn new<'a>(service: ServiceLayout, existing: impl Iterator<Item = Kv<'a>>) -> Self {
        let withdrawn = existing.filter_map(|kv| {
            let (_, id) = service.locate(kv.key, kv.value).ok()??;
            let stored = service.decode(&id, Some(kv), None);
            matches!(stored, Ok(Some(Stored::Withdrawn(_)))).then_some(id)
        });
        let withdrawn = withdrawn.collect();
        Self { service, withdrawn }
    }

    /// Returns the change of an event, if its key belongs to an instance.
    fn change(
        &mut self,
        kind: EventType,
        kv: Kv<'_>,
        report: &mut impl FnMut(&[u8], BoxError),
    ) -> Option<Change> {
        let id = match self.service.locate(kv.key, kv.value) {
            Ok(located) => located?.1,
            Err(why) => {
                if kind == EventType::Put {
                    report(kv.key, why);
                }
                return None;
            }
        };
        let was_withdrawn = self.withdrawn.remove(&id);
        let stored = match kind {
            EventType::Put => self.service.decode(&id, Some(kv), None),
            EventType::Delete => Ok(None),
        };
        let reason = match stored {
            Ok(Some(Stored::Live(record))) => return Some(Change::Put(record)),
            Ok(Some(Stored::Withdrawn(_))) => {
                self.withdrawn.insert(id.clone());
                Some(DeleteReason::Withdrawn)
            }
            Ok(None) => None,
            // Overwriting a valid record with an invalid one counts as a delete.
            Err(why) => {
                report(kv.key, why);
                None
            }
        };
        let deleted = Deleted::new(id);
        (!was_withdrawn).then(|| match reason {
            Some(reason) => Change::Delete(deleted.with_reason(reason)),
            None => Change::Delete(deleted),
        })
    }
}

fn warn_once(warned: &mut bool, key: &[u8], why: &BoxError) {
    if !std::mem::replace(warned, true) {
        let (key, why) = (key.escape_ascii(), why.to_string());
        tracing::warn!(
            %key, why = %printable(&why),
            "skipped a key that cannot be decoded; others in this watch are not logged"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::builtin;
    use crate::layout::keyspace::Keyspace;
    use crate::layout::reading::Reading;
    use registry_core::printable;
    use registry_testbed::Warnings;

    /// Undecodable values that try to control a terminal or forge a log line.
    const HOSTILE: [&str; 3] = [
        "\u{1b}[2J\nWARN forged\u{202e}",
        "{\"address\":\"\\n\\u001b[2J\u{202e}\"}",
        "{\"Addr\":\"\u{9b}\u{200b}\\n\",\"endpoints\":[\"\\n\u{202e}\"],\"status\":\"\\n\"}",
    ];

    /// Layouts, the prefixes of their keys, and values.
    fn cases() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        let layouts = [("native", "registry/"), ("go-zero", ""), ("grpc", "")];
        layouts.into_iter().flat_map(|(layout, root)| HOSTILE.map(|value| (layout, root, value)))
    }

    fn service(layout: &str) -> ServiceLayout {
        let target = format!("etcd://h?layout={layout}").parse().unwrap();
        let keyspace = Keyspace::new(builtin::from_target(&target).unwrap());
        keyspace.service(&"user.rpc".parse().unwrap()).unwrap()
    }

    /// Regression: each of 100,000 undecodable keys caused a log line with text chosen by its writer.
    #[test]
    fn undecodable_keys_are_logged_once_per_watch_and_cannot_forge_a_log_line() {
        for (layout, root, value) in cases() {
            let warnings = Warnings::capture();
            let mut decoder = Decoder::new(service(layout), [].into_iter());
            for n in 1..1_000_u64 {
                let key = format!("{root}user.rpc/{n}");
                let kv = Kv { key: key.as_bytes(), value: value.as_bytes(), lease: 9, modified: n };
                decoder.apply([(EventType::Put, kv)].into_iter());
            }
            let lines = warnings.lines();
            assert_eq!(lines.len(), 1, "{layout}: {lines:?}");
            assert_eq!(printable(&lines[0]), lines[0], "{layout}");
        }
    }

    #[test]
    fn load_returns_one_printable_example_of_the_undecodable_keys() {
        for (layout, root, value) in cases() {
            let keys: Vec<_> = (0..1_000).map(|n| format!("{root}user.rpc/{n}")).collect();
            let kvs = keys.iter().map(|key| Kv {
                key: key.as_bytes(),
                value: value.as_bytes(),
                lease: 9,
                modified: 3,
            });
            let reading = Reading::of(&service(layout), kvs);
            assert_eq!(reading.undecodable, 1_000, "{layout}");
            let (key, why) = reading.example.unwrap();
            assert_eq!((&*printable(&key), &*printable(&why)), (&*key, &*why), "{layout}");
        }
    }
}
