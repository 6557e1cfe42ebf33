//! A server that has no file descriptor left for a connection. It is a separate test binary, since the limit applies
//! to the whole process.
#![cfg(all(feature = "serve", unix))]
#![allow(clippy::unwrap_used)]

use registry_testkit::lag::timeout;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use service_registry::serve::Listener;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};

/// tonic's own listener would retry in a busy loop.
#[tokio::test]
async fn a_listener_without_file_descriptors_pauses_and_accepts_later() {
    let mut listener = Listener::from(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..limit }).unwrap();
    assert!(TcpSocket::new_v4().is_err(), "the limit has no effect");
    let caller = socket.connect(address).await.unwrap();

    let mut accepted = pin!(listener.accept());
    let mut polls = 0;
    let counted = poll_fn(|cx| {
        polls += 1;
        accepted.as_mut().poll(cx)
    });
    assert!(tokio::time::timeout(Duration::from_millis(300), counted).await.is_err());
    assert!(polls < 10, "polled {polls} times in 300 ms");

    setrlimit(Resource::Nofile, limit).unwrap();
    let (_, remote) =
        timeout(Duration::from_secs(10), accepted).await.expect("the listener never accepts");
    assert_eq!(remote, caller.local_addr().unwrap());
}
