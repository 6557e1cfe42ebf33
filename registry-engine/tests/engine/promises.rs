//! Tests of the promises of `docs/engine.md` under difficult schedules.

use crate::support::*;
use futures_util::StreamExt;
use registry_core::{
    Batch, CallOptions, Change, Claim, Cursor, ErrorKind, Holder, Instance, Lease, Presence,
    Record, Registry, Result, ServiceName, Snapshot, Watch,
};
use registry_engine::{Registration, RegistrationOptions};
use registry_mem::Fault;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

async fn start_many(
    world: &World,
    count: usize,
    options: &RegistrationOptions,
) -> Vec<Registration> {
    let mut registrations = Vec::new();
    for n in 0..count {
        let started = world.try_start(node(&n.to_string()), options.clone()).await;
        registrations.push(started.unwrap());
    }
    advance(TICK).await; // the watches open
    registrations
}

fn is_watch(call: &Call) -> bool {
    matches!(call, Call::WatchRecord | Call::Load | Call::Watch(_))
}

fn record_watches(world: &World) -> usize {
    world.spy.calls().iter().filter(|(_, call)| matches!(call, Call::WatchRecord)).count()
}

/// No handle fails permanently: own-record watches reopen once the cause of a refusal is corrected.
#[tokio::test(start_paused = true)]
async fn own_record_watches_reopen_once_a_refusal_is_corrected() {
    for kind in [ErrorKind::Denied, ErrorKind::Invalid] {
        for count in [1, 20] {
            let world = World::new();
            let _registrations = start_many(&world, count, &RegistrationOptions::default()).await;
            world.spy.intercept(move |call| is_watch(call).then_some(Interception::Refuse(kind)));
            world.link.inject(Fault::Cut);
            advance(secs(2)).await;
            world.spy.stop_intercepting();
            advance(secs(60)).await;
            world.store.evict(&service());
            advance(secs(1)).await;
            assert_eq!(world.stored().await.len(), count, "{kind} {count}");
        }
    }
}

/// 100,000 registrations of one service must not open 100,000 watches, even after a refusal of the shared watch.
#[tokio::test(start_paused = true)]
async fn a_short_refusal_does_not_open_a_watch_for_each_registration() {
    // `Invalid`: the cursor is of another cluster, as after a restore from a backup of etcd.
    for kind in [ErrorKind::Invalid, ErrorKind::Denied] {
        let world = World::new();
        let _registrations = start_many(&world, 100, &RegistrationOptions::default()).await;
        assert_eq!(record_watches(&world), 8);
        let mut is_first = true;
        world.spy.intercept(move |call| {
            let refuses = matches!(call, Call::Watch(_)) && std::mem::take(&mut is_first);
            refuses.then_some(Interception::Refuse(kind))
        });
        world.link.inject(Fault::Cut);
        advance(secs(60)).await;
        let found = (world.spy.open_watches(), record_watches(&world));
        assert!(
            found.0 == 1 && found.1 <= 16,
            "{kind}: (service watches, record watches): {found:?}"
        );
    }
}

/// A registration registers again as soon as the store reports a change by others, even while a renewal is in flight.
#[tokio::test(start_paused = true)]
async fn a_deletion_that_is_reported_during_a_renewal_is_handled() {
    for count in [1, 9] {
        let world = World::new();
        // No renewal is answered, so all of them are in flight at the deletion. All other requests are answered.
        world
            .spy
            .intercept(|call| matches!(call, Call::KeepAlive(_)).then_some(Interception::Hang));
        let registrations = start_many(&world, count, &RegistrationOptions::default()).await;
        let last = registrations.last().unwrap();
        while world.spy.renewals().len() < count {
            advance(TICK).await;
        }
        world.store.evict(&service());
        let start = Instant::now();
        while world.stored().await.len() < count {
            advance(TICK).await;
        }
        // A renewal in flight times out after at most a third of the ttl.
        let (took, renewals) = (start.elapsed(), world.spy.renewals().len());
        assert!(took < TTL / 3 + millis(100), "{count}: {took:?}, {renewals} renewals: {last:?}");
    }
}

/// Once the store answers on new connections, every live owner is registered within the return bound.
#[tokio::test(start_paused = true)]
async fn records_removed_by_a_rollback_are_registered_again_within_the_return_bound() {
    let options = RegistrationOptions::default().with_ttl(secs(60));
    for count in [1, 20] {
        let world = World::new();
        let _registrations = start_many(&world, count, &options).await;
        world.link.inject(Fault::Rollback); // to an empty store
        advance(secs(5)).await;
        assert_eq!(world.stored().await.len(), count);
    }
}

/// The same after a failover to a lagging replica, which loses the latest records.
#[tokio::test(start_paused = true)]
async fn records_lost_by_a_failover_are_registered_again_within_the_return_bound() {
    let options = RegistrationOptions::default().with_ttl(secs(60));
    for (kept, lost) in [(0, 8), (8, 12)] {
        let world = World::new();
        let mut registrations = start_many(&world, kept, &options).await;
        world.link.inject(Fault::Checkpoint);
        for n in kept..kept + lost {
            let started = world.try_start(node(&n.to_string()), options.clone()).await;
            registrations.push(started.unwrap());
        }
        advance(TICK).await;
        world.link.inject(Fault::Rollback);
        assert_eq!(world.stored().await.len(), kept);
        advance(secs(5)).await;
        assert_eq!(world.stored().await.len(), kept + lost);
    }
}

/// Reports of the shared watch from before a rollback must not be applied to the records after it.
#[tokio::test(start_paused = true)]
async fn a_load_that_hangs_after_a_rollback_causes_no_repeated_registrations() {
    let options = RegistrationOptions::default().with_ttl(secs(2));
    let world = World::new();
    let registrations = start_many(&world, 20, &options).await;
    // Raises the revision, as in a store with some history.
    for n in 0..100 {
        let lease = world.put(&format!("other-{n}")).await;
        within(world.store.deregister(&lease, &CallOptions::DEFAULT)).await.unwrap();
    }
    advance(TICK).await;
    world.spy.intercept(|call| matches!(call, Call::Load).then_some(Interception::Hang));
    world.link.inject(Fault::Rollback);
    advance(secs(2)).await;
    let (claims, start) = (world.spy.claims().len(), Instant::now());
    let (mut missing, mut retrying) = (0, 0);
    while start.elapsed() < secs(30) {
        advance(millis(100)).await;
        missing += 20 - world.stored().await.len();
        retrying += registrations.iter().filter(|one| !one.status().is_active()).count();
    }
    let claims = world.spy.claims().len() - claims;
    assert_eq!(
        (missing, retrying, claims),
        (0, 0, 0),
        "missing records, retrying statuses, claims"
    );
}

/// A view retains doubtful instances for 30 s, so it removes live ones if their owners take longer to register again.
#[tokio::test(start_paused = true)]
async fn many_records_deleted_at_once_are_registered_again_before_a_view_removes_them() {
    let count = 40_000;
    let world = World::new();
    let mut registrations = Vec::new();
    for n in 0..count {
        registrations.push(world.try_start(node(&n.to_string()), in_background()).await.unwrap());
    }
    advance(secs(5)).await;
    assert_eq!(world.stored().await.len(), count);
    world.spy.intercept(|call| {
        matches!(call, Call::Register(..)).then_some(Interception::DelayedReply(millis(500)))
    });
    world.store.evict(&service());
    advance(secs(30)).await;
    assert_eq!(world.stored().await.len(), count);
}

/// The backoff after repeated losses grows even at a short ttl.
#[tokio::test(start_paused = true)]
async fn a_record_that_is_deleted_repeatedly_is_registered_with_backoff_even_at_a_short_ttl() {
    let options = RegistrationOptions::default().with_ttl(secs(1));
    let world = World::new();
    let _registrations = start_many(&world, 1, &options).await;
    let start = Instant::now();
    while start.elapsed() < secs(60) {
        world.store.evict(&service());
        advance(TICK).await;
    }
    let claims = world.spy.claims().len();
    assert!((12..60).contains(&claims), "{claims}");
}

/// A superseded registration tries again once per ttl, even if the record that holds the id cannot be decoded.
#[tokio::test(start_paused = true)]
async fn a_superseded_registration_tries_again_once_per_ttl_whatever_holds_the_id() {
    let world = World::new();
    let _registrations = start_many(&world, 1, &RegistrationOptions::default()).await;
    let holder = Holder::new(None, None);
    world.spy.intercept(move |call| {
        matches!(call, Call::Register(..)).then_some(Interception::Superseded(holder))
    });
    world.store.evict(&service());
    let (claims, loads) = (world.spy.claims().len(), world.spy.loads());
    advance(20 * TTL).await;
    let (claims, loads) = (world.spy.claims().len() - claims, world.spy.loads() - loads);
    assert!(claims <= 24, "{claims} claims and {loads} loads of the service in 20 ttls");
}

/// The store refuses the credentials for the first 5 s of the process.
#[tokio::test(start_paused = true)]
async fn registrations_that_started_with_a_refusal_share_a_watch_later() {
    let world = World::new();
    world.spy.intercept(|_| Some(Interception::Refuse(ErrorKind::Denied)));
    let mut registrations = Vec::new();
    for n in 0..100 {
        registrations.push(world.try_start(node(&n.to_string()), in_background()).await.unwrap());
    }
    advance(secs(5)).await;
    world.spy.stop_intercepting();
    advance(secs(60)).await;
    assert!(registrations.iter().all(|one| one.status().is_active()));
    // Some registrations have a watch of their own until the next disruption.
    let before = record_watches(&world);
    world.link.inject(Fault::Cut);
    advance(secs(10)).await;
    let found = (world.spy.open_watches(), record_watches(&world) - before);
    assert!(found.0 == 1 && found.1 <= 8, "(service watches, record watches): {found:?}");
}

/// A store whose records have no lease and no revision, which the contract permits.
#[derive(Debug)]
struct Bare(Spy);

fn bare(record: &Record) -> Record {
    Record::new(record.instance().clone())
}

#[async_trait::async_trait]
impl Registry for Bare {
    async fn register(&self, i: &Instance, claim: &Claim, o: &CallOptions) -> Result<Lease> {
        self.0.register(i, claim, o).await
    }

    async fn holder(&self, instance: &Instance, o: &CallOptions) -> Result<Option<Holder>> {
        self.0.holder(instance, o).await
    }

    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration> {
        self.0.keep_alive(lease, options).await
    }

    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> Result<()> {
        self.0.deregister(lease, options).await
    }

    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot> {
        let snapshot = self.0.load(service, options).await?;
        let records = snapshot.records().iter().map(bare).collect::<Vec<_>>();
        Ok(Snapshot::new(snapshot.cursor().clone(), records))
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> Result<Watch> {
        let watch = self.0.watch(service, after, options).await?;
        let bare = |batch: Arc<Batch>| {
            let changes = batch.changes.iter().map(|change| match change {
                Change::Put(record) => Change::Put(bare(record)),
                Change::Delete(deleted) => Change::Delete(deleted.clone()),
            });
            Arc::new(Batch::new(batch.cursor.clone(), changes.collect()))
        };
        Ok(watch.wrap(|watch| watch.map(move |item| item.map(bare))))
    }
}

/// Such a record does not show which lease it belongs to, so renewals must make the presence check.
#[tokio::test(start_paused = true)]
async fn a_record_without_lease_and_revision_does_not_replace_the_presence_check() {
    let world = World::new();
    let spy = Arc::new(Bare(Spy::new(world.link.clone())));
    let mut registrations = Vec::new();
    for n in 0..9 {
        let node = node(&n.to_string());
        let start = Registration::start(spy.clone(), node, RegistrationOptions::default());
        registrations.push(within(start).await.unwrap());
    }
    advance(TICK).await;
    let lease = world.displace(&node("8").with_weight(7)).await;
    advance(TTL / 2).await;
    let presences = spy.0.presences();
    assert!(!presences.contains(&Presence::Proven), "{lease:?}: {presences:?}");
}
