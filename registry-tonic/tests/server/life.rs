//! From registered to closed.

use crate::support::{SHORT, World, listen, request, serve_slowly, service, until_told, within};
use registry_core::{Registry, Status};
use registry_tonic::{Health, ServeError, serve};
use std::io;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn it_is_up_then_draining_then_gone_and_only_then_refuses() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (options, end) = until_told();
    let store = world.store.clone();
    let server =
        serve(listener, world.registry(), node, options, |listener, shutdown| async move {
            assert!(store.load(&service()).await.unwrap().instances().is_empty(), "it runs first");
            shutdown.await;
            assert!(store.load(&service()).await.unwrap().instances().is_empty(), "it ends last");
            drop(listener);
            io::Result::Ok(())
        });
    let server = tokio::spawn(server);
    let node = world.next_is(Status::Up).await;
    within(TcpStream::connect(node.address().as_str())).await.unwrap();
    end.send(()).unwrap();
    world.next_is(Status::Draining).await;
    within(TcpStream::connect(node.address().as_str())).await.unwrap();
    world.next_is_gone().await;
    within(server).await.unwrap().unwrap();
    within(TcpStream::connect(node.address().as_str())).await.unwrap_err();
}

#[tokio::test]
async fn a_request_under_way_completes_after_the_withdrawal() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (options, end) = until_told();
    let (server, asked, let_go) = serve_slowly(&world, listener, &node, options);
    world.next_is(Status::Up).await;
    let slow = tokio::spawn({
        let node = node.clone();
        async move { request(&node, "/slow").await }
    });
    within(asked.notified()).await;
    end.send(()).unwrap();
    world.next_is(Status::Draining).await;
    assert!(within(request(&node, "/")).await.unwrap().ends_with("hello"), "it still serves");
    world.next_is_gone().await;
    sleep(SHORT).await; // some of the grace
    let_go.notify_one();
    assert!(within(slow).await.unwrap().unwrap().ends_with("done"));
    within(server).await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_that_outlast_the_grace_are_an_error() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (mut options, end) = until_told();
    options.grace = SHORT;
    let (server, asked, _let_go) = serve_slowly(&world, listener, &node, options);
    world.next_is(Status::Up).await;
    let _slow = tokio::spawn(async move { request(&node, "/slow").await });
    within(asked.notified()).await;
    end.send(()).unwrap();
    let outcome = within(server).await.unwrap();
    assert!(matches!(outcome, Err(ServeError::CutOff(grace)) if grace == SHORT), "{outcome:?}");
    world.nobody_is_listed().await;
}

#[tokio::test]
async fn what_its_owner_changes_is_registered() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (mut options, end) = until_told();
    let (changes, updates) = watch::channel(node.clone());
    options.updates = Some(updates);
    let (server, ..) = serve_slowly(&world, listener, &node, options);
    assert_eq!(world.next_is(Status::Up).await, node);
    changes.send_replace(node.clone().with_weight(7));
    assert_eq!(world.next_is(Status::Up).await.weight(), 7);
    drop(changes); // nothing more to say
    end.send(()).unwrap();
    assert_eq!(world.next_is(Status::Draining).await.weight(), 7);
    world.next_is_gone().await;
    within(server).await.unwrap().unwrap();
}

#[tokio::test]
async fn its_grpc_health_is_serving_from_registered_to_draining() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (mut options, end) = until_told();
    options.drain = SHORT * 5;
    let (ready, is_ready) = oneshot::channel();
    options.ready = Some(Box::pin(async { is_ready.await.map_err(Into::into) }));
    let (reporter, health) = tonic_health::server::health_reporter();
    options.health = Some(Health::new(reporter).of::<HealthOfShop>());
    let server = serve(listener, world.registry(), node.clone(), options, |listener, shutdown| {
        Server::builder()
            .add_service(health)
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), shutdown)
    });
    let server = tokio::spawn(server);

    let channel = Channel::from_shared(format!("http://{}", node.address())).unwrap();
    let mut client = HealthClient::new(within(channel.connect()).await.unwrap());
    let mut status = async |service: &str| {
        let request = HealthCheckRequest { service: service.into() };
        within(client.check(request)).await.unwrap().into_inner().status
    };
    let (serving, not_serving) = (ServingStatus::Serving as i32, ServingStatus::NotServing as i32);
    for name in ["", "mall.Shop"] {
        assert_eq!(status(name).await, not_serving, "it is not registered");
    }
    ready.send(()).unwrap();
    world.next_is(Status::Up).await;
    for name in ["", "mall.Shop"] {
        assert_eq!(status(name).await, serving, "it is registered");
    }
    end.send(()).unwrap();
    world.next_is(Status::Draining).await;
    for name in ["", "mall.Shop"] {
        assert_eq!(status(name).await, not_serving, "it drains");
    }
    drop(client);
    world.next_is_gone().await;
    within(server).await.unwrap().unwrap();
}

/// A service to be asked for by name.
struct HealthOfShop;

impl tonic::server::NamedService for HealthOfShop {
    const NAME: &'static str = "mall.Shop";
}
