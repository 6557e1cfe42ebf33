//! Tests of a service's own health check.

use crate::support::{LIMIT, World, listen, until_ended, within};
use registry_testkit::lag::timeout;
use service_registry::InstanceStatus;
use service_registry::serve::{HealthCheck, HealthReporter, serve};
use std::future::{pending, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

#[tokio::test(start_paused = true)]
async fn three_failures_of_the_check_drain_the_instance_and_one_success_restores_it() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (options, end) = until_ended();
    let is_healthy = Arc::new(AtomicBool::new(true));
    let (checked, reports) = (is_healthy.clone(), Arc::new(Mutex::new(Vec::new())));
    let (reported, (changes, updates)) = (reports.clone(), watch::channel(node.clone()));
    let interval = Duration::from_secs(1);
    let check = HealthCheck::new(move || ready(checked.load(Ordering::SeqCst)));
    let check = check.with_interval(interval);
    let health = HealthReporter::new(move |serving| {
        reported.lock().unwrap().push(serving);
        ready(())
    });
    let options = options.with_check(check).with_health(health).with_updates(updates);
    let server =
        serve(listener, &world.client(), node.clone(), options, |_listener, shutdown| async {
            shutdown.await;
            Ok::<_, std::io::Error>(())
        });
    let server = tokio::spawn(server);
    world.next_is(InstanceStatus::Up).await;

    is_healthy.store(false, Ordering::SeqCst);
    let start = tokio::time::Instant::now();
    world.next_is(InstanceStatus::Draining).await;
    assert!(start.elapsed() > interval * 2, "drained before the third check");
    // An update by the owner does not end the draining.
    changes.send_replace(node.clone().with_weight(7));
    let draining = world.next_is(InstanceStatus::Draining).await;
    assert_eq!(draining.weight(), 7);

    is_healthy.store(true, Ordering::SeqCst);
    assert_eq!(world.next_is(InstanceStatus::Up).await.weight(), 7);
    assert_eq!(*reports.lock().unwrap(), [false, true, false, true]);
    end.send(()).unwrap();
    within(server).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hanging_check_counts_as_a_failure() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (options, end) = until_ended();
    let check = HealthCheck::new(pending::<bool>).with_failures(1);
    let options = options.with_check(check.with_interval(Duration::from_millis(1)));
    let server = serve(listener, &world.client(), node, options, |_listener, shutdown| async {
        shutdown.await;
        Ok::<_, std::io::Error>(())
    });
    let server = tokio::spawn(server);
    world.next_is(InstanceStatus::Up).await;
    timeout(LIMIT, world.next_is(InstanceStatus::Draining)).await.unwrap();
    end.send(()).unwrap();
    within(server).await.unwrap().unwrap();
}

/// Regression, two bugs: each update restarted the interval and the count of failures, so an owner with many updates
/// was never found unhealthy. And a refused update replaced the instance, so that its draining was refused as well.
#[tokio::test(start_paused = true)]
async fn updates_neither_delay_the_check_nor_prevent_the_draining() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (options, end) = until_ended();
    let (changes, updates) = watch::channel(node.clone());
    let check = HealthCheck::new(|| ready(false)).with_interval(Duration::from_secs(2));
    let options = options.with_check(check).with_updates(updates);
    let server =
        serve(listener, &world.client(), node.clone(), options, |_listener, shutdown| async {
            shutdown.await;
            Ok::<_, std::io::Error>(())
        });
    let server = tokio::spawn(server);
    world.next_is(InstanceStatus::Up).await;
    let owner = tokio::spawn(async move {
        for weight in 1.. {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let bad = node.clone().with_weight(weight).with_label("", "refused");
            changes.send_replace(if weight % 2 == 0 {
                bad
            } else {
                node.clone().with_weight(weight)
            });
        }
    });
    let drained = async { while world.next_put().await.status() != InstanceStatus::Draining {} };
    timeout(LIMIT, drained).await.unwrap();
    owner.abort();
    end.send(()).unwrap();
    within(server).await.unwrap().unwrap();
}
