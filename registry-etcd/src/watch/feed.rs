//! Turns the responses for one watcher into batches.

use super::baseline::Summary;
use super::versions::KeyVersions;
use crate::client::Answered;
use crate::cursor::{History, KeyMeta, Proof};
use crate::error::EtcdError;
use crate::layout::decoder::Decoder;
use crate::layout::service::ServiceLayout;
use etcd_client::{EventType, KeyValue, WatchResponse};
use registry_core::{BacklogEnd, Batch, Change, Cursor, Error, Publisher, Revision, Watch};
use std::sync::Arc;

/// Publishes batches without ever waiting for the reader. All watchers of a process share a stream, so a
/// reader that lags would stall the others.
pub(super) struct Feed {
    service: ServiceLayout,
    decoder: Decoder,
    history: History,
    versions: KeyVersions,
    /// The revision that the watch has reached.
    revision: u64,
    /// The state of the service when the watch was opened, until the watch has reached it.
    expected: Option<(Summary, BacklogEnd)>,
    publisher: Option<Publisher>,
}

impl Feed {
    /// Returns a feed that continues from `revision`, the end of `history`.
    pub(super) fn new(
        service: ServiceLayout,
        decoder: Decoder,
        history: History,
        revision: u64,
    ) -> Self {
        let versions = KeyVersions::default();
        Self { service, decoder, history, versions, revision, expected: None, publisher: None }
    }

    /// Expects a backlog up to the state `found`. It ends once the history matches `found`, since etcd does
    /// not report how many events a watcher still has to receive.
    pub(super) fn with_backlog(mut self, found: Summary) -> (Self, BacklogEnd) {
        let end = BacklogEnd::unknown();
        self.expected = Some((found, end.clone()));
        self.update_backlog_end();
        (self, end)
    }

    /// Opens a watch after `after`, with the buffered responses as its backlog. `false` means that it has
    /// already ended.
    ///
    /// The buffered batches do not count as lag, since they could not be read before.
    pub(super) fn open(&mut self, after: Cursor, buffered: &[WatchResponse]) -> (Watch, bool) {
        let (mut backlog, mut end) = (Vec::new(), None);
        for response in buffered {
            match self.read(response) {
                Ok(batches) => backlog.extend(batches.into_iter().map(Arc::new)),
                Err(error) => {
                    end = Some(error);
                    break;
                }
            }
        }
        let (publisher, watch) = Watch::channel(after, backlog);
        match end {
            Some(error) => publisher.fail(error.into()),
            None => self.publisher = Some(publisher),
        }
        (watch, self.publisher.is_some())
    }

    /// Publishes a response. `false` means that the watch has ended.
    pub(super) fn push(&mut self, response: &WatchResponse) -> bool {
        match self.read(response) {
            Ok(batches) => {
                let Some(publisher) = &mut self.publisher else { return false };
                batches.into_iter().all(|batch| publisher.publish(batch))
            }
            Err(error) => {
                self.fail(error.into());
                false
            }
        }
    }

    /// Ends the watch with an error.
    pub(super) fn fail(&mut self, error: Error) {
        if let Some(publisher) = self.publisher.take() {
            publisher.fail(error);
        }
    }

    /// Returns the service, the proof of its history, and the revision of that proof.
    pub(super) fn position(&self) -> (&ServiceLayout, &Proof, u64) {
        (&self.service, self.history.proof(), self.revision)
    }

    /// Returns the batches of one response. etcd never splits a revision over two responses.
    fn read(&mut self, response: &WatchResponse) -> Result<Vec<Batch>, EtcdError> {
        if response.canceled() {
            return Err(cancellation(response));
        }
        if response.events().is_empty() {
            // Only a notification for this watcher shows its progress. The reply to a progress request, with
            // id -1, can overtake events (etcd issue 15220).
            let revision = Answered::by(response.header())?.revision;
            let moves = revision > self.revision;
            return Ok(if moves { vec![self.move_to(revision, Vec::new())] } else { Vec::new() });
        }
        // The header's revision may be ahead of the events of a backlog, so each event's own revision is used.
        let mut events = Vec::with_capacity(response.events().len());
        for event in response.events() {
            // etcd-client's own accessor panics on an unknown kind.
            let kind = match event.0.r#type {
                0 => EventType::Put,
                1 => EventType::Delete,
                _ => return Err(EtcdError::Malformed("a known event type")),
            };
            events.push((kind, event.kv().ok_or(EtcdError::Malformed("a key"))?));
        }
        let revisions = events.chunk_by(|(_, a), (_, b)| a.mod_revision() == b.mod_revision());
        revisions.filter_map(|events| self.batch(events).transpose()).collect()
    }

    /// Returns the batch of one revision, unless it was received before (etcd issues 15275 and 20221).
    fn batch(&mut self, events: &[(EventType, &KeyValue)]) -> Result<Option<Batch>, EtcdError> {
        let revision = KeyMeta::from(events[0].1).modified;
        if revision <= self.revision {
            return Ok(None);
        }
        for (kind, kv) in events {
            self.versions.advance(*kind, kv)?;
            self.history.advance(*kind, (*kv).into());
        }
        let changes = self.decoder.changes(events);
        self.history.set_withdrawn(self.decoder.has_withdrawn());
        Ok(Some(self.move_to(revision, changes)))
    }

    /// Sets the end of the backlog once it is reached.
    fn update_backlog_end(&mut self) {
        let revision = self.revision;
        let is_here = |(found, _): &mut (Summary, _)| {
            revision >= found.revision() || found.check(self.history.proof()).is_ok()
        };
        if let Some((_, end)) = self.expected.take_if(is_here) {
            end.set(Revision::new(revision));
        }
    }

    fn move_to(&mut self, revision: u64, changes: Vec<Change>) -> Batch {
        self.revision = revision;
        self.update_backlog_end();
        let proof = self.history.proof();
        Batch::new(self.service.origin().cursor(Revision::new(revision), proof), changes)
    }
}

/// Returns why etcd canceled a watch. For a compaction etcd gives a revision but no reason.
pub(super) fn cancellation(response: &WatchResponse) -> EtcdError {
    match response.compact_revision() {
        0 => EtcdError::Canceled(response.cancel_reason().to_owned()),
        revision => EtcdError::Compacted(revision),
    }
}
