//! Tests of SIGTERM and SIGINT. A signal reaches the whole process, so one test runs at a time.
#![cfg(all(unix, feature = "serve", feature = "mem"))]
#![allow(clippy::unwrap_used)]

use futures_util::StreamExt;
use registry_core::CallOptions;
use registry_testkit::lag::timeout;
use rustix::process::{Signal, getpid, kill_process};
use service_registry::serve::{Listener, ServeError, ServeOptions, Shutdown, serve};
use service_registry::store::Registry;
use service_registry::testing::{Fault, FaultyRegistry, MemRegistry};
use service_registry::{Client, Instance, InstanceStatus, ServiceName};
use std::future::pending;
use std::io;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, oneshot};

const LIMIT: Duration = Duration::from_secs(10);

/// Held by the running test.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn the_first_signal_drains_and_the_second_ends_the_server_at_once() {
    let _alone = ALONE.lock().await;
    for (first, second) in [(Signal::TERM, Signal::INT), (Signal::INT, Signal::TERM)] {
        let store = MemRegistry::new();
        let (listener, node) = listen().await;
        let options = ServeOptions::default().with_drain(LIMIT * 10);
        let server = tokio::spawn(serve(
            listener,
            &Client::from_registry(store.clone()),
            node,
            options,
            idle_server,
        ));
        until(&store, InstanceStatus::Up).await;
        send(first);
        until(&store, InstanceStatus::Draining).await;
        send(second);
        let outcome = timeout(LIMIT, server).await.expect("the drain goes on").unwrap();
        assert!(matches!(outcome, Err(ServeError::SecondSignal)), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_signal_before_the_server_is_ready_ends_it() {
    let _alone = ALONE.lock().await;
    let (listener, node) = listen().await;
    let (polled, is_polled) = oneshot::channel();
    let ready = Box::pin(async {
        polled.send(()).unwrap();
        pending().await
    });
    let options = ServeOptions::default().with_ready(ready);
    let store = MemRegistry::new();
    let server =
        tokio::spawn(serve(listener, &Client::from_registry(store), node, options, idle_server));
    timeout(LIMIT, is_polled).await.unwrap().unwrap();
    send(Signal::TERM);
    timeout(LIMIT, server).await.expect("the signal has no effect").unwrap().unwrap();
}

/// The runtime has one thread, so the withdrawal has started once the test notices the end of the server.
#[tokio::test]
async fn a_failed_server_still_handles_signals_while_it_is_withdrawn() {
    let _alone = ALONE.lock().await;
    let store = MemRegistry::new();
    let link = FaultyRegistry::new(store.clone());
    let (listener, node) = listen().await;
    let mut options = ServeOptions::default();
    options.registration.stop_timeout = LIMIT * 10;
    let (fail, failing) = oneshot::channel::<()>();
    let (mut ended, end) = oneshot::channel::<()>();
    let server = serve(
        listener,
        &Client::from_registry(link.clone()),
        node,
        options,
        |_listener, _| async {
            failing.await.unwrap();
            drop(end);
            Err(io::Error::other("broken"))
        },
    );
    let server = tokio::spawn(server);
    until(&store, InstanceStatus::Up).await;
    link.inject(Fault::Silence);
    fail.send(()).unwrap();
    timeout(LIMIT, ended.closed()).await.unwrap();
    send(Signal::TERM);
    send(Signal::INT); // another kind, since two signals of a kind may arrive as one
    let outcome = timeout(LIMIT, server).await.expect("the signals have no effect").unwrap();
    assert!(matches!(outcome, Err(ServeError::SecondSignal)), "{outcome:?}");
}

async fn listen() -> (TcpListener, Instance) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    (listener, Instance::from_parts(service(), "node-1".parse().unwrap(), address))
}

fn service() -> ServiceName {
    "user.rpc".parse().unwrap()
}

/// A server that does nothing until its shutdown.
async fn idle_server(_listener: Listener, shutdown: Shutdown) -> io::Result<()> {
    shutdown.await;
    Ok(())
}

/// Waits until the only instance has this status.
async fn until(store: &MemRegistry, status: InstanceStatus) {
    let reached = async {
        loop {
            let snapshot = store.load(&service(), &CallOptions::DEFAULT).await.unwrap();
            if snapshot.instances().any(|instance| instance.status() == status) {
                return;
            }
            let mut watch =
                store.watch(&service(), snapshot.cursor(), &CallOptions::DEFAULT).await.unwrap();
            watch.next().await.unwrap().unwrap();
        }
    };
    timeout(LIMIT, reached).await.unwrap_or_else(|_| panic!("no instance becomes {status:?}"));
}

fn send(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}
