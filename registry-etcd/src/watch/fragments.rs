//! Reassembles fragmented watch responses.

use etcd_client::{Event, WatchResponse};
use std::collections::HashMap;

/// The limit in bytes of keys and values of one response with all its fragments, and of the responses
/// buffered for a watcher that is being opened.
pub(super) const MAX_PENDING_LEN: usize = 256 * 1024 * 1024;

/// The fragments received so far, by watcher.
#[derive(Default)]
pub(super) struct Fragments(HashMap<i64, WatchResponse>);

/// The fragments of a response exceed [`MAX_PENDING_LEN`].
#[derive(Debug, PartialEq)]
pub(super) struct TooLarge;

impl Fragments {
    /// Adds a response. Returns `None` if more fragments follow.
    pub(super) fn add(
        &mut self,
        mut response: WatchResponse,
    ) -> Result<Option<WatchResponse>, TooLarge> {
        let id = response.watch_id();
        if let Some(mut before) = self.0.remove(&id) {
            before.0.events.append(&mut response.0.events);
            response.0.events = before.0.events;
        } else if !response.0.fragment {
            return Ok(Some(response));
        }
        if len(&response) > MAX_PENDING_LEN {
            return Err(TooLarge);
        }
        if response.0.fragment {
            self.0.insert(id, response);
            return Ok(None);
        }
        Ok(Some(response))
    }
}

/// Returns the size of a response's keys and values in bytes.
pub(super) fn len(response: &WatchResponse) -> usize {
    let kvs = response.events().iter().filter_map(Event::kv);
    kvs.map(|kv| kv.key().len() + kv.value().len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_client::proto::{PbEvent, PbKeyValue, PbWatchResponse};

    fn piece(watch_id: i64, bytes: usize, fragment: bool) -> WatchResponse {
        let kv = PbKeyValue { value: vec![0; bytes], ..PbKeyValue::default() };
        let events = vec![PbEvent { kv: Some(kv), ..PbEvent::default() }];
        WatchResponse(PbWatchResponse { watch_id, fragment, events, ..PbWatchResponse::default() })
    }

    #[test]
    fn fragments_are_reassembled_per_watcher() {
        let mut fragments = Fragments::default();
        for id in [1, 2, 1] {
            assert!(fragments.add(piece(id, 3, true)).unwrap().is_none());
        }
        let whole = fragments.add(piece(1, 3, false)).unwrap().unwrap();
        assert_eq!((whole.watch_id(), len(&whole)), (1, 9));
        assert_eq!(len(&fragments.add(piece(2, 3, false)).unwrap().unwrap()), 6);
        assert!(fragments.0.is_empty());
    }

    /// Regression: a server could send fragments without end.
    #[test]
    fn fragments_above_the_limit_are_an_error() {
        let mut fragments = Fragments::default();
        let quarter = MAX_PENDING_LEN / 4;
        for _ in 0..4 {
            assert!(fragments.add(piece(1, quarter, true)).unwrap().is_none());
        }
        assert!(fragments.add(piece(1, 1, true)).is_err());
        assert!(fragments.0.is_empty());
    }
}
