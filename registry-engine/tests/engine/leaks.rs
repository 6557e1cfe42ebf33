//! Tests for leaks: views and registrations that are opened and closed in any order, from any thread.

use crate::support::*;
use fastrand::Rng;
use futures_util::{FutureExt, StreamExt};
use registry_core::ServiceName;
use registry_engine::{Discovery, DiscoveryOptions, Reader, Updates, View};
use registry_mem::Fault;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};

const SERVICES: usize = 50;

fn name(n: usize) -> ServiceName {
    format!("service-{n}").parse().unwrap()
}

/// A handle that keeps a view open.
enum Held {
    View(View),
    Updates(Updates),
    Reader(Reader),
}

/// Opens and closes `times` handles in random order, and closes all at the end.
async fn churn(discovery: Discovery, seed: u64, times: usize) {
    let (mut rng, mut held) = (Rng::with_seed(seed), Vec::new());
    for _ in 0..times {
        let view = discovery.view(&name(rng.usize(..SERVICES)));
        match rng.u8(0..8) {
            0..3 => drop(view), // right after its opening
            3 => held.push(Held::View(view)),
            4 => held.extend([Held::View(view.clone()), Held::View(view)]),
            5 => held.push(Held::Updates(view.updates())),
            6 => held.push(Held::Reader(view.reader())),
            _ => {
                ready(&view, Duration::ZERO).await.ok();
                held.push(Held::View(view));
            }
        }
        while held.len() > 20 || (rng.bool() && !held.is_empty()) {
            match held.swap_remove(rng.usize(..held.len())) {
                Held::View(mut view) => drop(view.changed().now_or_never()),
                Held::Updates(mut updates) => drop(updates.next().now_or_never()),
                Held::Reader(mut reader) => drop(reader.state().instances().len()),
            }
        }
        if rng.u8(0..4) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Waits until no watch is open and at most `tasks` tasks are alive.
async fn assert_nothing_leaks(world: &World, tasks: usize) {
    let alive = || Handle::current().metrics().num_alive_tasks();
    // The deadline counts yields, since a paused clock does not advance while a task is ready.
    for _ in 0..5_000_000 {
        if world.spy.open_watches() == 0 && alive() <= tasks {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("watches={}, tasks={}, before={tasks}", world.spy.open_watches(), alive());
}

async fn assert_every_view_shows_its_instance(discovery: &Discovery) {
    let views: Vec<View> = (0..SERVICES).map(|n| discovery.view(&name(n))).collect();
    for view in &views {
        ready(view, secs(20)).await.unwrap();
        assert_eq!(shown(view), "a");
    }
}

async fn ten_thousand_views(tasks: u64) {
    for seed in 0..2 {
        let world = World::new();
        for n in 0..SERVICES {
            world.put_as(&node_of(&name(n), "a")).await;
        }
        let alive = Handle::current().metrics().num_alive_tasks();
        let discovery = world.discovery(DiscoveryOptions::default());
        let times = 10_000 / usize::try_from(tasks).unwrap();
        let churns: Vec<_> = (0..tasks)
            .map(|n| tokio::spawn(churn(discovery.clone(), seed * tasks + n, times)))
            .collect();
        for churn in churns {
            within(churn).await.unwrap();
        }
        assert_nothing_leaks(&world, alive).await;
        assert_every_view_shows_its_instance(&discovery).await;
        assert_nothing_leaks(&world, alive).await;
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_views_leak_nothing_on_one_thread() {
    ten_thousand_views(8).await;
}

#[test]
fn ten_thousand_views_leak_nothing_on_four_threads() {
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    runtime.block_on(ten_thousand_views(8));
}

#[tokio::test(start_paused = true)]
async fn views_closed_during_an_outage_leak_nothing() {
    for fault in [Fault::Outage, Fault::Silence, Fault::LostReplies] {
        let world = World::new();
        let discovery = world.discovery(DiscoveryOptions::default());
        let open = || (0..SERVICES).map(|n| discovery.view(&name(n))).collect::<Vec<_>>();
        let views = open();
        advance(secs(1)).await;
        world.link.inject(fault);
        advance(secs(1)).await;
        drop(views);
        let views = open(); // during the outage
        advance(secs(12)).await;
        drop(views);
        advance(millis(1)).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "{fault:?}");
        assert_eq!(world.spy.open_watches(), 0, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_registrations_leak_nothing_however_they_end() {
    let world = World::new();
    let mut rng = Rng::with_seed(7);
    for n in 0..1_000 {
        let registration = world.try_start(node(&n.to_string()), in_background()).await.unwrap();
        if rng.bool() {
            tokio::task::yield_now().await;
        }
        match rng.u8(0..3) {
            0 => drop(registration),
            1 => within(registration.stop()).await.unwrap(),
            _ => within(registration.drain(millis(1))).await.unwrap(),
        }
    }
    advance(millis(1)).await; // the tasks end at once, not after a timeout
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    assert_eq!(world.stored_ids().await, "");
}
