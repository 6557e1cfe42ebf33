//! What the events of a watch change.

use super::pairs::Pairs;
use super::service::{Kv, ServiceLayout};
use etcd_client::{EventType, KeyValue};
use registry_core::{BoxError, Change};

/// Turns the events of a watch, revision by revision, into changes.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    /// Whether a key that cannot be decoded was logged.
    warned: bool,
}

#[derive(Debug)]
enum State {
    /// Each event is decoded by itself.
    Stateless(ServiceLayout),
    /// An event is decoded with the other key of its instance.
    Pairs(Pairs),
}

impl Decoder {
    /// Starts from the keys that exist, which must be all unless the layout has no side keys.
    pub(crate) fn new<'a>(service: ServiceLayout, existing: impl Iterator<Item = Kv<'a>>) -> Self {
        let mut warned = false;
        let state = if service.has_side_keys() {
            let pairs = Pairs::new(service, existing, |key, why| warn_once(&mut warned, key, &why));
            State::Pairs(pairs)
        } else {
            State::Stateless(service)
        };
        Self { state, warned }
    }

    /// The changes of all events of one revision, at most one for each instance.
    pub(crate) fn changes(&mut self, events: &[(EventType, &KeyValue)]) -> Vec<Change> {
        self.apply(events.iter().map(|(kind, kv)| (*kind, Kv::from(*kv))))
    }

    pub(super) fn apply<'a>(
        &mut self,
        events: impl Iterator<Item = (EventType, Kv<'a>)>,
    ) -> Vec<Change> {
        let warned = &mut self.warned;
        let mut report = |key: &[u8], why: BoxError| warn_once(warned, key, &why);
        match &mut self.state {
            State::Pairs(pairs) => pairs.apply(events, report),
            State::Stateless(service) => {
                events.filter_map(|(kind, kv)| change(service, kind, kv, &mut report)).collect()
            }
        }
    }
}

/// The change that an event means by itself, if its key is that of an instance.
fn change(
    service: &ServiceLayout,
    kind: EventType,
    kv: Kv<'_>,
    report: &mut impl FnMut(&[u8], BoxError),
) -> Option<Change> {
    let id = match service.locate(kv.key) {
        Ok(located) => located?.1,
        Err(why) => {
            if kind == EventType::Put {
                report(kv.key, why);
            }
            return None;
        }
    };
    if kind == EventType::Delete {
        return Some(Change::Delete(id));
    }
    // To overwrite a valid record with an invalid one counts as a delete.
    match service.decode(&id, kv.value, None) {
        Ok(Some(instance)) => Some(Change::Put(instance)),
        Ok(None) => Some(Change::Delete(id)),
        Err(why) => {
            report(kv.key, why);
            Some(Change::Delete(id))
        }
    }
}

fn warn_once(warned: &mut bool, key: &[u8], why: &BoxError) {
    if !*warned {
        *warned = true;
        let key = key.escape_ascii();
        tracing::warn!(%key, %why, "skipped what cannot be decoded, and says so once");
    }
}
