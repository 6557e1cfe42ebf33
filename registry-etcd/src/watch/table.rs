//! The watchers of a stream.

use super::feed::Feed;
use crate::cursor::Proof;
use crate::layout::service::ServiceLayout;
use etcd_client::{WatchOptions, WatchResponse};
use registry_core::Cursor;
use std::collections::{HashMap, VecDeque};
use tokio::sync::oneshot;

/// The limit of remembered cursors that are not watched.
const MAX_VERIFIED_CURSORS: usize = 16_384;

/// The watchers of a stream, and the unsent requests about them.
#[derive(Default)]
pub(super) struct WatcherTable {
    pub(super) watchers: HashMap<i64, Watcher>,
    /// The requested but unconfirmed watchers, in the order in which etcd confirms them.
    unconfirmed: VecDeque<i64>,
    /// The unsent requests.
    pub(super) outbox: VecDeque<Outgoing>,
    last_id: i64,
    /// The cursors that were loaded while the stream was open.
    verified: HashMap<Cursor, VerifiedCursor>,
    pub(super) is_closed: bool,
}

pub(super) enum Watcher {
    /// The proof of its cursor is still being checked.
    Opening(Opening),
    Live(Box<Feed>),
}

pub(super) struct Opening {
    /// Receives the response by which etcd confirms the watcher.
    created: Option<oneshot::Sender<WatchResponse>>,
    /// The responses received since.
    pub(super) buffered: Vec<WatchResponse>,
    /// The size of their keys and values in bytes.
    pub(super) buffered_len: usize,
}

/// Receives etcd's response to a request for a watcher, or an error if the stream breaks first.
pub(super) type Created = oneshot::Receiver<WatchResponse>;

/// A cursor that needs no check.
pub(super) struct VerifiedCursor {
    /// The key that was put last, if there is one.
    pub(super) newest: Option<Vec<u8>>,
}

pub(super) enum Outgoing {
    Create { id: i64, key: Vec<u8>, options: WatchOptions },
    Cancel(i64),
}

impl WatcherTable {
    pub(super) fn add(&mut self) -> (i64, Created) {
        self.last_id += 1;
        let (created, answer) = oneshot::channel();
        let opening = Opening { created: Some(created), buffered: Vec::new(), buffered_len: 0 };
        self.watchers.insert(self.last_id, Watcher::Opening(opening));
        (self.last_id, answer)
    }

    /// Removes and returns the next request to send.
    pub(super) fn next_outgoing(&mut self) -> Option<Outgoing> {
        let next = self.outbox.pop_front()?;
        if let Outgoing::Create { id, .. } = next {
            self.mark_sent(id);
        }
        Some(next)
    }

    /// Records that a watcher was requested.
    pub(super) fn mark_sent(&mut self, id: i64) {
        self.unconfirmed.push_back(id);
    }

    /// Remembers a cursor that needs no check. All are forgotten when too many are never watched.
    pub(super) fn add_verified(&mut self, cursor: Cursor, newest: Option<Vec<u8>>) {
        if self.verified.len() >= MAX_VERIFIED_CURSORS {
            self.verified.clear();
        }
        self.verified.insert(cursor, VerifiedCursor { newest });
    }

    /// Removes and returns `cursor`, if it was remembered.
    pub(super) fn take_verified(&mut self, cursor: &Cursor) -> Option<VerifiedCursor> {
        self.verified.remove(cursor)
    }

    /// Returns the id, service, proof and revision of each live watch.
    pub(super) fn positions(&self) -> impl Iterator<Item = (i64, ServiceLayout, Proof, u64)> {
        self.watchers.iter().filter_map(|(id, watcher)| match watcher {
            Watcher::Opening(_) => None,
            Watcher::Live(feed) => {
                let (service, proof, revision) = feed.position();
                Some((*id, service.clone(), proof.clone(), revision))
            }
        })
    }

    /// Removes a watcher and queues its cancellation.
    pub(super) fn remove(&mut self, id: i64) -> Option<Watcher> {
        let watcher = self.watchers.remove(&id)?;
        self.outbox.push_back(Outgoing::Cancel(id));
        Some(watcher)
    }

    /// Confirms the oldest unconfirmed watcher: etcd responds in order, and a refusal has no id.
    pub(super) fn confirm(&mut self, response: WatchResponse) {
        let Some(id) = self.unconfirmed.pop_front() else { return };
        let Some(Watcher::Opening(opening)) = self.watchers.get_mut(&id) else { return };
        if let Some(created) = opening.created.take() {
            drop(created.send(response)); // if the caller is gone, dropping its handle cancels the watcher
        }
    }
}
