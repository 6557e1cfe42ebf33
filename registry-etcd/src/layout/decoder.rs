//! What events mean to a service.

use super::go_zero::Pairs;
use super::{ServiceKeys, Skipped, Standing};
use etcd_client::{EventType, KeyValue};
use registry_core::Change;
use std::fmt;

/// Turns the events of a watch, revision by revision, into changes.
#[derive(Debug)]
pub(crate) struct Decoder {
    keys: ServiceKeys,
    /// What stands, in a layout that needs it.
    pairs: Option<Pairs>,
    /// Whether a value that cannot be decoded was reported.
    warned: bool,
}

impl Decoder {
    /// Goes on from the keys that stand in the range; none need be told unless
    /// [`needs_state`](ServiceKeys::needs_state).
    pub(crate) fn new(keys: ServiceKeys, standing: &[KeyValue]) -> Self {
        Self::from_standing(keys, standing.iter().map(Standing::from))
    }

    pub(super) fn from_standing<'a>(
        keys: ServiceKeys,
        standing: impl Iterator<Item = Standing<'a>>,
    ) -> Self {
        let pairs = keys.needs_state().then(|| Pairs::new(&keys, standing));
        Self { keys, pairs, warned: false }
    }

    /// What all the events of one revision mean: at most one change an instance.
    pub(crate) fn changes(&mut self, events: &[(EventType, &KeyValue)]) -> Vec<Change> {
        self.advance(events.iter().map(|(kind, kv)| (*kind, Standing::from(*kv))))
    }

    pub(super) fn advance<'a>(
        &mut self,
        events: impl Iterator<Item = (EventType, Standing<'a>)>,
    ) -> Vec<Change> {
        let warned = &mut self.warned;
        if let Some(pairs) = &mut self.pairs {
            return pairs.advance(events, |key, why| warn_once(warned, key, &why));
        }
        let keys = &self.keys;
        events.filter_map(|(kind, put)| change(keys, kind, put, warned)).collect()
    }
}

/// What an event means by itself; nothing, if it is about a key that is not an instance's.
fn change(
    keys: &ServiceKeys,
    kind: EventType,
    put: Standing<'_>,
    warned: &mut bool,
) -> Option<Change> {
    if kind == EventType::Delete {
        return keys.id_of(put.key).map(Change::Delete);
    }
    match keys.read(put.key, put.value) {
        Ok(instance) => Some(Change::Put(instance)),
        Err(Skipped::Withdrawn(id)) => Some(Change::Delete(id)),
        Err(why) => {
            warn_once(warned, put.key, &why);
            match why {
                Skipped::Undecodable(id, _) | Skipped::Withdrawn(id) => Some(Change::Delete(id)),
                Skipped::Foreign => None,
            }
        }
    }
}

fn warn_once(warned: &mut bool, key: &[u8], why: &dyn fmt::Display) {
    if !*warned {
        *warned = true;
        let key = key.escape_ascii();
        tracing::warn!(%key, %why, "skipped what cannot be decoded, and says so once");
    }
}
