//! Responses that etcd sends in pieces.

use etcd_client::{Event, WatchResponse};
use std::collections::HashMap;

/// How many bytes of keys and values one response may have in all its pieces, and those may have that wait for a watcher
/// that is being opened.
pub(super) const MAX_PENDING_LEN: usize = 256 * 1024 * 1024;

/// The pieces so far, by watcher.
#[derive(Default)]
pub(super) struct Fragments(HashMap<i64, WatchResponse>);

/// The pieces of a response are larger than [`MAX_PENDING_LEN`].
#[derive(Debug, PartialEq)]
pub(super) struct TooLarge;

impl Fragments {
    /// Adds a response. `None`, if more of it is to come.
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

/// How many bytes of keys and values a response has.
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
    fn pieces_of_watchers_are_put_together_apart() {
        let mut fragments = Fragments::default();
        for id in [1, 2, 1] {
            assert!(fragments.add(piece(id, 3, true)).unwrap().is_none());
        }
        let whole = fragments.add(piece(1, 3, false)).unwrap().unwrap();
        assert_eq!((whole.watch_id(), len(&whole)), (1, 9));
        assert_eq!(len(&fragments.add(piece(2, 3, false)).unwrap().unwrap()), 6);
        assert!(fragments.0.is_empty());
    }

    /// A server could send pieces for ever.
    #[test]
    fn pieces_without_an_end_are_given_up() {
        let mut fragments = Fragments::default();
        let quarter = MAX_PENDING_LEN / 4;
        for _ in 0..4 {
            assert!(fragments.add(piece(1, quarter, true)).unwrap().is_none());
        }
        assert!(fragments.add(piece(1, 1, true)).is_err());
        assert!(fragments.0.is_empty());
    }
}
