//! Tests of every fault over real sockets. They assert only minimum times, since a busy machine may take longer.

mod ends;
mod flow;

use super::*;
use futures_util::future::{join, join_all};
use registry_testkit::case::within;
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::yield_now;
use tokio::time::timeout;

/// The wait that asserts that nothing arrives.
const SILENCE: Duration = Duration::from_millis(50);

/// An echo server, and a proxy to it.
struct Echo {
    proxy: Proxy,
    _server: JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = copy(&mut from, &mut to).await;
                });
            }
        });
        Self { proxy, _server: server }
    }

    async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.proxy.address())).await.unwrap()
    }

    /// Opens a connection, and waits until it has reached the server.
    async fn connect_through(&self) -> TcpStream {
        let mut client = self.connect().await;
        talk(&mut client, b"hello").await;
        client
    }

    /// Waits for an effect that cannot be observed on a socket.
    async fn until(&self, is_hit: impl Fn(Hits) -> bool) {
        within(async {
            while !is_hit(self.proxy.hits()) {
                yield_now().await;
            }
        })
        .await;
    }
}

/// Sends `bytes`, and checks that they all come back in order.
async fn talk(client: &mut TcpStream, bytes: &[u8]) {
    let (mut from, mut to) = client.split();
    let mut reply = vec![0; bytes.len()];
    let (read, written) = within(join(from.read_exact(&mut reply), to.write_all(bytes))).await;
    read.and(written).unwrap();
    assert!(reply == bytes, "the echo differs");
}

/// Reads to the end. Returns the bytes, and how the stream ended.
async fn rest(client: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let end = within(client.read_to_end(&mut bytes)).await;
    (bytes, end.map(|_| ()))
}

fn kind<T>(outcome: io::Result<T>) -> Option<ErrorKind> {
    outcome.err().map(|error| error.kind())
}

fn pattern(length: usize) -> Vec<u8> {
    (0_u8..251).cycle().take(length).collect()
}

#[tokio::test]
async fn script_is_played_in_time() {
    let echo = Echo::start().await;
    let mut client = echo.connect_through().await;
    let end = Duration::from_millis(30);
    let script = Script::new()
        .at(end, Step::Inject(Fault::Refuse))
        .at(Duration::ZERO, Step::LoseReplies)
        .at(end, Step::Reset);
    let start = Instant::now();
    within(echo.proxy.play(&script)).await;
    assert!(start.elapsed() >= end);
    assert!(echo.proxy.loses_replies());
    assert_eq!(kind(rest(&mut client).await.1), Some(ErrorKind::ConnectionReset));
    let refused = TcpStream::connect(echo.proxy.address()).await;
    assert_eq!(kind(refused), Some(ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn random_script_has_an_effect_and_ends_healed() {
    join_all((0..8).map(async |seed| {
        let echo = Echo::start().await;
        let script = Script::random(seed, Duration::from_secs(1));
        let calls = async {
            loop {
                let call = async {
                    let mut client = TcpStream::connect(echo.proxy.address()).await?;
                    client.write_all(&pattern(3000)).await?;
                    client.read_exact(&mut [0; 3000]).await
                };
                let _ = timeout(SILENCE, call).await;
                yield_now().await;
            }
        };
        let mut standing = echo.connect_through().await;
        tokio::select! {
            () = within(echo.proxy.play(&script)) => {}
            () = calls => {}
        }
        assert_ne!(echo.proxy.hits(), Hits::default(), "seed {seed}\n{script}");
        assert!(!echo.proxy.loses_replies());
        talk(&mut echo.connect().await, b"healed").await;
        // The open connection has either ended or still works.
        let _ = standing.write_all(b"on").await;
        let _ = within(standing.read_u8()).await;
    }))
    .await;
}
