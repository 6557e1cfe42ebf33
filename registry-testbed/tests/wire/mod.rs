//! The servers' own protocols over a bare stream, so that the tests need no client library.

#![allow(dead_code, reason = "each test binary uses only some of the servers")]

use registry_testkit::lag::timeout;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends a request, and reads until the server closes the connection.
pub(crate) async fn exchange(address: &str, request: &str) -> io::Result<String> {
    const WITHIN: Duration = Duration::from_secs(10);
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        Ok(reply)
    };
    timeout(WITHIN, exchange).await?
}

/// Sends one inline command to Redis.
pub(crate) async fn redis(address: &str, command: &str) -> io::Result<String> {
    exchange(address, &format!("{command}\r\nQUIT\r\n")).await
}

/// Makes one call of etcd's JSON gateway.
pub(crate) async fn etcd(endpoint: &str, path: &str, body: &str) -> io::Result<String> {
    let address = endpoint.strip_prefix("http://").unwrap();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
    exchange(address, &(head + body)).await
}

/// `{"key": "k", "value": "v"}` in the gateway's base64.
pub(crate) const PUT_K: &str = r#"{"key": "aw==", "value": "dg=="}"#;

/// The request for the key of [`PUT_K`].
pub(crate) const GET_K: &str = r#"{"key": "aw=="}"#;

/// The value of [`PUT_K`] in a response.
pub(crate) const V: &str = r#""value":"dg==""#;
