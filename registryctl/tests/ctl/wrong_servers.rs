//! URLs that reach the wrong kind of server: the error is of the same kind for each store.

use crate::support::within;
use registry_testbed::servers::{Etcd, Redis, ServerTls};
use service_registry::ErrorKind;
use service_registry::store::connect_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A mistake in a URL, and the error that it must cause.
struct Mistake {
    what: &'static str,
    /// For etcd and for Redis: the URL, and a part of the remedy in the error.
    urls: [(String, &'static str); 2],
    kind: ErrorKind,
}

/// Starts a server that replies to each connection with `answer` and closes it.
async fn server_that_answers(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer).await;
        }
    });
    address
}

fn host(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap();
    rest.split(['/', '?']).next().unwrap()
}

#[tokio::test]
async fn mistake_in_a_url_is_the_same_kind_of_error_with_each_store() {
    let tls = ServerTls::generate().unwrap();
    let (etcd, redis) =
        (within(Etcd::start()).await.unwrap(), within(Redis::start()).await.unwrap());
    let secure_etcd = within(Etcd::start_tls(Etcd::options(), &tls)).await.unwrap();
    let secure_redis = within(Redis::start_tls(Redis::options(), &tls)).await.unwrap();
    let http = server_that_answers(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
    let silent = server_that_answers(b"").await;
    let alert = server_that_answers(b"\x15\x03\x01\x00\x02\x02\x46").await;
    let [plain, secure] = [[etcd.url(), redis.url()], [secure_etcd.url(), secure_redis.url()]];
    let ([etcd, redis], [secure_etcd, secure_redis]) = (plain.map(host), secure.map(host));
    let options = format!("ca={}", tls.ca().display());
    let others = format!("ca={}", tls.other_ca().display());
    let port = "check host and port";
    let mistakes = [
        Mistake {
            what: "the port of the other store",
            urls: [(format!("etcd://{redis}"), port), (format!("redis://{etcd}"), port)],
            kind: ErrorKind::Unavailable,
        },
        Mistake {
            what: "a server of HTTP/1",
            urls: [(format!("etcd://{http}"), port), (format!("redis://{http}"), port)],
            kind: ErrorKind::Unavailable,
        },
        Mistake {
            what: "a server that hangs up",
            urls: [
                (format!("etcd://{silent}"), "etcds://"),
                (format!("redis://{silent}"), "rediss://"),
            ],
            kind: ErrorKind::Unavailable,
        },
        Mistake {
            what: "plain text to a server that wants TLS",
            urls: [
                (format!("etcd://{secure_etcd}"), "etcds://"),
                (format!("redis://{secure_redis}"), "rediss://"),
            ],
            kind: ErrorKind::Unavailable,
        },
        Mistake {
            what: "plain text, answered by a TLS alert",
            urls: [
                (format!("etcd://{alert}"), "etcds://"),
                (format!("redis://{alert}"), "rediss://"),
            ],
            kind: ErrorKind::Unavailable,
        },
        Mistake {
            what: "TLS to a plain-text server",
            urls: [
                (format!("etcds://{etcd}?{options}"), "etcd://"),
                (format!("rediss://{redis}?{options}"), "redis://"),
            ],
            kind: ErrorKind::Unavailable,
        },
        Mistake {
            what: "a certificate that another authority signed",
            urls: [
                (format!("etcds://{secure_etcd}?{others}"), "`ca`"),
                (format!("rediss://{secure_redis}?{others}"), "`ca`"),
            ],
            kind: ErrorKind::Denied,
        },
    ];
    for Mistake { what, urls, kind } in mistakes {
        for (url, remedy) in urls {
            let Err(error) = within(connect_target(&url.parse().unwrap())).await else {
                panic!("{what}: {url} connects")
            };
            let told = error.chain().to_string();
            assert_eq!(error.kind(), kind, "{what}: {url}: {told}");
            assert!(told.contains(host(&url)), "{what}: {url} is not named: {told}");
            assert!(told.contains(remedy), "{what}: {url}: {told}");
        }
    }
}
