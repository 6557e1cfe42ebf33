//! The watchers of a stream.

use super::feed::Feed;
use crate::cursor::Proof;
use crate::layout::service::ServiceLayout;
use etcd_client::{WatchOptions, WatchResponse};
use registry_core::Cursor;
use std::collections::{HashMap, VecDeque};
use tokio::sync::oneshot;

/// How many loaded cursors are remembered that nobody watches from.
const MAX_VERIFIED_CURSORS: usize = 16_384;

/// The watchers of a stream, and the requests about them that are still to be sent.
#[derive(Default)]
pub(super) struct WatcherTable {
    pub(super) watchers: HashMap<i64, Watcher>,
    /// The watchers asked for and not answered, in the order in which they are answered.
    unconfirmed: VecDeque<i64>,
    /// The requests to send.
    pub(super) outbox: VecDeque<Outgoing>,
    last_id: i64,
    /// The cursors that were loaded while the stream was open.
    verified: HashMap<Cursor, VerifiedCursor>,
    pub(super) is_closed: bool,
}

pub(super) enum Watcher {
    /// Its proof is still being checked.
    Opening(Opening),
    Live(Box<Feed>),
}

pub(super) struct Opening {
    /// Receives the response by which etcd confirms the watcher.
    created: Option<oneshot::Sender<WatchResponse>>,
    /// The responses since.
    pub(super) buffered: Vec<WatchResponse>,
    /// How many bytes of keys and values they have.
    pub(super) buffered_len: usize,
}

/// Where etcd's answer to a request for a watcher comes; an error when the stream broke before.
pub(super) type Created = oneshot::Receiver<WatchResponse>;

/// What is known of a cursor that needs no check.
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

    /// Takes the next request to send.
    pub(super) fn next_outgoing(&mut self) -> Option<Outgoing> {
        let next = self.outbox.pop_front()?;
        if let Outgoing::Create { id, .. } = next {
            self.mark_sent(id);
        }
        Some(next)
    }

    /// Notes that a watcher was asked for.
    pub(super) fn mark_sent(&mut self, id: i64) {
        self.unconfirmed.push_back(id);
    }

    /// Remembers a cursor that needs no check. Cursors that are never watched are forgotten when there are
    /// too many.
    pub(super) fn add_verified(&mut self, cursor: Cursor, newest: Option<Vec<u8>>) {
        if self.verified.len() >= MAX_VERIFIED_CURSORS {
            self.verified.clear();
        }
        self.verified.insert(cursor, VerifiedCursor { newest });
    }

    /// What is known of `cursor`, if it was remembered.
    pub(super) fn take_verified(&mut self, cursor: &Cursor) -> Option<VerifiedCursor> {
        self.verified.remove(cursor)
    }

    /// What the watches have read, and up to which revision.
    pub(super) fn positions(&self) -> impl Iterator<Item = (i64, ServiceLayout, Proof, u64)> {
        self.watchers.iter().filter_map(|(id, watcher)| match watcher {
            Watcher::Opening(_) => None,
            Watcher::Live(feed) => {
                let (service, proof, revision) = feed.position();
                Some((*id, service.clone(), proof.clone(), revision))
            }
        })
    }

    /// Takes a watcher out, and has it canceled.
    pub(super) fn remove(&mut self, id: i64) -> Option<Watcher> {
        let watcher = self.watchers.remove(&id)?;
        self.outbox.push_back(Outgoing::Cancel(id));
        Some(watcher)
    }

    /// etcd answers in the order in which it is asked. What it refuses has no id.
    pub(super) fn confirm(&mut self, response: WatchResponse) {
        let Some(id) = self.unconfirmed.pop_front() else { return };
        let Some(Watcher::Opening(opening)) = self.watchers.get_mut(&id) else { return };
        if let Some(created) = opening.created.take() {
            drop(created.send(response)); // who asked may be gone, and its handle cancels
        }
    }
}
