//! What others see of a server, and in which order, on real sockets.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::routing::get;
use futures_util::StreamExt;
use registry_core::{
    Change, Discovery, DiscoveryOptions, Instance, RegistrationOptions, Registry, ServiceName,
    Start, Status, Update, Updates,
};
use registry_mem::{Fault, FaultyRegistry, MemRegistry};
use registry_tonic::{Health, ServeError, ServeOptions, serve};
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

type Outcome = Result<(), ServeError<io::Error>>;

/// A store, and what it says of one service.
struct World {
    store: MemRegistry,
    updates: Updates,
}

impl World {
    async fn new() -> Self {
        let store = MemRegistry::new();
        let discovery = Discovery::new(Arc::new(store.clone()), DiscoveryOptions::default());
        let mut view = discovery.view(&service());
        view.ready(LIMIT).await.unwrap();
        let mut updates = view.updates();
        assert!(matches!(within(updates.next()).await, Some(Update::Reset(_))));
        Self { store, updates }
    }

    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.store.clone())
    }

    async fn next(&mut self) -> Change {
        loop {
            match within(self.updates.next()).await.expect("it has no end") {
                Update::Batch(batch) if batch.is_progress() => {}
                Update::Batch(batch) => return batch.changes[0].clone(),
                Update::Reset(reset) => panic!("the store was never away: {reset:?}"),
            }
        }
    }

    async fn next_is(&mut self, status: Status) -> Instance {
        match self.next().await {
            Change::Put(instance) if instance.status() == status => instance,
            other => panic!("not {status:?}: {other:?}"),
        }
    }

    async fn next_is_gone(&mut self) {
        let next = self.next().await;
        assert!(matches!(next, Change::Delete(_)), "{next:?}");
    }

    async fn nobody_is_listed(&self) {
        assert!(self.store.load(&service()).await.unwrap().instances().is_empty());
    }

    /// Whether anything was ever registered: it would have been heard by now.
    async fn nothing_ever_was(mut self) {
        let marker = Instance::new(service(), "marker".parse().unwrap(), "h:1".parse().unwrap());
        let claim = registry_core::Claim::new(LIMIT).unwrap();
        self.store.register(&marker, &claim).await.unwrap();
        assert_eq!(self.next().await, Change::Put(marker));
    }
}

const LIMIT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("it takes too long")
}

fn service() -> ServiceName {
    "user.rpc".parse().unwrap()
}

async fn listen() -> (TcpListener, Instance) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    (listener, Instance::new(service(), "node-1".parse().unwrap(), address))
}

/// Options, and what to send to end the server.
fn until_told() -> (ServeOptions, oneshot::Sender<()>) {
    let (end, told) = oneshot::channel();
    let shutdown = async move {
        if told.await.is_err() {
            pending::<()>().await;
        }
    };
    let options = ServeOptions {
        drain: SHORT,
        shutdown: Some(Box::pin(shutdown)),
        signals: false,
        ..ServeOptions::default()
    };
    (options, end)
}

async fn request(instance: &Instance, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(instance.address().as_str()).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// An axum server with a slow page, that ends once it is let.
fn serve_slowly(
    world: &World,
    listener: TcpListener,
    node: &Instance,
    options: ServeOptions,
) -> (JoinHandle<Outcome>, Arc<Notify>, Arc<Notify>) {
    let (asked, let_go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (was_asked, go) = (asked.clone(), let_go.clone());
    let slow = async move || {
        was_asked.notify_one();
        go.notified().await;
        "done"
    };
    let app = Router::new().route("/", get(async || "hello")).route("/slow", get(slow));
    let server = serve(listener, world.registry(), node.clone(), options, |listener, shutdown| {
        axum::serve(listener, app).with_graceful_shutdown(shutdown)
    });
    (tokio::spawn(server), asked, let_go)
}

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
async fn a_server_that_fails_at_once_is_never_registered() {
    let world = World::new().await;
    let (listener, node) = listen().await;
    let (options, _end) = until_told();
    let outcome = within(serve(listener, world.registry(), node, options, |_, _| async {
        Err(io::Error::other("broken"))
    }));
    let outcome: Outcome = outcome.await;
    assert!(matches!(outcome, Err(ServeError::Server(_))), "{outcome:?}");
    world.nothing_ever_was().await;
}

#[tokio::test]
async fn a_server_that_fails_later_is_withdrawn_before_the_error() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (options, _end) = until_told();
    let (fail, failing) = oneshot::channel::<()>();
    let server = serve(listener, world.registry(), node, options, |_listener, _| async move {
        failing.await.unwrap();
        Err(io::Error::other("broken"))
    });
    let server: JoinHandle<Outcome> = tokio::spawn(server);
    world.next_is(Status::Up).await;
    fail.send(()).unwrap();
    let outcome = within(server).await.unwrap();
    assert!(matches!(outcome, Err(ServeError::Server(_))), "{outcome:?}");
    world.nobody_is_listed().await;
    world.next_is_gone().await; // and never was draining: there is nothing to drain
}

#[tokio::test]
async fn a_server_that_fails_while_it_is_being_registered_is_not_left_registered() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (options, _end) = until_told();
    let slow = FaultyRegistry::new(world.store.clone());
    slow.inject(Fault::Latency { min: SHORT * 4, max: SHORT * 4 });
    let outcome = serve(listener, Arc::new(slow), node, options, |_listener, _| async {
        sleep(SHORT).await;
        Err(io::Error::other("broken"))
    });
    let outcome: Outcome = within(outcome).await;
    assert!(matches!(outcome, Err(ServeError::Server(_))), "{outcome:?}");
    world.next_is(Status::Up).await; // the request was under way
    world.nobody_is_listed().await;
}

#[tokio::test]
async fn a_server_that_cannot_be_registered_is_shut_down() {
    let world = World::new().await;
    let (listener, node) = listen().await;
    let (mut options, _end) = until_told();
    options.registration =
        RegistrationOptions { start: Start::Within(SHORT), ..RegistrationOptions::default() };
    let away = FaultyRegistry::new(world.store.clone());
    away.inject(Fault::Outage);
    let (mut told, was_told) = oneshot::channel::<()>();
    let outcome =
        serve(listener, Arc::new(away), node, options, |_listener, shutdown| async move {
            shutdown.await;
            drop(was_told);
            Ok(())
        });
    let outcome: Outcome = within(outcome).await;
    assert!(matches!(outcome, Err(ServeError::NotRegistered(_))), "{outcome:?}");
    within(told.closed()).await;
    world.nothing_ever_was().await;
}

#[tokio::test]
async fn a_server_that_does_not_become_ready_is_never_registered() {
    for (hangs, limit) in [(true, SHORT), (false, LIMIT)] {
        let world = World::new().await;
        let (listener, node) = listen().await;
        let (mut options, _end) = until_told();
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
async fn to_end_it_before_it_is_registered_is_no_error() {
    let world = World::new().await;
    let (listener, node) = listen().await;
    let (mut options, end) = until_told();
    options.ready = Some(Box::pin(pending()));
    let (server, ..) = serve_slowly(&world, listener, &node, options);
    assert!(within(request(&node, "/")).await.unwrap().ends_with("hello"), "it runs meanwhile");
    end.send(()).unwrap();
    within(server).await.unwrap().unwrap();
    world.nothing_ever_was().await;
}

#[tokio::test]
async fn a_store_that_does_not_acknowledge_the_withdrawal_is_an_error() {
    let mut world = World::new().await;
    let (listener, node) = listen().await;
    let (mut options, end) = until_told();
    options.registration.stop_timeout = SHORT;
    let link = FaultyRegistry::new(world.store.clone());
    let server = serve(listener, Arc::new(link.clone()), node, options, |_l, shutdown| async {
        shutdown.await;
        io::Result::Ok(())
    });
    let server = tokio::spawn(server);
    world.next_is(Status::Up).await;
    link.inject(Fault::Silence);
    end.send(()).unwrap();
    let outcome = within(server).await.unwrap();
    assert!(matches!(outcome, Err(ServeError::NotWithdrawn(_))), "{outcome:?}");
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
