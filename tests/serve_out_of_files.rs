//! A server that has no file left for a connection. This is a test binary of its own, since the limit
//! holds for the whole process.
#![cfg(all(feature = "serve", unix))]
#![allow(clippy::unwrap_used)]

use registry_testkit::lag::timeout;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use service_registry::serve::Listener;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};

/// tonic asks a listener of its own again and again without a pause.
#[tokio::test]
async fn a_listener_pauses_while_there_are_no_files_and_accepts_later() {
    let mut listener = Listener::from(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..limit }).unwrap();
    assert!(TcpSocket::new_v4().is_err(), "the limit has an effect");
    let caller = socket.connect(address).await.unwrap();

    let mut accepted = pin!(listener.accept());
    let mut polls = 0;
    let counted = poll_fn(|cx| {
        polls += 1;
        accepted.as_mut().poll(cx)
    });
    assert!(tokio::time::timeout(Duration::from_millis(300), counted).await.is_err());
    assert!(polls < 10, "it is asked again and again: {polls}");

    setrlimit(Resource::Nofile, limit).unwrap();
    let (_, remote) = timeout(Duration::from_secs(10), accepted).await.expect("it never accepts");
    assert_eq!(remote, caller.local_addr().unwrap());
}
