//! Tests of the updates of a view: late and slow subscribers receive every change exactly once.

use crate::support::*;
use fastrand::Rng;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use registry_core::{Batch, CallOptions, Lease, Registry, Snapshot, WATCH_CAPACITY};
use registry_engine::{DiscoveryOptions, Update, View, ViewStatus};
use registry_mem::Fault;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A subscriber, with the updates that it received applied to its snapshot.
struct Subscriber {
    updates: BoxStream<'static, Update>,
    resets: usize,
    snapshot: Option<Snapshot>,
    /// The batches since the first reset.
    batches: Vec<Arc<Batch>>,
    first: Option<Snapshot>,
}

impl Subscriber {
    fn new(view: &View) -> Self {
        let (resets, snapshot, batches, first) = (0, None, Vec::new(), None);
        Self { updates: changes(view), resets, snapshot, batches, first }
    }

    /// Reads one update if there is one.
    fn read(&mut self) -> bool {
        let Some(update) = self.updates.next().now_or_never() else { return false };
        self.take(update.expect("the stream never ends"));
        true
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Reset(snapshot) => {
                self.resets += 1;
                self.first.get_or_insert_with(|| snapshot.clone());
                self.snapshot = Some(snapshot);
            }
            Update::Batch(batch) => {
                let snapshot = self.snapshot.as_mut().expect("the first item is a reset");
                assert!(batch.revision() > snapshot.cursor().revision(), "a batch came twice");
                snapshot.apply(&batch).unwrap();
                self.batches.push(batch);
            }
            Update::Status(status) => panic!("it is no change: {status}"),
        }
    }

    fn read_all(&mut self) {
        while self.read() {}
    }
}

/// Registers or withdraws one of eight instances.
async fn change_something(world: &World, rng: &mut Rng, held: &mut BTreeMap<u8, Lease>) {
    let id = rng.u8(0..8);
    if let Some(lease) = held.remove(&id) {
        world.store.deregister(&lease, &CallOptions::DEFAULT).await.unwrap();
    } else {
        held.insert(id, world.put_as(&node(&id.to_string()).with_weight(rng.u32(1..9))).await);
    }
}

/// Waits until the view has all current changes of the store.
async fn until_caught_up(world: &World, view: &View) {
    let now = world.store.load(&service(), &CallOptions::DEFAULT).await.unwrap();
    until(view, |state| {
        let snapshot = state.store_snapshot();
        snapshot.is_some_and(|snapshot| snapshot.cursor().revision() >= now.cursor().revision())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_late_subscriber_receives_the_state_and_exactly_the_later_batches() {
    for seed in 0..60 {
        let (mut rng, world, mut held) = (Rng::with_seed(seed), World::new(), BTreeMap::new());
        let nothing = world.store.load(&service(), &CallOptions::DEFAULT).await.unwrap();
        let mut history =
            world.store.watch(&service(), nothing.cursor(), &CallOptions::DEFAULT).await.unwrap();
        let view = world.discovery(no_retention()).view(&service());
        let mut subscribers = vec![Subscriber::new(&view)];
        for _ in 0..200 {
            match rng.u8(0..10) {
                0..5 => change_something(&world, &mut rng, &mut held).await,
                5 => subscribers.push(Subscriber::new(&view)),
                6 => tokio::task::yield_now().await,
                7 => advance(millis(rng.u64(0..300))).await,
                8 if rng.u8(0..4) == 0 => world.link.inject(Fault::Cut),
                _ => {
                    let n = rng.usize(..subscribers.len());
                    subscribers[n].read();
                }
            }
        }
        until_caught_up(&world, &view).await;
        let snapshot = world.store.load(&service(), &CallOptions::DEFAULT).await.unwrap();
        let heard = std::iter::from_fn(|| history.next().now_or_never());
        let history: Vec<Arc<Batch>> = heard.map(|item| item.unwrap().unwrap()).collect();
        for subscriber in &mut subscribers {
            subscriber.read_all();
            assert_eq!(subscriber.resets, 1, "seed {seed}");
            let (first, last) = (subscriber.first.as_ref(), subscriber.snapshot.as_ref());
            assert_eq!(last.unwrap().records(), snapshot.records(), "seed {seed}");
            let after = first.unwrap().cursor().revision();
            let expected = history.iter().filter(|batch| batch.revision() > after);
            assert!(expected.eq(&subscriber.batches), "seed {seed}");
        }
        assert_eq!(world.spy.loads(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn after_any_store_fault_all_subscribers_end_with_the_same_state() {
    for seed in 0..40 {
        let (mut rng, world, mut held) = (Rng::with_seed(seed), World::new(), BTreeMap::new());
        let view = world.discovery(no_retention()).view(&service());
        let mut subscribers = vec![Subscriber::new(&view)];
        for _ in 0..200 {
            match rng.u8(0..12) {
                0..5 => change_something(&world, &mut rng, &mut held).await,
                5 => subscribers.push(Subscriber::new(&view)),
                6 => drop(subscribers.pop().filter(|_| rng.bool())),
                7 => advance(millis(rng.u64(0..300))).await,
                8 => world.link.inject(Fault::Cut),
                9 => world.link.inject(Fault::Compaction),
                10 if rng.u8(0..5) == 0 => world.link.inject(Fault::Rollback),
                _ => {
                    if let Some(subscriber) = rng.choice(&mut subscribers) {
                        while subscriber.read() && rng.bool() {}
                    }
                }
            }
        }
        let snapshot = world.store.load(&service(), &CallOptions::DEFAULT).await.unwrap();
        until(&view, |state| {
            let same =
                state.store_snapshot().is_some_and(|known| known.records() == snapshot.records());
            same && state.status().is_live()
        })
        .await;
        subscribers.push(Subscriber::new(&view));
        for subscriber in &mut subscribers {
            subscriber.read_all();
            let last = subscriber.snapshot.as_ref().unwrap();
            assert_eq!(last.records(), snapshot.records(), "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_lags_by_more_than_1024_receives_the_state_and_delays_no_other() {
    for (changes, resets) in [(1024, 1), (1025, 2), (5_000, 2)] {
        let (world, claim) = (World::new(), long());
        let view = world.view(DiscoveryOptions::default()).await;
        let [mut slow, mut fast] = [Subscriber::new(&view), Subscriber::new(&view)];
        slow.read_all();
        fast.read_all();
        for n in 0..changes {
            world
                .store
                .register(&node("a").with_weight(n), &claim, &CallOptions::DEFAULT)
                .await
                .unwrap();
            if n % 100 == 0 {
                until_caught_up(&world, &view).await;
                fast.read_all();
            }
        }
        until_caught_up(&world, &view).await;
        fast.read_all();
        slow.read_all();
        assert_eq!((fast.resets, fast.batches.len()), (1, changes as usize));
        let batches = if resets == 1 { changes as usize } else { 0 };
        assert_eq!((slow.resets, slow.batches.len()), (resets, batches), "{changes}");
        assert_eq!(slow.snapshot, fast.snapshot);
        world.put("b").await;
        until_caught_up(&world, &view).await;
        slow.read_all();
        assert_eq!(slow.batches.len(), batches + 1, "it continues with batches");
        assert_eq!(world.spy.loads(), 1, "the view itself kept up");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_subscriber_is_woken_by_the_next_update() {
    let world = World::new();
    let view = world.view(DiscoveryOptions::default()).await;
    let waiting: Vec<_> =
        (0..10).map(|_| tokio::spawn(changes(&view).take(3).collect::<Vec<_>>())).collect();
    advance(millis(1)).await;
    world.put("a").await;
    advance(millis(1)).await;
    world.put("b").await;
    for task in waiting {
        assert_eq!(within(task).await.unwrap().len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_view_resumes_after_a_burst_that_makes_its_watch_lag() {
    let (world, claim) = (World::new(), long());
    let view = world.view(DiscoveryOptions::default()).await;
    let mut subscriber = Subscriber::new(&view);
    // The changes do not yield, so the view cannot read meanwhile and its watch lags.
    let changes = 3 * WATCH_CAPACITY;
    for n in 0..u32::try_from(changes).unwrap() {
        world
            .store
            .register(&node("a").with_weight(n), &claim, &CallOptions::DEFAULT)
            .await
            .unwrap();
    }
    until_caught_up(&world, &view).await;
    until_live(&view).await;
    subscriber.read_all();
    assert_eq!(subscriber.snapshot, view.store_snapshot());
    assert_eq!((world.spy.loads(), world.spy.watches().len()), (1, 2), "resumed, not reloaded");
}

/// Regression: a consumer of updates could not tell an outage from a service that does not change.
#[tokio::test(start_paused = true)]
async fn updates_carry_each_status_behind_the_changes_before_it() {
    let world = World::new();
    world.put("a").await;
    world.link.inject(Fault::Outage);
    let view = world.discovery(no_retention()).view(&service());
    let mut updates = view.updates();
    let mut next = async || within(updates.next()).await.unwrap();
    let Update::Status(ViewStatus::Loading { why: Some(_), .. }) = next().await else { panic!() };

    world.link.heal();
    let Update::Reset(_) = next().await else { panic!() };
    let Update::Status(ViewStatus::Live) = next().await else { panic!() };

    world.link.inject(Fault::Outage);
    let Update::Status(ViewStatus::Stale { .. }) = next().await else { panic!() };
    for id in ["b", "c"] {
        world.put(id).await;
    }
    world.link.heal();
    until(&view, |state| state.status().is_live()).await; // the subscriber lags
    let Update::Batch(b) = next().await else { panic!() };
    let Update::Batch(c) = next().await else { panic!() };
    let Update::Status(ViewStatus::Live) = next().await else { panic!() };
    assert_eq!([&b, &c].map(|batch| batch.changes[0].id().as_str()), ["b", "c"]);
    assert!(updates.next().now_or_never().is_none(), "it lagged behind the other statuses");
}
