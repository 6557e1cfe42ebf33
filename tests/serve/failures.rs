//! After any failure, no instance stays registered.

use crate::support::{
    LIMIT, Outcome, SHORT, World, listen, request, serve_slowly, until_ended, within,
};
use service_registry::serve::{ServeError, ServeOptions, serve};
use service_registry::store::Start;
use service_registry::testing::{Fault, FaultyRegistry};
use service_registry::{Client, Instance, InstanceStatus, RegistrationOptions};
use std::future::pending;
use std::io;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

#[tokio::test]
async fn a_server_that_fails_at_once_is_never_registered() {
    let world = World::new().await;
    let (listener, node) = listen().await;
    let (options, _end) = until_ended();
    let outcome = within(serve(listener, &world.client(), node, options, |_, _| async {
        Err(io::Error::other("broken"))
    }));
    let outcome: Outcome = outcome.await;
    assert!(matches!(outcome, Err(ServeError::Server(_))), "{outcome:?}");
    world.nothing_ever_was().await;
}

/// Starts a server that fails once the returned sender is used.
fn serve_until_it_fails(
    world: &World,
    listener: TcpListener,
    node: Instance,
    options: ServeOptions,
) -> (JoinHandle<Outcome>, oneshot::Sender<()>) {
    let (fail, failing) = oneshot::channel();
    let server = serve(listener, &world.client(), node, options, |_listener, _| async move {
        failing.await.unwrap();
        Err(io::Error::other("broken"))
    });
    (tokio::spawn(server), fail)
}

#[tokio::test]
async fn a_server_that_fails_later_is_withdrawn_before_the_error() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (options, _end) = until_ended();
    let (server, fail) = serve_until_it_fails(&world, listener, node, options);
    world.next_is(InstanceStatus::Up).await;
    fail.send(()).unwrap();
    let outcome = within(server).await.unwrap();
    assert!(matches!(outcome, Err(ServeError::Server(_))), "{outcome:?}");
    world.nobody_is_listed().await;
    world.next_is_gone().await; // without draining, since the server has ended
}

#[tokio::test]
async fn a_server_that_fails_while_it_drains_is_withdrawn_at_once() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (mut options, end) = until_ended();
    options.drain = LIMIT * 10;
    let (server, fail) = serve_until_it_fails(&world, listener, node, options);
    world.next_is(InstanceStatus::Up).await;
    end.send(()).unwrap();
    world.next_is(InstanceStatus::Draining).await;
    fail.send(()).unwrap();
    let outcome = within(server).await.unwrap();
    assert!(matches!(outcome, Err(ServeError::Server(_))), "{outcome:?}");
    world.nobody_is_listed().await;
}

#[tokio::test]
async fn a_server_that_fails_during_its_registration_is_withdrawn() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (options, _end) = until_ended();
    let slow = FaultyRegistry::new(world.store.clone());
    slow.inject(Fault::Latency { min: SHORT * 4, max: SHORT * 4 });
    let outcome =
        serve(listener, &Client::from_registry(slow), node, options, |_listener, _| async {
            sleep(SHORT).await;
            Err(io::Error::other("broken"))
        });
    let outcome: Outcome = within(outcome).await;
    assert!(matches!(outcome, Err(ServeError::Server(_))), "{outcome:?}");
    world.next_is(InstanceStatus::Up).await; // the request was in flight
    world.nobody_is_listed().await;
}

#[tokio::test]
async fn a_server_that_cannot_be_registered_is_shut_down() {
    let world = World::new().await;
    let (listener, node) = listen().await;
    let (mut options, _end) = until_ended();
    options.registration = RegistrationOptions::default().with_start(Start::Within(SHORT));
    let away = FaultyRegistry::new(world.store.clone());
    away.inject(Fault::Outage);
    let (mut shut_down, was_shut_down) = oneshot::channel::<()>();
    let outcome = serve(
        listener,
        &Client::from_registry(away),
        node,
        options,
        |_listener, shutdown| async move {
            shutdown.await;
            drop(was_shut_down);
            Ok(())
        },
    );
    let outcome: Outcome = within(outcome).await;
    assert!(matches!(outcome, Err(ServeError::NotRegistered(_))), "{outcome:?}");
    within(shut_down.closed()).await;
    world.nothing_ever_was().await;
}

#[tokio::test]
async fn a_server_that_does_not_become_ready_is_never_registered() {
    for (hangs, limit) in [(true, SHORT), (false, LIMIT)] {
        let world = World::new().await;
        let (listener, node) = listen().await;
        let (mut options, _end) = until_ended();
        options.ready_timeout = limit;
        options.ready = Some(Box::pin(async move {
            if hangs {
                pending::<()>().await;
            }
            Err("the cache is cold".into())
        }));
        let (server, ..) = serve_slowly(&world, listener, &node, options);
        let outcome = within(server).await.unwrap();
        assert!(matches!(outcome, Err(ServeError::NotReady(_))), "{outcome:?}");
        world.nothing_ever_was().await;
    }
}

#[tokio::test]
async fn a_shutdown_before_the_registration_is_no_error() {
    let world = World::new().await;
    let (listener, node) = listen().await;
    let (mut options, end) = until_ended();
    options.ready = Some(Box::pin(pending()));
    let (server, ..) = serve_slowly(&world, listener, &node, options);
    assert!(
        within(request(&node, "/")).await.unwrap().ends_with("hello"),
        "must serve before it is ready"
    );
    end.send(()).unwrap();
    within(server).await.unwrap().unwrap();
    world.nothing_ever_was().await;
}

#[tokio::test]
async fn a_store_that_does_not_acknowledge_the_withdrawal_is_an_error() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (mut options, end) = until_ended();
    options.registration.stop_timeout = SHORT;
    let link = FaultyRegistry::new(world.store.clone());
    let server = serve(
        listener,
        &Client::from_registry(link.clone()),
        node,
        options,
        |_l, shutdown| async {
            shutdown.await;
            io::Result::Ok(())
        },
    );
    let server = tokio::spawn(server);
    world.next_is(InstanceStatus::Up).await;
    link.inject(Fault::Silence);
    end.send(()).unwrap();
    let outcome = within(server).await.unwrap();
    assert!(matches!(outcome, Err(ServeError::NotWithdrawn(_))), "{outcome:?}");
}
