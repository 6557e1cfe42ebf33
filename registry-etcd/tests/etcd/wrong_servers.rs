//! Servers that are not the expected etcd: the error names the host, and what to do.

use crate::support::within;
use registry_core::{Error, ErrorKind};
use registry_etcd::EtcdRegistry;
use registry_testbed::servers::{Etcd, Redis, ServerTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Starts a server that answers the first bytes of each connection with `answer`, then closes the connection.
async fn server_that_answers(answer: &'static [u8]) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer).await;
        }
    });
    (address, serving)
}

/// Asserts that the error contains the host and the hint, each once. Returns the error.
async fn assert_reported(url: &str, host: &str, hint: &str) -> Error {
    let error = within(EtcdRegistry::connect(&url.parse().unwrap())).await.unwrap_err();
    let told = error.chain().to_string();
    assert!(told.contains(hint) && told.contains(host), "{url}: {told}");
    assert_eq!(told.matches(hint).count(), 1, "{told}");
    for debug in ["Status {", "Kind(", "Some(", "Os {"] {
        assert!(!told.contains(debug), "{told}");
    }
    error
}

#[tokio::test]
async fn plain_text_to_a_tls_port_and_the_reverse_are_reported() {
    let tls = ServerTls::generate().unwrap();
    let secure = within(Etcd::start_tls(Etcd::options(), &tls)).await.unwrap();
    let host = secure.url().trim_start_matches("etcds://").to_owned();
    let error = assert_reported(&format!("etcd://{host}"), &host, "use `etcds://`").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    let plain = within(Etcd::start()).await.unwrap();
    let host = plain.url().trim_start_matches("etcd://").to_owned();
    let url = format!("etcds://{host}?ca={}", tls.ca().display());
    let error = assert_reported(&url, &host, "`etcd://`").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn untrusted_certificate_is_reported_with_the_options_to_check() {
    let tls = ServerTls::generate().unwrap();
    let etcd = within(Etcd::start_tls(Etcd::options(), &tls)).await.unwrap();
    let host = etcd.url().trim_start_matches("etcds://").to_owned();
    for options in [
        format!("ca={}", tls.other_ca().display()),
        format!("ca={}&server_name=elsewhere.example", tls.ca().display()),
    ] {
        let url = format!("etcds://{host}?{options}");
        let error = assert_reported(&url, &host, "check `ca`, and set `server_name`").await;
        assert_eq!(error.kind(), ErrorKind::Denied);
    }
}

#[tokio::test]
async fn server_that_is_no_etcd_is_reported() {
    let redis = within(Redis::start()).await.unwrap();
    let host = redis.url().trim_start_matches("redis://").to_owned();
    let (host, _) = host.split_once('/').unwrap_or((&host, ""));
    let error = assert_reported(&format!("etcd://{host}"), host, "the server is a Redis").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    let answers: [(&[u8], &str); 5] = [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "the server speaks HTTP/1"),
        (b"-ERR unknown command 'PRI'\r\n", "the server is a Redis"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "the server requires TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP/2"),
        (b"", "closed the connection before its first byte"),
    ];
    for (answer, hint) in answers {
        let (address, serving) = server_that_answers(answer).await;
        let error = assert_reported(&format!("etcd://{address}"), &address, hint).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        serving.abort();
    }
    let (address, serving) = server_that_answers(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let url = format!("etcds://{address}");
    assert_reported(&url, &address, "the server does not speak TLS").await;
    serving.abort();
}
