//! Watches on a member that misses events, simulated by a proof with a key that does not exist.

use super::*;
use crate::cursor::KeyMeta;
use crate::runtimes::Connections;
use crate::{EtcdOptions, EtcdRegistry};
use futures_util::future::ready;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, Claim, ErrorKind, Instance, Registry, Revision, ServiceName};
use registry_testbed::servers::Etcd;
use registry_testkit::lag::timeout;
use std::future::Future;
use std::time::Duration;
use tokio::task::unconstrained;

const AUDIT: Duration = Duration::from_millis(200);

async fn with_deadline<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("no timeout")
}

/// Starts a server with one instance, and a watch from the loaded cursor.
async fn start() -> (Etcd, EtcdRegistry, Cursor, Watch) {
    let server = with_deadline(Etcd::start()).await.unwrap();
    let options = EtcdOptions { audit_interval: Some(AUDIT), ..EtcdOptions::default() };
    let url = server.url().parse().unwrap();
    let registry = with_deadline(EtcdRegistry::connect_with(&url, options)).await.unwrap();
    register(&registry, "1").await;
    let now = with_deadline(registry.load(&name(), &CallOptions::DEFAULT))
        .await
        .unwrap()
        .cursor()
        .clone();
    let watch = with_deadline(registry.watch(&name(), &now, &CallOptions::DEFAULT)).await.unwrap();
    (server, registry, now, watch)
}

fn name() -> ServiceName {
    "user".parse().unwrap()
}

async fn register(registry: &EtcdRegistry, id: &str) -> Instance {
    let address = "10.0.0.1:80".parse().unwrap();
    let instance = Instance::from_parts(name(), id.parse().unwrap(), address);
    let claim = Claim::new(Duration::from_secs(60)).unwrap();
    with_deadline(registry.register(&instance, &claim, &CallOptions::DEFAULT)).await.unwrap();
    instance
}

/// Returns a watch whose proof has a key `more` that etcd does not have.
async fn watch_with_proof_of(registry: &EtcdRegistry, after: &Cursor, more: &KeyMeta<'_>) -> Watch {
    let service = registry.keyspace.service(&name()).unwrap();
    let revision = after.revision().get();
    let Connections { client, streams } = registry.runtimes.connections().unwrap();
    let opened = streams.open(&client, &service, revision.cast_signed());
    let opened = with_deadline(opened).await.unwrap();
    let mut proof: Proof = service.origin().proof(after).unwrap();
    proof.add(*more);
    let decoder = Decoder::new(service.clone(), [].into_iter());
    let feed = Feed::new(service, decoder, History::new(proof, None), revision);
    opened.handle.start(feed, after.clone())
}

#[tokio::test]
async fn audit_ends_only_the_watch_that_missed_a_deletion() {
    let (_server, registry, now, mut other) = start().await;
    let modified = now.revision().get();
    let deleted_key = KeyMeta { key: b"registry/user/2", created: modified, modified, lease: 7 };
    let mut incomplete = watch_with_proof_of(&registry, &now, &deleted_key).await;

    let error = with_deadline(incomplete.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compacted, "{error}: the caller must load again");
    // Longer than the interval between audits.
    let quiet = tokio::time::timeout(3 * AUDIT, other.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let two = register(&registry, "2").await;
    let batch = with_deadline(other.next()).await.unwrap().unwrap();
    assert_eq!(registry_testkit::case::put(batch), two);
}

#[tokio::test]
async fn load_older_than_a_watch_is_refused() {
    let (_server, registry, now, _watch) = start().await;
    with_deadline(registry.load(&name(), &CallOptions::DEFAULT))
        .await
        .expect("a current load succeeds");

    let service = registry.keyspace.service(&name()).unwrap();
    let later_revision = Revision::new(now.revision().get() + 1);
    let streams = registry.runtimes.connections().unwrap().streams;
    streams.current().unwrap().add_verified(service.origin().cursor(later_revision, "x"), None);
    let error = with_deadline(registry.load(&name(), &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("stale data"), "{source}");

    register(&registry, "2").await;
    with_deadline(registry.load(&name(), &CallOptions::DEFAULT))
        .await
        .expect("the member has caught up");
}

/// Regression: the probe was queued behind all requested watchers, so a process that opened thousands of watches at
/// once found them all silent.
#[tokio::test]
async fn liveness_probe_precedes_queued_watchers() {
    let (_server, registry, now, _watch) = start().await;
    let service = registry.keyspace.service(&name()).unwrap();
    let stream = registry.runtimes.connections().unwrap().streams.current().unwrap();
    // Nothing is sent while this loop runs, since it does not yield.
    let revision = now.revision().get().cast_signed();
    let create = || stream.create_watcher(&service, revision).unwrap();
    let mut pending: Vec<_> = (0..10_000).map(|_| (create(), "waits")).collect();
    pending.push((stream.create_mute_watcher(&service).unwrap(), "probe"));
    let created =
        pending.into_iter().map(|(PendingWatcher { handle, created }, name)| async move {
            created.await.unwrap();
            (handle, name)
        });
    // After one poll of each, futures are yielded in the order in which they are woken. A budget would end that poll
    // early.
    let mut created: FuturesUnordered<_> = created.collect();
    assert!(unconstrained(created.next()).now_or_never().is_none());
    let first = created.by_ref().take_while(|(_, name)| ready(*name == "waits"));
    let created = with_deadline(unconstrained(first.count())).await;
    assert!(created < 1_000, "{created} of 10,000 watchers were created before the probe");
}
