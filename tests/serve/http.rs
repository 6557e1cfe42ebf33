//! A minimal HTTP server: each connection is a task, and every accepted connection is completed.

use service_registry::serve::{Connection, Listener, Shutdown};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// The slow page: `requested` is notified by a request, which is answered once `release` is notified.
#[derive(Clone, Default)]
pub(crate) struct Slow {
    pub(crate) requested: Arc<Notify>,
    pub(crate) release: Arc<Notify>,
}

/// Answers `/slow` with `done` once it is released, and any other path with `hello`, until the shutdown.
pub(crate) async fn run(
    mut listener: Listener,
    mut shutdown: Shutdown,
    slow: Slow,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                connections.spawn(answer(accepted.0, slow.clone()));
            }
            () = &mut shutdown => break,
        }
    }
    drop(listener);
    connections.join_all().await.into_iter().collect()
}

async fn answer(stream: Connection<TcpStream>, slow: Slow) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut body = "hello";
    if line.starts_with("GET /slow ") {
        slow.requested.notify_one();
        slow.release.notified().await;
        body = "done";
    }
    while stream.read_line(&mut line).await? > 2 {} // skips the headers up to the empty line
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
    stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await
}
