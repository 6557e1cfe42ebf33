//! The effects of each fault on its own client and on others.
#![allow(clippy::unwrap_used)]

mod scripts;

use futures_util::{FutureExt, StreamExt};
use registry_core::{
    Batch, CallOptions, Claim, Error, ErrorKind, Instance, Registry, ServiceName, Snapshot,
    WATCH_CAPACITY, Watch,
};
use registry_mem::{Fault, FaultyRegistry, Hits, MemRegistry};
use registry_testkit::case::take_over;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(start_paused = true)]
async fn outage_fails_calls_and_watches_of_its_own_client_only() {
    let (store, flaky) = connect();
    let other = FaultyRegistry::new(store.clone());
    let mut watch = follow(&flaky).await;
    let mut others = follow(&other).await;

    flaky.inject(Fault::Outage);
    assert_eq!(end(&mut watch).await.kind(), ErrorKind::Unavailable);
    let error =
        within(flaky.register(&instance("1"), &claim(), &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(within(flaky.watch(&service(), watch.cursor(), &CallOptions::DEFAULT)).await.is_err());
    assert!(load(&store).await.records().is_empty(), "the store did not receive the call");

    within(other.register(&instance("2"), &claim(), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(ids(&next(&mut others).await), ["2"]);
    flaky.heal();
    let mut watch =
        within(flaky.watch(&service(), watch.cursor(), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(ids(&next(&mut watch).await), ["2"], "nothing is lost");
    let hits = flaky.hits();
    assert_eq!((hits.calls_refused, hits.watches_ended, hits.calls_cut), (2, 1, 0));
    assert_eq!(other.hits(), Hits::default());
}

#[tokio::test(start_paused = true)]
async fn latency_is_half_before_the_store_and_half_after() {
    let (store, flaky) = connect();
    let mut watch = follow(&flaky).await;
    flaky.inject(latency(40, 40));
    let start = Instant::now();
    let registered = async {
        within(flaky.register(&instance("1"), &claim(), &CallOptions::DEFAULT)).await.unwrap();
        start.elapsed()
    };
    let seen = async {
        next(&mut watch).await;
        start.elapsed()
    };
    let committed = async {
        sleep(ms(19)).await;
        assert!(load(&store).await.records().is_empty());
        sleep(ms(2)).await;
        assert_eq!(load(&store).await.instances().len(), 1);
    };
    let (registered, seen, ()) = tokio::join!(registered, seen, committed);
    assert_eq!((registered, seen), (ms(40), ms(40)));
    assert_eq!((flaky.hits().calls_delayed, flaky.hits().items_delayed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn latency_keeps_the_order_and_delays_items_concurrently() {
    let (store, flaky) = connect();
    let mut watch = follow(&flaky).await;
    flaky.inject(latency(2, 400));
    let mut lengths = Vec::new();
    for n in 0..20 {
        let start = Instant::now();
        load(&flaky).await;
        lengths.push(start.elapsed());
        within(store.register(&instance(&n.to_string()), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
    }
    assert!(lengths.iter().all(|length| (ms(2)..=ms(402)).contains(length)), "{lengths:?}");
    lengths.sort_unstable();
    assert!(
        lengths[0] < ms(100) && lengths[19] > ms(300),
        "the latencies do not differ: {lengths:?}"
    );

    let start = Instant::now();
    for n in 0..20 {
        assert_eq!(ids(&next(&mut watch).await), [n.to_string()]);
    }
    assert!(start.elapsed() <= ms(201), "{:?}", start.elapsed());
    assert_eq!(flaky.hits().calls_delayed, 20);
}

#[tokio::test(start_paused = true)]
async fn seed_determines_the_latencies() {
    let mut lengths = Vec::new();
    for seed in [1, 1, 2] {
        let flaky = FaultyRegistry::with_seed(MemRegistry::new(), seed);
        flaky.inject(latency(1, 10_000));
        let start = Instant::now();
        load(&flaky).await;
        lengths.push(start.elapsed());
    }
    assert_eq!(lengths[0], lengths[1]);
    assert_ne!(lengths[0], lengths[2]);
}

#[tokio::test(start_paused = true)]
async fn watch_ends_after_its_source_was_silent_for_the_silence_timeout() {
    let (store, _) = connect();
    let flaky = FaultyRegistry::new(store.clone()).with_silence_timeout(ms(2_000));
    let mut open = follow(&flaky).await;
    flaky.inject(Fault::Silence);
    let start = Instant::now();
    assert_eq!(end(&mut open).await.kind(), ErrorKind::Unavailable);
    assert_eq!(start.elapsed(), ms(2_000));
    assert_eq!(flaky.hits().watches_ended, 1);
    within(store.register(&instance("during"), &claim(), &CallOptions::DEFAULT)).await.unwrap();
    flaky.heal();
    let mut resumed =
        within(flaky.watch(&service(), open.cursor(), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(ids(&next(&mut resumed).await), ["during"]);
}

#[tokio::test(start_paused = true)]
async fn silent_connection_fails_after_the_heal_and_its_watch_resumes_without_loss() {
    let (store, flaky) = connect();
    let mut watch = follow(&flaky).await;
    within(store.register(&instance("before"), &claim(), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(ids(&next(&mut watch).await), ["before"]);

    flaky.inject(Fault::Silence);
    within(store.register(&instance("during"), &claim(), &CallOptions::DEFAULT)).await.unwrap();
    let call = tokio::spawn({
        let flaky = flaky.clone();
        async move { flaky.register(&instance("hung"), &claim(), &CallOptions::DEFAULT).await }
    });
    assert!(timeout(ms(6_000), watch.next()).await.is_err(), "the watch receives something");
    assert!(
        timeout(ms(600), flaky.load(&service(), &CallOptions::DEFAULT)).await.is_err(),
        "the call does not hang"
    );
    assert!(!call.is_finished());
    assert_eq!(load(&store).await.instances().len(), 2, "the store received a call");

    flaky.heal();
    assert_eq!(end(&mut watch).await.kind(), ErrorKind::Unavailable);
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let mut watch =
        within(flaky.watch(&service(), watch.cursor(), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(ids(&next(&mut watch).await), ["during"]);
    assert_eq!(load(&flaky).await.instances().len(), 2, "a hung call was executed later");
    let hits = flaky.hits();
    assert_eq!((hits.calls_silenced, hits.calls_cut), (2, 0));
    assert_eq!((hits.watches_silenced, hits.watches_ended), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn items_in_transit_do_not_arrive_during_a_silence() {
    let (store, flaky) = connect();
    let mut watch = follow(&flaky).await;
    flaky.inject(latency(200, 200));
    within(store.register(&instance("1"), &claim(), &CallOptions::DEFAULT)).await.unwrap();
    let (two, claim) = (instance("2"), claim());
    let mut call = flaky.register(&two, &claim, &CallOptions::DEFAULT);
    assert!(timeout(ms(150), &mut call).await.is_err(), "the reply is not in transit");
    assert!(timeout(ms(40), watch.next()).await.is_err(), "the item is not in transit");
    flaky.inject(Fault::Silence);
    assert!(timeout(ms(1_000), watch.next()).await.is_err());
    assert!(timeout(ms(1_000), &mut call).await.is_err());
    assert_eq!(load(&store).await.instances().len(), 2, "the store did not receive the call");
    flaky.heal();
    assert_eq!(end(&mut watch).await.kind(), ErrorKind::Unavailable);
    assert!(within(call).await.is_err());
    let mut watch =
        within(flaky.watch(&service(), watch.cursor(), &CallOptions::DEFAULT)).await.unwrap();
    assert_eq!(ids(&next(&mut watch).await), ["1"]);
    assert_eq!((flaky.hits().calls_silenced, flaky.hits().calls_cut), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn silent_connection_reports_no_loss_before_the_heal() {
    let (_, flaky) = connect();
    for fault in [Fault::Cut, Fault::Outage] {
        let mut watch = follow(&flaky).await;
        flaky.inject(Fault::Silence);
        let call = tokio::spawn({
            let flaky = flaky.clone();
            async move { flaky.services(&CallOptions::DEFAULT).await }
        });
        sleep(ms(10)).await;
        flaky.inject(fault);
        assert!(timeout(ms(1_000), watch.next()).await.is_err());
        assert!(timeout(ms(1_000), flaky.services(&CallOptions::DEFAULT)).await.is_err());
        assert!(!call.is_finished());
        flaky.heal();
        assert_eq!(end(&mut watch).await.kind(), ErrorKind::Unavailable);
        assert!(within(call).await.unwrap().is_err());
        assert!(load(&flaky).await.records().is_empty());
    }
    assert_eq!(flaky.hits().watches_ended, 2, "each fault ends one watch");
}

#[tokio::test(start_paused = true)]
async fn call_with_a_lost_reply_is_executed_and_its_repeat_changes_nothing() {
    let (store, flaky) = connect();
    let (one, claim) = (instance("1"), claim());
    let mut watch = follow(&flaky).await;
    flaky.inject(Fault::LostReplies);
    let error = within(flaky.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let committed = load(&store).await;
    assert_eq!(committed.instances().len(), 1);
    assert_eq!(ids(&next(&mut watch).await), ["1"], "open watches are not affected");

    flaky.heal();
    let lease = within(flaky.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
    let again = load(&store).await;
    assert_eq!(again, committed, "the repeat changed something");
    flaky.inject(Fault::LostReplies);
    assert!(within(flaky.deregister(&lease, &CallOptions::DEFAULT)).await.is_err());
    assert!(load(&store).await.records().is_empty());
    assert_eq!(flaky.hits().replies_lost, 2);
}

#[tokio::test(start_paused = true)]
async fn slow_watch_delivers_at_its_rate_and_lags_at_the_capacity_of_the_store() {
    let (store, flaky) = connect();
    let mut watch = follow(&flaky).await;
    flaky.inject(Fault::SlowWatch { delay: ms(100) });
    let claim = claim();
    let write = async |n: usize| {
        let one = instance("1").with_metadata([("n", n.to_string())]);
        within(store.register(&one, &claim, &CallOptions::DEFAULT)).await.unwrap();
    };
    write(0).await;
    next(&mut watch).await;
    let start = Instant::now();
    for n in 1..=3 {
        write(n).await;
        next(&mut watch).await;
        assert_eq!(start.elapsed(), ms(100) * u32::try_from(n).unwrap());
    }
    assert_eq!(flaky.hits().items_delayed, 3);
    for n in 0..5 {
        write(10 + n).await;
    }
    assert!(
        watch.next().now_or_never().is_none(),
        "one item is in transit, four wait in the store"
    );
    for n in 4..=WATCH_CAPACITY {
        write(20 + n).await;
    }
    let mut count = 0;
    let error = loop {
        match within(watch.next()).await.unwrap() {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), count), (ErrorKind::Unavailable, 1 + WATCH_CAPACITY));
    assert!(error.to_string().contains("lagged"), "{error}");
    assert_eq!(flaky.hits().watches_ended, 0, "the store ended the watch");
}

#[tokio::test(start_paused = true)]
async fn cut_fails_open_calls_and_watches_of_its_own_connection_and_the_next_call_works() {
    let (store, flaky) = connect();
    let mut watch = follow(&flaky).await;
    let mut others = follow(&store).await;
    flaky.inject(latency(100, 100));
    let call = tokio::spawn({
        let flaky = flaky.clone();
        async move { flaky.register(&instance("1"), &claim(), &CallOptions::DEFAULT).await }
    });
    sleep(ms(10)).await;
    flaky.inject(Fault::Cut);
    assert_eq!(within(call).await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(end(&mut watch).await.kind(), ErrorKind::Unavailable);
    assert!(others.next().now_or_never().is_none(), "the watch of the other client ended");
    assert!(load(&flaky).await.records().is_empty(), "the call reached the store");
    assert_eq!((flaky.hits().calls_cut, flaky.hits().watches_ended), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn seed_determines_the_lost_lease_and_its_renewal_fails() {
    let mut lost = Vec::new();
    for seed in [5, 5, 6, 7, 8] {
        let store = MemRegistry::new();
        let flaky = FaultyRegistry::with_seed(store.clone(), seed);
        flaky.inject(Fault::LeaseLost);
        assert_eq!(flaky.hits().leases_ended, 0, "there is no lease");
        let mut leases = Vec::new();
        for n in 0..10 {
            leases.push(
                store
                    .register(&instance(&n.to_string()), &claim(), &CallOptions::DEFAULT)
                    .await
                    .unwrap(),
            );
        }
        let mut watch = follow(&store).await;
        flaky.inject(Fault::LeaseLost);
        assert_eq!(flaky.hits().leases_ended, 1);
        let gone = ids(&next(&mut watch).await).concat();
        for lease in &leases {
            let outcome = within(flaky.keep_alive(lease, &CallOptions::DEFAULT))
                .await
                .map_err(|error| error.kind());
            let is_lost = lease.instance().id().as_str() == gone;
            assert_eq!(outcome, if is_lost { Err(ErrorKind::LeaseLost) } else { Ok(lease.ttl()) });
        }
        lost.push(gone);
    }
    assert_eq!(lost[0], lost[1]);
    assert!(lost.iter().any(|gone| *gone != lost[0]), "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn compaction_drops_the_history() {
    let (store, flaky) = connect();
    let old = load(&flaky).await;
    flaky.inject(Fault::Compaction);
    assert_eq!(flaky.hits().compactions, 0, "there was no history");
    within(store.register(&instance("1"), &claim(), &CallOptions::DEFAULT)).await.unwrap();
    let new = load(&flaky).await;
    flaky.inject(Fault::Compaction);
    assert_eq!(flaky.hits().compactions, 1);
    let error =
        within(flaky.watch(&service(), old.cursor(), &CallOptions::DEFAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compacted);
    assert!(within(flaky.watch(&service(), new.cursor(), &CallOptions::DEFAULT)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn rollback_restores_the_checkpoint_or_an_empty_store() {
    let (store, flaky) = connect();
    let empty = load(&flaky).await;
    for (checkpoint, left) in [(false, 0), (true, 1), (true, 1)] {
        within(take_over(&store, &instance("kept"), &claim())).await.unwrap();
        if checkpoint {
            flaky.inject(Fault::Checkpoint);
        }
        let lost = within(store.register(&instance("lost"), &claim(), &CallOptions::DEFAULT))
            .await
            .unwrap();
        let mut watch = follow(&store).await;
        flaky.inject(Fault::Rollback);
        assert_eq!(end(&mut watch).await.kind(), ErrorKind::Diverged);
        assert_eq!(load(&flaky).await.instances().len(), left);
        let error = within(flaky.keep_alive(&lost, &CallOptions::DEFAULT)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LeaseLost);
        let error = within(flaky.watch(&service(), empty.cursor(), &CallOptions::DEFAULT))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Diverged, "the first rollback emptied the store");
    }
    assert_eq!(flaky.hits().rollbacks, 3);
}

fn connect() -> (MemRegistry, FaultyRegistry) {
    let store = MemRegistry::new();
    (store.clone(), FaultyRegistry::new(store))
}

fn service() -> ServiceName {
    "user.rpc".parse().unwrap()
}

fn instance(id: &str) -> Instance {
    Instance::from_parts(service(), id.parse().unwrap(), "10.0.0.1:8080".parse().unwrap())
}

fn claim() -> Claim {
    Claim::new(Duration::from_secs(24 * 3600)).unwrap()
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn latency(min: u64, max: u64) -> Fault {
    Fault::Latency { min: ms(min), max: ms(max) }
}

async fn load(registry: &impl Registry) -> Snapshot {
    within(registry.load(&service(), &CallOptions::DEFAULT)).await.unwrap()
}

async fn follow(registry: &impl Registry) -> Watch {
    let snapshot = load(registry).await;
    within(registry.watch(&service(), snapshot.cursor(), &CallOptions::DEFAULT)).await.unwrap()
}

async fn next(watch: &mut Watch) -> Arc<Batch> {
    within(watch.next()).await.expect("a watch ends with an error").unwrap()
}

async fn end(watch: &mut Watch) -> Error {
    within(watch.next()).await.expect("a watch ends with an error").unwrap_err()
}

fn ids(batch: &Arc<Batch>) -> Vec<String> {
    batch.changes.iter().map(|change| change.id().to_string()).collect()
}

/// The deadline of every await. On a paused clock it takes no time.
async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future).await.expect("the deadline is exceeded")
}
