//! What a member does that lies: it is played by telling the watch of what never was.

use super::*;
use crate::cursor::Stamp;
use crate::{EtcdOptions, EtcdRegistry};
use futures_util::StreamExt;
use registry_core::{Claim, ErrorKind, Instance, Registry, Revision, ServiceName};
use registry_testbed::servers::Etcd;
use std::future::Future;
use std::time::Duration;

const AUDIT: Duration = Duration::from_millis(200);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens in time")
}

/// A server with one instance, and a watch on it from what was loaded.
async fn start() -> (Etcd, EtcdRegistry, Cursor, Watch) {
    let server = within(Etcd::start()).await.unwrap();
    let options = EtcdOptions { audit_interval: Some(AUDIT), ..EtcdOptions::default() };
    let url = server.url().parse().unwrap();
    let registry = within(EtcdRegistry::connect_with(&url, options)).await.unwrap();
    register(&registry, "1").await;
    let now = within(registry.load(&name())).await.unwrap().cursor().clone();
    let watch = within(registry.watch(&name(), &now)).await.unwrap();
    (server, registry, now, watch)
}

fn name() -> ServiceName {
    "user".parse().unwrap()
}

async fn register(registry: &EtcdRegistry, id: &str) -> Instance {
    let address = "10.0.0.1:80".parse().unwrap();
    let instance = Instance::new(name(), id.parse().unwrap(), address);
    let claim = Claim::new(Duration::from_secs(60)).unwrap();
    within(registry.register(&instance, &claim)).await.unwrap();
    instance
}

/// A watch that believes to have read `more` than there is.
async fn deceived(registry: &EtcdRegistry, after: &Cursor, more: &Stamp<'_>) -> Watch {
    let service = registry.keyspace.service(&name()).unwrap();
    let at = after.revision().get();
    let opened = registry.streams.open(&registry.client, &service, at.cast_signed());
    let opened = within(opened).await.unwrap();
    let mut proof: Proof = service.origin().proof(after).unwrap();
    proof.add(*more);
    let decoder = Decoder::new(service.clone(), [].into_iter());
    let feed = Feed::new(service, decoder, History::new(proof, None), at);
    opened.ticket.start(feed, after.clone())
}

#[tokio::test]
async fn a_watch_that_missed_a_deletion_in_silence_is_found_by_the_audit_and_no_other_is_ended() {
    let (_server, registry, now, mut honest) = start().await;
    let modified = now.revision().get();
    let gone = Stamp { key: b"registry/user/2", created: modified, modified, lease: 7 };
    let mut deceived = deceived(&registry, &now, &gone).await;

    let error = within(deceived.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compacted, "{error}: it is to be loaded anew");
    // Longer than the audit takes to come round again.
    let quiet = tokio::time::timeout(3 * AUDIT, honest.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let two = register(&registry, "2").await;
    let batch = within(honest.next()).await.unwrap().unwrap();
    assert_eq!(batch.changes, [registry_core::Change::Put(two)]);
}

#[tokio::test]
async fn a_load_from_before_what_a_watch_has_heard_of_is_refused() {
    let (_server, registry, now, _watch) = start().await;
    within(registry.load(&name())).await.expect("what is new is given");

    let service = registry.keyspace.service(&name()).unwrap();
    let ahead = Revision::new(now.revision().get() + 1);
    registry.streams.current().unwrap().vouch(service.origin().cursor(ahead, "x"), None);
    let error = within(registry.load(&name())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("from the past"), "{source}");

    register(&registry, "2").await;
    within(registry.load(&name())).await.expect("the member has caught up");
}
