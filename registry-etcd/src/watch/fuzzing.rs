//! The invariants of a watch for any responses of a server.

#![allow(clippy::missing_panics_doc)]

use super::feed::Feed;
use super::fragments::Fragments;
use crate::cursor::{History, KeyMeta, Proof};
use crate::fuzzing::{LAYOUTS, keyspace};
use crate::layout::decoder::Decoder;
use crate::layout::service::Kv;
use etcd_client::proto::{PbRangeResponse, PbWatchResponse};
use etcd_client::{KeyValue, WatchResponse};
use futures_util::{FutureExt, StreamExt};
use prost::Message;
use registry_core::{Change, ErrorKind, Revision};
use std::collections::HashSet;

/// Checks that batches are in order, that each has at most one change per instance, and that a violation by
/// the server ends the watch.
///
/// The input is a layout byte, then length-prefixed messages: the initial keys, and responses.
pub fn watch(data: &[u8]) {
    let Some((layout, mut data)) = data.split_first() else { return };
    let layout = LAYOUTS[usize::from(*layout) % LAYOUTS.len()];
    let Ok(existing) = PbRangeResponse::decode_length_delimited(&mut data) else { return };
    let existing: Vec<_> = existing.kvs.into_iter().map(KeyValue).collect();

    let service = keyspace(layout).service(&"user".parse().expect("a name")).expect("a service");
    let mut proof = Proof::new(7);
    for kv in &existing {
        proof.add(KeyMeta::from(kv));
    }
    let after = service.origin().cursor(Revision::new(3), &proof);
    let decoder = Decoder::new(service.clone(), existing.iter().map(Kv::from));
    let mut feed = Feed::new(service.clone(), decoder, History::new(proof, None), 3);
    let (mut watch, mut is_open) = feed.open(after, &[]);
    let mut fragments = Fragments::default();
    while is_open && let Ok(response) = PbWatchResponse::decode_length_delimited(&mut data) {
        if let Ok(Some(response)) = fragments.add(WatchResponse(response)) {
            is_open = feed.push(&response);
        }
    }
    drop(feed);

    let mut last = 3;
    while let Some(Some(item)) = watch.next().now_or_never() {
        match item {
            Ok(batch) => {
                assert!(batch.revision().get() > last);
                last = batch.revision().get();
                let ids: HashSet<_> = batch.changes.iter().map(Change::id).collect();
                assert_eq!(ids.len(), batch.changes.len(), "two changes of one instance");
                let proof: Proof = service.origin().proof(&batch.cursor).expect("a proof");
                assert_eq!(proof.to_string().parse(), Ok(proof));
            }
            Err(error) => {
                let is_known = matches!(
                    error.kind(),
                    ErrorKind::Unavailable
                        | ErrorKind::Compacted
                        | ErrorKind::Denied
                        | ErrorKind::Internal
                );
                assert!(is_known, "{error}");
                assert!(!error.to_string().contains("broke the order"), "{error}");
            }
        }
    }
}
