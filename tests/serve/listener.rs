//! Tests of the listener: its connections, and the requests that servers accept over it.

use crate::support::{listen, within};
use futures_util::StreamExt;
use http::Response;
use service_registry::serve::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Regression: with Nagle's algorithm the p99 latency of a caller in Go was 41 ms instead of 6 ms.
#[tokio::test]
async fn accepted_connections_have_nodelay() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let mut listener = Listener::from(TcpListener::bind(local).await.unwrap());
        let address = listener.local_addr().unwrap();
        let caller = TcpStream::connect(address).await.unwrap();
        let (accepted, remote) = within(listener.accept()).await;
        assert!(accepted.get_ref().nodelay().unwrap());
        assert_eq!(remote, caller.local_addr().unwrap());

        let caller = TcpStream::connect(address).await.unwrap();
        let accepted = within(listener.next()).await.unwrap().unwrap();
        assert!(accepted.get_ref().nodelay().unwrap());
        assert_eq!(accepted.get_ref().peer_addr().unwrap(), caller.local_addr().unwrap());
    }
}

#[tokio::test]
async fn http_1_passes_unchanged_both_ways() {
    let (listener, node) = listen().await;
    let mut listener = Listener::from(listener);
    let mut caller = TcpStream::connect(node.address().as_str()).await.unwrap();
    let (mut accepted, _) = within(listener.accept()).await;
    for request in [&b"GET / HTTP/1.1\r\nhost: %,%\r\n\r\n"[..], b"PRI * HTTP/2.0 is a method"] {
        caller.write_all(request).await.unwrap();
        let mut read = vec![0; request.len()];
        within(accepted.read_exact(&mut read)).await.unwrap();
        assert_eq!(read, request);
        accepted.write_all(request).await.unwrap();
        within(caller.read_exact(&mut read)).await.unwrap();
        assert_eq!(read, request);
    }
}

/// Reads a frame. Returns its type and payload.
async fn frame(caller: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    caller.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; u16::from_be_bytes([head[1], head[2]]).into()];
    caller.read_exact(&mut payload).await.unwrap();
    (head[3], payload)
}

/// Sends a request with the literal `:authority`, and returns the first frame on its stream.
async fn call(caller: &mut TcpStream, authority: &str) -> (u8, Vec<u8>) {
    caller.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let length = u8::try_from(authority.len()).unwrap();
    let block = [&[0x82, 0x86, 0x84, 0x41, length], authority.as_bytes()].concat();
    let head = [0, 0, length + 5, 0x1, 0x5, 0, 0, 0, 1];
    caller.write_all(&[&head[..], &block].concat()).await.unwrap();
    loop {
        let (kind, payload) = frame(caller).await;
        if kind == 0x1 || kind == 0x3 {
            return (kind, payload);
        }
    }
}

/// Answers requests over h2, as tonic and axum do. Returns the last authority that it saw.
async fn answer_one(
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
) -> Option<String> {
    let mut connection = h2::server::handshake(io).await.unwrap();
    let mut seen = None;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        seen = request.uri().authority().map(ToString::to_string);
        respond.send_response(Response::new(()), true).unwrap();
    }
    seen
}

/// Regression: a caller in Go that is configured with two hosts of etcd could not call a server in Rust. Each call
/// failed with `RST_STREAM PROTOCOL_ERROR`.
#[tokio::test]
async fn an_authority_that_h2_refuses_is_rewritten_and_accepted() {
    const RST_STREAM: u8 = 0x3;
    const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];
    for (sent, seen) in [
        ("127.0.0.1:2379,localhost:2379", "127.0.0.1-2379,localhost-2379"),
        ("prod%2Fuser.rpc", "prod-2Fuser.rpc"),
        ("user.rpc", "user.rpc"),
    ] {
        let (listener, node) = listen().await;
        let mut caller = TcpStream::connect(node.address().as_str()).await.unwrap();
        let (bare, _) = listener.accept().await.unwrap();
        let server = tokio::spawn(answer_one(bare));
        let (kind, payload) = within(call(&mut caller, sent)).await;
        assert_eq!((kind, payload == PROTOCOL_ERROR) == (RST_STREAM, true), sent != seen, "{sent}");
        drop(caller);
        within(server).await.unwrap();

        let mut listener = Listener::from(listener);
        let mut caller = TcpStream::connect(node.address().as_str()).await.unwrap();
        let (wrapped, _) = within(listener.accept()).await;
        let server = tokio::spawn(answer_one(wrapped));
        let (kind, payload) = within(call(&mut caller, sent)).await;
        assert_eq!((kind, payload), (0x1, vec![0x88]), "200: {sent}"); // `:status` 200
        drop(caller);
        assert_eq!(within(server).await.unwrap().as_deref(), Some(seen));
    }
}
