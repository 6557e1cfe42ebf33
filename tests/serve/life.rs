//! Tests of a server's life, from its registration to its end.

use crate::support::{SHORT, World, listen, request, serve_slowly, service, until_ended, within};
use registry_core::CallOptions;
use service_registry::serve::{HealthReporter, ServeError, serve};
use service_registry::store::Registry;
use service_registry::{Instance, InstanceStatus};
use std::io;
use std::sync::{Arc, Mutex};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

#[tokio::test]
async fn a_server_drains_is_withdrawn_and_only_then_refuses_connections() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (options, end) = until_ended();
    let store = world.store.clone();
    let server = serve(listener, &world.client(), node, options, |listener, shutdown| async move {
        assert!(
            store.load(&service(), &CallOptions::DEFAULT).await.unwrap().records().is_empty(),
            "registered before the server runs"
        );
        shutdown.await;
        assert!(
            store.load(&service(), &CallOptions::DEFAULT).await.unwrap().records().is_empty(),
            "shut down before the withdrawal"
        );
        drop(listener);
        io::Result::Ok(())
    });
    let server = tokio::spawn(server);
    let node = world.next_is(InstanceStatus::Up).await;
    within(TcpStream::connect(node.address().as_str())).await.unwrap();
    end.send(()).unwrap();
    world.next_is(InstanceStatus::Draining).await;
    within(TcpStream::connect(node.address().as_str())).await.unwrap();
    world.next_is_gone().await;
    within(server).await.unwrap().unwrap();
    within(TcpStream::connect(node.address().as_str())).await.unwrap_err();
}

#[tokio::test]
async fn a_request_in_flight_completes_after_the_withdrawal() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (options, end) = until_ended();
    let (server, slow) = serve_slowly(&world, listener, &node, options);
    world.next_is(InstanceStatus::Up).await;
    let answer = tokio::spawn({
        let node = node.clone();
        async move { request(&node, "/slow").await }
    });
    within(slow.requested.notified()).await;
    end.send(()).unwrap();
    world.next_is(InstanceStatus::Draining).await;
    assert!(
        within(request(&node, "/")).await.unwrap().ends_with("hello"),
        "must serve while draining"
    );
    world.next_is_gone().await;
    sleep(SHORT).await; // a part of the grace
    slow.release.notify_one();
    assert!(within(answer).await.unwrap().unwrap().ends_with("done"));
    within(server).await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_that_outlast_the_grace_are_an_error() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (mut options, end) = until_ended();
    options.grace = SHORT;
    let (server, slow) = serve_slowly(&world, listener, &node, options);
    world.next_is(InstanceStatus::Up).await;
    let _answer = tokio::spawn(async move { request(&node, "/slow").await });
    within(slow.requested.notified()).await;
    end.send(()).unwrap();
    let outcome = within(server).await.unwrap();
    assert!(
        matches!(outcome, Err(ServeError::GraceExceeded(grace)) if grace == SHORT),
        "{outcome:?}"
    );
    world.nobody_is_listed().await;
}

#[tokio::test]
async fn an_update_by_the_owner_is_registered() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (mut options, end) = until_ended();
    let (changes, updates) = watch::channel(node.clone());
    options.updates = Some(updates);
    let (server, ..) = serve_slowly(&world, listener, &node, options);
    assert_eq!(world.next_is(InstanceStatus::Up).await, node);
    changes.send_replace(node.clone().with_weight(7));
    assert_eq!(world.next_is(InstanceStatus::Up).await.weight(), 7);
    drop(changes); // no further updates
    end.send(()).unwrap();
    assert_eq!(world.next_is(InstanceStatus::Draining).await.weight(), 7);
    world.next_is_gone().await;
    within(server).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_health_is_serving_from_the_registration_to_the_draining() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (mut options, end) = until_ended();
    let (ready, is_ready) = oneshot::channel();
    options.ready = Some(Box::pin(async { is_ready.await.map_err(Into::into) }));
    let reports = Arc::new(Mutex::new(Vec::new()));
    let (store, reported) = (world.store.clone(), reports.clone());
    options.health = HealthReporter::new(move |serving| {
        let (store, reported) = (store.clone(), reported.clone());
        async move {
            let listed = store.load(&service(), &CallOptions::DEFAULT).await.unwrap();
            let status = listed.instances().next().map(Instance::status);
            reported.lock().unwrap().push((serving, status));
        }
    });
    let (server, _) = serve_slowly(&world, listener, &node, options);
    assert!(
        within(request(&node, "/")).await.unwrap().ends_with("hello"),
        "must serve before it is ready"
    );
    ready.send(()).unwrap();
    world.next_is(InstanceStatus::Up).await;
    end.send(()).unwrap();
    world.next_is(InstanceStatus::Draining).await;
    world.next_is_gone().await;
    within(server).await.unwrap().unwrap();
    let up = Some(InstanceStatus::Up);
    assert_eq!(*reports.lock().unwrap(), [(false, None), (true, up), (false, up)]);
}
