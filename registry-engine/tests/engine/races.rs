//! Tests for race conditions between threads.

use crate::support::*;
use fastrand::Rng;
use futures_util::{FutureExt, StreamExt};
use registry_core::{CallOptions, Registry};
use registry_engine::{DiscoveryOptions, ServiceState, View};
use registry_testkit::lag::timeout;
use std::hint::spin_loop;
use tokio::runtime::{Builder, Runtime};

fn four_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap()
}

/// Makes a change, and returns at a random time while it is being delivered.
fn change(world: &World, rng: &mut Rng, claim: &registry_core::Claim, n: u32) {
    let change = world
        .store
        .register(&node("a").with_weight(n), claim, &CallOptions::DEFAULT)
        .now_or_never();
    change.unwrap().unwrap();
    for _ in 0..rng.u32(0..3_000) {
        spin_loop();
    }
}

#[test]
fn a_waiter_misses_no_concurrent_change() {
    four_threads().block_on(async {
        let (world, claim, mut rng) = (World::new(), long(), Rng::with_seed(7));
        let mut view = world.view(DiscoveryOptions::default()).await;
        for n in 0..25_000 {
            change(&world, &mut rng, &claim, n);
            // There is one change in each round, so a missed wakeup hangs.
            timeout(secs(10), view.changed()).await.expect("a wake was missed").unwrap();
            assert_eq!(view.state().records()[0].instance().weight(), n);
        }
    });
}

#[test]
fn a_subscriber_misses_no_concurrent_update() {
    four_threads().block_on(async {
        let (world, claim, mut rng) = (World::new(), long(), Rng::with_seed(7));
        let view = world.view(DiscoveryOptions::default()).await;
        let mut updates = changes(&view);
        within(updates.next()).await.unwrap();
        for n in 0..25_000 {
            change(&world, &mut rng, &claim, n);
            timeout(secs(10), updates.next()).await.expect("a wake was missed").unwrap();
        }
    });
}

fn at(view: &View) -> *const ServiceState {
    &raw const *view.state()
}

#[test]
fn closing_a_view_keeps_a_view_that_was_opened_at_the_same_time() {
    four_threads().block_on(async {
        let world = World::new();
        let discovery = world.discovery(DiscoveryOptions::default());
        let threads = (0..4).map(|_| {
            let discovery = discovery.clone();
            tokio::spawn(async move {
                for n in 0..30_000 {
                    // Other threads close and open the same view all the time, but these two handles must share one
                    // watch.
                    let (one, two) = (discovery.view(&service()), discovery.view(&service()));
                    let (first, other, again) = (at(&one), at(&two), at(&one));
                    assert!(first != again || first == other, "two watches in round {n}");
                }
            })
        });
        let threads: Vec<_> = threads.collect();
        for thread in threads {
            timeout(secs(60), thread).await.unwrap().unwrap();
        }
    });
}
