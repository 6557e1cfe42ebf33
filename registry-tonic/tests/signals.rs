//! SIGTERM, once and twice. It reaches the whole process: this is the only test of it.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use registry_core::{Instance, Registry, ServiceName, Status};
use registry_mem::MemRegistry;
use registry_tonic::{ServeError, ServeOptions, serve};
use rustix::process::{Signal, getpid, kill_process};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_first_signal_drains_and_the_second_ends_at_once() {
    let store = Arc::new(MemRegistry::new());
    let service: ServiceName = "user.rpc".parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let node = Instance::new(service.clone(), "node-1".parse().unwrap(), address);
    let options = ServeOptions { drain: LIMIT * 10, ..ServeOptions::default() };
    let server = serve(listener, store.clone(), node, options, |_listener, shutdown| async {
        shutdown.await;
        io::Result::Ok(())
    });
    let server = tokio::spawn(server);

    let mut cursor = store.load(&service).await.unwrap().cursor().clone();
    for status in [Status::Up, Status::Draining] {
        let mut watch = store.watch(&service, &cursor).await.unwrap();
        let next = timeout(LIMIT, futures_util::StreamExt::next(&mut watch)).await.unwrap();
        cursor = next.unwrap().unwrap().cursor;
        assert_eq!(store.load(&service).await.unwrap().instances()[0].status(), status);
        kill_process(getpid(), Signal::TERM).unwrap();
    }
    let outcome = timeout(LIMIT, server).await.expect("it drains on").unwrap();
    assert!(matches!(outcome, Err(ServeError::Impatient)), "{outcome:?}");
}
